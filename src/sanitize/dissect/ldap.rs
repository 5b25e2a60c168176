//! LDAP (RFC 4511) over streams, and over datagrams as Active Directory uses it: simple binds, names asked for.

use super::ber::{self, INTEGER, OCTETS, SEQUENCE};
use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading, ntlm};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const NAME: Leak = Leak::new("ldap.name", Class::PersonId, "distinguished name");
const PASSWORD: Leak = Leak::new("ldap.password", Class::Credential, "password");
const PERSON: Leak = Leak::new("ldap.person", Class::PersonId, "person asked for");
const HOST: Leak = Leak::new("ldap.host", Class::HostName, "host asked for");

pub(super) const LEAKS: &[Leak] = &[NAME, PASSWORD, PERSON, HOST];

pub(super) const SHAPE: Shape = Shape::first(Set::of(&[SEQUENCE]));

const BIND: u8 = 0x60;
const SEARCH: u8 = 0x63;
/// Most nesting of a filter.
const DEEPEST: u8 = 8;

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    if payload.first() != Some(&SEQUENCE) || ber::extent(payload)? != payload.len() {
        return None;
    }
    message(payload, notes)?;
    Some(Reading::clear("ldap"))
}

pub(super) fn open(stream: &[u8]) -> Opening {
    let mut bytes = Bytes::new(stream);
    let known = (|| {
        bytes.u8().filter(|tag| *tag == SEQUENCE)?;
        let length = bytes.u8().filter(|length| (5..=0x84).contains(length))?;
        bytes.skip(usize::from(length.saturating_sub(0x80)))?;
        bytes.u8().filter(|tag| *tag == INTEGER)?;
        let length = bytes.u8().filter(|length| (1..=4).contains(length))?;
        bytes.skip(usize::from(length))?;
        bytes
            .u8()
            .filter(|tag| matches!(tag, 0x42 | 0x4a | 0x60..=0x79))
    })();
    match (known, stream) {
        (Some(_), _) => Opening::Yes,
        (None, [SEQUENCE, ..]) if bytes.is_empty() && stream.len() < 16 => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if let [0x16, 3, ..] = unread {
        return Step::Switch;
    }
    let Some(length) = ber::extent(unread) else {
        return if unread.len() < 6 {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    match unread.get(..length) {
        None => Step::Wait,
        // A frame that is no message belongs to a security layer: encrypted.
        Some(whole) if message(whole, notes).is_none() => Step::Lost,
        Some(whole) => Step::Took(whole.len()),
    }
}

fn message(whole: &[u8], notes: &mut Notes<'_>) -> Option<()> {
    let mut bytes = Bytes::new(whole);
    let mut message = ber::expect(&mut bytes, SEQUENCE)?;
    ber::expect(&mut message, INTEGER)?;
    let (operation, body) = ber::element(&mut message)?;
    match operation {
        BIND => bind(body, notes),
        SEARCH => search(body, notes),
        0x42 | 0x4a | 0x61..=0x79 => Some(()),
        _ => None,
    }
}

fn bind(mut body: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    ber::expect(&mut body, INTEGER)?;
    notes.certain(&NAME, ber::expect(&mut body, OCTETS)?.remainder());
    let (method, mut value) = ber::element(&mut body)?;
    match method {
        0x80 => notes.certain(&PASSWORD, value.remainder()),
        0xa3 => {
            let mechanism = ber::expect(&mut value, OCTETS)?;
            if let Some(mut token) = ber::expect(&mut value, OCTETS) {
                if mechanism.rest() == b"PLAIN" {
                    notes.certain(&PASSWORD, token.remainder());
                } else {
                    ntlm::search(token.remainder(), notes);
                }
            }
        }
        // Microsoft's own: NTLM in parts.
        0x89..=0x8b => ntlm::search(value.remainder(), notes),
        _ => {}
    }
    Some(())
}

fn search(mut body: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    ber::expect(&mut body, OCTETS)?;
    for _ in 0..5 {
        ber::element(&mut body)?;
    }
    let (kind, content) = ber::element(&mut body)?;
    filter(kind, content, DEEPEST, notes)
}

/// Equality tests of a filter, at any depth up to a bound.
fn filter(kind: u8, mut content: Bytes<'_>, depth: u8, notes: &mut Notes<'_>) -> Option<()> {
    let deeper = depth.checked_sub(1)?;
    match kind {
        0xa0..=0xa2 => {
            while let Some((kind, content)) = ber::element(&mut content) {
                filter(kind, content, deeper, notes)?;
            }
        }
        0xa3 => {
            let attribute = ber::expect(&mut content, OCTETS)?;
            let mut value = ber::expect(&mut content, OCTETS)?;
            let is = |names: &[&[u8]]| {
                names
                    .iter()
                    .any(|name| attribute.rest().eq_ignore_ascii_case(name))
            };
            if is(&[
                b"user",
                b"uid",
                b"cn",
                b"mail",
                b"samaccountname",
                b"userprincipalname",
            ]) {
                notes.certain(&PERSON, value.remainder());
            } else if is(&[b"host", b"dnshostname"]) {
                notes.certain(&HOST, value.remainder());
            }
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::{found, told};
    use super::*;

    const SIMPLE_BIND: &[u8] =
        b"\x30\x19\x02\x01\x01\x60\x14\x02\x01\x03\x04\x08cn=admin\x80\x05secre";

    #[test]
    fn a_simple_bind_tells_name_and_password() {
        assert_eq!(
            told(SIMPLE_BIND).0,
            [
                ("ldap.name", "cn=admin".to_owned()),
                ("ldap.password", "secre".to_owned())
            ]
        );
    }

    #[test]
    fn a_search_over_a_datagram_tells_the_host() {
        let query = b"\x30\x24\x02\x01\x01\x63\x1f\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00\xa3\x0c\x04\x04Host\x04\x04pc-1";
        let mut query = query.to_vec();
        query[1] = query.len() as u8 - 2;
        query[6] = query.len() as u8 - 7;
        assert_eq!(found(read, &query).unwrap()[0].leak, "ldap.host");
    }
}
