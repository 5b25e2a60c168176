use super::*;
use crate::time::Time;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const START: Time = Time::from_secs(1_612_750_000);

fn context(server: u8, millis: u64, index: u32) -> Context {
    Context {
        client: IpAddr::V4(Ipv4Addr::new(192, 168, 7, 2)),
        sport: 40_000,
        remote: SocketAddr::from(([203, 0, 113, server], 8000)),
        index,
        now: START + Duration::from_millis(millis),
        blocked: false,
    }
}

fn judge(memory: &mut Memory, context: &Context, payload: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    memory.judge(context, payload, std::iter::once(0..DEPTH), &mut found);
    found
}

/// A ping: magic, sequence number, clock in milliseconds, user number, room.
fn ping(sequence: u16, millis: u64) -> Vec<u8> {
    let mut bytes = b"PG".to_vec();
    bytes.extend(sequence.to_be_bytes());
    bytes.extend((1_612_750_000_000 + millis).to_be_bytes());
    bytes.extend(512_345_687_u32.to_le_bytes());
    bytes.extend(b"\x08M5xk2Rj9");
    bytes
}

#[test]
fn the_third_server_within_five_seconds_is_told_with_the_shared_bytes() {
    let mut memory = Memory::default();
    assert_eq!(judge(&mut memory, &context(1, 0, 0), &ping(1, 0)), []);
    assert_eq!(judge(&mut memory, &context(2, 700, 0), &ping(2, 700)), []);
    let payload = ping(3, 1400);
    let found = judge(&mut memory, &context(3, 1400, 0), &payload);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].leak, "probe-fanout");
    assert_eq!(found[0].certainty, Certainty::Probable);
    assert_eq!(found[0].class, Class::PersonId);
    assert_eq!(found[0].span, 12..25, "the clock before it is left out");
}

#[test]
fn a_convicted_value_is_told_on_every_flow_until_it_is_silent_for_long() {
    let mut memory = Memory::default();
    for server in 1..=3 {
        judge(&mut memory, &context(server, 0, 0), &ping(1, 0));
    }
    assert_eq!(
        judge(&mut memory, &context(1, 60_000, 30), &ping(31, 60_000)).len(),
        1
    );
    assert_eq!(
        judge(&mut memory, &context(9, 60_100, 0), &ping(1, 60_100)).len(),
        1
    );
    let long = 60_100 + 601_000;
    assert_eq!(
        judge(&mut memory, &context(1, long, 90), &ping(90, long)),
        []
    );
    assert_eq!(
        judge(&mut memory, &context(1, long, 0), &ping(90, long)),
        []
    );
}

#[test]
fn two_servers_or_a_slow_third_are_not_told() {
    let mut memory = Memory::default();
    for (server, millis) in [
        (1, 0),
        (2, 100),
        (1, 200),
        (2, 300),
        (3, 5_400),
        (1, 10_500),
    ] {
        assert_eq!(
            judge(&mut memory, &context(server, millis, 0), &ping(1, millis)),
            [],
            "{server} at {millis}"
        );
    }
}

#[test]
fn five_seconds_slide_with_the_sendings() {
    let mut memory = Memory::default();
    for (server, millis) in [(1, 0), (2, 4_000), (3, 6_000)] {
        assert_eq!(
            judge(&mut memory, &context(server, millis, 0), &ping(1, millis)),
            []
        );
    }
    assert_eq!(
        judge(&mut memory, &context(4, 8_000, 0), &ping(1, 8_000)).len(),
        1
    );
}

#[test]
fn two_blocked_jurisdictions_suffice() {
    let mut memory = Memory::default();
    let blocked = |server, millis| Context {
        blocked: true,
        ..context(server, millis, 0)
    };
    let payload = b"\x01\x02\x03\x04\x05\x06\x07\x08";
    assert_eq!(judge(&mut memory, &blocked(1, 0), payload), []);
    assert_eq!(
        judge(&mut memory, &blocked(1, 10), payload),
        [],
        "the same server"
    );
    let found = judge(&mut memory, &blocked(2, 20), payload);
    assert_eq!(found[0].certainty, Certainty::Probable);
}

