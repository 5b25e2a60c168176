//! The bounded table of flows.

mod pairs;

use super::FlowKey;
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use pairs::Kin;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// How many flows may exist.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub flows: usize,
    /// Of one inside address.
    pub per_source: usize,
}

/// Which bound refused a new flow. Established flows are never harmed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exhausted {
    /// The table is full.
    Flows,
    /// This source has all the flows it may have.
    FlowsPerSource,
}

/// A short handle of a flow; never valid again once the flow is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    index: u32,
    generation: u64,
}

/// Flows by five-tuple and by handle. Memory grows with the flows up to the limits, and is given back when the last one
/// goes. A look-up allocates nothing and takes constant time.
pub struct FlowTable<V> {
    limits: Limits,
    hash: KeyedHash,
    slots: Vec<Slot<V>>,
    /// Head of the list of free slots.
    free: Option<u32>,
    len: usize,
    /// Flow key to slot.
    index: HashTable<u32>,
    /// How many flows each inside address has.
    sources: HashTable<(IpAddr, usize)>,
    /// Inside and outside address to the slot of the latest flow between them; the slots lead on to the others.
    pairs: HashTable<u32>,
    /// How many flows there have ever been; tells each from all that had its slot before.
    generation: u64,
}

enum Slot<V> {
    Used {
        generation: u64,
        key: FlowKey,
        value: V,
        kin: Kin,
    },
    Free {
        next: Option<u32>,
    },
}

/// A keyed hash. Not a cryptographic one: what it leaves to an attacker who can watch the timing is bounded by the
/// number of flows a source may have.
struct KeyedHash {
    seed: u64,
    shared: SharedSeed,
}

impl KeyedHash {
    fn new(seed: u64) -> Self {
        // Multiplication leaves a number of few bits, or of nothing but ones, as it is: bits of pi keep seeds like 0 and 1
        // away from it.
        let shared = SharedSeed::from_u64(seed ^ 0x243f_6a88_85a3_08d3);
        let mut mixer = FoldHasher::with_seed(0x1319_8a2e_0370_7344, &shared);
        mixer.write_u64(seed);
        let seed = mixer.finish();
        Self { seed, shared }
    }

    fn of(&self, value: &impl Hash) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        value.hash(&mut hasher);
        hasher.finish()
    }
}

impl Exhausted {
    /// The stable name, for counters and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::FlowsPerSource => "flows-per-source",
        }
    }
}

