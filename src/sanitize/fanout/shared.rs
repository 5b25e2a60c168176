//! What a datagram shares with earlier ones that went to other servers, worked out only where something is.

use super::DEPTH;
use super::heads::{Found, Heads, Number, SHINGLE, Sending, gram};
use super::window::Sight;

/// Places of one gram that are looked at, the youngest first.
const MOST_EARLIER: usize = 64;
/// Steps for one datagram: a place looked at, or eight bytes compared and noted. The last may be of a whole part.
pub(super) const MOST_STEPS: usize = 512;

/// What a datagram shares. One serves all datagrams in turn, and is cleared only if something was noted.
#[derive(Debug)]
pub(super) struct Shared {
    /// By the offset at which eight bytes begin.
    others: [Others; DEPTH],
    is_noted: bool,
    /// Taken for the datagram at hand.
    steps: usize,
}

/// Two other servers that got eight bytes, by the number of a part that went there; those that the policy blocks are
/// preferred.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    count: u8,
    servers: [Number; 2],
    blocked: [bool; 2],
}

/// A part of the datagram at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) bytes: &'a [u8],
    /// Where it begins in the datagram.
    pub(super) start: usize,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            others: [Others::default(); DEPTH],
            is_noted: false,
            steps: 0,
        }
    }
}

impl Shared {
    /// A datagram begins.
    pub(super) fn begin(&mut self) {
        self.steps = 0;
        if self.is_noted {
            self.others.fill(Others::default());
            self.is_noted = false;
        }
    }

    /// The steps that its comparison took.
    #[cfg(test)]
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Notes what a part of it shares.
    pub(super) fn compare(&mut self, heads: &Heads, new: &Sending, part: Part<'_>) {
        for (mut word, from) in heads.known(part.bytes).into_iter().zip((0..).step_by(64)) {
            while word != 0 {
                let at = from + word.trailing_zeros() as usize;
                word &= word - 1;
                if let Some(place) = gram(part.bytes, at).and_then(|gram| heads.look(gram)) {
                    self.follow(heads, new, part, (at, place));
                }
            }
        }
    }

    /// What is known of the eight bytes at an offset.
    pub(super) fn sight(&self, new: &Sending, at: usize) -> Sight {
        match self.others.get(at) {
            Some(others) if self.is_noted => others.sight(new),
            _ => Sight::Unshared,
        }
    }

    /// Whether anything is known that would be told.
    pub(super) fn is_told(&self, new: &Sending) -> bool {
        let is_told = |others: &Others| others.sight(new) != Sight::Unshared;
        self.is_noted && self.others.iter().any(is_told)
    }

    /// Compares a part with all others that hold the gram at one of its offsets.
    fn follow(
        &mut self,
        heads: &Heads,
        new: &Sending,
        part: Part<'_>,
        (at, place): (usize, Number),
    ) {
        let Some(last) = part.bytes.len().checked_sub(SHINGLE) else {
            return;
        };
        // The eights that hold the gram.
        let eights = part.start + at.saturating_sub(SHINGLE - 5)..part.start + at.min(last) + 1;
        let mut next = Some(place);
        for _ in 0..MOST_EARLIER {
            let Some(place) = next.filter(|_| self.steps < MOST_STEPS) else {
                return;
            };
            let eights = self.others.get(eights.clone()).unwrap_or_default();
            if eights.iter().all(|others| others.is_full(heads, new)) {
                return;
            }
            self.steps += 1;
            next = heads.elsewhere(place);
            let Some(old) = heads.at(place) else { continue };
            if old.sending.server == new.server {
                continue;
            }
            let is_known =
                |others: &Others| others.is_full(heads, new) || others.knows(heads, &old);
            if !eights.iter().all(is_known) {
                self.note(heads, part, at, &old);
                next = heads.earlier(place);
            }
        }
    }

    /// Notes the run of equal bytes around a gram, if it is long enough.
    fn note(&mut self, heads: &Heads, part: Part<'_>, at: usize, old: &Found<'_>) {
        let (before, after) = part.bytes.split_at_checked(at).unwrap_or_default();
        let (old_before, old_after) = old.bytes.split_at_checked(old.at).unwrap_or_default();
        let pairs = before.iter().rev().zip(old_before.iter().rev());
        let back = pairs.take_while(|(new, old)| new == old).count();
        let pairs = after.iter().zip(old_after);
        let ahead = pairs.take_while(|(new, old)| new == old).count();
        self.steps += (back + ahead) / SHINGLE;
        let first = part.start + at - back;
        let end = (part.start + at + ahead + 1).saturating_sub(SHINGLE);
        for others in self.others.get_mut(first..end).into_iter().flatten() {
            self.is_noted = true;
            others.note(heads, old);
        }
    }
}

impl Others {
    fn note(&mut self, heads: &Heads, old: &Found<'_>) {
        if self.knows(heads, old) {
            return;
        }
        let place = match self.count {
            0 | 1 => usize::from(self.count),
            _ => match self.blocked {
                [false, _] if old.sending.blocked => 0,
                [_, false] if old.sending.blocked => 1,
                _ => return,
            },
        };
        if let (Some(server), Some(blocked)) =
            (self.servers.get_mut(place), self.blocked.get_mut(place))
        {
            *server = old.number;
            *blocked = old.sending.blocked;
            self.count = self.count.max(place as u8 + 1);
        }
    }

    fn knows(&self, heads: &Heads, old: &Found<'_>) -> bool {
        let known = self.servers.iter().take(self.count.into());
        known
            .into_iter()
            .any(|number| heads.server(*number) == Some(old.sending.server))
    }

    /// Whether no other server would make it worse.
    fn is_full(&self, heads: &Heads, new: &Sending) -> bool {
        match self.sight(new) {
            Sight::Unshared => false,
            Sight::Shared => !heads.has_blocked(),
            Sight::Blocked | Sight::Convicted => true,
        }
    }

    fn sight(&self, new: &Sending) -> Sight {
        let blocked = self.blocked.into_iter().chain([new.blocked]);
        if blocked.filter(|blocked| *blocked).count() >= 2 {
            Sight::Blocked
        } else if self.count >= 2 {
            Sight::Shared
        } else {
            Sight::Unshared
        }
    }
}
