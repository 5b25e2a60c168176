//! What the kernel is told, and tells, about a packet beside its bytes: `struct virtio_net_hdr`
//! (virtio 1.2, section 5.1.6), 10 bytes in host byte order before every packet of a TUN with `IFF_VNET_HDR`.
use super::Checksum;

/// Length of the header in bytes.
pub const LEN: usize = 10;

/// Into which segments the kernel is to cut a super-packet, or has merged one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// One ordinary packet.
    #[default]
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of equal size, the last may be shorter.
    UdpL4,
}

/// The offload metadata of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum covers only the pseudo header; the kernel completes it (`NEEDS_CSUM`).
    pub partial_checksum: bool,
    /// The device vouches for the checksum (`DATA_VALID`).
    pub verified: bool,
    /// How the packet is to be cut.
    pub gso: Gso,
    /// Payload bytes of one segment; 0 without [`Gso`].
    pub gso_size: u16,
    /// Bytes of all headers; 0 without [`Gso`].
    pub header_len: u16,
    /// Where the checksummed part begins, bytes from the start of the packet.
    pub checksum_start: u16,
    /// Where the checksum field lies, bytes from `checksum_start`.
    pub checksum_offset: u16,
}

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`.
const DATA_VALID: u8 = 2;

impl Offload {
    /// Reads the header before a packet that the kernel handed out. `None` if there are fewer than [`LEN`] bytes, or if
    /// the packet is to be cut in a way this device never agreed to.
    ///
    /// Do not trust `header_len` as read here: it may be the whole linear part of the kernel's buffer. Who needs the
    /// length of the headers takes it from [`Parsed`](super::Parsed).
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [flags, gso, h0, h1, s0, s1, c0, c1, o0, o1] = *bytes.first_chunk::<LEN>()?;
        Some(Self {
            partial_checksum: flags & NEEDS_CSUM != 0,
            verified: flags & DATA_VALID != 0,
            gso: Gso::of(gso)?,
            gso_size: u16::from_ne_bytes([s0, s1]),
            header_len: u16::from_ne_bytes([h0, h1]),
            checksum_start: u16::from_ne_bytes([c0, c1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// The header to put before a packet that goes to the kernel.
    pub fn encode(&self) -> [u8; LEN] {
        let mut flags = 0;
        if self.partial_checksum {
            flags |= NEEDS_CSUM;
        }
        if self.verified {
            flags |= DATA_VALID;
        }
        let [h0, h1] = self.header_len.to_ne_bytes();
        let [s0, s1] = self.gso_size.to_ne_bytes();
        let [c0, c1] = self.checksum_start.to_ne_bytes();
        let [o0, o1] = self.checksum_offset.to_ne_bytes();
        [flags, self.gso.number(), h0, h1, s0, s1, c0, c1, o0, o1]
    }

    /// How [`Parsed::read`](super::Parsed::read) has to treat the transport checksum of this packet.
    pub fn checksum(&self) -> Checksum {
        if self.partial_checksum || self.verified {
            Checksum::Trust
        } else {
            Checksum::Verify
        }
    }
}

impl Gso {
    /// From `VIRTIO_NET_HDR_GSO_*`. Whole-datagram UDP fragmentation (3) and the ECN bit (0x80) were never agreed to.
    fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::TcpV4),
            4 => Some(Self::TcpV6),
            5 => Some(Self::UdpL4),
            _ => None,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::TcpV4 => 1,
            Self::TcpV6 => 4,
            Self::UdpL4 => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_the_way_to_the_kernel_and_back() {
        for gso in [Gso::None, Gso::TcpV4, Gso::TcpV6, Gso::UdpL4] {
            for (partial_checksum, verified) in [(false, false), (true, false), (false, true)] {
                let offload = Offload {
                    partial_checksum,
                    verified,
                    gso,
                    gso_size: 1448,
                    header_len: 66,
                    checksum_start: 20,
                    checksum_offset: 16,
                };
                assert_eq!(Offload::decode(&offload.encode()), Some(offload));
            }
        }
        assert_eq!(Offload::default().encode(), [0; LEN]);
    }

    #[test]
    fn the_layout_is_the_kernels() {
        let offload = Offload {
            partial_checksum: true,
            verified: false,
            gso: Gso::TcpV6,
            gso_size: 0x0102,
            header_len: 0x0304,
            checksum_start: 0x0506,
            checksum_offset: 0x0708,
        };
        let mut expected = vec![1, 4];
        for field in [0x0304u16, 0x0102, 0x0506, 0x0708] {
            expected.extend(field.to_ne_bytes());
        }
        assert_eq!(offload.encode().as_slice(), expected);
    }

    #[test]
    fn a_short_header_and_an_unknown_kind_of_cutting_are_refused() {
        assert_eq!(Offload::decode(&[0; LEN - 1]), None);
        for kind in [2, 3, 6, 0x80, 0x81] {
            assert_eq!(Offload::decode(&[0, kind, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        }
    }

    #[test]
    fn only_a_packet_nobody_vouches_for_is_verified() {
        let plain = Offload::default();
        assert_eq!(plain.checksum(), Checksum::Verify);
        let partial = Offload {
            partial_checksum: true,
            ..plain
        };
        let verified = Offload {
            verified: true,
            ..plain
        };
        assert_eq!(partial.checksum(), Checksum::Trust);
        assert_eq!(verified.checksum(), Checksum::Trust);
    }
}
