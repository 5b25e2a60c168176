//! From a captured frame to the transport payload, as far as it was captured. The gate refuses cut or odd packets; a
//! capture is full of them, so they are read leniently here.

use super::pcap::Frame;
use crate::packet::protocol::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING, TCP, UDP,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most tags and labels before the network header.
const MOST_TAGS: usize = 8;
/// Most frames in frames.
const MOST_WRAPPINGS: u8 = 2;
/// Most extension headers between the network header and the transport's.
const MOST_EXTENSIONS: usize = 8;

/// One packet of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Who sent it; port 0 for protocols without ports.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Transport protocol number.
    pub protocol: u8,
    /// The transport payload, as far as captured.
    pub payload: &'a [u8],
    /// Of a TCP segment.
    pub segment: Option<Segment>,
    /// A piece of a datagram that holds no transport header of its own.
    pub fragment: bool,
    /// Length of the IP packet as captured, in bytes.
    pub length: usize,
}

/// What TCP says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// It opens a connection.
    pub syn: bool,
    /// It acknowledges: not the first of a connection.
    pub ack: bool,
    /// It ends a connection.
    pub end: bool,
}

/// The IP packet in a frame of any link type in common use; `None` if it holds none.
pub fn network<'a>(frame: &Frame<'a>) -> Option<&'a [u8]> {
    network_within(frame, MOST_WRAPPINGS)
}

fn network_within<'a>(frame: &Frame<'a>, depth: u8) -> Option<&'a [u8]> {
    let bytes = frame.bytes;
    match frame.link {
        // Ethernet.
        1 => ether(bytes.get(12..)?),
        // Token ring and FDDI: addresses, then logical link control.
        6 => tagged(0, bytes.get(14..)?),
        10 => tagged(0, bytes.get(13..)?),
        // BSD loopback: a family in either byte order.
        0 | 108 => bytes.get(4..),
        9 | 50 => ppp(bytes),
        // PPPoE without Ethernet; PPP behind a byte that tells the direction.
        51 => ppp(bytes.get(6..)?),
        166 | 204 => ppp(bytes.get(1..)?),
        // Raw IP, in several numberings, and its two versions.
        12 | 14 | 101 | 228 | 229 => Some(bytes),
        // Cisco HDLC: address, control, type.
        104 => ether(bytes.get(2..)?),
        // IEEE 802.11, without and with a radio header of several makes.
        105 => wifi(bytes),
        119 => wifi(bytes.get(144..)?),
        127 => {
            let length = u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?);
            wifi(bytes.get(usize::from(length)..)?)
        }
        163 => {
            let length = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
            wifi(bytes.get(usize::try_from(length).ok()?..)?)
        }
        // Linux "cooked", both versions.
        113 => ether(bytes.get(14..)?),
        276 => {
            let kind = *bytes.first_chunk::<2>()?;
            tagged(u16::from_be_bytes(kind), bytes.get(20..)?)
        }
        // A firewall's log (OpenBSD): padded to words, IP follows.
        117 => {
            let length = usize::from(*bytes.first()?).next_multiple_of(4);
            bytes.get(length..)
        }
        // A firewall's log (Linux): fields, the payload is one of them.
        239 => netfilter(bytes.get(4..)?),
        _ => wrapped(frame, depth),
    }
}

/// A frame behind a header that names its link type.
fn wrapped<'a>(frame: &Frame<'a>, depth: u8) -> Option<&'a [u8]> {
    let bytes = frame.bytes;
    let (length, link) = match frame.link {
        // Per-packet information.
        192 => {
            let length = u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?);
            let link = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
            (u32::from(length), link)
        }
        // Apple's.
        258 => {
            let length = u32::from_le_bytes(*bytes.first_chunk()?);
            let link = u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
            (length, link)
        }
        _ => return None,
    };
    let inner = Frame {
        link,
        bytes: bytes.get(usize::try_from(length).ok()?..)?,
        ..*frame
    };
    network_within(&inner, depth.checked_sub(1)?)
}

