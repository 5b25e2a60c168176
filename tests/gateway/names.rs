//! Names: a flow that waits is answered here and nothing of it leaves; what it shows later only stops it.

use crate::world::{Segment, World, tcp_headers, udp};
use cordon::flow::FlowId;
use cordon::gateway::{Cause, End, Event, Fate, Order};
use cordon::packet::{Tcp, Transport};
use cordon::policy::Verdict;
use std::time::Duration;

/// Allowed is one name only.
const ONE: &str = "version = 1\nname = \"t\"\n[default]\naction = \"block\"\n\
    [[rule]]\nid = \"one\"\ndomain = [\".good.example\"]\naction = \"allow\"\n\
    [[rule]]\nid = \"dns\"\nip = [\"192.168.1.53\"]\naction = \"allow\"\n";
/// Blocked is one name; while none is known, nothing goes.
const NOT_ONE: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"dns\"\nip = [\"192.168.1.53\"]\naction = \"allow\"\n\
    [[rule]]\nid = \"bad\"\ndomain = [\".bad.example\"]\naction = \"block\"\n";
/// The same, and what shows no name goes.
const LENIENT: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\non_unknown = \"allow\"\n\
    [[rule]]\nid = \"bad\"\ndomain = [\".bad.example\"]\naction = \"block\"\n";

const CLIENT: &str = "10.111.0.2:40000";
const SERVER: &str = "198.41.0.4:443";

fn segment<'a>(flags: u8, seq: u32, ack: u32, payload: &'a [u8]) -> Segment<'a> {
    Segment {
        from: CLIENT,
        to: SERVER,
        flags,
        seq,
        ack,
        payload,
    }
}

/// A record with a client hello that asks for this server (RFC 8446, section 4.1.2).
pub(crate) fn hello(name: &str, grease: bool) -> Vec<u8> {
    let two = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let mut extensions = Vec::new();
    let entry = [&[0][..], &two(name.len()), name.as_bytes()].concat();
    extensions.extend(
        [
            &two(0)[..],
            &two(entry.len() + 2),
            &two(entry.len()),
            &entry,
        ]
        .concat(),
    );
    if grease {
        extensions.extend([&0xfe0d_u16.to_be_bytes()[..], &two(40), &[7; 40]].concat());
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(two(extensions.len()));
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(two(body.len()));
    message.extend(body);
    [&[22, 3, 1][..], &two(message.len()), &message].concat()
}

/// Teaches the gateway an answer that this client was given.
fn answer(world: &mut World, name: &str, address: [u8; 4]) {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).unwrap();
        std::iter::once(length).chain(label.bytes())
    });
    let question: Vec<u8> = labels.chain([0, 0, 1, 0, 1]).collect();
    let query = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &question].concat();
    let mut bytes = udp("10.111.0.2:5353", crate::world::RESOLVER, &query);
    let fate = world
        .gateway
        .packet(&mut bytes, &Default::default(), world.now);
    let Fate::Send(datagram) = fate else {
        panic!("the query goes to the resolver, not {fate:?}");
    };
    let record = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4][..], &address].concat();
    let head = [0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    let response = [&head[..], &question, &record].concat();
    let mut buffer = vec![0; cordon::gateway::Answer::ROOM];
    buffer.extend(response);
    let mut answer = cordon::gateway::Answer {
        buffer: &mut buffer,
        payload: cordon::gateway::Answer::ROOM,
        segment: 0,
        sequence: 0,
    };
    let from = crate::world::RESOLVER.parse().unwrap();
    world
        .gateway
        .reply(datagram.mapping, from, &mut answer, world.now)
        .unwrap();
    world.events();
}

/// The client's handshake with us; our next sequence number.
fn shake(world: &mut World) -> u32 {
    world.packet(&segment(Tcp::SYN, 1000, 0, &[]).bytes());
    let headers = tcp_headers(&world.packets());
    let [syn_ack] = headers.as_slice() else {
        panic!("a waiting connection is answered: {headers:?}");
    };
    let next = syn_ack.seq.wrapping_add(1);
    world.packet(&segment(Tcp::ACK, 1001, next, &[]).bytes());
    next
}

/// Sends these bytes in pieces of one size; nothing may be dialled before the last.
fn send(world: &mut World, next: u32, bytes: &[u8], size: usize) {
    let mut seq = 1001;
    for piece in bytes.chunks(size) {
        assert!(
            world.orders().is_empty(),
            "nothing leaves while the name is not whole"
        );
        world.packet(&segment(Tcp::ACK, seq, next, piece).bytes());
        seq += u32::try_from(piece.len()).unwrap();
    }
}

fn verdict(events: &[Event]) -> Option<(bool, String)> {
    events.iter().find_map(|event| {
        let Event::Open(open) = event else {
            return None;
        };
        let Cause::Policy(decision) = open.cause else {
            return None;
        };
        let passes = matches!(decision.verdict, Verdict::Pass(_));
        Some((
            passes,
            open.snapshot.policy.rule_id(decision.origin).to_owned(),
        ))
    })
}

