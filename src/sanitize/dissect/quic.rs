//! QUIC (RFC 9000): the server name in the client hello that an Initial packet carries.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::payload::hello::ClientHello;
use crate::payload::quic::{LONGEST, Packet, crypto};
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::Leak;
use std::ops::Range;

const SERVER_NAME: Leak = Leak::new("quic.server-name", Class::DestMeta, "server name");

const SOFTWARE: Leak = Leak::new("quic.software", Class::Software, "software");

pub(super) const LEAKS: &[Leak] = &[SERVER_NAME, SOFTWARE];

/// A long header, and the last byte of a known version.
pub(super) const SHAPE: Shape =
    Shape::first(Set::range(0xc0, 0xff)).fifth(Set::of(&[1, 0xcf]).or(Set::range(0x1b, 0x22)));

/// A public header with a version and a connection id, or a long header.
pub(super) const SHAPE_GOOGLE: Shape = Shape::first(
    Set::of(&[
        0x09, 0x0b, 0x0d, 0x0f, 0x19, 0x1b, 0x1d, 0x1f, 0x29, 0x2b, 0x2d, 0x2f, 0x39, 0x3b, 0x3d,
        0x3f,
    ])
    .or(Set::range(0xc0, 0xff)),
);

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let packet = Packet::first(payload)?;
    let mut plain = [0; LONGEST];
    // What cannot be opened is a server's Initial, or a client's with a connection id chosen by the server.
    if packet.initial
        && let Some(frames) = packet.open(&mut plain)
    {
        let mut hello = [0; LONGEST];
        let reach = assemble(frames, &mut hello);
        let hello = hello.get(..reach).unwrap_or_default();
        tell(hello, 0..packet.bytes.len(), notes);
    }
    Some(Reading::sealed("quic"))
}

/// Google's QUIC of before the standard: versions `Q0nn`, and `T05n` with the standard's packets and a salt of its own.
/// Until version 46 the client hello's tags are in the clear (QUIC Crypto, "Handshake message format").
pub(super) fn read_google(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    /// The tags follow the header and a frame's beginning.
    const REACH: usize = 96;
    let version = match payload.first()? {
        0xc0.. => payload.get(1..5)?,
        flags if flags & 0xc9 == 0x09 => payload.get(9..13)?,
        _ => return None,
    };
    let [b'Q' | b'T', b'0', b'0'..=b'9', b'0'..=b'9'] = version else {
        return None;
    };
    let head = payload.get(..REACH).unwrap_or(payload);
    if let Some(at) = memchr::memmem::find(head, b"CHLO") {
        tags(payload, at + b"CHLO".len(), notes);
    }
    Some(Reading::sealed("quic"))
}

/// Number of tags, padding; each tag with where its value ends; the values.
fn tags(payload: &[u8], start: usize, notes: &mut Notes<'_>) -> Option<()> {
    let mut bytes = Bytes::new(payload);
    bytes.skip(start)?;
    let count = usize::from(bytes.u16_le()?);
    bytes.skip(2)?;
    let values = bytes.position() + count * 8;
    let mut from = values;
    for _ in 0..count {
        let tag: [u8; 4] = bytes.array()?;
        let to = values.saturating_add(bytes.u32_le()? as usize);
        let leak: Option<&'static Leak> = match &tag {
            b"SNI\0" => Some(&SERVER_NAME),
            b"UAID" => Some(&SOFTWARE),
            _ => None,
        };
        if let Some(leak) = leak
            && payload.get(from..to).is_some()
        {
            notes.certain(leak, from..to);
        }
        from = to.max(from);
    }
    Some(())
}

/// Puts the pieces of the client hello that this packet carries in their places; returns how far they reach.
fn assemble(frames: &[u8], hello: &mut [u8; LONGEST]) -> usize {
    let mut reach = 0;
    for (offset, piece) in crypto(frames) {
        let Some(offset) = usize::try_from(offset).ok() else {
            continue;
        };
        let end = offset.saturating_add(piece.len());
        if let Some(place) = hello.get_mut(offset..end) {
            place.copy_from_slice(piece);
            reach = reach.max(end);
        }
    }
    reach
}

/// Tells the server name. It lies encrypted in the packet, so its place is the packet.
fn tell(hello: &[u8], packet: Range<usize>, notes: &mut Notes<'_>) {
    let mut bytes = Bytes::new(hello);
    let (Some(1), Some(_)) = (bytes.u8(), bytes.u24()) else {
        return;
    };
    if let Some(name) = ClientHello::read(bytes, false).server_name {
        let value = hello.get(name).unwrap_or_default();
        notes.decoded(&SERVER_NAME, Certainty::Certain, packet, value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;
    use crate::payload::hello::samples::{message, server_name};
    use crate::payload::quic::samples::{VERSION_COUNT, frames, initial};

    #[test]
    fn the_server_name_is_told_in_both_versions_however_the_hello_is_cut() {
        let hello = message(&[(0, &server_name(b"example.com"))]);
        let (head, tail) = hello.split_at(40);
        for version in 0..VERSION_COUNT {
            let packet = initial(version, &frames(&[(40, tail), (0, head)], 1000));
            let told = found(read, &packet).unwrap();
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].sample, "e…om");
            assert_eq!(told[0].class, Class::DestMeta);
        }
    }

    #[test]
    fn the_tags_of_a_hello_in_the_clear_are_told() {
        let mut hello = b"\x0d01234567Q043\x01hash-of-twelve\xa0\x01CHLO\x03\0\0\0".to_vec();
        for (tag, end) in [(b"SNI\0", 11_u32), (b"VER\0", 15), (b"UAID", 21)] {
            hello.extend(tag);
            hello.extend(end.to_le_bytes());
        }
        hello.extend(b"example.comQ043Chrome");
        let told = found(read_google, &hello).unwrap();
        let told: Vec<_> = told
            .iter()
            .map(|f| (f.leak, &hello[f.span.clone()]))
            .collect();
        assert_eq!(
            told,
            [
                ("quic.server-name", &b"example.com"[..]),
                ("quic.software", b"Chrome")
            ]
        );
        assert_eq!(found(read_google, b"\x0d01234567Z043"), None);
        for length in 0..hello.len() {
            let _ = found(read_google, &hello[..length]);
        }
    }

    #[test]
    fn a_broken_tag_tells_nothing() {
        let hello = message(&[(0, &server_name(b"example.com"))]);
        let mut packet = initial(0, &frames(&[(0, &hello)], 1000));
        packet[600] ^= 1;
        assert_eq!(found(read, &packet), Some(vec![]));
        packet[4] = 0x99;
        assert_eq!(found(read, &packet), None, "unknown version");
    }
}
