//! All sources, merged into one table of ranges.

use super::fine::{Builder64, Table64};
use super::merge::Merge;
use super::operators::Operators;
use super::place::{Place, Voice};
use super::rows::Family;
use super::source::Source;
use super::table::{Table, TableBuilder};
use super::{Anycast, Asn, BadData, Confidence, Country};

/// What holds for a range, in the 16 bytes that a look-up reads. As a number, 0 says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// By the first source that speaks about origins.
    pub(super) asn: Asn,
    /// Index into the places.
    pub(super) place: u32,
    /// Operator id + 1.
    pub(super) operator: u16,
    pub(super) seat: Option<Country>,
    pub(super) country: Option<Country>,
    pub(super) registered: Option<Country>,
    pub(super) confidence: Confidence,
    pub(super) anycast: Anycast,
    /// There is more to know than stands here: several countries, or an origin by a later source.
    pub(super) wide: bool,
}

impl Record {
    /// Says nothing.
    pub(super) const NOTHING: Self = Self {
        asn: 0,
        place: 0,
        operator: 0,
        seat: None,
        country: None,
        registered: None,
        confidence: Confidence::None,
        anycast: Anycast::Unknown,
        wide: false,
    };
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
        let v6 = v6.finish()?;
        let counts = v4_counts.into_iter().zip(v6_counts);
        let Merge {
            mut records,
            places,
            voices,
            answers,
            first_origin,
            ..
        } = merge;
        records.shrink_to_fit();
        Ok(Self {
            v4,
            v6,
            records,
            places,
            voices,
            answers,
            first_origin,
            counts: counts.map(<[usize; 2]>::from).collect(),
        })
    }
}
