//! Ranges in the order of their starts, in blocks of one size, with a tree on top: what a look-up walks.
//!
//! Tables are larger than the caches near a core, so what counts is how many memory accesses wait for each other, and
//! how much about them must be guessed: a wrong guess keeps the look-ups behind it from being begun. The leading 16
//! bits choose a slot, which leads to a block, or where blocks are dense to a node, whose slots divide it by as many
//! bits as its blocks need. That and the first starts of the blocks stay in near caches. Only the block itself is far
//! away: one cache line, with starts and values. Starts stand in it as distances from its first one, without the low
//! bits that are zero in all of them: that halves the table.

use std::ops::Sub;

/// A key that leads through the tree by its leading bits.
pub(super) trait Key: Copy + Ord + Sub<Output = Self> {
    /// How far a start lies behind the first one of its block. Signed, because older processors compare many at once
    /// only so.
    type Distance: Copy + Ord + std::fmt::Debug;
    /// The farthest, and everything beyond.
    const FAR: Self::Distance;
    /// The highest key.
    const LAST: Self;
    /// How many bits it has.
    const BITS: u32;
    /// How many leading bits choose a slot of the root.
    const ROOT_BITS: u32;
    /// A node has as many slots as leave this many firsts in each, if they are spread evenly.
    const SPREAD: usize;
    /// The bits behind the lowest `below`, as far as a node can ask for them.
    fn above(self, below: u32) -> usize;
    /// As a number.
    fn number(self) -> u64;
    /// As a distance without `zeros` low bits, at most [`FAR`](Self::FAR).
    fn distance(self, zeros: u8) -> Self::Distance;
    /// How many of `starts` are at or before `distance`.
    fn count<const N: usize>(starts: &[Self::Distance; N], distance: Self::Distance) -> usize;
}

impl Key for u32 {
    type Distance = i16;
    const FAR: i16 = i16::MAX;
    const LAST: Self = Self::MAX;
    const BITS: Self = Self::BITS;
    const ROOT_BITS: Self = 16;
    const SPREAD: usize = 2;
    #[inline]
    fn above(self, below: u32) -> usize {
        (self >> (below & 31)) as usize
    }
    fn number(self) -> u64 {
        self.into()
    }
    #[inline]
    fn distance(self, zeros: u8) -> i16 {
        let distance = (self >> (zeros & 31)).min(u16::MAX.into());
        (distance as u16 ^ 1 << 15) as i16
    }
    #[inline]
    fn count<const N: usize>(starts: &[i16; N], distance: i16) -> usize {
        // In numbers of the same width, so that they are counted where they are compared.
        let beyond: i16 = starts
            .iter()
            .map(|start| i16::from(*start > distance))
            .sum();
        N - beyond as usize
    }
}

impl Key for u64 {
    type Distance = i32;
    const FAR: i32 = i32::MAX;
    const LAST: Self = Self::MAX;
    const BITS: u32 = Self::BITS;
    // All addresses in use share the first few; a node holds the rest in less room.
    const ROOT_BITS: u32 = 6;
    const SPREAD: usize = 2;
    #[inline]
    fn above(self, below: u32) -> usize {
        (self >> (below & 63)) as usize
    }
    fn number(self) -> u64 {
        self
    }
    #[inline]
    fn distance(self, zeros: u8) -> i32 {
        let distance = (self >> (zeros & 63)).min(u32::MAX.into());
        (distance as u32 ^ 1 << 31) as i32
    }
    #[inline]
    fn count<const N: usize>(starts: &[i32; N], distance: i32) -> usize {
        let beyond: i32 = starts
            .iter()
            .map(|start| i32::from(*start > distance))
            .sum();
        N - beyond as usize
    }
}

/// Marks a slot that leads to a node; others hold the number of a block. Below the mark: the first slot of the node, in
/// fours (21 bits); how many bits choose one of its slots (4 bits); how many bits of a key are behind those (6 bits).
const NODE: u32 = 1 << 31;

/// As a power of two, the fewest slots of a node; its number leaves out that many bits.
const LEAST_BITS: u32 = 2;

/// As a power of two, the most slots of a node.
const MOST_BITS: u32 = 15;

