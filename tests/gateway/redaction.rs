//! What a policy wants rewritten leaves without it, and where that cannot be done, not at all.

use crate::world::{Segment, World, tcp_headers, udp};
use cordon::flow::FlowId;
use cordon::gateway::{End, Event, Fate, Order, Outgoing};
use cordon::packet::{Gso, Offload, Tcp};
use cordon::policy::Action;
use std::time::Duration;

const REDACT: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n[[sanitize]]\nid = \"veil\"\n\
    leak = [\"rtcp.cname\", \"dns.client-subnet\", \"http\", \"parameter\", \"secret\"]\naction = \"redact\"\n";
const CLIENT: &str = "10.111.0.2:5000";
const SERVER: &str = "198.41.0.4:9000";
/// An RTCP sender's empty report and its CNAME.
const CNAME: &[u8] = b"\x80\xc9\0\x01\0\0\0\x07\x81\xca\0\x05\0\0\0\x07\x01\x0canne@laptop1\0\0";

/// Of each leak: the action, whether it left, whether it left rewritten.
fn told(events: &[Event]) -> Vec<(&'static str, Option<Action>, bool, bool)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Leak(leak) => Some((leak.finding.leak, leak.action, leak.sent, leak.redacted)),
            _ => None,
        })
        .collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A client that speaks over one terminated connection.
struct Talk {
    world: World,
    flow: FlowId,
    seq: u32,
    ack: u32,
}

impl Talk {
    fn open(mut world: World) -> Self {
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
        let ack = tcp_headers(&world.packets())[0].seq.wrapping_add(1);
        Self {
            world,
            flow,
            seq: 1,
            ack,
        }
    }

    /// Says this, and returns what left of all that was said.
    fn say(&mut self, payload: &[u8]) -> Vec<u8> {
        let segment = Segment {
            from: CLIENT,
            to: SERVER,
            flags: Tcp::ACK,
            seq: self.seq,
            ack: self.ack,
            payload,
        };
        self.world.packet(&segment.bytes());
        self.seq += payload.len() as u32;
        self.world.pump(self.flow)
    }

    fn is_over(&mut self) -> bool {
        let now = self.world.now;
        self.world.gateway.outgoing(self.flow, now, |_| 0) == Outgoing::Gone
    }
}

#[test]
fn a_canonical_name_leaves_as_a_pseudonym_that_stays_the_same() {
    let mut world = World::new(REDACT, &[]);
    let (_, first) = world.datagram(CLIENT, SERVER, CNAME).unwrap();
    let (_, again) = world.datagram(CLIENT, SERVER, CNAME).unwrap();
    assert_eq!(first.len(), CNAME.len());
    assert!(!contains(&first, b"anne") && !contains(&first, b"laptop"));
    assert_eq!(first[..18], CNAME[..18]);
    assert_eq!(first, again);
    assert_eq!(
        told(&world.events())[0],
        ("rtcp.cname", Some(Action::Redact), false, true)
    );
}

#[test]
fn a_packet_that_passes_is_rewritten_with_its_checksum() {
    let mut world = World::router(REDACT, &[]);
    assert_eq!(world.packet(&udp(CLIENT, SERVER, CNAME)), Fate::Done);
    let packets = world.packets();
    let [(parsed, bytes)] = &packets[..] else {
        panic!("{packets:?}")
    };
    assert_eq!(parsed.payload(bytes).len(), CNAME.len());
    assert!(!contains(bytes, b"anne"));
    // Nothing is wrong with a packet in which nothing was found.
    assert_eq!(
        world.packet(&udp(CLIENT, SERVER, b"hello, world")),
        Fate::Pass
    );
}

#[test]
fn a_client_subnet_is_taken_out_of_a_query() {
    let query: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x07example\x03com\0\0\x01\0\x01\
        \0\0\x29\x10\0\0\0\0\0\0\x0c\0\x08\0\x08\0\x01\x20\0\xc6\x33\x64\x07";
    let mut world = World::new(REDACT, &[]);
    let (_, left) = world.datagram(CLIENT, "198.41.0.4:53", query).unwrap();
    assert!(contains(&left, b"\x07example\x03com\0"));
    assert!(left.ends_with(b"\0\x0c\0\x08\0\0\0\0\0\0\0\0"));
}

