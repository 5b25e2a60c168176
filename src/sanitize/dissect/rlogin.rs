//! rlogin (RFC 1282): who logs in as whom from what terminal, then what is typed, as in [`super::telnet`]. The first line
//! typed is taken for the password: who is trusted by name alone types a command there.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::telnet;
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;
use std::ops::Range;

const LOCAL: Leak = Leak::new("rlogin.local-user", Class::PersonId, "user on this side");
const REMOTE: Leak = Leak::new("rlogin.user", Class::PersonId, "user on the server");
const PASSWORD: Leak = Leak::new("rlogin.password", Class::Credential, "first line typed");
const TYPED: Leak = Leak::new("rlogin.typed", Class::Content, "line typed");

pub(super) const LEAKS: &[Leak] = &[LOCAL, REMOTE, PASSWORD, TYPED];

/// Longest user or terminal.
const LONGEST: usize = 64;

/// How far a beginning can be read.
enum Greeting {
    /// Its users, and where it ends.
    Whole([Range<usize>; 2], usize),
    Short,
    Other,
}

pub(super) fn open(stream: &[u8]) -> Opening {
    match greeting(stream) {
        Greeting::Whole(..) => Opening::Yes,
        Greeting::Short => Opening::Perhaps,
        Greeting::Other => Opening::No,
    }
}

/// The phase is 0 at the greeting, and then counts lines.
pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    /// A client that was told to sends its window's size: this mark, then rows, columns and both in pixels.
    const WINDOW: [u8; 4] = [0xff, 0xff, b's', b's'];
    if *phase == 0 {
        return match greeting(unread) {
            Greeting::Whole([local, remote], end) => {
                notes.certain(&LOCAL, local);
                notes.certain(&REMOTE, remote);
                *phase = 1;
                Step::Took(end)
            }
            Greeting::Short => Step::Wait,
            Greeting::Other => Step::Lost,
        };
    }
    if unread.starts_with(&WINDOW) {
        return Step::Took(12);
    }
    match unread {
        [0xff] | [0xff, 0xff] | [0xff, 0xff, b's'] => Step::Wait,
        [0xff, ..] => Step::Took(1),
        _ => telnet::typed(
            phase,
            if *phase == 1 { &PASSWORD } else { &TYPED },
            unread,
            notes,
        ),
    }
}

/// A zero byte, then user, user, and terminal with speed, each ended by one.
fn greeting(stream: &[u8]) -> Greeting {
    let mut bytes = Bytes::new(stream);
    if bytes.u8() != Some(0) {
        return Greeting::Other;
    }
    let mut texts = [0..0, 0..0, 0..0];
    for text in &mut texts {
        let rest = bytes.rest();
        let end = memchr::memchr(0, rest);
        let seen = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if seen.len() > LONGEST || !seen.iter().all(u8::is_ascii_graphic) {
            return Greeting::Other;
        }
        let Some(span) = end.and_then(|_| bytes.until(0)) else {
            return Greeting::Short;
        };
        if span.is_empty() {
            return Greeting::Other;
        }
        *text = span;
    }
    let [local, remote, terminal] = texts;
    if is_terminal(bytes.slice(&terminal)) {
        Greeting::Whole([local, remote], bytes.position())
    } else {
        Greeting::Other
    }
}

/// `xterm/38400`.
fn is_terminal(text: &[u8]) -> bool {
    let Some(slash) = memchr::memchr(b'/', text) else {
        return false;
    };
    let (name, speed) = text.split_at(slash);
    let digits = speed.get(1..).unwrap_or_default();
    !name.is_empty() && (2..=7).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn users_and_what_is_typed_are_told() {
        let (told, protocol) =
            told(b"\0anne\0root\0xterm/38400\0\xff\xffss\0\x18\0\x50\0\0\0\0s3cret9\r\nls\r\n");
        assert_eq!(protocol.map(|reading| reading.protocol), Some("rlogin"));
        let expected = [
            ("rlogin.local-user", "anne"),
            ("rlogin.user", "root"),
            ("rlogin.password", "s3cret9"),
            ("rlogin.typed", "ls"),
        ];
        assert_eq!(told, expected.map(|(leak, text)| (leak, text.to_owned())));
    }

    #[test]
    fn what_only_begins_alike_is_not_rlogin() {
        for other in [
            &b"\0anne\0root\0xterm\0"[..],
            b"\0anne\0root\0xterm/fast\0",
            b"\0\0root\0xterm/9600\0",
            b"\0an ne\0root\0xterm/9600\0",
            b"\0\x1d\x12\x34\x01\0\0\x01",
        ] {
            let (told, protocol) = told(other);
            assert_eq!(told, [], "{other:?}");
            assert_ne!(protocol.map(|reading| reading.protocol), Some("rlogin"));
        }
    }
}