/// More slots than can be numbered.
const TOO_MANY: usize = 1 << (21 + LEAST_BITS);

/// How many blocks may begin within a slot.
const AHEAD: usize = 4;

/// Some ranges. Behind the last one of a block that is not full stands the farthest distance, with its value.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Block<K: Key, const WIDTH: usize> {
    /// How far each start lies behind the first, which is the first of them: 0.
    starts: [K::Distance; WIDTH],
    /// Lowest byte first.
    values: [[u8; 3]; WIDTH],
    /// How many low bits the distances leave out.
    zeros: u8,
}

/// Values by range. Each value holds from its start up to the next one. `WIDTH` is how many ranges fill a cache
/// line.
#[derive(Debug)]
pub(super) struct Table<K: Key, const WIDTH: usize> {
    blocks: Vec<Block<K, WIDTH>>,
    len: usize,
    /// The first start of every block; then the highest key, so that as many as may begin in a slot can be compared.
    firsts: Vec<K>,
    /// By the leading bits: the block with the last start at or below the lowest such key, or a node.
    root: Vec<u32>,
    /// Those of all nodes, likewise.
    slots: Vec<u32>,
}

/// A table that is being made, range by range.
#[derive(Debug)]
pub(super) struct TableBuilder<K: Key, const WIDTH: usize> {
    blocks: Vec<Block<K, WIDTH>>,
    firsts: Vec<K>,
    len: usize,
    /// The ranges of the next block.
    open: Vec<(K, u32)>,
    /// How many low bits are zero in all their distances; beyond their number if there are none.
    zeros: u8,
}

impl<K: Key, const WIDTH: usize> TableBuilder<K, WIDTH> {
    /// With room for so many ranges: what is not used costs nothing, while growing would cost copies.
    pub(super) fn for_ranges(ranges: usize) -> Self {
        let blocks = ranges / WIDTH + 1;
        Self {
            blocks: Vec::with_capacity(blocks),
            firsts: Vec::with_capacity(blocks),
            len: 0,
            open: Vec::with_capacity(WIDTH),
            zeros: u8::MAX,
        }
    }

    /// Appends a range. Starts ascend from the lowest key; values have 24 bits.
    pub(super) fn push(&mut self, start: K, value: u32) {
        self.len += 1;
        if let Some((first, _)) = self.open.first() {
            let distance = start - *first;
            let zeros = self.zeros.min(distance.number().trailing_zeros() as u8);
            if self.open.len() < WIDTH && distance.distance(zeros) < K::FAR {
                self.zeros = zeros;
                self.open.push((start, value));
                return;
            }
            self.close();
        }
        self.open.push((start, value));
    }

    /// The table, laid out for look-ups; `None` if its tree needs more slots than can be numbered.
    pub(super) fn finish(mut self) -> Option<Table<K, WIDTH>> {
        self.close();
        // The blocks keep their room: shrinking what is aligned to lines would copy it.
        let mut tree = Tree {
            firsts: &self.firsts,
            slots: Vec::new(),
        };
        let root = tree.root();
        let mut slots = tree.slots;
        slots.shrink_to_fit();
        self.firsts.extend([K::LAST; AHEAD]);
        self.firsts.shrink_to_fit();
        (slots.len() < TOO_MANY).then_some(Table {
            blocks: self.blocks,
            len: self.len,
            firsts: self.firsts,
            root,
            slots,
        })
    }

    fn close(&mut self) {
        if let Some((first, _)) = self.open.first() {
            self.firsts.push(*first);
            self.blocks.push(Block::new(&self.open, self.zeros));
        }
        self.open.clear();
        self.zeros = u8::MAX;
    }
}

/// The tree over the first starts of blocks, while it is made.
struct Tree<'a, K> {
    firsts: &'a [K],
    slots: Vec<u32>,
}

/// Which keys a slot covers, and which firsts lie among them.
struct Span {
    floor: u64,
    /// How many low bits of keys differ within.
    bits: u32,
    begin: usize,
    end: usize,
}