/// What of a waiting connection came to the outside.
fn left(world: &mut World) -> Option<(FlowId, Vec<u8>)> {
    let (flow, _) = match world.orders().as_slice() {
        [] => return None,
        [Order::Dial { flow, permit }] => (*flow, *permit),
        other => panic!("{other:?}"),
    };
    world.gateway.connected(flow, world.now);
    Some((flow, world.pump(flow)))
}

#[test]
fn a_claim_lets_nothing_go_that_needs_a_name_and_stops_nothing_that_does_not() {
    for size in [1, 50, 5000] {
        let mut world = World::new(NOT_ONE, &[]);
        let hello = hello("www.good.example", false);
        let next = shake(&mut world);
        assert!(world.orders().is_empty() && world.events().is_empty());
        send(&mut world, next, &hello, size);
        // A claim does not speak for itself: no answer gave this address.
        assert_eq!(left(&mut world), None);
        assert_eq!(verdict(&world.events()), Some((false, "bad".into())));
    }
    for size in [1, 50, 5000] {
        let mut world = World::new(LENIENT, &[]);
        let hello = hello("www.good.example", false);
        let next = shake(&mut world);
        send(&mut world, next, &hello, size);
        let (_, bytes) = left(&mut world).expect("it goes");
        assert_eq!(bytes, hello);
        assert_eq!(verdict(&world.events()), Some((true, "default".into())));
    }
}

#[test]
fn a_blocked_name_is_never_dialled_and_its_client_is_reset() {
    for size in [1, 50, 5000] {
        let mut world = World::new(LENIENT, &[]);
        let next = shake(&mut world);
        send(&mut world, next, &hello("www.bad.example", false), size);
        assert_eq!(left(&mut world), None);
        assert_eq!(verdict(&world.events()), Some((false, "bad".into())));
        let headers = tcp_headers(&world.packets());
        assert!(headers.iter().any(|tcp| tcp.flags & Tcp::RST != 0));
    }
}

#[test]
fn a_false_name_opens_nothing_and_an_answered_one_does() {
    let mut world = World::new(ONE, &[]);
    let next = shake(&mut world);
    send(&mut world, next, &hello("www.good.example", false), 5000);
    assert_eq!(left(&mut world), None);
    let events = world.events();
    assert!(events.iter().any(|event| matches!(event, Event::Shown(_))));

    for name in ["www.good.example", "www.bad.example"] {
        let mut world = World::new(ONE, &[]);
        answer(&mut world, "www.good.example", [198, 41, 0, 4]);
        world.packet(&segment(Tcp::SYN, 1000, 0, &[]).bytes());
        // The answer alone lets the connection begin; what it shows is read before it leaves.
        let (flow, _) = world.dialed();
        world.gateway.connected(flow, world.now);
        let next = tcp_headers(&world.packets())[0].seq.wrapping_add(1);
        let bytes = hello(name, name.starts_with("www.good"));
        for (at, piece) in bytes.chunks(30).enumerate() {
            let seq = 1001 + 30 * u32::try_from(at).unwrap();
            world.packet(&segment(Tcp::ACK, seq, next, piece).bytes());
            let gone = world.pump(flow);
            let last = seq as usize + piece.len() == 1001 + bytes.len();
            if name == "www.bad.example" || !last {
                assert!(gone.is_empty(), "{name}: {} bytes left", gone.len());
            } else {
                assert_eq!(gone, bytes);
            }
        }
        let end = world.events().into_iter().find_map(|event| match event {
            Event::Close(close) => Some(close.end),
            _ => None,
        });
        assert_eq!(end, (name == "www.bad.example").then_some(End::Shown));
    }
}

#[test]
fn silence_is_decided_as_unknown_and_sooner_where_the_server_speaks_first() {
    for (to, wait) in [(SERVER, 2001), ("198.41.0.4:22", 201)] {
        for (policy, passes) in [(NOT_ONE, false), (LENIENT, true)] {
            let mut world = World::new(policy, &[]);
            let syn = Segment {
                to,
                ..segment(Tcp::SYN, 1000, 0, &[])
            };
            world.packet(&syn.bytes());
            world.wait(Duration::from_millis(wait - 50));
            assert!(world.orders().is_empty() && world.events().is_empty());
            world.wait(Duration::from_millis(100));
            assert_eq!(left(&mut world).is_some(), passes);
            assert_eq!(verdict(&world.events()).map(|(goes, _)| goes), Some(passes));
        }
    }
}

#[test]
fn a_client_that_gives_up_waiting_is_told_of_and_nothing_was_dialled() {
    let mut world = World::new(NOT_ONE, &[]);
    let next = shake(&mut world);
    world.packet(&segment(Tcp::RST, 1001, next, &[]).bytes());
    while let Some(flow) = world.gateway.next_dirty() {
        while world.gateway.settle(flow, world.now) {}
    }
    assert!(world.orders().is_empty() && world.gateway.is_empty());
    assert!(verdict(&world.events()).is_some());
}

