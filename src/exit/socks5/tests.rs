#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may fail the test"
)]

use super::super::secret::Hidden;
use super::*;
use proptest::prelude::*;

fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials {
        user: Hidden::new("alice".into()),
        password: Hidden::new("pässword".into()),
    })
}

fn to_v4() -> Request {
    Request::Connect(Target::Address("198.51.100.7:443".parse().unwrap()))
}

/// Writes all that is to be written.
fn say(negotiation: &mut Negotiation) -> Vec<u8> {
    let said = negotiation.output().to_vec();
    negotiation.written(said.len());
    said
}

/// Feeds an answer byte by byte, as the network may bring it; how many bytes were taken.
fn hear(negotiation: &mut Negotiation, answer: &[u8]) -> Result<usize, Refusal> {
    let (mut from, mut taken) = (0, 0);
    for end in 1..=answer.len() {
        let read = negotiation.input(&answer[from..end])?;
        (from, taken) = (from + read, taken + read);
    }
    Ok(taken)
}

/// As far as the reply, without credentials.
fn asked(request: Request) -> Negotiation {
    let mut negotiation = Negotiation::new(request, None);
    assert_eq!(say(&mut negotiation), [5, 1, 0]);
    assert_eq!(hear(&mut negotiation, &[5, 0]), Ok(2));
    negotiation
}

#[test]
fn a_connection_is_asked_for_as_rfc_1928_writes_it() {
    let mut negotiation = asked(to_v4());
    assert_eq!(say(&mut negotiation), [5, 1, 0, 1, 198, 51, 100, 7, 1, 187]);
    assert_eq!(negotiation.progress(), Progress::Waiting);
    let reply = [5, 0, 0, 1, 10, 0, 0, 1, 4, 56, b'S', b'S', b'H'];
    assert_eq!(negotiation.input(&reply), Ok(10), "the rest is the flow's");
    let bound = "10.0.0.1:1080".parse().unwrap();
    assert_eq!(negotiation.progress(), Progress::Done(Some(bound)));
    assert_eq!(negotiation.input(b"SSH"), Ok(0));
}

#[test]
fn names_and_ipv6_addresses_are_passed_on_as_they_are() {
    let name = Request::Connect(Target::Name("example.net".into(), 80));
    let mut negotiation = asked(name);
    let mut expected = vec![5, 1, 0, 3, 11];
    expected.extend(b"example.net");
    expected.extend([0, 80]);
    assert_eq!(say(&mut negotiation), expected);

    let address = Request::Connect(Target::Address("[2001:db8::1]:80".parse().unwrap()));
    let said = say(&mut asked(address));
    assert_eq!(said[..4], [5, 1, 0, 4]);
    assert_eq!(said.len(), 22);

    let long = Request::Connect(Target::Name("a".repeat(256).into(), 80));
    let mut negotiation = Negotiation::new(long, None);
    say(&mut negotiation);
    assert_eq!(negotiation.input(&[5, 0]), Err(Refusal::Unsupported));
}

#[test]
fn user_and_password_are_given_only_to_who_asks_for_them() {
    let mut negotiation = Negotiation::new(to_v4(), Some(credentials()));
    assert_eq!(say(&mut negotiation), [5, 2, 0, 2]);
    assert_eq!(hear(&mut negotiation, &[5, 2]), Ok(2));
    let mut expected = vec![1, 5];
    expected.extend(b"alice");
    expected.push(9);
    expected.extend("pässword".bytes());
    assert_eq!(say(&mut negotiation), expected);
    assert_eq!(hear(&mut negotiation, &[1, 0]), Ok(2));
    assert_eq!(say(&mut negotiation)[..2], [5, 1]);

    let mut trusted = Negotiation::new(to_v4(), Some(credentials()));
    say(&mut trusted);
    assert_eq!(hear(&mut trusted, &[5, 0]), Ok(2));
    assert_eq!(say(&mut trusted)[..2], [5, 1]);
}

