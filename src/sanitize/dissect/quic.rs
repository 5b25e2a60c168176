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

pub(super) const LEAKS: &[Leak] = &[SERVER_NAME];

/// A long header, and the last byte of a known version.
pub(super) const SHAPE: Shape = Shape::first(Set::range(0xc0, 0xff)).fifth(Set::of(&[1, 0xcf]));

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
    fn a_broken_tag_tells_nothing() {
        let hello = message(&[(0, &server_name(b"example.com"))]);
        let mut packet = initial(0, &frames(&[(0, &hello)], 1000));
        packet[600] ^= 1;
        assert_eq!(found(read, &packet), Some(vec![]));
        packet[4] = 9;
        assert_eq!(found(read, &packet), None, "unknown version");
    }
}
