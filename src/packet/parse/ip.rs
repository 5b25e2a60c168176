//! The IP layer of a packet: header, options, extension headers, fragment fields.
use super::{Fragment, MAX_LEN, Malformed};
use crate::packet::checksum::Sum;
use crate::packet::protocol::{self, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of the fixed IPv6 header.
pub(in crate::packet) const IPV6_LEN: usize = 40;

/// How many extension headers an IPv6 packet may carry.
const MAX_EXTENSIONS: usize = 8;

/// The IP layer of a packet.
pub(super) struct Ip<'a> {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    pub(super) hop_limit: u8,
    pub(super) ip_len: usize,
    pub(super) fragment: Option<Fragment>,
    /// The packet without padding behind it.
    pub(super) packet: &'a [u8],
}

impl<'a> Ip<'a> {
    /// Reads and checks everything below the transport.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let ip = match bytes.first().map(|b| b >> 4) {
            Some(4) => ipv4(bytes)?,
            Some(6) => ipv6(bytes)?,
            Some(_) => return Err(Malformed::Version),
            None => return Err(Malformed::Truncated),
        };
        check_addresses(ip.src, ip.dst)?;
        if let Some(fragment) = ip.fragment {
            check_fragment(&ip, fragment)?;
        }
        Ok(ip)
    }

    /// What the IP header carries.
    pub(super) fn body(&self) -> &'a [u8] {
        self.packet.get(self.ip_len..).unwrap_or_default()
    }
}

/// RFC 791, section 3.1.
fn ipv4(bytes: &[u8]) -> Result<Ip<'_>, Malformed> {
    let header: &[u8; 20] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
    let [
        first,
        _,
        l0,
        l1,
        i0,
        i1,
        f0,
        f1,
        hop_limit,
        protocol,
        _,
        _,
        addresses @ ..,
    ] = *header;
    let ip_len = usize::from(first & 0x0f) * 4;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    if ip_len < header.len() || len < ip_len {
        return Err(Malformed::HeaderLength);
    }
    let packet = bytes.get(..len).ok_or(Malformed::Truncated)?;
    let (header, _) = packet
        .split_at_checked(ip_len)
        .ok_or(Malformed::Truncated)?;
    if !Sum::of(header).is_valid() {
        return Err(Malformed::HeaderChecksum);
    }
    if let Some(options @ [_, ..]) = header.get(20..) {
        check_ipv4_options(options)?;
    }
    let ([src, dst], _) = addresses.as_chunks::<4>() else {
        return Err(Malformed::Truncated);
    };
    let flags = u16::from_be_bytes([f0, f1]);
    let (offset, more) = ((flags & 0x1fff) << 3, flags & 0x2000 != 0);
    Ok(Ip {
        src: Ipv4Addr::from(*src).into(),
        dst: Ipv4Addr::from(*dst).into(),
        protocol,
        hop_limit,
        ip_len,
        fragment: (offset != 0 || more).then_some(Fragment {
            id: u32::from(u16::from_be_bytes([i0, i1])),
            offset,
            more,
            payload: ip_len,
        }),
        packet,
    })
}

/// Only padding and router alert (RFC 2113) are taken; padding that is not zero would carry something.
fn check_ipv4_options(mut options: &[u8]) -> Result<(), Malformed> {
    loop {
        options = match *options {
            [] => return Ok(()),
            // End of the list; what follows is padding.
            [0, ref padding @ ..] if padding.iter().all(|b| *b == 0) => return Ok(()),
            [1, ref rest @ ..] => rest,
            [148, 4, _, _, ref rest @ ..] => rest,
            // Loose and strict source route.
            [131 | 137, ..] => return Err(Malformed::SourceRoute),
            _ => return Err(Malformed::IpOption),
        };
    }
}

/// RFC 8200, section 3.
fn ipv6(bytes: &[u8]) -> Result<Ip<'_>, Malformed> {
    let header: &[u8; IPV6_LEN] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
    let [_, _, _, _, l0, l1, next, hop_limit, addresses @ ..] = header;
    let len = usize::from(u16::from_be_bytes([*l0, *l1])) + IPV6_LEN;
    if len == IPV6_LEN && *next == HOP_BY_HOP {
        return Err(Malformed::Jumbogram);
    }
    if len > MAX_LEN {
        return Err(Malformed::TooLong);
    }
    let packet = bytes.get(..len).ok_or(Malformed::Truncated)?;
    let chain = walk(packet, *next)?;
    let ([src, dst], _) = addresses.as_chunks::<16>() else {
        return Err(Malformed::Truncated);
    };
    Ok(Ip {
        src: Ipv6Addr::from(*src).into(),
        dst: Ipv6Addr::from(*dst).into(),
        protocol: chain.protocol,
        hop_limit: *hop_limit,
        ip_len: chain.end,
        fragment: chain.fragment,
        packet,
    })
}

/// Where the extension headers of an IPv6 packet lead.
struct Chain {
    protocol: u8,
    end: usize,
    fragment: Option<Fragment>,
}

