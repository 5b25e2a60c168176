//! One value sent in the clear to several servers within seconds: the mark of pings that look for the fastest route
//! and carry an identifier. It needs no dissector and cannot tell an account number from a token; it tells the pattern.
//!
//! The first 256 bytes of the first three datagrams of a flow are remembered for five seconds with the server they went
//! to, and compared with those of the same client that went to others. Eight bytes that two other servers got are told:
//! *suspected* if only they are shared, *probable* from sixteen bytes on, if the bytes read as an identifier, or if two
//! of the servers lie where the policy blocks. A probable value stays convicted while it is seen, also on flows that
//! began before.
//!
//! Left out: bytes with little variety (padding, small integers, magic numbers), clocks, and whatever a dissector has
//! read, except fields it points out as opaque.
//!
//! A datagram that shares nothing costs one look into an index for each of its bytes; all else is worked out only for
//! one that does. The work for one datagram is bounded, so what is hidden behind hundreds of later datagrams that hold
//! a part of it may be missed.

mod clock;
mod heads;
mod marks;
mod recurrence;
mod shared;
mod window;

use super::class::{Certainty, Class};
use super::finding::{Finding, Leak};
use super::{Context, dissect};
use crate::time::Time;
use heads::{SHINGLE, Sending};
use marks::{Marks, VARIETY, variety};
use recurrence::Openings;
use shared::{Part, Shared};
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use window::{Sight, Window};

/// Bytes of a datagram that are looked at.
const DEPTH: usize = 256;
/// Datagrams of a flow that are remembered.
pub const COMPARED: u32 = 3;

const TOKEN: Leak = Leak::new(
    "probe-fanout",
    Class::SessionId,
    "token sent to several servers",
);
const IDENTIFIER: Leak = Leak::new(
    "probe-fanout",
    Class::PersonId,
    "value sent to several servers",
);

const RECURRING: Leak = Leak::new(
    "recurrence",
    Class::DeviceId,
    "value that stays with the device",
);

/// The leaks these detectors tell. A fan-out has one name; the class says what the value looks like.
pub(super) const LEAKS: &[Leak] = &[IDENTIFIER, TOKEN, RECURRING];

/// How much a [`Memory`] may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Clients remembered at once; beyond that the one silent for longest is forgotten.
    pub clients: usize,
    /// Bytes of memory of one client: half for what it sent lately, of which the oldest is forgotten, half for values to
    /// act on. A datagram of 40 bytes takes some 240.
    pub bytes_per_client: usize,
    /// Bytes of memory of all clients; beyond that the client silent for longest is forgotten.
    pub bytes: usize,
}

impl Default for Bounds {
    /// 16 MB at worst, with what is not counted here. A client is remembered with 32 KiB of what it sent lately, some 800
    /// pings.
    fn default() -> Self {
        Self {
            clients: 256,
            bytes_per_client: 400 << 10,
            bytes: 15_500_000,
        }
    }
}

/// What was seen of each client across its flows, and of all clients at the openings of unknown ones. Mutable and
/// bounded; every flow of a client must be judged with the same memory, or its pings to several servers are not seen
/// together.
#[derive(Debug)]
pub struct Memory {
    windows: HashMap<IpAddr, Window, foldhash::fast::RandomState>,
    openings: Openings,
    shared: Box<Shared>,
    bounds: Bounds,
    /// Bytes of all windows.
    bytes: usize,
    /// Values of all clients to act on.
    convicted: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Memory {
    /// An empty memory. Bounds too small for one datagram remember nothing.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            windows: HashMap::default(),
            openings: Openings::default(),
            shared: Box::default(),
            bounds,
            bytes: 0,
            convicted: 0,
        }
    }

    /// Clients remembered now.
    pub fn clients(&self) -> usize {
        self.windows.len()
    }

    /// Bytes of memory taken now for all clients.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether any client has sent a value to several servers lately: then later datagrams of its flows are compared too,
    /// otherwise only the first [`COMPARED`] of each flow.
    pub fn has_convicted(&self) -> bool {
        self.convicted > 0
    }

    /// Whether a datagram has to be compared with others: one of the first of its flow, or any while there are values to
    /// act on.
    pub(super) fn compares(&self, context: &Context) -> bool {
        context.index < COMPARED || self.has_convicted()
    }

    /// Compares the parts of a datagram with what this client sent to other servers, and tells what is shared.
    pub(super) fn judge(
        &mut self,
        context: &Context,
        payload: &[u8],
        parts: impl Iterator<Item = Range<usize>> + Clone,
        found: &mut Vec<Finding>,
    ) {
        let Some(first) = parts.clone().next() else {
            return;
        };
        let bytes = payload.get(..DEPTH).unwrap_or(payload);
        let judged = Judged {
            bytes,
            now: context.now,
            sending: (context.index < COMPARED).then(|| Sending {
                server: context.remote.ip().to_canonical(),
                at: context.now,
                blocked: context.blocked,
            }),
        };
        let window = match self.windows.get_mut(&context.client) {
            Some(window) => window,
            None if judged.sending.is_none() => return,
            None => {
                self.admit(context);
                let Some(window) = self.windows.get_mut(&context.client) else {
                    return;
                };
                window
            }
        };
        let (memory, convicted) = (window.memory(), window.convicted());
        let told = found.len();
        self.shared.begin();
        judged.compare(window, parts, &mut self.shared, found);
        self.bytes = self.bytes + window.memory() - memory;
        self.convicted = self.convicted + window.convicted() - convicted;
        while self.bytes > self.bounds.bytes && self.forget_oldest(Some(context.client)).is_some() {
        }
        if context.index == 0 && first == (0..DEPTH) && found.len() == told {
            let place = self.openings.compare(context, bytes, reads_as_identifier);
            if let Some(place) = place {
                let value = bytes.get(place.clone()).unwrap_or_default();
                found.push(RECURRING.at(Certainty::Suspected, place, value));
            }
        }
    }

    /// Remembers a new client, if the bounds allow any.
    fn admit(&mut self, context: &Context) {
        let most = self.bounds.bytes_per_client.min(self.bounds.bytes);
        if self.bounds.clients == 0 || most < Window::LEAST {
            return;
        }
        while self.windows.len() >= self.bounds.clients {
            if self.forget_oldest(None).is_none() {
                return;
            }
        }
        let window = Window::new(most, context.now);
        self.bytes += window.memory();
        self.windows.insert(context.client, window);
    }

    /// Forgets the client silent for longest, except `spared`.
    fn forget_oldest(&mut self, spared: Option<IpAddr>) -> Option<()> {
        let oldest = self
            .windows
            .iter()
            .filter(|(client, _)| Some(**client) != spared)
            .min_by_key(|(client, window)| (window.last(), **client))
            .map(|(client, _)| *client)?;
        let window = self.windows.remove(&oldest)?;
        self.bytes -= window.memory();
        self.convicted -= window.convicted();
        Some(())
    }
}

