//! Ranges in the order of their starts, in blocks of one size, with an index on top: what a look-up walks.
//!
//! Tables are larger than the caches near a core, so what counts is how many memory accesses wait for each other, and
//! that nothing about them must be guessed: a wrong guess keeps the look-ups behind it from being begun. Hence the
//! first level by the leading 16 bits, the first starts of blocks and of blocks of blocks, which stay in near caches,
//! and searches whose number of steps is fixed. Only the block itself is far away: one cache line, with starts and
//! values. Starts stand in it as distances from its first one, without the low bits that are zero in all of them: that
//! halves the table.

use std::hint::select_unpredictable;
use std::ops::Sub;

/// A key that can be indexed by its leading bits.
pub(super) trait Key: Copy + Ord + Sub<Output = Self> {
    /// How far a start lies behind the first one of its block.
    type Distance: Copy + Ord + std::fmt::Debug;
    /// The farthest, and everything beyond.
    const FAR: Self::Distance;
    /// The highest key.
    const LAST: Self;
    /// How many of `firsts` share an entry of `seconds`; as many may lie in a bucket that is not crowded.
    const GROUP: usize;
    /// Keys in use share so few leading 16 bits that most buckets which are asked for are crowded.
    const CROWDED: bool;
    /// The leading 16 bits.
    fn top(self) -> usize;
    /// The lowest key with these leading bits.
    fn floor(top: u32) -> Self;
    /// How many low bits are zero; below the number of bits also for 0.
    fn zeros(self) -> u8;
    /// As a distance without `zeros` low bits, at most [`FAR`](Self::FAR).
    fn distance(self, zeros: u8) -> Self::Distance;
    /// The last of `keys` at or below `key` within the group that begins at `low`; that at `low` must be.
    fn within(keys: &[Self], low: usize, key: Self) -> usize;
}

impl Key for u32 {
    type Distance = u16;
    const FAR: u16 = u16::MAX;
    const LAST: Self = Self::MAX;
    const GROUP: usize = 8;
    const CROWDED: bool = false;
    #[inline]
    fn top(self) -> usize {
        (self >> 16) as usize
    }
    fn floor(top: u32) -> Self {
        top << 16
    }
    fn zeros(self) -> u8 {
        self.trailing_zeros().min(31) as u8
    }
    #[inline]
    fn distance(self, zeros: u8) -> u16 {
        (self >> (zeros & 31)).min(u16::MAX.into()) as u16
    }
    #[inline]
    fn within(keys: &[Self], low: usize, key: Self) -> usize {
        // They fit into two registers, and no comparison waits for another. Beyond the group they are higher.
        let ahead = keys.get(low + 1..).and_then(|keys| keys.first_chunk::<8>());
        low + ahead.map_or(0, |ahead| {
            ahead.iter().map(|ahead| usize::from(*ahead <= key)).sum()
        })
    }
}

impl Key for u64 {
    type Distance = u32;
    const FAR: u32 = u32::MAX;
    const LAST: Self = Self::MAX;
    const GROUP: usize = 16;
    const CROWDED: bool = true;
    #[inline]
    fn top(self) -> usize {
        (self >> 48) as usize
    }
    fn floor(top: u32) -> Self {
        Self::from(top) << 48
    }
    fn zeros(self) -> u8 {
        self.trailing_zeros().min(63) as u8
    }
    #[inline]
    fn distance(self, zeros: u8) -> u32 {
        (self >> (zeros & 63)).min(u32::MAX.into()) as u32
    }
    #[inline]
    fn within(keys: &[Self], low: usize, key: Self) -> usize {
        halve(keys, low, 4, key)
    }
}

/// Marks a crowded bucket in `top`.
const CROWDED: u32 = 1 << 31;

/// The highest value that a table can hold.
pub(super) const HIGHEST: u32 = 0xff_ffff;

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
    /// The first start of every block; then the highest key, so that a whole group can always be compared.
    firsts: Vec<K>,
    /// The first of every group of `firsts`, for crowded buckets.
    seconds: Vec<K>,
    /// By the leading 16 bits: the block with the last start at or below the lowest such key.
    top: Vec<u32>,
    /// Halvings that search the entries of `seconds` of the most crowded bucket.
    steps: u32,
}

/// A table that is being made, range by range.
#[derive(Debug)]
pub(super) struct TableBuilder<K: Key, const WIDTH: usize> {
    blocks: Vec<Block<K, WIDTH>>,
    firsts: Vec<K>,
    len: usize,
    /// The ranges of the next block.
    open: Vec<(K, u32)>,
    /// How many low bits are zero in all their distances.
    zeros: u8,
}

