//! The first bytes of the datagrams of the last seconds, and where in them a few bytes stand.
//!
//! The bytes lie in a ring, in places of four. Of each part that is compared, only the five bytes that begin at a place
//! are indexed: whatever eight bytes are taken from it, one such gram lies whole within them. So a new datagram asks
//! for the grams at all its offsets, and what is shared is found with a quarter of the entries. Grams of one slot are
//! chained, the youngest first; nothing is swept up, for an entry counts only while its place is held, and the bytes
//! themselves say what stands there. The hash has a random key: nobody can choose grams of one slot.

use super::DEPTH;
use crate::time::Time;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

/// Sendings to different servers count together within this time.
const SPAN: Duration = Duration::from_secs(5);
/// Bytes of a place.
const PLACE: usize = 4;
/// Shortest part that is remembered, and shortest run that is shared.
pub(super) const SHINGLE: usize = 8;
/// The lower five bytes: a gram is read little-endian.
const GRAM: u64 = (1 << 40) - 1;
/// Places at first, and at most: those that are not held any more must be told from those that are.
const FEWEST: usize = 128;
const MOST: usize = 1 << 14;
/// Slots of the index for each place.
const SPACE: usize = 2;
/// Words of 64 bits for the offsets of a part.
const WORDS: usize = DEPTH / 64;
/// Places for each part that may be remembered, and parts of one datagram that are sure of a place.
const PART: usize = 8;
const MOST_PARTS: usize = 8;

/// A place of the ring, or the number of a part; both wrap.
pub(super) type Number = u16;

/// Who got a datagram, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    pub(super) server: IpAddr,
    pub(super) at: Time,
    /// The policy blocks its jurisdiction.
    pub(super) blocked: bool,
}

/// A part of a datagram.
#[derive(Clone, Copy, Debug)]
struct Head {
    sending: Sending,
    start: Number,
    length: u16,
}

/// What stands at a place.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// The part it belongs to.
    head: Number,
    /// A place of the same slot before it; itself if there is none.
    earlier: Number,
    /// The same, of the first that went to another server.
    elsewhere: Number,
}

/// The places of grams of one hash.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The youngest.
    place: Number,
    /// A bit for each of them, by another part of the hash: most grams that are not there are known by it.
    bits: u16,
}

/// A gram that was found: the part of a datagram, and where in it.
pub(super) struct Found<'a> {
    pub(super) number: Number,
    pub(super) sending: &'a Sending,
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

/// The ring and its index. Their sizes are powers of two.
#[derive(Debug)]
pub(super) struct Heads {
    ring: Vec<u8>,
    links: Vec<Link>,
    slots: Vec<Slot>,
    heads: VecDeque<Head>,
    /// The number of the first of them.
    first: Number,
    /// The place that follows the last, and how many before it are held.
    next: Number,
    held: Number,
    /// How many heads went where the policy blocks.
    blocked: usize,
    hasher: foldhash::fast::RandomState,
}

impl Heads {
    pub(super) fn new() -> Self {
        Self::with_places(FEWEST)
    }

