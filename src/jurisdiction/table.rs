//! Ranges in the order of their starts, in blocks of one size, with an index on top: what a look-up walks.
//!
//! Tables are larger than the caches near a core, so what counts is how many memory accesses wait for each other. The
//! index and the first start of every block stay near; the block found with them is one access, and holds starts and
//! values side by side.

/// A key that can be indexed by its leading bits.
pub(super) trait Key: Copy + Ord {
    /// The highest key.
    const LAST: Self;
    /// The leading 16 bits.
    fn top(self) -> usize;
    /// The 8 bits behind them.
    fn second(self) -> usize;
    /// The lowest key with these leading bits.
    fn floor(top: u32, second: u32) -> Self;
}

impl Key for u32 {
    const LAST: Self = Self::MAX;
    #[inline]
    fn top(self) -> usize {
        (self >> 16) as usize
    }
    #[inline]
    fn second(self) -> usize {
        (self >> 8 & 0xff) as usize
    }
    fn floor(top: u32, second: u32) -> Self {
        top << 16 | second << 8
    }
}

impl Key for u64 {
    const LAST: Self = Self::MAX;
    #[inline]
    fn top(self) -> usize {
        (self >> 48) as usize
    }
    #[inline]
    fn second(self) -> usize {
        (self >> 40 & 0xff) as usize
    }
    fn floor(top: u32, second: u32) -> Self {
        Self::from(top) << 48 | Self::from(second) << 40
    }
}

/// Ranges in a block: as many keys of 32 bits as a cache line holds.
const WIDTH: usize = 16;

/// Halvings that find a block in a bucket of the first level, and in one of the second. Their number is fixed, because
/// a loop that ends early cannot be predicted and would keep the look-ups behind it from being begun.
const STEPS: [u32; 2] = [3, 8];

/// Marks an entry of `top` that is a place in `second`, and one of `second` whose bucket is too crowded for its steps.
const DEEPER: u32 = 1 << 31;

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
    /// By the leading 16 bits: the block with the last start at or below the lowest such key. Crowded buckets have a
    /// second level instead, by the 8 bits behind and with one entry for the end.
    top: Vec<u32>,
    second: Vec<u32>,
}

impl<K: Key> Table<K> {
    /// Without ranges. [`Table::finish`] makes it ready for look-ups.
    pub(super) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            len: 0,
            firsts: Vec::new(),
            top: Vec::new(),
            second: Vec::new(),
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
        let mut reached = 0;
        for bucket in 0..0x1_0000 {
            let low = self.block_at(&mut reached, K::floor(bucket, 0));
            let end = match bucket {
                0xffff => low_u32(self.blocks.len().saturating_sub(1)),
                _ => self.block_at(&mut reached.clone(), K::floor(bucket + 1, 0)),
            };
            if end - low < 1 << STEPS[0] {
                self.top.push(low);
                continue;
            }
            self.top.push(DEEPER | low_u32(self.second.len()));
            let mut lows: Vec<u32> = (0..0x100)
                .map(|second| self.block_at(&mut reached, K::floor(bucket, second)))
                .collect();
            lows.push(end);
            let crowded = lows
                .array_windows()
                .map(|[low, end]| match end - low < 1 << STEPS[1] {
                    true => *low,
                    false => DEEPER | low,
                });
            self.second.extend(crowded);
        }
        self.second.shrink_to_fit();
        self
    }

    /// The value at a key.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<u32> {
        let top = *self.top.get(key.top())?;
        let block = if top & DEEPER == 0 {
            self.halve(top as usize, STEPS[0], key)
        } else {
            let second = *self.second.get((top & !DEEPER) as usize + key.second())?;
            match second & DEEPER {
                0 => self.halve(second as usize, STEPS[1], key),
                _ => self
                    .firsts
                    .partition_point(|first| *first <= key)
                    .checked_sub(1)?,
            }
        };
        let block = self.blocks.get(block)?;
        let mut place = 0;
        for step in [8, 4, 2, 1] {
            let start = *block.starts.get(place + step)?;
            place += usize::from(start <= key) * step;
        }
        block.values.get(place).copied()
    }

    /// How many ranges it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        self.blocks.len() * size_of::<Block<K>>()
            + self.firsts.len() * size_of::<K>()
            + 4 * (self.top.len() + self.second.len())
    }

    /// The last block from `low` on that starts at or below `key`; it is fewer than `1 << steps` blocks away.
    #[inline]
    fn halve(&self, low: usize, steps: u32, key: K) -> usize {
        let mut block = low;
        for step in (0..steps).rev() {
            // Two statements, so that only the test for the end, which is always passed, becomes a branch.
            let first = self
                .firsts
                .get(block + (1 << step))
                .copied()
                .unwrap_or(K::LAST);
            block += usize::from(first <= key) << step;
        }
        // Only the highest key goes beyond the end.
        block.min(self.firsts.len().saturating_sub(1))
    }

    /// The block with the last start at or below `key`; `reached` is one that does not lie behind it.
    fn block_at(&self, reached: &mut usize, key: K) -> u32 {
        while self
            .firsts
            .get(*reached + 1)
            .is_some_and(|first| *first <= key)
        {
            *reached += 1;
        }
        low_u32(*reached)
    }
}

/// Numbers of blocks stay far below 2^31: memory ends first.
fn low_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(0)
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
