//! Packets for the tests of this crate, written without the code under test.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests, which may panic"
)]
use std::net::IpAddr;

pub(crate) const SPORT: u16 = 40_000;
pub(crate) const DPORT: u16 = 443;

/// Inside and outside address.
pub(crate) fn addresses(v6: bool) -> (IpAddr, IpAddr) {
    if v6 {
        ("fd00::2".parse().unwrap(), "2001:db8::9".parse().unwrap())
    } else {
        ("10.0.0.2".parse().unwrap(), "192.0.2.9".parse().unwrap())
    }
}

/// A whole TCP packet with the right checksum. `options` must be a multiple of 4 bytes long.
pub(crate) fn tcp(v6: bool, flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(SPORT.to_be_bytes());
    segment.extend(DPORT.to_be_bytes());
    segment.extend(1000u32.to_be_bytes());
    segment.extend(2000u32.to_be_bytes());
    segment.extend([
        (5 + options.len() as u8 / 4) << 4,
        flags,
        0x10,
        0x00,
        0,
        0,
        0,
        0,
    ]);
    segment.extend(options);
    segment.extend(data);
    let (src, dst) = addresses(v6);
    checksummed(src, dst, 6, segment, 16)
}

/// A whole UDP packet with the right checksum.
pub(crate) fn udp(v6: bool, data: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(SPORT.to_be_bytes());
    datagram.extend(DPORT.to_be_bytes());
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    let (src, dst) = addresses(v6);
    checksummed(src, dst, 17, datagram, 6)
}

/// A whole ICMP or ICMPv6 packet with the right checksum; `rest` are bytes 4 to 7 of its header.
pub(crate) fn icmp(v6: bool, kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    message.extend(data);
    let (src, dst) = addresses(v6);
    checksummed(src, dst, if v6 { 58 } else { 1 }, message, 2)
}

/// An IP packet around `body`, with the right header checksum.
pub(crate) fn ip(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + body.len() as u16).to_be_bytes());
            packet.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            fix_ipv4(&mut packet);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((body.len() as u16).to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
        }
        _ => panic!("one family"),
    }
    packet.extend(body);
    packet
}

/// An IPv4 packet with options between its header and `body`.
pub(crate) fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut with = packet[..20].to_vec();
    with.extend(options);
    with.extend(&packet[20..]);
    with[0] = 0x45 + options.len() as u8 / 4;
    let len = with.len() as u16;
    with[2..4].copy_from_slice(&len.to_be_bytes());
    fix_ipv4(&mut with);
    with
}

/// An IPv6 packet with extension headers before its transport: kind and content without the next-header byte.
pub(crate) fn with_extensions(packet: &[u8], extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut chain = Vec::new();
    for (i, (_, content)) in extensions.iter().enumerate() {
        chain.push(extensions.get(i + 1).map_or(packet[6], |(kind, _)| *kind));
        chain.extend(*content);
    }
    let mut with = packet[..40].to_vec();
    with.extend(chain);
    with.extend(&packet[40..]);
    with[6] = extensions.first().map_or(packet[6], |(kind, _)| *kind);
    let len = with.len() as u16 - 40;
    with[4..6].copy_from_slice(&len.to_be_bytes());
    with
}

/// Cuts a packet without options or extension headers into fragments of at most `size` bytes of data (a multiple of 8).
pub(crate) fn fragments(packet: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let data = &packet[header..];
    let last = (data.len() - 1) / size;
    data.chunks(size)
        .enumerate()
        .map(|(i, piece)| fragment(packet, id, i * size, i < last, piece))
        .collect()
}

/// One fragment with the header of `packet`.
pub(crate) fn fragment(packet: &[u8], id: u16, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        let mut piece = packet[..20].to_vec();
        piece.extend(data);
        let len = piece.len() as u16;
        piece[2..4].copy_from_slice(&len.to_be_bytes());
        piece[4..6].copy_from_slice(&id.to_be_bytes());
        let field = (offset / 8) as u16 | u16::from(more) << 13;
        piece[6..8].copy_from_slice(&field.to_be_bytes());
        fix_ipv4(&mut piece);
        return piece;
    }
    let mut content = vec![0];
    content.extend((offset as u16 | u16::from(more)).to_be_bytes());
    content.extend(u32::from(id).to_be_bytes());
    let mut piece = packet[..40].to_vec();
    piece.extend(data);
    with_extensions(&piece, &[(44, &content)])
}

/// Writes the header checksum of an IPv4 packet.
pub(crate) fn fix_ipv4(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let sum = !plain_sum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn checksummed(src: IpAddr, dst: IpAddr, protocol: u8, mut body: Vec<u8>, at: usize) -> Vec<u8> {
    let mut covered = Vec::new();
    if protocol != 1 {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                covered.extend([src.octets(), dst.octets()].concat())
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                covered.extend([src.octets(), dst.octets()].concat())
            }
            _ => panic!("one family"),
        }
        covered.extend([0, protocol]);
        covered.extend((body.len() as u16).to_be_bytes());
    }
    covered.extend(&body);
    let sum = match !plain_sum(&covered) {
        0 => 0xffff,
        sum => sum,
    };
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    ip(src, dst, protocol, &body)
}

/// RFC 1071 word by word.
pub(crate) fn plain_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0u16, |sum, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}
