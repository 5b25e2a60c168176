//! Sets of addresses, kept as sorted ranges.

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Networks {
    /// First and last address, disjoint, in order.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => within(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => within(&self.v6, v6.to_bits()),
        }
    }

    /// Its lowest address.
    pub(super) fn first(&self) -> Option<IpAddr> {
        let v4 = self
            .v4
            .first()
            .map(|(first, _)| IpAddr::V4(Ipv4Addr::from_bits(*first)));
        v4.or_else(|| {
            self.v6
                .first()
                .map(|(first, _)| IpAddr::V6(Ipv6Addr::from_bits(*first)))
        })
    }

    /// The networks that make it up.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        let v4 = self.v4.iter().flat_map(|(first, last)| {
            Ipv4Subnets::new(Ipv4Addr::from_bits(*first), Ipv4Addr::from_bits(*last), 0)
        });
        let v6 = self.v6.iter().flat_map(|(first, last)| {
            Ipv6Subnets::new(Ipv6Addr::from_bits(*first), Ipv6Addr::from_bits(*last), 0)
        });
        v4.map(IpNet::V4).chain(v6.map(IpNet::V6))
    }

    /// Whether every address of this set is also in the other.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        covered(&self.v4, &other.v4) && covered(&self.v6, &other.v6)
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self {
            v4: merged(v4, |last| last.saturating_add(1)),
            v6: merged(v6, |last| last.saturating_add(1)),
        }
    }
}

/// A network as a policy writes it: without the prefix if it is one address.
pub(super) fn written(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    covered(&[(address, address)], ranges)
}

/// Whether each range lies in one of the others, which are disjoint and in order.
fn covered<T: Ord + Copy>(ranges: &[(T, T)], others: &[(T, T)]) -> bool {
    ranges.iter().all(|(first, last)| {
        let after = others.partition_point(|(start, _)| start <= first);
        after
            .checked_sub(1)
            .and_then(|index| others.get(index))
            .is_some_and(|(_, end)| last <= end)
    })
}

fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> T) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= next(*end) => *end = last.max(*end),
            Some(_) | None => joined.push((first, last)),
        }
    }
    joined.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jurisdiction::network;

    fn set(nets: &[&str]) -> Networks {
        nets.iter().map(|net| network(net).unwrap()).collect()
    }

    #[test]
    fn overlapping_and_adjacent_networks_are_one_range() {
        let nets = set(&["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "2001:db8::/32"]);
        assert_eq!(nets.v4.len(), 1);
        for (address, inside) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("2001:db8::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(nets.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(
            set(&["0.0.0.0/0", "255.255.255.255"]).contains("255.255.255.255".parse().unwrap())
        );
    }

    #[test]
    fn a_set_is_within_another_only_if_every_range_is() {
        assert!(set(&["10.1.0.0/16"]).is_within(&set(&["10.0.0.0/8", "::/0"])));
        assert!(!set(&["10.1.0.0/16", "11.0.0.1"]).is_within(&set(&["10.0.0.0/8"])));
        assert!(!set(&["::1"]).is_within(&set(&["0.0.0.0/0"])));
    }

    #[test]
    fn stray_bits_are_refused_and_mapped_networks_become_ipv4() {
        assert!(network("10.0.0.1/8").unwrap_err().contains("10.0.0.0/8"));
        assert!(network("10.0.0.0/33").is_err() && network("example.org").is_err());
        assert_eq!(
            written(&network("::ffff:10.0.0.0/104").unwrap()),
            "10.0.0.0/8"
        );
        assert_eq!(written(&network("::ffff:10.0.0.1").unwrap()), "10.0.0.1");
    }
}