/// Walks the extension headers (RFC 8200, section 4) to the transport header, or to the end of a fragment header.
fn walk(packet: &[u8], next: u8) -> Result<Chain, Malformed> {
    let mut chain = Chain {
        protocol: next,
        end: IPV6_LEN,
        fragment: None,
    };
    for count in 0..=MAX_EXTENSIONS {
        let kind = chain.protocol;
        match kind {
            HOP_BY_HOP | DESTINATION_OPTIONS | FRAGMENT if count == MAX_EXTENSIONS => break,
            HOP_BY_HOP if count > 0 => return Err(Malformed::ExtensionOrder),
            ROUTING => return Err(Malformed::RoutingHeader),
            HOP_BY_HOP | DESTINATION_OPTIONS => {
                let rest = packet.get(chain.end..).unwrap_or_default();
                let (next, options) = options_header(rest).ok_or(Malformed::Truncated)?;
                check_ipv6_options(options)?;
                chain.protocol = next;
                chain.end += options.len() + 2;
            }
            FRAGMENT => {
                let rest = packet.get(chain.end..).unwrap_or_default();
                let [next, _, o0, o1, id @ ..] =
                    *rest.first_chunk::<8>().ok_or(Malformed::Truncated)?;
                let field = u16::from_be_bytes([o0, o1]);
                chain.protocol = next;
                chain.end += 8;
                chain.fragment = Some(Fragment {
                    id: u32::from_be_bytes(id),
                    offset: field & 0xfff8,
                    more: field & 1 != 0,
                    payload: chain.end,
                });
                return Ok(chain);
            }
            _ => return Ok(chain),
        }
    }
    Err(Malformed::ExtensionCount)
}

/// The next header and the options of a hop-by-hop or destination options header (RFC 8200, sections 4.3 and 4.6).
fn options_header(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [next, units, rest @ ..] = bytes else {
        return None;
    };
    Some((*next, rest.get(..usize::from(*units) * 8 + 6)?))
}

/// Only padding (RFC 8200, section 4.2) and router alert (RFC 2711) are taken; padding that is not zero would carry
/// something.
fn check_ipv6_options(mut options: &[u8]) -> Result<(), Malformed> {
    loop {
        options = match options {
            [] => return Ok(()),
            // Pad1 has no length.
            [0, rest @ ..] => rest,
            [kind @ (1 | 5), len, rest @ ..] => {
                let (value, rest) = rest
                    .split_at_checked(usize::from(*len))
                    .ok_or(Malformed::IpOption)?;
                let harmless = match kind {
                    5 => value.len() == 2,
                    _ => value.iter().all(|b| *b == 0),
                };
                if !harmless {
                    return Err(Malformed::IpOption);
                }
                rest
            }
            [0xc2, ..] => return Err(Malformed::Jumbogram),
            _ => return Err(Malformed::IpOption),
        };
    }
}

fn check_addresses(src: IpAddr, dst: IpAddr) -> Result<(), Malformed> {
    if src.is_multicast() || src.is_unspecified() || src == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(Malformed::Source);
    }
    if dst.is_unspecified() {
        return Err(Malformed::Destination);
    }
    if src == dst {
        return Err(Malformed::Land);
    }
    Ok(())
}

fn check_fragment(ip: &Ip<'_>, fragment: Fragment) -> Result<(), Malformed> {
    let data = ip.body();
    if data.is_empty() || (fragment.more && !data.len().is_multiple_of(8)) {
        return Err(Malformed::FragmentLength);
    }
    if ip.ip_len + usize::from(fragment.offset) + data.len() > MAX_LEN {
        return Err(Malformed::FragmentBeyond);
    }
    if fragment.offset == 0 {
        check_first_fragment(ip, data)?;
    }
    Ok(())
}

/// The first fragment has to hold everything up to the data of the transport.
fn check_first_fragment(ip: &Ip<'_>, data: &[u8]) -> Result<(), Malformed> {
    let (protocol, transport) = if ip.src.is_ipv4() {
        (ip.protocol, data)
    } else {
        rest_of_chain(ip.protocol, data)?
    };
    let needed = match protocol {
        protocol::TCP => transport
            .get(12)
            .map_or(20, |b| usize::from(b >> 4).max(5) * 4),
        protocol::UDP | protocol::ICMP | protocol::ICMPV6 => 8,
        _ => 0,
    };
    if transport.len() < needed {
        return Err(Malformed::TinyFragment);
    }
    Ok(())
}

/// Walks what is left of the extension headers behind a fragment header, where only destination options are legal.
fn rest_of_chain(mut next: u8, mut data: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    for _ in 0..MAX_EXTENSIONS {
        match next {
            ROUTING => return Err(Malformed::RoutingHeader),
            HOP_BY_HOP | FRAGMENT => return Err(Malformed::ExtensionOrder),
            DESTINATION_OPTIONS => {
                let (after, options) = options_header(data).ok_or(Malformed::TinyFragment)?;
                check_ipv6_options(options)?;
                next = after;
                data = data.get(options.len() + 2..).unwrap_or_default();
            }
            _ => return Ok((next, data)),
        }
    }
    Err(Malformed::ExtensionCount)
}
