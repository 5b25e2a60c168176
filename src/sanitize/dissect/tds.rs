//! TDS (MS-TDS, sections 2.2.3 and 2.2.6.4), as Microsoft SQL Server speaks it: the log-in with the machine's name and
//! the user, whose password is only shuffled; queries. With encryption, TLS is carried in packets before the log-in.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::Leak;
use std::ops::Range;

const HOST: Leak = Leak::new("tds.host", Class::HostName, "host name of the client");
const USER: Leak = Leak::new("tds.user", Class::PersonId, "user");
const PASSWORD: Leak = Leak::new("tds.password", Class::Credential, "password");
const QUERY: Leak = Leak::new("tds.query", Class::Content, "query");
const SOFTWARE: Leak = Leak::new("tds.software", Class::Software, "software");

pub(super) const LEAKS: &[Leak] = &[HOST, USER, PASSWORD, QUERY, SOFTWARE];

const BATCH: u8 = 1;
const LOGIN: u8 = 0x10;
const PRELOGIN: u8 = 0x12;
const HEADER: usize = 8;
/// A packet longer than this is not waited for.
const LONG: usize = 3000;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        // Type, the last of its message, length, no process, first packet, no window, the first option: the version.
        [PRELOGIN, 1, 0, 20..=255, 0, 0, 0 | 1, 0, 0, 0, ..] => Opening::Yes,
        // A version as 7.0 to 7.4 write it, after two lengths.
        [
            LOGIN,
            0 | 1,
            _,
            _,
            0,
            0,
            0 | 1,
            0,
            _,
            _,
            _,
            0,
            _,
            0,
            _,
            0x70..=0x7f,
            ..,
        ] => Opening::Yes,
        [PRELOGIN | LOGIN] | [PRELOGIN | LOGIN, 0 | 1] | [PRELOGIN | LOGIN, 0 | 1, _] => {
            Opening::Perhaps
        }
        [PRELOGIN, 1, 0, _, rest @ ..] if rest.len() < 6 && rest.iter().all(|byte| *byte < 2) => {
            Opening::Perhaps
        }
        [LOGIN, 0 | 1, _, _, rest @ ..]
            if rest.len() < 12 && rest.iter().take(4).all(|byte| *byte < 2) =>
        {
            Opening::Perhaps
        }
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let &[kind, _, high, low, _, _, _, _, ref there @ ..] = unread else {
        return Step::Wait;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < HEADER || !matches!(kind, 1..=3 | 6 | 7 | 14 | LOGIN..=PRELOGIN) {
        return Step::Lost;
    }
    if unread.len() < length.min(LONG) {
        return Step::Wait;
    }
    let content = HEADER..length.min(unread.len());
    match kind {
        // Whether more than the log-in is encrypted shows only to the server.
        PRELOGIN if there.first() == Some(&0x16) => return Step::Lost,
        LOGIN => {
            notes.within(content, login);
        }
        BATCH => wide(&QUERY, content, notes),
        _ => {}
    }
    Step::Took(length)
}

/// Thirty-six bytes, then place and length in letters of each field.
fn login(content: &[u8], notes: &mut Notes<'_>) -> Option<()> {
    let mut bytes = Bytes::new(content);
    bytes.skip(36)?;
    for leak in [&HOST, &USER, &PASSWORD, &SOFTWARE] {
        let start = usize::from(bytes.u16_le()?);
        let letters = usize::from(bytes.u16_le()?);
        let span = start..start + 2 * letters;
        if content.get(span.clone()).is_some() {
            wide(leak, span, notes);
        }
    }
    Some(())
}

/// A value in UTF-16.
fn wide(leak: &'static Leak, span: Range<usize>, notes: &mut Notes<'_>) {
    let value = notes.payload().get(span.clone()).unwrap_or_default();
    if !value.is_empty() {
        let text: Vec<u8> = value.iter().copied().filter(|byte| *byte != 0).collect();
        notes.decoded(leak, Certainty::Certain, span, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    fn packet(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len() as u8 + 8;
        [&[kind, 1, 0, length, 0, 0, 0, 0], content].concat()
    }

    fn wide(text: &str) -> Vec<u8> {
        text.bytes().flat_map(|byte| [byte, 0]).collect()
    }

    #[test]
    fn the_log_in_and_queries_are_told() {
        let mut login = b"\x70\0\0\0\x04\0\0\x74".to_vec();
        login.resize(36, 0);
        login.extend([52, 0, 2, 0, 56, 0, 4, 0, 64, 0, 3, 0, 70, 0, 0, 0]);
        for text in ["pc", "anne", "key"] {
            login.extend(wide(text));
        }
        let prelogin = packet(0x12, b"\0\0\x06\0\x06\xff\0\0\0\0\0\0");
        let query = packet(1, &wide("select 1"));
        let (told, protocol) = told(&[prelogin, packet(0x10, &login), query].concat());
        assert_eq!(protocol.map(|reading| reading.protocol), Some("tds"));
        let leaks: Vec<_> = told.iter().map(|(leak, _)| *leak).collect();
        assert_eq!(leaks, ["tds.host", "tds.user", "tds.password", "tds.query"]);
        assert_eq!(told[1].1, "a\0n\0n\0e\0");
    }

    #[test]
    fn encryption_within_packets_tells_nothing() {
        let prelogin = packet(0x12, b"\0\0\x06\0\x06\xff\0\0\0\0\0\0");
        let hello = packet(0x12, b"\x16\x03\x01\0\x05\x01\0\0\x01\0");
        assert_eq!(told(&[prelogin, hello].concat()).0, []);
    }
}