#[test]
fn one_datagram_of_several_is_rewritten_in_its_place() {
    let clean = vec![0x9c; CNAME.len()];
    let payload = [&clean[..], CNAME, &clean[..]].concat();
    let mut world = World::new(REDACT, &[]);
    let mut bytes = udp(CLIENT, SERVER, &payload);
    let offload = Offload {
        partial_checksum: true,
        gso: Gso::UdpL4,
        gso_size: CNAME.len() as u16,
        ..Offload::default()
    };
    let Fate::Send(datagram) = world.gateway.packet(&mut bytes, &offload, world.now) else {
        panic!()
    };
    let left = world.gateway.payload(&datagram, &bytes);
    assert_eq!(left.len(), payload.len());
    assert!(left.starts_with(&clean) && left.ends_with(&clean));
    assert!(!contains(left, b"anne"));
}

#[test]
fn headers_and_queries_leave_without_their_values_however_the_stream_is_cut() {
    let request = b"GET /x?imei=356938035643809&q=1 HTTP/1.1\r\nHost: a.example\r\n\
        Authorization: Basic dGVzdA==\r\nCookie: s=1; t=2\r\nAccept: */*\r\n\r\n";
    let expected = b"GET /x?imei=xxxxxxxxxxxxxxx&q=1 HTTP/1.1\r\nHost: a.example\r\n\
        Authorization:               \r\nCookie:         \r\nAccept: */*\r\n\r\n";
    let redact = REDACT.replace("\"http\"", "\"http.authorization\", \"http.cookie\"");
    for length in [1, 7, 50, request.len()] {
        let mut talk = Talk::open(World::new(&redact, &[]));
        let left: Vec<u8> = request
            .chunks(length)
            .flat_map(|chunk| talk.say(chunk))
            .collect();
        assert_eq!(
            String::from_utf8_lossy(&left),
            String::from_utf8_lossy(expected),
            "in chunks of {length}"
        );
        let told = told(&talk.world.events());
        let acted = || told.iter().filter(|(_, action, ..)| action.is_some());
        assert!(acted().count() > 0);
        assert!(acted().all(|(_, _, sent, redacted)| !sent && *redacted));
    }
}

#[test]
fn a_number_that_must_stay_one_is_not_rewritten_but_stopped() {
    let mut talk = Talk::open(World::new(REDACT, &[]));
    let left = talk.say(
        b"POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n{\"user_id\": 512345687}",
    );
    assert!(left.is_empty());
    assert!(talk.is_over());
    let events = talk.world.events();
    assert!(
        told(&events)
            .iter()
            .all(|(_, _, sent, redacted)| !sent && !redacted)
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Close(close) if close.end == End::Leaked))
    );
}

#[test]
fn a_declared_value_has_no_safe_rewriting_and_is_held_back() {
    let mut world = World::new(REDACT, &[("user", "512345687")]);
    assert!(
        world
            .datagram(CLIENT, SERVER, b"ping 512345687 end")
            .is_none()
    );
    assert_eq!(
        told(&world.events()),
        [("secret", Some(Action::Redact), false, false)]
    );
}

#[test]
fn what_one_entry_drops_is_not_sent_because_another_would_rewrite() {
    let both = format!(
        "{REDACT}[[sanitize]]\nid = \"stop\"\nleak = [\"rtcp.location\"]\naction = \"drop\"\n"
    );
    let located: &[u8] =
        b"\x80\xc9\0\x01\0\0\0\x07\x81\xca\0\x05\0\0\0\x07\x01\x05anne1\x05\x04home\0\0\0";
    let mut world = World::new(&both, &[]);
    assert!(world.datagram(CLIENT, SERVER, located).is_none());
    let told = told(&world.events());
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|(_, _, sent, redacted)| !sent && !redacted));
}

