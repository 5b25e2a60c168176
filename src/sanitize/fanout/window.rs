//! What one client sent within the last seconds, and where to. Bounded; the oldest is forgotten first.

use super::values::{Recent, START, Seen, Values};
use crate::sanitize::Context;
use crate::time::Time;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Sendings to different servers count together within this time.
const SPAN: Duration = Duration::from_secs(5);
/// A convicted value is remembered this long after it was last seen.
const SENTENCE: Duration = Duration::from_secs(600);

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
    /// The last datagrams; the number of the next.
    sendings: VecDeque<Sending>,
    next: u32,
    /// Values of all of them.
    held: usize,
    values: Values,
    /// Values to act on, and when each was last seen.
    convicted: HashMap<u64, Time, foldhash::fast::RandomState>,
    /// When those were last looked through.
    reviewed: Time,
    most: usize,
    last: Time,
}

/// One datagram.
#[derive(Clone, Copy, Debug)]
struct Sending {
    server: IpAddr,
    at: Time,
    blocked: bool,
    values: usize,
}

impl Window {
    pub(super) fn new(most: usize, now: Time) -> Self {
        Self {
            sendings: VecDeque::new(),
            next: START,
            held: 0,
            values: Values::default(),
            convicted: HashMap::default(),
            reviewed: now,
            most,
            last: now,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held
    }

    /// Values to act on.
    pub(super) fn convicted(&self) -> usize {
        self.convicted.len()
    }

    pub(super) fn last(&self) -> Time {
        self.last
    }

    /// A datagram begins; its values, so many at most, are then told to [`sight`](Self::sight).
    pub(super) fn begin(&mut self, context: &Context, most: usize) {
        let now = context.now;
        self.last = now;
        let is_old = |sending: &Sending| now.since(sending.at) > SPAN;
        while self.sendings.front().is_some_and(is_old) {
            self.forget();
        }
        if now.since(self.reviewed) > SENTENCE {
            self.review(now);
        }
        self.values.fit(self.held + most, self.recent());
        self.next = self.next.wrapping_add(1);
        self.sendings.push_back(Sending {
            server: context.remote.ip().to_canonical(),
            at: now,
            blocked: context.blocked,
            values: 0,
        });
    }

    /// Remembers that the last datagram holds a value, and says what is known of it.
    pub(super) fn sight(&mut self, value: u64) -> Sight {
        while self.held >= self.most && self.sendings.len() > 1 {
            self.forget();
        }
        let Some(new) = self.sendings.back().copied() else {
            return Sight::Unshared;
        };
        let shared = if self.held < self.most {
            self.share(value, &new)
        } else {
            Sight::Unshared
        };
        if self.recall(value, new.at) == Sight::Convicted {
            Sight::Convicted
        } else {
            shared
        }
    }

    /// Fetches what is known of values that are told next.
    pub(super) fn fetch(&self, values: impl Iterator<Item = u64>) {
        self.values.fetch(values);
    }

    fn share(&mut self, value: u64, new: &Sending) -> Sight {
        let (recent, sendings) = (self.recent(), &self.sendings);
        let number = self.next.wrapping_sub(1);
        let Some(seen) = self.values.entry(value, number, recent) else {
            return Sight::Unshared;
        };
        let Seen { latest, other } = *seen;
        let (mut servers, mut blocked) = (1, u8::from(new.blocked));
        let mut latest_other = None;
        let earlier = [Some(latest), (other != latest).then_some(other)];
        for number in earlier.into_iter().flatten() {
            let back = recent.count.checked_sub(recent.age(number));
            let old = back.and_then(|place| sendings.get(place as usize));
            if let Some(old) = old
                && old.server != new.server
            {
                servers += 1;
                blocked += u8::from(old.blocked);
                latest_other = latest_other.or(Some(number));
            }
        }
        *seen = Seen {
            latest: number,
            other: latest_other.unwrap_or(number),
        };
        self.held += 1;
        if let Some(sending) = self.sendings.back_mut() {
            sending.values += 1;
        }
        if blocked >= 2 {
            Sight::Blocked
        } else if servers >= 3 {
            Sight::Shared
        } else {
            Sight::Unshared
        }
    }

    /// Whether a value is convicted; remembers nothing new.
    pub(super) fn recall(&mut self, value: u64, now: Time) -> Sight {
        if self.convicted.is_empty() {
            return Sight::Unshared;
        }
        match self.convicted.get_mut(&value) {
            Some(seen) if now.since(*seen) <= SENTENCE => {
                *seen = now;
                Sight::Convicted
            }
            _ => Sight::Unshared,
        }
    }

    /// Remembers a value as one to act on.
    pub(super) fn convict(&mut self, value: u64, now: Time) {
        // They may take half of the room.
        if self.convicted.len() >= (self.most / 2).max(1) && !self.convicted.contains_key(&value) {
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

    fn recent(&self) -> Recent {
        Recent {
            next: self.next,
            count: self.sendings.len() as u32,
        }
    }

    /// Forgets the oldest datagram.
    fn forget(&mut self) {
        if let Some(sending) = self.sendings.pop_front() {
            self.held -= sending.values;
        }
    }
}
