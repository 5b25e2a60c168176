//! Countries, networks, numbers and dates as people write them, in policies as in the files of operators and groups.

use super::{Asn, Country};
use crate::document::{Node, Reader, Shown, accept};
use ipnet::IpNet;
use std::net::IpAddr;

/// A country by its code.
pub(crate) fn country(text: &str) -> Result<Country, String> {
    Country::parse(text).map_err(|bad| format!("`{}` {bad}", Shown(text)))
}

/// An address or a network in CIDR form; IPv4-mapped ones become IPv4.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let net: IpNet = text.parse().map_err(|_| {
        format!(
            "`{}` is not an address or a network like 192.0.2.0/24",
            Shown(text)
        )
    })?;
    if net.addr() != net.network() {
        return Err(format!(
            "`{}` has bits set beyond its prefix; write {}",
            Shown(text),
            net.trunc()
        ));
    }
    Ok(unmapped(net))
}

/// The number of an autonomous system, as such or with `AS` before it.
pub(crate) fn asn(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Asn> {
    if node.is_integer() {
        return node.integer(0..=u32::MAX, reader);
    }
    let text = node.string(reader)?;
    let number = text
        .strip_prefix("AS")
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| {
            format!(
                "`{}` is not an AS number like 64500 or \"AS64500\"",
                Shown(text)
            )
        });
    accept(number, node, reader)
}

/// A day, `YYYY-MM-DD`, as a string or as TOML's own.
pub(super) fn date(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let text = match node.is_datetime() {
        true => node.datetime(reader)?.to_string(),
        false => node.string(reader)?.to_owned(),
    };
    let day = unix_date(&text).map(|_| text.clone());
    let day = day.ok_or_else(|| format!("`{}` is not a date like 2026-06-17", Shown(&text)));
    accept(day, node, reader)
}

/// Midnight UTC of a date, in seconds since the Unix epoch.
pub(super) fn unix_date(date: &str) -> Option<u64> {
    let date: jiff::civil::Date = date.parse().ok()?;
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(midnight.timestamp().as_second()).ok()
}

/// A name that policies can use.
pub(super) fn name<'v>(node: Node<'v>, reader: &mut Reader<'_>) -> Option<&'v str> {
    let text = node.string(reader)?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let name = match !text.is_empty() && text.bytes().all(fits) {
        true => Ok(text),
        false => Err(format!(
            "`{}` may have only a-z, 0-9 and `-`, and at least one of them",
            Shown(text)
        )),
    };
    accept(name, node, reader)
}

/// The members of a list, each read; what cannot be read is left out, and told.
pub(super) fn each<'v, T>(
    node: Option<Node<'v>>,
    reader: &mut Reader<'_>,
    mut read: impl FnMut(Node<'v>, &mut Reader<'_>) -> Option<T>,
) -> Vec<(T, usize)> {
    let members = node.map(Node::members).unwrap_or_default().into_iter();
    members
        .filter_map(|member| read(member, reader).map(|value| (value, member.start)))
        .collect()
}

fn unmapped(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let (Some(inner), Some(prefix)) =
            (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        && let Ok(v4) = ipnet::Ipv4Net::new(inner, prefix)
    {
        return IpNet::V4(v4);
    }
    net
}
