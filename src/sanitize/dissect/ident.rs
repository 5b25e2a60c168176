//! Who somebody is, as machines tell each other: the answers of identd (RFC 1413, section 6) and of finger (RFC 1288).

use super::stream::{Opening, Step};
use super::{Notes, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("ident.user", Class::PersonId, "user or name");
const PLACE: Leak = Leak::new("ident.place", Class::Content, "where and since when");

pub(super) const LEAKS: &[Leak] = &[USER, PLACE];

/// Lines of finger that begin with what follows.
const LOGIN: &[u8] = b"Login: ";
const OLD_LOGIN: &[u8] = b"Login name: ";
/// Longest answer of identd.
const LONGEST: usize = 1000;

pub(super) fn open(stream: &[u8]) -> Opening {
    let finger = Opening::mark(stream, LOGIN).or(Opening::mark(stream, OLD_LOGIN));
    let ports = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b' ' | b',');
    if stream.len() > 64 || !stream.first().is_some_and(u8::is_ascii_digit) {
        return finger;
    }
    match stream.iter().position(|byte| !ports(byte)) {
        None if stream.len() < 16 => Opening::Perhaps,
        Some(colon)
            if stream
                .get(..colon)
                .is_some_and(|ports| ports.contains(&b',')) =>
        {
            let rest = stream.get(colon..).unwrap_or_default();
            let spaced = Opening::mark(rest, b": USERID");
            spaced.or(Opening::mark(rest, b":USERID"))
        }
        _ => finger,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let Some((line, taken)) = text::line(unread) else {
        return if unread.len() < LONGEST {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    if line.first().is_some_and(u8::is_ascii_digit) {
        // Ports, `USERID`, system, user: which may hold a colon itself.
        let mut colons = memchr::memchr_iter(b':', line);
        if let Some(third) = colons.nth(2) {
            let user = line.get(third + 1..).unwrap_or_default();
            notes.certain(&USER, text::trimmed(user, third + 1));
        }
        return Step::Took(taken);
    }
    finger(line, notes);
    Step::Took(taken)
}

/// `Login: anne   Name: Anne Doe`, and where she is.
fn finger(line: &[u8], notes: &mut Notes<'_>) {
    for mark in [
        &b"Login: "[..],
        b"Login name: ",
        b"Name: ",
        b"In real life: ",
    ] {
        let Some(at) = memchr::memmem::find(line, mark) else {
            continue;
        };
        let start = at + mark.len();
        let rest = line.get(start..).unwrap_or_default();
        let gap = memchr::memmem::find(rest, b"  ").into_iter();
        let end = gap.chain(memchr::memchr(b'\t', rest)).min();
        let value = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        notes.certain(&USER, text::trimmed(value, start));
    }
    if [&b"On since "[..], b"Last login ", b"Office"]
        .iter()
        .any(|mark| line.starts_with(mark))
    {
        notes.certain(&PLACE, 0..line.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn users_are_told_by_either_answer() {
        assert_eq!(
            told(b"6193, 23 : USERID : UNIX : anne\r\n").0,
            [("ident.user", "anne".to_owned())]
        );
        let (told_of, _) = told(b"Login: anne           \t\tName: Anne Doe\r\nDirectory: /home/anne\r\nOn since Mon 1 (UTC) on tty1 from pc-1\r\n");
        assert_eq!(
            told_of[..2],
            [
                ("ident.user", "anne".to_owned()),
                ("ident.user", "Anne Doe".to_owned())
            ]
        );
        assert_eq!(told_of[2].0, "ident.place");
    }

    #[test]
    fn questions_and_errors_tell_nobody() {
        assert_eq!(told(b"6193, 23\r\n").0, []);
        assert_eq!(told(b"6193, 23 : ERROR : NO-USER\r\n").0, []);
    }
}
