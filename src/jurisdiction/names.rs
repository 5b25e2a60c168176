//! Names of autonomous systems.

use super::column::{put_varint, take_varint};
use super::pack::Packed;
use super::{Asn, BadData};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Names by number. Hardly any look-up wants one, so they stay compressed until the first that does.
#[derive(Debug)]
pub(super) struct AsNames {
    packed: Vec<Packed>,
    unpacked: OnceLock<Vec<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    /// Number and end of its name in `text`, ascending by number.
    ends: Vec<(Asn, u32)>,
    text: String,
}

impl AsNames {
    /// Asks the tables in this order.
    pub(super) fn new(packed: Vec<Packed>) -> Self {
        Self {
            packed,
            unpacked: OnceLock::new(),
        }
    }

    /// The name of an autonomous system. A damaged table names nothing: names are shown, never judged by.
    pub(super) fn name(&self, asn: Asn) -> Option<&str> {
        self.unpacked
            .get_or_init(|| {
                self.packed
                    .iter()
                    .filter_map(|packed| Table::read(packed).ok())
                    .collect()
            })
            .iter()
            .find_map(|table| table.name(asn))
    }
}

impl Table {
    fn read(packed: &Packed) -> Result<Self, BadData> {
        let raw = packed.unpack()?;
        let mut rest = raw.as_slice();
        let mut table = Self::default();
        let mut asn = 0;
        while !rest.is_empty() {
            let distance = u32::try_from(take_varint(&mut rest)?)
                .map_err(|_| BadData::Corrupt("a name's number"))?;
            asn = u32::checked_add(asn, distance).ok_or(BadData::Corrupt("a name's number"))?;
            let length =
                usize::try_from(take_varint(&mut rest)?).map_err(|_| BadData::Truncated)?;
            let (name, after) = rest.split_at_checked(length).ok_or(BadData::Truncated)?;
            table
                .text
                .push_str(std::str::from_utf8(name).map_err(|_| BadData::Corrupt("a name"))?);
            table.ends.push((
                asn,
                u32::try_from(table.text.len()).map_err(|_| BadData::TooLarge)?,
            ));
            rest = after;
        }
        Ok(table)
    }

    fn name(&self, asn: Asn) -> Option<&str> {
        let index = self.ends.binary_search_by_key(&asn, |entry| entry.0).ok()?;
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before)?.1,
            None => 0,
        };
        let end = self.ends.get(index)?.1;
        self.text
            .get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

/// Lays names out for [`Table::read`]: distance from the number before, length in bytes, the name itself.
pub(super) fn pack_names(names: &BTreeMap<Asn, String>) -> Result<Option<Packed>, BadData> {
    if names.is_empty() {
        return Ok(None);
    }
    let mut raw = Vec::new();
    let mut previous = 0;
    for (&asn, name) in names {
        put_varint(&mut raw, u128::from(asn - previous));
        put_varint(&mut raw, u128::try_from(name.len()).unwrap_or(0));
        raw.extend(name.as_bytes());
        previous = asn;
    }
    Packed::pack(&raw).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_number_and_the_first_table_speaks_first() {
        let first = BTreeMap::from([
            (0, "zero".to_owned()),
            (7, "seven é".to_owned()),
            (u32::MAX, "last".to_owned()),
        ]);
        let second = BTreeMap::from([(7, "other".to_owned()), (8, String::new())]);
        let pack = |names| pack_names(names).unwrap().unwrap();
        let names = AsNames::new(vec![pack(&first), pack(&second)]);
        assert_eq!(names.name(0), Some("zero"));
        assert_eq!(names.name(7), Some("seven é"));
        assert_eq!(names.name(8), Some(""));
        assert_eq!(names.name(u32::MAX), Some("last"));
        assert_eq!(names.name(9), None);
    }

    #[test]
    fn a_damaged_table_names_nothing() {
        let bad = Packed::pack(&[5, 200, b'x']).unwrap();
        assert_eq!(AsNames::new(vec![bad]).name(5), None);
    }
}
