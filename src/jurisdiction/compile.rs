//! All sources, merged into one table of ranges.

use super::column::{Column, ColumnSteps, Fact};
use super::fine::{FINE, Ranges64};
use super::operators::Operators;
use super::place::{Place, Voice, anycast};
use super::rows::{Family, Step};
use super::source::Source;
use super::table::Table;
use super::{Anycast, Asn, BadData, Confidence, Country, OperatorId};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

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
    /// By the upper 64 bits. [`FINE`] says that the rest decides, in `fine`.
    pub(super) v6: Table<u64, 9>,
    pub(super) fine: Vec<(u128, u32)>,
    pub(super) records: Vec<Record>,
    pub(super) places: Vec<Place>,
    /// Who gives the answers of a place, in this order.
    pub(super) voices: Vec<Voice>,
    /// The answers of place `i` start at `i * voices.len()`.
    pub(super) answers: Vec<u32>,
    /// The source behind [`Record::asn`].
    pub(super) first_origin: Option<usize>,
}

impl Compiled {
    /// Merges sources, of which earlier ones count first where only one can, with what the operator file says.
    pub(super) fn new(sources: &[Source], operators: &Operators) -> Result<Self, BadData> {
        let mut merge = Merge::new(sources, operators);
        let (mut starts, mut values) = (Vec::new(), Vec::new());
        merge.family(Family::V4, |start, record| {
            // Columns of the family stay below 2^32.
            starts.push(start as u32);
            values.push(record);
        })?;
        let v4 = Table::new(&starts, &values);
        drop((starts, values));
        let mut v6 = Ranges64::default();
        merge.family(Family::V6, |start, record| v6.push(start, record))?;
        let (v6, fine) = v6.finish();
        let Merge {
            records,
            places,
            voices,
            answers,
            first_origin,
            ..
        } = merge;
        Ok(Self {
            v4,
            v6,
            fine,
            records,
            places,
            voices,
            answers,
            first_origin,
        })
    }

    /// The record of an IPv6 address.
    #[inline]
    pub(super) fn v6_record(&self, address: u128) -> Option<u32> {
        let record = self.v6.get((address >> 64) as u64)?;
        if record == FINE {
            return self.fine_record(address);
        }
        Some(record)
    }

    /// Few addresses lie where ranges are finer than /64.
    #[cold]
    fn fine_record(&self, address: u128) -> Option<u32> {
        let behind = self.fine.partition_point(|(start, _)| *start <= address);
        Some(self.fine.get(behind.checked_sub(1)?)?.1)
    }
}

/// As a power of two: how many records [`Merge`] keeps at hand.
const RECENT_BITS: u32 = 14;

/// What tells records apart while they are gathered.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    asn: Asn,
    place: u32,
    operator: u16,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One write instead of three: there is a look-up for every range.
        let [asn, place, operator]: [u128; 3] =
            [self.asn.into(), self.place.into(), self.operator.into()];
        state.write_u128(asn | place << 32 | operator << 64);
    }
}

struct Merge<'a> {
    sources: &'a [Source],
    operators: &'a Operators,
    as_countries: Vec<AsCountries>,
    voices: Vec<Voice>,
    first_origin: Option<usize>,
    records: Vec<Record>,
    record_numbers: HashMap<Key, u32, RandomState>,
    /// Records asked for lately: neighbours repeat each other, and this fits a near cache.
    recent: Vec<(Key, u32)>,
    places: Vec<Place>,
    place_numbers: HashMap<Box<[u32]>, u32, RandomState>,
    answers: Vec<u32>,
}

/// A column on its way through the merge.
struct Lane<'a> {
    steps: ColumnSteps<'a>,
    head: Option<Step>,
    role: Role,
}

/// What a lane's value becomes.
#[derive(Clone, Copy)]
enum Role {
    Operator,
    FirstOrigin,
    Answer(usize),
}

