//! The flows under way, by the two ends of their packets.

use super::flow::{Flow, Key};
use crate::link::frame::Seen;
use crate::packet::protocol::TCP;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};

/// All flows that are not over. Both directions of one have the same hash, so that one look-up finds it.
#[derive(Debug, Default)]
pub(super) struct Flows {
    table: HashTable<Place>,
    hash: foldhash::fast::RandomState,
    /// There may be two flows between the same ends, one opened by each.
    twins: bool,
}

#[derive(Debug)]
struct Place {
    ends: Ends,
    flow: Box<Flow>,
}

/// A key in few bytes: it is compared for every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Protocol, source and destination of IPv4, each with its port.
    Short(u128),
    Long(Key),
}

impl Flows {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// All of them, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.table.iter().map(|place| &*place.flow)
    }

    /// The flow of this key.
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Flow> {
        let ends = Ends::of(key);
        let hash = ends.hash(&self.hash);
        let place = self.table.find_mut(hash, |place| place.ends == ends)?;
        Some(&mut place.flow)
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Box<Flow>> {
        let ends = Ends::of(key);
        let hash = ends.hash(&self.hash);
        let entry = self.table.find_entry(hash, |place| place.ends == ends);
        Some(entry.ok()?.remove().0.flow)
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Flow>> {
        self.table.drain().map(|place| place.flow)
    }

    /// The flow of a packet, and whether its opener sent it; `new` makes one that is not known yet.
    pub(super) fn of(
        &mut self,
        seen: &Seen<'_>,
        new: impl FnOnce(Key) -> Box<Flow>,
    ) -> (&mut Flow, bool) {
        let key = Key {
            protocol: seen.protocol,
            source: seen.source,
            destination: seen.destination,
        };
        let forward = Ends::of(&key);
        let backward = forward.turned();
        let hash = forward.hash(&self.hash);
        let has = |ends| self.table.find(hash, |place| place.ends == ends).is_some();
        let opening = seen
            .segment
            .is_some_and(|segment| segment.syn && !segment.ack);
        self.twins |= opening && has(backward);
        let apart = opening || (self.twins && has(forward));
        let entry = self.table.entry(
            hash,
            |place| place.ends == forward || (!apart && place.ends == backward),
            |place| place.ends.hash(&self.hash),
        );
        match entry {
            Entry::Occupied(known) => {
                let place = known.into_mut();
                (&mut place.flow, place.ends == forward)
            }
            Entry::Vacant(vacant) => {
                let from_opener = opening || !answers(seen);
                let (ends, key) = if from_opener {
                    (forward, key)
                } else {
                    (backward, key.turned())
                };
                let flow = new(key);
                let place = vacant.insert(Place { ends, flow }).into_mut();
                (&mut place.flow, from_opener)
            }
        }
    }
}

impl Ends {
    const PORT: u32 = 16;
    /// Address and port.
    const END: u32 = 48;

    fn of(key: &Key) -> Self {
        let end =
            |ip: Ipv4Addr, port: u16| u128::from(ip.to_bits()) << Self::PORT | u128::from(port);
        match (key.source, key.destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => Self::Short(
                u128::from(key.protocol) << (2 * Self::END)
                    | end(*source.ip(), source.port()) << Self::END
                    | end(*destination.ip(), destination.port()),
            ),
            _ => Self::Long(*key),
        }
    }

    /// The other direction.
    fn turned(self) -> Self {
        const MASK: u128 = (1 << Ends::END) - 1;
        match self {
            Self::Short(ends) => Self::Short(
                ends & !(MASK << Self::END | MASK)
                    | (ends & MASK) << Self::END
                    | ends >> Self::END & MASK,
            ),
            Self::Long(key) => Self::Long(key.turned()),
        }
    }

    /// The same for both directions.
    fn hash(self, state: &impl BuildHasher) -> u64 {
        let mut hasher = state.build_hasher();
        match (self, self.turned()) {
            (Self::Short(one), Self::Short(other)) => hasher.write_u128(one.min(other)),
            (Self::Long(one), Self::Long(other)) => {
                let first = one.min(other);
                (first.protocol, first.source, first.destination).hash(&mut hasher);
            }
            _ => {}
        }
        hasher.finish()
    }
}

/// Whether the first packet seen of a flow came from its server: a second SYN, or a server's port, tells.
fn answers(seen: &Seen<'_>) -> bool {
    seen.segment.is_some_and(|segment| segment.syn)
        || (seen.source.port() < 1024 && seen.destination.port() >= 1024 && seen.protocol == TCP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::frame::Segment;
    use crate::time::Time;

    fn seen(source: &str, destination: &str, flags: Option<(bool, bool)>) -> Seen<'static> {
        Seen {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: if flags.is_some() { TCP } else { 17 },
            payload: b"",
            segment: flags.map(|(syn, ack)| Segment {
                sequence: 0,
                syn,
                ack,
                end: false,
            }),
            fragment: false,
            length: 40,
        }
    }

    /// Who opened the flow of each packet, and whether the packet came from there.
    fn opened(packets: &[Seen<'_>]) -> Vec<(SocketAddr, bool)> {
        let mut flows = Flows::default();
        let mut told = Vec::new();
        for seen in packets {
            let (flow, from_opener) =
                flows.of(seen, |key| Box::new(Flow::new(key, Time::default())));
            told.push((flow.key.source, from_opener));
        }
        told
    }

    const A: &str = "10.0.0.1:40000";
    const B: &str = "[2001:db8::1]:443";
    const C: &str = "203.0.113.9:443";

    #[test]
    fn both_directions_are_one_flow() {
        for (client, server) in [(A, C), ("[2001:db8::7]:5000", B), (C, A)] {
            let open = client.parse().unwrap();
            let packets = [
                seen(client, server, Some((true, false))),
                seen(server, client, Some((true, true))),
                seen(client, server, Some((false, true))),
            ];
            assert_eq!(
                opened(&packets),
                [(open, true), (open, false), (open, true)]
            );
        }
    }

    #[test]
    fn of_two_flows_between_the_same_ends_a_packet_belongs_to_its_senders() {
        let (a, c) = (A.parse().unwrap(), C.parse().unwrap());
        let packets = [
            seen(A, C, Some((true, false))),
            seen(C, A, Some((true, false))),
            seen(A, C, Some((false, true))),
            seen(C, A, Some((false, true))),
        ];
        assert_eq!(
            opened(&packets),
            [(a, true), (c, true), (a, true), (c, true)]
        );
    }

    #[test]
    fn a_flow_seen_from_its_middle_was_opened_from_the_higher_port() {
        let a = A.parse().unwrap();
        assert_eq!(opened(&[seen(C, A, Some((false, true)))]), [(a, false)]);
        assert_eq!(
            opened(&[seen(C, A, None)]),
            [(C.parse().unwrap(), true)],
            "of datagrams nothing tells"
        );
    }
}
