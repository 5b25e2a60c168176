//! MongoDB's wire protocol (`OP_MSG`, `OP_QUERY`): who logs in and how, what the client says of its machine, and the
//! documents that are written and asked for (BSON).

use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::{Notes, parameters, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("mongo.user", Class::PersonId, "user");
const PROOF: Leak = Leak::new("mongo.proof", Class::Credential, "password or proof of it");
const DOCUMENT: Leak = Leak::new("mongo.document", Class::Content, "document");

pub(super) const LEAKS: &[Leak] = &[USER, PROOF, DOCUMENT];

const HEADER: usize = 16;
const QUERY: u32 = 2004;
const COMPRESSED: u32 = 2012;
const MESSAGE: u32 = 2013;
/// A message longer than this is not waited for; and the most one may have.
const LONG: usize = 3000;
const MOST: u32 = 48 << 20;
/// Most nesting that is followed.
const DEEPEST: u8 = 6;
/// Commands whose document is the user's.
const OF_DOCUMENTS: [&[u8]; 7] = [
    b"insert",
    b"update",
    b"delete",
    b"find",
    b"findAndModify",
    b"aggregate",
    b"count",
];

pub(super) fn open(stream: &[u8]) -> Opening {
    let mut bytes = Bytes::new(stream);
    let long = bytes
        .u32_le()
        .is_none_or(|length| (HEADER as u32..=MOST).contains(&length));
    bytes.skip(4);
    let first = bytes.u32_le().is_none_or(|answered| answered == 0);
    let known = bytes
        .u32_le()
        .is_none_or(|code| [QUERY, COMPRESSED, MESSAGE].contains(&code));
    match long && first && known {
        true if stream.len() >= HEADER => Opening::Yes,
        // The first bytes alone say little.
        true if stream.len() >= 4 => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let Some(length) = bytes.u32_le().map(|length| length as usize) else {
        return Step::Wait;
    };
    if length < HEADER {
        return Step::Lost;
    }
    if unread.len() < length.min(LONG) {
        return Step::Wait;
    }
    message(unread.get(..length).unwrap_or(unread), notes);
    Step::Took(length)
}

fn message(whole: &[u8], notes: &mut Notes<'_>) -> Option<()> {
    let mut bytes = Bytes::new(whole);
    bytes.skip(12)?;
    match bytes.u32_le()? {
        QUERY => {
            bytes.skip(4)?;
            bytes.until(0)?;
            bytes.skip(8)?;
            document(bytes, DEEPEST, notes)
        }
        MESSAGE => {
            bytes.skip(4)?;
            while let Some(kind) = bytes.u8() {
                let start = bytes.position();
                let length = bytes.u32_le()? as usize;
                let there = length.checked_sub(4)?.min(bytes.len());
                bytes.skip(there)?;
                let mut section = Bytes::new(whole);
                section.skip(start)?;
                let section = section.sub(4 + there)?;
                match kind {
                    0 => document(section, DEEPEST, notes)?,
                    // A name and documents one behind the other.
                    _ => notes.certain(&DOCUMENT, start + 4..start + 4 + there),
                }
            }
            Some(())
        }
        _ => None,
    }
}

/// Length, elements of a type and a name each, a zero byte. Of one cut short, what is there.
fn document(mut bytes: Bytes<'_>, depth: u8, notes: &mut Notes<'_>) -> Option<()> {
    let deeper = depth.checked_sub(1)?;
    let start = bytes.position();
    let length = (bytes.u32_le()? as usize).checked_sub(4)?;
    let mut bytes = bytes.sub(length.min(bytes.len()))?;
    while let Some(kind) = bytes.u8().filter(|kind| *kind != 0) {
        let name = bytes.until(0)?;
        let name = bytes.slice(&name);
        if depth == DEEPEST && OF_DOCUMENTS.contains(&name) {
            notes.certain(
                &DOCUMENT,
                start..start + 4 + length.min(notes.payload().len()),
            );
            return Some(());
        }
        match kind {
            // Text, symbols, code.
            2 | 13 | 14 => {
                let length = bytes.u32_le()? as usize;
                let span = bytes.span(length.checked_sub(1)?)?;
                bytes.skip(1)?;
                value(name, bytes.slice(&span), span, notes);
            }
            3 | 4 => {
                let length = u32::from_le_bytes(*bytes.rest().first_chunk()?) as usize;
                let inner = bytes.sub(length.min(bytes.len()))?;
                document(inner, deeper, notes)?;
            }
            5 => {
                let length = bytes.u32_le()? as usize;
                bytes.skip(1)?;
                let span = bytes.span(length)?;
                value(name, bytes.slice(&span), span, notes);
            }
            6 | 10 | 0x7f | 0xff => {}
            8 => bytes.skip(1)?,
            7 => bytes.skip(12)?,
            16 => bytes.skip(4)?,
            1 | 9 | 17 | 18 => bytes.skip(8)?,
            19 => bytes.skip(16)?,
            _ => return None,
        }
    }
    Some(())
}

/// A named value; a payload is a message of SCRAM (RFC 5802) or PLAIN.
fn value(name: &[u8], value: &[u8], span: std::ops::Range<usize>, notes: &mut Notes<'_>) {
    match name {
        b"payload" => {
            for (open, leak) in [(&b",n="[..], &USER), (b",p=", &PROOF)] {
                if let Some(found) = text::between(&[value, b","].concat(), 0, open, b",") {
                    notes.certain(leak, span.start + found.start..span.start + found.end);
                }
            }
            if value.first() == Some(&0) {
                notes.certain(&PROOF, span);
            }
        }
        // `database.user`.
        b"saslSupportedMechs" => {
            let dot = memchr::memchr(b'.', value).map_or(0, |dot| dot + 1);
            notes.certain(&USER, span.start + dot..span.end);
        }
        b"pwd" | b"key" => notes.certain(&PROOF, span),
        _ => parameters::pair(name, value, span, notes),
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    fn text(name: &str, value: &str) -> Vec<u8> {
        let length = (value.len() as u32 + 1).to_le_bytes();
        [&[2], name.as_bytes(), &[0], &length, value.as_bytes(), &[0]].concat()
    }

    fn document(elements: &[Vec<u8>]) -> Vec<u8> {
        let content = elements.concat();
        let length = (content.len() as u32 + 5).to_le_bytes();
        [&length[..], &content, &[0]].concat()
    }

    fn message(body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 21).to_le_bytes();
        [
            &length[..],
            b"\x07\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0",
            body,
        ]
        .concat()
    }

    #[test]
    fn who_logs_in_and_what_is_written_are_told() {
        let payload = b"n,,n=anne,r=abc";
        let payload = [&b"\x05payload\0\x0f\0\0\0\0"[..], payload].concat();
        let proof = [&b"\x05payload\0\x0b\0\0\0\0"[..], b"c=b,r=a,p=z"].concat();
        let login = document(&[b"\x10saslStart\0\x01\0\0\0".to_vec(), payload]);
        let login_2 = document(&[b"\x10saslContinue\0\x01\0\0\0".to_vec(), proof]);
        let insert = document(&[text("insert", "notes"), text("x", "hi")]);
        let stream = [login, login_2, insert].map(|body| message(&body)).concat();
        let (told, protocol) = told(&stream);
        assert_eq!(protocol.map(|reading| reading.protocol), Some("mongo"));
        assert_eq!(
            told[..2],
            [
                ("mongo.user", "anne".to_owned()),
                ("mongo.proof", "z".to_owned())
            ]
        );
        assert_eq!((told[2].0, told.len()), ("mongo.document", 3));
    }

    #[test]
    fn a_greeting_without_a_user_tells_nobody() {
        let stream = message(&document(&[
            b"\x10hello\0\x01\0\0\0".to_vec(),
            text("x", "y"),
        ]));
        let (told, protocol) = told(&stream);
        assert_eq!(protocol.map(|reading| reading.protocol), Some("mongo"));
        assert_eq!(told, []);
    }
}
