//! PostgreSQL start-up (frontend/backend protocol 3.0): user, database, and the password in whatever form; queries.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("postgres.user", Class::PersonId, "user");
const DATABASE: Leak = Leak::new("postgres.database", Class::ServiceMeta, "database");
const PASSWORD: Leak = Leak::new("postgres.password", Class::Credential, "password message");

const QUERY: Leak = Leak::new("postgres.query", Class::Content, "query");

pub(super) const LEAKS: &[Leak] = &[USER, DATABASE, PASSWORD, QUERY];

/// A message longer than this is not waited for.
const LONG: usize = 2000;

const VERSION_3: u32 = 0x0003_0000;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [0, 0, _, _, code @ ..] => [VERSION_3, SSL_REQUEST, GSS_REQUEST]
            .iter()
            .fold(Opening::No, |answer, known| {
                answer.or(Opening::mark(code, &known.to_be_bytes()))
            }),
        [0] | [0, 0] | [0, 0, _] => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    match unread {
        [0x16, 3, ..] => Step::Switch,
        [0, ..] => startup(unread, notes),
        [b'p', ..] => password(unread, notes),
        // A query, alone or in parts; with other letters come flow control and copied data.
        [b'Q' | b'P' | b'B' | b'd', ..] => query(unread, notes),
        [b'C' | b'D' | b'E' | b'F' | b'H' | b'S' | b'c' | b'f', ..] => skip(unread),
        [_, ..] => Step::Lost,
        [] => Step::Wait,
    }
}

/// Type, length, and what is asked for or written.
fn query(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let step = skip(unread);
    if let Step::Took(end) = step {
        if unread.len() < end.min(LONG) {
            return Step::Wait;
        }
        let text = unread.get(5..end.min(unread.len())).unwrap_or_default();
        let zeros = text.iter().rev().take_while(|byte| **byte == 0).count();
        notes.certain(&QUERY, 5..5 + text.len() - zeros);
    }
    step
}

/// Over a message of a type and a length.
fn skip(unread: &[u8]) -> Step {
    let mut bytes = Bytes::new(unread);
    bytes.skip(1);
    match bytes.u32().map(|length| length as usize) {
        None => Step::Wait,
        Some(length) if length < 4 => Step::Lost,
        Some(length) => Step::Took(length.saturating_add(1)),
    }
}

fn startup(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let Some(length) = bytes.u32().map(|length| length as usize) else {
        return Step::Wait;
    };
    let Some(message) = unread.get(..length) else {
        return Step::Wait;
    };
    let mut bytes = Bytes::new(message);
    bytes.skip(4);
    if bytes.u32() == Some(VERSION_3) {
        while let (Some(name), Some(value)) = (bytes.until(0), bytes.until(0)) {
            match bytes.slice(&name) {
                b"user" => notes.certain(&USER, value),
                b"database" => notes.certain(&DATABASE, value),
                _ => {}
            }
        }
    }
    Step::Took(length)
}

fn password(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    bytes.skip(1);
    let Some(length) = bytes
        .u32()
        .and_then(|length| (length as usize).checked_sub(4))
    else {
        return if unread.len() < 5 {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    match bytes.span(length) {
        None => Step::Wait,
        Some(value) => {
            let end = value.end;
            notes.certain(&PASSWORD, value);
            Step::Took(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn user_and_password_are_told() {
        let mut stream =
            b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x20\0\x03\0\0user\0anne\0database\0d\0\0\0".to_vec();
        stream[11] = (stream.len() - 8) as u8;
        stream.extend(b"p\0\0\0\x0bsecret\0");
        let leaks: Vec<_> = told(&stream).0.into_iter().map(|(leak, _)| leak).collect();
        assert_eq!(
            leaks,
            ["postgres.user", "postgres.database", "postgres.password"]
        );
    }

    #[test]
    fn queries_are_told_alone_and_in_parts() {
        let start = b"\0\0\0\x08\x04\xd2\x16\x2f";
        let queries = b"Q\0\0\0\x0dselect 1\0P\0\0\0\x0d\0select 2\0\0S\0\0\0\x04X\0\0\0\x04";
        let mut stream = [&start[..], queries].concat();
        stream[8 + 14 + 4] = 4 + 10 + 1;
        let (told, _) = told(&stream);
        let expected = ["select 1", "\0select 2"];
        assert_eq!(
            told,
            expected.map(|text| ("postgres.query", text.to_owned()))
        );
    }
}