impl<K: Key> Tree<'_, K> {
    fn root(&mut self) -> Vec<u32> {
        let bits = K::BITS - K::ROOT_BITS;
        let mut begin = 0;
        let slots = (0..1u64 << K::ROOT_BITS).map(|slot| {
            let span = self.span(begin, slot << bits, bits);
            begin = span.end;
            self.slot(&span)
        });
        slots.collect()
    }

    /// The span from `floor` on, whose firsts begin at place `begin`.
    fn span(&self, begin: usize, floor: u64, bits: u32) -> Span {
        let behind = self.firsts.iter().skip(begin);
        let within = behind.take_while(|first| (first.number() - floor) >> bits == 0);
        Span {
            floor,
            bits,
            begin,
            end: begin + within.count(),
        }
    }

    /// Where a slot leads.
    fn slot(&mut self, span: &Span) -> u32 {
        let first = self.firsts.get(span.begin);
        let begins = first.is_some_and(|first| first.number() == span.floor);
        let block = (span.begin + usize::from(begins)).saturating_sub(1);
        if span.end <= block + 1 + AHEAD {
            // Numbers of blocks stay far below 2^31: memory ends first.
            return block as u32;
        }
        let wanted = ((span.end - span.begin) / K::SPREAD).max(1).ilog2() + 1;
        // At least one bit is left, because several firsts differ.
        let bits = wanted.clamp(LEAST_BITS, MOST_BITS).min(span.bits);
        let below = span.bits - bits;
        let node = self.slots.len();
        self.slots.resize(node + (1 << bits.max(LEAST_BITS)), 0);
        let mut begin = span.begin;
        for slot in 0..1u64 << bits {
            let within = self.span(begin, span.floor + (slot << below), below);
            begin = within.end;
            let leads = self.slot(&within);
            if let Some(slot) = self.slots.get_mut(node + slot as usize) {
                *slot = leads;
            }
        }
        // A table where this is cut is refused in the end.
        NODE | (node >> LEAST_BITS << 10) as u32 & !NODE | bits << 6 | below
    }
}

impl<K: Key, const WIDTH: usize> Table<K, WIDTH> {
    /// The value at a key.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<u32> {
        let mut slot = *self.root.get(key.above(K::BITS - K::ROOT_BITS))?;
        while slot & NODE != 0 {
            let (bits, below) = (slot >> 6 & 15, slot & 63);
            let within = key.above(below) & !(usize::MAX << bits);
            let node = ((slot & !NODE) >> 10 << LEAST_BITS) as usize;
            slot = *self.slots.get(node + within)?;
        }
        let low = slot as usize;
        // No comparison waits for another. Beyond the slot they are higher.
        let ahead = self.firsts.get(low + 1..)?.first_chunk::<AHEAD>()?;
        let ahead: u32 = ahead.iter().map(|ahead| u32::from(*ahead <= key)).sum();
        // Only the highest key goes beyond the end.
        let block = (low + ahead as usize).min(self.blocks.len().saturating_sub(1));
        let (first, block) = (*self.firsts.get(block)?, self.blocks.get(block)?);
        let distance = (key - first).distance(block.zeros);
        // The first always counts.
        let behind = K::count(&block.starts, distance);
        let [low, middle, high] = *block.values.get(behind.checked_sub(1)?)?;
        Some(u32::from_le_bytes([low, middle, high, 0]))
    }

    /// How many ranges it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        self.blocks.len() * size_of::<Block<K, WIDTH>>()
            + self.firsts.len() * size_of::<K>()
            + (self.root.len() + self.slots.len()) * size_of::<u32>()
    }
}

