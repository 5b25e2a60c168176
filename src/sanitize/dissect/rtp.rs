//! RTP with header extensions (RFC 3550, RFC 8285): recognised by the walk of its extensions. The audio level among
//! them (RFC 6464) tells an observer who speaks; which element it is was agreed elsewhere, so nothing is told.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::finding::Leak;

pub(super) const LEAKS: &[Leak] = &[];

pub(super) const SHAPE: Shape = Shape::first(Set::range(0x90, 0x9f).or(Set::range(0xb0, 0xbf)));

const ONE_BYTE: u16 = 0xbede;

pub(super) fn read(payload: &[u8], _: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    // Version 2, with an extension.
    let head = bytes.u8().filter(|head| head & 0xd0 == 0x90)?;
    bytes.skip(11 + 4 * usize::from(head & 15))?;
    let profile = bytes.u16()?;
    let words = bytes.u16()?;
    let mut elements = bytes.sub(usize::from(words) * 4)?;
    if words == 0 || (profile != ONE_BYTE && profile >> 4 != 0x100) {
        return None;
    }
    while let Some(first) = elements.u8() {
        match (first, profile) {
            (0, _) => {}
            (_, ONE_BYTE) => elements.skip(usize::from(first & 15) + 1)?,
            _ => {
                let length = elements.u8()?;
                elements.skip(usize::from(length))?;
            }
        }
    }
    Some(Reading::clear("rtp"))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn extensions_must_walk_to_their_end() {
        let mut packet = vec![
            0x90, 0x6f, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 0xbe, 0xde, 0, 1, 0x10, 0x85, 0, 0, 9, 9,
        ];
        assert_eq!(found(read, &packet), Some(vec![]));
        packet[16] = 0x1f;
        assert_eq!(found(read, &packet), None);
    }
}
