//! Packets of our own: answers to the inside.
use super::{Offload, Parsed};
use std::net::{IpAddr, SocketAddr};

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

/// Writes IP and UDP headers right before the payload, which begins at `buf[payload_at]` and reaches to the end.
/// The checksum is left partial. Returns where the packet begins and its offload metadata; `gso_size` > 0 makes it a
/// super-datagram of segments of that many bytes.
pub fn udp_in_place(
    _buf: &mut [u8],
    _payload_at: usize,
    _from: SocketAddr,
    _to: SocketAddr,
    _gso_size: u16,
) -> (usize, Offload) {
    todo!()
}

/// Writes IP and ICMP headers of an echo reply right before the payload, as [`udp_in_place`] does; checksums full.
pub fn echo_reply_in_place(
    _buf: &mut [u8],
    _payload_at: usize,
    _from: IpAddr,
    _to: IpAddr,
    _id: u16,
    _seq: u16,
) -> (usize, Offload) {
    todo!()
}

/// Appends the RST that answers a segment nobody takes (RFC 9293, section 3.10.7.1); nothing if it is a RST itself.
/// Checksums are full.
pub fn tcp_reset(_out: &mut Vec<u8>, _parsed: &Parsed, _bytes: &[u8]) {
    todo!()
}

/// Appends the ICMP or ICMPv6 error that answers `bytes`, from our own address `from`. Nothing where an error must not
/// be sent (RFC 1122, section 3.2.2: multicast, broadcast, other ICMP errors, fragments but the first).
pub fn unreachable(
    _out: &mut Vec<u8>,
    _parsed: &Parsed,
    _bytes: &[u8],
    _why: Unreachable,
    _from: IpAddr,
) {
    todo!()
}
