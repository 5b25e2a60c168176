//! CoAP requests (RFC 7252): what they ask for, and the name of an endpoint (LwM2M registers with `ep=`).

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading, parameters, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const HOST: Leak = Leak::new("coap.host", Class::DestMeta, "host");
const ENDPOINT: Leak = Leak::new("coap.endpoint", Class::DeviceId, "endpoint name");

pub(super) const LEAKS: &[Leak] = &[HOST, ENDPOINT];

pub(super) const SHAPE: Shape = Shape::first(Set::range(0x40, 0x48).or(Set::range(0x50, 0x58)));

const URI_HOST: u32 = 3;
const URI_PATH: u32 = 11;
const URI_QUERY: u32 = 15;
/// Options with a number in the registry that a request may carry.
const KNOWN: [u32; 21] = [
    1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 19, 23, 27, 28, 35, 39, 60,
];

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    // Version 1, confirmable or not, a token of up to eight bytes; a method.
    let head = bytes.u8().filter(|head| head >> 5 == 2 && head & 15 <= 8)?;
    bytes.u8().filter(|code| (1..=7).contains(code))?;
    bytes.skip(2 + usize::from(head & 15))?;
    let (mut number, mut proved) = (0, false);
    while let Some(first) = bytes.u8() {
        if first == 0xff {
            bytes.peek()?;
            return proved.then_some(Reading::clear("coap"));
        }
        number += extended(first >> 4, &mut bytes)?;
        let length = extended(first & 15, &mut bytes)?;
        let span = bytes.span(length as usize)?;
        let value = bytes.slice(&span);
        if !KNOWN.contains(&number) {
            return None;
        }
        if [URI_HOST, URI_PATH, URI_QUERY].contains(&number) {
            if !text::is_text(value) {
                return None;
            }
            proved = true;
        }
        match number {
            URI_HOST => notes.certain(&HOST, span),
            URI_QUERY if value.starts_with(b"ep=") => {
                notes.certain(&ENDPOINT, span.start + 3..span.end)
            }
            URI_QUERY => parameters::query(value, span.start, notes),
            _ => {}
        }
    }
    proved.then_some(Reading::clear("coap"))
}

/// A nibble, or the bytes behind it (section 3.1).
fn extended(nibble: u8, bytes: &mut Bytes<'_>) -> Option<u32> {
    match nibble {
        13 => Some(u32::from(bytes.u8()?) + 13),
        14 => Some(u32::from(bytes.u16()?) + 269),
        15 => None,
        small => Some(u32::from(small)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn an_endpoint_name_is_a_device() {
        let told = found(read, b"\x41\x02\x00\x07t\xb2rd\x47ep=n-17\x05lt=30\xffx").unwrap();
        assert_eq!(told[0].leak, "coap.endpoint");
    }

    #[test]
    fn without_a_path_or_with_unknown_options_it_is_not_told() {
        assert_eq!(found(read, b"\x40\x01\x00\x07"), None);
        assert_eq!(found(read, b"\x40\x01\x00\x07\xa1x"), None);
        assert_eq!(
            found(read, b"\x40\x01\x00\x07\xb2rd\xff"),
            None,
            "a payload mark without payload"
        );
    }
}
