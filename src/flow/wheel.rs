//! Timers of flows: a wheel of slots, so that no timer ever scans flows.
use crate::time::Time;

/// Length of a slot in nanoseconds: 4 ms.
const SLOT: u64 = 4_000_000;

/// Slots of a level, as a power of two: one level is one bitmap of 64 bits.
const BITS: u32 = 6;

/// So many levels hold every moment that [`Time`] can name: 2^64 ns are less than 2^43 slots.
const LEVELS: usize = 8;

/// The end of a list.
const NONE: usize = usize::MAX;

/// Deadlines, one a handle at most matters: a handle may be scheduled again and again, the owner checks on expiry whether
/// its deadline has really come.
///
/// Level 0 has a slot for each of the next 64 ticks of 4 ms, level 1 for each of the next 64 rounds of level 0, and so on.
/// Entries of a higher level move down when its slot comes. Bitmaps say which slots hold anything, so idle time is jumped
/// over.
#[derive(Debug)]
pub struct Wheel<T> {
    /// Ticks of [`SLOT`] that have passed.
    tick: u64,
    levels: [Level; LEVELS],
    /// Entries that were due when they were scheduled.
    overdue: usize,
    entries: Vec<Entry<T>>,
    /// Unused entries.
    free: usize,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// A bit for each slot that holds anything.
    occupied: u64,
    /// The first entry of each slot.
    slots: [usize; 1 << BITS],
}

#[derive(Debug)]
struct Entry<T> {
    /// The tick at which it is due.
    due: u64,
    /// The next of its list.
    next: usize,
    item: T,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that begins at `now`.
    pub fn new(now: Time) -> Self {
        Self {
            tick: now.as_nanos() / SLOT,
            levels: [Level {
                occupied: 0,
                slots: [NONE; 1 << BITS],
            }; LEVELS],
            overdue: NONE,
            entries: Vec::new(),
            free: NONE,
        }
    }

    /// Fires `item` at `at`, or up to one slot (4 ms) later. Far deadlines are kept and cascade. A deadline that has
    /// passed fires at the next [`advance`](Self::advance).
    pub fn schedule(&mut self, at: Time, item: T) {
        // The end of time is rounded down, or it would never come.
        let due = at.as_nanos().div_ceil(SLOT).min(u64::MAX / SLOT);
        let entry = Entry {
            due,
            next: NONE,
            item,
        };
        let index = self.free;
        let index = match self.entries.get_mut(index) {
            Some(unused) => {
                self.free = unused.next;
                *unused = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.link(index, due);
    }

    /// The moment up to which everything that was due has been handed out.
    pub fn now(&self) -> Time {
        Time::from_nanos(self.tick.saturating_mul(SLOT))
    }

    /// Moves everything that is due into `due`.
    pub fn advance(&mut self, now: Time, due: &mut Vec<T>) {
        let target = (now.as_nanos() / SLOT).max(self.tick);
        let overdue = std::mem::replace(&mut self.overdue, NONE);
        self.fire(overdue, target, due);
        while let Some((start, level, slot)) = self.first_slot() {
            if start > target {
                break;
            }
            self.tick = start;
            let first = self.empty(level, slot);
            self.fire(first, target, due);
        }
        self.tick = target;
    }

    /// When to call [`advance`](Self::advance) next; `None` if nothing is scheduled. Nothing need be due then: far
    /// deadlines are met in a few steps.
    pub fn next(&self) -> Option<Time> {
        if self.overdue != NONE {
            return Some(Time::from_nanos(self.tick.saturating_mul(SLOT)));
        }
        let (start, _, _) = self.first_slot()?;
        Some(Time::from_nanos(start.saturating_mul(SLOT)))
    }

    /// Goes through a list: hands out what is due at `target` and puts the rest into the slots it now belongs to.
    fn fire(&mut self, first: usize, target: u64, due: &mut Vec<T>) {
        let mut index = first;
        while let Some(entry) = self.entries.get_mut(index) {
            let (next, tick) = (entry.next, entry.due);
            if tick <= target {
                due.push(entry.item);
                entry.next = std::mem::replace(&mut self.free, index);
            } else {
                self.link(index, tick);
            }
            index = next;
        }
    }

    /// Puts an entry into the slot for `due`: on the level of the highest digit in which `due` differs from now.
    fn link(&mut self, index: usize, due: u64) {
        let head = if due <= self.tick {
            Some(&mut self.overdue)
        } else {
            let level = (due ^ self.tick).ilog2() / BITS;
            let slot = (due >> (level * BITS)) & SLOT_MASK;
            self.levels.get_mut(level as usize).and_then(|level| {
                level.occupied |= 1 << slot;
                level.slots.get_mut(slot as usize)
            })
        };
        if let (Some(head), Some(entry)) = (head, self.entries.get_mut(index)) {
            entry.next = std::mem::replace(head, index);
        }
    }

    /// The earliest slot that holds anything: the tick at which it begins, its level and number. All of a level comes
    /// before anything of the level above, and within a level the slots before now are empty.
    fn first_slot(&self) -> Option<(u64, usize, u32)> {
        let (level, occupied) = self
            .levels
            .iter()
            .map(|level| level.occupied)
            .enumerate()
            .find(|(_, occupied)| *occupied != 0)?;
        let slot = occupied.trailing_zeros();
        let shift = level as u32 * BITS;
        let round = self.tick >> (shift + BITS) << (shift + BITS);
        Some((round | u64::from(slot) << shift, level, slot))
    }

    /// Takes the list out of a slot.
    fn empty(&mut self, level: usize, slot: u32) -> usize {
        let Some(level) = self.levels.get_mut(level) else {
            return NONE;
        };
        level.occupied &= !(1 << slot);
        level
            .slots
            .get_mut(slot as usize)
            .map_or(NONE, |head| std::mem::replace(head, NONE))
    }
}

const SLOT_MASK: u64 = (1 << BITS) - 1;

#[cfg(test)]
mod tests;
