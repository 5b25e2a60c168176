//! Which flows there are between two addresses: a list through the table's slots, the latest first.

use super::{FlowId, FlowTable, Slot, key_at};
use crate::flow::FlowKey;
use hashbrown::hash_table::Entry;
use std::net::IpAddr;

/// The slots of other flows between the same addresses: the one that came next, and the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kin {
    later: Option<u32>,
    earlier: Option<u32>,
}

impl<V> FlowTable<V> {
    /// The flows between an inside and an outside address, the latest first.
    pub fn between(&self, inside: IpAddr, outside: IpAddr) -> impl Iterator<Item = FlowId> + '_ {
        let pair = (inside, outside);
        let latest = self.pairs.find(self.hash.of(&pair), |&index| {
            pair_at(&self.slots, index) == Some(pair)
        });
        let slot = |index: u32| match self.slots.get(index as usize)? {
            Slot::Used {
                generation, kin, ..
            } => Some((
                FlowId {
                    index,
                    generation: *generation,
                },
                kin.earlier,
            )),
            Slot::Free { .. } => None,
        };
        let first = latest.and_then(|index| slot(*index));
        std::iter::successors(first, move |(_, earlier)| slot((*earlier)?)).map(|(id, _)| id)
    }

    /// Makes a new flow the latest between its addresses.
    pub(super) fn join(&mut self, index: u32, key: &FlowKey) {
        let (slots, hash) = (&self.slots, &self.hash);
        let pair = (key.src, key.dst);
        let entry = self.pairs.entry(
            hash.of(&pair),
            |&latest| pair_at(slots, latest) == Some(pair),
            |&latest| pair_at(slots, latest).map_or(0, |pair| hash.of(&pair)),
        );
        let earlier = match entry {
            Entry::Occupied(mut latest) => Some(std::mem::replace(latest.get_mut(), index)),
            Entry::Vacant(entry) => {
                entry.insert(index);
                None
            }
        };
        if let Some(kin) = self.kin(Some(index)) {
            kin.earlier = earlier;
        }
        if let Some(kin) = self.kin(earlier) {
            kin.later = Some(index);
        }
    }

    /// Takes a flow out from among those between its addresses.
    pub(super) fn part(&mut self, index: u32) {
        let (Some(pair), Some(&mut kin)) = (pair_at(&self.slots, index), self.kin(Some(index)))
        else {
            return;
        };
        if let Some(earlier) = self.kin(kin.earlier) {
            earlier.later = kin.later;
        }
        if let Some(later) = self.kin(kin.later) {
            later.earlier = kin.earlier;
        } else if let Ok(mut latest) = self
            .pairs
            .find_entry(self.hash.of(&pair), |&latest| latest == index)
        {
            match kin.earlier {
                Some(earlier) => *latest.get_mut() = earlier,
                None => drop(latest.remove()),
            }
        }
    }

    fn kin(&mut self, index: Option<u32>) -> Option<&mut Kin> {
        match self.slots.get_mut(index? as usize)? {
            Slot::Used { kin, .. } => Some(kin),
            Slot::Free { .. } => None,
        }
    }
}

fn pair_at<V>(slots: &[Slot<V>], index: u32) -> Option<(IpAddr, IpAddr)> {
    key_at(slots, index).map(|key| (key.src, key.dst))
}
