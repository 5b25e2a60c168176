//! Ranges in the order of their starts, in blocks of one size, with an index on top: what a look-up walks.
//!
//! Tables are larger than the caches near a core, so what counts is how many memory accesses wait for each other, and
//! that nothing about them must be guessed: a wrong guess keeps the look-ups behind it from being begun. Hence the
//! first level by the leading 16 bits, the first starts of blocks and of blocks of blocks, which stay in near caches,
//! and searches whose number of steps is fixed. Only the block itself is far away; it holds starts and values side by
//! side.

/// A key that can be indexed by its leading bits.
pub(super) trait Key: Copy + Ord {
    /// The highest key.
    const LAST: Self;
    /// The leading 16 bits.
    fn top(self) -> usize;
    /// The lowest key with these leading bits.
    fn floor(top: u32) -> Self;
}

impl Key for u32 {
    const LAST: Self = Self::MAX;
    #[inline]
    fn top(self) -> usize {
        (self >> 16) as usize
    }
    fn floor(top: u32) -> Self {
        top << 16
    }
}

impl Key for u64 {
    const LAST: Self = Self::MAX;
    #[inline]
    fn top(self) -> usize {
        (self >> 48) as usize
    }
    fn floor(top: u32) -> Self {
        Self::from(top) << 48
    }
}

/// Ranges in a block, and blocks under one entry of `seconds`: as many keys of 32 bits as a cache line holds.
const WIDTH: usize = 16;

/// Halvings that search [`WIDTH`] entries.
const WITHIN: u32 = 4;

/// Halvings that find a block in a bucket that is not crowded.
const FEW: u32 = 3;

/// Marks a crowded bucket in `top`.
const CROWDED: u32 = 1 << 31;

/// Sixteen ranges; behind the last one of a table the highest key fills up.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Block<K> {
    starts: [K; WIDTH],
    values: [u32; WIDTH],
}

/// Values by range. Each value holds from its start up to the next one.
#[derive(Debug)]
pub(super) struct Table<K> {
    blocks: Vec<Block<K>>,
    len: usize,
    /// The first start of every block.
    firsts: Vec<K>,
    /// Every sixteenth of `firsts`, for crowded buckets.
    seconds: Vec<K>,
    /// By the leading 16 bits: the block with the last start at or below the lowest such key.
    top: Vec<u32>,
    /// Halvings that search the entries of `seconds` of the most crowded bucket.
    steps: u32,
}

impl<K: Key> Table<K> {
    /// Without ranges. [`Table::finish`] makes it ready for look-ups.
    pub(super) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            len: 0,
            firsts: Vec::new(),
            seconds: Vec::new(),
            top: Vec::new(),
            steps: 0,
        }
    }

    /// Appends a range. The first must start at the lowest key, all others behind the one before.
    pub(super) fn push(&mut self, start: K, value: u32) {
        let place = self.len % WIDTH;
        if place == 0 {
            // The rest of the last block must find the same value.
            self.blocks.push(Block {
                starts: [K::LAST; WIDTH],
                values: [value; WIDTH],
            });
            self.firsts.push(start);
        }
        if let Some(block) = self.blocks.last_mut() {
            for entry in block.starts.iter_mut().skip(place).take(1) {
                *entry = start;
            }
            block
                .values
                .iter_mut()
                .skip(place)
                .for_each(|entry| *entry = value);
        }
        self.len += 1;
    }

    /// The range appended last: its start and value.
    pub(super) fn last(&self) -> Option<(K, u32)> {
        let place = self.len.checked_sub(1)? % WIDTH;
        let block = self.blocks.last()?;
        Some((*block.starts.get(place)?, *block.values.get(place)?))
    }

    /// Changes the value of the range appended last.
    pub(super) fn set_last(&mut self, value: u32) {
        let place = self.len.saturating_sub(1) % WIDTH;
        if let Some(block) = self.blocks.last_mut() {
            block
                .values
                .iter_mut()
                .skip(place)
                .for_each(|entry| *entry = value);
        }
    }

    /// Builds the index.
    pub(super) fn finish(mut self) -> Self {
        self.blocks.shrink_to_fit();
        self.firsts.shrink_to_fit();
        self.seconds = self.firsts.iter().step_by(WIDTH).copied().collect();
        let last = self.blocks.len().saturating_sub(1);
        let mut low = self.block_at(0, K::floor(0));
        for bucket in 0..=0xffff {
            let high = match bucket {
                0xffff => last,
                _ => self.block_at(low, K::floor(bucket + 1)),
            };
            let crowded = high - low >= 1 << FEW;
            if crowded {
                // The distance to the last entry, as a number of bits, is the halvings that reach it.
                let distance = high / WIDTH - low / WIDTH;
                self.steps = self.steps.max(usize::BITS - distance.leading_zeros());
            }
            // Numbers of blocks stay far below 2^31: memory ends first.
            self.top
                .push(u32::try_from(low).unwrap_or(0) | if crowded { CROWDED } else { 0 });
            low = high;
        }
        self
    }

    /// The value at a key.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<u32> {
        let top = *self.top.get(key.top())?;
        let low = (top & !CROWDED) as usize;
        let block = if top & CROWDED == 0 {
            halve(&self.firsts, low, FEW, key)
        } else {
            let second = halve(&self.seconds, low / WIDTH, self.steps, key);
            halve(&self.firsts, second * WIDTH, WITHIN, key)
        };
        let block = self.blocks.get(block)?;
        let place = halve(&block.starts, 0, WITHIN, key);
        block.values.get(place).copied()
    }

    /// How many ranges it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        self.blocks.len() * size_of::<Block<K>>()
            + (self.firsts.len() + self.seconds.len()) * size_of::<K>()
            + self.top.len() * size_of::<u32>()
    }

    /// The block with the last start at or below `key`, which does not lie before block `from`.
    fn block_at(&self, from: usize, key: K) -> usize {
        let ahead = self.firsts.iter().skip(from + 1);
        from + ahead.take_while(|first| **first <= key).count()
    }
}

/// The last place from `low` on whose key is at or below `key`, if it is fewer than `1 << steps` away. The key at
/// `low` must be.
#[inline]
fn halve<K: Key>(keys: &[K], low: usize, steps: u32, key: K) -> usize {
    let mut place = low;
    for step in (0..steps).rev() {
        // Two statements, so that only the test for the end, which hardly ever fails, becomes a branch.
        let ahead = keys.get(place + (1 << step)).copied().unwrap_or(K::LAST);
        place += usize::from(ahead <= key) << step;
    }
    // Only the highest key goes beyond the end.
    place.min(keys.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agrees<K: Key + std::fmt::Debug>(starts: &[K], keys: &[K]) {
        let mut table = Table::new();
        for (start, value) in starts.iter().zip(0..) {
            table.push(*start, value);
        }
        let table = table.finish();
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
            agrees(&starts, &keys);
            let narrow = |long: &[u64]| {
                let mut short: Vec<u32> = long.iter().map(|key| (key >> 32) as u32).collect();
                short.sort_unstable();
                short.dedup();
                short
            };
            agrees(&narrow(&starts), &narrow(&keys));
        }
    }

    #[test]
    fn one_start_answers_everything() {
        let mut table = Table::new();
        table.push(0u32, 8);
        assert_eq!(table.last(), Some((0, 8)));
        table.set_last(9);
        let table = table.finish();
        assert_eq!([0, 1, u32::MAX].map(|key| table.get(key)), [Some(9); 3]);
    }
}
