//! One value sent in the clear to several servers within seconds: the mark of pings that look for the fastest route
//! and carry an identifier. It needs no dissector and cannot tell an account number from a token; it tells the pattern.
//!
//! Every run of eight bytes in the first 256 bytes of the first three datagrams of a flow is remembered for five
//! seconds with the servers it went to. A run that reaches its third server is told: *suspected* if eight bytes are
//! shared, *probable* from sixteen bytes on, if the bytes read as an identifier, or if two of the servers lie where
//! the policy blocks. A probable value stays convicted while it is seen, also on flows that began before.
//!
//! Left out: bytes with little variety (padding, small integers, magic numbers), clocks, and whatever a dissector has
//! read, except fields it points out as opaque.

mod clock;
mod recurrence;
mod values;
mod window;

use super::class::{Certainty, Class};
use super::finding::{Finding, Leak};
use super::secret::looks_random;
use super::{Context, dissect};
use recurrence::Openings;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use window::{Sight, Window};

/// Bytes of a datagram that are looked at.
const DEPTH: usize = 256;
/// Datagrams of a flow that are remembered.
pub const COMPARED: u32 = 3;
/// Length of the runs that are compared.
const SHINGLE: usize = 8;
/// Fewest different bytes among the eight.
const VARIETY: u8 = 5;
/// Shared bytes from which on a value is acted on.
const ACT: usize = 16;

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

/// How much a [`Memory`] may hold. A value is one run of eight bytes of one datagram and takes 128 to 256 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Clients remembered at once; beyond that the one silent for longest is forgotten.
    pub clients: usize,
    /// Values of one client; beyond that its oldest is forgotten.
    pub values_per_client: usize,
    /// Values of all clients; beyond that the client silent for longest is forgotten.
    pub values: usize,
}

impl Default for Bounds {
    /// 16 MB at worst.
    fn default() -> Self {
        Self {
            clients: 256,
            values_per_client: 16_384,
            values: 65_536,
        }
    }
}

/// What was seen of each client across its flows, and of all clients at the openings of unknown ones. Mutable and bounded; every flow of a client must be judged with the
/// same memory, or its pings to several servers are not seen together.
#[derive(Debug)]
pub struct Memory {
    windows: HashMap<IpAddr, Window, foldhash::fast::RandomState>,
    openings: Openings,
    bounds: Bounds,
    values: usize,
    /// Values of all clients to act on.
    convicted: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Memory {
    /// An empty memory. A bound of zero remembers nothing.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            windows: HashMap::default(),
            openings: Openings::default(),
            bounds,
            values: 0,
            convicted: 0,
        }
    }

    /// Clients remembered now.
    pub fn clients(&self) -> usize {
        self.windows.len()
    }

    /// Values remembered now, of all clients.
    pub fn values(&self) -> usize {
        self.values
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
        parts: impl Iterator<Item = Range<usize>>,
        found: &mut Vec<Finding>,
    ) {
        let remember = context.index < COMPARED;
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return;
        }
        let length = payload.len().min(DEPTH);
        let Some(window) = self.window(context, remember.then_some(length)) else {
            return;
        };
        let (before, convicted) = (window.len(), window.convicted());
        let mut marks = Marks::new(payload);
        if remember {
            clock::mark(marks.bytes, context.now, &mut marks.clocks);
        }
        let mut whole = false;
        for part in parts {
            whole |= part == (0..DEPTH);
            marks.compare(window, context, part, remember);
        }
        let first = found.len();
        marks.tell(window, context, found);
        let (after, convicts) = (window.len(), window.convicted());
        self.values = self.values + after - before;
        self.convicted = self.convicted + convicts - convicted;
        let unknown = whole && found.len() == first;
        if context.index == 0 && unknown {
            let place = self
                .openings
                .compare(context, payload, &marks.clocks, reads_as_identifier);
            if let Some(place) = place {
                let value = payload.get(place.clone()).unwrap_or_default();
                found.push(RECURRING.at(Certainty::Suspected, place, value));
            }
        }
    }

    /// The window of this client, with room for a datagram of this length. One that is not remembered has no length, and
    /// needs a window only if values are convicted.
    fn window(&mut self, context: &Context, length: Option<usize>) -> Option<&mut Window> {
        let Some(length) = length else {
            return self
                .windows
                .get_mut(&context.client)
                .filter(|window| window.convicted() > 0);
        };
        if self.bounds.clients == 0
            || self.bounds.values_per_client == 0
            || self.bounds.values < DEPTH
        {
            return None;
        }
        if !self.windows.contains_key(&context.client) {
            while self.windows.len() >= self.bounds.clients {
                self.forget_oldest(None)?;
            }
        }
        while self.values + DEPTH > self.bounds.values && self.windows.len() > 1 {
            if self.forget_oldest(Some(context.client)).is_none() {
                break;
            }
        }
        let most = self.bounds.values_per_client.min(self.bounds.values);
        let window = self
            .windows
            .entry(context.client)
            .or_insert_with(|| Window::new(most, context.now));
        let (held, convicted) = (window.len(), window.convicted());
        window.begin(context, length);
        self.values = self.values + window.len() - held;
        self.convicted = self.convicted + window.convicted() - convicted;
        Some(window)
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
        self.values -= window.len();
        self.convicted -= window.convicted();
        Some(())
    }
}

