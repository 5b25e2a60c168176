//! Acknowledgements of many segments at once. The terminator lets its congestion window grow by a segment for each
//! acknowledgement, whatever that is of (RFC 5681, section 3.1); receivers send fewer and fewer. So one that is of many
//! segments is told as if each had been acknowledged alone, which counts bytes (RFC 3465).

use crate::packet::checksum::{self, Sum};
use crate::packet::{Parsed, Tcp, Transport};

/// Headers of a segment, at most: those of IP, with some extensions, and of TCP.
pub(super) const HEADERS: usize = 160;
/// Segments that are told of one acknowledgement.
const SEGMENTS: usize = 64;

/// What a peer has acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Acknowledged(Option<u32>);

impl Acknowledged {
    /// Takes note of a segment. Where it acknowledges more than one segment of ours, of `mss` bytes each, hands out
    /// segments without data that acknowledge all but the last of them, one after the other. `waiting` is how many bytes
    /// of ours are not yet acknowledged: more cannot be.
    pub(super) fn pieces(
        &mut self,
        bytes: &[u8],
        parsed: &Parsed,
        (mss, waiting): (usize, usize),
        mut each: impl FnMut(&mut [u8], &Parsed),
    ) {
        let Transport::Tcp(header) = parsed.transport else {
            return;
        };
        if header.flags & Tcp::ACK == 0 || header.flags & Tcp::RST != 0 {
            return;
        }
        let Some(before) = self.0 else {
            self.0 = Some(header.ack);
            return;
        };
        let new = header.ack.wrapping_sub(before) as usize;
        // Old ones, and what was never sent: the terminator knows what to do with them. Our FIN counts as a byte.
        if new > waiting + 1 {
            return;
        }
        self.0 = Some(header.ack);
        let mss = mss.max(1);
        let count = new.div_ceil(mss).min(SEGMENTS);
        let mut buffer = [0; HEADERS];
        let (Some(headers), true) = (bytes.get(..header.payload), count > 1) else {
            return;
        };
        let Some(piece) = buffer.get_mut(..headers.len()) else {
            return;
        };
        for number in 1..count {
            piece.copy_from_slice(headers);
            let ack = before.wrapping_add((number * mss) as u32);
            if let Some(parsed) = acknowledgement(piece, parsed, &header, ack) {
                each(piece, &parsed);
            }
        }
    }
}

/// Makes the headers of a segment an acknowledgement alone.
pub(super) fn acknowledgement(
    piece: &mut [u8],
    parsed: &Parsed,
    header: &Tcp,
    ack: u32,
) -> Option<Parsed> {
    let len = piece.len();
    let (at, said) = match parsed.src.is_ipv4() {
        true => (2, len),
        false => (4, len.checked_sub(40)?),
    };
    let said = u16::try_from(said).ok()?.to_be_bytes();
    piece.get_mut(at..at + 2)?.copy_from_slice(&said);
    if parsed.src.is_ipv4() {
        let ip = piece.get_mut(..parsed.ip_len)?;
        ip.get_mut(10..12)?.fill(0);
        let sum = Sum::of(ip).finish();
        checksum::put(ip, 10, sum);
    }
    let tcp = piece.get_mut(parsed.ip_len..)?;
    tcp.get_mut(8..12)?.copy_from_slice(&ack.to_be_bytes());
    let flags = tcp.get_mut(13)?;
    *flags &= !Tcp::FIN;
    let header = Tcp {
        ack,
        flags: *flags,
        ..*header
    };
    Some(Parsed {
        len,
        transport: Transport::Tcp(header),
        ..*parsed
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

    use super::*;
    use crate::packet::Checksum;

    /// No acknowledgement.
    const NONE: [u32; 0] = [];

    /// A segment with three bytes of data and a FIN, by either family.
    fn segment(ack: u32, v4: bool) -> Vec<u8> {
        let ip: &[u8] = match v4 {
            true => &[
                0x45, 0, 0, 43, 0, 0, 0, 0, 64, 6, 0, 0, 198, 51, 100, 1, 10, 9, 0, 2,
            ],
            false => &[
                0x60, 0, 0, 0, 0, 23, 6, 64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                1, 0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
            ],
        };
        let mut tcp = [
            0, 9, 0xc0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x11, 1, 0, 0, 0, 0, 0,
        ];
        tcp[8..12].copy_from_slice(&ack.to_be_bytes());
        let mut bytes = [ip, &tcp, b"abc"].concat();
        if v4 {
            let sum = Sum::of(&bytes[..20]).finish();
            checksum::put(&mut bytes, 10, sum);
        }
        bytes
    }

    fn pieces(acknowledged: &mut Acknowledged, ack: u32, waiting: usize, v4: bool) -> Vec<u32> {
        let bytes = segment(ack, v4);
        let parsed = Parsed::read(&bytes, Checksum::Trust).unwrap();
        let mut told = Vec::new();
        acknowledged.pieces(&bytes, &parsed, (1000, waiting), |piece, parsed| {
            // What is handed out is what reading it anew would give.
            assert_eq!(Parsed::read(piece, Checksum::Trust).unwrap(), *parsed);
            let Transport::Tcp(header) = parsed.transport else {
                panic!("it is no segment");
            };
            assert_eq!((header.payload, header.flags), (parsed.len, Tcp::ACK));
            told.push(header.ack);
        });
        told
    }

    #[test]
    fn an_acknowledgement_of_many_segments_is_told_one_by_one() {
        for v4 in [true, false] {
            let mut acknowledged = Acknowledged::default();
            let near_the_end = u32::MAX - 1500;
            assert_eq!(pieces(&mut acknowledged, near_the_end, 0, v4), NONE);
            let ack = near_the_end.wrapping_add(3500);
            let told = pieces(&mut acknowledged, ack, 10_000, v4);
            let wanted = [1000, 2000, 3000].map(|more| near_the_end.wrapping_add(more));
            assert_eq!(told, wanted);
            assert_eq!(
                pieces(&mut acknowledged, ack, 6500, v4),
                NONE,
                "the same again"
            );
            let next = ack.wrapping_add(1000);
            assert_eq!(
                pieces(&mut acknowledged, next, 6500, v4),
                NONE,
                "one segment"
            );
        }
    }

    #[test]
    fn what_was_never_sent_is_not_told() {
        let mut acknowledged = Acknowledged::default();
        pieces(&mut acknowledged, 1000, 0, true);
        assert_eq!(pieces(&mut acknowledged, 9000, 5000, true), NONE);
        assert_eq!(
            pieces(&mut acknowledged, 500, 5000, true),
            NONE,
            "an old one"
        );
        assert_eq!(pieces(&mut acknowledged, 3000, 5000, true), [2000]);
        let many = pieces(&mut acknowledged, 1_003_000, 2_000_000, true);
        assert_eq!(many.len(), SEGMENTS - 1);
    }
}
