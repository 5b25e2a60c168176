//! How many bytes of a connection may be under way. The terminator's congestion control learns only from loss, and its way
//! out of a burst of losses is slow: it knows no selective acknowledgements. So no more is sent than twice what the way
//! has been seen to carry, which keeps queues short and seldom loses anything (the bound of BBR,
//! draft-ietf-ccwg-bbr, section 5.6.1).

use crate::time::Time;
use std::time::Duration;

/// At least so many bytes of one connection, so that its estimate can grow, and acknowledgements may come in batches, …
const LEAST: usize = 8 << 10;
/// … and of all connections of a tunnel together: as much as a server's socket takes at once where nobody set it up for
/// more (`net.core.rmem_default` of Linux). Processors that take turns answer in batches, however short the way is.
pub(super) const SHARED: usize = 64 << 10;
/// Rounds of which the best rate counts.
const ROUNDS: usize = 10;
/// The shortest round trip counts for so long, and at most twice that.
const MEMORY: Duration = Duration::from_secs(10);

/// A round trip before any was seen.
const FIRST: Duration = Duration::from_millis(250);

/// What is known of a connection's way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    /// Bytes that were ever sent, and acknowledged.
    sent: u64,
    acknowledged: u64,
    /// The round under way: when it began, what had been acknowledged by then, and what ends it.
    round: Option<(Time, u64, u64)>,
    /// The sender had more to send than it might in this round: its rate is that of the way.
    full: bool,
    /// Bytes a second of the last rounds.
    rates: [u64; ROUNDS],
    at: usize,
    /// The shortest round trip of this period and of the last, and when this one began.
    shortest: [Option<Duration>; 2],
    since: Time,
    /// The last ones, smoothed (RFC 6298, section 2).
    smoothed: Duration,
}

impl Flight {
    /// Of a connection that begins.
    pub(super) fn new(now: Time) -> Self {
        Self {
            sent: 0,
            acknowledged: 0,
            round: None,
            full: false,
            rates: [0; ROUNDS],
            at: 0,
            shortest: [None; 2],
            since: now,
            smoothed: FIRST,
        }
    }

    /// How long a round trip takes now.
    pub(super) fn round(&self) -> Duration {
        self.smoothed
    }

    /// How many more bytes may be sent while `waiting` are not acknowledged, and `spare` are left of what all connections
    /// share.
    pub(super) fn room(&mut self, waiting: usize, spare: usize) -> usize {
        let room = self.most().saturating_sub(waiting).max(spare);
        self.full |= room == 0;
        room
    }

    /// So many bytes were sent.
    pub(super) fn sent(&mut self, bytes: usize, now: Time) {
        self.sent += bytes as u64;
        if self.round.is_none() {
            self.round = Some((now, self.acknowledged, self.sent));
            self.full = false;
        }
    }

    /// So many bytes of all that were sent are not acknowledged now.
    pub(super) fn waiting(&mut self, waiting: usize, now: Time) {
        self.acknowledged = self.sent.saturating_sub(waiting as u64);
        let Some((began, before, end)) = self.round.filter(|(.., end)| *end <= self.acknowledged)
        else {
            return;
        };
        self.round = None;
        debug_assert!(end >= before, "a round ends behind its beginning");
        let took = now.since(began).max(Duration::from_micros(1));
        self.smoothed = match self.smoothed {
            FIRST => took,
            smoothed => (smoothed * 7 + took) / 8,
        };
        let bytes = self.acknowledged.saturating_sub(before);
        let rate = u128::from(bytes) * 1_000_000_000 / took.as_nanos();
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if (self.full || rate > self.best())
            && let Some(slot) = self.rates.get_mut(self.at)
        {
            *slot = rate;
            self.at = (self.at + 1) % ROUNDS;
        }
        if now.since(self.since) > MEMORY {
            let [this, _] = self.shortest;
            (self.shortest, self.since) = ([None, this], now);
        }
        let [this, _] = &mut self.shortest;
        *this = Some(this.map_or(took, |shortest| shortest.min(took)));
    }

    fn best(&self) -> u64 {
        self.rates.iter().copied().max().unwrap_or(0)
    }

    fn most(&self) -> usize {
        let shortest = self.shortest.into_iter().flatten().min();
        let carries = u128::from(self.best()) * shortest.unwrap_or_default().as_nanos();
        let twice = usize::try_from(carries / 500_000_000).unwrap_or(usize::MAX);
        twice.max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends for so many milliseconds over a way that carries `rate` bytes a millisecond with a delay of `delay`
    /// milliseconds beside its queue; the most that was under way in the last half, and bytes that arrived.
    fn send(rate: usize, delay: u64, milliseconds: u64) -> (usize, usize) {
        let at = |ms: u64| Time::from_nanos(ms * 1_000_000);
        let mut flight = Flight::new(at(0));
        let (mut queue, mut waiting, mut arrived, mut most) = (0, 0, 0, 0);
        let mut under_way = std::collections::VecDeque::new();
        for now in 0..milliseconds {
            while let Some((due, bytes)) = under_way.pop_front_if(|(due, _)| *due <= now) {
                let _: u64 = due;
                waiting -= bytes;
                arrived += bytes;
            }
            flight.waiting(waiting, at(now));
            let room = flight.room(waiting, 0);
            if room > 0 {
                flight.sent(room, at(now));
                waiting += room;
                queue += room;
            }
            let carried = queue.min(rate);
            queue -= carried;
            if carried > 0 {
                under_way.push_back((now + delay, carried));
            }
            if now > milliseconds / 2 {
                most = most.max(waiting);
            }
        }
        (most, arrived)
    }

    #[test]
    fn a_way_is_filled_and_its_queue_kept_within_what_it_carries() {
        // 100 Mbit/s and a tenth of a second, and a gigabit next door.
        for (rate, delay) in [(12_500, 100), (125_000, 2), (1250, 30)] {
            let (most, arrived) = send(rate, delay, 4000);
            let carries = rate * delay as usize;
            assert!(most <= (3 * carries).max(2 * LEAST), "{most} of {carries}");
            assert!(arrived > rate * 4000 / 2, "{arrived} by {rate}");
        }
    }
}
