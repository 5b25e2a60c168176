//! Questions to resolvers: answered here, with what each client may be given.

use crate::world::{Segment, World, socket, tcp_headers, udp};
use cordon::gateway::{Ask, Dns, Event, Fate, Lane, Upstream};
use cordon::packet::{Tcp, Transport, protocol};
use cordon::policy::Verdict;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::IpAddr;
use std::time::Duration;

const ALLOW: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n";
const NO_CN: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n";
const NAMES: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"but\"\ndomain = [\"but.bad.example\"]\nport = [443]\naction = \"allow\"\n\
    [[rule]]\nid = \"bad\"\ndomain = [\".bad.example\"]\naction = \"block\"\n\
    [[rule]]\nid = \"silent\"\ndomain = [\".silent.example\"]\naction = \"block\"\nreply = \"drop\"\n";

const CLIENT: &str = "10.111.0.2:40000";
/// Nobody's resolver: whatever address is asked, we answer.
const SERVER: &str = "8.8.4.4:53";

fn dns() -> Dns {
    let upstream = |address: &str| Upstream {
        address: socket(address),
        protocol: protocol::UDP,
        name: None,
    };
    Dns {
        upstreams: vec![upstream("9.9.9.9:53"), upstream("1.2.4.8:53")],
        routes: vec![
            Lane {
                domains: vec!["corp.example".into()],
                upstreams: vec![1],
                ..Lane::default()
            },
            Lane {
                upstreams: vec![0, 1],
                ..Lane::default()
            },
        ],
        private: vec!["nas.example".into()],
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn query(text: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 77;
    message.add_query(Query::query(name(text), RecordType::A));
    message.to_vec().unwrap()
}

fn response(text: &str, addresses: &[&str]) -> Message {
    let mut message = Message::response(0, OpCode::Query);
    for address in addresses {
        let IpAddr::V4(address) = address.parse().unwrap() else {
            panic!("{address}");
        };
        message.add_answer(Record::from_rdata(name(text), 60, RData::A(A(address))));
    }
    message
}

/// Asks by UDP: the question that goes on, if any does.
fn ask(world: &mut World, text: &str) -> Option<Ask> {
    let fate = world.packet(&udp(CLIENT, SERVER, &query(text)));
    assert_eq!(fate, Fate::Done, "the client's packet goes nowhere");
    assert!(world.orders().is_empty() && world.gateway.is_empty());
    world.gateway.next_ask()
}

/// The answer that the client was given, if any.
fn given(world: &mut World) -> Option<Message> {
    let packets = world.packets();
    let (parsed, bytes) = packets.first()?;
    assert_eq!(
        (parsed.src, parsed.dst),
        (socket(SERVER).ip(), socket(CLIENT).ip())
    );
    assert!(
        matches!(parsed.transport, Transport::Udp(udp) if udp.sport == 53 && udp.dport == 40000)
    );
    Some(Message::from_vec(parsed.payload(bytes)).unwrap())
}

fn addresses(message: &Message) -> Vec<String> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(address.0.to_string()),
        _ => None,
    };
    message.answers.iter().filter_map(address).collect()
}

fn refused(world: &mut World) -> Vec<&'static str> {
    let what = |event: Event| match event {
        Event::Refused(refused) => Some(refused.what),
        _ => None,
    };
    world.events().into_iter().filter_map(what).collect()
}

