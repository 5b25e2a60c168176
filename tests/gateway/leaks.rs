//! Payloads are judged before they leave.

use crate::world::{Segment, World, udp};
use cordon::gateway::{End, Event, Fate, Outgoing};
use cordon::packet::{Gso, Offload, Tcp};
use cordon::policy::Action;
use std::time::Duration;

const GUARD: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[sanitize]]\nid = \"pings\"\nleak = [\"secret\", \"probe-fanout\"]\naction = \"drop\"\n";
const WATCH: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[sanitize]]\nid = \"watch\"\nleak = [\"secret\"]\naction = \"report\"\n";
const REJECT: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[sanitize]]\nid = \"no\"\nleak = [\"secret\"]\naction = \"reject\"\n";

const CLIENT: &str = "10.111.0.2:5000";
const SERVER: &str = "198.41.0.4:9000";
const NUMBER: (&str, &str) = ("user", "512345687");

fn leaks(events: &[Event]) -> Vec<(Option<Action>, bool, &'static str)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Leak(leak) => Some((leak.action, leak.sent, leak.finding.leak)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_declared_number_never_leaves_in_any_form_and_the_rest_does() {
    let mut world = World::new(GUARD, &[NUMBER]);
    let forms: [&[u8]; 4] = [
        b"ping uid=512345687 end",
        b"hex 353132333435363837 end",
        b"b64 NTEyMzQ1Njg3 end",
        &[0, 1, 2, 0x1e, 0x89, 0xc6, 0x57, 9, 9, 9],
    ];
    assert_eq!(512_345_687u32.to_be_bytes(), forms[3][3..7]);
    for form in forms {
        assert!(
            world.datagram(CLIENT, SERVER, form).is_none(),
            "{:?}",
            String::from_utf8_lossy(form)
        );
    }
    assert!(
        world
            .datagram(CLIENT, SERVER, b"ping uid=512345688 end")
            .is_some()
    );
    let told = leaks(&world.events());
    assert_eq!(told.len(), forms.len());
    assert!(
        told.iter()
            .all(|(action, sent, leak)| *action == Some(Action::Drop)
                && !sent
                && *leak == "secret")
    );
}

#[test]
fn only_the_leaking_segments_of_a_super_datagram_are_held_back() {
    let mut world = World::new(GUARD, &[NUMBER]);
    let mut payload = Vec::new();
    for text in [
        "first segment, clean",
        "uid=512345687, leaky",
        "third segment, clean",
        "end",
    ] {
        payload.extend(text.as_bytes());
    }
    let mut bytes = udp(CLIENT, SERVER, &payload);
    let offload = Offload {
        partial_checksum: true,
        gso: Gso::UdpL4,
        gso_size: 20,
        ..Offload::default()
    };
    let Fate::Send(datagram) = world.gateway.packet(&mut bytes, &offload, world.now) else {
        panic!()
    };
    assert_eq!(
        world.gateway.payload(&datagram, &bytes),
        b"first segment, cleanthird segment, cleanend"
    );
    assert_eq!(datagram.segment, 20);
    assert_eq!(leaks(&world.events()).len(), 1);
}

#[test]
fn an_unknown_number_to_several_servers_is_stopped_at_the_third() {
    let mut world = World::new(GUARD, &[]);
    let mut left = 0;
    for server in [
        "198.41.0.4",
        "192.5.5.241",
        "193.0.14.129",
        "199.7.83.42",
        "202.12.27.33",
        "192.36.148.17",
    ] {
        let payload = b"route-probe user=778899001 room=M5xk2Rj9Qw";
        left += usize::from(
            world
                .datagram(CLIENT, &format!("{server}:8000"), payload)
                .is_some(),
        );
        world.wait(Duration::from_millis(100));
    }
    assert_eq!(left, 2);
}

#[test]
fn what_is_only_watched_leaves_and_is_told() {
    let mut world = World::new(WATCH, &[NUMBER]);
    assert!(world.datagram(CLIENT, SERVER, b"uid=512345687").is_some());
    assert_eq!(
        leaks(&world.events()),
        [(Some(Action::Report), true, "secret")]
    );
}

#[test]
fn an_entry_that_rejects_ends_the_flow_and_answers() {
    let mut world = World::new(REJECT, &[NUMBER]);
    assert!(world.datagram(CLIENT, SERVER, b"uid=512345687").is_none());
    assert!(world.gateway.is_empty());
    assert_eq!(world.packets().len(), 1);
    assert!(
        world
            .events()
            .iter()
            .any(|e| matches!(e, Event::Close(close) if close.end == End::Leaked))
    );
}

#[test]
fn a_secret_that_straddles_segments_never_leaves_whole() {
    let mut world = World::new(GUARD, &[NUMBER]);
    let syn = Segment {
        from: CLIENT,
        to: SERVER,
        flags: Tcp::SYN,
        seq: 0,
        ack: 0,
        payload: &[],
    };
    world.packet(&syn.bytes());
    let (flow, _) = world.dialed();
    world.gateway.connected(flow, world.now);
    let ack = crate::world::tcp_headers(&world.packets())[0]
        .seq
        .wrapping_add(1);
    let mut left = Vec::new();
    for (seq, byte) in (1..).zip(b"GET /?uid=512345687 HTTP/1.1\r\n") {
        let payload = [*byte];
        world.packet(
            &Segment {
                flags: Tcp::ACK,
                seq,
                ack,
                payload: &payload,
                ..syn
            }
            .bytes(),
        );
        left.extend(world.pump(flow));
    }
    assert_eq!(left, b"GET /?uid=51234568");
    assert_eq!(
        world.gateway.outgoing(flow, world.now, |_| 0),
        Outgoing::Gone
    );
    assert_eq!(
        leaks(&world.events()),
        [(Some(Action::Drop), false, "secret")]
    );
}

#[test]
fn the_leak_of_a_blocked_flow_is_told_although_nothing_leaves() {
    let policy =
        format!("{GUARD}[[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n");
    let mut world = World::new(&policy, &[NUMBER]);
    assert!(
        world
            .datagram(CLIENT, "1.2.4.8:8000", b"uid=512345687")
            .is_none()
    );
    assert!(leaks(&world.events()).iter().all(|(_, sent, _)| !sent));
}