/// The payload among the fields of a log entry: length and type in the order of the machine that captured, here little
/// endian; padded to words.
fn netfilter(mut fields: &[u8]) -> Option<&[u8]> {
    const PAYLOAD: u16 = 9;
    loop {
        let ([l0, l1, k0, k1], _) = fields.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_le_bytes([*l0, *l1]));
        let value = fields.get(4..length)?;
        if u16::from_le_bytes([*k0, *k1]) == PAYLOAD {
            return Some(value);
        }
        fields = fields.get(length.next_multiple_of(4)..)?;
    }
}

/// Reads the packet in a frame; `None` if it holds none that is IP. Lengths that cannot be true count as not written
/// yet: then all that was captured belongs to the packet.
pub fn read<'a>(packet: &'a [u8]) -> Option<Seen<'a>> {
    let ip = match packet.first()? >> 4 {
        4 => ipv4(packet)?,
        6 => ipv6(packet)?,
        _ => return None,
    };
    let read = match ip.protocol {
        TCP if !ip.fragment => tcp(ip.body),
        UDP if !ip.fragment => udp(ip.body),
        _ => None,
    };
    let (ports, payload, segment) = read.unwrap_or_default();
    Some(Seen {
        source: SocketAddr::new(ip.source, ports.0),
        destination: SocketAddr::new(ip.destination, ports.1),
        protocol: ip.protocol,
        payload,
        segment,
        fragment: ip.fragment,
        length: packet.len(),
    })
}

/// The network layer of a packet.
struct Ip<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    fragment: bool,
    body: &'a [u8],
}

/// RFC 791, section 3.1.
fn ipv4(packet: &[u8]) -> Option<Ip<'_>> {
    let [first, _, l0, l1, _, _, f0, f1, _, protocol, _, _, ends @ ..] =
        *packet.first_chunk::<20>()?;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = ends;
    let header = usize::from(first & 0x0f) * 4;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let rest = packet.get(header..).filter(|_| header >= 20)?;
    let body = length
        .checked_sub(header)
        .and_then(|length| rest.get(..length));
    let chain = walk(protocol, body.unwrap_or(rest), |kind| {
        kind == AUTHENTICATION
    });
    Some(Ip {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol: chain.protocol,
        // More to come, or not the first.
        fragment: u16::from_be_bytes([f0, f1]) & 0x3fff != 0,
        body: chain.body,
    })
}

/// RFC 8200, section 3.
fn ipv6(packet: &[u8]) -> Option<Ip<'_>> {
    let (header, rest) = packet.split_first_chunk::<40>()?;
    let [_, _, _, _, l0, l1, next, _, ends @ ..] = header;
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let body = rest.get(..length).filter(|_| length > 0).unwrap_or(rest);
    let chain = walk(*next, body, |_| true);
    Some(Ip {
        source: Ipv6Addr::from(*ends.first_chunk::<16>()?).into(),
        destination: Ipv6Addr::from(*ends.last_chunk::<16>()?).into(),
        protocol: chain.protocol,
        fragment: chain.fragment,
        body: chain.body,
    })
}

/// Where extension headers lead.
struct Chain<'a> {
    protocol: u8,
    fragment: bool,
    body: &'a [u8],
}

