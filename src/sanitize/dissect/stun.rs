//! STUN and TURN (RFC 8489, RFC 8656), over datagrams and streams, and the cookie-less STUN of RFC 3489.
//!
//! An ICE user name is random and short-lived. A TURN user name usually is `expiry:random`; one that reads as a mail
//! address is a person's. Attributes of vendors may carry anything and are compared across servers.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USERNAME: Leak = Leak::new("stun.username", Class::SessionId, "user name");
const ACCOUNT: Leak = Leak::new("stun.account", Class::PersonId, "user name");
const REALM: Leak = Leak::new("stun.realm", Class::ServiceMeta, "realm");
const SOFTWARE: Leak = Leak::new("stun.software", Class::Software, "software");

pub(super) const LEAKS: &[Leak] = &[USERNAME, ACCOUNT, REALM, SOFTWARE];

pub(super) const SHAPE: Shape = Shape::first(Set::range(0, 0x3f));

const COOKIE: u32 = 0x2112_a442;
const HEADER: usize = 20;

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    if payload.first()? & 0xc0 != 0 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes(*payload.get(2..)?.first_chunk()?));
    if payload.len() != length + HEADER {
        return None;
    }
    message(payload, notes)
}

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [0..=0x3f, _, _, _, cookie @ ..] => Opening::mark(cookie, &COOKIE.to_be_bytes()),
        [0..=0x3f, ..] => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let [kind, _, high, low, ..] = unread else {
        return Step::Wait;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    match kind {
        0..=0x3f => {
            let whole = length + HEADER;
            match unread.get(..whole) {
                Some(whole) if message(whole, notes).is_none() => Step::Lost,
                Some(whole) => Step::Took(whole.len()),
                None => Step::Wait,
            }
        }
        // Channel data (RFC 8656, section 12.4), padded to four bytes on a stream.
        0x40..=0x4f => Step::Took((length + 4).next_multiple_of(4)),
        _ => Step::Lost,
    }
}

fn message(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    let kind = bytes.u16()?;
    bytes.u16()?;
    let classic = bytes.u32()? != COOKIE;
    bytes.skip(12)?;
    // Without the cookie: binding and shared secret requests and their answers, with the attributes of RFC 3489.
    if classic && ![1, 2, 0x101, 0x102, 0x111, 0x112].contains(&kind) {
        return None;
    }
    while !bytes.is_empty() {
        let attribute = bytes.u16()?;
        let length = usize::from(bytes.u16()?);
        let span = bytes.span(length)?;
        // Some apps leave out the padding of the last attribute.
        bytes.skip((length.next_multiple_of(4) - length).min(bytes.len()))?;
        if classic && !(1..=0x0b).contains(&attribute) {
            return None;
        }
        match attribute {
            0x0006 if bytes.slice(&span).contains(&b'@') => notes.certain(&ACCOUNT, span),
            0x0006 => notes.certain(&USERNAME, span),
            0x0014 => notes.certain(&REALM, span),
            0x8022 => notes.certain(&SOFTWARE, span),
            0x4000..=0x7fff | 0xc000..=0xffff => notes.opaque(span),
            _ => {}
        }
    }
    Some(Reading::clear("stun"))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = vec![0, 1];
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(COOKIE.to_be_bytes());
        bytes.extend([7; 12]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn random_user_names_are_sessions_and_addresses_are_people() {
        let told = found(read, &message(&[(6, b"Tw5X:31e58"), (0x8022, b"lib 1.0")])).unwrap();
        assert_eq!(told[0].class, Class::SessionId);
        assert_eq!(told[1].class, Class::Software);
        let told = found(read, &message(&[(6, b"alice@example.com")])).unwrap();
        assert_eq!(told[0].class, Class::PersonId);
    }

    #[test]
    fn the_length_must_fit_and_classic_stun_must_be_plain() {
        let mut bytes = message(&[(6, b"Tw5X")]);
        bytes.push(0);
        assert_eq!(found(read, &bytes), None);
        let mut classic = vec![0, 1, 0, 0];
        classic.extend([9; 16]);
        assert_eq!(found(read, &classic), Some(vec![]));
        let mut other = classic;
        other[1] = 3;
        assert_eq!(found(read, &other), None, "needs the cookie");
    }
}
