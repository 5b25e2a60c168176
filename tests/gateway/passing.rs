//! A router's gateway: what is allowed passes packet by packet, and goes to the kernel when nothing is left to inspect.

use crate::world::{Segment, World, tcp_headers, udp};
use cordon::gateway::{End, Event, Fate, Order};
use cordon::packet::{Checksum, Gso, Offload, Parsed, Tcp, Transport};
use std::time::Duration;

const ALLOW: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n";
const NO_CN: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n";
const GUARD: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[sanitize]]\nid = \"mine\"\nleak = [\"secret\", \"credential\"]\naction = \"drop\"\n";

const CLIENT: &str = "192.168.7.2:5000";
const SERVER: &str = "198.41.0.4:9000";
/// Bytes of no protocol that anything could be read from; the second ends like the beginning of a secret.
const HELLO: &[u8] = &[0x9c; 11];
const UNREADABLE: &[u8] = b"\x9c\x9c\x9c\x9c\x9c\x9c\x9c\x9c\x9c5123";

fn segment(flags: u8, seq: u32, payload: &[u8]) -> Segment<'_> {
    Segment {
        from: CLIENT,
        to: SERVER,
        flags,
        seq,
        ack: 7,
        payload,
    }
}

fn send(world: &mut World, packet: &[u8]) -> (Fate, Vec<u8>) {
    let mut bytes = packet.to_vec();
    let fate = world
        .gateway
        .packet(&mut bytes, &Offload::default(), world.now);
    (fate, bytes)
}

fn left(world: &mut World) -> usize {
    world
        .orders()
        .iter()
        .filter(|order| matches!(order, Order::Leave { .. }))
        .count()
}

#[test]
fn an_allowed_datagram_is_written_back_as_it_came_with_its_hop_restored_and_the_flow_left_to_the_kernel()
 {
    for (client, server) in [
        (CLIENT, SERVER),
        ("[fd07::2]:5000", "[2001:503:ba3e::2:30]:9000"),
    ] {
        let mut world = World::router(ALLOW, &[]);
        let packet = udp(client, server, b"data");
        let (fate, bytes) = send(&mut world, &packet);
        assert_eq!(fate, Fate::Pass);
        let (before, after) = (
            Parsed::read(&packet, Checksum::Verify).unwrap(),
            Parsed::read(&bytes, Checksum::Verify).unwrap(),
        );
        assert_eq!(
            after,
            Parsed {
                hop_limit: before.hop_limit + 1,
                ..before
            }
        );
        for _ in 0..4 {
            send(&mut world, &packet);
        }
        assert_eq!(left(&mut world), 0, "it may soon be over");
        send(&mut world, &packet);
        assert_eq!(left(&mut world), 1);
        send(&mut world, &packet);
        assert_eq!(left(&mut world), 0, "once is enough");
        world.wait(Duration::from_secs(2));
        send(&mut world, &packet);
        assert_eq!(left(&mut world), 1, "it came back, so it is left again");
    }
}

#[test]
fn a_blocked_flow_is_answered_and_neither_passed_nor_left() {
    let mut world = World::router(NO_CN, &[]);
    let syn = Segment {
        to: "1.2.4.8:443",
        ack: 0,
        ..segment(Tcp::SYN, 1, &[])
    };
    assert_eq!(send(&mut world, &syn.bytes()).0, Fate::Done);
    assert_eq!(
        send(&mut world, &udp(CLIENT, "1.2.4.8:443", b"x")).0,
        Fate::Done
    );
    assert!(world.orders().is_empty());
    assert_eq!(world.packets().len(), 3, "prohibited twice, and a RST");
}

#[test]
fn names_are_learned_so_resolver_queries_do_not_pass() {
    let mut world = World::router(ALLOW, &[]);
    assert!(matches!(
        send(&mut world, &udp(CLIENT, "9.9.9.9:53", b"query")).0,
        Fate::Send(_)
    ));
}

#[test]
fn a_connection_is_left_when_it_lasts_and_recalled_when_it_closes() {
    let mut world = World::router(ALLOW, &[]);
    let syn = Segment {
        ack: 0,
        ..segment(Tcp::SYN, 1, &[])
    };
    assert_eq!(send(&mut world, &syn.bytes()).0, Fate::Pass);
    for _ in 0..5 {
        assert_eq!(left(&mut world), 0);
        send(&mut world, &segment(Tcp::ACK, 2, &[]).bytes());
    }
    let Some(Order::Leave { flow, key }) = world.gateway.next_order() else {
        panic!("it lasts")
    };
    world.gateway.left_to_kernel(flow, true);
    let fin = segment(Tcp::ACK | Tcp::FIN, 2, &[]).bytes();
    assert_eq!(send(&mut world, &fin).0, Fate::Pass);
    assert_eq!(world.orders(), [Order::Recall { key }]);
    send(&mut world, &segment(Tcp::ACK, 3, &[]).bytes());
    assert!(world.orders().is_empty(), "it is closing");
    world.wait(Duration::from_secs(9));
    assert_eq!(world.gateway.len(), 1);
    world.wait(Duration::from_secs(2));
    assert!(world.gateway.is_empty());
    assert!(
        matches!(world.events().as_slice(), [Event::Open(_), Event::Close(close)] if close.end == End::Done)
    );
}

