use super::*;
use crate::payload::hello::samples::{hello, message, record, server_name};
use crate::payload::quic::samples::{VERSION_COUNT, frames, initial};

fn name(shown: &[Shown]) -> Vec<(Protocol, Option<&str>, bool)> {
    shown
        .iter()
        .map(|one| (one.protocol, one.name.as_deref(), one.outer))
        .collect()
}

/// What a stream shows if it comes in pieces of this size.
fn stream(bytes: &[u8], size: usize) -> (Stream, Vec<Shown>) {
    let (mut stream, mut shown) = (Stream::default(), Vec::new());
    for piece in bytes.chunks(size) {
        stream.read(piece, &mut shown);
    }
    (stream, shown)
}

#[test]
fn a_server_name_is_read_over_any_split_and_several_records() {
    let whole = message(&[
        (0x0a0a, b""),
        (51, &[9; 1184]),
        (0, &server_name(b"a.example")),
    ]);
    let records: Vec<u8> = whole.chunks(100).flat_map(record).collect();
    for bytes in [record(&whole), records] {
        for size in [1, 7, 64, 517, 4000] {
            let (state, shown) = stream(&bytes, size);
            assert_eq!(name(&shown), [(Protocol::Tls, Some("a.example"), false)]);
            assert!(state.is_done() && !state.is_waiting());
        }
        let (state, shown) = stream(&bytes[..bytes.len() - 1], 300);
        assert!(state.is_waiting() && shown.is_empty());
    }
}

#[test]
fn an_outer_name_is_marked_and_a_hello_without_one_says_so() {
    let ech = message(&[(0xfe0d, &[0; 40]), (0, &server_name(b"outer.example"))]);
    let (_, shown) = stream(&record(&ech), 9);
    assert_eq!(name(&shown), [(Protocol::Tls, Some("outer.example"), true)]);
    let (_, shown) = stream(&record(&message(&[])), 9);
    assert_eq!(name(&shown), [(Protocol::Tls, None, false)]);
}

#[test]
fn what_is_not_a_client_hello_shows_nothing_and_is_not_waited_for() {
    let mut long = vec![22, 3, 1, 0x40, 0, 1, 0, 0x80, 0];
    long.resize(20_000, 0);
    let server = record(&[2, 0, 0, 1, 0]);
    let broken = record(&message(&[(0, b"\0\x09\0\0\x20x")]));
    for bytes in [long, server, broken, vec![22, 3, 1, 0xff, 0xff, 1]] {
        let (state, shown) = stream(&bytes, 33);
        assert!(state.is_done() && shown.is_empty());
    }
    for other in [&b"SSH-2.0-x\r\n"[..], b"\0\x12", b"\x16\x02\0"] {
        let (state, shown) = stream(other, 2);
        assert_eq!(name(&shown), [(Protocol::Other, None, false)]);
        assert!(state.is_done());
    }
}

#[test]
fn every_request_of_a_stream_shows_its_host() {
    let text = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n\
        POST /x HTTP/1.1\r\nHost: b.example\r\nContent-Length: 21\r\n\r\nHost: body.example\r\n\r\n\
        POST /y HTTP/1.1\r\nHost: c.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n\
        GET /z HTTP/1.1\r\nHost: d.example\r\n\r\n";
    for size in [1, 5, 50, 1000] {
        let (state, shown) = stream(text, size);
        let hosts: Vec<_> = shown.iter().filter_map(|one| one.name.as_deref()).collect();
        assert_eq!(
            hosts,
            ["a.example", "b.example", "c.example", "d.example"],
            "{size}"
        );
        assert!(!state.is_done() && !state.is_waiting());
    }
}

#[test]
fn a_tunnel_is_read_on_as_what_it_carries() {
    let mut bytes = b"CONNECT proxied.example:443 HTTP/1.1\r\n\r\n".to_vec();
    bytes.extend(hello(b"inner.example"));
    let (_, shown) = stream(&bytes, 11);
    assert_eq!(
        name(&shown),
        [
            (Protocol::Http, Some("proxied.example"), false),
            (Protocol::Tls, Some("inner.example"), false)
        ]
    );
}

#[test]
fn an_endless_head_is_given_up() {
    let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
    bytes.resize(40_000, b'x');
    let (state, shown) = stream(&bytes, 1000);
    assert!(state.is_done() && shown.is_empty() && state.kept.is_empty());
}

fn quic_hello() -> Vec<u8> {
    message(&[(51, &[9; 1184]), (0, &server_name(b"q.example"))])
}

#[test]
fn a_quic_name_is_read_over_datagrams_in_any_order_and_repeated() {
    let whole = quic_hello();
    let (head, tail) = whole.split_at(700);
    for version in 0..VERSION_COUNT {
        let first = initial(version, &frames(&[(0, head)], 1100));
        let second = initial(version, &frames(&[(700, tail)], 1100));
        for order in [[&first, &second], [&second, &first]] {
            let mut sniff = Datagrams::default();
            assert_eq!(sniff.read(order[0]), Outcome::Wait);
            assert_eq!(sniff.read(order[0]), Outcome::Wait);
            let Outcome::Shown(shown) = sniff.read(order[1]) else {
                panic!("shown");
            };
            assert_eq!(name(&[shown]), [(Protocol::Quic, Some("q.example"), false)]);
        }
        let both = [first, second].concat();
        assert!(matches!(
            Datagrams::default().read(&both),
            Outcome::Shown(_)
        ));
    }
}

#[test]
fn pieces_that_contradict_each_other_or_lie_too_far_are_not_read() {
    let whole = quic_hello();
    let mut other = whole.clone();
    other[300] ^= 1;
    let mut sniff = Datagrams::default();
    assert_eq!(
        sniff.read(&initial(0, &frames(&[(0, &whole[..500])], 1100))),
        Outcome::Wait
    );
    assert_eq!(
        sniff.read(&initial(0, &frames(&[(200, &other[200..900])], 1100))),
        Outcome::Unreadable
    );
    let far = initial(0, &frames(&[(0x3fff, b"xx")], 1100));
    assert_eq!(Datagrams::default().read(&far), Outcome::Unreadable);
}

#[test]
fn other_datagrams_name_nobody_and_unknown_versions_may() {
    let nobody = Outcome::Shown(Shown::nobody(Protocol::Other));
    assert_eq!(Datagrams::default().read(b"ping"), nobody);
    assert_eq!(Datagrams::default().read(b""), nobody);
    assert_eq!(
        Datagrams::default().read(b"\xc3\xff\0\0\x1d\x08abcdefgh"),
        Outcome::Unreadable
    );
}

#[test]
fn what_no_registered_method_begins_with_is_read_but_not_waited_for() {
    for (bytes, waits) in [
        (&b"c"[..], false),
        (b"login", false),
        (b"get /", false),
        (b"G", true),
        (b"BASELINE-CON", true),
        (b"GET /index", true),
    ] {
        let (state, shown) = stream(bytes, 1);
        assert!(shown.is_empty() && !state.is_done());
        assert_eq!((state.is_waiting(), state.pending() > 0), (waits, waits));
    }
    let (_, shown) = stream(b"get / HTTP/1.1\r\nHost: a.example\r\n\r\n", 3);
    assert_eq!(name(&shown), [(Protocol::Http, Some("a.example"), false)]);
}
