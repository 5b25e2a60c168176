//! IPv6 ranges by the upper half of their start, so that keys have 64 bits.

use super::BadData;
use super::table::{Table, TableBuilder};

/// Marks a value of the table by upper halves where ranges are finer than /64: below it stands which of them. Records
/// are numbered below it.
pub(super) const FINE: u32 = 1 << 23;

/// Ranges by the upper half of their start, and those within a /64 apart.
#[derive(Debug)]
pub(super) struct Table64 {
    table: Table<u64, 9>,
    fine: Fine,
}

/// The ranges of every /64 that has some within, one /64 after the other.
#[derive(Debug, Default)]
struct Fine {
    /// Where those of each /64 begin.
    begins: Vec<u32>,
    /// The lower halves of their starts.
    starts: Vec<u64>,
    records: Vec<u32>,
}

/// A [`Table64`] that is being made, range by range.
pub(super) struct Builder64 {
    table: TableBuilder<u64, 9>,
    /// The last range of the table, which may still turn out to have ranges within.
    last: Option<(u64, u32)>,
    fine: Fine,
    /// What holds at the end of what came in.
    holds: u32,
}

impl Builder64 {
    /// With room for so many ranges.
    pub(super) fn for_ranges(ranges: usize) -> Self {
        Self {
            table: TableBuilder::for_ranges(ranges),
            last: None,
            fine: Fine::default(),
            holds: 0,
        }
    }

    /// Appends a range. Starts ascend from 0; records are below [`FINE`].
    pub(super) fn push(&mut self, start: u128, record: u32) {
        let (upper, lower) = ((start >> 64) as u64, start as u64);
        self.leave_fine(upper, lower == 0);
        if lower == 0 {
            self.append(upper, record);
        } else {
            self.enter_fine(upper);
            self.fine.push(lower, record);
        }
        self.holds = record;
    }

    /// The table, laid out for look-ups.
    pub(super) fn finish(mut self) -> Result<Table64, BadData> {
        self.leave_fine(u64::MAX, false);
        if let Some((start, value)) = self.last {
            self.table.push(start, value);
        }
        let (table, mut fine) = (self.table.finish(), self.fine);
        let numbered = fine.begins.len() <= FINE as usize;
        let table = table.filter(|_| numbered);
        fine.begins.shrink_to_fit();
        fine.starts.shrink_to_fit();
        fine.records.shrink_to_fit();
        let table = table.ok_or(BadData::TooMany("ranges"))?;
        Ok(Table64 { table, fine })
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
        if let Some((_, value)) = self.last.as_mut().filter(|(_, value)| *value < FINE) {
            let record = std::mem::replace(value, FINE | self.fine.begin());
            self.fine.push(0, record);
        }
    }

    /// Behind a /64 that has ranges within, what held at its end goes on, unless something `begins` right there.
    fn leave_fine(&mut self, upper: u64, begins: bool) {
        let Some((fine, FINE..)) = self.last else {
            return;
        };
        let behind = fine.checked_add(1);
        if let Some(behind) =
            behind.filter(|behind| *behind < upper || (*behind == upper && !begins))
        {
            self.append(behind, self.holds);
        }
    }
}

impl Table64 {
    /// The record of an address.
    #[inline]
    pub(super) fn get(&self, address: u128) -> Option<u32> {
        let value = self.table.get((address >> 64) as u64)?;
        if value >= FINE {
            return self.fine.get(value - FINE, address as u64);
        }
        Some(value)
    }

    /// How many ranges it has.
    pub(super) fn len(&self) -> usize {
        self.table.len() + self.fine.starts.len()
    }

    /// Bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        let Fine {
            begins,
            starts,
            records,
        } = &self.fine;
        self.table.memory()
            + size_of_val(&**begins)
            + size_of_val(&**starts)
            + size_of_val(&**records)
    }
}

impl Fine {
    /// Begins the ranges of the next /64; its number, which may only be used if it is below [`FINE`].
    fn begin(&mut self) -> u32 {
        let number = self.begins.len() as u32;
        // The starts do not outgrow 32 bits before the numbers outgrow theirs: the ranges come from records of 24 bits.
        self.begins.push(self.starts.len() as u32);
        number & (FINE - 1)
    }

    fn push(&mut self, start: u64, record: u32) {
        self.starts.push(start);
        self.records.push(record);
    }

    /// Few addresses lie where ranges are finer than /64.
    #[cold]
    fn get(&self, number: u32, lower: u64) -> Option<u32> {
        let number = number as usize;
        let begin = *self.begins.get(number)? as usize;
        let end = self.begins.get(number + 1);
        let end = end.map_or(self.starts.len(), |end| *end as usize);
        let behind = self
            .starts
            .get(begin..end)?
            .partition_point(|start| *start <= lower);
        self.records.get((begin + behind).checked_sub(1)?).copied()
    }
}