impl FlowId {
    /// Where the flow lies in a slab that is as large as the table; reused after removal.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl<V> FlowTable<V> {
    /// An empty table. `seed` keys the hash, so that nobody outside can choose collisions.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            hash: KeyedHash::new(seed),
            slots: Vec::new(),
            free: None,
            len: 0,
            index: HashTable::new(),
            sources: HashTable::new(),
            pairs: HashTable::new(),
            generation: 0,
        }
    }

    /// The handle of a flow.
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        let slots = &self.slots;
        let index = *self.index.find(self.hash.of(key), |&index| {
            key_at(slots, index) == Some(key)
        })?;
        match slots.get(index as usize)? {
            Slot::Used { generation, .. } => Some(FlowId {
                index,
                generation: *generation,
            }),
            Slot::Free { .. } => None,
        }
    }

    /// The flow's five-tuple and state.
    pub fn get(&self, id: FlowId) -> Option<(&FlowKey, &V)> {
        match self.slots.get(id.index())? {
            Slot::Used {
                generation,
                key,
                value,
                ..
            } if *generation == id.generation => Some((key, value)),
            Slot::Used { .. } | Slot::Free { .. } => None,
        }
    }

    /// The same, to change.
    pub fn get_mut(&mut self, id: FlowId) -> Option<(&FlowKey, &mut V)> {
        match self.slots.get_mut(id.index())? {
            Slot::Used {
                generation,
                key,
                value,
                ..
            } if *generation == id.generation => Some((key, value)),
            Slot::Used { .. } | Slot::Free { .. } => None,
        }
    }

    /// Whether a flow of this inside address could be added.
    pub fn has_room(&self, source: IpAddr) -> bool {
        self.len < self.limits.flows && self.of_source(source) < self.limits.per_source
    }

    /// Adds a flow. The key must not be in the table; should it be, the old flow is taken out first.
    ///
    /// # Errors
    /// [`Exhausted`] names the bound.
    pub fn insert(&mut self, key: FlowKey, value: V) -> Result<FlowId, Exhausted> {
        if let Some(old) = self.find(&key) {
            self.remove(old);
        }
        let index = self.vacancy().ok_or(Exhausted::Flows)?;
        self.count_in(key.src)?;
        let id = self.fill(index, key, value);
        let (slots, hash) = (&self.slots, &self.hash);
        self.index.insert_unique(hash.of(&key), index, |&index| {
            key_at(slots, index).map_or(0, |key| hash.of(key))
        });
        self.join(index, &key);
        self.len += 1;
        Ok(id)
    }

    /// Takes a flow out.
    pub fn remove(&mut self, id: FlowId) -> Option<(FlowKey, V)> {
        let (key, _) = self.get(id)?;
        let hash = self.hash.of(key);
        if let Ok(entry) = self.index.find_entry(hash, |&index| index == id.index) {
            entry.remove();
        }
        self.part(id.index);
        let free = Slot::Free { next: self.free };
        let slot = std::mem::replace(self.slots.get_mut(id.index())?, free);
        self.free = Some(id.index);
        let Slot::Used { key, value, .. } = slot else {
            return None;
        };
        self.count_out(key.src);
        self.len -= 1;
        if self.len == 0 {
            self.release();
        }
        Some((key, value))
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without any flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many flows an inside address has.
    pub fn of_source(&self, source: IpAddr) -> usize {
        let hash = self.hash.of(&source);
        self.sources
            .find(hash, |(address, _)| *address == source)
            .map_or(0, |(_, count)| *count)
    }

    /// All handles, in no particular but deterministic order.
    pub fn ids(&self) -> impl Iterator<Item = FlowId> + '_ {
        (0u32..)
            .zip(&self.slots)
            .filter_map(|(index, slot)| match slot {
                Slot::Used { generation, .. } => Some(FlowId {
                    index,
                    generation: *generation,
                }),
                Slot::Free { .. } => None,
            })
    }

    /// A free slot, or the place of a new one.
    fn vacancy(&self) -> Option<u32> {
        if self.len >= self.limits.flows {
            return None;
        }
        self.free.or_else(|| u32::try_from(self.slots.len()).ok())
    }

    /// Puts a flow into a slot that [`vacancy`](Self::vacancy) named.
    fn fill(&mut self, index: u32, key: FlowKey, value: V) -> FlowId {
        let generation = self.generation;
        self.generation += 1;
        let flow = Slot::Used {
            generation,
            key,
            value,
            kin: Kin::default(),
        };
        match self.slots.get_mut(index as usize) {
            Some(slot) => {
                if let Slot::Free { next } = slot {
                    self.free = *next;
                }
                *slot = flow;
            }
            None => self.slots.push(flow),
        }
        FlowId { index, generation }
    }

    fn count_in(&mut self, source: IpAddr) -> Result<(), Exhausted> {
        if self.limits.per_source == 0 {
            return Err(Exhausted::FlowsPerSource);
        }
        let hash = &self.hash;
        let entry = self.sources.entry(
            hash.of(&source),
            |(address, _)| *address == source,
            |(address, _)| hash.of(address),
        );
        match entry {
            Entry::Occupied(mut entry) => {
                let (_, count) = entry.get_mut();
                if *count >= self.limits.per_source {
                    return Err(Exhausted::FlowsPerSource);
                }
                *count += 1;
            }
            Entry::Vacant(entry) => {
                entry.insert((source, 1));
            }
        }
        Ok(())
    }

    fn count_out(&mut self, source: IpAddr) {
        let hash = self.hash.of(&source);
        let Ok(mut entry) = self
            .sources
            .find_entry(hash, |(address, _)| *address == source)
        else {
            return;
        };
        let (_, count) = entry.get_mut();
        *count -= 1;
        if *count == 0 {
            entry.remove();
        }
    }

    /// Gives the memory of an empty table back.
    fn release(&mut self) {
        if self.slots.len() < RELEASE {
            return;
        }
        self.free = None;
        self.slots = Vec::new();
        self.index = HashTable::new();
        self.sources = HashTable::new();
        self.pairs = HashTable::new();
    }
}

/// A smaller table keeps its memory when it runs empty, so that a lone flow does not allocate again and again.
const RELEASE: usize = 1024;

fn key_at<V>(slots: &[Slot<V>], index: u32) -> Option<&FlowKey> {
    match slots.get(index as usize)? {
        Slot::Used { key, .. } => Some(key),
        Slot::Free { .. } => None,
    }
}

/// Without flows and without the key of the hash.
impl<V> fmt::Debug for FlowTable<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowTable")
            .field("limits", &self.limits)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
