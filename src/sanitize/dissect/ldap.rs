//! LDAP (RFC 4511) over streams, and over datagrams as Active Directory uses it: binds,
//! names asked for, what is said of persons, passwords that are set.

use super::ber::{self, INTEGER, OCTETS, SEQUENCE};
use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading, ntlm, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;
use std::ops::Range;

const NAME: Leak = Leak::new("ldap.name", Class::PersonId, "distinguished name");
const PASSWORD: Leak = Leak::new("ldap.password", Class::Credential, "password");
const PERSON: Leak = Leak::new("ldap.person", Class::PersonId, "person asked for");
const HOST: Leak = Leak::new("ldap.host", Class::HostName, "host asked for");

pub(super) const LEAKS: &[Leak] = &[NAME, PASSWORD, PERSON, HOST];

pub(super) const SHAPE: Shape = Shape::first(Set::of(&[SEQUENCE]));

const BIND: u8 = 0x60;
const SEARCH: u8 = 0x63;
const ENTRY: u8 = 0x64;
const MODIFY: u8 = 0x66;
const ADD: u8 = 0x68;
const EXTENDED: u8 = 0x77;
const SET: u8 = 0x31;
const ENUMERATED: u8 = 0x0a;
/// The change of a password (RFC 3062, section 2).
const NEW_PASSWORD: &[u8] = b"1.3.6.1.4.1.4203.1.11.1";
/// Mechanisms whose tokens hold the password, or what it can be guessed by.
const MECHANISMS: [&[u8]; 6] = [
    b"PLAIN",
    b"LOGIN",
    b"CRAM-MD5",
    b"DIGEST-MD5",
    b"SCRAM-SHA-1",
    b"SCRAM-SHA-256",
];
/// Attributes that hold a person.
const OF_PERSONS: [&[u8]; 13] = [
    b"user",
    b"uid",
    b"cn",
    b"sn",
    b"givenname",
    b"displayname",
    b"mail",
    b"mobile",
    b"telephonenumber",
    b"homephone",
    b"homepostaladdress",
    b"samaccountname",
    b"userprincipalname",
];
/// Attributes that hold a host.
const OF_HOSTS: [&[u8]; 2] = [b"host", b"dnshostname"];
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
        ENTRY | ADD | MODIFY => entry(operation == MODIFY, body, notes),
        EXTENDED => extended(body, notes),
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
                if MECHANISMS.contains(&mechanism.rest()) {
                    let (start, text) = (token.position(), token.rest());
                    if let Some(user) = text::between(text, 0, b"username=\"", b"\"") {
                        notes.certain(&NAME, user.start + start..user.end + start);
                    }
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
            attributed(attribute.rest(), value.remainder(), notes);
        }
        _ => {}
    }
    Some(())
}

/// Tells a value by its attribute; options after a `;` change nothing.
fn attributed(attribute: &[u8], value: Range<usize>, notes: &mut Notes<'_>) {
    let name = attribute.split(|byte| *byte == b';').next();
    let name = name.unwrap_or_default();
    let is = |names: &[&[u8]]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    if is(&OF_PERSONS) {
        notes.certain(&PERSON, value);
    } else if is(&OF_HOSTS) {
        notes.certain(&HOST, value);
    } else if is(&[b"userpassword", b"unicodepwd"]) {
        notes.certain(&PASSWORD, value);
    }
}

/// A name and its attributes, each a name and a set of values; of a change, each behind what is done with it.
fn entry(change: bool, mut body: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    ber::expect(&mut body, OCTETS)?;
    let mut attributes = ber::expect(&mut body, SEQUENCE)?;
    while !attributes.is_empty() {
        let mut attribute = ber::expect(&mut attributes, SEQUENCE)?;
        if change {
            ber::expect(&mut attribute, ENUMERATED)?;
            attribute = ber::expect(&mut attribute, SEQUENCE)?;
        }
        let name = ber::expect(&mut attribute, OCTETS)?;
        let mut values = ber::expect(&mut attribute, SET)?;
        while !values.is_empty() {
            let mut value = ber::expect(&mut values, OCTETS)?;
            attributed(name.rest(), value.remainder(), notes);
        }
    }
    Some(())
}

/// Of the change of a password: whose, the old and the new one.
fn extended(mut body: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    let (_, name) = ber::element(&mut body)?;
    if name.rest() != NEW_PASSWORD || body.is_empty() {
        return Some(());
    }
    let (_, mut value) = ber::element(&mut body)?;
    let mut fields = ber::expect(&mut value, SEQUENCE)?;
    while let Some((tag, mut field)) = ber::element(&mut fields) {
        let leak = if tag == 0x80 { &NAME } else { &PASSWORD };
        notes.certain(leak, field.remainder());
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

    /// An element of a tag and its parts.
    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        [&[tag, content.len() as u8], &content[..]].concat()
    }

    fn octets(text: &str) -> Vec<u8> {
        element(OCTETS, &[text.as_bytes()])
    }

    #[test]
    fn entries_and_new_passwords_are_told() {
        let message = |body: Vec<u8>| element(SEQUENCE, &[b"\x02\x01\x02", &body]);
        let mail = element(SET, &[&octets("anne@a.example")]);
        let mail = element(SEQUENCE, &[&octets("mail"), &mail]);
        let entry = element(ENTRY, &[&octets("uid=1"), &element(SEQUENCE, &[&mail])]);
        assert_eq!(
            told(&message(entry)).0,
            [("ldap.person", "anne@a.example".to_owned())]
        );
        let set = element(SET, &[&octets("s3cret")]);
        let set = element(SEQUENCE, &[&octets("userPassword"), &set]);
        let set = element(SEQUENCE, &[b"\x0a\x01\x02", &set]);
        let change = element(MODIFY, &[&octets("uid=1"), &element(SEQUENCE, &[&set])]);
        let expected = [("ldap.password", "s3cret".to_owned())];
        assert_eq!(told(&message(change)).0, expected);
        let fields = element(SEQUENCE, &[&element(0x82, &[b"s3cret"])]);
        let parts = [
            &element(0x80, &[NEW_PASSWORD])[..],
            &element(0x81, &[&fields]),
        ];
        assert_eq!(told(&message(element(EXTENDED, &parts))).0, expected);
    }

    #[test]
    fn a_digest_tells_whose_it_is() {
        let token = octets("username=\"anne\",response=1");
        let method = element(0xa3, &[&octets("DIGEST-MD5"), &token]);
        let bind = element(BIND, &[b"\x02\x01\x03\x04\0", &method]);
        let (told, _) = told(&element(SEQUENCE, &[b"\x02\x01\x02", &bind]));
        assert_eq!(told[0], ("ldap.name", "anne".to_owned()));
        assert_eq!(told[1].0, "ldap.password");
    }
}