impl<K: Key, const WIDTH: usize> Block<K, WIDTH> {
    /// A block of ranges of which all distances from the first have that many low bits zero.
    fn new(ranges: &[(K, u32)], zeros: u8) -> Self {
        let three_bytes = |value: u32| {
            let [low, middle, high, _] = value.to_le_bytes();
            [low, middle, high]
        };
        let last = ranges
            .last()
            .map_or([0; 3], |(_, value)| three_bytes(*value));
        // One start alone has no distances.
        let zeros = if zeros == u8::MAX { 0 } else { zeros };
        let mut block = Self {
            starts: [K::FAR; WIDTH],
            values: [last; WIDTH],
            zeros,
        };
        let first = ranges.first().map(|(first, _)| *first);
        let places = block.starts.iter_mut().zip(&mut block.values);
        for ((to, held), (start, value)) in places.zip(ranges) {
            *to = (*start - first.unwrap_or(*start)).distance(zeros);
            *held = three_bytes(*value);
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table<K: Key, const WIDTH: usize>(starts: &[K], values: &[u32]) -> Table<K, WIDTH> {
        let mut builder = TableBuilder::for_ranges(starts.len());
        for (start, value) in starts.iter().zip(values) {
            builder.push(*start, *value);
        }
        builder.finish().unwrap()
    }

    fn firsts<K: Key, const WIDTH: usize>(table: &Table<K, WIDTH>) -> Vec<K> {
        table.firsts[..table.blocks.len()].to_vec()
    }

    fn agrees<K: Key + std::fmt::Debug, const WIDTH: usize>(starts: &[K], keys: &[K]) {
        let values: Vec<u32> = (0..u32::try_from(starts.len()).unwrap()).collect();
        let table = table::<K, WIDTH>(starts, &values);
        assert_eq!(table.len(), starts.len());
        for key in keys.iter().chain(starts) {
            let plain = starts.partition_point(|start| start <= key) - 1;
            assert_eq!(table.get(*key), Some(plain as u32), "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn the_index_answers_like_plain_search(
            scattered in proptest::collection::vec(any::<u64>(), 0..300),
            crowd in any::<u16>(),
            crowded in proptest::collection::vec(0u64..1 << 48, 0..1500),
            keys in proptest::collection::vec(any::<u64>(), 0..300),
        ) {
            let mut starts = vec![0];
            starts.extend(scattered);
            starts.extend(crowded.iter().map(|low| u64::from(crowd) << 48 | low));
            starts.sort_unstable();
            starts.dedup();
            let mut keys = keys;
            keys.extend(starts.iter().map(|start| start.wrapping_sub(1)));
            keys.extend(crowded.iter().map(|low| u64::from(crowd) << 48 | (low ^ 0x77)));
            keys.extend([0, u64::MAX]);
            agrees::<_, 9>(&starts, &keys);
            let narrow = |long: &[u64]| {
                let mut short: Vec<u32> = long.iter().map(|key| (key >> 32) as u32).collect();
                short.sort_unstable();
                short.dedup();
                short
            };
            agrees::<_, 12>(&narrow(&starts), &narrow(&keys));
        }
    }

    #[test]
    fn one_start_answers_everything() {
        let table = table::<_, 12>(&[0u32], &[9]);
        assert_eq!([0, 1, u32::MAX].map(|key| table.get(key)), [Some(9); 3]);
    }

    #[test]
    fn starts_that_differ_in_their_last_bits_only_are_told_apart() {
        let deep = |count: u64| (0..count).map(|i| 0x2a00_1234_5678_9abc + i * 3);
        for count in [1, 9, 60, 5000] {
            let mut starts = vec![0];
            starts.extend(deep(count));
            starts.extend(deep(count).map(|start| start + (1 << 62)));
            let around = deep(count + 9).flat_map(|start| [start - 1, start + 1, start ^ 1 << 40]);
            agrees::<_, 9>(&starts, &around.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_block_fills_one_cache_line() {
        assert_eq!(size_of::<Block<u32, 12>>(), 64);
        assert_eq!(size_of::<Block<u64, 9>>(), 64);
    }

    #[test]
    fn distances_that_do_not_fit_begin_a_block_of_their_own() {
        // Aligned starts far from each other share a block; one that is not needs the low bits, which leave no room.
        let blocks4 = |starts: &[u32]| firsts(&table::<_, 12>(starts, &[1; 4]));
        assert_eq!(blocks4(&[0, 1 << 16, 1 << 30, 3 << 30]), [0]);
        assert_eq!(blocks4(&[0, 1 << 30, (1 << 30) + 1]), [0, (1 << 30) + 1]);
        let blocks6 = |starts: &[u64]| firsts(&table::<_, 9>(starts, &[1; 3]));
        assert_eq!(blocks6(&[0, 1, u64::from(u32::MAX) - 1]), [0]);
        let far = u64::from(u32::MAX);
        assert_eq!(blocks6(&[0, 1, far]), [0, far]);
    }
}
