//! Packets of our own: answers to the inside.
use super::checksum::{self, Sum};
use super::parse::IPV6_LEN;
use super::{Gso, Offload, Parsed, Tcp, Transport, protocol};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Why a packet was not delivered, as ICMP and ICMPv6 say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// *Communication administratively prohibited*: type 3 code 13 (RFC 1812), type 1 code 1 (RFC 4443).
    Prohibited,
    /// No route to the network.
    Network,
    /// The host does not answer.
    Host,
    /// Nobody listens on the port.
    Port,
    /// Too big for the path; the MTU in bytes (RFC 1191; RFC 4443, section 3.2).
    TooBig(u16),
    /// The hop limit ran out on the way.
    HopLimit,
}

/// Room before a UDP payload that [`udp_in_place`] and [`echo_reply_in_place`] need: an IPv6 and a UDP header.
pub const HEADROOM: usize = 48;

/// Hop limit of what we send (RFC 1122, section 3.2.1.7, by way of "Assigned Numbers").
const HOP_LIMIT: u8 = 64;

/// Packets up to this many bytes fit every IPv6 link (RFC 8200, section 5); longer ones may meet a smaller MTU.
const SURE_MTU: usize = 1280;

/// An ICMP error is at most this long (RFC 1812, section 4.3.2.3); an ICMPv6 error at most [`SURE_MTU`] (RFC 4443,
/// section 3.1).
const ICMP_ERROR_LEN: usize = 576;

/// Length of a UDP header, of an ICMP echo header and of an ICMP error header.
const EIGHT: usize = 8;

/// Writes IP and UDP headers right before the payload, which begins at `buf[payload_at]` and reaches to the end.
/// The checksum is left partial; [`checksum::complete`] finishes it where the link has no offload. Returns where the
/// packet begins and its offload metadata; `gso_size` > 0 makes it a super-datagram of segments of that many bytes, if
/// the payload is longer than one of them.
///
/// What cannot be a packet (addresses of two families, less than [`HEADROOM`], more than
/// [`MAX_LEN`](super::MAX_LEN)) begins at `buf.len()`: an empty packet, which no link sends.
pub fn udp_in_place(
    buf: &mut [u8],
    payload_at: usize,
    from: SocketAddr,
    to: SocketAddr,
    gso_size: u16,
) -> (usize, Offload) {
    write_udp(buf, payload_at, from, to, gso_size).unwrap_or((buf.len(), Offload::default()))
}

/// Writes IP and ICMP headers of an echo reply right before the payload, as [`udp_in_place`] does; checksums full.
pub fn echo_reply_in_place(
    buf: &mut [u8],
    payload_at: usize,
    from: IpAddr,
    to: IpAddr,
    id: u16,
    seq: u16,
) -> (usize, Offload) {
    let kind = if from.is_ipv4() { 0 } else { 129 };
    let at = write_echo(buf, payload_at, (kind, from, to), (id, seq)).unwrap_or(buf.len());
    (at, Offload::default())
}

/// Writes IP and ICMP headers of an echo request right before the payload, as [`udp_in_place`] does; checksums full.
pub fn echo_request_in_place(
    buf: &mut [u8],
    payload_at: usize,
    from: IpAddr,
    to: IpAddr,
    id: u16,
    seq: u16,
) -> (usize, Offload) {
    let kind = if from.is_ipv4() { 8 } else { 128 };
    let at = write_echo(buf, payload_at, (kind, from, to), (id, seq)).unwrap_or(buf.len());
    (at, Offload::default())
}

/// Appends the RST that answers a segment nobody takes (RFC 9293, section 3.10.7.1); nothing if it is a RST itself, no
/// TCP segment, or was not sent to one host. Checksums are full.
pub fn tcp_reset(out: &mut Vec<u8>, parsed: &Parsed) {
    let Transport::Tcp(tcp) = parsed.transport else {
        return;
    };
    if tcp.flags & Tcp::RST != 0 || !is_one_host(parsed.dst) {
        return;
    }
    let (seq, ack, flags) = if tcp.flags & Tcp::ACK != 0 {
        (tcp.ack, 0, Tcp::RST)
    } else {
        // Without ACK and RST it is a SYN, which counts as one.
        let data = parsed.len.saturating_sub(tcp.payload) as u32;
        let end = tcp.seq.wrapping_add(data).wrapping_add(1);
        (0, end, Tcp::RST | Tcp::ACK)
    };
    let [s0, s1] = tcp.dport.to_be_bytes();
    let [d0, d1] = tcp.sport.to_be_bytes();
    let [q0, q1, q2, q3] = seq.to_be_bytes();
    let [a0, a1, a2, a3] = ack.to_be_bytes();
    let mut segment = [
        s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, 0x50, flags, 0, 0, 0, 0, 0, 0,
    ];
    let sum = Sum::pseudo_header(parsed.dst, parsed.src, protocol::TCP, segment.len());
    let sum = sum.bytes(&segment).finish();
    checksum::put(&mut segment, 16, sum);
    append(out, (parsed.dst, parsed.src), protocol::TCP, &[&segment]);
}

