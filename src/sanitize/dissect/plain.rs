//! Text of no known protocol: mail addresses and hardware addresses where they stand, and values by their names. The
//! last resort; it proves nothing about the protocol.

use super::stream::{Opening, Step};
use super::{Notes, parameters};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;
use std::ops::Range;

const MAIL: Leak = Leak::new("text.mail", Class::PersonId, "mail address");
const HARDWARE: Leak = Leak::new("text.hardware-address", Class::DeviceId, "hardware address");

pub(super) const LEAKS: &[Leak] = &[MAIL, HARDWARE];

/// Bytes that are read, and that decide whether it is text.
const DEPTH: usize = 2048;
const SAMPLE: usize = 32;

/// Reads a datagram that no dissector knows.
pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) {
    let head = payload.get(..DEPTH).unwrap_or(payload);
    if looks_like_text(head) {
        tell(head, 0, notes);
    }
}

/// A stream that no dissector can be of.
pub(super) fn open(stream: &[u8]) -> Opening {
    if looks_like_text(stream) {
        Opening::Yes
    } else {
        Opening::No
    }
}

/// Reads lines, or what there is of a long one, for the first 4 KiB. The phase counts what was read, in sixteens.
pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    const UNIT: usize = 16;
    if let [0x16, 3, ..] = unread {
        return Step::Switch;
    }
    if !looks_like_text(unread) || *phase == u8::MAX {
        return Step::Lost;
    }
    tell(unread, 0, notes);
    let end = match memchr::memrchr(b'\n', unread) {
        Some(last) => last + 1,
        None if unread.len() > DEPTH => unread.len(),
        None => return Step::Wait,
    };
    let read = u8::try_from(end.div_ceil(UNIT)).unwrap_or(u8::MAX);
    *phase = phase.saturating_add(read);
    Step::Took(end)
}

/// Printable but for one byte in sixteen.
fn looks_like_text(bytes: &[u8]) -> bool {
    let head = bytes.get(..SAMPLE).unwrap_or(bytes);
    let plain = |byte: &u8| matches!(byte, 0x20..=0x7e | b'\t' | b'\r' | b'\n' | 0);
    let mut odd = head.iter().filter(|byte| !plain(byte));
    odd.nth(head.len() / 16).is_none()
}

fn tell(bytes: &[u8], start: usize, notes: &mut Notes<'_>) {
    if bytes.contains(&b'"') {
        parameters::json(bytes, start, notes);
    }
    let mut at = 0;
    while let Some(equals) = memchr::memchr(b'=', bytes.get(at..).unwrap_or_default()) {
        let word = word(bytes, at + equals);
        at = word.end.max(at + equals + 1);
        let text = bytes.get(word.clone()).unwrap_or_default();
        let odd = |byte: &&u8| matches!(byte, b',' | b'.' | b';' | b')');
        let odd = text.iter().rev().take_while(odd).count();
        let text = text.get(..text.len() - odd).unwrap_or_default();
        parameters::query(text, word.start + start, notes);
    }
    for at in memchr::memchr_iter(b'@', bytes) {
        if let Some(mail) = mail(bytes, at) {
            notes.probable(&MAIL, mail.start + start..mail.end + start);
        }
    }
    for mark in [b':', b'-'] {
        let mut from = 0;
        while let Some(at) = memchr::memchr(mark, bytes.get(from..).unwrap_or_default()) {
            let at = from + at;
            from = at + 1;
            if let Some(address) = hardware(bytes, at, mark) {
                from = address.end;
                notes.probable(&HARDWARE, address.start + start..address.end + start);
            }
        }
    }
}

/// The word that holds this place.
fn word(bytes: &[u8], at: usize) -> Range<usize> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let (before, after) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    let start = before.iter().rposition(blank).map_or(0, |blank| blank + 1);
    let length = after.iter().position(blank).unwrap_or(after.len());
    start..at + length
}

/// The address around an `@`: letters before, a name with a dot after.
fn mail(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let local = |byte: &u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte);
    let domain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
    let before = bytes
        .get(..at)?
        .iter()
        .rev()
        .take_while(|byte| local(byte))
        .count();
    let after = bytes.get(at + 1..)?;
    let mut length = after.iter().take_while(|byte| domain(byte)).count();
    while length > 0
        && after
            .get(length - 1)
            .is_some_and(|byte| b".-".contains(byte))
    {
        length -= 1;
    }
    let name = after.get(..length)?;
    let top = name.rsplit(|byte| *byte == b'.').next()?;
    let plausible =
        name.contains(&b'.') && top.len() >= 2 && top.iter().all(u8::is_ascii_alphabetic);
    (before >= 1 && plausible).then_some(at - before..at + 1 + length)
}

/// Six pairs of hexadecimal digits with this mark between them; the first mark stands at `at`.
fn hardware(bytes: &[u8], at: usize, mark: u8) -> Option<Range<usize>> {
    const LENGTH: usize = 17;
    let start = at.checked_sub(2)?;
    let text = bytes.get(start..start + LENGTH)?;
    let shaped = text.iter().enumerate().all(|(place, byte)| {
        if place % 3 == 2 {
            *byte == mark
        } else {
            byte.is_ascii_hexdigit()
        }
    });
    let joined =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == mark);
    let before = start.checked_sub(1).and_then(|before| bytes.get(before));
    let empty = text.iter().all(|byte| [b'0', mark].contains(byte));
    (shaped && !empty && !joined(before) && !joined(bytes.get(start + LENGTH)))
        .then_some(start..start + LENGTH)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;
    use super::*;
    use crate::sanitize::finding::Finding;

    fn found(payload: &[u8]) -> Vec<(&'static str, String)> {
        let mut found: Vec<Finding> = Vec::new();
        read(payload, &mut Notes::new(payload, &mut found));
        found
            .iter()
            .map(|f| {
                (
                    f.leak,
                    String::from_utf8_lossy(&payload[f.span.clone()]).into_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn addresses_are_told_wherever_they_stand() {
        assert_eq!(
            found(b"hello from Anne <anne.d@mail.example.com>, 3C:22:fb:00:00:01."),
            [
                ("text.mail", "anne.d@mail.example.com".to_owned()),
                ("text.hardware-address", "3C:22:fb:00:00:01".to_owned())
            ]
        );
        assert_eq!(
            found(b"{\"type\":\"alive\",\"userid\":\"anne7\"}"),
            [("parameter.person", "anne7".to_owned())]
        );
    }

    #[test]
    fn times_fragments_and_binary_are_not_addresses() {
        assert_eq!(
            found(
                b"at 12:34:56:78:90 or 00:00:00:00:00:00 or a@b or @x.yz or 12:34:56:78:9a:bc:de"
            ),
            []
        );
        assert_eq!(
            found(b"\x01\x02\x03\x04anne@mail.example.com\x05\x06\x07"),
            []
        );
    }

    #[test]
    fn streams_of_no_known_protocol_are_read_line_by_line() {
        let (told, reading) = told(b"this is a protocol nobody knows\nstep=1 user=anne7\nmore\n");
        assert_eq!(told, [("parameter.person", "anne7".to_owned())]);
        assert_eq!(reading.unwrap().protocol, "text");
    }
}
