//! UDP and echo: one socket a client port, every remote judged, answers only from remotes that were asked.

use crate::world::{OWN, World, socket, udp};
use cordon::gateway::{Answer, End, Event, Fate, MappingId, Order};
use cordon::packet::build::{self, Unreachable};
use cordon::packet::{Gso, Offload, Transport, offload};
use std::time::Duration;

const ALLOW: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n";
const NO_CN: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n";

const CLIENT: &str = "10.111.0.2:5000";
const SERVER: &str = "198.41.0.4:9000";

fn mapping(world: &mut World, from: &str, to: &str) -> MappingId {
    match world.packet(&udp(from, to, b"ping")) {
        Fate::Send(datagram) => datagram.mapping,
        Fate::Done | Fate::Pass => panic!("{from} -> {to} is not sent: {:?}", world.events()),
    }
}

/// Hands an answer in; the packet for the client, if it gets one.
fn reply(world: &mut World, mapping: MappingId, from: &str, payload: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = vec![0; Answer::ROOM];
    buffer.extend_from_slice(payload);
    let mut answer = Answer {
        buffer: &mut buffer,
        payload: Answer::ROOM,
        segment: 0,
        sequence: 1,
    };
    let start = world
        .gateway
        .reply(mapping, socket(from), &mut answer, world.now)?;
    let mut offload = Offload::decode(&buffer[start..]).unwrap();
    let mut packet = buffer[start + offload::LEN..].to_vec();
    cordon::packet::checksum::complete(&mut packet, &mut offload);
    Some(packet)
}

#[test]
fn a_datagram_leaves_with_its_bytes_and_its_answer_comes_back() {
    for (client, server) in [
        (CLIENT, SERVER),
        ("[fd63::2]:5000", "[2001:503:ba3e::2:30]:9000"),
    ] {
        let mut world = World::new(ALLOW, &[]);
        let (permit, payload) = world.datagram(client, server, b"question").unwrap();
        assert_eq!(
            (permit.destination(), payload.as_slice()),
            (socket(server), &b"question"[..])
        );
        let mapping = mapping(&mut world, client, server);
        let packet = reply(&mut world, mapping, server, b"answer").unwrap();
        assert_eq!(packet, udp(server, client, b"answer"));
    }
}

#[test]
fn one_client_port_has_one_mapping_whatever_it_talks_to() {
    let mut world = World::new(ALLOW, &[]);
    let first = mapping(&mut world, CLIENT, SERVER);
    assert_eq!(mapping(&mut world, CLIENT, "192.5.5.241:7"), first);
    assert_ne!(mapping(&mut world, "10.111.0.2:5001", SERVER), first);
}

#[test]
fn a_datagram_goes_to_the_shard_that_has_the_mapping_of_its_client_port() {
    let mut owner = World::new(ALLOW, &[]);
    let mut other = owner.sibling();
    let first = mapping(&mut owner, CLIENT, SERVER);
    let packet = udp(CLIENT, "192.5.5.241:7", b"ping");
    assert_eq!(other.packet(&packet), Fate::Done);
    let mut stray = other.gateway.next_stray().unwrap();
    assert_eq!((stray.shard, &stray.packet), (0, &packet));
    assert_eq!(other.gateway.len(), 0, "it is no flow of the other shard");
    let now = owner.now;
    let fate = owner.gateway.packet(&mut stray.packet, &stray.offload, now);
    assert!(matches!(fate, Fate::Send(datagram) if datagram.mapping == first));
    // Other ports are anybody's, and so is this one when its mapping is gone.
    mapping(&mut other, "10.111.0.2:5001", SERVER);
    for _ in 0..200 {
        owner.wait(Duration::from_secs(1));
    }
    assert_eq!(owner.gateway.len(), 0);
    mapping(&mut other, CLIENT, SERVER);
    assert!(other.gateway.next_stray().is_none());
}