#[test]
fn a_reset_ends_a_connection_at_once() {
    let mut world = World::router(ALLOW, &[]);
    send(&mut world, &segment(Tcp::ACK, 2, b"data").bytes());
    let reset = segment(Tcp::RST, 6, &[]).bytes();
    assert_eq!(send(&mut world, &reset).0, Fate::Pass);
    assert!(world.gateway.is_empty());
}

#[test]
fn connections_that_are_closing_make_room_and_others_do_not() {
    let mut world = World::router(ALLOW, &[]);
    let bound = crate::world::limits().flows.per_source as u16;
    let sent = |world: &mut World, port: u16, flags: u8| {
        let from = format!("192.168.7.2:{port}");
        let segment = Segment {
            from: &from,
            ..segment(flags, 1, &[])
        };
        send(world, &segment.bytes()).0
    };
    for port in 1..=bound {
        assert_eq!(sent(&mut world, port, Tcp::SYN), Fate::Pass);
    }
    assert_eq!(sent(&mut world, bound + 1, Tcp::SYN), Fate::Done);
    for port in [7, 5, 9] {
        sent(&mut world, port, Tcp::ACK | Tcp::FIN);
    }
    // Opened anew: closing no more.
    sent(&mut world, 5, Tcp::SYN);
    world.events();
    assert_eq!(sent(&mut world, bound + 1, Tcp::SYN), Fate::Pass);
    let ended: Vec<u16> = world
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Close(close) => Some(close.key.sport),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [7]);
    assert_eq!(sent(&mut world, bound + 2, Tcp::SYN), Fate::Pass);
    assert_eq!(sent(&mut world, bound + 3, Tcp::SYN), Fate::Done);
}

#[test]
fn a_connection_in_mid_stream_is_judged_and_goes_on() {
    let mut world = World::router(NO_CN, &[]);
    assert_eq!(
        send(&mut world, &segment(Tcp::ACK, 77, b"data").bytes()).0,
        Fate::Pass
    );
    let chinese = Segment {
        to: "1.2.4.8:443",
        ..segment(Tcp::ACK, 77, b"data")
    };
    assert_eq!(send(&mut world, &chinese.bytes()).0, Fate::Done);
    assert!(
        tcp_headers(&world.packets())
            .iter()
            .any(|tcp| tcp.flags & Tcp::RST != 0)
    );
}

#[test]
fn bytes_are_read_in_order_and_a_secret_cuts_the_connection_before_it_leaves() {
    let mut world = World::router(GUARD, &[("number", "512345687")]);
    let syn = Segment {
        ack: 0,
        ..segment(Tcp::SYN, 100, &[])
    };
    assert_eq!(send(&mut world, &syn.bytes()).0, Fate::Pass);
    assert_eq!(
        send(&mut world, &segment(Tcp::ACK, 101, HELLO).bytes()).0,
        Fate::Pass
    );
    assert_eq!(
        send(&mut world, &segment(Tcp::ACK, 122, b"later").bytes()).0,
        Fate::Done,
        "out of order"
    );
    assert_eq!(
        send(&mut world, &segment(Tcp::ACK, 101, HELLO).bytes()).0,
        Fate::Pass,
        "sent again"
    );
    assert_eq!(
        left(&mut world),
        0,
        "as long as it is read it is not left to the kernel"
    );
    assert_eq!(
        send(
            &mut world,
            &segment(Tcp::ACK, 112, b"uid=512345687").bytes()
        )
        .0,
        Fate::Done
    );
    let packets = world.packets();
    let resets: Vec<(String, u32)> = packets
        .iter()
        .filter_map(|(parsed, _)| match parsed.transport {
            Transport::Tcp(tcp) if tcp.flags & Tcp::RST != 0 => {
                Some((parsed.dst.to_string(), tcp.seq))
            }
            _ => None,
        })
        .collect();
    assert!(resets.contains(&("192.168.7.2".into(), 7)), "{resets:?}");
    assert!(
        resets.contains(&("198.41.0.4".into(), 112)),
        "the server is told in the client's name: {resets:?}"
    );
    let events = world.events();
    assert!(
        events
            .iter()
            .any(|e| matches!(e, Event::Leak(leak) if !leak.sent))
    );
    assert!(
        events
            .iter()
            .any(|e| matches!(e, Event::Close(close) if close.end == End::Leaked))
    );
}