impl<'a> Merge<'a> {
    fn new(sources: &'a [Source], operators: &'a Operators) -> Self {
        let mut voices = Vec::new();
        let mut first_origin = None;
        for (source, data) in sources.iter().enumerate() {
            for fact in data.facts() {
                match fact {
                    Fact::AsCountry | Fact::Operator => {}
                    Fact::Origin if first_origin.is_none() => first_origin = Some(source),
                    Fact::Location | Fact::Registration | Fact::Origin | Fact::Anycast => {
                        voices.push(Voice { source, fact });
                    }
                }
            }
        }
        Self {
            sources,
            operators,
            as_countries: Vec::new(),
            voices,
            first_origin,
            records: Vec::new(),
            record_numbers: HashMap::default(),
            recent: vec![
                (
                    Key {
                        asn: 0,
                        place: u32::MAX,
                        operator: 0
                    },
                    0
                );
                1 << RECENT_BITS
            ],
            places: Vec::new(),
            place_numbers: HashMap::default(),
            answers: Vec::new(),
        }
    }

    fn family(&mut self, family: Family, mut emit: impl FnMut(u128, u32)) -> Result<(), BadData> {
        if self.as_countries.is_empty() {
            self.as_countries = as_countries(self.sources)?;
        }
        let operator_columns = self.operators.columns(family);
        let mut lanes = self.lanes(family, &operator_columns)?;
        let mut answers = vec![0; self.voices.len()];
        let nothing = Key {
            place: self.place(&answers)?,
            ..Key::default()
        };
        let mut key = nothing;
        let mut previous = None;
        loop {
            let start = match lanes
                .iter()
                .filter_map(|lane| lane.head)
                .map(|step| step.start)
                .min()
            {
                Some(start) => start,
                None if previous.is_none() => 0,
                None => return Ok(()),
            };
            let mut moved = false;
            for lane in &mut lanes {
                let Some(step) = lane.head.filter(|step| step.start == start) else {
                    continue;
                };
                match lane.role {
                    Role::Operator => key.operator = u16::try_from(step.value).unwrap_or(0),
                    Role::FirstOrigin => key.asn = step.value,
                    Role::Answer(voice) => {
                        moved = true;
                        if let Some(answer) = answers.get_mut(voice) {
                            *answer = step.value;
                        }
                    }
                }
                lane.head = lane.steps.next()?;
            }
            if moved {
                key.place = self.place(&answers)?;
            }
            let record = self.record(key)?;
            if previous.is_none() && start > 0 {
                emit(0, self.record(nothing)?);
            }
            if previous != Some(record) {
                emit(start, record);
                previous = Some(record);
            }
        }
    }