#[test]
fn each_request_of_a_connection_is_read_before_it_leaves() {
    let mut world = World::new(LENIENT, &[]);
    let next = shake(&mut world);
    let first = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc";
    send(&mut world, next, &first[..first.len() - 3], 11);
    let body = 1001 + u32::try_from(first.len() - 3).unwrap();
    world.packet(&segment(Tcp::ACK, body, next, b"abc").bytes());
    let (flow, bytes) = left(&mut world).expect("it goes");
    assert_eq!(bytes, first);
    let second = b"GET / HTTP/1.1\r\nHost: www.bad.example\r\n\r\n";
    for (at, piece) in second.chunks(10).enumerate() {
        let seq = 1001 + u32::try_from(first.len() + 10 * at).unwrap();
        world.packet(&segment(Tcp::ACK, seq, next, piece).bytes());
        assert_eq!(world.pump(flow), b"");
    }
    let events = world.events();
    let ended = |event: &Event| matches!(event, Event::Close(close) if close.end == End::Shown);
    assert!(events.iter().any(ended), "{events:?}");
}

#[test]
fn on_the_pass_path_the_first_payload_waits_until_its_name_is_whole() {
    for (name, passes) in [("a.good.example", true), ("a.bad.example", false)] {
        let mut world = World::router(NOT_ONE, &[]);
        answer(&mut world, "a.good.example", [198, 41, 0, 4]);
        let syn = segment(Tcp::SYN, 1000, 0, &[]).bytes();
        assert_eq!(world.packet(&syn), Fate::Pass, "judged by address");
        let hello = hello(name, false);
        let (head, tail) = hello.split_at(40);
        let ack = 1041;
        let first = segment(Tcp::ACK, 1001, 5, head).bytes();
        assert_eq!(world.packet(&first), Fate::Done);
        assert_eq!(world.packet(&first), Fate::Done, "nor when it comes again");
        assert!(world.packets().is_empty());
        let fate = world.packet(&segment(Tcp::ACK, ack, 5, tail).bytes());
        let packets = world.packets();
        if passes {
            assert_eq!((fate, packets.len()), (Fate::Pass, 1));
            assert_eq!(packets[0].0.payload(&packets[0].1), head);
        } else {
            assert_eq!(fate, Fate::Done);
            let headers = tcp_headers(&packets);
            assert_eq!(headers.len(), 2, "both ends are told");
            assert!(headers.iter().all(|tcp| tcp.flags & Tcp::RST != 0));
            // Sent again, it would be the middle of a flow that shows nothing.
            let again = segment(Tcp::ACK, ack, 5, tail).bytes();
            assert_eq!(world.packet(&again), Fate::Done);
        }
    }
}

#[test]
fn on_the_pass_path_keys_are_not_waited_for_and_a_request_is_once() {
    let mut world = World::router(LENIENT, &[]);
    answer(&mut world, "a.good.example", [198, 41, 0, 4]);
    let begin = |world: &mut World| {
        let syn = segment(Tcp::SYN, 1000, 0, &[]).bytes();
        assert_eq!(world.packet(&syn), Fate::Pass);
    };
    begin(&mut world);
    for (seq, key) in (1001..).zip(b"ls -l") {
        let packet = segment(Tcp::ACK, seq, 5, &[*key]).bytes();
        assert_eq!(world.packet(&packet), Fate::Pass, "key {seq}");
    }
    begin(&mut world);
    let head = b"GET / HTTP/1.1\r\nHost: www.bad.example\r\n\r\n";
    let mut fates = Vec::new();
    for (seq, byte) in (1001..).zip(head) {
        fates.push(world.packet(&segment(Tcp::ACK, seq, 5, &[*byte]).bytes()));
        world.wait(Duration::from_millis(100));
    }
    let held = fates.iter().take_while(|fate| **fate == Fate::Done).count();
    assert_eq!(held, 3, "as long as three pieces took");
    let (last, rest) = fates.split_last().unwrap();
    assert_eq!(*last, Fate::Done, "the end of the request never leaves");
    assert!(rest[held..].iter().all(|fate| *fate == Fate::Pass));
}

#[test]
fn datagrams_that_show_nobody_are_decided_at_once() {
    for (policy, passes) in [(NOT_ONE, false), (LENIENT, true)] {
        let mut world = World::new(policy, &[]);
        let sent = world.datagram(CLIENT, "198.41.0.4:8000", b"\x12\x34hello");
        // Decided at once, but handed in again only if others waited before it.
        assert_eq!(sent.is_some(), passes);
        assert_eq!(verdict(&world.events()).map(|(goes, _)| goes), Some(passes));
        let refused = |packets: &[(cordon::packet::Parsed, Vec<u8>)]| {
            let is_error = |transport: &Transport| matches!(transport, Transport::IcmpError(_));
            packets
                .iter()
                .any(|(parsed, _)| is_error(&parsed.transport))
        };
        assert_eq!(refused(&world.packets()), !passes);
    }
}