/// Appends the ICMP or ICMPv6 error that answers `bytes`, from our own address `from`, which must be of the packet's
/// family. Nothing where an error must not be sent (RFC 1122, section 3.2.2, and RFC 4443, section 2.4: multicast,
/// broadcast, other ICMP errors and redirects, fragments but the first).
pub fn unreachable(
    out: &mut Vec<u8>,
    parsed: &Parsed,
    bytes: &[u8],
    why: Unreachable,
    from: IpAddr,
) {
    if !deserves_error(parsed, bytes) {
        return;
    }
    let v4 = parsed.src.is_ipv4();
    let (kind, code, mtu) = if v4 { why.icmp() } else { why.icmpv6() };
    let [m0, m1] = mtu.to_be_bytes();
    let mut header = [kind, code, 0, 0, 0, 0, m0, m1];
    let room = if v4 {
        ICMP_ERROR_LEN - IPV4_LEN - EIGHT
    } else {
        SURE_MTU - IPV6_LEN - EIGHT
    };
    let quote = bytes.get(..parsed.len.min(room)).unwrap_or(bytes);
    let (protocol, sum) = if v4 {
        (protocol::ICMP, Sum::default())
    } else {
        let len = EIGHT + quote.len();
        let sum = Sum::pseudo_header(from, parsed.src, protocol::ICMPV6, len);
        (protocol::ICMPV6, sum)
    };
    let sum = sum.bytes(&header).bytes(quote).finish();
    checksum::put(&mut header, 2, sum);
    append(out, (from, parsed.src), protocol, &[&header, quote]);
}

impl Unreachable {
    /// Type, code and MTU (RFC 792; RFC 1191, section 4; RFC 1812, section 5.2.7.1).
    fn icmp(self) -> (u8, u8, u16) {
        match self {
            Self::Network => (3, 0, 0),
            Self::Host => (3, 1, 0),
            Self::Port => (3, 3, 0),
            Self::TooBig(mtu) => (3, 4, mtu),
            Self::Prohibited => (3, 13, 0),
            Self::HopLimit => (11, 0, 0),
        }
    }

    /// Type, code and MTU (RFC 4443, section 3).
    fn icmpv6(self) -> (u8, u8, u16) {
        match self {
            Self::Network => (1, 0, 0),
            Self::Prohibited => (1, 1, 0),
            Self::Host => (1, 3, 0),
            Self::Port => (1, 4, 0),
            Self::TooBig(mtu) => (2, 0, mtu),
            Self::HopLimit => (3, 0, 0),
        }
    }
}

fn deserves_error(parsed: &Parsed, bytes: &[u8]) -> bool {
    let allowed = match parsed.transport {
        Transport::IcmpError(_) => false,
        Transport::Fragment(fragment) => fragment.offset == 0,
        // The redirect of neighbour discovery (RFC 4861, section 4.5).
        Transport::Other if parsed.protocol == protocol::ICMPV6 => {
            parsed.payload(bytes).first() != Some(&137)
        }
        Transport::Tcp(_)
        | Transport::Udp(_)
        | Transport::EchoRequest(_)
        | Transport::EchoReply(_)
        | Transport::Other => true,
    };
    allowed && is_one_host(parsed.dst)
}

