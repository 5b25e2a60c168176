//! All sources, merged into one table of ranges.

use super::fine::{Builder64, Table64};
use super::merge::Merge;
use super::operators::Operators;
use super::place::{Place, Voice, anycast};
use super::rows::Family;
use super::source::Source;
use super::table::{Table, TableBuilder};
use super::{Anycast, Asn, BadData, Confidence, Country, OperatorId};

/// What holds for a range, in the 12 bytes that a look-up reads. As a number, 0 says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// By the first source that speaks about origins.
    pub(super) asn: Asn,
    /// Index into the holders.
    pub(super) holder: u16,
    /// Index into the places, lowest byte first; the highest bit is [`WIDE`].
    place: [u8; 3],
    pub(super) country: Option<Country>,
    pub(super) registered: Option<Country>,
    /// Index into [`JUDGED`].
    judged: u8,
}

/// Who holds a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) operator: Option<OperatorId>,
    pub(super) seat: Option<Country>,
}

/// Marks a record when there is more to know than stands in it: several countries, or an origin by a later source.
const WIDE: u8 = 1 << 7;

/// How the sources agree, and whether it is anycast: all combinations.
const JUDGED: [(Confidence, Anycast); 15] = {
    use Anycast::{No, Unknown, Yes};
    use Confidence::{Contested, Majority, Single, Unanimous};
    [
        (Confidence::None, Unknown),
        (Confidence::None, Yes),
        (Confidence::None, No),
        (Single, Unknown),
        (Single, Yes),
        (Single, No),
        (Unanimous, Unknown),
        (Unanimous, Yes),
        (Unanimous, No),
        (Majority, Unknown),
        (Majority, Yes),
        (Majority, No),
        (Contested, Unknown),
        (Contested, Yes),
        (Contested, No),
    ]
};

impl Record {
    /// Says nothing.
    pub(super) const NOTHING: Self = Self {
        asn: 0,
        holder: 0,
        place: [0; 3],
        country: None,
        registered: None,
        judged: 0,
    };

    /// The record of an origin at a place. Places are fewer than records, so their numbers have at most 23 bits.
    pub(super) fn new(asn: Asn, holder: u16, number: u32, place: &Place) -> Self {
        let judged = (place.confidence, anycast(place.anycast.into()));
        let wide = place.located.len() > 1 || place.registered_in.len() > 1 || place.asn != 0;
        let [low, middle, high, _] = number.to_le_bytes();
        Self {
            asn,
            holder,
            place: [low, middle, high | if wide { WIDE } else { 0 }],
            country: place.country,
            registered: place.registered,
            // All combinations are there.
            judged: JUDGED
                .iter()
                .position(|known| *known == judged)
                .unwrap_or(0) as u8,
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

    /// How far the sources agree, and whether it is anycast.
    #[inline]
    pub(super) fn judged(&self) -> (Confidence, Anycast) {
        let judged = JUDGED.get(usize::from(self.judged)).copied();
        judged.unwrap_or_default()
    }
}

/// By [`Record::holder`]: first those of which nothing but the seat may be known, by the number of its country; then
/// the operators.
pub(super) fn holders(operators: &Operators) -> Result<Vec<Holder>, BadData> {
    let by_seat = (0..=Country::COUNT as u32).map(|number| Holder {
        operator: None,
        seat: Country::from_number(number),
    });
    let known = operators.iter().map(|(id, operator)| Holder {
        operator: Some(id),
        seat: Some(operator.seat),
    });
    let all: Vec<Holder> = by_seat.chain(known).collect();
    let numbered = u16::try_from(all.len()).is_ok();
    numbered.then_some(all).ok_or(BadData::TooMany("operators"))
}

/// The merged tables.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) v4: Table<u32, 12>,
    pub(super) v6: Table64,
    pub(super) records: Vec<Record>,
    pub(super) holders: Vec<Holder>,
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
            holders: holders(operators)?,
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
    fn a_record_holds_every_judgement_and_every_number_of_a_place() {
        assert_eq!(size_of::<Record>(), 12);
        use Confidence::{Contested, Majority, None, Single, Unanimous};
        for confidence in [None, Single, Unanimous, Majority, Contested] {
            for told in 0..3 {
                for asn in [0, 7] {
                    let place = Place {
                        country: Country::from_number(3),
                        registered: Country::from_number(250),
                        confidence,
                        anycast: told,
                        located: FewCountries::of(Country::from_number(3)),
                        registered_in: FewCountries::of(Country::from_number(250)),
                        asn,
                    };
                    let record = Record::new(u32::MAX, u16::MAX, (1 << 23) - 1, &place);
                    assert_eq!(record.judged(), (confidence, anycast(told.into())));
                    assert_eq!(
                        (record.place(), record.is_wide()),
                        ((1 << 23) - 1, asn != 0)
                    );
                    assert_eq!(
                        (record.country, record.registered),
                        (place.country, place.registered)
                    );
                    assert_eq!((record.asn, record.holder), (u32::MAX, u16::MAX));
                }
            }
        }
    }

    #[test]
    fn every_seat_and_every_operator_is_a_holder() {
        let operators = Operators::embedded().unwrap();
        let holders = holders(&operators).unwrap();
        for (number, holder) in holders.iter().enumerate().take(Country::COUNT + 1) {
            assert_eq!(holder.operator, None);
            assert_eq!(holder.seat, Country::from_number(number as u32));
        }
        for (holder, (id, operator)) in holders[Country::COUNT + 1..].iter().zip(operators.iter()) {
            assert_eq!(
                (holder.operator, holder.seat),
                (Some(id), Some(operator.seat))
            );
        }
        assert_eq!(holders.len(), Country::COUNT + 1 + operators.len());
    }
}
