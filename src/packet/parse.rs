//! Reading one packet.
use std::net::IpAddr;

/// Whether the transport checksum still has to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Nobody has: verify it, and refuse the packet if it is wrong.
    Verify,
    /// The kernel owns it (partial) or has verified it.
    Trust,
}

/// Why a packet is not taken. Each has a stable name for counters and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Shorter than its own headers say, or empty.
    Truncated,
    // … version, length, header checksum, transport checksum, source routing option, routing header, jumbogram,
    // unknown extension header, too many extension headers, tiny first fragment, fragment beyond 64 KiB, …
}

/// One packet, read and checked once. All offsets are bytes from the start of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Transport protocol number (after all extension headers).
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Length of the IP header with options and extension headers: where the transport header begins.
    pub ip_len: usize,
    /// Length of the whole packet. Bytes behind it (padding) are not part of it.
    pub len: usize,
    /// What it carries.
    pub transport: Transport,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp(Tcp),
    /// A UDP datagram.
    Udp(Udp),
    /// An ICMP or ICMPv6 echo request.
    EchoRequest(Echo),
    /// An ICMP or ICMPv6 echo reply.
    EchoReply(Echo),
    /// An ICMP error that quotes a packet.
    IcmpError(IcmpError),
    /// A fragment; not read further before it has been reassembled.
    Fragment(Fragment),
    /// Any other protocol, or any other ICMP message.
    Other,
}

/// A TCP header (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The flag byte: CWR ECE URG ACK PSH RST SYN FIN.
    pub flags: u8,
    /// Where the data begins.
    pub payload: usize,
}

/// A UDP header (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Where the data begins.
    pub payload: usize,
}

/// An echo message (RFC 792; RFC 4443, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Identifier.
    pub id: u16,
    /// Sequence number.
    pub seq: u16,
    /// Where the data begins.
    pub payload: usize,
}

/// An ICMP error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Where the quoted packet begins.
    pub quoted: usize,
}

/// A fragment (RFC 791, section 3.2; RFC 8200, section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Offset of its first byte in the datagram.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Where its data begins.
    pub payload: usize,
}

impl Tcp {
    /// FIN flag.
    pub const FIN: u8 = 0x01;
    /// SYN flag.
    pub const SYN: u8 = 0x02;
    /// RST flag.
    pub const RST: u8 = 0x04;
    /// ACK flag.
    pub const ACK: u8 = 0x10;
}

impl Parsed {
    /// Reads and checks one IPv4 or IPv6 packet.
    ///
    /// # Errors
    /// [`Malformed`] says which check failed; such a packet goes nowhere.
    pub fn read(_bytes: &[u8], _checksum: Checksum) -> Result<Self, Malformed> {
        todo!()
    }

    /// The data behind the transport header, of the packet this was read from.
    pub fn payload<'a>(&self, _bytes: &'a [u8]) -> &'a [u8] {
        todo!()
    }
}
