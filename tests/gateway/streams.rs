//! TCP: what is refused is refused, what is blocked is answered, bytes and ends pass both ways.

use crate::world::{Segment, World, tcp_headers};
use cordon::gateway::{Cause, End, Event, Failure, Order, Outgoing};
use cordon::packet::{Tcp, Transport};
use std::time::Duration;

const ALLOW: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n";
const NO_CN: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n";
const NO_CN_SILENT: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\nreply = \"drop\"\n";

const CLIENT: [&str; 2] = ["10.111.0.2:40000", "[fd63::2]:40000"];
const SERVER: [&str; 2] = ["198.41.0.4:80", "[2001:503:ba3e::2:30]:80"];

fn syn<'a>(from: &'a str, to: &'a str) -> Segment<'a> {
    Segment {
        from,
        to,
        flags: Tcp::SYN,
        seq: 1000,
        ack: 0,
        payload: &[],
    }
}

/// A connection whose three-way handshake is done; the flow and our next sequence number.
fn established(world: &mut World, from: &str, to: &str) -> (cordon::flow::FlowId, u32) {
    world.packet(&syn(from, to).bytes());
    let (flow, permit) = world.dialed();
    assert_eq!(permit.destination(), to.parse().unwrap());
    assert!(
        world.packets().is_empty(),
        "no SYN-ACK before the way out is connected"
    );
    world.gateway.connected(flow, world.now);
    let headers = tcp_headers(&world.packets());
    let [syn_ack] = headers.as_slice() else {
        panic!("one SYN-ACK, got {headers:?}")
    };
    assert_eq!(syn_ack.flags & (Tcp::SYN | Tcp::ACK), Tcp::SYN | Tcp::ACK);
    assert_eq!(syn_ack.ack, 1001);
    let next = syn_ack.seq.wrapping_add(1);
    world.packet(
        &Segment {
            flags: Tcp::ACK,
            seq: 1001,
            ack: next,
            ..syn(from, to)
        }
        .bytes(),
    );
    world.pump(flow);
    (flow, next)
}

fn end_of(events: &[Event]) -> Option<End> {
    events.iter().find_map(|event| match event {
        Event::Close(close) => Some(close.end),
        _ => None,
    })
}

#[test]
fn bytes_pass_both_ways_and_both_ends_close() {
    for (from, to) in CLIENT.into_iter().zip(SERVER) {
        let mut world = World::new(ALLOW, &[]);
        let (flow, next) = established(&mut world, from, to);
        let data = Segment {
            flags: Tcp::ACK,
            seq: 1001,
            ack: next,
            payload: b"GET / HTTP/1.0\r\n\r\n",
            ..syn(from, to)
        };
        world.packet(&data.bytes());
        assert_eq!(world.pump(flow), data.payload);
        let put = world.gateway.incoming(flow, world.now, |room| {
            room[..5].copy_from_slice(b"hello");
            5
        });
        assert_eq!(put, Some(5));
        world.gateway.upstream_done(flow);
        world.pump(flow);
        let packets = world.packets();
        let payload: Vec<u8> = packets
            .iter()
            .flat_map(|(parsed, bytes)| parsed.payload(bytes).to_vec())
            .collect();
        assert_eq!(payload, b"hello");
        assert!(
            tcp_headers(&packets).last().unwrap().flags & Tcp::FIN != 0,
            "FIN follows the last byte"
        );
        let fin = Segment {
            flags: Tcp::ACK | Tcp::FIN,
            seq: 1019,
            ack: next + 6,
            payload: &[],
            ..syn(from, to)
        };
        world.packet(&fin.bytes());
        world.pump(flow);
        assert_eq!(world.orders(), [Order::Hangup { flow, reset: false }]);
        assert_eq!(end_of(&world.events()), Some(End::Done));
        assert!(world.gateway.is_empty());
    }
}

