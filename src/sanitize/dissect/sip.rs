//! SIP (RFC 3261) and the session descriptions in it (RFC 8866): who calls whom, from where, with what.

use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;
use std::ops::Range;

const PERSON: Leak = Leak::new("sip.person", Class::PersonId, "caller, callee or contact");
const USER: Leak = Leak::new("sip.user", Class::PersonId, "digest user name");
const CREDENTIAL: Leak = Leak::new(
    "sip.credential",
    Class::Credential,
    "basic or bearer authorization",
);
const SOFTWARE: Leak = Leak::new("sip.software", Class::Software, "software");
const MESSAGE: Leak = Leak::new("sip.message", Class::Content, "instant message");

pub(super) const LEAKS: &[Leak] = &[PERSON, USER, CREDENTIAL, SOFTWARE, MESSAGE];

/// The methods' first letters, and the version's.
pub(super) const SHAPE: Shape = Shape::first(Set::of(b"IABCROPSNMU"));

const METHODS: [&[u8]; 14] = [
    b"INVITE ",
    b"ACK ",
    b"BYE ",
    b"CANCEL ",
    b"REGISTER ",
    b"OPTIONS ",
    b"PRACK ",
    b"SUBSCRIBE ",
    b"NOTIFY ",
    b"PUBLISH ",
    b"INFO ",
    b"REFER ",
    b"MESSAGE ",
    b"UPDATE ",
];

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let (first, _) = text::line(payload)?;
    if !is_first_line(first) {
        return None;
    }
    message(payload, notes);
    Some(Reading::clear("sip"))
}

pub(super) fn open(stream: &[u8]) -> Opening {
    let mut answer = Opening::mark(stream, b"SIP/2.0 ");
    for method in METHODS {
        answer = answer.or(Opening::mark(stream, method));
    }
    match text::line(stream) {
        Some((line, _)) if answer == Opening::Yes && !is_first_line(line) => Opening::No,
        None if answer == Opening::Yes => Opening::Perhaps,
        _ => answer,
    }
}

/// One message: its head and as many bytes as the head says.
pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let head = memchr::memmem::find(unread, b"\r\n\r\n").map(|end| end + 4);
    message(
        unread
            .get(..head.unwrap_or(unread.len()))
            .unwrap_or_default(),
        notes,
    );
    let Some(head) = head else {
        return Step::Wait;
    };
    let length = text::lines(unread)
        .filter_map(|(start, line)| text::header(line, start))
        .find(|(name, _)| {
            name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")
        })
        .and_then(|(_, value)| {
            std::str::from_utf8(unread.get(value)?)
                .ok()?
                .parse::<usize>()
                .ok()
        });
    Step::Took(head.saturating_add(length.unwrap_or(0)))
}

fn is_first_line(line: &[u8]) -> bool {
    let answer = line.strip_prefix(b"SIP/2.0 ").is_some_and(|rest| {
        rest.first_chunk::<3>()
            .is_some_and(|code| code.iter().all(u8::is_ascii_digit))
    });
    answer || (line.ends_with(b" SIP/2.0") && METHODS.iter().any(|method| line.starts_with(method)))
}

fn message(bytes: &[u8], notes: &mut Notes<'_>) {
    let mut instant = false;
    for (start, line) in text::lines(bytes) {
        if start == 0 {
            instant = line.starts_with(b"MESSAGE ");
            continue;
        }
        if line.is_empty() {
            if instant {
                notes.certain(&MESSAGE, start + 2..bytes.len().max(start + 2));
            }
            return;
        }
        if let Some((name, value)) = text::header(line, start) {
            header(name, value, bytes, notes);
        }
    }
}

fn header(name: &[u8], value: Range<usize>, bytes: &[u8], notes: &mut Notes<'_>) {
    let text = bytes.get(value.clone()).unwrap_or_default();
    let is = |known: &[&[u8]]| known.iter().any(|known| name.eq_ignore_ascii_case(known));
    if is(&[
        b"from",
        b"f",
        b"to",
        b"t",
        b"contact",
        b"m",
        b"p-asserted-identity",
        b"p-preferred-identity",
        b"remote-party-id",
        b"diversion",
    ]) {
        if let Some(name) = text::between(text, 0, b"\"", b"\"").filter(|_| text.starts_with(b"\""))
        {
            notes.certain(&PERSON, name.start + value.start..name.end + value.start);
        }
        if let Some(user) = user(text) {
            notes.certain(&PERSON, user.start + value.start..user.end + value.start);
        }
    } else if is(&[b"authorization", b"proxy-authorization"]) {
        if let Some(user) = text::between(text, 0, b"username=\"", b"\"") {
            notes.certain(&USER, user.start + value.start..user.end + value.start);
        } else {
            notes.certain(&CREDENTIAL, value);
        }
    } else if is(&[b"user-agent", b"server"]) {
        notes.certain(&SOFTWARE, value);
    }
}

/// The user of a `sip:user@host` or `tel:` address.
fn user(text: &[u8]) -> Option<Range<usize>> {
    let scheme = [&b"sip:"[..], b"sips:", b"tel:"]
        .iter()
        .find_map(|scheme| Some(text::find(text, scheme)? + scheme.len()))?;
    let rest = text.get(scheme..)?;
    let length = rest
        .iter()
        .position(|byte| b"@>;:? \r".contains(byte))
        .unwrap_or(rest.len());
    let has_user = rest.get(length) == Some(&b'@')
        || text::find(text, b"tel:").is_some()
        || rest.get(length) == Some(&b':');
    (length > 0 && has_user).then_some(scheme..scheme + length)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::{found, told};
    use super::*;

    const REGISTER: &[u8] = b"REGISTER sip:sip.example SIP/2.0\r\nFrom: <sip:35104723@sip.example>;tag=1\r\nAuthorization: Digest username=\"35104723\", realm=\"x\"\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn callers_and_digest_users_are_people() {
        let told = found(read, REGISTER).unwrap();
        let leaks: Vec<_> = told.iter().map(|f| f.leak).collect();
        assert_eq!(leaks, ["sip.person", "sip.user"]);
        assert_eq!(&REGISTER[told[0].span.clone()], b"35104723");
        assert_eq!(found(read, b"REGISTER sip:x HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn messages_follow_each_other_on_a_stream() {
        let (told, reading) = told(&[REGISTER, REGISTER].concat());
        assert_eq!(told.len(), 4);
        assert_eq!(reading.unwrap().protocol, "sip");
    }

    #[test]
    fn an_instant_message_is_content() {
        let bytes = b"MESSAGE sip:b@x SIP/2.0\r\nTo: sip:b@x\r\n\r\nhello";
        let told = found(read, bytes).unwrap();
        assert_eq!(&bytes[told[1].span.clone()], b"hello");
    }
}