    fn lanes<'b>(&self, family: Family, operators: &'b [Column]) -> Result<Vec<Lane<'b>>, BadData>
    where
        'a: 'b,
    {
        let mut lanes = Vec::new();
        let mut add = |column: &'b Column, role| -> Result<(), BadData> {
            let mut steps = column.steps()?;
            let head = steps.next()?;
            lanes.push(Lane { steps, head, role });
            Ok(())
        };
        for column in operators {
            add(column, Role::Operator)?;
        }
        for (source, data) in self.sources.iter().enumerate() {
            for column in data.columns.iter().filter(|column| column.family == family) {
                let voice = self
                    .voices
                    .iter()
                    .position(|v| v.source == source && v.fact == column.fact);
                match voice {
                    Some(voice) => add(column, Role::Answer(voice))?,
                    None if column.fact == Fact::Origin => add(column, Role::FirstOrigin)?,
                    None => {}
                }
            }
        }
        Ok(lanes)
    }

    fn place(&mut self, answers: &[u32]) -> Result<u32, BadData> {
        if let Some(&number) = self.place_numbers.get(answers) {
            return Ok(number);
        }
        let number = u32::try_from(self.places.len()).map_err(|_| BadData::TooMany("ranges"))?;
        self.places.push(Place::new(&self.voices, answers));
        self.answers.extend(answers);
        self.place_numbers.insert(answers.into(), number);
        Ok(number)
    }

    fn record(&mut self, key: Key) -> Result<u32, BadData> {
        let recent = key.asn.wrapping_mul(0x9e37_79b1) ^ key.place.wrapping_mul(0x85eb_ca6b);
        let recent = (recent >> (u32::BITS - RECENT_BITS)) as usize;
        if let Some((_, number)) = self.recent.get(recent).filter(|(held, _)| *held == key) {
            return Ok(*number);
        }
        let number = match self.record_numbers.get(&key) {
            Some(&number) => number,
            None => self.new_record(key)?,
        };
        if let Some(slot) = self.recent.get_mut(recent) {
            *slot = (key, number);
        }
        Ok(number)
    }

    fn new_record(&mut self, key: Key) -> Result<u32, BadData> {
        let number = u32::try_from(self.records.len())
            .ok()
            .filter(|number| *number < FINE)
            .ok_or(BadData::TooMany("ranges"))?;
        self.record_numbers.insert(key, number);
        let place = self.places.get(key.place as usize);
        let place = place.ok_or(BadData::TooMany("ranges"))?;
        let operator = match key.operator {
            0 => {
                let origins = [key.asn, place.asn].into_iter();
                let by_origin = origins
                    .filter(|asn| *asn != 0)
                    .find_map(|asn| self.operators.by_asn(asn));
                by_origin.map_or(0, |id| id.0 + 1)
            }
            by_prefix => by_prefix,
        };
        let seat = match self.operators.get(OperatorId(operator.wrapping_sub(1))) {
            Some(operator) => Some(operator.seat),
            None => self.seat_of(if key.asn == 0 { place.asn } else { key.asn }),
        };
        self.records.push(Record {
            asn: key.asn,
            place: key.place,
            operator,
            seat,
            country: place.country,
            registered: place.registered,
            confidence: place.confidence,
            anycast: anycast(place.anycast.into()),
            wide: place.located.len() > 1 || place.registered_in.len() > 1 || place.asn != 0,
        });
        Ok(number)
    }

    /// Where an autonomous system is registered, by the first source that tells.
    fn seat_of(&self, asn: Asn) -> Option<Country> {
        self.as_countries.iter().find_map(|table| table.of(asn))
    }
}

/// Where autonomous systems are registered, as steps over their numbers.
struct AsCountries {
    steps: Vec<(Asn, Option<Country>)>,
    /// By number, for those that are in use today: hardly any needs a search.
    dense: Vec<Option<Country>>,
}

/// Beyond the numbers assigned so far.
const DENSE: usize = 1 << 19;

impl AsCountries {
    fn read(column: &Column) -> Result<Self, BadData> {
        let mut encoded = column.steps()?;
        let mut steps = Vec::new();
        let mut dense = Vec::with_capacity(DENSE);
        let mut holds = None;
        while let Some(step) = encoded.next()? {
            let asn = Asn::try_from(step.start).map_err(|_| BadData::Corrupt("an AS number"))?;
            dense.resize((asn as usize).min(DENSE), holds);
            holds = Country::from_number(step.value);
            steps.push((asn, holds));
        }
        Ok(Self { steps, dense })
    }

    fn of(&self, asn: Asn) -> Option<Country> {
        if let Some(country) = self.dense.get(asn as usize) {
            return *country;
        }
        let behind = self.steps.partition_point(|(start, _)| *start <= asn);
        self.steps.get(behind.checked_sub(1)?)?.1
    }
}

/// One table per source that tells.
fn as_countries(sources: &[Source]) -> Result<Vec<AsCountries>, BadData> {
    let columns = sources.iter().flat_map(|source| &source.columns);
    let told = columns.filter(|column| column.fact == Fact::AsCountry);
    told.map(AsCountries::read).collect()
}