#[test]
fn a_half_closed_client_still_receives() {
    let mut world = World::new(ALLOW, &[]);
    let (flow, next) = established(&mut world, CLIENT[0], SERVER[0]);
    let fin = Segment {
        flags: Tcp::ACK | Tcp::FIN,
        seq: 1001,
        ack: next,
        payload: b"bye",
        ..syn(CLIENT[0], SERVER[0])
    };
    world.packet(&fin.bytes());
    assert_eq!(world.pump(flow), b"bye");
    assert_eq!(
        world.gateway.outgoing(flow, world.now, |_| 0),
        Outgoing::Finished
    );
    let put = world.gateway.incoming(flow, world.now, |room| {
        room[..4].copy_from_slice(b"late");
        4
    });
    assert_eq!(put, Some(4));
    world.pump(flow);
    let packets = world.packets();
    assert!(
        packets
            .iter()
            .any(|(parsed, bytes)| parsed.payload(bytes) == b"late")
    );
    assert_eq!(world.gateway.len(), 1);
}

#[test]
fn what_is_refused_outside_is_refused_inside_and_unreachable_stays_unreachable() {
    for (failure, reset) in [(Failure::Refused, true), (Failure::Unreachable, false)] {
        let mut world = World::new(ALLOW, &[]);
        world.packet(&syn(CLIENT[0], SERVER[0]).bytes());
        let (flow, _) = world.dialed();
        world.gateway.failed(flow, failure, world.now);
        let packets = world.packets();
        assert_eq!(packets.len(), 1);
        match packets[0].0.transport {
            Transport::Tcp(tcp) => assert!(reset && tcp.flags & Tcp::RST != 0 && tcp.ack == 1001),
            Transport::IcmpError(error) => assert!(!reset && error.kind == 3 && error.code == 1),
            other => panic!("{other:?}"),
        }
        assert_eq!(end_of(&world.events()), Some(End::Failed(failure)));
        assert!(world.gateway.is_empty());
    }
}

#[test]
fn a_dial_without_answer_is_given_up_in_silence() {
    let mut world = World::new(ALLOW, &[]);
    world.packet(&syn(CLIENT[0], SERVER[0]).bytes());
    let (flow, _) = world.dialed();
    world.wait(Duration::from_secs(29));
    assert_eq!(world.gateway.len(), 1);
    world.wait(Duration::from_secs(2));
    assert_eq!(world.orders(), [Order::Hangup { flow, reset: true }]);
    assert!(world.packets().is_empty() && world.gateway.is_empty());
}

#[test]
fn a_blocked_connection_is_prohibited_and_reset_and_never_dialled() {
    let mut world = World::new(NO_CN, &[]);
    for to in ["1.2.4.8:443", "[2400:3200::1]:443"] {
        let from = if to.starts_with('[') {
            CLIENT[1]
        } else {
            CLIENT[0]
        };
        world.packet(&syn(from, to).bytes());
        assert!(world.orders().is_empty(), "no dial follows a block");
        let packets = world.packets();
        assert!(
            matches!(packets[0].0.transport, Transport::IcmpError(e) if (e.kind, e.code) == (3, 13) || (e.kind, e.code) == (1, 1))
        );
        assert_eq!(tcp_headers(&packets).len(), 1);
        let events = world.events();
        let [Event::Open(open)] = events.as_slice() else {
            panic!("{events:?}")
        };
        let Cause::Policy(decision) = open.cause else {
            panic!()
        };
        assert_eq!(open.snapshot.policy.rule_id(decision.origin), "no-prc");
    }
}

#[test]
fn a_rule_that_says_drop_is_silent() {
    let mut world = World::new(NO_CN_SILENT, &[]);
    world.packet(&syn(CLIENT[0], "1.2.4.8:443").bytes());
    assert!(world.packets().is_empty() && world.orders().is_empty());
    assert_eq!(world.gateway.len(), 1);
}

#[test]
fn a_client_that_gives_up_while_dialling_ends_the_dial() {
    let mut world = World::new(ALLOW, &[]);
    world.packet(&syn(CLIENT[0], SERVER[0]).bytes());
    let (flow, _) = world.dialed();
    world.packet(
        &Segment {
            flags: Tcp::RST,
            seq: 1001,
            ..syn(CLIENT[0], SERVER[0])
        }
        .bytes(),
    );
    assert_eq!(world.orders(), [Order::Hangup { flow, reset: true }]);
    assert!(world.packets().is_empty() && world.gateway.is_empty());
}

