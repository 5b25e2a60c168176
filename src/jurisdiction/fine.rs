//! IPv6 ranges by the upper half of their start, so that keys have 64 bits.

use super::table::{HIGHEST, Table, TableBuilder};

/// Stands in the table by upper halves where ranges are finer than /64.
pub(super) const FINE: u32 = HIGHEST;

/// Ranges by the upper half of their start, and those that begin within a /64 apart.
#[derive(Default)]
pub(super) struct Ranges64 {
    table: TableBuilder<u64, 9>,
    /// The last range of the table, which may still turn out to have ranges within.
    last: Option<(u64, u32)>,
    fine: Vec<(u128, u32)>,
    /// What holds at the end of what came in.
    holds: u32,
}

impl Ranges64 {
    /// Appends a range. Starts ascend from 0.
    pub(super) fn push(&mut self, start: u128, record: u32) {
        let (upper, lower) = ((start >> 64) as u64, start as u64);
        self.leave_fine(upper, lower == 0);
        if lower == 0 {
            self.append(upper, record);
        } else {
            self.enter_fine(upper);
            self.fine.push((start, record));
        }
        self.holds = record;
    }

    fn append(&mut self, upper: u64, value: u32) {
        if let Some((start, value)) = self.last.replace((upper, value)) {
            self.table.push(start, value);
        }
    }

    /// From now on ranges begin within the /64 with this upper half.
    fn enter_fine(&mut self, upper: u64) {
        if self.last.is_none_or(|(start, _)| start != upper) {
            self.append(upper, self.holds);
        }
        if let Some((_, value)) = self.last.as_mut().filter(|(_, value)| *value != FINE) {
            self.fine.push((u128::from(upper) << 64, *value));
            *value = FINE;
        }
    }

    /// Behind a /64 that has ranges within, what held at its end goes on, unless something `begins` right there.
    fn leave_fine(&mut self, upper: u64, begins: bool) {
        let Some((fine, FINE)) = self.last else {
            return;
        };
        let behind = fine.checked_add(1);
        if let Some(behind) =
            behind.filter(|behind| *behind < upper || (*behind == upper && !begins))
        {
            self.append(behind, self.holds);
        }
    }

    /// The table by upper halves, and the ranges that it leaves to the lower ones.
    pub(super) fn finish(mut self) -> (Table<u64, 9>, Vec<(u128, u32)>) {
        self.leave_fine(u64::MAX, false);
        if let Some((start, value)) = self.last {
            self.table.push(start, value);
        }
        self.fine.shrink_to_fit();
        (self.table.finish(), self.fine)
    }
}