#[test]
fn a_question_is_asked_once_and_its_answer_kept_and_its_name_learned() {
    let mut world = World::answering(NO_CN, dns());
    let asked = ask(&mut world, "WWW.Example.").expect("nothing is known yet");
    assert_eq!(asked.message.queries[0].name().to_ascii(), "www.example.");
    assert_eq!(asked.upstreams.len(), 1, "the other one is in China");
    assert_eq!(asked.upstreams[0].1.destination(), socket("9.9.9.9:53"));
    assert_eq!(given(&mut world), None);
    let mut answer = response("www.example.", &[]);
    let alias =
        |from: &str, to: &str| Record::from_rdata(name(from), 9, RData::CNAME(CNAME(name(to))));
    // A chain of 50 aliases: the address is known under the name that was asked.
    let link = |number: usize| match number {
        0 => "www.example.".to_owned(),
        number => format!("n{number}.example."),
    };
    for number in 0..50 {
        answer.add_answer(alias(&link(number), &link(number + 1)));
    }
    let data = RData::A(A::new(198, 41, 0, 4));
    answer.add_answer(Record::from_rdata(name(&link(50)), 9, data));
    world.gateway.resolved(asked.id, Some(answer), world.now);
    let message = given(&mut world).unwrap();
    assert_eq!(message.metadata.id, 77);
    assert_eq!(message.queries[0].name().to_ascii(), "WWW.Example.");
    // It does not fit a client without EDNS: it is to come again by TCP.
    assert!(message.metadata.truncation && message.answers.is_empty());
    assert!(ask(&mut world, "www.example.").is_none(), "it is kept");
    assert!(given(&mut world).is_some());
    world.datagram(CLIENT, "198.41.0.4:123", b"x");
    let named = world.events().into_iter().any(|event| {
        matches!(event, Event::Open(open) if open.subject.names.iter().any(|(name, _)| &**name == "www.example"))
    });
    assert!(named);
    world.wait(Duration::from_secs(9));
    world.packet(&udp(CLIENT, SERVER, &query("www.example.")));
    assert!(world.gateway.next_ask().is_some(), "its time is over");
}

#[test]
fn forbidden_addresses_are_not_given_where_another_is_left() {
    let mut world = World::answering(NO_CN, dns());
    let mixed = ["1.2.4.8", "198.41.0.4", "114.114.114.114"];
    for (all, left) in [
        (&mixed[..], vec!["198.41.0.4"]),
        (&["1.2.4.8"], vec!["1.2.4.8"]),
    ] {
        let text = format!("n{}.example.", all.len());
        let asked = ask(&mut world, &text).unwrap();
        world
            .gateway
            .resolved(asked.id, Some(response(&text, all)), world.now);
        assert_eq!(addresses(&given(&mut world).unwrap()), left);
        // From the cache no more than at first.
        assert!(ask(&mut world, &text).is_none());
        assert_eq!(addresses(&given(&mut world).unwrap()), left);
    }
}