#[test]
fn a_reset_of_either_side_reaches_the_other() {
    let mut world = World::new(ALLOW, &[]);
    let (flow, next) = established(&mut world, CLIENT[0], SERVER[0]);
    world.packet(
        &Segment {
            flags: Tcp::RST | Tcp::ACK,
            seq: 1001,
            ack: next,
            ..syn(CLIENT[0], SERVER[0])
        }
        .bytes(),
    );
    world.pump(flow);
    assert_eq!(world.orders(), [Order::Hangup { flow, reset: true }]);

    let mut world = World::new(ALLOW, &[]);
    let (flow, _) = established(&mut world, CLIENT[0], SERVER[0]);
    world.gateway.upstream_reset(flow, world.now);
    assert!(
        tcp_headers(&world.packets())
            .iter()
            .any(|tcp| tcp.flags & Tcp::RST != 0)
    );
    assert_eq!(world.orders(), [Order::Hangup { flow, reset: true }]);
}

#[test]
fn a_segment_of_an_unknown_flow_is_reset() {
    let mut world = World::new(ALLOW, &[]);
    world.packet(
        &Segment {
            flags: Tcp::ACK,
            seq: 5,
            ack: 77,
            ..syn(CLIENT[0], SERVER[0])
        }
        .bytes(),
    );
    let headers = tcp_headers(&world.packets());
    assert_eq!(
        (headers[0].flags & Tcp::RST, headers[0].seq),
        (Tcp::RST, 77)
    );
    assert!(world.gateway.is_empty() && world.orders().is_empty());
}

#[test]
fn without_memory_connections_go_on_with_a_small_share_each() {
    let mut world = World::poor(ALLOW);
    let (from, to) = (CLIENT[0], SERVER[0]);
    let (flow, next) = established(&mut world, from, to);
    let segment = |world: &mut World, seq: u32, ack: u32| {
        let data = Segment {
            flags: Tcp::ACK,
            seq,
            ack,
            payload: &[7; 1460],
            ..syn(from, to)
        };
        world.packet(&data.bytes());
    };
    let put = |world: &mut World| {
        let all = |room: &mut [u8]| room.len().min(1000);
        let put = std::iter::from_fn(|| world.gateway.incoming(flow, world.now, all));
        put.take_while(|put| *put > 0).sum::<usize>()
    };

    // An upstream that takes nothing: what is beyond the share is not kept.
    for number in 0..40 {
        segment(&mut world, 1001 + number * 1460, next);
    }
    let kept = world.pump(flow).len();
    assert_eq!(kept, (16_usize << 10).div_ceil(1460) * 1460);
    // It is sent again, and now there is room.
    segment(&mut world, 1001 + kept as u32, next);
    assert_eq!(world.pump(flow).len(), 1460);

    // The other way: the server waits until the client has acknowledged.
    let first = put(&mut world);
    assert!((16 << 10..18 << 10).contains(&first), "{first}");
    world.pump(flow);
    segment(&mut world, 1001 + kept as u32 + 1460, next + first as u32);
    world.pump(flow);
    assert!(put(&mut world) >= 16 << 10);
}

#[test]
fn a_connection_at_rest_gives_its_memory_back_but_not_from_under_bytes_behind_a_gap() {
    for gap in [false, true] {
        let mut world = World::new(ALLOW, &[]);
        let (from, to) = (CLIENT[0], SERVER[0]);
        let (flow, next) = established(&mut world, from, to);
        let send = |world: &mut World, seq: u32, ack: u32, payload: &[u8]| {
            let data = Segment {
                flags: Tcp::ACK,
                seq,
                ack,
                payload,
                ..syn(from, to)
            };
            world.packet(&data.bytes());
            world.pump(flow)
        };
        assert_eq!(send(&mut world, 1001, next, b"request"), b"request");
        let answer = |room: &mut [u8]| room.len().min(1000);
        assert_eq!(world.gateway.incoming(flow, world.now, answer), Some(1000));
        world.pump(flow);
        send(&mut world, 1008, next + 1000, &[]);
        if gap {
            assert_eq!(send(&mut world, 1010, next + 1000, b"cd"), b"");
        }
        assert_eq!(world.rings_given_back(), 0);
        for _ in 0..3 {
            world.wait(Duration::from_secs(2));
            world.pump(flow);
        }
        assert_eq!(world.rings_given_back(), if gap { 1 } else { 2 });
        let rest: &[u8] = if gap { b"ab" } else { b"abcd" };
        assert_eq!(send(&mut world, 1008, next + 1000, rest), b"abcd");
    }
}