/// Walks the extension headers that are taken for such (RFC 8200, section 4; RFC 4302, section 2).
fn walk(protocol: u8, body: &[u8], is_extension: impl Fn(u8) -> bool) -> Chain<'_> {
    let mut chain = Chain {
        protocol,
        fragment: false,
        body,
    };
    for _ in 0..MOST_EXTENSIONS {
        let length = match (chain.protocol, chain.body) {
            (kind, _) if !is_extension(kind) => return chain,
            (HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING, [_, units, ..]) => {
                usize::from(*units) * 8 + 8
            }
            (AUTHENTICATION, [_, units, ..]) => usize::from(*units) * 4 + 8,
            (FRAGMENT, [_, _, high, low, ..]) => {
                chain.fragment = u16::from_be_bytes([*high, *low]) & 0xfff9 != 0;
                8
            }
            _ => return chain,
        };
        let Some(rest) = chain.body.get(length..) else {
            chain.body = &[];
            return chain;
        };
        chain.protocol = chain.body.first().copied().unwrap_or_default();
        chain.body = rest;
        if chain.fragment {
            return chain;
        }
    }
    chain
}

/// Ports, payload, and what TCP says.
type Transport<'a> = ((u16, u16), &'a [u8], Option<Segment>);

/// RFC 9293, section 3.1. Options may be cut off.
fn tcp(body: &[u8]) -> Option<Transport<'_>> {
    let [s0, s1, d0, d1, q0, q1, q2, q3, _, _, _, _, offset, flags] = *body.first_chunk()?;
    let header = usize::from(offset >> 4) * 4;
    let ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let segment = Segment {
        sequence: u32::from_be_bytes([q0, q1, q2, q3]),
        syn: flags & 2 != 0,
        ack: flags & 0x10 != 0,
        end: flags & 5 != 0,
    };
    let payload = body.get(header..).unwrap_or_default();
    (header >= 20).then_some((ports, payload, Some(segment)))
}

/// RFC 768.
fn udp(body: &[u8]) -> Option<Transport<'_>> {
    let ([s0, s1, d0, d1, l0, l1, _, _], rest) = body.split_first_chunk::<8>()?;
    let ports = (
        u16::from_be_bytes([*s0, *s1]),
        u16::from_be_bytes([*d0, *d1]),
    );
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let payload = length.checked_sub(8).and_then(|length| rest.get(..length));
    Some((ports, payload.unwrap_or(rest), None))
}

/// From the type field on, through tags.
fn ether(bytes: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = bytes.split_first_chunk::<2>()?;
    tagged(u16::from_be_bytes(*kind), rest)
}

fn tagged(mut kind: u16, mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..MOST_TAGS {
        match kind {
            0x0800 | 0x86dd => return Some(rest),
            // VLAN tags (IEEE 802.1Q, 802.1ad, and an older one).
            0x8100 | 0x88a8 | 0x9100 => {
                let (inner, after) = rest.get(2..)?.split_first_chunk::<2>()?;
                kind = u16::from_be_bytes(*inner);
                rest = after;
            }
            // PPPoE session (RFC 2516).
            0x8864 => return ppp(rest.get(6..)?),
            // MPLS labels (RFC 3032): the last is marked, and IP follows.
            0x8847 | 0x8848 => {
                let (label, after) = rest.split_first_chunk::<4>()?;
                rest = after;
                let [_, _, bottom, _] = label;
                if bottom & 1 == 1 {
                    return Some(rest);
                }
            }
            // A length: logical link control with a SNAP header.
            0..=1500 => {
                let (snap, after) = rest.split_first_chunk::<8>()?;
                let [0xaa, 0xaa, 3, 0, 0, 0, high, low] = snap else {
                    return None;
                };
                kind = u16::from_be_bytes([*high, *low]);
                rest = after;
            }
            _ => return None,
        }
    }
    None
}

