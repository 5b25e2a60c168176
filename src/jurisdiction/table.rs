//! Sorted starts with an index on top: what a look-up walks.

/// A key that can be indexed by its leading bits.
pub(super) trait Key: Copy + Ord {
    /// The leading 16 bits.
    fn top(self) -> usize;
    /// The 8 bits behind them.
    fn second(self) -> usize;
    /// The lowest key with these leading bits.
    fn floor(top: u32, second: u32) -> Self;
}

impl Key for u32 {
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

/// Values by range. `starts` ascends from the lowest key; each value holds up to the next start.
///
/// The index gives, for the leading 16 bits of a key, the last start at or below the bucket's beginning, so that only
/// the few starts within the bucket are searched. Crowded buckets have a second level for the 8 bits behind.
#[derive(Debug)]
pub(super) struct Table<K> {
    starts: Vec<K>,
    values: Vec<u32>,
    top: Vec<u32>,
    second: Vec<u32>,
}

/// Marks an entry of `top` that is a place in `second`.
const DEEPER: u32 = 1 << 31;

/// Buckets with more starts than this get a second level.
const CROWDED: u32 = 32;

impl<K: Key> Table<K> {
    /// Builds the index. The first start must be the lowest key.
    pub(super) fn new(mut starts: Vec<K>, mut values: Vec<u32>) -> Self {
        starts.shrink_to_fit();
        values.shrink_to_fit();
        let mut table = Self {
            starts,
            values,
            top: Vec::with_capacity(0x1_0001),
            second: Vec::new(),
        };
        let mut next = 0;
        for bucket in 0..0x1_0000 {
            let low = table.last_at(&mut next, K::floor(bucket, 0));
            let mut end = next;
            while table
                .starts
                .get(end)
                .is_some_and(|key| key.top() == bucket as usize)
            {
                end += 1;
            }
            if end - next <= CROWDED as usize {
                table.top.push(low);
                continue;
            }
            table
                .top
                .push(DEEPER | u32::try_from(table.second.len()).unwrap_or(0));
            for second in 0..0x100 {
                let low = table.last_at(&mut next, K::floor(bucket, second));
                table.second.push(low);
            }
            table
                .second
                .push(u32::try_from(end.saturating_sub(1)).unwrap_or(0));
        }
        table
            .top
            .push(u32::try_from(table.starts.len().saturating_sub(1)).unwrap_or(0));
        table
    }

    /// The value at a key.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<u32> {
        let top = *self.top.get(key.top())?;
        let (low, high) = if top & DEEPER == 0 {
            let next = *self.top.get(key.top() + 1)?;
            // The next bucket's low end is this one's high end, wherever it is kept.
            let high = if next & DEEPER == 0 {
                next
            } else {
                *self.second.get((next & !DEEPER) as usize)?
            };
            (top, high)
        } else {
            let at = (top & !DEEPER) as usize + key.second();
            (*self.second.get(at)?, *self.second.get(at + 1)?)
        };
        let within = self.starts.get(low as usize..=high as usize)?;
        let behind = within.partition_point(|start| *start <= key);
        self.values
            .get((low as usize + behind).checked_sub(1)?)
            .copied()
    }

    /// How many ranges it has.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        self.starts.len() * size_of::<K>()
            + 4 * (self.values.len() + self.top.len() + self.second.len())
    }

    /// Moves `next` past the starts up to `key` and gives the place of the last of them.
    fn last_at(&self, next: &mut usize, key: K) -> u32 {
        while self.starts.get(*next).is_some_and(|start| *start <= key) {
            *next += 1;
        }
        u32::try_from(next.saturating_sub(1)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agrees<K: Key + std::fmt::Debug>(starts: &[K], keys: &[K]) {
        let values: Vec<u32> = (0..u32::try_from(starts.len()).unwrap()).collect();
        let table = Table::new(starts.to_vec(), values.clone());
        for key in keys.iter().chain(starts) {
            let plain = values[starts.partition_point(|start| start <= key) - 1];
            assert_eq!(table.get(*key), Some(plain), "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn the_index_answers_like_plain_search(
            scattered in proptest::collection::vec(any::<u64>(), 0..300),
            crowd in any::<u16>(),
            crowded in proptest::collection::vec(0u64..1 << 48, 0..400),
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
        let table = Table::new(vec![0u32], vec![9]);
        assert_eq!([0, 1, u32::MAX].map(|key| table.get(key)), [Some(9); 3]);
        assert_eq!(table.len(), 1);
    }
}
