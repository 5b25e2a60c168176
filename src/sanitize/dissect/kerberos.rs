//! Kerberos 5 requests (RFC 4120): the client's principal, its realm, its NetBIOS name. Datagrams and streams.

use super::ber::{self, SEQUENCE};
use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const CLIENT: Leak = Leak::new("kerberos.client", Class::PersonId, "client principal");
const REALM: Leak = Leak::new("kerberos.realm", Class::DestMeta, "realm");
const SERVICE: Leak = Leak::new("kerberos.service", Class::DestMeta, "service principal");
const HOST: Leak = Leak::new("kerberos.host", Class::HostName, "NetBIOS name");

pub(super) const LEAKS: &[Leak] = &[CLIENT, REALM, SERVICE, HOST];

pub(super) const SHAPE: Shape =
    Shape::first(Set::of(&[AS_REQUEST, TGS_REQUEST]).or(Set::of(&OTHERS)));

/// Application tags of the requests for a ticket, and of what uses one.
const AS_REQUEST: u8 = 0x6a;
const TGS_REQUEST: u8 = 0x6c;
const OTHERS: [u8; 7] = [0x6b, 0x6d, 0x6e, 0x6f, 0x74, 0x75, 0x7e];
/// Type of a NetBIOS address (RFC 4120, section 7.5.3).
const NETBIOS: u8 = 20;

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let first = *payload.first()?;
    if ber::extent(payload)? != payload.len() {
        return None;
    }
    let mut bytes = Bytes::new(payload);
    let (_, mut application) = ber::element(&mut bytes)?;
    let message = ber::expect(&mut application, SEQUENCE)?;
    match first {
        AS_REQUEST | TGS_REQUEST => request(message, notes)?,
        _ if OTHERS.contains(&first) => version(message)?,
        _ => return None,
    }
    Some(Reading::clear("kerberos"))
}

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [
            0,
            _,
            _,
            _,
            AS_REQUEST | TGS_REQUEST,
            0x81..=0x83 | 0x30..,
            ..,
        ] => Opening::Yes,
        [0, ..] if stream.len() < 6 => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let Some(length) = bytes.u32() else {
        return Step::Wait;
    };
    match bytes.span(length as usize) {
        None => Step::Wait,
        Some(message) if notes.within(message.clone(), read).is_none() => Step::Lost,
        Some(message) => Step::Took(message.end),
    }
}

/// The version number 5, as the first or second field.
fn version(mut message: Bytes<'_>) -> Option<()> {
    let (_, mut version) = ber::element(&mut message)?;
    (ber::expect(&mut version, ber::INTEGER)?.rest() == [5]).then_some(())
}

fn request(mut message: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    while !message.is_empty() {
        let (tag, mut field) = ber::element(&mut message)?;
        match tag {
            0xa1 if ber::expect(&mut field, ber::INTEGER)?.rest() != [5] => return None,
            0xa4 => body(ber::expect(&mut field, SEQUENCE)?, notes)?,
            _ => {}
        }
    }
    Some(())
}

fn body(mut body: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    while !body.is_empty() {
        let (tag, mut field) = ber::element(&mut body)?;
        match tag {
            0xa1 => principal(field, &CLIENT, notes)?,
            0xa2 => {
                let (_, mut realm) = ber::element(&mut field)?;
                notes.certain(&REALM, realm.remainder());
            }
            0xa3 => principal(field, &SERVICE, notes)?,
            0xa9 => addresses(ber::expect(&mut field, SEQUENCE)?, notes),
            _ => {}
        }
    }
    Some(())
}

/// All parts of a principal's name, from the first to the last.
fn principal(mut field: Bytes<'_>, leak: &'static Leak, notes: &mut Notes<'_>) -> Option<()> {
    let mut name = ber::expect(&mut field, SEQUENCE)?;
    ber::element(&mut name)?;
    let (_, mut parts) = ber::element(&mut name)?;
    let mut parts = ber::expect(&mut parts, SEQUENCE)?;
    let (_, mut first) = ber::element(&mut parts)?;
    let mut span = first.remainder();
    while let Some((_, mut part)) = ber::element(&mut parts) {
        span.end = part.remainder().end;
    }
    notes.certain(leak, span);
    Some(())
}

fn addresses(mut list: Bytes<'_>, notes: &mut Notes<'_>) {
    while let Some(mut address) = ber::expect(&mut list, SEQUENCE) {
        let kind = ber::element(&mut address)
            .and_then(|(_, mut kind)| ber::expect(&mut kind, ber::INTEGER));
        let value = ber::element(&mut address)
            .and_then(|(_, mut value)| ber::expect(&mut value, ber::OCTETS));
        if let (Some(kind), Some(mut value)) = (kind, value)
            && kind.rest() == [NETBIOS]
        {
            notes.certain(&HOST, value.remainder());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::{found, told};
    use super::*;

    /// The version, the type, and a body with a client `alice` of the realm `EX`.
    const REQUEST: &[u8] = b"\x6a\x33\x30\x31\xa1\x03\x02\x01\x05\xa2\x03\x02\x01\x0a\xa4\x25\x30\x23\xa0\x07\x03\x05\x00\x40\x00\x00\x10\xa1\x12\x30\x10\xa0\x03\x02\x01\x01\xa1\x09\x30\x07\x1b\x05alice\xa2\x04\x1b\x02EX";

    #[test]
    fn the_client_of_a_request_is_told() {
        let told = found(read, REQUEST).unwrap();
        assert_eq!(&REQUEST[told[0].span.clone()], b"alice");
        assert_eq!(told[0].class, Class::PersonId);
        assert_eq!(told[1].leak, "kerberos.realm");
    }

    #[test]
    fn every_cut_is_no_kerberos() {
        for length in 0..REQUEST.len() {
            assert_eq!(found(read, &REQUEST[..length]), None);
        }
    }

    #[test]
    fn over_a_stream_a_length_precedes() {
        let stream = [&(REQUEST.len() as u32).to_be_bytes()[..], REQUEST].concat();
        assert_eq!(told(&stream).0[0], ("kerberos.client", "alice".to_owned()));
    }
}
