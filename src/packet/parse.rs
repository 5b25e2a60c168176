//! Reading one packet.
use super::checksum::Sum;
use super::protocol;
use std::net::IpAddr;

mod ip;

pub(super) use ip::IPV6_LEN;
use ip::Ip;

/// Whether the transport checksum still has to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Nobody has: verify it, and refuse the packet if it is wrong.
    Verify,
    /// The kernel owns it (partial) or has verified it.
    Trust,
}

/// The longest packet there is, in bytes: an IPv4 total length (RFC 791, section 3.1), and the same for IPv6, so that
/// every offset fits 16 bits.
pub const MAX_LEN: usize = 65_535;

/// Why a packet is not taken. Each has a stable name for counters and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Shorter than its own headers say, or empty.
    Truncated,
    /// Neither IPv4 nor IPv6.
    Version,
    /// The IPv4 header length is below 20 bytes, or above the total length.
    HeaderLength,
    /// An IPv6 packet beyond [`MAX_LEN`].
    TooLong,
    /// The IPv4 header checksum is wrong.
    HeaderChecksum,
    /// An IPv4 option of loose or strict source routing (RFC 7126, sections 4.3 and 4.4).
    SourceRoute,
    /// Any IPv4 or IPv6 option but padding and router alert, or a broken one.
    IpOption,
    /// An IPv6 routing header of any type (RFC 5095).
    RoutingHeader,
    /// An IPv6 jumbogram (RFC 2675).
    Jumbogram,
    /// A hop-by-hop header that is not the first, or a second fragment header (RFC 8200, section 4.1).
    ExtensionOrder,
    /// More than 8 IPv6 extension headers.
    ExtensionCount,
    /// A first fragment that does not hold all headers (RFC 1858; RFC 7112).
    TinyFragment,
    /// A fragment without data, or one that is not the last and no multiple of 8 bytes long (RFC 8200, section 4.5).
    FragmentLength,
    /// A fragment that would end beyond [`MAX_LEN`].
    FragmentBeyond,
    /// The source is multicast, broadcast or unspecified (RFC 1122, section 3.2.1.3; RFC 4291, section 2.7).
    Source,
    /// The destination is unspecified (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.2).
    Destination,
    /// Source and destination are the same address (the "land" attack).
    Land,
    /// The TCP data offset is below 20 bytes or beyond the segment.
    TcpHeader,
    /// TCP flags no state machine sends: SYN with FIN or RST, or none of SYN, ACK and RST.
    TcpFlags,
    /// The UDP length is not the length of the IP payload.
    UdpLength,
    /// UDP over IPv6 without a checksum (RFC 8200, section 8.1).
    UdpUnchecked,
    /// The transport checksum is wrong.
    TransportChecksum,
}

/// One packet, read and checked once. All offsets are bytes from the start of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Transport protocol number (after all extension headers). Of an IPv6 fragment: what its fragment header names, which
    /// may be another extension header.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Length of the IP header with options and extension headers: where the transport header begins. Of a fragment: where
    /// its data begins.
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

/// A fragment (RFC 791, section 3.2; RFC 8200, section 4.5). An IPv6 packet with a fragment header is one even if it is
/// whole ("atomic", RFC 6946); the reassembler gives it back at once, without that header.
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

impl Malformed {
    /// The stable name, for counters and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Version => "ip-version",
            Self::HeaderLength => "ip-header-length",
            Self::TooLong => "too-long",
            Self::HeaderChecksum => "ip-checksum",
            Self::SourceRoute => "source-route",
            Self::IpOption => "ip-option",
            Self::RoutingHeader => "routing-header",
            Self::Jumbogram => "jumbogram",
            Self::ExtensionOrder => "extension-order",
            Self::ExtensionCount => "extension-count",
            Self::TinyFragment => "tiny-fragment",
            Self::FragmentLength => "fragment-length",
            Self::FragmentBeyond => "fragment-beyond-64k",
            Self::Source => "source-address",
            Self::Destination => "destination-address",
            Self::Land => "source-is-destination",
            Self::TcpHeader => "tcp-header",
            Self::TcpFlags => "tcp-flags",
            Self::UdpLength => "udp-length",
            Self::UdpUnchecked => "udp-unchecked",
            Self::TransportChecksum => "transport-checksum",
        }
    }
}

impl Parsed {
    /// Reads and checks one IPv4 or IPv6 packet. `bytes` may be longer than the packet.
    ///
    /// # Errors
    /// [`Malformed`] says which check failed; such a packet goes nowhere.
    pub fn read(bytes: &[u8], checksum: Checksum) -> Result<Self, Malformed> {
        let ip = Ip::read(bytes)?;
        let transport = match ip.fragment {
            Some(fragment) => Transport::Fragment(fragment),
            None => transport(&ip, checksum)?,
        };
        Ok(Self {
            src: ip.src,
            dst: ip.dst,
            protocol: ip.protocol,
            hop_limit: ip.hop_limit,
            ip_len: ip.ip_len,
            len: ip.packet.len(),
            transport,
        })
    }

