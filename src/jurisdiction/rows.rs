//! Rows of address ranges, made disjoint.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

/// The spaces in which a range can lie. Numbers of all of them are written as `u128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 addresses.
    V4,
    /// IPv6 addresses.
    V6,
    /// Numbers of autonomous systems.
    As,
}

impl Family {
    /// The highest number in it.
    pub(super) fn last(self) -> u128 {
        match self {
            Self::V4 | Self::As => u32::MAX.into(),
            Self::V6 => u128::MAX,
        }
    }
}

/// An address as a number of its family.
pub(super) fn number(address: IpAddr) -> (Family, u128) {
    match address {
        IpAddr::V4(v4) => (Family::V4, v4.to_bits().into()),
        IpAddr::V6(v6) => (Family::V6, v6.to_bits()),
    }
}

/// A range, both ends included, and what is said about it; 0 says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) value: u32,
}

/// From `start` on, up to the next step, `value` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) start: u128,
    pub(super) value: u32,
}

/// Makes overlapping rows disjoint: the narrowest row that covers an address speaks for it, of equally narrow ones the
/// later, by start and then by place. Gaps get value 0, equal neighbours are merged, and the first step is at 0.
///
/// Published tables do overlap, some rows even cross, so nothing may be assumed about their order.
pub(super) fn flatten(mut rows: Vec<Row>, family: Family) -> Vec<Step> {
    rows.retain(|row| row.first <= row.last && row.last <= family.last());
    // Stable, so that rows of one start keep their order in the file.
    rows.sort_by_key(|row| row.first);
    let mut steps = Steps::default();
    let mut covering = BinaryHeap::new();
    let mut waiting = rows.iter().enumerate().peekable();
    let mut position = 0;
    loop {
        while let Some((order, row)) = waiting.next_if(|(_, row)| row.first <= position) {
            // A max-heap: the narrowest is the greatest.
            covering.push((Reverse(row.last - row.first), order, row.last, row.value));
        }
        while covering.peek().is_some_and(|top| top.2 < position) {
            covering.pop();
        }
        let top = covering.peek();
        steps.push(position, top.map_or(0, |top| top.3));
        let end = top.and_then(|top| top.2.checked_add(1));
        let start = waiting.peek().map(|(_, row)| row.first);
        position = match (start, end) {
            (Some(start), Some(end)) => start.min(end),
            (Some(next), None) | (None, Some(next)) => next,
            (None, None) => break,
        };
        if position > family.last() {
            break;
        }
    }
    steps.0
}

/// Steps in ascending order, without those that change nothing.
#[derive(Debug, Default)]
pub(super) struct Steps(pub(super) Vec<Step>);

impl Steps {
    /// Appends a step; starts must ascend.
    pub(super) fn push(&mut self, start: u128, value: u32) {
        match self.0.last_mut() {
            Some(last) if last.value == value => {}
            Some(last) if last.start == start => last.value = value,
            _ => self.0.push(Step { start, value }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(rows: &[(u128, u128, u32)]) -> Vec<(u128, u32)> {
        let rows = rows
            .iter()
            .map(|&(first, last, value)| Row { first, last, value })
            .collect();
        flatten(rows, Family::V4)
            .iter()
            .map(|step| (step.start, step.value))
            .collect()
    }

    #[test]
    fn the_narrower_row_wins_wherever_it_stands_and_the_wider_resumes_after_it() {
        assert_eq!(
            flat(&[(10, 99, 1), (20, 29, 2)]),
            [(0, 0), (10, 1), (20, 2), (30, 1), (100, 0)]
        );
        assert_eq!(
            flat(&[(20, 29, 2), (10, 99, 1)]),
            [(0, 0), (10, 1), (20, 2), (30, 1), (100, 0)]
        );
    }

    #[test]
    fn of_equally_narrow_rows_the_later_wins() {
        assert_eq!(flat(&[(5, 9, 1), (5, 9, 2)]), [(0, 0), (5, 2), (10, 0)]);
        assert_eq!(
            flat(&[(5, 9, 1), (7, 11, 2)]),
            [(0, 0), (5, 1), (7, 2), (12, 0)]
        );
    }

    #[test]
    fn the_end_of_the_space_is_no_end_of_a_row() {
        assert_eq!(flat(&[(7, u32::MAX.into(), 3)]), [(0, 0), (7, 3)]);
        assert_eq!(flat(&[(0, u128::MAX, 3)]), [(0, 0)], "outside the family");
        let all = vec![Row {
            first: 0,
            last: u128::MAX,
            value: 1,
        }];
        assert_eq!(flatten(all, Family::V6), [Step { start: 0, value: 1 }]);
    }

    proptest! {
        #[test]
        fn flattening_answers_like_asking_every_row(
            rows in proptest::collection::vec((0u128..64, 0u128..64, 1u32..5), 0..24)
        ) {
            let rows: Vec<Row> = rows.into_iter()
                .map(|(first, last, value)| Row { first, last, value })
                .collect();
            let steps = flatten(rows.clone(), Family::V4);
            prop_assert!(steps.windows(2).all(|pair| pair[0].start < pair[1].start && pair[0].value != pair[1].value));
            for address in 0..70u128 {
                let mut best: Option<&Row> = None;
                // Of equally narrow rows the later one: by start, then by place in the file.
                let mut ordered: Vec<&Row> = rows.iter().filter(|row| row.first <= row.last).collect();
                ordered.sort_by_key(|row| row.first);
                for row in ordered {
                    let covers = row.first <= address && address <= row.last;
                    if covers && best.is_none_or(|best| row.last - row.first <= best.last - best.first) {
                        best = Some(row);
                    }
                }
                let said = steps.iter().rev().find(|step| step.start <= address).map_or(0, |step| step.value);
                prop_assert_eq!(said, best.map_or(0, |row| row.value));
            }
        }
    }
}