#[test]
fn the_rings_of_a_few_short_connections_stay_warm_and_those_of_many_or_long_ones_do_not() {
    let ended = |short: usize, bytes: usize| {
        let mut world = World::new(ALLOW, &[]);
        let from: Vec<String> = (0..short)
            .map(|n| CLIENT[0].replace("40000", &(2000 + n).to_string()))
            .collect();
        for from in &from {
            let (flow, _) = established(&mut world, from, SERVER[0]);
            let answer = |room: &mut [u8]| room.len().min(bytes);
            world.gateway.incoming(flow, world.now, answer);
            world.pump(flow);
            world.packets();
        }
        world.gateway.shutdown(world.now);
        world.rings_given_back()
    };
    // What was never touched has no memory to give back, but is told to.
    let [few, many, long] = [ended(8, 1000), ended(48, 1000), ended(8, 64 << 10)];
    assert_eq!(few, 0);
    assert_eq!(many, 2 * (48 - 32));
    assert_eq!(long, 8);
}

#[test]
fn a_slow_upstream_closes_the_clients_window_and_opens_it_again() {
    let mut world = World::new(ALLOW, &[]);
    let (flow, next) = established(&mut world, CLIENT[0], SERVER[0]);
    let chunk = [7u8; 1400];
    let (mut seq, mut accepted) = (1001u32, 0usize);
    for _ in 0..200 {
        world.packet(
            &Segment {
                flags: Tcp::ACK,
                seq,
                ack: next,
                payload: &chunk,
                ..syn(CLIENT[0], SERVER[0])
            }
            .bytes(),
        );
        while world.gateway.settle(flow, world.now) {}
        let Some(last) = tcp_headers(&world.packets()).last().copied() else {
            continue;
        };
        seq = last.ack;
        accepted = (seq - 1001) as usize;
    }
    assert!(accepted <= 128 << 10, "never more than the ring holds");
    assert!(accepted > 120 << 10);
    assert_eq!(world.pump(flow).len(), accepted);
    assert!(!world.packets().is_empty(), "the window is announced again");
}

#[test]
fn a_policy_that_now_forbids_a_live_flow_ends_it_and_spares_the_others() {
    let mut world = World::new(ALLOW, &[]);
    let (chinese, _) = established(&mut world, CLIENT[0], "1.2.4.8:80");
    let (other, _) = established(&mut world, "10.111.0.2:40001", SERVER[0]);
    world.events();
    world.replace(NO_CN);
    assert_eq!(
        world.orders(),
        [Order::Hangup {
            flow: chinese,
            reset: true
        }]
    );
    assert_eq!(end_of(&world.events()), Some(End::Rejudged));
    assert!(
        tcp_headers(&world.packets())
            .iter()
            .any(|tcp| tcp.flags & Tcp::RST != 0)
    );
    assert_eq!(world.gateway.len(), 1);
    assert_eq!(
        world.gateway.outgoing(other, world.now, |_| 0),
        Outgoing::Empty
    );
}

#[test]
fn half_open_connections_are_bounded_and_established_ones_are_not_harmed() {
    let mut limits = crate::world::limits();
    limits.half_open = 3;
    let mut world = World::bounded(ALLOW, &[], limits);
    let (flow, _) = established(&mut world, CLIENT[0], SERVER[0]);
    for port in 1..10 {
        world.packet(&syn(&format!("10.111.0.2:{port}"), SERVER[0]).bytes());
    }
    assert_eq!(world.orders().len(), 3);
    let refused = world
        .events()
        .iter()
        .filter(|e| matches!(e, Event::Refused(r) if r.what == "half-open"))
        .count();
    assert_eq!(refused, 6);
    assert_eq!(
        world.gateway.outgoing(flow, world.now, |_| 0),
        Outgoing::Empty
    );
}