#[test]
fn a_wrong_password_and_a_proxy_that_wants_one_are_told_apart_from_nonsense() {
    let mut negotiation = Negotiation::new(to_v4(), Some(credentials()));
    say(&mut negotiation);
    negotiation.input(&[5, 2]).unwrap();
    assert_eq!(negotiation.input(&[1, 1]), Err(Refusal::Credentials));

    let mut without = Negotiation::new(to_v4(), None);
    assert_eq!(without.input(&[5, 0xff]), Err(Refusal::Credentials));
    for nonsense in [[4, 0], [5, 1], [5, 2], [0, 0], [b'H', b'T']] {
        let mut negotiation = Negotiation::new(to_v4(), None);
        let refused = negotiation.input(&nonsense);
        assert_eq!(refused, Err(Refusal::Malformed), "{nonsense:?}");
    }
    let empty = Credentials {
        user: Hidden::new(String::new()),
        password: Hidden::new("x".into()),
    };
    let mut negotiation = Negotiation::new(to_v4(), Some(Arc::new(empty)));
    assert_eq!(negotiation.input(&[5, 2]), Err(Refusal::Credentials));
}

#[test]
fn a_greeting_ends_where_a_request_would_begin() {
    let mut negotiation = asked(Request::Greet);
    assert_eq!(negotiation.progress(), Progress::Done(None));
    assert!(say(&mut negotiation).is_empty());
}

#[test]
fn every_refusal_has_its_meaning_even_if_it_is_cut_short() {
    for (code, meaning) in [
        (1, Refusal::Unreachable),
        (2, Refusal::Forbidden),
        (3, Refusal::Unreachable),
        (4, Refusal::Unreachable),
        (5, Refusal::Refused),
        (6, Refusal::TimedOut),
        (7, Refusal::Unsupported),
        (8, Refusal::Unsupported),
        (9, Refusal::Malformed),
        (255, Refusal::Malformed),
    ] {
        let mut negotiation = asked(to_v4());
        say(&mut negotiation);
        assert_eq!(hear(&mut negotiation, &[5, code]), Err(meaning), "{code}");
    }
    for malformed in [
        &[4, 0, 0, 1][..],
        &[5, 0, 1, 1],
        &[5, 0, 0, 2],
        &[5, 0, 0, 0],
    ] {
        let mut negotiation = asked(to_v4());
        say(&mut negotiation);
        let refused = hear(&mut negotiation, malformed);
        assert_eq!(refused, Err(Refusal::Malformed), "{malformed:?}");
    }
}

#[test]
fn no_part_of_a_reply_is_taken_for_the_whole() {
    let replies: [&[u8]; 3] = [
        &[5, 0, 0, 1, 10, 0, 0, 1, 4, 56],
        &[5, 0, 0, 3, 3, b'a', b'.', b'b', 4, 56],
        &[
            5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 56,
        ],
    ];
    for reply in replies {
        for len in 0..reply.len() {
            let mut negotiation = asked(Request::Associate);
            say(&mut negotiation);
            assert_eq!(hear(&mut negotiation, &reply[..len]), Ok(0), "{len}");
            assert_eq!(negotiation.progress(), Progress::Waiting);
        }
        let mut negotiation = asked(Request::Associate);
        assert_eq!(say(&mut negotiation), [5, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(hear(&mut negotiation, reply), Ok(reply.len()));
        assert!(matches!(negotiation.progress(), Progress::Done(_)));
    }
}

#[test]
fn fragments_names_and_stubs_are_no_datagrams() {
    let (header, len) = header("192.0.2.1:53".parse().unwrap());
    let whole = header[..len].to_vec();
    for len in 0..whole.len() {
        assert_eq!(read_datagram(&whole[..len]), None, "{len}");
    }
    for at in 0..3 {
        let mut bytes = whole.clone();
        bytes[at] = 1;
        assert_eq!(read_datagram(&bytes), None, "{at}");
    }
    assert_eq!(read_datagram(&[0, 0, 0, 3, 1, b'a', 0, 53]), None);
    assert_eq!(read_datagram(&[0, 0, 0, 9, 1, 2, 3, 4, 0, 53]), None);
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
    (prop_oneof![v4, v6], any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn a_datagram_comes_out_as_it_went_in(to in address(), payload: Vec<u8>) {
        let (header, len) = header(to);
        let datagram = [&header[..len], &payload].concat();
        let (from, at) = read_datagram(&datagram).unwrap();
        prop_assert_eq!((from, &datagram[at..]), (to, &payload[..]));
    }

    #[test]
    fn whatever_a_proxy_answers_no_more_is_taken_than_came(answers: Vec<Vec<u8>>) {
        let mut negotiation = Negotiation::new(to_v4(), Some(credentials()));
        for answer in answers {
            say(&mut negotiation);
            match negotiation.input(&answer) {
                Ok(taken) => prop_assert!(taken <= answer.len()),
                Err(_) => break,
            }
        }
    }
}