    /// The data behind the transport header, of the packet this was read from: of a fragment its data, of an ICMP error
    /// the quoted packet, of anything else all behind the IP header. Empty if `bytes` is shorter than that packet.
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let at = match self.transport {
            Transport::Tcp(tcp) => tcp.payload,
            Transport::Udp(udp) => udp.payload,
            Transport::EchoRequest(echo) | Transport::EchoReply(echo) => echo.payload,
            Transport::IcmpError(error) => error.quoted,
            Transport::Fragment(fragment) => fragment.payload,
            Transport::Other => self.ip_len,
        };
        bytes.get(at..self.len).unwrap_or_default()
    }
}

fn transport(ip: &Ip<'_>, checksum: Checksum) -> Result<Transport, Malformed> {
    let segment = ip.body();
    let transport = match (ip.protocol, ip.src) {
        (protocol::TCP, _) => tcp(segment, ip.ip_len)?,
        (protocol::UDP, _) => udp(segment, ip.ip_len)?,
        (protocol::ICMP, IpAddr::V4(_)) => icmp(segment, ip.ip_len)?,
        (protocol::ICMPV6, IpAddr::V6(_)) => icmpv6(segment, ip.ip_len)?,
        _ => return Ok(Transport::Other),
    };
    if ip.protocol == protocol::UDP && matches!(segment, [_, _, _, _, _, _, 0, 0, ..]) {
        return match ip.src {
            IpAddr::V4(_) => Ok(transport),
            IpAddr::V6(_) => Err(Malformed::UdpUnchecked),
        };
    }
    if checksum == Checksum::Verify {
        let sum = if ip.protocol == protocol::ICMP {
            Sum::default()
        } else {
            Sum::pseudo_header(ip.src, ip.dst, ip.protocol, segment.len())
        };
        if !sum.bytes(segment).is_valid() {
            return Err(Malformed::TransportChecksum);
        }
    }
    Ok(transport)
}

/// RFC 9293, section 3.1. `at` is where the segment begins in its packet, here and below.
fn tcp(segment: &[u8], at: usize) -> Result<Transport, Malformed> {
    let [
        s0,
        s1,
        d0,
        d1,
        q0,
        q1,
        q2,
        q3,
        a0,
        a1,
        a2,
        a3,
        offset,
        flags,
        ..,
    ] = *segment.first_chunk::<20>().ok_or(Malformed::Truncated)?;
    let len = usize::from(offset >> 4) * 4;
    if len < 20 || len > segment.len() {
        return Err(Malformed::TcpHeader);
    }
    let (syn, fin_or_rst) = (flags & Tcp::SYN != 0, flags & (Tcp::FIN | Tcp::RST) != 0);
    if (syn && fin_or_rst) || flags & (Tcp::SYN | Tcp::ACK | Tcp::RST) == 0 {
        return Err(Malformed::TcpFlags);
    }
    Ok(Transport::Tcp(Tcp {
        sport: u16::from_be_bytes([s0, s1]),
        dport: u16::from_be_bytes([d0, d1]),
        seq: u32::from_be_bytes([q0, q1, q2, q3]),
        ack: u32::from_be_bytes([a0, a1, a2, a3]),
        flags,
        payload: at + len,
    }))
}

/// RFC 768. Data between the end of the datagram and the end of the packet is refused: nobody would judge it.
fn udp(segment: &[u8], at: usize) -> Result<Transport, Malformed> {
    let [s0, s1, d0, d1, l0, l1, ..] = *segment.first_chunk::<8>().ok_or(Malformed::Truncated)?;
    if usize::from(u16::from_be_bytes([l0, l1])) != segment.len() {
        return Err(Malformed::UdpLength);
    }
    Ok(Transport::Udp(Udp {
        sport: u16::from_be_bytes([s0, s1]),
        dport: u16::from_be_bytes([d0, d1]),
        payload: at + 8,
    }))
}

/// RFC 792.
fn icmp(segment: &[u8], at: usize) -> Result<Transport, Malformed> {
    let (kind, code, echo) = icmp_header(segment, at)?;
    Ok(match (kind, code) {
        (8, 0) => Transport::EchoRequest(echo),
        (0, 0) => Transport::EchoReply(echo),
        (3 | 4 | 5 | 11 | 12, _) => icmp_error(kind, code, at),
        _ => Transport::Other,
    })
}

/// RFC 4443, section 2.1: types below 128 are errors.
fn icmpv6(segment: &[u8], at: usize) -> Result<Transport, Malformed> {
    let (kind, code, echo) = icmp_header(segment, at)?;
    Ok(match (kind, code) {
        (128, 0) => Transport::EchoRequest(echo),
        (129, 0) => Transport::EchoReply(echo),
        (0..128, _) => icmp_error(kind, code, at),
        _ => Transport::Other,
    })
}

/// Type, code and, for those types that have it, identifier and sequence number.
fn icmp_header(segment: &[u8], at: usize) -> Result<(u8, u8, Echo), Malformed> {
    let [kind, code, _, _, i0, i1, s0, s1] =
        *segment.first_chunk::<8>().ok_or(Malformed::Truncated)?;
    let echo = Echo {
        id: u16::from_be_bytes([i0, i1]),
        seq: u16::from_be_bytes([s0, s1]),
        payload: at + 8,
    };
    Ok((kind, code, echo))
}

fn icmp_error(kind: u8, code: u8, at: usize) -> Transport {
    Transport::IcmpError(IcmpError {
        kind,
        code,
        quoted: at + 8,
    })
}

#[cfg(test)]
mod tests;
