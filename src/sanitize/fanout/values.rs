//! Values and the datagrams that last held them, a cache line for a few values of one hash: to look for one and to
//! remember it costs one line, and nothing has to be swept up.

use std::hash::BuildHasher;

/// Values of a line; 64 bytes.
const LINE: usize = 4;
/// Lines at first.
const FEWEST: usize = 32;
/// Places for each value that is held: five of one line, so that one is forgotten too early, are then one in 5,000.
const SPACE: usize = 8;

/// The first number. That of an empty entry, zero, is the oldest for long.
pub(super) const START: u32 = 1 << 31;

/// The numbers of the last two datagrams to different servers; the same twice if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) latest: u32,
    pub(super) other: u32,
}

/// The datagrams that are remembered, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recent {
    /// The number that follows the last.
    pub(super) next: u32,
    pub(super) count: u32,
}

/// The table. An entry counts for as long as its latest datagram is remembered.
#[derive(Debug, Default)]
pub(super) struct Values {
    lines: Vec<[(u64, Seen); LINE]>,
    hasher: foldhash::quality::RandomState,
}

impl Recent {
    pub(super) fn holds(self, number: u32) -> bool {
        self.age(number).wrapping_sub(1) < self.count
    }

    /// One for the last; more for what is forgotten than for what is not.
    pub(super) fn age(self, number: u32) -> u32 {
        self.next.wrapping_sub(number)
    }
}

impl Values {
    /// Makes room for this many values, or gives back what is too much.
    pub(super) fn fit(&mut self, held: usize, recent: Recent) {
        let wanted = (held * SPACE / LINE).next_power_of_two().max(FEWEST);
        if (wanted..=wanted * 4).contains(&self.lines.len()) {
            return;
        }
        let known = std::mem::replace(&mut self.lines, vec![Default::default(); wanted]);
        for (value, seen) in known.into_iter().flatten() {
            if recent.holds(seen.latest)
                && let Some(entry) = self.entry(value, seen.latest, recent)
            {
                *entry = seen;
            }
        }
    }

    /// Fetches the lines of values that are looked for next, all at once: far memory is not waited for one by one.
    pub(super) fn fetch(&self, values: impl Iterator<Item = u64>) {
        let first = values.filter_map(|value| {
            let [(first, _), ..] = self.lines.get(self.line(value)?)?;
            Some(*first)
        });
        std::hint::black_box(first.fold(0, |all, first| all ^ first));
    }

    /// Where a value was seen. A new one takes the place of the oldest of its line, and was seen in datagram `number`.
    /// `None` before there was room.
    pub(super) fn entry(&mut self, value: u64, number: u32, recent: Recent) -> Option<&mut Seen> {
        let line = self.line(value)?;
        let line = self.lines.get_mut(line)?;
        let known = line
            .iter()
            .position(|(other, seen)| *other == value && recent.holds(seen.latest));
        if let Some(known) = known {
            return line.get_mut(known).map(|(_, seen)| seen);
        }
        let oldest = line
            .iter_mut()
            .max_by_key(|(_, seen)| recent.age(seen.latest))?;
        let seen = Seen {
            latest: number,
            other: number,
        };
        *oldest = (value, seen);
        Some(&mut oldest.1)
    }

    fn line(&self, value: u64) -> Option<usize> {
        let last = self.lines.len().checked_sub(1)?;
        Some(self.hasher.hash_one(value) as usize & last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_while_their_datagram_is_and_through_every_size() {
        let mut values = Values::default();
        let recent = |next: u32, count: u32| Recent { next, count };
        for number in START..START + 4_000 {
            let count = number - START + 1;
            values.fit(count as usize, recent(number + 1, count));
            let entry = values.entry(number.into(), number, recent(number + 1, count));
            entry.unwrap().other = number / 2;
        }
        let kept = |values: &mut Values, count: u32| {
            let of = |number: &u32| {
                let recent = recent(START + 4_000, count);
                let seen = values.entry((*number).into(), 0, recent).unwrap();
                (seen.latest, seen.other) == (*number, number / 2)
            };
            (START..START + 4_000).filter(of).count()
        };
        assert!(kept(&mut values, 4_000) >= 3_980, "hardly any is lost");
        values.fit(100, recent(START + 4_000, 100));
        assert_eq!(values.lines.len(), 256);
        let count = kept(&mut values, 100);
        assert!((95..=100).contains(&count), "{count}");
    }
}