/// A datagram that is compared.
struct Judged<'a> {
    /// The first [`DEPTH`].
    bytes: &'a [u8],
    now: Time,
    /// `None` if it is not remembered, but only compared with values to act on.
    sending: Option<Sending>,
}

impl Judged<'_> {
    fn compare(
        &self,
        window: &mut Window,
        parts: impl Iterator<Item = Range<usize>> + Clone,
        shared: &mut Shared,
        found: &mut Vec<Finding>,
    ) {
        let parts = parts.filter_map(|part| {
            let end = part.end.min(self.bytes.len());
            let bytes = self.bytes.get(part.start..end)?;
            let start = part.start;
            (bytes.len() >= SHINGLE).then_some(Part { bytes, start })
        });
        let is_shared = self.sending.is_some_and(|sending| {
            window.begin(self.now, self.bytes.len());
            for part in parts.clone() {
                window.compare(&sending, part, shared);
            }
            shared.is_told(&sending)
        });
        if is_shared || window.convicted() > 0 {
            let sights = self.sights(window, parts, shared);
            let marks = Marks {
                bytes: self.bytes,
                sights,
            };
            marks.tell(window, self.now, found);
        }
    }

    /// What is to be told of the eight bytes at each offset.
    fn sights<'b>(
        &self,
        window: &mut Window,
        parts: impl Iterator<Item = Part<'b>>,
        shared: &Shared,
    ) -> [Sight; DEPTH] {
        let mut sights = [Sight::Unshared; DEPTH];
        let (variety, mut clocks) = (variety(self.bytes), [false; DEPTH]);
        if self.sending.is_some() {
            clock::mark(self.bytes, self.now, &mut clocks);
        }
        for part in parts {
            for (eight, at) in part.bytes.array_windows::<SHINGLE>().zip(part.start..) {
                let is_varied = variety.get(at).is_some_and(|variety| *variety >= VARIETY);
                let holds_clock = clocks
                    .get(at..at + SHINGLE)
                    .is_none_or(|clocks| clocks.contains(&true));
                let Some(sight) = sights.get_mut(at) else {
                    break;
                };
                if !is_varied || holds_clock {
                    continue;
                }
                let is_convicted = window.recall(u64::from_ne_bytes(*eight), self.now);
                *sight = match &self.sending {
                    _ if is_convicted => Sight::Convicted,
                    Some(new) => shared.sight(new, at),
                    None => Sight::Unshared,
                };
            }
        }
        sights
    }
}

/// Whether text within the bytes reads as an account number or a room: six or more digits, or eight or more letters
/// and digits in which a letter follows a digit. Words and version names do neither.
fn reads_as_identifier(bytes: &[u8]) -> bool {
    const DIGITS: usize = 6;
    const MIXED: usize = 8;
    bytes
        .split(|byte| !byte.is_ascii_alphanumeric())
        .any(|word| {
            let digits = word
                .split(|byte| !byte.is_ascii_digit())
                .any(|digits| digits.len() >= DIGITS);
            let mixed = word.len() >= MIXED
                && word
                    .array_windows()
                    .any(|[a, b]| a.is_ascii_digit() && b.is_ascii_alphabetic());
            digits || mixed
        })
}

/// Which parts of a datagram are compared: all of an unknown one, of a known one what its dissector pointed out.
pub(super) fn parts(
    reading: Option<dissect::Reading>,
    notes: dissect::Notes<'_>,
) -> impl Iterator<Item = Range<usize>> + Clone + use<> {
    let whole = reading.is_none().then_some(0..DEPTH);
    whole.into_iter().chain(notes.into_opaque())
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
