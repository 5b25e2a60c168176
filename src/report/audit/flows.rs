//! The flows under way, by the two ends of their packets.

use super::flow::{Flow, Key};
use crate::link::frame::Seen;
use crate::packet::protocol::TCP;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, SocketAddr};

/// All flows that are not over. Both directions of one have the same hash, so that one look-up finds it.
#[derive(Debug, Default)]
pub(super) struct Flows {
    table: HashTable<Box<Flow>>,
    hash: foldhash::fast::RandomState,
    /// There may be two flows between the same ends, one opened by each.
    twins: bool,
}

impl Flows {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// All of them, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.table.iter().map(|flow| &**flow)
    }

    /// The flow of this key.
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Flow> {
        let hash = hash(&self.hash, key);
        let flow = self.table.find_mut(hash, |flow| flow.key == *key)?;
        Some(flow)
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Box<Flow>> {
        let hash = hash(&self.hash, key);
        let entry = self.table.find_entry(hash, |flow| flow.key == *key).ok()?;
        Some(entry.remove().0)
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Flow>> {
        self.table.drain()
    }

    /// The flow of a packet, and whether its opener sent it; `new` makes one that is not known yet.
    pub(super) fn of(
        &mut self,
        seen: &Seen<'_>,
        new: impl FnOnce(Key) -> Box<Flow>,
    ) -> (&mut Flow, bool) {
        let forward = Key {
            protocol: seen.protocol,
            source: seen.source,
            destination: seen.destination,
        };
        let backward = Key {
            source: seen.destination,
            destination: seen.source,
            ..forward
        };
        let hashed = hash(&self.hash, &forward);
        let opening = seen
            .segment
            .is_some_and(|segment| segment.syn && !segment.ack);
        if opening && !self.twins {
            self.twins = self
                .table
                .find(hashed, |flow| flow.key == backward)
                .is_some();
        }
        let apart = opening
            || (self.twins
                && self
                    .table
                    .find(hashed, |flow| flow.key == forward)
                    .is_some());
        let entry = self.table.entry(
            hashed,
            |flow| flow.key == forward || (!apart && flow.key == backward),
            |flow| hash(&self.hash, &flow.key),
        );
        match entry {
            Entry::Occupied(known) => {
                let flow = known.into_mut();
                let from_opener = flow.key == forward;
                (flow, from_opener)
            }
            Entry::Vacant(place) => {
                let from_opener = opening || !answers(seen);
                let key = if from_opener { forward } else { backward };
                (place.insert(new(key)).into_mut(), from_opener)
            }
        }
    }
}

/// Whether the first packet seen of a flow came from its server: a second SYN, or a server's port, tells.
fn answers(seen: &Seen<'_>) -> bool {
    seen.segment.is_some_and(|segment| segment.syn)
        || (seen.source.port() < 1024 && seen.destination.port() >= 1024 && seen.protocol == TCP)
}

/// The same for both directions.
fn hash(state: &impl BuildHasher, key: &Key) -> u64 {
    let mut hasher = state.build_hasher();
    let end = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 16 | u128::from(address.port()),
        IpAddr::V6(ip) => ip.to_bits().rotate_left(16) ^ u128::from(address.port()),
    };
    let (source, destination) = (end(key.source), end(key.destination));
    let (low, high) = (source.min(destination), source.max(destination));
    if key.source.is_ipv4() {
        // Six bytes each.
        hasher.write_u64((low as u64) << 8 | u64::from(key.protocol));
        hasher.write_u64(high as u64);
    } else {
        hasher.write_u8(key.protocol);
        hasher.write_u128(low);
        hasher.write_u128(high);
    }
    hasher.finish()
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
