//! Laws of the sanitizer that hold for any bytes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of a test crate"
)]

use cordon::sanitize::{
    Bounds, Certainty, Context, Finding, Kind, Memory, Sanitizer, Secret, Stream,
};
use cordon::time::Time;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

fn sanitizer(values: &[&str]) -> Sanitizer {
    let secrets: Vec<Secret> = values
        .iter()
        .enumerate()
        .map(|(index, value)| Secret::new(&format!("s{index}"), value, Kind::Guess).unwrap())
        .collect();
    Sanitizer::new(&secrets).unwrap()
}

fn context(client: u8, server: u16, index: u32, millis: u64) -> Context {
    let [a, b] = server.to_be_bytes();
    Context {
        client: IpAddr::from([10, 0, 0, client]),
        sport: 40_000,
        remote: SocketAddr::from(([198, 18, a, b], 8000)),
        index,
        now: Time::from_nanos(1_612_750_000_000_000_000 + millis * 1_000_000),
        blocked: server.is_multiple_of(3),
    }
}

fn datagram(sanitizer: &Sanitizer, payload: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    sanitizer.datagram(
        &mut Memory::default(),
        &context(1, 1, 0, 0),
        payload,
        &mut found,
    );
    found
}

/// Judges `bytes` in chunks of these lengths (the rest in one), spans made relative to the whole.
fn stream(sanitizer: &Sanitizer, bytes: &[u8], cuts: &[usize]) -> Vec<Finding> {
    let (mut stream, mut rest, mut all) = (Stream::default(), bytes, Vec::new());
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (chunk, tail) = rest.split_at(cut.min(rest.len()));
        let (position, mut found) = (stream.position() as usize, Vec::new());
        sanitizer.stream(&mut stream, chunk, &mut found);
        for finding in &mut found {
            assert!(finding.span.end <= chunk.len() && finding.span.start <= finding.span.end);
            finding.span = finding.span.start + position..finding.span.end + position;
        }
        all.extend(found);
        rest = tail;
    }
    assert_eq!(stream.position(), bytes.len() as u64);
    all
}

/// The value in an encoding that is long enough to count anywhere.
fn solid(value: &str, encoding: usize, shift: usize) -> Vec<u8> {
    let bytes = value.as_bytes();
    let shifted = || [&b"~#?"[..shift], bytes, b"!"].concat();
    match encoding {
        0 => bytes.to_vec(),
        1 => HEXLOWER.encode(bytes).into_bytes(),
        2 => HEXUPPER.encode(bytes).into_bytes(),
        3 => BASE64.encode(&shifted()).into_bytes(),
        4 => BASE64URL_NOPAD.encode(&shifted()).into_bytes(),
        5 => value.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        6 => value.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        7 => value.to_uppercase().into_bytes(),
        _ => bytes
            .iter()
            .map(|byte| HEXUPPER.encode(&[*byte]))
            .collect::<Vec<_>>()
            .join(":")
            .into_bytes(),
    }
}