#[test]
fn an_answer_of_a_remote_never_asked_is_not_delivered() {
    let mut world = World::new(ALLOW, &[]);
    let mapping = mapping(&mut world, CLIENT, SERVER);
    assert!(reply(&mut world, mapping, "192.5.5.241:9000", b"x").is_none());
    assert!(
        reply(&mut world, mapping, "198.41.0.4:9001", b"x").is_some(),
        "another port of an asked address"
    );
    assert_eq!(
        world.gateway.len(),
        2,
        "judged and kept as a flow of its own"
    );
}

#[test]
fn a_blocked_datagram_is_prohibited_and_nothing_is_sent() {
    let mut world = World::new(NO_CN, &[]);
    assert!(world.datagram(CLIENT, "1.2.4.8:53", b"x").is_none());
    let packets = world.packets();
    assert!(
        matches!(packets[0].0.transport, Transport::IcmpError(e) if (e.kind, e.code) == (3, 13))
    );
    assert!(world.orders().is_empty());
}

#[test]
fn a_mapping_goes_with_its_last_flow() {
    let mut world = World::new(ALLOW, &[]);
    let mapping = mapping(&mut world, CLIENT, SERVER);
    reply(&mut world, mapping, SERVER, b"x").unwrap();
    for _ in 0..119 {
        world.wait(Duration::from_secs(1));
    }
    assert_eq!(world.gateway.len(), 1, "answered flows live two minutes");
    world.wait(Duration::from_secs(2));
    assert_eq!(world.orders(), [Order::Unmap { mapping }]);
    assert!(
        world
            .events()
            .iter()
            .any(|e| matches!(e, Event::Close(close) if close.end == End::Idle))
    );
    assert!(reply(&mut world, mapping, SERVER, b"x").is_none());
}

#[test]
fn an_unanswered_flow_lives_thirty_seconds() {
    let mut world = World::new(ALLOW, &[]);
    mapping(&mut world, CLIENT, SERVER);
    world.wait(Duration::from_secs(29));
    assert_eq!(world.gateway.len(), 1);
    world.wait(Duration::from_secs(2));
    assert!(world.gateway.is_empty());
}

#[test]
fn a_router_that_reports_an_error_is_passed_on_with_its_own_address() {
    let mut world = World::new(ALLOW, &[]);
    let mapping = mapping(&mut world, CLIENT, SERVER);
    let router = "203.0.113.9".parse().unwrap();
    world
        .gateway
        .unreachable(mapping, socket(SERVER), Unreachable::HopLimit, Some(router));
    let packets = world.packets();
    let (parsed, _) = &packets[0];
    assert_eq!((parsed.src, parsed.dst), (router, socket(CLIENT).ip()));
    assert!(matches!(parsed.transport, Transport::IcmpError(e) if (e.kind, e.code) == (11, 0)));
}

#[test]
fn traffic_of_the_local_network_never_crosses() {
    let mut world = World::new(ALLOW, &[]);
    for to in [
        "224.0.0.251:5353",
        "255.255.255.255:67",
        "239.255.255.250:1900",
        "169.254.1.1:80",
        "[ff02::fb]:5353",
    ] {
        let from = if to.starts_with('[') {
            "[fd63::2]:5353"
        } else {
            CLIENT
        };
        assert!(world.datagram(from, to, b"who is there").is_none(), "{to}");
    }
    assert!(world.packets().is_empty(), "and nobody is told");
}

#[test]
fn fragments_are_sent_whole_or_not_at_all() {
    let mut world = World::new(ALLOW, &[]);
    let payload: Vec<u8> = (0..3000u32).map(|n| n as u8).collect();
    let whole = udp(CLIENT, SERVER, &payload);
    let cut = |from: usize, to: usize, more: bool| {
        let mut fragment = whole[..20].to_vec();
        fragment.extend(&whole[20 + from..20 + to]);
        let total = fragment.len() as u16;
        fragment[2..4].copy_from_slice(&total.to_be_bytes());
        fragment[4..6].copy_from_slice(&[0, 9]);
        let field = (from / 8) as u16 | if more { 0x2000 } else { 0 };
        fragment[6..8].copy_from_slice(&field.to_be_bytes());
        fragment[10..12].fill(0);
        let sum = cordon::packet::checksum::Sum::of(&fragment[..20]).finish();
        fragment[10..12].copy_from_slice(&sum.to_be_bytes());
        fragment
    };
    assert_eq!(world.packet(&cut(1480, 3008, false)), Fate::Done);
    let mut first = cut(0, 1480, true);
    let Fate::Send(datagram) = world
        .gateway
        .packet(&mut first, &Offload::default(), world.now)
    else {
        panic!()
    };
    assert_eq!(world.gateway.payload(&datagram, &first), payload);

    assert_eq!(world.packet(&cut(0, 1480, true)), Fate::Done);
    assert_eq!(
        world.packet(&cut(1472, 3008, false)),
        Fate::Done,
        "an overlap"
    );
    assert_eq!(
        world.packet(&cut(1480, 3008, false)),
        Fate::Done,
        "which spoils the whole"
    );
    assert!(
        world
            .events()
            .iter()
            .any(|e| matches!(e, Event::Refused(r) if r.what.contains("overlap")))
    );
}

