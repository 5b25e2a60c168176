//! ICMP errors that come out of a tunnel: which of our packets they are about, and what they say of it.

use crate::packet::build::Unreachable;
use crate::packet::{IcmpError, Parsed, protocol};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What somebody on the way, or at the end of it, says of a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The packet's protocol.
    pub(super) protocol: u8,
    /// Where it came from: our address, and our port or identifier.
    pub(super) from: SocketAddr,
    /// Where it went; of an echo request without a port.
    pub(super) to: SocketAddr,
    /// What became of it.
    pub(super) why: Unreachable,
}

impl Complaint {
    /// Reads an error, of which `bytes` are the packet. `None` if it quotes no packet of TCP, UDP or echo from its
    /// beginning, or says nothing that matters to whoever sent it.
    pub(super) fn read(bytes: &[u8], parsed: &Parsed, error: &IcmpError) -> Option<Self> {
        let quoted = bytes.get(error.quoted..parsed.len)?;
        let v4 = parsed.src.is_ipv4();
        let mtu = bytes.get(error.quoted.checked_sub(4)?..error.quoted)?;
        let why = match v4 {
            true => meaning_v4(error, u16::from_be_bytes(*mtu.last_chunk()?)),
            false => meaning_v6(error, u32::from_be_bytes(*mtu.first_chunk()?)),
        }?;
        let (protocol, from, to, rest) = if v4 { of_v4(quoted) } else { of_v6(quoted) }?;
        let word = |at: usize| {
            let bytes = rest.get(at..)?.first_chunk()?;
            Some(u16::from_be_bytes(*bytes))
        };
        let (ours, theirs) = match protocol {
            protocol::TCP | protocol::UDP => (word(0)?, word(2)?),
            // An echo request.
            protocol::ICMP if rest.first() == Some(&8) => (word(4)?, 0),
            protocol::ICMPV6 if rest.first() == Some(&128) => (word(4)?, 0),
            _ => return None,
        };
        Some(Self {
            protocol,
            from: SocketAddr::new(from, ours),
            to: SocketAddr::new(to, theirs),
            why,
        })
    }
}

/// RFC 792; RFC 1812, section 5.2.7.1; RFC 1191, section 4.
fn meaning_v4(error: &IcmpError, mtu: u16) -> Option<Unreachable> {
    match (error.kind, error.code) {
        (3, 0 | 6 | 11) => Some(Unreachable::Network),
        (3, 3) => Some(Unreachable::Port),
        (3, 4) => Some(Unreachable::TooBig(mtu)),
        (3, 9 | 10 | 13) => Some(Unreachable::Prohibited),
        (3, _) => Some(Unreachable::Host),
        (11, 0) => Some(Unreachable::HopLimit),
        _ => None,
    }
}

/// RFC 4443, section 3.
fn meaning_v6(error: &IcmpError, mtu: u32) -> Option<Unreachable> {
    match (error.kind, error.code) {
        (1, 0) => Some(Unreachable::Network),
        (1, 1 | 5 | 6) => Some(Unreachable::Prohibited),
        (1, 4) => Some(Unreachable::Port),
        (1, _) => Some(Unreachable::Host),
        (2, _) => Some(Unreachable::TooBig(u16::try_from(mtu).unwrap_or(u16::MAX))),
        (3, 0) => Some(Unreachable::HopLimit),
        _ => None,
    }
}

type Quoted<'a> = (u8, IpAddr, IpAddr, &'a [u8]);

fn of_v4(quoted: &[u8]) -> Option<Quoted<'_>> {
    let header = quoted.first_chunk::<20>()?;
    let [version, _, _, _, _, _, f0, f1, _, protocol, ..] = *header;
    let fragment = u16::from_be_bytes([f0, f1]) & 0x1fff;
    if version >> 4 != 4 || fragment != 0 {
        return None;
    }
    let address = |at: usize| {
        let bytes = header.get(at..)?.first_chunk::<4>()?;
        Some(IpAddr::from(*bytes))
    };
    let rest = quoted.get(usize::from(version & 15) * 4..)?;
    Some((protocol, address(12)?, address(16)?, rest))
}

