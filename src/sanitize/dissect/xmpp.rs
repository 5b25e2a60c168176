//! XMPP before TLS (RFC 6120): the server asked for; then, if no encryption follows, credentials, names and messages.

use super::stream::{Opening, Step};
use super::{Notes, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const SERVER: Leak = Leak::new("xmpp.server", Class::DestMeta, "server");
const PERSON: Leak = Leak::new("xmpp.person", Class::PersonId, "address");
const CREDENTIAL: Leak = Leak::new("xmpp.credential", Class::Credential, "authentication");
const MESSAGE: Leak = Leak::new("xmpp.message", Class::Content, "message");

pub(super) const LEAKS: &[Leak] = &[SERVER, PERSON, CREDENTIAL, MESSAGE];

pub(super) fn open(stream: &[u8]) -> Opening {
    let rest = stream.trim_ascii_start();
    if !b"<?xml".starts_with(rest.get(..5).unwrap_or(rest)) {
        return Opening::mark(rest, b"<stream:stream");
    }
    match text::find(stream, b"<stream:stream") {
        Some(_) => Opening::Yes,
        None if stream.len() < 256 => Opening::Perhaps,
        None => Opening::No,
    }
}

/// Reads up to the next `>`; character data goes with the tag that ends it.
pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if let [0x16, 3, ..] = unread {
        return Step::Switch;
    }
    let end = memchr::memchr(b'>', unread).map(|end| end + 1);
    let part = unread
        .get(..end.unwrap_or(unread.len()))
        .unwrap_or_default();
    let tag = memchr::memchr(b'<', part).unwrap_or(part.len());
    let name = part.get(tag..).unwrap_or_default();
    let mut attribute = |key: &[u8], leak: &'static Leak| {
        for quote in [b'\'', b'"'] {
            let open = [key, &[b'=', quote]].concat();
            if let Some(value) = text::between(part, tag, &open, &[quote]) {
                notes.certain(leak, value);
            }
        }
    };
    if name.starts_with(b"<stream:stream") {
        attribute(b" to", &SERVER);
        attribute(b" from", &PERSON);
    } else if [&b"<message"[..], b"<presence", b"<iq"]
        .iter()
        .any(|stanza| name.starts_with(stanza))
    {
        attribute(b" to", &PERSON);
        attribute(b" from", &PERSON);
    }
    let data = text::trimmed(part.get(..tag).unwrap_or_default(), 0);
    match () {
        () if end.is_none() => {}
        () if [&b"</auth"[..], b"</response", b"</password"]
            .iter()
            .any(|end| name.starts_with(end)) =>
        {
            notes.certain(&CREDENTIAL, data);
        }
        () if name.starts_with(b"</username") => notes.certain(&PERSON, data),
        () if name.starts_with(b"</body") => notes.certain(&MESSAGE, data),
        () => {}
    }
    end.map_or(Step::Wait, Step::Took)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    const OPENING: &[u8] = b"<?xml version='1.0'?><stream:stream to='example.im' version='1.0'>";

    #[test]
    fn before_tls_only_the_server_is_told() {
        let stream = [
            OPENING,
            b"<starttls xmlns='urn:x'/>",
            &[0x16, 3, 1, 0, 0, 23, 3, 3],
        ]
        .concat();
        let (told, reading) = told(&stream);
        assert_eq!(told, [("xmpp.server", "example.im".to_owned())]);
        assert!(reading.unwrap().sealed);
    }

    #[test]
    fn without_tls_credentials_and_messages_are_told() {
        let stream = [
            OPENING,
            b"<auth mechanism='PLAIN'>AGFubmUAcHc=</auth><message to='bob@example.im'><body>hi you</body></message>",
        ]
        .concat();
        let leaks: Vec<_> = told(&stream).0.into_iter().map(|(leak, _)| leak).collect();
        assert_eq!(
            leaks,
            [
                "xmpp.server",
                "xmpp.credential",
                "xmpp.person",
                "xmpp.message"
            ]
        );
    }
}
