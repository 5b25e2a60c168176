//! What is shared at each offset of a datagram, told as the fewest values.

use super::heads::SHINGLE;
use super::window::{Sight, Window};
use super::{DEPTH, IDENTIFIER, TOKEN, reads_as_identifier};
use crate::sanitize::class::Certainty;
use crate::sanitize::finding::{Finding, Leak};
use crate::sanitize::secret::looks_random;
use crate::time::Time;
use std::ops::Range;

/// Fewest different bytes among the eight.
pub(super) const VARIETY: u8 = 5;
/// Shared bytes from which on a value is acted on.
pub(super) const ACT: usize = 16;

/// What is shared at each offset of one datagram.
pub(super) struct Marks<'a> {
    pub(super) bytes: &'a [u8],
    /// By the offset at which eight bytes begin.
    pub(super) sights: [Sight; DEPTH],
}

impl<'a> Marks<'a> {
    /// Tells it, and convicts what is to be acted on.
    pub(super) fn tell(&self, window: &mut Window, now: Time, found: &mut Vec<Finding>) {
        let total: usize = self.runs().map(|run| run.len()).sum();
        let grave = self
            .sights
            .iter()
            .any(|sight| matches!(sight, Sight::Convicted | Sight::Blocked));
        let act =
            grave || total >= ACT || self.runs().any(|run| reads_as_identifier(self.slice(&run)));
        for run in self.runs() {
            let value = self.slice(&run);
            let leak: &Leak = if !reads_as_identifier(value) && looks_random(value) {
                &TOKEN
            } else {
                &IDENTIFIER
            };
            let certainty = if act {
                Certainty::Probable
            } else {
                Certainty::Suspected
            };
            found.push(leak.at(certainty, run.clone(), value));
            if act {
                for shingle in value.array_windows::<SHINGLE>() {
                    window.convict(u64::from_ne_bytes(*shingle), now);
                }
            }
        }
    }

    /// The maximal runs of shared bytes.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let mut starts = self
            .sights
            .iter()
            .enumerate()
            .filter(|(_, sight)| **sight != Sight::Unshared)
            .map(|(start, _)| start)
            .peekable();
        std::iter::from_fn(move || {
            let start = starts.next()?;
            let mut end = start + SHINGLE;
            while let Some(next) = starts.next_if(|next| *next <= end) {
                end = next + SHINGLE;
            }
            Some(start..end)
        })
    }

    fn slice(&self, span: &Range<usize>) -> &'a [u8] {
        self.bytes.get(span.clone()).unwrap_or_default()
    }
}

/// How many different bytes are among the eight from each offset on. A byte counts for those eights in which it is the
/// first of its value.
pub(super) fn variety(bytes: &[u8]) -> [u8; DEPTH] {
    // One more than the last place of each value.
    let mut after = [0_u16; 256];
    let mut counts = [0_u8; DEPTH];
    for (at, byte) in bytes.iter().enumerate() {
        let Some(known) = after.get_mut(usize::from(*byte)) else {
            continue;
        };
        let first = (at + 1).saturating_sub(SHINGLE).max((*known).into());
        *known = at as u16 + 1;
        if let Some(count) = counts.get_mut(first) {
            *count += 1;
        }
    }
    // Each byte counts up to its own place.
    let mut running = 1_u8;
    for count in counts.iter_mut().take(bytes.len()) {
        running = (running + *count).saturating_sub(1);
        *count = running;
    }
    counts
}