#[test]
fn eight_opaque_bytes_are_only_suspected_and_a_long_token_is_a_session() {
    let short = [0x9d, 0x41, 0xe2, 0x07, 0x5c, 0xb8, 0x13, 0xfa];
    let mut memory = Memory::default();
    for server in 1..=2 {
        judge(&mut memory, &context(server, 0, 0), &short);
    }
    let found = judge(&mut memory, &context(3, 0, 0), &short);
    assert_eq!(found[0].certainty, Certainty::Suspected);
    assert_eq!(
        judge(&mut memory, &context(1, 1, 7), &short),
        [],
        "not convicted"
    );

    let long: Vec<u8> = (1..=32_u32)
        .map(|i| (i.wrapping_mul(0x9e37_79b1) >> 23) as u8)
        .collect();
    let mut memory = Memory::default();
    for server in 1..=2 {
        judge(&mut memory, &context(server, 0, 0), &long);
    }
    let found = judge(&mut memory, &context(3, 0, 0), &long);
    assert_eq!(found[0].certainty, Certainty::Probable);
    assert_eq!(found[0].class, Class::SessionId);
    assert_eq!(found[0].span, 0..32);
}

#[test]
fn constants_of_little_variety_and_clocks_are_not_told() {
    let mut memory = Memory::default();
    for server in 1..=9 {
        let mut payload = vec![0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        payload.extend(1_612_750_000_123_u64.to_le_bytes());
        payload.extend([0xff; 16]);
        assert_eq!(judge(&mut memory, &context(server, 0, 0), &payload), []);
    }
}

proptest! {
    #[test]
    fn variety_counts_the_different_bytes_of_eight(bytes in vec(0..12_u8, 0..DEPTH)) {
        let counts = variety(&bytes);
        for (eight, count) in bytes.array_windows::<SHINGLE>().zip(counts) {
            prop_assert_eq!(eight.iter().collect::<BTreeSet<_>>().len(), usize::from(count));
        }
    }

    /// Among many others, and however long it goes on.
    #[test]
    fn three_servers_within_five_seconds_are_told_and_two_are_not(
        sent in vec((0..40_u32, 0..4_u8, 0..900_u64), 1..200),
    ) {
        let (mut memory, mut now) = (Memory::default(), 0);
        let mut seen: Vec<(u32, u8, u64)> = Vec::new();
        for (value, server, wait) in sent {
            now += wait;
            let mut hash = u64::from(value + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            // Eight bytes that read as nothing are never convicted.
            hash.iter_mut().for_each(|byte| *byte |= 0x80);
            if variety(&hash)[0] < VARIETY {
                continue;
            }
            let lately = seen.iter().filter(|(other, _, at)| *other == value && now - at <= 5_000);
            let others: BTreeSet<u8> = lately.map(|(_, server, _)| *server).collect();
            seen.push((value, server, now));
            let found = judge(&mut memory, &context(server, now, 0), &hash);
            if !others.contains(&server) {
                prop_assert_eq!(found.len(), usize::from(others.len() >= 2), "{} {:?}", value, others);
            } else if others.len() < 3 {
                prop_assert_eq!(found.len(), 0, "{} {:?}", value, others);
            }
        }
    }
}

#[test]
fn clients_are_judged_apart() {
    let mut memory = Memory::default();
    for host in 1..=9 {
        let context = Context {
            client: IpAddr::V4(Ipv4Addr::new(192, 168, 7, host)),
            ..context(host, 0, 0)
        };
        assert_eq!(judge(&mut memory, &context, &ping(1, 0)), []);
    }
    assert_eq!(memory.clients(), 9);
}

#[test]
fn words_and_versions_do_not_read_as_identifiers() {
    for constant in [
        &b"Source Engine Query"[..],
        b"v1.2.10",
        b"HTTP/1.1 200",
        b"getinfo xxx",
        b"version2",
    ] {
        assert!(!reads_as_identifier(constant), "{constant:?}");
    }
    for identifier in [&b"uid=5123456"[..], b"\0M5xk2Rj9\0", b"a1b2c3d4e5"] {
        assert!(reads_as_identifier(identifier), "{identifier:?}");
    }
}