impl<K: Key, const WIDTH: usize> Default for TableBuilder<K, WIDTH> {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            firsts: Vec::new(),
            len: 0,
            open: Vec::with_capacity(WIDTH),
            zeros: u8::MAX,
        }
    }
}

impl<K: Key, const WIDTH: usize> TableBuilder<K, WIDTH> {
    /// Appends a range. Starts ascend from the lowest key; values are at most [`HIGHEST`].
    pub(super) fn push(&mut self, start: K, value: u32) {
        self.len += 1;
        if let Some((first, _)) = self.open.first() {
            let distance = start - *first;
            let zeros = self.zeros.min(distance.zeros());
            if self.open.len() < WIDTH && distance.distance(zeros) < K::FAR {
                self.zeros = zeros;
                self.open.push((start, value));
                return;
            }
            self.close();
        }
        self.open.push((start, value));
    }

    /// The table, laid out for look-ups.
    pub(super) fn finish(mut self) -> Table<K, WIDTH> {
        self.close();
        self.blocks.shrink_to_fit();
        let seconds = self.firsts.iter().step_by(K::GROUP).copied().collect();
        self.firsts
            .extend(std::iter::repeat_n(K::LAST, 2 * K::GROUP));
        self.firsts.shrink_to_fit();
        let mut table = Table {
            blocks: self.blocks,
            len: self.len,
            firsts: self.firsts,
            seconds,
            top: Vec::with_capacity(0x1_0000),
            steps: 0,
        };
        table.index();
        table
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

impl<K: Key, const WIDTH: usize> Table<K, WIDTH> {
    fn index(&mut self) {
        let last = self.blocks.len().saturating_sub(1);
        let mut low = self.block_at(0, K::floor(0));
        for bucket in 0..=0xffff {
            let high = match bucket {
                0xffff => last,
                _ => self.block_at(low, K::floor(bucket + 1)),
            };
            let crowded = K::CROWDED || high - low > K::GROUP;
            if crowded {
                // The distance to the last entry, as a number of bits, is the halvings that reach it.
                let distance = high / K::GROUP - low / K::GROUP;
                self.steps = self.steps.max(usize::BITS - distance.leading_zeros());
            }
            // Numbers of blocks stay far below 2^31: memory ends first.
            self.top
                .push(u32::try_from(low).unwrap_or(0) | if crowded { CROWDED } else { 0 });
            low = high;
        }
    }

    /// The value at a key.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<u32> {
        let top = *self.top.get(key.top())?;
        let mut low = (top & !CROWDED) as usize;
        if top & CROWDED != 0 {
            low = halve(&self.seconds, low / K::GROUP, self.steps, key) * K::GROUP;
        }
        let block = K::within(&self.firsts, low, key);
        // Only the highest key goes beyond the end.
        let block = block.min(self.blocks.len().saturating_sub(1));
        let (first, block) = (*self.firsts.get(block)?, self.blocks.get(block)?);
        let distance = (key - first).distance(block.zeros);
        // The first always counts.
        let behind: usize = block
            .starts
            .iter()
            .map(|start| usize::from(*start <= distance))
            .sum();
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
            + (self.firsts.len() + self.seconds.len()) * size_of::<K>()
            + self.top.len() * size_of::<u32>()
    }

    /// The block with the last start at or below `key`, which does not lie before block `from`.
    fn block_at(&self, from: usize, key: K) -> usize {
        let firsts = self.firsts.get(..self.blocks.len()).unwrap_or_default();
        let ahead = firsts.iter().skip(from + 1);
        from + ahead.take_while(|first| **first <= key).count()
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

/// The last place from `low` on whose key is at or below `key`, if it is fewer than `1 << steps` away. The key at
/// `low` must be.
#[inline]
fn halve<K: Key>(keys: &[K], low: usize, steps: u32, key: K) -> usize {
    let mut place = low;
    let mut half = 1 << steps;
    for _ in 0..steps {
        half >>= 1;
        // Only the test for the end, which hardly ever fails, may become a branch.
        let ahead = keys.get(place + half).copied().unwrap_or(K::LAST);
        place = select_unpredictable(ahead <= key, place + half, place);
    }
    // Only the highest key goes beyond the end.
    place.min(keys.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table<K: Key, const WIDTH: usize>(starts: &[K], values: &[u32]) -> Table<K, WIDTH> {
        let mut builder = TableBuilder::default();
        for (start, value) in starts.iter().zip(values) {
            builder.push(*start, *value);
        }
        builder.finish()
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