/// Neither multicast nor the limited broadcast address. Directed broadcasts are not known here.
fn is_one_host(address: IpAddr) -> bool {
    !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn write_udp(
    buf: &mut [u8],
    payload_at: usize,
    from: SocketAddr,
    to: SocketAddr,
    gso_size: u16,
) -> Option<(usize, Offload)> {
    let payload = buf.get(payload_at..)?;
    let len = EIGHT + payload.len();
    let cut = gso_size != 0 && payload.len() > usize::from(gso_size);
    let fragile = from.is_ipv4() && !cut && IPV4_LEN + len > SURE_MTU;
    let id = fragile.then(|| identification(payload, 0));
    let ip = IpHeader::new((from.ip(), to.ip()), protocol::UDP, len, id)?;
    let partial = Sum::pseudo_header(from.ip(), to.ip(), protocol::UDP, len).fold();
    let [s0, s1] = from.port().to_be_bytes();
    let [d0, d1] = to.port().to_be_bytes();
    let [l0, l1] = u16::try_from(len).ok()?.to_be_bytes();
    let [c0, c1] = partial.to_be_bytes();
    let at = ip.place(buf, payload_at, &[s0, s1, d0, d1, l0, l1, c0, c1])?;
    let offload = Offload {
        partial_checksum: true,
        checksum_start: ip.len as u16,
        checksum_offset: 6,
        ..Offload::default()
    };
    if !cut {
        return Some((at, offload));
    }
    let cut = Offload {
        gso: Gso::UdpL4,
        gso_size,
        header_len: (ip.len + EIGHT) as u16,
        ..offload
    };
    Some((at, cut))
}

fn write_echo(
    buf: &mut [u8],
    payload_at: usize,
    (kind, from, to): (u8, IpAddr, IpAddr),
    (id, seq): (u16, u16),
) -> Option<usize> {
    let payload = buf.get(payload_at..)?;
    let len = EIGHT + payload.len();
    let (protocol, sum) = if from.is_ipv4() {
        (protocol::ICMP, Sum::default())
    } else {
        let sum = Sum::pseudo_header(from, to, protocol::ICMPV6, len);
        (protocol::ICMPV6, sum)
    };
    let [i0, i1] = id.to_be_bytes();
    let [s0, s1] = seq.to_be_bytes();
    let mut header = [kind, 0, 0, 0, i0, i1, s0, s1];
    let sum = sum.bytes(&header).bytes(payload).finish();
    checksum::put(&mut header, 2, sum);
    let fragile = from.is_ipv4() && IPV4_LEN + len > SURE_MTU;
    let id = fragile.then(|| identification(payload, seq));
    IpHeader::new((from, to), protocol, len, id)?.place(buf, payload_at, &header)
}

/// The identification of a packet that a router may have to fragment: others of its time must not have it (RFC 6864,
/// section 4.3). As there is no counter here, the content gives one.
fn identification(payload: &[u8], seq: u16) -> u16 {
    Sum::of(payload).word(seq).fold()
}

/// Appends a packet that consists of `parts` behind an IP header.
fn append(out: &mut Vec<u8>, (from, to): (IpAddr, IpAddr), protocol: u8, parts: &[&[u8]]) {
    let len = parts.iter().map(|part| part.len()).sum();
    let Some(ip) = IpHeader::new((from, to), protocol, len, None) else {
        return;
    };
    out.extend_from_slice(ip.as_slice());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Length of an IPv4 header without options.
const IPV4_LEN: usize = 20;

/// An IP header without options.
struct IpHeader {
    bytes: [u8; IPV6_LEN],
    len: usize,
}

impl IpHeader {
    /// For `len` bytes behind it. `id` makes an IPv4 packet one that routers may fragment. `None` if the families differ
    /// or the packet would be too long.
    fn new(
        (from, to): (IpAddr, IpAddr),
        protocol: u8,
        len: usize,
        id: Option<u16>,
    ) -> Option<Self> {
        let mut header = Self {
            bytes: [0; IPV6_LEN],
            len: 0,
        };
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.len = IPV4_LEN;
                let total = u16::try_from(IPV4_LEN + len).ok()?;
                let [l0, l1] = total.to_be_bytes();
                let [i0, i1] = id.unwrap_or(0).to_be_bytes();
                let dont_fragment = if id.is_none() { 0x40 } else { 0 };
                let [s0, s1, s2, s3] = from.octets();
                let [d0, d1, d2, d3] = to.octets();
                let v4 = header.bytes.first_chunk_mut::<IPV4_LEN>()?;
                *v4 = [
                    0x45,
                    0,
                    l0,
                    l1,
                    i0,
                    i1,
                    dont_fragment,
                    0,
                    HOP_LIMIT,
                    protocol,
                    0,
                    0,
                    s0,
                    s1,
                    s2,
                    s3,
                    d0,
                    d1,
                    d2,
                    d3,
                ];
                let sum = Sum::of(v4).finish();
                checksum::put(v4, 10, sum);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.len = IPV6_LEN;
                u16::try_from(IPV6_LEN + len).ok()?;
                let [l0, l1] = (len as u16).to_be_bytes();
                let (fixed, addresses) = header.bytes.split_first_chunk_mut::<8>()?;
                *fixed = [0x60, 0, 0, 0, l0, l1, protocol, HOP_LIMIT];
                let (src, dst) = addresses.split_first_chunk_mut::<16>()?;
                *src = from.octets();
                *dst.first_chunk_mut()? = to.octets();
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        }
        Some(header)
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Writes itself and `transport` right before `payload_at`; returns where it begins.
    fn place(&self, buf: &mut [u8], payload_at: usize, transport: &[u8; EIGHT]) -> Option<usize> {
        let at = payload_at.checked_sub(self.len + EIGHT)?;
        let room = buf.get_mut(at..payload_at)?;
        let (ip, rest) = room.split_at_mut_checked(self.len)?;
        ip.copy_from_slice(self.as_slice());
        rest.copy_from_slice(transport);
        Some(at)
    }
}

#[cfg(test)]
mod tests;
