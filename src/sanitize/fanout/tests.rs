use super::shared::MOST_STEPS;
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

/// 40 bytes that no other number gives, and that hold no time of day.
fn noise(number: u64) -> [u8; 40] {
    let mut bytes = [0; 40];
    for (at, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let hash = (number * 5 + at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *word = (hash ^ hash >> 29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .to_le_bytes();
    }
    bytes.map(|byte| byte % 0x5f)
}

#[test]
fn numbers_of_places_and_datagrams_may_wrap() {
    let mut memory = Memory::default();
    for round in 0..20_000_u64 {
        let mut told = Vec::new();
        for server in 1..=3 {
            let mut payload = noise(round * 3 + u64::from(server));
            payload[11..23].copy_from_slice(&noise(u64::MAX / 8 + round)[..12]);
            told.push(judge(&mut memory, &context(server, round * 100, 0), &payload).len());
        }
        assert_eq!(told, [0, 0, 1], "{round}");
    }
}

#[test]
fn a_value_is_found_behind_later_ones_that_hold_a_part_of_it() {
    let mut memory = Memory::default();
    let value = *b"\x91commonV1";
    for server in 1..=2 {
        judge(&mut memory, &context(server, 0, 0), &value);
    }
    for other in 0..40_u8 {
        judge(
            &mut memory,
            &context(3 + other % 2, 1, 0),
            &[b"\x91common\xf0", &[other][..]].concat(),
        );
    }
    assert_eq!(judge(&mut memory, &context(9, 2, 0), &value)[0].span, 0..9);
}

/// The steps of a third server's datagram after `count` to two others, and whether it was told.
fn steps(count: u64, payload: impl Fn(u64) -> Vec<u8>) -> (usize, bool) {
    let mut memory = Memory::default();
    for number in 0..count {
        judge(
            &mut memory,
            &context((number % 2) as u8, number, 0),
            &payload(number),
        );
    }
    let found = judge(&mut memory, &context(9, count, 0), &payload(count));
    (memory.shared.steps(), !found.is_empty())
}

#[test]
fn the_work_for_one_datagram_is_bounded() {
    let token = |number: u64| [&number.to_be_bytes(), &noise(u64::MAX / 8)[..]].concat();
    let (few, told) = steps(4, token);
    assert!(told && few <= 80, "{few}");
    let (few, told) = steps(4, |number| noise(number).to_vec());
    assert!(!told && few <= 4, "{few}");
    // All bytes are equal, or those of a short word.
    assert_eq!(steps(1000, |_| vec![7; DEPTH]), (0, false));
    let most = MOST_STEPS + DEPTH / SHINGLE;
    for period in 5..=32_u8 {
        let word: Vec<u8> = (0..period).map(|at| at * 7).collect();
        let (count, told) = steps(1000, |_| word.repeat(DEPTH / word.len()));
        assert!(told && count <= most, "{period}: {count}");
    }
    // Five bytes that all share, everywhere, with others between them.
    let common = |number: u64| {
        let parts =
            (0..28).map(|at| [b"\x80\x91ABCDE".as_slice(), &noise(number * 28 + at)[..2]].concat());
        parts.collect::<Vec<_>>().concat()
    };
    for sent in [10, 100, 1000] {
        let (count, _) = steps(sent, common);
        assert!(count <= most, "{sent}: {count}");
    }
    assert!(steps(1000, common).0 >= MOST_STEPS, "what the bound is for");
}

#[test]
fn memory_is_bounded_in_bytes_however_much_is_sent() {
    let bounds = Bounds {
        clients: 20,
        bytes_per_client: 60_000,
        bytes: 400_000,
    };
    let mut memory = Memory::new(bounds);
    for number in 0..40_000_u64 {
        let mut payload = [noise(number), noise(number / 9)].concat();
        payload.extend(vec![0; (number % 200) as usize]);
        let context = Context {
            client: IpAddr::from([10, 0, 0, (number / 1000 % 10 + number % 3 * 10) as u8]),
            ..context((number % 7) as u8, number / 10, 0)
        };
        judge(&mut memory, &context, &payload);
        assert!(memory.bytes() <= bounds.bytes && memory.clients() <= bounds.clients);
        let real: usize = memory.windows.values().map(Window::memory).sum();
        assert_eq!(memory.bytes(), real);
        let convicted: usize = memory.windows.values().map(Window::convicted).sum();
        assert_eq!(memory.convicted, convicted);
    }
    assert!(memory.bytes() > bounds.bytes / 2 && memory.has_convicted());
}

#[test]
fn bounds_too_small_for_a_datagram_remember_nothing() {
    let bounds = Bounds {
        bytes: 1000,
        ..Bounds::default()
    };
    let mut memory = Memory::new(bounds);
    for server in 1..=4 {
        assert_eq!(judge(&mut memory, &context(server, 0, 0), &ping(1, 0)), []);
    }
    assert_eq!((memory.clients(), memory.bytes()), (0, 0));
}

#[test]
fn two_blocked_jurisdictions_count_among_any_number_of_others() {
    let value = [0x9d, 0x41, 0xe2, 0x07, 0x5c, 0xb8, 0x13, 0xfa];
    let mut memory = Memory::default();
    for (server, is_told) in [(1, false), (2, false), (3, true), (4, true), (5, true)] {
        let context = Context {
            blocked: server == 1 || server == 5,
            ..context(server, server.into(), 0)
        };
        let found = judge(&mut memory, &context, &value);
        assert_eq!(!found.is_empty(), is_told, "{server}");
        let is_probable = found
            .iter()
            .any(|found| found.certainty >= Certainty::Probable);
        assert_eq!(is_probable, server == 5, "{server}");
    }
}
