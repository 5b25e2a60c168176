//! Cassandra's query language over its native protocol (versions 3 to 5): the log-in and queries.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("cql.user", Class::PersonId, "user");
const PASSWORD: Leak = Leak::new("cql.password", Class::Credential, "password");
const QUERY: Leak = Leak::new("cql.query", Class::Content, "query");

pub(super) const LEAKS: &[Leak] = &[USER, PASSWORD, QUERY];

const HEADER: usize = 9;
const STARTUP: u8 = 1;
const OPTIONS: u8 = 5;
const LOGIN: u8 = 15;
/// A frame longer than this is not waited for.
const LONG: usize = 3000;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        // Version, flags, stream, operation, length: none of options, little of a start.
        [3..=5, 0 | 0x10, _, _, OPTIONS, 0, 0, 0, 0, ..] => Opening::Yes,
        [
            3..=5,
            0 | 0x10,
            _,
            _,
            STARTUP,
            0,
            0,
            0,
            5..=255,
            0,
            1..=9,
            0,
            1..=32,
            ..,
        ] => Opening::Yes,
        [3..=5] | [3..=5, 0 | 0x10] | [3..=5, 0 | 0x10, _] | [3..=5, 0 | 0x10, _, _] => {
            Opening::Perhaps
        }
        [3..=5, 0 | 0x10, _, _, STARTUP | OPTIONS, rest @ ..]
            if rest.len() < 8 && rest.iter().take(3).all(|byte| *byte == 0) =>
        {
            Opening::Perhaps
        }
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let Some([version, flags, _, _, operation]) = bytes.array() else {
        return Step::Wait;
    };
    let Some(length) = bytes.u32().map(|length| length as usize) else {
        return Step::Wait;
    };
    // After the start, version 5 wraps frames in others; what is compressed cannot be read.
    if !(3..=5).contains(&version) || !matches!(operation, 1..=16) || flags & 1 != 0 {
        return Step::Lost;
    }
    let whole = HEADER.saturating_add(length);
    if unread.len() < whole.min(LONG) {
        return Step::Wait;
    }
    body(operation, &mut bytes, notes);
    Step::Took(whole)
}

fn body(operation: u8, bytes: &mut Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    match operation {
        7 | 9 => {
            let length = bytes.u32()? as usize;
            notes.certain(&QUERY, bytes.span(length.min(bytes.len()))?);
        }
        LOGIN => {
            let length = bytes.u32()? as usize;
            let mut token = bytes.sub(length)?;
            token.until(0)?;
            notes.certain(&USER, token.until(0)?);
            notes.certain(&PASSWORD, token.remainder());
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn the_log_in_and_queries_are_told() {
        let options = b"\x04\0\0\x01\x05\0\0\0\0";
        let login = b"\x04\0\0\x02\x0f\0\0\0\x10\0\0\0\x0c\0anne\0s3cret";
        let query = b"\x04\0\0\x03\x07\0\0\0\x0f\0\0\0\x08select 1\0\x01\0";
        let (told, protocol) = told(&[&options[..], login, query].concat());
        assert_eq!(protocol.map(|reading| reading.protocol), Some("cql"));
        let expected = [
            ("cql.user", "anne"),
            ("cql.password", "s3cret"),
            ("cql.query", "select 1"),
        ];
        assert_eq!(told, expected.map(|(leak, text)| (leak, text.to_owned())));
    }

    #[test]
    fn what_only_begins_alike_is_not_read() {
        let other = told(b"\x04\0\0\x01\x05\x09\x09\x09\x09abc").1;
        assert_ne!(other.map(|reading| reading.protocol), Some("cql"));
    }
}