#[test]
fn a_secret_across_segments_never_leaves_whole_even_with_overlaps() {
    let mut world = World::router(GUARD, &[("number", "512345687")]);
    send(
        &mut world,
        &Segment {
            ack: 0,
            ..segment(Tcp::SYN, 100, &[])
        }
        .bytes(),
    );
    assert_eq!(
        send(&mut world, &segment(Tcp::ACK, 101, UNREADABLE).bytes()).0,
        Fate::Pass
    );
    // It overlaps what was read; the rest completes the number.
    assert_eq!(
        send(&mut world, &segment(Tcp::ACK, 110, b"512345687").bytes()).0,
        Fate::Done
    );
}

#[test]
fn an_incomplete_message_waits_for_its_end_but_not_for_ever() {
    let mut world = World::router(GUARD, &[]);
    send(
        &mut world,
        &Segment {
            ack: 0,
            ..segment(Tcp::SYN, 100, &[])
        }
        .bytes(),
    );
    let first = b"GET / HTTP/1.1\r\nHost: example.net\r\nAuthor";
    assert_eq!(
        send(&mut world, &segment(Tcp::ACK, 101, first).bytes()).0,
        Fate::Done,
        "held"
    );
    assert!(world.packets().is_empty());
    let second = b"ization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n";
    let seq = 101 + first.len() as u32;
    assert_eq!(
        send(&mut world, &segment(Tcp::ACK, seq, second).bytes()).0,
        Fate::Done
    );
    let passed = world
        .packets()
        .iter()
        .any(|(parsed, bytes)| parsed.payload(bytes) == first);
    assert!(
        !passed,
        "the credential was in a message that was held, and is gone with it"
    );

    let mut world = World::router(GUARD, &[]);
    send(
        &mut world,
        &Segment {
            ack: 0,
            ..segment(Tcp::SYN, 100, &[])
        }
        .bytes(),
    );
    assert_eq!(
        send(
            &mut world,
            &segment(Tcp::ACK, 101, b"GET / HTTP/1.1\r\nHost: e").bytes()
        )
        .0,
        Fate::Done
    );
    world.wait(Duration::from_millis(400));
    let packets = world.packets();
    assert_eq!(packets.len(), 1);
    assert_eq!(
        packets[0].0.payload(&packets[0].1),
        b"GET / HTTP/1.1\r\nHost: e"
    );
}

#[test]
fn what_cannot_be_read_is_left_to_the_kernel_after_a_look() {
    let mut world = World::router(GUARD, &[]);
    send(
        &mut world,
        &Segment {
            ack: 0,
            ..segment(Tcp::SYN, 100, &[])
        }
        .bytes(),
    );
    assert_eq!(left(&mut world), 0);
    for number in 0..5 {
        let next = segment(Tcp::ACK, 101 + number * 600, &[0x9c; 600]);
        assert_eq!(send(&mut world, &next.bytes()).0, Fate::Pass);
    }
    assert_eq!(
        left(&mut world),
        1,
        "no protocol that anything could be read from"
    );
}

#[test]
fn only_the_leaking_datagrams_of_a_super_packet_are_held_back() {
    let mut world = World::router(GUARD, &[("number", "512345687")]);
    let payload = b"first segment, cleanuid=512345687, leakythird segment, cleanend";
    let mut bytes = udp(CLIENT, SERVER, payload);
    let offload = Offload {
        partial_checksum: true,
        gso: Gso::UdpL4,
        gso_size: 20,
        ..Offload::default()
    };
    assert_eq!(
        world.gateway.packet(&mut bytes, &offload, world.now),
        Fate::Done
    );
    let packets = world.packets();
    assert_eq!(
        packets[0].0.payload(&packets[0].1),
        b"first segment, cleanthird segment, cleanend"
    );
    assert_eq!(
        (packets[0].0.src.to_string(), packets[0].0.dst.to_string()),
        ("192.168.7.2".into(), "198.41.0.4".into())
    );
}

#[test]
fn a_new_policy_looks_at_flows_again_that_the_kernel_had() {
    let mut world = World::router(ALLOW, &[]);
    let packet = udp(CLIENT, "1.2.4.8:9", b"data");
    for _ in 0..6 {
        assert_eq!(send(&mut world, &packet).0, Fate::Pass);
    }
    let Some(Order::Leave { flow, .. }) = world.gateway.next_order() else {
        panic!()
    };
    world.gateway.left_to_kernel(flow, true);
    world.replace(NO_CN);
    assert!(
        world
            .events()
            .iter()
            .any(|e| matches!(e, Event::Close(close) if close.end == End::Rejudged))
    );
    assert_eq!(send(&mut world, &packet).0, Fate::Done);
}