/// A number as an integer of the wire.
fn integer(value: u64, encoding: usize) -> Vec<u8> {
    match encoding {
        0 => (value as u32).to_be_bytes().to_vec(),
        1 => (value as u32).to_le_bytes().to_vec(),
        2 => value.to_be_bytes().to_vec(),
        3 => value.to_le_bytes().to_vec(),
        _ => {
            let (mut rest, mut bytes) = (value, Vec::new());
            while rest > 0x7f {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            bytes
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_and_any_split_are_judged(
        payload in vec(any::<u8>(), 0..2000),
        cuts in vec(0..300_usize, 0..8),
    ) {
        let sanitizer = sanitizer(&["512345687", "alice@example.com", "3c:22:fb:00:00:01"]);
        for finding in datagram(&sanitizer, &payload) {
            prop_assert!(finding.span.end <= payload.len());
            prop_assert!(finding.span.start <= finding.span.end);
        }
        stream(&sanitizer, &payload, &cuts);
    }

    #[test]
    fn a_declared_secret_is_found_in_any_encoding_anywhere_however_it_is_cut(
        value in "[a-z0-9@._-]{6,24}",
        encoding in 0..9_usize,
        shift in 0..3_usize,
        before in vec(any::<u8>(), 0..300),
        after in vec(any::<u8>(), 0..300),
        cuts in vec(0..200_usize, 0..6),
    ) {
        prop_assume!(value.bytes().any(|byte| byte != value.as_bytes()[0]));
        let sanitizer = sanitizer(&[&value]);
        let payload = [before, solid(&value, encoding, shift), after].concat();
        let found = datagram(&sanitizer, &payload);
        prop_assert!(found.iter().any(|f| f.leak == "secret" && f.certainty == Certainty::Certain));
        let found = stream(&sanitizer, &payload, &cuts);
        prop_assert!(found.iter().any(|f| f.leak == "secret"));
    }

    #[test]
    fn a_declared_number_is_found_as_an_integer_in_plain_data(
        value in (1_u64 << 24)..=u64::from(u32::MAX),
        encoding in 0..5_usize,
        before in "[ -~]{0,200}",
        after in "[ -~]{0,200}",
        cuts in vec(0..100_usize, 0..6),
    ) {
        let sanitizer = sanitizer(&[&value.to_string()]);
        let integer = integer(value, encoding);
        prop_assume!(integer.iter().any(|byte| *byte != integer[0]));
        let payload = [before.as_bytes(), &integer, after.as_bytes()].concat();
        prop_assert!(!datagram(&sanitizer, &payload).is_empty());
        prop_assert!(!stream(&sanitizer, &payload, &cuts).is_empty());
    }

    #[test]
    fn another_value_of_equal_length_is_not_found(
        declared in "[1-9][0-9]{8}",
        sent in vec("[1-9][0-9]{8}", 20),
    ) {
        let text = sent.join("&id=");
        prop_assume!(!text.contains(&declared));
        prop_assert_eq!(datagram(&sanitizer(&[&declared]), text.as_bytes()), []);
    }

    #[test]
    fn what_is_blanked_out_is_not_found_again(
        number in "[1-9][0-9]{8}",
        parts in vec((0..3_usize, vec(any::<u8>(), 0..60)), 1..6),
    ) {
        let sanitizer = sanitizer(&[&number, "alice@example.com"]);
        let mut payload: Vec<u8> = parts
            .into_iter()
            .flat_map(|(which, noise)| [[number.as_bytes(), b"alice@example.com", b""][which].to_vec(), noise].concat())
            .collect();
        for finding in datagram(&sanitizer, &payload) {
            payload[finding.span].fill(b'*');
        }
        prop_assert_eq!(datagram(&sanitizer, &payload), []);
    }

    #[test]
    fn a_sample_never_holds_the_value(value in "[a-zA-Z0-9]{4,40}") {
        prop_assume!(value.bytes().any(|byte| byte != value.as_bytes()[0]));
        for finding in datagram(&sanitizer(&[&value]), value.as_bytes()) {
            prop_assert!(!finding.sample.contains(&value));
            prop_assert!(finding.sample.chars().count() <= 4);
        }
    }

    #[test]
    fn the_memory_never_exceeds_its_bounds(
        sent in vec((0..6_u8, 0..20_u16, 0..5_u32, 0..2000_u64, vec(any::<u8>(), 0..300)), 1..120),
    ) {
        let bounds = Bounds { clients: 3, bytes_per_client: 16_000, bytes: 20_000 };
        let (mut memory, sanitizer, mut now) = (Memory::new(bounds), Sanitizer::default(), 0);
        for (client, server, index, wait, payload) in sent {
            now += wait;
            let mut found = Vec::new();
            sanitizer.datagram(&mut memory, &context(client, server, index, now), &payload, &mut found);
            prop_assert!(memory.clients() <= bounds.clients);
            prop_assert!(memory.bytes() <= bounds.bytes);
        }
    }

    #[test]
    fn a_text_identifier_is_told_at_the_third_server_whatever_surrounds_it(
        number in "[1-9][0-9]{8}",
        room in "[A-Z][0-9][a-zA-Z0-9]{6}",
        prefix in vec(any::<u8>(), 0..40),
        suffix in vec(any::<u8>(), 0..40),
    ) {
        let value = format!("{number}/{room}");
        let (mut memory, sanitizer) = (Memory::default(), Sanitizer::default());
        let mut told = Vec::new();
        for server in 1..=3_u16 {
            let mut payload = prefix.clone();
            payload.push(server as u8);
            payload.extend(value.bytes());
            payload.push(!server as u8);
            payload.extend(&suffix);
            let mut found = Vec::new();
            sanitizer.datagram(&mut memory, &context(1, server * 3 + 1, 0, 700 * u64::from(server)), &payload, &mut found);
            told.push(found.iter().any(|f| f.leak == "probe-fanout" && f.certainty >= Certainty::Probable));
        }
        prop_assert_eq!(told, [false, false, true]);
    }
}
