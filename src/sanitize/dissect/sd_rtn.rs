//! The hello of Agora's SD-RTN, the network for live audio and video.
//!
//! There is no published specification; the layout was read from captures. Byte 0 is 0 in the handshake, byte 1 counts
//! packets, bytes 2-3 are the sender's connection id, byte 6 the type (0x21 client, 0x23 server hello), bytes 8-11 the
//! peer's count and id. Byte 12 is the number of tags that follow: four characters, a 16-bit little-endian length, the
//! value. The tags end with the datagram, which is the proof.
//!
//! The tags known here tell the edge server's own address spelt out, key exchange, and hashes of cached certificates
//! (alike for many users). Earlier generations carried user and channel in the clear; any other tag is therefore told
//! as an identifier.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const SERVER: Leak = Leak::new("sd-rtn.server", Class::DestMeta, "server name");
const IDENTIFIER: Leak = Leak::new("sd-rtn.identifier", Class::PersonId, "undocumented tag");

pub(super) const LEAKS: &[Leak] = &[SERVER, IDENTIFIER];

pub(super) const SHAPE: Shape = Shape::first(Set::of(&[0]));

const CLIENT_HELLO: u8 = 0x21;
const SERVER_HELLO: u8 = 0x23;
/// Server name, padding, crypto options, cached certificates; the server's peer id, proof and certificate.
const KNOWN: [&[u8; 4]; 7] = [
    b"SNI\0", b"PDMD", b"CPTO", b"CCRT", b"PEID", b"PROF", b"CRT\xff",
];

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    let [0, _, _, _, _, _, CLIENT_HELLO | SERVER_HELLO, _, _, _, _, _] = bytes.array::<12>()?
    else {
        return None;
    };
    let count = bytes.u8()?;
    let mut known = 0;
    for _ in 0..count {
        let tag = bytes.array::<4>()?;
        let length = bytes.u16_le()?;
        let span = bytes.span(usize::from(length))?;
        if !is_tag(tag) {
            return None;
        }
        if &tag == b"SNI\0" {
            notes.certain(&SERVER, span);
            known += 1;
        } else if KNOWN.contains(&&tag) {
            known += 1;
        } else if !span.is_empty() {
            notes.probable(&IDENTIFIER, span);
        }
    }
    // One tag of the family, or the walk proves too little.
    (known > 0 && bytes.is_empty()).then_some(Reading::clear("sd-rtn"))
}

/// Capital letters and digits, padded with zeros or 0xff.
fn is_tag(tag: [u8; 4]) -> bool {
    let [first, rest @ ..] = tag;
    first.is_ascii_uppercase()
        && rest.iter().all(|byte| {
            byte.is_ascii_uppercase() || byte.is_ascii_digit() || [0, 0xff].contains(byte)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sanitize::class::Certainty;
    use crate::sanitize::finding::Finding;

    fn hello(tags: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0x38, 0x4c, 0, 0, CLIENT_HELLO, 0, 0, 0, 0, 0];
        bytes.push(tags.len() as u8);
        for (tag, value) in tags {
            bytes.extend(*tag);
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend(*value);
        }
        bytes
    }

    fn found(payload: &[u8]) -> Option<Vec<Finding>> {
        let mut found = Vec::new();
        read(payload, &mut Notes::new(payload, &mut found)).map(|_| found)
    }

    #[test]
    fn the_server_name_is_told_with_its_place() {
        let payload = hello(&[
            (b"SNI\0", b"23-248-186-179.edge.agora.io"),
            (b"PDMD", b""),
            (b"CCRT", &[7; 40]),
        ]);
        let found = found(&payload).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].leak, "sd-rtn.server");
        assert_eq!(found[0].class, Class::DestMeta);
        assert_eq!(
            &payload[found[0].span.clone()],
            b"23-248-186-179.edge.agora.io"
        );
    }

    #[test]
    fn an_undocumented_tag_is_an_identifier() {
        let payload = hello(&[(b"SNI\0", b"edge.agora.io"), (b"UID\0", b"512345687")]);
        let found = found(&payload).unwrap();
        assert_eq!(found[1].leak, "sd-rtn.identifier");
        assert_eq!(found[1].certainty, Certainty::Probable);
        assert_eq!(found[1].sample, "5…87");
    }

    #[test]
    fn any_number_of_tags_is_walked_to_the_exact_end() {
        let mut payload = hello(&[(b"SNI\0", b"a.agora.io")]);
        assert!(found(&payload).is_some());
        payload.push(0);
        assert_eq!(found(&payload), None, "a byte too many");
        payload.truncate(payload.len() - 2);
        assert_eq!(found(&payload), None, "a byte too few");
        assert_eq!(found(&hello(&[])), None, "no tags");
        assert_eq!(
            found(&hello(&[(b"ABCD", b"x")])),
            None,
            "none of the family"
        );
        assert_eq!(found(&hello(&[(b"sni\0", b"x")])), None, "not a tag");
    }
}
