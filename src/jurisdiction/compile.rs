//! All sources, merged into one table of ranges.

use super::fine::{Builder64, Table64};
use super::merge::Merge;
use super::operators::Operators;
use super::place::{Place, Voice, anycast};
use super::rows::Family;
use super::source::Source;
use super::table::{Table, TableBuilder};
use super::{Anycast, Asn, BadData, Confidence, Country, OperatorId};

/// What holds for a range: what a look-up reads, in the form in which it is told. As a number, 0 says nothing.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub(super) struct Record {
    /// By the first source that speaks about origins.
    pub(super) asn: Asn,
    /// By prefix, else by origin.
    pub(super) operator: Option<OperatorId>,
    /// Index into the places, lowest byte first; the highest bit is [`WIDE`].
    place: [u8; 3],
    /// Of the operator, else of the autonomous system.
    pub(super) seat: Option<Country>,
    pub(super) country: Option<Country>,
    pub(super) registered: Option<Country>,
    pub(super) anycast: Anycast,
    pub(super) confidence: Confidence,
}

/// Marks a record when there is more to know than stands in it: several countries, or an origin by a later source.
const WIDE: u8 = 1 << 7;

impl Record {
    /// Says nothing.
    pub(super) const NOTHING: Self = Self {
        asn: 0,
        operator: None,
        place: [0; 3],
        seat: None,
        country: None,
        registered: None,
        anycast: Anycast::Unknown,
        confidence: Confidence::None,
    };

    /// The record of an origin at a place, and of who holds it. Places are fewer than records, so their numbers have at
    /// most 23 bits.
    pub(super) fn new(
        asn: Asn,
        (operator, seat): (Option<OperatorId>, Option<Country>),
        number: u32,
        place: &Place,
    ) -> Self {
        let wide = place.located.len() > 1 || place.registered_in.len() > 1 || place.asn != 0;
        let [low, middle, high, _] = number.to_le_bytes();
        Self {
            asn,
            operator,
            place: [low, middle, high | if wide { WIDE } else { 0 }],
            seat,
            country: place.country,
            registered: place.registered,
            anycast: anycast(place.anycast.into()),
            confidence: place.confidence,
        }
    }

    /// The number of its place.
    pub(super) fn place(&self) -> u32 {
        let [low, middle, high] = self.place;
        u32::from_le_bytes([low, middle, high & !WIDE, 0])
    }

    /// Whether its place tells more.
    #[inline]
    pub(super) fn is_wide(&self) -> bool {
        self.place[2] & WIDE != 0
    }
}

/// The merged tables.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) v4: Table<u32, 12>,
    pub(super) v6: Table64,
    pub(super) records: Vec<Record>,
    pub(super) places: Vec<Place>,
    /// Who gives the answers of a place, in this order.
    pub(super) voices: Vec<Voice>,
    /// The answers of place `i` start at `i * voices.len()`.
    pub(super) answers: Vec<u32>,
    /// The source behind [`Record::asn`].
    pub(super) first_origin: Option<usize>,
    /// How many ranges each source has, IPv4 and IPv6.
    pub(super) counts: Vec<[usize; 2]>,
}

impl Compiled {
    /// Merges sources, of which earlier ones count first where only one can, with what the operator file says.
    pub(super) fn new(sources: &[Source], operators: &Operators) -> Result<Self, BadData> {
        let mut merge = Merge::new(sources, operators)?;
        let mut v4 = TableBuilder::for_ranges(merge.most_ranges(Family::V4));
        // Columns of the family stay below 2^32.
        let v4_counts = merge.family(Family::V4, |start, record| v4.push(start as u32, record))?;
        let v4 = v4.finish().ok_or(BadData::TooMany("ranges"))?;
        let mut v6 = Builder64::for_ranges(merge.most_ranges(Family::V6));
        let v6_counts = merge.family(Family::V6, |start, record| v6.push(start, record))?;
        // What only merging needs goes before the table is laid out.
        let merged = merge.finish();
        let v6 = v6.finish()?;
        let counts = v4_counts.into_iter().zip(v6_counts);
        Ok(Self {
            v4,
            v6,
            records: merged.records,
            places: merged.places,
            voices: merged.voices,
            answers: merged.answers,
            first_origin: merged.first_origin,
            counts: counts.map(<[usize; 2]>::from).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jurisdiction::FewCountries;

    #[test]
    fn a_record_holds_every_number_of_a_place_in_a_quarter_of_a_line() {
        assert_eq!(size_of::<Record>(), 16);
        for asn in [0, 7] {
            let place = Place {
                country: Country::from_number(3),
                registered: Country::from_number(250),
                confidence: Confidence::Majority,
                anycast: 2,
                located: FewCountries::of(Country::from_number(3)),
                registered_in: FewCountries::of(Country::from_number(250)),
                asn,
            };
            let holder = (Some(OperatorId(u16::MAX)), Country::from_number(9));
            let record = Record::new(u32::MAX, holder, (1 << 23) - 1, &place);
            assert_eq!(
                (record.place(), record.is_wide()),
                ((1 << 23) - 1, asn != 0)
            );
            assert_eq!(
                (record.country, record.registered),
                (place.country, place.registered)
            );
            assert_eq!(
                (record.confidence, record.anycast),
                (place.confidence, Anycast::No)
            );
            assert_eq!(
                (record.asn, (record.operator, record.seat)),
                (u32::MAX, holder)
            );
        }
    }
}
