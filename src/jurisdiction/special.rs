//! What an address is before any table is asked: its special range, and the IPv4 address that it carries inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range with a purpose of its own; such an address has no country.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// Private (RFC 1918), unique local (RFC 4193).
    Private,
    /// Loopback.
    Loopback,
    /// Link-local (RFC 3927, RFC 4291).
    LinkLocal,
    /// Multicast.
    Multicast,
    /// Shared address space of carriers (RFC 6598).
    Cgnat,
    /// Documentation (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// Benchmarking (RFC 2544, RFC 5180).
    Benchmarking,
    /// Reserved, and everything else that is not globally reachable; the limited broadcast address.
    Reserved,
    /// Unspecified.
    Unspecified,
}

impl Special {
    /// Its name as the commands print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Cgnat => "cgnat",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Reserved => "reserved",
            Self::Unspecified => "unspecified",
        }
    }
}

/// How an IPv6 address carries an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Embedding {
    /// IPv4-mapped, `::ffff:0:0/96` (RFC 4291, section 2.5.5.2).
    Mapped,
    /// NAT64 by the well-known prefix `64:ff9b::/96` (RFC 6052).
    Nat64,
    /// 6to4, `2002::/16` (RFC 3056).
    SixToFour,
    /// Teredo, `2001::/32` (RFC 4380, section 4): the peer is the client; its relay is the server.
    Teredo {
        /// The server's address, in the clear in bits 32 to 63.
        server: Ipv4Addr,
    },
}

impl Embedding {
    /// Its name as the commands print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mapped => "IPv4-mapped",
            Self::Nat64 => "NAT64",
            Self::SixToFour => "6to4",
            Self::Teredo { .. } => "Teredo",
        }
    }
}

/// The address that answers for `address`, and how it was embedded if it is another one. Traffic to the outer address
/// ends at the inner one, so it is the inner one's jurisdiction that counts.
pub(super) fn unwrap(address: IpAddr) -> (IpAddr, Option<Embedding>) {
    let IpAddr::V6(outer) = address else {
        return (address, None);
    };
    match embedded(outer) {
        Some((inner, how)) => (IpAddr::V4(inner), Some(how)),
        None => (address, None),
    }
}

/// The special range of an address that [`unwrap`] has been through. Ranges are those of the IANA special-purpose
/// registries (RFC 6890 and its updates); of IPv6 only `2000::/3` is global unicast, so all else is reserved.
pub(super) fn classify(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

/// Whether an address lies under no first octet that has special ranges; a test that is predicted well.
#[inline]
pub(super) fn is_plain_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_EIGHTS.has(address.octets()[0])
}

/// Whether an address has no special range and carries no other, by its first 32 bits alone: in one range with two rare
/// exceptions, so that what comes of each test can be predicted.
#[inline]
pub(super) fn is_plain_v6(address: u128) -> bool {
    let begin = (address >> 96) as u32;
    (0x2001_0200..=0x3ffe_ffff).contains(&begin) && begin >> 16 != 0x2002 && begin != 0x2001_0db8
}

/// A set of first octets.
struct Octets([u64; 4]);

/// The first octets under which [`classify_v4`] finds something.
const SPECIAL_EIGHTS: Octets = Octets([
    1 | 1 << 10,
    1 << (100 - 64) | 1 << (127 - 64),
    1 << (169 - 128) | 1 << (172 - 128),
    1 | 1 << (198 - 192) | 1 << (203 - 192) | !0 << (224 - 192),
]);

impl Octets {
    #[inline]
    fn has(&self, octet: u8) -> bool {
        let word = self.0.get(usize::from(octet >> 6)).copied().unwrap_or(!0);
        word >> (octet & 63) & 1 == 1
    }
}

/// ISATAP and the deprecated `::a.b.c.d` are left alone on purpose: the first is an ordinary address of its prefix,
/// the second is not routed.
fn embedded(outer: Ipv6Addr) -> Option<(Ipv4Addr, Embedding)> {
    let [a, b, c, d, e, f, g, h] = outer.segments();
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] => Some((v4(g, h), Embedding::Mapped)),
        [0x64, 0xff9b, 0, 0, 0, 0] => Some((v4(g, h), Embedding::Nat64)),
        [0x2002, high, low, ..] => Some((v4(high, low), Embedding::SixToFour)),
        [0x2001, 0, high, low, ..] => Some((
            v4(!g, !h),
            Embedding::Teredo {
                server: v4(high, low),
            },
        )),
        _ => None,
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