/// What is shared at each offset of one datagram.
struct Marks<'a> {
    bytes: &'a [u8],
    /// By the offset at which eight bytes begin.
    sights: [Sight; DEPTH],
    /// The same: how many of the eight differ.
    variety: [u8; DEPTH],
    clocks: [bool; DEPTH],
    is_shared: bool,
}

impl<'a> Marks<'a> {
    fn new(payload: &'a [u8]) -> Self {
        let bytes = payload.get(..DEPTH).unwrap_or(payload);
        Self {
            bytes,
            sights: [Sight::Unshared; DEPTH],
            variety: variety(bytes),
            clocks: [false; DEPTH],
            is_shared: false,
        }
    }

    fn compare(
        &mut self,
        window: &mut Window,
        context: &Context,
        part: Range<usize>,
        remember: bool,
    ) {
        let bytes = self.bytes.get(..part.end).unwrap_or(self.bytes);
        let shingles = bytes.array_windows::<SHINGLE>();
        let clocks = self.clocks.array_windows::<SHINGLE>();
        let told = shingles.zip(clocks).zip(self.variety).skip(part.start);
        let told = told.map(|((shingle, clock), variety)| {
            let holds_clock = u64::from_ne_bytes(clock.map(u8::from)) != 0;
            (!holds_clock && variety >= VARIETY).then_some(u64::from_ne_bytes(*shingle))
        });
        if remember {
            window.fetch(told.clone().flatten());
        }
        let sights = self.sights.iter_mut().skip(part.start);
        for (sight, value) in sights.zip(told) {
            let Some(value) = value else { continue };
            *sight = if remember {
                window.sight(value)
            } else {
                window.recall(value, context.now)
            };
            self.is_shared |= *sight != Sight::Unshared;
        }
    }

    fn tell(&self, window: &mut Window, context: &Context, found: &mut Vec<Finding>) {
        if !self.is_shared {
            return;
        }
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
                    window.convict(u64::from_ne_bytes(*shingle), context.now);
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
fn variety(bytes: &[u8]) -> [u8; DEPTH] {
    // One more than the last place of each value.
    let mut after = [0_usize; 256];
    let mut counts = [0_u8; DEPTH];
    for (at, byte) in bytes.iter().enumerate() {
        let Some(known) = after.get_mut(usize::from(*byte)) else {
            continue;
        };
        let first = (at + 1).saturating_sub(SHINGLE).max(*known);
        *known = at + 1;
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
) -> impl Iterator<Item = Range<usize>> + use<> {
    let whole = reading.is_none().then_some(0..DEPTH);
    whole.into_iter().chain(notes.into_opaque())
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