#[test]
fn a_value_whose_beginning_has_left_ends_the_flow() {
    let mut talk = Talk::open(World::new(
        &REDACT.replace("\"http\"", "\"http.cookie\""),
        &[],
    ));
    let mut left = talk.say(b"GET / HTTP/1.1\r\nCookie: first");
    assert!(left.is_empty());
    // The client is in no hurry: what it has said so far goes on, rewritten.
    talk.world.wait(Duration::from_secs(1));
    left.extend(talk.world.pump(talk.flow));
    assert_eq!(left, b"GET / HTTP/1.1\r\nCookie:      ");
    assert!(talk.say(b"second\r\n\r\n").is_empty());
    assert!(talk.is_over());
}

#[test]
fn a_connection_that_may_have_to_be_rewritten_is_not_passed_but_terminated() {
    let mut world = World::router(REDACT, &[]);
    let syn = Segment {
        from: CLIENT,
        to: SERVER,
        flags: Tcp::SYN,
        seq: 0,
        ack: 0,
        payload: &[],
    };
    assert_eq!(world.packet(&syn.bytes()), Fate::Done);
    assert!(matches!(world.orders()[..], [Order::Dial { .. }]));
    let mut world = World::router(&REDACT.replace("\"redact\"", "\"drop\""), &[]);
    assert_eq!(world.packet(&syn.bytes()), Fate::Pass);
}

#[test]
fn what_is_only_suspected_is_told_and_leaves() {
    let policy = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
        [[sanitize]]\nid = \"pings\"\nleak = [\"probe-fanout\"]\naction = \"reject\"\n";
    let short = [0x9d, 0x41, 0xe2, 0x07, 0x5c, 0xb8, 0x13, 0xfa];
    let long: Vec<u8> = (1..=32_u32)
        .map(|i| (i.wrapping_mul(0x9e37_79b1) >> 23) as u8)
        .collect();
    let servers = ["198.41.0.4:1", "192.5.5.241:1", "193.0.14.129:1"];
    let mut world = World::new(policy, &[]);
    for server in servers {
        assert!(world.datagram(CLIENT, server, &short).is_some());
    }
    assert_eq!(
        told(&world.events()),
        [("probe-fanout", Some(Action::Report), true, false)]
    );
    let mut world = World::new(policy, &[]);
    let left = servers.map(|server| world.datagram(CLIENT, server, &long).is_some());
    assert_eq!(left, [true, true, false]);
}

/// Fills the ring once round but for its last `left` bytes, with a request that gives nothing away.
fn almost_round(left: usize) -> Talk {
    const RING: usize = 128 << 10;
    let reject = REDACT.replace("redact", "reject");
    let mut talk = Talk::open(World::new(&reject, &[]));
    let head = "POST / HTTP/1.1\r\nContent-Length: ";
    let body = RING - left - head.len() - 6 - 4;
    let mut request = format!("{head}{body}\r\n\r\n").into_bytes();
    request.resize(RING - left, b'.');
    for part in request.chunks(40_000) {
        assert_eq!(talk.say(part).len(), part.len());
    }
    talk
}

const LOGIN: &[u8] = b"POST /login HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
    Content-Length: 24\r\n\r\nname=x&password=hunter22";

#[test]
fn a_request_that_goes_round_the_ring_is_read_whole_before_any_of_it_leaves() {
    for left in 1..LOGIN.len() {
        let mut talk = almost_round(left);
        assert_eq!(talk.say(LOGIN), b"", "{left} bytes before the end");
        talk.world.wait(Duration::from_secs(1));
        assert!(talk.is_over());
        let leaks = told(&talk.world.events());
        assert!(leaks.iter().any(|leak| leak.0 == "parameter.credential"));
    }
}

#[test]
fn a_harmless_request_that_goes_round_the_ring_leaves_at_once_in_order() {
    let harmless = String::from_utf8_lossy(LOGIN).replace("password", "p_or_not");
    for left in 1..harmless.len() {
        let mut talk = almost_round(left);
        assert_eq!(talk.say(harmless.as_bytes()), harmless.as_bytes(), "{left}");
        assert_eq!(talk.say(harmless.as_bytes()), harmless.as_bytes(), "{left}");
    }
}