#[test]
fn names_that_are_blocked_wherever_they_lead_are_never_asked_for() {
    let mut world = World::answering(NAMES, dns());
    assert!(ask(&mut world, "www.bad.example.").is_none());
    let answer = given(&mut world).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert!(ask(&mut world, "silent.example.").is_none());
    assert!(given(&mut world).is_none());
    assert_eq!(refused(&mut world), ["blocked-name"; 2]);
    assert!(
        ask(&mut world, "but.bad.example.").is_some(),
        "on one port it may be reached"
    );
    assert!(ask(&mut world, "good.example.").is_some());
    assert!(ask(&mut world, "use-application-dns.net.").is_none());
    let answer = given(&mut world).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_public_name_does_not_lead_inside() {
    for (text, address, may) in [
        ("www.example.", "192.168.7.1", false),
        ("www.example.", "127.0.0.1", false),
        ("www.example.", "0.0.0.0", false),
        ("a.nas.example.", "192.168.7.1", true),
        ("printer.lan.", "192.168.7.1", true),
        ("printer.", "192.168.7.1", true),
    ] {
        let mut world = World::answering(ALLOW, dns());
        let asked = ask(&mut world, text).unwrap();
        let answer = response(text, &[address, "198.41.0.4"]);
        world.gateway.resolved(asked.id, Some(answer), world.now);
        let given = given(&mut world).unwrap();
        assert_eq!(given.answers.is_empty(), !may, "{text}");
        assert_eq!(refused(&mut world) == ["rebinding"], !may);
    }
}

#[test]
fn questions_go_where_they_are_routed_and_nowhere_they_may_not() {
    let mut world = World::answering(ALLOW, dns());
    let places = |ask: Option<Ask>| -> Vec<usize> {
        let ask = ask.expect("it is asked");
        ask.upstreams.iter().map(|(place, _)| *place).collect()
    };
    assert_eq!(places(ask(&mut world, "a.example.")), [0, 1]);
    assert_eq!(places(ask(&mut world, "x.corp.example.")), [1]);
    let mut world = World::answering(NO_CN, dns());
    assert!(ask(&mut world, "x.corp.example.").is_none());
    let answer = given(&mut world).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    assert_eq!(refused(&mut world), ["resolver"]);
}

#[test]
fn without_a_resolver_old_answers_are_given_and_new_questions_fail() {
    let mut world = World::answering(ALLOW, dns());
    let asked = ask(&mut world, "a.example.").unwrap();
    let answer = response("a.example.", &["198.41.0.4"]);
    world.gateway.resolved(asked.id, Some(answer), world.now);
    given(&mut world);
    world.wait(Duration::from_secs(3600));
    let asked = ask(&mut world, "a.example.").expect("its time is over");
    world.gateway.resolved(asked.id, None, world.now);
    let stale = given(&mut world).unwrap();
    assert_eq!(
        (addresses(&stale), stale.answers[0].ttl),
        (vec!["198.41.0.4".into()], 30)
    );
    let asked = ask(&mut world, "b.example.").unwrap();
    world.gateway.resolved(asked.id, None, world.now);
    let failed = given(&mut world).unwrap();
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn one_client_has_so_many_questions_under_way_and_no_more() {
    let mut world = World::answering(ALLOW, dns());
    for number in 0..128 {
        assert!(ask(&mut world, &format!("n{number}.example.")).is_some());
    }
    assert!(ask(&mut world, "more.example.").is_none());
    let answer = given(&mut world).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    world.gateway.resolved(1, None, world.now);
    assert!(ask(&mut world, "more.example.").is_some());
}

#[test]
fn what_is_no_question_is_refused_and_does_no_harm() {
    let mut world = World::answering(ALLOW, dns());
    for (bytes, answers) in [
        (&b""[..], 0),
        (b"abc", 0),
        (&[0xff; 600], 0),
        (
            &[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1],
            1,
        ),
    ] {
        assert_eq!(world.packet(&udp(CLIENT, SERVER, bytes)), Fate::Done);
        assert_eq!(world.packets().len(), answers, "{bytes:?}");
        assert!(world.gateway.next_ask().is_none());
    }
}

#[test]
fn by_tcp_questions_come_in_any_pieces_and_answers_whole() {
    let mut world = World::answering(ALLOW, dns());
    let segment = |flags, seq, ack, payload| Segment {
        from: CLIENT,
        to: SERVER,
        flags,
        seq,
        ack,
        payload,
    };
    world.packet(&segment(Tcp::SYN, 1000, 0, &[][..]).bytes());
    let headers = tcp_headers(&world.packets());
    let next = headers[0].seq.wrapping_add(1);
    let question = query("big.example.");
    let length = u16::try_from(question.len()).unwrap().to_be_bytes();
    let sent = [&length[..], &question, &length, &question].concat();
    for (at, byte) in sent.chunks(1).enumerate() {
        let seq = 1001 + u32::try_from(at).unwrap();
        world.packet(&segment(Tcp::ACK, seq, next, byte).bytes());
    }
    assert!(world.orders().is_empty(), "nothing is dialled");
    let asks: Vec<Ask> = std::iter::from_fn(|| world.gateway.next_ask()).collect();
    assert_eq!(asks.len(), 2);
    let many = vec!["198.41.0.4"; 500];
    for asked in asks {
        let answer = response("big.example.", &many);
        world.gateway.resolved(asked.id, Some(answer), world.now);
    }
    while let Some(flow) = world.gateway.next_dirty() {
        while world.gateway.settle(flow, world.now) {}
    }
    let stream: Vec<u8> = world
        .packets()
        .iter()
        .flat_map(|(parsed, bytes)| parsed.payload(bytes).to_vec())
        .collect();
    let (length, rest) = stream.split_first_chunk().unwrap();
    let first = Message::from_vec(&rest[..usize::from(u16::from_be_bytes(*length))]).unwrap();
    assert_eq!(first.answers.len(), 500);
    assert_eq!(
        stream.len(),
        2 * (2 + usize::from(u16::from_be_bytes(*length)))
    );
    // Nothing is told of it: what was asked is no flow.
    assert!(world.events().is_empty());
    world.wait(Duration::from_secs(31));
    assert!(world.gateway.is_empty());
}

#[test]
fn a_permit_of_a_question_is_for_the_resolver_and_goes_directly() {
    let mut world = World::answering(ALLOW, dns());
    let asked = ask(&mut world, "a.example.").unwrap();
    for (_, permit) in &asked.upstreams {
        assert_eq!(permit.protocol(), protocol::UDP);
        assert_eq!(Verdict::Pass(*permit).name(), "allow");
    }
}

#[test]
fn a_name_that_comes_later_ends_the_flows_that_it_is_against_and_no_others() {
    let policy = NAMES.replace(
        "action = \"block\"",
        "action = \"block\"\non_unknown = \"allow\"",
    );
    let mut world = World::answering(&policy, dns());
    for to in ["198.41.0.4:123", "199.9.14.201:123"] {
        assert!(world.datagram("10.111.0.2:7000", to, b"x").is_some());
    }
    assert!(
        world
            .datagram("10.111.0.9:7000", "198.41.0.4:123", b"x")
            .is_some()
    );
    world.events();
    // Asked as long as it might be reached, and answered under another name than it is blocked by.
    let asked = ask_beside_flows(&mut world, "but.bad.example.");
    let answer = response("but.bad.example.", &["198.41.0.4"]);
    world.gateway.resolved(asked.id, Some(answer), world.now);
    world.gateway.tick(world.now);
    let ended: Vec<String> = world
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Close(close) => Some(format!(
                "{} {} {}",
                close.key.src,
                close.key.dst,
                close.end.name()
            )),
            _ => None,
        })
        .collect();
    assert_eq!(ended, ["10.111.0.2 198.41.0.4 named"]);
    assert!(
        world
            .datagram("10.111.0.2:7000", "198.41.0.4:123", b"x")
            .is_none()
    );
}

