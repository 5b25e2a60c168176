//! What the kernel is told, and tells, about a packet beside its bytes: `struct virtio_net_hdr`
//! (virtio 1.2, section 5.1.6), 10 bytes in host byte order before every packet of a TUN with `IFF_VNET_HDR`.

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
