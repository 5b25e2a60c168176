//! Header edits that let the TCP terminator speak in super-segments, and the hop limit of a passed packet.
use super::checksum::{self, Sum};
use super::parse::IPV6_LEN;
use super::{Gso, MAX_LEN, Offload, Parsed, Tcp, Transport, protocol};
use std::net::IpAddr;

/// Linux never announces an MSS below this; smaller ones only multiply packets (1 byte: 65,000 of them in one write).
const MSS_MIN: u16 = 88;

/// The MSS of a peer that names none (RFC 9293, section 3.7.1); what the terminator then uses, in both families.
const MSS_DEFAULT: u16 = 536;

/// A packet whose length with its link header reaches the outgoing device's `gso_max_size` (65,536 bytes) is segmented in
/// software.
const GSO_HEADROOM: usize = 128;

/// What the link can carry and what the flow's peer takes.
#[derive(Clone, Copy, Debug)]
pub struct Segmenting {
    /// MTU of the link in bytes.
    pub link_mtu: u16,
    /// The client's real MSS, as [`raise_mss`] returned it.
    pub flow_mss: u16,
    /// The link takes super-packets and partial checksums; otherwise checksums are written in full.
    pub offload: bool,
}

/// Edits a client's SYN so that the terminator sends segments as large as an IP packet can be; returns the real MSS,
/// which is at least 88 and at most what the link carries. Edit every SYN of the flow alike, repeats too.
///
/// Without an MSS option, or with 0 in it, the packet is left alone and 536 returned: so does the terminator read it.
/// Checksums of the packet are wrong afterwards; the terminator does not look at them.
pub fn raise_mss(bytes: &mut [u8], parsed: &Parsed, link_mtu: u16) -> u16 {
    let Transport::Tcp(tcp) = parsed.transport else {
        return MSS_DEFAULT;
    };
    let option = bytes
        .get_mut(parsed.ip_len..tcp.payload)
        .and_then(mss_option);
    let Some(option) = option else {
        return MSS_DEFAULT;
    };
    let announced = u16::from_be_bytes(*option);
    if announced == 0 {
        return MSS_DEFAULT;
    }
    let headers = headers_len(parsed.src.is_ipv4());
    let most = (MAX_LEN - GSO_HEADROOM) as u16 - headers;
    let real = announced
        .min(link_mss(link_mtu, headers))
        .clamp(MSS_MIN, most);
    // A whole number of real segments, so that the kernel cuts no short one in the middle.
    *option = (most / real * real).to_be_bytes();
    real
}

/// Finishes a segment that the terminator emitted (IP checksum done, TCP checksum not): MSS of the SYN-ACK, the window
/// edge, checksum and offload metadata. Anything but one whole TCP packet without extension headers is left alone.
pub fn finish_segment(bytes: &mut [u8], how: &Segmenting) -> Offload {
    finish(bytes, how).unwrap_or_default()
}

/// Gives a packet back the hop that its way to the TUN took, so that whoever counts hops (traceroute) sees a router and
/// not two; the kernel takes one again when it forwards. Keeps the IPv4 checksum right (RFC 1624). False, and the packet
/// as it was, if there is nothing to give back.
pub fn restore_hop_limit(bytes: &mut [u8]) -> bool {
    match bytes {
        [first, _, _, _, _, _, _, _, hop_limit, protocol, c0, c1, ..]
            if *first >> 4 == 4 && *hop_limit < u8::MAX =>
        {
            let old = u16::from_be_bytes([*hop_limit, *protocol]);
            *hop_limit += 1;
            let new = u16::from_be_bytes([*hop_limit, *protocol]);
            let sum = checksum::update(u16::from_be_bytes([*c0, *c1]), old, new);
            [*c0, *c1] = sum.to_be_bytes();
            true
        }
        [first, _, _, _, _, _, _, hop_limit, ..] if *first >> 4 == 6 && *hop_limit < u8::MAX => {
            *hop_limit += 1;
            true
        }
        _ => false,
    }
}

