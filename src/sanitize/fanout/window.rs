//! What one client sent within the last seconds, and where to. Bounded; the oldest is forgotten first.

use crate::sanitize::Context;
use crate::time::Time;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Sendings to different servers count together within this time.
const SPAN: Duration = Duration::from_secs(5);
/// A convicted value is remembered this long after it was last seen.
const SENTENCE: Duration = Duration::from_secs(600);
/// Stale values dropped per new one at most, which keeps the work of one datagram bounded.
const SWEEP: usize = 4;

/// What is known of a value that is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It goes to its first or second server.
    Unshared,
    /// It goes to its third server.
    Shared,
    /// It goes to its second server in a jurisdiction the policy blocks.
    Blocked,
    /// It was told before.
    Convicted,
}

/// The values of one client.
#[derive(Debug)]
pub(super) struct Window {
    slots: HashMap<u64, Slot, foldhash::fast::RandomState>,
    /// Values in the order in which they came, for eviction.
    order: VecDeque<u64>,
    most: usize,
    convicted: usize,
    last: Time,
}

#[derive(Debug)]
struct Slot {
    /// The last two servers, the later one first.
    seen: [Option<Sighting>; 2],
    touched: Time,
    convicted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sighting {
    server: IpAddr,
    at: Time,
    blocked: bool,
}

impl Window {
    pub(super) fn new(most: usize) -> Self {
        Self {
            slots: HashMap::default(),
            order: VecDeque::new(),
            most,
            convicted: 0,
            last: Time::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Values to act on.
    pub(super) fn convicted(&self) -> usize {
        self.convicted
    }

    pub(super) fn last(&self) -> Time {
        self.last
    }

    pub(super) fn touch(&mut self, now: Time) {
        self.last = now;
    }

    /// Remembers that a value is sent, and says what is known of it.
    pub(super) fn sight(&mut self, value: u64, context: &Context) -> Sight {
        let sighting = Sighting {
            server: context.remote.ip().to_canonical(),
            at: context.now,
            blocked: context.blocked,
        };
        if let Entry::Occupied(mut entry) = self.slots.entry(value) {
            let slot = entry.get_mut();
            if slot.convicted && context.now.since(slot.touched) > SENTENCE {
                slot.convicted = false;
                self.convicted -= 1;
            }
            slot.touched = context.now;
            let sight = slot.see(sighting);
            return if slot.convicted {
                Sight::Convicted
            } else {
                sight
            };
        }
        self.make_room(context.now);
        self.order.push_back(value);
        self.slots.insert(
            value,
            Slot {
                seen: [Some(sighting), None],
                touched: context.now,
                convicted: false,
            },
        );
        Sight::Unshared
    }

    /// Whether a value is convicted; remembers nothing new.
    pub(super) fn recall(&mut self, value: u64, now: Time) -> Sight {
        match self.slots.get_mut(&value) {
            Some(slot) if slot.convicted && now.since(slot.touched) <= SENTENCE => {
                slot.touched = now;
                Sight::Convicted
            }
            _ => Sight::Unshared,
        }
    }

    /// Remembers a value as one to act on.
    pub(super) fn convict(&mut self, value: u64, now: Time) {
        if let Some(slot) = self.slots.get_mut(&value) {
            slot.touched = now;
            if !slot.convicted {
                slot.convicted = true;
                self.convicted += 1;
            }
        }
    }

    /// Drops stale values from the front and, at the bound, the oldest.
    fn make_room(&mut self, now: Time) {
        for _ in 0..SWEEP {
            let full = self.slots.len() >= self.most;
            let Some(value) = self.order.pop_front() else {
                return;
            };
            let Some(slot) = self.slots.get(&value) else {
                continue;
            };
            let term = if slot.convicted { SENTENCE } else { SPAN };
            let stale = now.since(slot.touched) > term;
            // Convicted values may take half of the room; beyond that they go as any other.
            let spared = slot.convicted && self.convicted <= self.most / 2;
            if !stale && (!full || spared) {
                self.order.push_back(value);
                if !full {
                    return;
                }
                continue;
            }
            self.drop_value(value);
        }
        while self.slots.len() >= self.most {
            let Some(value) = self.order.pop_front() else {
                return;
            };
            self.drop_value(value);
        }
    }

    fn drop_value(&mut self, value: u64) {
        if self.slots.remove(&value).is_some_and(|slot| slot.convicted) {
            self.convicted -= 1;
        }
    }
}

impl Slot {
    fn see(&mut self, new: Sighting) -> Sight {
        for seen in &mut self.seen {
            if seen.is_some_and(|seen| new.at.since(seen.at) > SPAN) {
                *seen = None;
            }
        }
        let others = self
            .seen
            .iter()
            .flatten()
            .filter(|seen| seen.server != new.server);
        let (mut servers, mut blocked) = (1, u8::from(new.blocked));
        for other in others {
            servers += 1;
            blocked += u8::from(other.blocked);
        }
        let latest_other = self
            .seen
            .iter()
            .flatten()
            .find(|seen| seen.server != new.server)
            .copied();
        self.seen = [Some(new), latest_other];
        if blocked >= 2 {
            Sight::Blocked
        } else if servers >= 3 {
            Sight::Shared
        } else {
            Sight::Unshared
        }
    }
}