fn ask_beside_flows(world: &mut World, text: &str) -> Ask {
    world.packet(&udp(CLIENT, SERVER, &query(text)));
    world.gateway.next_ask().unwrap()
}

#[test]
fn a_resolver_that_takes_long_is_not_waited_for_where_an_old_answer_is_there() {
    let mut world = World::answering(ALLOW, dns());
    let asked = ask(&mut world, "a.example.").unwrap();
    let answer = |address: &str| Some(response("a.example.", &[address]));
    world
        .gateway
        .resolved(asked.id, answer("198.41.0.4"), world.now);
    given(&mut world);
    world.wait(Duration::from_secs(61));
    let asked = ask(&mut world, "a.example.").expect("its time is over");
    world.wait(Duration::from_millis(1790));
    assert_eq!(given(&mut world), None);
    world.wait(Duration::from_millis(20));
    let stale = given(&mut world).expect("the old answer");
    assert_eq!(
        (stale.answers[0].ttl, addresses(&stale)),
        (30, vec!["198.41.0.4".to_owned()])
    );
    // Nobody is asked again so soon, and what comes late counts.
    assert!(ask(&mut world, "a.example.").is_none());
    assert!(given(&mut world).is_some());
    world
        .gateway
        .resolved(asked.id, answer("199.9.14.201"), world.now);
    assert_eq!(given(&mut world), None, "it was answered");
    assert!(ask(&mut world, "a.example.").is_none());
    assert_eq!(addresses(&given(&mut world).unwrap()), ["199.9.14.201"]);

    // Without an old answer there is nothing to do but to wait.
    let asked = ask(&mut world, "b.example.").unwrap();
    world.wait(Duration::from_secs(5));
    assert_eq!(given(&mut world), None);
    world.gateway.resolved(
        asked.id,
        Some(response("b.example.", &["198.41.0.4"])),
        world.now,
    );
    assert!(given(&mut world).is_some());
}

#[test]
fn what_one_lane_was_answered_is_not_given_to_another() {
    let mut split = dns();
    split.routes.insert(
        0,
        Lane {
            sources: vec!["10.111.0.9/32".parse().unwrap()],
            upstreams: vec![1],
            ..Lane::default()
        },
    );
    let mut world = World::answering(ALLOW, split);
    let asked = ask(&mut world, "a.example.").unwrap();
    let answer = response("a.example.", &["198.41.0.4"]);
    world.gateway.resolved(asked.id, Some(answer), world.now);
    assert!(given(&mut world).is_some());
    assert!(
        ask(&mut world, "a.example.").is_none(),
        "it is in the cache"
    );
    world.packets();
    world.packet(&udp("10.111.0.9:40000", SERVER, &query("a.example.")));
    let asked = world.gateway.next_ask().expect("another resolver's answer");
    assert_eq!(asked.upstreams[0].1.destination(), socket("1.2.4.8:53"));
}