fn of_v6(quoted: &[u8]) -> Option<Quoted<'_>> {
    const FRAGMENT: u8 = 44;
    let (header, mut rest) = quoted.split_first_chunk::<40>()?;
    let [version, _, _, _, _, _, mut next, ..] = *header;
    if version >> 4 != 6 {
        return None;
    }
    if next == FRAGMENT {
        let ([after, _, f0, f1, ..], behind) = rest.split_first_chunk::<8>()?;
        if u16::from_be_bytes([*f0, *f1]) >> 3 != 0 {
            return None;
        }
        (next, rest) = (*after, behind);
    }
    let address = |at: usize| {
        let bytes = header.get(at..)?.first_chunk::<16>()?;
        Some(IpAddr::V6(Ipv6Addr::from(*bytes)))
    };
    Some((next, address(8)?, address(24)?, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

    use super::*;
    use crate::packet::{Checksum, Transport, build, split};
    use proptest::prelude::*;

    /// The error that a router sends about this packet.
    fn complaint(packet: &[u8], why: Unreachable, router: &str) -> Option<Complaint> {
        let parsed = Parsed::read(packet, Checksum::Trust).unwrap();
        let mut out = Vec::new();
        build::unreachable(&mut out, &parsed, packet, why, router.parse().unwrap());
        if out.is_empty() {
            // Nobody complains of a later fragment.
            return None;
        }
        let parsed = Parsed::read(&out, Checksum::Verify).unwrap();
        let Transport::IcmpError(error) = parsed.transport else {
            panic!("{parsed:?}");
        };
        Complaint::read(&out, &parsed, &error)
    }

    #[test]
    fn errors_are_about_the_packet_that_they_quote() {
        for (ours, theirs, router) in [
            ("10.9.0.2:50000", "198.51.100.1:53", "192.0.2.1"),
            ("[fd09::2]:50000", "[2001:db8::1]:53", "2001:db8::fe"),
        ] {
            let [from, to] = [ours, theirs].map(|at| at.parse::<SocketAddr>().unwrap());
            for why in [
                Unreachable::Prohibited,
                Unreachable::Network,
                Unreachable::Host,
                Unreachable::Port,
                Unreachable::TooBig(1400),
                Unreachable::HopLimit,
            ] {
                let mut buffer = vec![7; build::HEADROOM + 100];
                let (start, _) = build::udp_in_place(&mut buffer, build::HEADROOM, from, to, 0);
                let heard = complaint(&buffer[start..], why, router).unwrap();
                let protocol = protocol::UDP;
                let wanted = Complaint {
                    protocol,
                    from,
                    to,
                    why,
                };
                assert_eq!(heard, wanted);
                let (a, b) = (from.ip(), to.ip());
                let at = build::HEADROOM;
                let (start, _) = build::echo_request_in_place(&mut buffer, at, a, b, 9, 1);
                let heard = complaint(&buffer[start..], why, router).unwrap();
                assert_eq!((heard.from, heard.to.port()), (SocketAddr::new(a, 9), 0));
            }
        }
    }

    #[test]
    fn an_error_about_a_fragment_is_understood_if_it_is_the_first() {
        for (ours, theirs, router) in [
            ("10.9.0.2:50000", "198.51.100.1:53", "192.0.2.1"),
            ("[fd09::2]:50000", "[2001:db8::1]:53", "2001:db8::fe"),
        ] {
            let [from, to] = [ours, theirs].map(|at| at.parse::<SocketAddr>().unwrap());
            let mut buffer = vec![7; build::HEADROOM + 3000];
            let (start, _) = build::udp_in_place(&mut buffer, build::HEADROOM, from, to, 0);
            let mut understood = Vec::new();
            split::fragments(&buffer[start..], 1400, |fragment| {
                let heard = complaint(fragment, Unreachable::Host, router);
                understood.push(heard.is_some_and(|heard| heard.from == from && heard.to == to));
            });
            assert_eq!(understood, [true, false, false]);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_quoted_brings_it_down(
            quoted in proptest::collection::vec(any::<u8>(), 0..100), v6: bool, kind: u8, code: u8,
        ) {
            let at = if v6 { 48 } else { 28 };
            let bytes = [vec![0; at], quoted].concat();
            let [from, to] = match v6 {
                true => ["2001:db8::1", "2001:db8::2"],
                false => ["192.0.2.1", "192.0.2.2"],
            }
            .map(|ip| ip.parse::<IpAddr>().unwrap());
            let mut ping = vec![0; build::HEADROOM];
            let end = ping.len();
            let (start, _) = build::echo_request_in_place(&mut ping, end, from, to, 1, 1);
            let mut parsed = Parsed::read(&ping[start..], Checksum::Trust).unwrap();
            parsed.len = bytes.len();
            let _ = Complaint::read(&bytes, &parsed, &IcmpError { kind, code, quoted: at });
        }
    }
}
