//! What one client sent within the last seconds, and what of it is acted on. Bounded; the oldest is forgotten first.

use super::heads::{Heads, Sending};
use super::shared::{Part, Shared};
use crate::time::Time;
use std::collections::HashMap;
use std::time::Duration;

/// A convicted value is remembered this long after it was last seen.
const SENTENCE: Duration = Duration::from_secs(600);
/// Bytes of memory for a convicted value: 17, of which a table that has just grown has more than twice too many.
const CONVICTED: usize = 40;

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

/// The memory of one client.
#[derive(Debug)]
pub(super) struct Window {
    heads: Heads,
    /// Values to act on, and when each was last seen.
    convicted: HashMap<u64, Time, foldhash::fast::RandomState>,
    /// When those were last looked through.
    reviewed: Time,
    /// Bytes of memory.
    most: usize,
    last: Time,
}

impl Window {
    /// The least that `most` may be.
    pub(super) const LEAST: usize = Heads::LEAST * 2;

    pub(super) fn new(most: usize, now: Time) -> Self {
        Self {
            heads: Heads::new(),
            convicted: HashMap::default(),
            reviewed: now,
            most,
            last: now,
        }
    }

    /// Bytes of memory that are taken.
    pub(super) fn memory(&self) -> usize {
        self.heads.memory() + self.convicted.capacity() * CONVICTED / 2
    }

    /// Values to act on.
    pub(super) fn convicted(&self) -> usize {
        self.convicted.len()
    }

    pub(super) fn last(&self) -> Time {
        self.last
    }

    /// A datagram begins, so many bytes of which may have to be remembered.
    pub(super) fn begin(&mut self, now: Time, length: usize) {
        self.last = now;
        self.heads.begin(now, length, self.most / 2);
        if now.since(self.reviewed) > SENTENCE {
            self.review(now);
        }
    }

    /// Compares a part of it, and remembers that.
    pub(super) fn compare(&mut self, new: &Sending, part: Part<'_>, shared: &mut Shared) {
        shared.compare(&self.heads, new, part);
        self.heads.remember(*new, part.bytes);
    }

    /// Whether a value is convicted; it stays so while it is seen.
    pub(super) fn recall(&mut self, value: u64, now: Time) -> bool {
        if self.convicted.is_empty() {
            return false;
        }
        match self.convicted.get_mut(&value) {
            Some(seen) if now.since(*seen) <= SENTENCE => {
                *seen = now;
                true
            }
            _ => false,
        }
    }

    /// Remembers a value as one to act on.
    pub(super) fn convict(&mut self, value: u64, now: Time) {
        // They may take half of the room.
        if self.convicted.len() >= (self.most / 2 / CONVICTED).max(1)
            && !self.convicted.contains_key(&value)
        {
            self.review(now);
            self.forget_half();
        }
        self.convicted.insert(value, now);
    }

    /// Forgets the convicted values that were not seen for long.
    fn review(&mut self, now: Time) {
        self.convicted
            .retain(|_, seen| now.since(*seen) <= SENTENCE);
        self.reviewed = now;
    }

    /// Forgets the half of the convicted values that was not seen for longest, so that it is not done for each new one.
    fn forget_half(&mut self) {
        let mut times: Vec<Time> = self.convicted.values().copied().collect();
        let middle = times.len() / 2;
        if middle < times.len() {
            let (_, median, _) = times.select_nth_unstable(middle);
            self.convicted.retain(|_, seen| *seen > *median);
        }
    }
}
