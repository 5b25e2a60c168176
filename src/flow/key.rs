//! The five-tuple.
use crate::packet::{Parsed, Transport};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// The five-tuple of a flow, always written from the inside to the outside. Echo: `sport` is the identifier, `dport` 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// Transport protocol number.
    pub protocol: u8,
    /// Inside address.
    pub src: IpAddr,
    /// Outside address.
    pub dst: IpAddr,
    /// Inside port.
    pub sport: u16,
    /// Outside port.
    pub dport: u16,
}

impl FlowKey {
    /// The key of a packet that comes from the inside; `None` if it belongs to no flow (a fragment, an ICMP error, …).
    pub fn of(parsed: &Parsed) -> Option<Self> {
        let (sport, dport) = match parsed.transport {
            Transport::Tcp(tcp) => (tcp.sport, tcp.dport),
            Transport::Udp(udp) => (udp.sport, udp.dport),
            Transport::EchoRequest(echo) => (echo.id, 0),
            Transport::EchoReply(_)
            | Transport::IcmpError(_)
            | Transport::Fragment(_)
            | Transport::Other => return None,
        };
        Some(Self {
            protocol: parsed.protocol,
            src: parsed.src,
            dst: parsed.dst,
            sport,
            dport,
        })
    }
}

/// A few whole words: an IPv4 key is hashed as two.
impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ends =
            u64::from(self.protocol) << 32 | u64::from(self.sport) << 16 | u64::from(self.dport);
        state.write_u64(ends);
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                state.write_u64(u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()));
            }
            (src, dst) => {
                state.write_u128(bits(src));
                state.write_u128(bits(dst));
            }
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Checksum, samples};
    use foldhash::fast::FixedState;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    #[test]
    fn tcp_udp_and_echo_requests_have_a_key_written_from_inside_to_outside() {
        for v6 in [false, true] {
            let (src, dst) = samples::addresses(v6);
            let key = |packet: &[u8]| {
                FlowKey::of(&Parsed::read(packet, Checksum::Verify).expect("a good packet"))
            };
            let expected = |protocol, sport, dport| {
                Some(FlowKey {
                    protocol,
                    src,
                    dst,
                    sport,
                    dport,
                })
            };
            let tcp = samples::tcp(v6, 0x02, &[], b"");
            assert_eq!(key(&tcp), expected(6, samples::SPORT, samples::DPORT));
            let udp = samples::udp(v6, b"x");
            assert_eq!(key(&udp), expected(17, samples::SPORT, samples::DPORT));
            let (protocol, request, reply) = if v6 { (58, 128, 129) } else { (1, 8, 0) };
            let echo = samples::icmp(v6, request, 0, [0x12, 0x34, 0, 1], b"ping");
            assert_eq!(key(&echo), expected(protocol, 0x1234, 0));
            assert_eq!(
                key(&samples::icmp(v6, reply, 0, [0x12, 0x34, 0, 1], b"ping")),
                None
            );
            assert_eq!(key(&samples::ip(src, dst, 47, b"tunnel")), None);
        }
    }

    #[test]
    fn every_part_of_the_key_counts_in_its_hash() {
        let v4 = FlowKey {
            protocol: 6,
            src: [192, 0, 2, 1].into(),
            dst: [198, 51, 100, 1].into(),
            sport: 1,
            dport: 2,
        };
        let v6 = FlowKey {
            src: [1u8; 16].into(),
            dst: [2u8; 16].into(),
            ..v4
        };
        let mut keys = Vec::new();
        for key in [v4, v6] {
            keys.extend([
                key,
                FlowKey {
                    protocol: 17,
                    ..key
                },
                FlowKey {
                    sport: 2,
                    dport: 1,
                    ..key
                },
                FlowKey { sport: 3, ..key },
                FlowKey {
                    src: key.dst,
                    dst: key.src,
                    ..key
                },
            ]);
        }
        keys.push(FlowKey {
            src: [192, 0, 2, 2].into(),
            ..v4
        });
        let hasher = FixedState::with_seed(7);
        let hashes: HashSet<u64> = keys.iter().map(|key| hasher.hash_one(key)).collect();
        assert_eq!(hashes.len(), keys.len());
    }
}