#[test]
fn a_super_datagram_keeps_its_segments() {
    let mut world = World::new(ALLOW, &[]);
    let mut bytes = udp(CLIENT, SERVER, &[1; 3000]);
    let offload = Offload {
        partial_checksum: true,
        gso: Gso::UdpL4,
        gso_size: 1200,
        ..Offload::default()
    };
    let Fate::Send(datagram) = world.gateway.packet(&mut bytes, &offload, world.now) else {
        panic!()
    };
    assert_eq!(
        (
            datagram.segment,
            world.gateway.payload(&datagram, &bytes).len()
        ),
        (1200, 3000)
    );
}

#[test]
fn an_echo_request_leaves_and_its_reply_carries_the_clients_identifier() {
    let mut world = World::new(ALLOW, &[]);
    let request = echo_request("10.111.0.2", "198.41.0.4", 77, 3, b"payload");
    let Fate::Send(datagram) = world.packet(&request) else {
        panic!("{:?}", world.events())
    };
    assert_eq!((datagram.echo, datagram.hop_limit), (Some((77, 3)), 64));
    let mut buffer = vec![0; Answer::ROOM];
    buffer.extend_from_slice(b"payload");
    let mut answer = Answer {
        buffer: &mut buffer,
        payload: Answer::ROOM,
        segment: 0,
        sequence: 3,
    };
    let start = world
        .gateway
        .reply(
            datagram.mapping,
            socket("198.41.0.4:0"),
            &mut answer,
            world.now,
        )
        .unwrap();
    let packet = &buffer[start + offload::LEN..];
    let parsed = cordon::packet::Parsed::read(packet, cordon::packet::Checksum::Verify).unwrap();
    assert!(
        matches!(parsed.transport, Transport::EchoReply(echo) if (echo.id, echo.seq) == (77, 3))
    );
    assert_eq!(parsed.payload(packet), b"payload");
}

#[test]
fn we_answer_echo_ourselves_and_refuse_services_we_do_not_have() {
    let mut world = World::new(ALLOW, &[]);
    world.packet(&echo_request("10.111.0.2", OWN[0], 5, 1, b"are you there"));
    let packets = world.packets();
    assert!(
        matches!(packets[0].0.transport, Transport::EchoReply(echo) if (echo.id, echo.seq) == (5, 1))
    );
    assert!(
        world
            .datagram(CLIENT, &format!("{}:99", OWN[0]), b"x")
            .is_none()
    );
    let packets = world.packets();
    assert!(
        matches!(packets[0].0.transport, Transport::IcmpError(e) if (e.kind, e.code) == (3, 3))
    );
    assert!(world.gateway.is_empty());
}

fn echo_request(from: &str, to: &str, id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; build::HEADROOM];
    buffer.extend_from_slice(payload);
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    let (start, _) = build::echo_reply_in_place(&mut buffer, build::HEADROOM, from, to, id, seq);
    let mut packet = buffer[start..].to_vec();
    // A reply made into a request: type 0 becomes 8, the sum follows (RFC 1624).
    let sum = u16::from_be_bytes([packet[22], packet[23]]);
    packet[20] = 8;
    packet[22..24]
        .copy_from_slice(&cordon::packet::checksum::update(sum, 0x0000, 0x0800).to_be_bytes());
    packet
}