    fn with_places(places: usize) -> Self {
        Self {
            ring: vec![0; places * PLACE],
            links: vec![Link::default(); places],
            slots: vec![Slot::default(); places * SPACE],
            heads: VecDeque::with_capacity(places / PART),
            first: 0,
            // An empty slot names place 0: far off at first, and later no worse than any place that was given up.
            next: 1 << 15,
            held: 0,
            blocked: 0,
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// The bytes of memory that this many places take.
    const fn size(places: usize) -> usize {
        places * (PLACE + size_of::<Link>() + SPACE * size_of::<Slot>())
            + places / PART * size_of::<Head>()
    }

    /// The bytes of memory that are taken.
    pub(super) fn memory(&self) -> usize {
        Self::size(self.places())
    }

    /// The least that must be allowed to remember any datagram: of one of 256 bytes the ring must hold two.
    pub(super) const LEAST: usize = Self::size(256);

    /// Whether any of them went where the policy blocks.
    pub(super) fn has_blocked(&self) -> bool {
        self.blocked > 0
    }

    /// Forgets what is too old, and makes room for the parts of a datagram of this length: takes more memory, up to
    /// `most` bytes, or else forgets the oldest.
    pub(super) fn begin(&mut self, now: Time, length: usize, most: usize) {
        let is_old = |head: &Head| now.since(head.sending.at) > SPAN;
        while self.heads.front().is_some_and(is_old) {
            self.forget();
        }
        // A part that would cross the ring's end begins at its start.
        let wanted = (length.div_ceil(PLACE) + MOST_PARTS) * 2;
        let fits = |heads: &Self, places: usize| {
            usize::from(heads.held) + wanted <= places
                && heads.heads.len() + MOST_PARTS <= places / PART
        };
        if self.places() > FEWEST && fits(self, self.places() / 4) {
            self.resize(self.places() / 2);
        }
        while !fits(self, self.places()) {
            let more = self.places() * 2;
            if more <= MOST && Self::size(more) <= most {
                self.resize(more);
            } else if !self.forget() {
                return;
            }
        }
    }

    /// Remembers a part of a datagram, if there is room for it.
    pub(super) fn remember(&mut self, sending: Sending, bytes: &[u8]) {
        let places = bytes.len().div_ceil(PLACE);
        let to_end = self.places() - self.index(self.next);
        let skipped = if places > to_end { to_end } else { 0 };
        let is_empty = self.heads.is_empty();
        let held = if is_empty { 0 } else { self.held.into() } + skipped * usize::from(!is_empty);
        let start = self.next.wrapping_add(skipped as Number);
        let at = self.index(start) * PLACE;
        if held + places > self.places() || self.heads.len() >= self.places() / PART {
            return;
        }
        let Some(place) = self.ring.get_mut(at..at + bytes.len()) else {
            return;
        };
        place.copy_from_slice(bytes);
        self.next = start.wrapping_add(places as Number);
        self.held = (held + places) as Number;
        self.blocked += usize::from(sending.blocked);
        self.heads.push_back(Head {
            sending,
            start,
            length: bytes.len() as u16,
        });
        self.index_last(sending.server, start, bytes);
    }

    fn index_last(&mut self, server: IpAddr, start: Number, bytes: &[u8]) {
        let head = self.first.wrapping_add(self.heads.len() as Number - 1);
        let mut place = start;
        for at in (0..bytes.len().saturating_sub(PLACE)).step_by(PLACE) {
            let Some(gram) = gram(bytes, at) else { break };
            let (slot, bit) = self.slot(gram);
            let mut link = Link {
                head,
                earlier: place,
                elsewhere: place,
            };
            // Eight bytes around five equal ones never differ enough.
            if gram != (gram & 0xff) * 0x01_0101_0101 {
                let known = self.slots.get(slot).copied().unwrap_or_default();
                let mut bits = bit;
                if self.holds(known.place) {
                    bits |= known.bits;
                    link.earlier = known.place;
                    link.elsewhere = match self.at(known.place) {
                        Some(old) if old.sending.server == server => {
                            self.elsewhere(known.place).unwrap_or(place)
                        }
                        _ => known.place,
                    };
                }
                if let Some(slot) = self.slots.get_mut(slot) {
                    *slot = Slot { place, bits };
                }
            }
            let index = self.index(place);
            if let Some(known) = self.links.get_mut(index) {
                *known = link;
            }
            place = place.wrapping_add(1);
        }
    }

    /// The offsets of the grams of a part that may stand somewhere, a bit for each.
    ///
    /// Most stand nowhere. Nothing is branched on, so that the slots are read all at once.
    pub(super) fn known(&self, bytes: &[u8]) -> [u64; WORDS] {
        let mut known = [0; WORDS];
        let (slots, next, held) = (self.slots.as_slice(), self.next, self.held);
        let last = slots.len().wrapping_sub(1);
        for (word, from) in known.iter_mut().zip((0..).step_by(64)) {
            let eights = bytes.get(from..).unwrap_or_default();
            for (bit, eight) in eights.array_windows::<SHINGLE>().take(64).enumerate() {
                let hash = self.hasher.hash_one(u64::from_le_bytes(*eight) & GRAM);
                let slot = slots.get(hash as usize & last).copied();
                let Slot { place, bits } = slot.unwrap_or_default();
                let is_held = next.wrapping_sub(place).wrapping_sub(1) < held;
                *word |= u64::from(is_held & (bits >> (hash >> 60) & 1 != 0)) << bit;
            }
        }
        if let Some(end) = bytes.last_chunk::<SHINGLE>() {
            let end = u64::from_le_bytes(*end);
            for over in 1..=SHINGLE - 5 {
                let at = bytes.len() - SHINGLE + over;
                if let (Some(_), Some(word)) =
                    (self.look(end >> (8 * over)), known.get_mut(at / 64))
                {
                    *word |= 1 << (at % 64);
                }
            }
        }
        known
    }

    /// The youngest place at which a gram may stand; more than its five bytes are left out.
    pub(super) fn look(&self, gram: u64) -> Option<Number> {
        let (slot, bit) = self.slot(gram & GRAM);
        let slot = self.slots.get(slot)?;
        (self.holds(slot.place) & (slot.bits & bit != 0)).then_some(slot.place)
    }

    /// The place before it at which the same gram may stand.
    pub(super) fn earlier(&self, place: Number) -> Option<Number> {
        self.before(place, self.links.get(self.index(place))?.earlier)
    }

    /// The first of these that went to another server than this one.
    pub(super) fn elsewhere(&self, place: Number) -> Option<Number> {
        self.before(place, self.links.get(self.index(place))?.elsewhere)
    }

    fn before(&self, place: Number, earlier: Number) -> Option<Number> {
        (self.age(earlier) > self.age(place) && self.holds(earlier)).then_some(earlier)
    }

    /// What stands at a place; `None` if nothing was put there.
    pub(super) fn at(&self, place: Number) -> Option<Found<'_>> {
        let number = self.links.get(self.index(place))?.head;
        let head = self.heads.get(number.wrapping_sub(self.first).into())?;
        let at = usize::from(place.wrapping_sub(head.start)) * PLACE;
        let start = self.index(head.start) * PLACE;
        let bytes = self.ring.get(start..start + usize::from(head.length))?;
        (at < bytes.len()).then_some(Found {
            number,
            sending: &head.sending,
            bytes,
            at,
        })
    }

    /// Where the part of this number went.
    pub(super) fn server(&self, number: Number) -> Option<IpAddr> {
        let head = self.heads.get(number.wrapping_sub(self.first).into())?;
        Some(head.sending.server)
    }

    /// Forgets the oldest part; false if there is none.
    fn forget(&mut self) -> bool {
        let Some(head) = self.heads.pop_front() else {
            return false;
        };
        self.first = self.first.wrapping_add(1);
        self.blocked -= usize::from(head.sending.blocked);
        let oldest = self.heads.front().map_or(self.next, |head| head.start);
        self.held = self.next.wrapping_sub(oldest);
        true
    }

    fn resize(&mut self, places: usize) {
        let old = std::mem::replace(self, Self::with_places(places));
        for head in &old.heads {
            let start = old.index(head.start) * PLACE;
            let bytes = old.ring.get(start..start + usize::from(head.length));
            self.remember(head.sending, bytes.unwrap_or_default());
        }
    }

    fn places(&self) -> usize {
        self.links.len()
    }

    fn index(&self, place: Number) -> usize {
        usize::from(place) & (self.places() - 1)
    }

    fn slot(&self, gram: u64) -> (usize, u16) {
        let hash = self.hasher.hash_one(gram);
        (hash as usize & (self.slots.len() - 1), 1 << (hash >> 60))
    }

    fn holds(&self, place: Number) -> bool {
        self.age(place).wrapping_sub(1) < self.held
    }

    /// One for the last place, more for those before.
    fn age(&self, place: Number) -> Number {
        self.next.wrapping_sub(place)
    }
}

/// The gram at an offset, at least five bytes from the end of at least eight.
pub(super) fn gram(bytes: &[u8], at: usize) -> Option<u64> {
    let whole = bytes.get(at..)?.first_chunk::<SHINGLE>();
    let eight = match whole {
        Some(whole) => u64::from_le_bytes(*whole),
        None => {
            let over = at + SHINGLE - bytes.len();
            u64::from_le_bytes(*bytes.last_chunk()?) >> (8 * over)
        }
    };
    Some(eight & GRAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(seconds: u64) -> Sending {
        Sending {
            server: IpAddr::from([203, 0, 113, 1]),
            at: Time::from_secs(seconds),
            blocked: false,
        }
    }

    #[test]
    fn no_more_is_taken_than_is_said_and_it_is_given_back() {
        let mut heads = Heads::new();
        let taken = |heads: &Heads| {
            heads.ring.capacity()
                + heads.links.capacity() * size_of::<Link>()
                + heads.slots.capacity() * size_of::<Slot>()
                + heads.heads.capacity() * size_of::<Head>()
        };
        for length in (8..=DEPTH).cycle().take(5_000) {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
            heads.begin(Time::from_secs(1), length, 100_000);
            heads.remember(sending(1), &bytes);
            assert!(taken(&heads) <= heads.memory() && heads.memory() <= 100_000);
            let last = heads.at(heads.heads.back().unwrap().start).unwrap();
            assert_eq!(last.bytes, bytes, "there was room");
        }
        assert!(heads.memory() > 50_000);
        for seconds in 10..30 {
            heads.begin(Time::from_secs(seconds), 40, 100_000);
        }
        assert_eq!(heads.memory(), Heads::size(FEWEST));
    }

    #[test]
    fn a_client_is_remembered_with_as_much_as_its_bounds_say() {
        let room = super::super::Bounds::default().bytes_per_client / 2;
        assert!(Heads::size(32_768 / PLACE) <= room && room < Heads::size(65_536 / PLACE));
    }

    #[test]
    fn any_eight_bytes_hold_a_gram_that_is_indexed() {
        for length in SHINGLE..100 {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8 + 100).collect();
            let mut heads = Heads::new();
            heads.begin(Time::from_secs(1), length, 100_000);
            heads.remember(sending(1), &bytes);
            for eight in bytes.windows(SHINGLE) {
                let [known, ..] = heads.known(eight);
                let found = (0..4).filter(|at| known >> at & 1 != 0).any(|at| {
                    let gram = gram(eight, at).unwrap();
                    let places =
                        std::iter::successors(heads.look(gram), |place| heads.earlier(*place));
                    places.into_iter().any(|place| {
                        let found = heads.at(place).unwrap();
                        found.bytes[found.at..found.at + 5] == eight[at..at + 5]
                    })
                });
                assert!(found, "{length}");
            }
        }
    }
}