/// PPP (RFC 1661), maybe with address and control.
fn ppp(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = bytes.strip_prefix(&[0xff, 0x03]).unwrap_or(bytes);
    match bytes {
        [0x00, 0x21 | 0x57, rest @ ..] | [0x21 | 0x57, rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Unprotected data frames (IEEE 802.11, section 9.3.2).
fn wifi(bytes: &[u8]) -> Option<&[u8]> {
    let [control, flags, ..] = *bytes else {
        return None;
    };
    let (data, protected) = (control & 0x0c == 0x08, flags & 0x40 != 0);
    // Subtypes with bit 6 carry no data.
    if !data || protected || control & 0x40 != 0 {
        return None;
    }
    let mut header = 24;
    if flags & 3 == 3 {
        header += 6;
    }
    if control & 0x80 != 0 {
        header += 2;
    }
    tagged(0, bytes.get(header..)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    /// A UDP datagram from 10.0.0.1:1000 to 10.0.0.2:53 that carries `hi`.
    const PACKET: [u8; 30] = [
        0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 3, 232, 0, 53, 0, 10,
        0, 0, b'h', b'i',
    ];

    fn inner(link: u32, header: &[u8]) -> Option<Vec<u8>> {
        let bytes = [header, &PACKET].concat();
        let frame = Frame {
            number: 1,
            at: Time::default(),
            link,
            bytes: &bytes,
            wire: bytes.len() as u32,
        };
        network(&frame).map(<[u8]>::to_vec)
    }

    #[test]
    fn every_link_type_leads_to_the_same_packet() {
        let ethernet = [7; 12];
        let with = |tail: &[u8]| [&ethernet[..], tail].concat();
        let snap: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
        for (link, header) in [
            (1, with(&[8, 0])),
            (1, with(&[0x81, 0, 0, 5, 8, 0])),
            (1, with(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0])),
            (1, with(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 32, 0, 0x21])),
            (1, with(&[0x88, 0x47, 0, 1, 0, 64, 0, 1, 1, 64])),
            (1, with(&[&[0, 38][..], snap].concat())),
            (0, vec![2, 0, 0, 0]),
            (101, vec![]),
            (104, vec![0x0f, 0, 8, 0]),
            (113, [&[0; 14][..], &[8, 0]].concat()),
            (276, [&[8, 0][..], &[0; 18]].concat()),
            (9, vec![0xff, 3, 0, 0x21]),
            (50, vec![0xff, 3, 0, 0x21]),
            (51, vec![0x11, 0, 0, 1, 0, 32, 0, 0x21]),
            (204, vec![1, 0xff, 3, 0, 0x21]),
            (6, [&[0; 14][..], snap].concat()),
            (10, [&[0; 13][..], snap].concat()),
            (117, vec![61; 64]),
            (119, [&[0; 144][..], &[8, 1], &[0; 22], snap].concat()),
            (
                163,
                [&[0, 0, 0, 0, 0, 0, 0, 8][..], &[8, 1], &[0; 22], snap].concat(),
            ),
            (
                192,
                [&[0, 0, 8, 0, 1, 0, 0, 0][..], &with(&[8, 0])].concat(),
            ),
            (239, vec![2, 0, 0, 0, 6, 0, 1, 0, 8, 0, 0, 0, 34, 0, 9, 0]),
            (258, [&[12, 0, 0, 0, 1, 0, 0, 0, 101, 0, 0, 0][..]].concat()),
            (105, [&[8, 1][..], &[0; 22], snap].concat()),
            (
                127,
                [&[0, 0, 8, 0, 0, 0, 0, 0, 0x88, 1][..], &[0; 24], snap].concat(),
            ),
        ] {
            assert_eq!(
                inner(link, &header).as_deref(),
                Some(&PACKET[..]),
                "{link} {header:x?}"
            );
        }
        assert_eq!(inner(1, &with(&[8, 6])), None, "ARP");
        assert_eq!(inner(9999, &[]), None);
    }

    #[test]
    fn a_cut_packet_is_read_as_far_as_it_goes() {
        let whole = read(&PACKET).unwrap();
        assert_eq!(whole.payload, b"hi");
        assert_eq!(whole.destination, "10.0.0.2:53".parse().unwrap());
        assert_eq!(read(&PACKET[..29]).unwrap().payload, b"h");
        for length in 0..PACKET.len() {
            let _ = read(&PACKET[..length]);
        }
    }
}
