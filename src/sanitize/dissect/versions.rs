//! Version control in the clear: the log-ins of Subversion's own protocol and of CVS's server (whose passwords are only
//! shuffled), and what Git's asks for (gitprotocol-pack, section "git Transport").

use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::{Notes, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("versions.user", Class::PersonId, "user");
const PASSWORD: Leak = Leak::new("versions.password", Class::Credential, "password or digest");
const STORE: Leak = Leak::new("versions.store", Class::ContentId, "repository");
const HOST: Leak = Leak::new("versions.host", Class::DestMeta, "host");

pub(super) const LEAKS: &[Leak] = &[USER, PASSWORD, STORE, HOST];

const SUBVERSION: &[u8] = b"( 2 ( ";
const CVS: [&[u8]; 2] = [b"BEGIN AUTH REQUEST\n", b"BEGIN VERIFICATION REQUEST\n"];
const GIT: &[u8] = b"git-";
/// Length of a packet's length.
const DIGITS: usize = 4;
const LONGEST: usize = 2000;

/// Phases: the beginning, and Subversion's items after it.
const BEGINNING: u8 = 0;
const ITEMS: u8 = 1;

pub(super) fn open(stream: &[u8]) -> Opening {
    let mut opening = Opening::mark(stream, SUBVERSION);
    for mark in CVS {
        opening = opening.or(Opening::mark(stream, mark));
    }
    let (length, rest) = stream.split_at_checked(DIGITS).unwrap_or((stream, &[]));
    if length.starts_with(b"0") && length.iter().all(u8::is_ascii_hexdigit) {
        opening = opening.or(Opening::mark(rest, GIT));
    }
    opening
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if *phase == ITEMS {
        return items(unread, notes);
    }
    let step = match unread.first() {
        Some(b'B') => cvs(unread, notes),
        Some(b'(') => greeting(unread, notes),
        _ => git(unread, notes),
    };
    match step {
        None if unread.len() < LONGEST => Step::Wait,
        None => Step::Lost,
        Some(taken) => {
            *phase = if unread.starts_with(b"(") {
                ITEMS
            } else {
                BEGINNING
            };
            if *phase == ITEMS {
                Step::Took(taken)
            } else {
                Step::Lost
            }
        }
    }
}

/// The root, the user and the password, a line each.
fn cvs(unread: &[u8], notes: &mut Notes<'_>) -> Option<usize> {
    let whole = memchr::memmem::find(unread, b"\nEND ")?;
    let lines = text::lines(unread.get(..whole)?).skip(1);
    for ((start, line), leak) in lines.zip([&STORE, &USER, &PASSWORD]) {
        notes.certain(leak, start..start + line.len());
    }
    Some(whole)
}

/// `( version ( capabilities ) url … )`, where a text is `length:text`.
fn greeting(unread: &[u8], notes: &mut Notes<'_>) -> Option<usize> {
    let end =
        memchr::memmem::find(unread, b") ) ").or_else(|| memchr::memmem::find(unread, b") )\n"))?;
    if let Some(place) = text::between(unread, 0, b":svn", b" ").filter(|place| place.end < end) {
        notes.certain(&STORE, place.start - b"svn".len()..place.end);
    }
    Some(end + 4)
}

/// The answers to a challenge: `( MECHANISM ( token ) )`, then `length:user digest`.
fn items(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if unread.starts_with(b"(") {
        let Some(end) = memchr::memmem::find(unread, b") )") else {
            return if unread.len() < LONGEST {
                Step::Wait
            } else {
                Step::Lost
            };
        };
        let answer = unread.get(..end).unwrap_or_default();
        if answer.starts_with(b"( PLAIN ")
            && let Some(token) = text::between(answer, 0, b":", b" ")
        {
            notes.certain(&PASSWORD, token);
        }
        return Step::Took(end + 3);
    }
    if let Some(b' ' | b'\n' | b'\r') = unread.first() {
        return Step::Took(1);
    }
    let mut bytes = Bytes::new(unread);
    let Some(digits) = bytes.until(b':') else {
        return if unread.len() < 8 {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    let length = std::str::from_utf8(bytes.slice(&digits)).ok();
    let Some(length) = length.and_then(|digits| digits.parse::<usize>().ok()) else {
        return Step::Lost;
    };
    let Some(span) = bytes.span(length) else {
        return if length < LONGEST {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    let answer = bytes.slice(&span);
    if let Some(blank) = memchr::memrchr(b' ', answer)
        && answer.len() - blank == 33
    {
        notes.certain(&USER, span.start..span.start + blank);
        notes.certain(&PASSWORD, span.start + blank + 1..span.end);
    }
    Step::Took(span.end)
}

/// `git-upload-pack /path`, zero, `host=name`, zero, behind the length.
fn git(unread: &[u8], notes: &mut Notes<'_>) -> Option<usize> {
    let length = std::str::from_utf8(unread.get(..DIGITS)?).ok()?;
    let length = usize::from_str_radix(length, 16).ok()?;
    let mut bytes = Bytes::new(unread.get(..length)?);
    bytes.until(b' ')?;
    notes.certain(&STORE, bytes.until(0)?);
    while let Some(more) = bytes.until(0) {
        if bytes.slice(&more).starts_with(b"host=") {
            notes.certain(&HOST, more.start + b"host=".len()..more.end);
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    fn owned(expected: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        expected
            .iter()
            .map(|(leak, value)| (*leak, (*value).to_owned()))
            .collect()
    }

    #[test]
    fn users_and_passwords_of_either_are_told() {
        let cvs = b"BEGIN AUTH REQUEST\n/srv/cvs\nanne\nA:yZZ30 e\nEND AUTH REQUEST\n";
        assert_eq!(
            told(cvs).0,
            owned(&[
                ("versions.store", "/srv/cvs"),
                ("versions.user", "anne"),
                ("versions.password", "A:yZZ30 e")
            ])
        );
        let svn = b"( 2 ( edit-pipeline svndiff1 ) 15:svn://a.example 9:SVN/1.14 ( ) ) ( CRAM-MD5 ( ) ) 37:anne 0123456789abcdef0123456789abcdef ";
        assert_eq!(
            told(svn).0,
            owned(&[
                ("versions.store", "svn://a.example"),
                ("versions.user", "anne"),
                ("versions.password", "0123456789abcdef0123456789abcdef")
            ])
        );
    }

    #[test]
    fn what_git_asks_for_is_told() {
        assert_eq!(
            told(b"002agit-upload-pack /a.git\0host=a.example\0").0,
            owned(&[("versions.store", "/a.git"), ("versions.host", "a.example")])
        );
        assert_eq!(told(b"0029 no git\n").0, []);
    }
}
