//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).
use super::{Gso, Offload};
use std::net::IpAddr;

/// A ones' complement sum under way, in the machine's own byte order (RFC 1071, section 2 (B): only the result needs
/// to be swapped).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes` as 16-bit words; an odd last byte is padded with zero.
    pub fn of(bytes: &[u8]) -> Self {
        Self::default().bytes(bytes)
    }

    /// The pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1) for `len` bytes of transport header and data.
    /// Both addresses are of one family.
    pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Self {
        let len = len as u64;
        Self::default()
            .address(src)
            .address(dst)
            .word(u16::from(protocol))
            .word((len >> 16) as u16)
            .word(len as u16)
    }

    /// Adds bytes that begin at an even offset of what is summed.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Eight independent lanes of 32-bit words: the compiler makes vectors of them, and 64 bits cannot overflow.
        let (chunks, rest) = bytes.as_chunks::<32>();
        let mut lanes = [0u64; 8];
        for chunk in chunks {
            for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<4>().0) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (words, tail) = rest.as_chunks::<4>();
        let rest: u64 = words
            .iter()
            .map(|w| u64::from(u32::from_ne_bytes(*w)))
            .sum();
        let tail = match *tail {
            [a] => u32::from_ne_bytes([a, 0, 0, 0]),
            [a, b] => u32::from_ne_bytes([a, b, 0, 0]),
            [a, b, c] => u32::from_ne_bytes([a, b, c, 0]),
            _ => 0,
        };
        self.plus(lanes.iter().sum())
            .plus(rest)
            .plus(u64::from(tail))
    }

    /// Adds one 16-bit word, given as a number.
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        self.plus(u64::from(u16::from_ne_bytes(word.to_be_bytes())))
    }

    /// The sum folded to 16 bits, not complemented: what a partial checksum field holds.
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be_bytes((sum as u16).to_ne_bytes())
    }

    /// The checksum: the complement of the folded sum.
    pub fn finish(self) -> u16 {
        !self.fold()
    }

    /// True if the summed bytes, their checksum field among them, are intact.
    pub fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.bytes(&v4.octets()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    /// End-around carry at 64 bits keeps the value modulo 2^16 - 1.
    fn plus(self, more: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(more);
        Self(sum + u64::from(carry))
    }
}

/// The checksum after one 16-bit word it covers was changed from `old` to `new` (RFC 1624, equation 3).
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().word(!checksum).word(!old).word(new).finish()
}

/// Completes a partial transport checksum, for a link that cannot. Does nothing to a packet whose checksum is not
/// partial. False, and nothing done, if the metadata asks for segmentation (each segment has a checksum of its own) or
/// does not fit the packet.
pub fn complete(bytes: &mut [u8], offload: &mut Offload) -> bool {
    if !offload.partial_checksum {
        return true;
    }
    if offload.gso != Gso::None {
        return false;
    }
    let start = usize::from(offload.checksum_start);
    let Some(covered) = bytes.get_mut(start..) else {
        return false;
    };
    // The field holds the folded pseudo header, so that the sum over everything is the whole sum.
    let sum = Sum::of(covered).finish();
    // Zero means "no checksum" in UDP; 0xffff is the same number (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    if !put(covered, usize::from(offload.checksum_offset), sum) {
        return false;
    }
    *offload = Offload::default();
    true
}

/// Writes a 16-bit number in network order; false if it does not fit.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: u16) -> bool {
    match bytes.get_mut(at..).and_then(|b| b.first_chunk_mut()) {
        Some(field) => {
            *field = value.to_be_bytes();
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::of(&bytes).finish(), !0xddf2);
    }

    #[test]
    fn the_sum_does_not_depend_on_how_the_bytes_are_cut_at_even_offsets() {
        let bytes: Vec<u8> = (0..1500u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for len in [0, 1, 2, 3, 31, 32, 33, 35, 64, 127, 1459, 1500] {
            let bytes = &bytes[..len];
            let plain = bytes.chunks(2).fold(0u32, |sum, pair| {
                let sum = sum
                    + u32::from(u16::from_be_bytes([
                        pair[0],
                        pair.get(1).copied().unwrap_or(0),
                    ]));
                (sum & 0xffff) + (sum >> 16)
            });
            assert_eq!(u32::from(Sum::of(bytes).fold()), plain, "{len} bytes");
            let (head, tail) = bytes.split_at(len / 2 / 2 * 2);
            assert_eq!(Sum::of(head).bytes(tail).fold(), Sum::of(bytes).fold());
        }
    }

    #[test]
    fn all_ones_do_not_overflow() {
        assert_eq!(Sum::of(&[0xff; 65_535]).fold(), 0xff00);
        assert_eq!(Sum(u64::MAX).plus(u64::MAX).fold(), 0xffff);
    }

    #[test]
    fn the_pseudo_header_counts_addresses_protocol_and_length() {
        let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 9));
        let by_hand = Sum::of(&[192, 0, 2, 1, 198, 51, 100, 9, 0, 17, 0x12, 0x34]);
        assert_eq!(
            Sum::pseudo_header(a.into(), b.into(), 17, 0x1234).fold(),
            by_hand.fold()
        );
        let c = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let by_hand = Sum::of(&c.octets())
            .bytes(&c.octets())
            .bytes(&[0, 1, 0, 2, 0, 0, 0, 6]);
        assert_eq!(
            Sum::pseudo_header(c.into(), c.into(), 6, 0x1_0002).fold(),
            by_hand.fold()
        );
    }

    #[test]
    fn the_example_of_rfc_1624_does_not_give_minus_zero() {
        // Section 4: 0xdd2f, 0x5555 becoming 0x3285, must give 0x0000 and not 0xffff.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn a_partial_checksum_is_completed_once_and_never_to_zero() {
        let mut bytes = [0xff, 0xff, 0, 0, 0, 0];
        let mut offload = Offload {
            partial_checksum: true,
            checksum_start: 0,
            checksum_offset: 4,
            ..Offload::default()
        };
        assert!(complete(&mut bytes, &mut offload));
        assert_eq!(bytes, [0xff, 0xff, 0, 0, 0xff, 0xff]);
        assert_eq!(offload, Offload::default());
        assert!(complete(&mut bytes, &mut offload));
        assert_eq!(bytes, [0xff, 0xff, 0, 0, 0xff, 0xff]);
    }

    #[test]
    fn metadata_that_does_not_fit_leaves_the_packet_alone() {
        let partial = Offload {
            partial_checksum: true,
            ..Offload::default()
        };
        let mut bytes = [1, 2, 3, 4];
        for offload in [
            Offload {
                checksum_start: 5,
                ..partial
            },
            Offload {
                checksum_offset: 3,
                ..partial
            },
            Offload {
                gso: Gso::UdpL4,
                gso_size: 2,
                ..partial
            },
        ] {
            let mut given = offload;
            assert!(!complete(&mut bytes, &mut given));
            assert_eq!((bytes, given), ([1, 2, 3, 4], offload));
        }
    }
}
