//! What must not cross from the site to the internet, whatever it carries: judged by destination alone.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a datagram belongs to the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A group, not a host: 224.0.0.0/4, ff00::/8.
    Multicast,
    /// All hosts of the link (255.255.255.255), or of a known prefix (its last address).
    Broadcast,
    /// A link-local address (169.254.0.0/16, fe80::/10): no router may forward it.
    LinkLocal,
    /// A protocol that finds neighbours and names the device, sent beyond the site.
    Discovery(Discovery),
}

/// Protocols by which devices find each other on a LAN. They tell host names, owners' names and serial numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Discovery {
    /// Multicast DNS, UDP 5353 (RFC 6762).
    Mdns,
    /// Link-Local Multicast Name Resolution, UDP 5355 (RFC 4795).
    Llmnr,
    /// NetBIOS name and datagram service, UDP 137 and 138 (RFC 1002).
    Netbios,
    /// Simple Service Discovery Protocol, UDP 1900 (UPnP Device Architecture).
    Ssdp,
    /// WS-Discovery, UDP 3702.
    WsDiscovery,
    /// DHCP, UDP 67 and 68 (RFC 2131).
    Dhcp,
    /// DHCPv6, UDP 546 and 547 (RFC 8415).
    Dhcpv6,
}

impl Scope {
    /// The reason in one word, for events: `multicast`, `broadcast`, `link-local`, `mdns`, …
    pub const fn name(self) -> &'static str {
        match self {
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::LinkLocal => "link-local",
            Self::Discovery(Discovery::Mdns) => "mdns",
            Self::Discovery(Discovery::Llmnr) => "llmnr",
            Self::Discovery(Discovery::Netbios) => "netbios",
            Self::Discovery(Discovery::Ssdp) => "ssdp",
            Self::Discovery(Discovery::WsDiscovery) => "ws-discovery",
            Self::Discovery(Discovery::Dhcp) => "dhcp",
            Self::Discovery(Discovery::Dhcpv6) => "dhcpv6",
        }
    }
}

/// Why a packet to this address and port never leaves the site; `None` if it may. `protocol` is the transport protocol
/// number. Discovery protocols may go to private addresses, where a routed site answers them, and nowhere else.
pub fn scope(destination: IpAddr, port: u16, protocol: u8) -> Option<Scope> {
    const UDP: u8 = 17;
    let destination = destination.to_canonical();
    let reason = match destination {
        IpAddr::V4(address) => scope_v4(address),
        IpAddr::V6(address) => scope_v6(address),
    };
    reason.or_else(|| {
        (protocol == UDP && !is_site(destination))
            .then(|| discovery(port))
            .flatten()
            .map(Scope::Discovery)
    })
}

/// As [`scope`], and knows the broadcast addresses of these prefixes: those of the gateway's own links.
pub fn scope_within(
    prefixes: &[IpNet],
    destination: IpAddr,
    port: u16,
    protocol: u8,
) -> Option<Scope> {
    let canonical = destination.to_canonical();
    let broadcast = prefixes.iter().any(|prefix| match (prefix, canonical) {
        // A prefix of 31 or 32 bits has no broadcast address (RFC 3021).
        (IpNet::V4(prefix), IpAddr::V4(address)) => {
            prefix.prefix_len() < 31 && prefix.broadcast() == address
        }
        _ => false,
    });
    if broadcast {
        return Some(Scope::Broadcast);
    }
    scope(destination, port, protocol)
}

fn scope_v4(address: Ipv4Addr) -> Option<Scope> {
    if address.is_multicast() {
        return Some(Scope::Multicast);
    }
    if address.is_broadcast() {
        return Some(Scope::Broadcast);
    }
    address.is_link_local().then_some(Scope::LinkLocal)
}

fn scope_v6(address: Ipv6Addr) -> Option<Scope> {
    if address.is_multicast() {
        return Some(Scope::Multicast);
    }
    address.is_unicast_link_local().then_some(Scope::LinkLocal)
}

/// Whether an address can lie within the site: private (RFC 1918), unique local (RFC 4193) or loopback.
fn is_site(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_loopback(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_loopback(),
    }
}

fn discovery(port: u16) -> Option<Discovery> {
    match port {
        67 | 68 => Some(Discovery::Dhcp),
        137 | 138 => Some(Discovery::Netbios),
        546 | 547 => Some(Discovery::Dhcpv6),
        1900 => Some(Discovery::Ssdp),
        3702 => Some(Discovery::WsDiscovery),
        5353 => Some(Discovery::Mdns),
        5355 => Some(Discovery::Llmnr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str, port: u16, protocol: u8) -> Option<&'static str> {
        scope(address.parse().unwrap(), port, protocol).map(Scope::name)
    }

    #[test]
    fn groups_broadcasts_and_link_local_never_cross() {
        assert_eq!(of("224.0.0.251", 5353, 17), Some("multicast"));
        assert_eq!(of("239.255.255.250", 1900, 17), Some("multicast"));
        assert_eq!(of("ff02::fb", 5353, 17), Some("multicast"));
        assert_eq!(of("255.255.255.255", 9, 17), Some("broadcast"));
        assert_eq!(of("169.254.7.7", 80, 6), Some("link-local"));
        assert_eq!(of("fe80::1", 80, 6), Some("link-local"));
        assert_eq!(of("::ffff:224.0.0.1", 80, 17), Some("multicast"));
    }

    #[test]
    fn discovery_stays_within_the_site() {
        for (port, name) in [
            (67, "dhcp"),
            (68, "dhcp"),
            (137, "netbios"),
            (138, "netbios"),
            (546, "dhcpv6"),
            (547, "dhcpv6"),
            (1900, "ssdp"),
            (3702, "ws-discovery"),
            (5353, "mdns"),
            (5355, "llmnr"),
        ] {
            assert_eq!(of("203.0.113.9", port, 17), Some(name));
            assert_eq!(of("2001:db8::9", port, 17), Some(name));
            assert_eq!(of("192.168.1.9", port, 17), None, "to the site: {port}");
            assert_eq!(of("fd00::9", port, 17), None, "to the site: {port}");
            assert_eq!(of("203.0.113.9", port, 6), None, "TCP: {port}");
        }
    }

    #[test]
    fn ordinary_traffic_has_no_scope() {
        assert_eq!(of("203.0.113.9", 443, 17), None);
        assert_eq!(of("203.0.113.9", 443, 6), None);
        assert_eq!(of("2001:db8::9", 53, 17), None);
    }

    #[test]
    fn directed_broadcasts_are_known_by_their_prefix() {
        let links: Vec<IpNet> = ["192.168.7.0/24", "203.0.113.8/31", "fd00::/64"]
            .iter()
            .map(|prefix| prefix.parse().unwrap())
            .collect();
        let of = |address: &str| scope_within(&links, address.parse().unwrap(), 9, 17);
        assert_eq!(of("192.168.7.255"), Some(Scope::Broadcast));
        assert_eq!(of("192.168.8.255"), None);
        assert_eq!(of("203.0.113.9"), None);
    }
}
