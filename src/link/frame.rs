//! From a captured frame to the transport payload, as far as it was captured. The gate refuses cut or odd packets; a
//! capture is full of them, so they are read leniently here.

use super::pcap::Frame;
use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use std::net::{IpAddr, SocketAddr};

/// Most tags and labels before the network header.
const MOST_TAGS: usize = 8;

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
    let bytes = frame.bytes;
    match frame.link {
        // Ethernet.
        1 => ether(bytes.get(12..)?),
        // BSD loopback: a family in either byte order.
        0 | 108 => bytes.get(4..),
        9 => ppp(bytes),
        // Raw IP, in several numberings, and its two versions.
        12 | 14 | 101 | 228 | 229 => Some(bytes),
        // Cisco HDLC: address, control, type.
        104 => ether(bytes.get(2..)?),
        // IEEE 802.11, without and with a radio header.
        105 => wifi(bytes),
        127 => {
            let length = u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?);
            wifi(bytes.get(usize::from(length)..)?)
        }
        // Linux "cooked", both versions.
        113 => ether(bytes.get(14..)?),
        276 => {
            let kind = *bytes.first_chunk::<2>()?;
            tagged(u16::from_be_bytes(kind), bytes.get(20..)?)
        }
        _ => None,
    }
}

/// Reads the packet in a frame; `None` if it holds none that is IP.
pub fn read<'a>(packet: &'a [u8]) -> Option<Seen<'a>> {
    let sliced = LaxSlicedPacket::from_ip(packet).ok()?;
    let (source, destination, protocol, fragment) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => (
            IpAddr::V4(ip.header().source_addr()),
            IpAddr::V4(ip.header().destination_addr()),
            ip.payload().ip_number.0,
            ip.payload().fragmented,
        ),
        LaxNetSlice::Ipv6(ip) => (
            IpAddr::V6(ip.header().source_addr()),
            IpAddr::V6(ip.header().destination_addr()),
            ip.payload().ip_number.0,
            ip.payload().fragmented,
        ),
        LaxNetSlice::Arp(_) => return None,
    };
    let (ports, payload, segment): (_, &'a [u8], _) = match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => (
            (udp.source_port(), udp.destination_port()),
            udp.payload(),
            None,
        ),
        Some(TransportSlice::Tcp(tcp)) => (
            (tcp.source_port(), tcp.destination_port()),
            tcp.payload(),
            Some(Segment {
                sequence: tcp.sequence_number(),
                syn: tcp.syn(),
                ack: tcp.ack(),
                end: tcp.fin() || tcp.rst(),
            }),
        ),
        _ => ((0, 0), &[], None),
    };
    Some(Seen {
        source: SocketAddr::new(source, ports.0),
        destination: SocketAddr::new(destination, ports.1),
        protocol,
        payload,
        segment,
        fragment,
        length: packet.len(),
    })
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
