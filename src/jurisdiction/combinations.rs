//! Which record each combination of the joined columns has, in little memory.

/// The records where nothing but the joined columns speaks, by the number of their combination. Mostly they follow each
/// other; so what is kept is how many others came between, and not each number.
#[derive(Debug, Default)]
pub(super) struct Combinations {
    count: usize,
    /// For each other record, how many combinations came before it.
    others: Vec<u32>,
    /// For every so many combinations, how many others came before the first of them.
    before: Vec<u32>,
}

/// As a power of two, the combinations of an entry of [`Combinations::before`].
const STRIDE_BITS: u32 = 6;

impl Combinations {
    /// The next combination has this record; it is higher than those before.
    pub(super) fn push(&mut self, record: u32) {
        let others = (record as usize).saturating_sub(self.count);
        // Fewer than records, which have 23 bits.
        self.others.resize(others, self.count as u32);
        if self.count.is_multiple_of(1 << STRIDE_BITS) {
            self.before.push(others as u32);
        }
        self.count += 1;
    }

    /// The record of a combination, if it has come.
    pub(super) fn record(&self, number: usize) -> Option<u32> {
        if number >= self.count {
            return None;
        }
        let stride = number >> STRIDE_BITS;
        let begin = *self.before.get(stride)? as usize;
        let end = self.before.get(stride + 1).map(|end| *end as usize);
        let within = self.others.get(begin..end.unwrap_or(self.others.len()))?;
        let more = within.partition_point(|before| *before as usize <= number);
        u32::try_from(number + begin + more).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn combinations_give_back_their_records(gaps in proptest::collection::vec(prop_oneof![9 => Just(1_u32), 1 => 1..90_u32], 0..400)) {
            let mut combinations = Combinations::default();
            let mut records = Vec::new();
            let mut next = 0;
            for gap in gaps {
                next += gap;
                combinations.push(next);
                records.push(next);
                prop_assert_eq!(combinations.record(records.len()), None);
                for (number, record) in records.iter().enumerate() {
                    prop_assert_eq!(combinations.record(number), Some(*record));
                }
            }
        }
    }
}