fn classify_v4(address: Ipv4Addr) -> Option<Special> {
    let special = match address.octets() {
        [0, 0, 0, 0] => Special::Unspecified,
        [0, ..] => Special::Reserved,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Special::Private,
        [100, 64..=127, ..] => Special::Cgnat,
        [127, ..] => Special::Loopback,
        [169, 254, ..] => Special::LinkLocal,
        // Port Control Protocol and TURN anycast (RFC 7723, RFC 8155) are globally reachable.
        [192, 0, 0, 9 | 10] => return None,
        // IETF protocol assignments; the withdrawn 6to4 relay anycast (RFC 7526).
        [192, 0, 0, _] | [192, 88, 99, _] => Special::Reserved,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Special::Documentation,
        [198, 18..=19, ..] => Special::Benchmarking,
        [224..=239, ..] => Special::Multicast,
        [240..=255, ..] => Special::Reserved,
        _ => return None,
    };
    Some(special)
}

fn classify_v6(address: Ipv6Addr) -> Option<Special> {
    if address.is_unspecified() {
        return Some(Special::Unspecified);
    }
    if address.is_loopback() {
        return Some(Special::Loopback);
    }
    let special = match address.segments() {
        [0xfc00..=0xfdff, ..] => Special::Private,
        [0xfe80..=0xfebf, ..] => Special::LinkLocal,
        [0xff00..=0xffff, ..] => Special::Multicast,
        [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => Special::Documentation,
        [0x2001, 0x0002, 0, ..] => Special::Benchmarking,
        [0x2001, 0x0000..=0x01ff, ..] => return protocol_assignment(address),
        [0x2000..=0x3fff, ..] => return None,
        // Also the local NAT64 prefix 64:ff9b:1::/48 (RFC 8215): what is behind it is the internet, not the LAN.
        _ => Special::Reserved,
    };
    Some(special)
}

/// `2001::/23` is not globally reachable, but for the assignments that say so.
fn protocol_assignment(address: Ipv6Addr) -> Option<Special> {
    match address.segments() {
        // Port Control Protocol, TURN and DNS-SD registration anycast (RFC 7723, RFC 8155, RFC 9665).
        [0x2001, 1, 0, 0, 0, 0, 0, 1..=3] => None,
        // AMT (RFC 7450), AS112 (RFC 7535), ORCHIDv2 (RFC 7343), drone identifiers (RFC 9374).
        [0x2001, 3, ..] | [0x2001, 4, 0x112, ..] | [0x2001, 0x20..=0x3f, ..] => None,
        _ => Some(Special::Reserved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> Option<&'static str> {
        classify(text.parse().unwrap()).map(Special::name)
    }

    #[test]
    fn special_ranges_begin_and_end_where_the_registry_says() {
        for (first, last, name) in [
            ("0.0.0.1", "0.255.255.255", "reserved"),
            ("10.0.0.0", "10.255.255.255", "private"),
            ("100.64.0.0", "100.127.255.255", "cgnat"),
            ("127.0.0.0", "127.255.255.255", "loopback"),
            ("169.254.0.0", "169.254.255.255", "link-local"),
            ("172.16.0.0", "172.31.255.255", "private"),
            ("192.0.2.0", "192.0.2.255", "documentation"),
            ("192.88.99.0", "192.88.99.255", "reserved"),
            ("192.168.0.0", "192.168.255.255", "private"),
            ("198.18.0.0", "198.19.255.255", "benchmarking"),
            ("198.51.100.0", "198.51.100.255", "documentation"),
            ("203.0.113.0", "203.0.113.255", "documentation"),
            ("224.0.0.0", "239.255.255.255", "multicast"),
            ("240.0.0.0", "255.255.255.255", "reserved"),
            ("100::", "100::ffff:ffff:ffff:ffff", "reserved"),
            (
                "2001:2::",
                "2001:2:0:ffff:ffff:ffff:ffff:ffff",
                "benchmarking",
            ),
            ("2001:10::", "2001:1f:ffff::", "reserved"),
            ("2001:db8::", "2001:db8:ffff::", "documentation"),
            ("3fff::", "3fff:fff:ffff::", "documentation"),
            ("5f00::", "5f00:ffff::", "reserved"),
            ("64:ff9b:1::", "64:ff9b:1:ffff::", "reserved"),
            ("fc00::", "fdff:ffff::", "private"),
            ("fe80::", "febf:ffff::", "link-local"),
            ("fec0::", "feff:ffff::", "reserved"),
            ("ff00::", "ffff:ffff::", "multicast"),
        ] {
            assert_eq!(kind(first), Some(name), "{first}");
            assert_eq!(kind(last), Some(name), "{last}");
        }
        assert_eq!(kind("0.0.0.0"), Some("unspecified"));
        assert_eq!(kind("::"), Some("unspecified"));
        assert_eq!(kind("::1"), Some("loopback"));
        for global in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.0.9",
            "192.31.196.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2001:3::1",
            "2001:20::1",
            "2001:db9::",
            "2600::",
            "3fff:1000::",
        ] {
            assert_eq!(kind(global), None, "{global}");
        }
    }

    #[test]
    fn the_quick_test_leaves_no_special_address_out() {
        for first in 0..=255u8 {
            for rest in 0..=0xffff_u32 {
                let address = Ipv4Addr::from_bits(u32::from(first) << 24 | rest << 8 | rest & 0xff);
                assert_eq!(
                    classify(IpAddr::V4(address)),
                    classify_v4(address),
                    "{address}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn the_quick_tests_agree_with_the_full_ones(begin in any::<u32>(), near in 0usize..9, by in -3i64..4, rest in any::<u128>()) {
            let edges = [0, 0x0064_ff9b, 0x2001_0000, 0x2001_0200, 0x2001_0db8, 0x2002_0000, 0x2003_0000, 0x3fff_0000];
            let begin = edges.get(near).map_or(begin, |edge| (edge + by).clamp(0, u32::MAX.into()) as u32);
            let address = Ipv6Addr::from_bits(u128::from(begin) << 96 | rest >> 32);
            if is_plain_v6(address.to_bits()) {
                prop_assert_eq!(classify_v6(address), None);
                prop_assert_eq!(embedded(address), None);
            }
            let v4 = Ipv4Addr::from_bits(begin);
            if is_plain_v4(v4) {
                prop_assert_eq!(classify_v4(v4), None);
            }
        }
    }

    #[test]
    fn embedded_addresses_come_out_and_teredo_gives_the_client() {
        let case = |text: &str| {
            let (inner, how) = unwrap(text.parse().unwrap());
            (inner.to_string(), how.map(Embedding::name))
        };
        assert_eq!(
            case("::ffff:8.8.8.8"),
            ("8.8.8.8".into(), Some("IPv4-mapped"))
        );
        assert_eq!(case("64:ff9b::808:808"), ("8.8.8.8".into(), Some("NAT64")));
        assert_eq!(case("2002:808:808::1"), ("8.8.8.8".into(), Some("6to4")));
        // The example of RFC 4380 section 4 shape: server 65.54.227.120, client 192.0.2.45.
        let teredo = "2001:0:4136:e378:8000:63bf:3fff:fdd2";
        assert_eq!(case(teredo), ("192.0.2.45".into(), Some("Teredo")));
        assert_eq!(
            unwrap(teredo.parse().unwrap()).1,
            Some(Embedding::Teredo {
                server: Ipv4Addr::new(65, 54, 227, 120)
            })
        );
        for untouched in [
            "::8.8.8.8",
            "2600::5efe:8.8.8.8",
            "64:ff9b:1::8.8.8.8",
            "2001:4860::1",
            "8.8.8.8",
        ] {
            assert_eq!(
                unwrap(untouched.parse().unwrap()),
                (untouched.parse().unwrap(), None)
            );
        }
    }
}