fn finish(bytes: &mut [u8], how: &Segmenting) -> Option<Offload> {
    let (ip_len, src, dst) = tcp_packet(bytes)?;
    let segment = bytes.get_mut(ip_len..)?;
    let [.., offset, flags, w0, w1, _, _, _, _] = segment.first_chunk_mut::<20>()?;
    let tcp_len = usize::from(*offset >> 4) * 4;
    let headers = headers_len(src.is_ipv4());
    let syn = *flags & Tcp::SYN != 0;
    if !syn {
        // The terminator rounds the window down, so its right edge wanders to the left, and it takes nothing beyond the
        // last edge it offered. One unit less is an edge that it will always accept.
        let window = u16::from_be_bytes([*w0, *w1]);
        [*w0, *w1] = window.saturating_sub(1).to_be_bytes();
    }
    let payload = segment.len().checked_sub(tcp_len)?;
    if syn && let Some(option) = segment.get_mut(..tcp_len).and_then(mss_option) {
        *option = link_mss(how.link_mtu, headers).to_be_bytes();
    }
    let pseudo = Sum::pseudo_header(src, dst, protocol::TCP, segment.len());
    if !how.offload {
        checksum::put(segment, CHECKSUM_AT, 0);
        let sum = pseudo.bytes(segment).finish();
        checksum::put(segment, CHECKSUM_AT, sum);
        return Some(Offload::default());
    }
    checksum::put(segment, CHECKSUM_AT, pseudo.fold());
    let offload = Offload {
        partial_checksum: true,
        checksum_start: ip_len as u16,
        checksum_offset: CHECKSUM_AT as u16,
        ..Offload::default()
    };
    // An MSS counts no options (RFC 6691), a GSO size is nothing but payload.
    let gso_size = how.flow_mss.max(MSS_MIN) - (tcp_len as u16).saturating_sub(20);
    if payload <= usize::from(gso_size) {
        return Some(offload);
    }
    Some(Offload {
        gso: if src.is_ipv4() {
            Gso::TcpV4
        } else {
            Gso::TcpV6
        },
        gso_size,
        header_len: (ip_len + tcp_len) as u16,
        ..offload
    })
}

/// Where the checksum lies in a TCP header.
const CHECKSUM_AT: usize = 16;

/// Header length and addresses of a whole, unfragmented packet with TCP directly behind the IP header.
fn tcp_packet(bytes: &[u8]) -> Option<(usize, IpAddr, IpAddr)> {
    let (ip_len, src, dst) = match bytes {
        [
            first,
            _,
            l0,
            l1,
            _,
            _,
            f0,
            f1,
            _,
            protocol::TCP,
            _,
            _,
            addresses @ ..,
        ] if *first >> 4 == 4 => {
            let fragmented = u16::from_be_bytes([*f0, *f1]) & 0x3fff != 0;
            let total = usize::from(u16::from_be_bytes([*l0, *l1]));
            if fragmented || total != bytes.len() {
                return None;
            }
            let (src, rest) = addresses.split_first_chunk::<4>()?;
            let dst = rest.first_chunk::<4>()?;
            let ip_len = usize::from(*first & 0x0f) * 4;
            if ip_len < 20 {
                return None;
            }
            (ip_len, IpAddr::from(*src), IpAddr::from(*dst))
        }
        [first, _, _, _, l0, l1, protocol::TCP, _, addresses @ ..] if *first >> 4 == 6 => {
            let len = usize::from(u16::from_be_bytes([*l0, *l1]));
            if IPV6_LEN + len != bytes.len() || bytes.len() > MAX_LEN {
                return None;
            }
            let (src, rest) = addresses.split_first_chunk::<16>()?;
            let dst = rest.first_chunk::<16>()?;
            (IPV6_LEN, IpAddr::from(*src), IpAddr::from(*dst))
        }
        _ => return None,
    };
    let segment = bytes.get(ip_len..)?;
    let tcp_len = usize::from(segment.get(12)? >> 4) * 4;
    (20..=segment.len())
        .contains(&tcp_len)
        .then_some((ip_len, src, dst))
}

/// The value of the MSS option of a TCP header (RFC 9293, section 3.2).
fn mss_option(header: &mut [u8]) -> Option<&mut [u8; 2]> {
    let mut options = header.get_mut(20..)?;
    loop {
        options = match options {
            [2, 4, value @ ..] => return value.first_chunk_mut(),
            [1, rest @ ..] => rest,
            [kind, len, ..] if *kind > 1 && *len > 1 => {
                let len = usize::from(*len);
                options.get_mut(len..)?
            }
            _ => return None,
        };
    }
}

/// Length of IP and TCP header without options.
fn headers_len(v4: bool) -> u16 {
    if v4 { 40 } else { 60 }
}

fn link_mss(link_mtu: u16, headers: u16) -> u16 {
    link_mtu.saturating_sub(headers).max(MSS_MIN)
}

#[cfg(test)]
mod tests;
