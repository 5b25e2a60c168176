//! All sources, merged into one table of ranges.

use super::column::{Column, ColumnSteps, Fact};
use super::operators::Operators;
use super::rows::{Family, Step};
use super::source::Source;
use super::table::Table;
use super::{Asn, BadData, Confidence, Country, CountrySet};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// What holds for a range: indices into the tables of [`Compiled`]. 0 says nothing, wherever it can stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Record {
    /// By the first source that speaks about origins.
    pub(super) asn: Asn,
    /// Index into the places.
    pub(super) place: u32,
    /// Operator id + 1.
    pub(super) operator: u16,
    /// Country index + 1.
    pub(super) seat: u8,
}

/// What the sources say in common about the ranges of one combination of answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) country: Option<Country>,
    pub(super) registered: Option<Country>,
    pub(super) confidence: Confidence,
    /// As in a column: 1 yes, 2 no.
    pub(super) anycast: u8,
    pub(super) located: CountrySet,
    pub(super) registered_in: CountrySet,
    /// By the second and later sources that speak about origins.
    pub(super) asn: Asn,
}

/// Which source gave a column of answers, and about what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    pub(super) source: usize,
    pub(super) fact: Fact,
}

/// The merged tables.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) v4: Table<u32>,
    /// By the upper 64 bits. [`FINE`] says that the rest decides, in `fine`.
    pub(super) v6: Table<u64>,
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

/// Stands in the table by upper halves where ranges are finer than /64.
pub(super) const FINE: u32 = u32::MAX;

impl Compiled {
    /// Merges sources, of which earlier ones count first where only one can, with what the operator file says.
    pub(super) fn new(sources: &[Source], operators: &Operators) -> Result<Self, BadData> {
        let mut merge = Merge::new(sources, operators);
        let mut v4 = Ranges32::default();
        merge.family(Family::V4, |start, record| v4.push(start, record))?;
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
            v4: Table::new(v4.starts, v4.values),
            v6,
            fine,
            records: records.items,
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
        if record != FINE {
            return Some(record);
        }
        let behind = self.fine.partition_point(|(start, _)| *start <= address);
        Some(self.fine.get(behind.checked_sub(1)?)?.1)
    }
}

/// Things numbered in the order in which they first came.
#[derive(Debug, Default)]
struct Numbered<T> {
    items: Vec<T>,
    numbers: HashMap<T, u32, RandomState>,
}

impl Numbered<Record> {
    fn number(&mut self, key: Record, complete: impl FnOnce(&mut Record)) -> Result<u32, BadData> {
        if let Some(&number) = self.numbers.get(&key) {
            return Ok(number);
        }
        let number = u32::try_from(self.items.len())
            .ok()
            .filter(|n| *n < FINE)
            .ok_or(BadData::TooMany("ranges"))?;
        self.numbers.insert(key, number);
        let mut item = key;
        complete(&mut item);
        self.items.push(item);
        Ok(number)
    }
}

struct Merge<'a> {
    sources: &'a [Source],
    operators: &'a Operators,
    as_countries: Vec<Vec<(Asn, u8)>>,
    voices: Vec<Voice>,
    first_origin: Option<usize>,
    records: Numbered<Record>,
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
            records: Numbered::default(),
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
        let nowhere = self.place(&answers)?;
        let mut key = Record {
            place: nowhere,
            ..Record::default()
        };
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
                emit(
                    0,
                    self.record(Record {
                        place: nowhere,
                        ..Record::default()
                    })?,
                );
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

    fn record(&mut self, key: Record) -> Result<u32, BadData> {
        let Self {
            records,
            operators,
            as_countries,
            places,
            ..
        } = self;
        records.number(key, |record| {
            let later_asn = places
                .get(record.place as usize)
                .map_or(0, |place| place.asn);
            if record.operator == 0 {
                let by_origin = [record.asn, later_asn]
                    .into_iter()
                    .find_map(|asn| operators.by_asn(asn));
                record.operator = by_origin.map_or(0, |id| id.0 + 1);
            }
            let asn = if record.asn == 0 {
                later_asn
            } else {
                record.asn
            };
            let seat = match record
                .operator
                .checked_sub(1)
                .and_then(|id| operators.get(super::OperatorId(id)))
            {
                Some(operator) => u8::try_from(operator.seat.index() + 1).unwrap_or(0),
                None => as_countries
                    .iter()
                    .map(|table| as_country(table, asn))
                    .find(|seat| *seat != 0)
                    .unwrap_or(0),
            };
            record.seat = seat;
        })
    }
}

impl Place {
    fn new(voices: &[Voice], answers: &[u32]) -> Self {
        let mut place = Self {
            country: None,
            registered: None,
            confidence: Confidence::None,
            anycast: 0,
            located: CountrySet::EMPTY,
            registered_in: CountrySet::EMPTY,
            asn: 0,
        };
        let mut locations = Vec::new();
        let mut all = Vec::new();
        for (voice, &answer) in voices.iter().zip(answers) {
            let country = (answer as usize)
                .checked_sub(1)
                .and_then(Country::from_index);
            match (voice.fact, country) {
                (Fact::Location, Some(country)) => {
                    place.located.insert(country);
                    locations.push(country);
                    all.push(country);
                }
                (Fact::Registration, Some(country)) => {
                    place.registered_in.insert(country);
                    place.registered = place.registered.or(Some(country));
                    all.push(country);
                }
                (Fact::Origin, _) if place.asn == 0 => place.asn = answer,
                // One source that knows of many places outweighs any that sees one.
                (Fact::Anycast, _) if answer == 1 || place.anycast == 0 => {
                    place.anycast = answer as u8
                }
                (
                    Fact::Location
                    | Fact::Registration
                    | Fact::Origin
                    | Fact::Anycast
                    | Fact::AsCountry
                    | Fact::Operator,
                    _,
                ) => {}
            }
        }
        place.country = most_named(&locations);
        place.confidence = confidence(&all);
        place
    }
}

/// The country named most often; of equally many, the one named first.
fn most_named(countries: &[Country]) -> Option<Country> {
    let count = |country: &Country| countries.iter().filter(|other| *other == country).count();
    // `max_by_key` takes the last of equals.
    countries
        .iter()
        .rev()
        .max_by_key(|country| count(country))
        .copied()
}

fn confidence(answers: &[Country]) -> Confidence {
    let most = most_named(answers).map_or(0, |most| {
        answers.iter().filter(|answer| **answer == most).count()
    });
    match (answers.len(), most) {
        (0, _) => Confidence::None,
        (1, _) => Confidence::Single,
        (all, most) if most == all => Confidence::Unanimous,
        (all, most) if most * 2 > all => Confidence::Majority,
        _ => Confidence::Contested,
    }
}

/// Per source that tells: where systems are registered, as steps over their numbers.
fn as_countries(sources: &[Source]) -> Result<Vec<Vec<(Asn, u8)>>, BadData> {
    let mut tables = Vec::new();
    for column in sources
        .iter()
        .flat_map(|source| &source.columns)
        .filter(|column| column.fact == Fact::AsCountry)
    {
        let mut steps = column.steps()?;
        let mut table = Vec::with_capacity(column.len().min(1 << 20));
        while let Some(step) = steps.next()? {
            let asn = Asn::try_from(step.start).map_err(|_| BadData::Corrupt("an AS number"))?;
            table.push((asn, u8::try_from(step.value).unwrap_or(0)));
        }
        tables.push(table);
    }
    Ok(tables)
}

fn as_country(table: &[(Asn, u8)], asn: Asn) -> u8 {
    let behind = table.partition_point(|(start, _)| *start <= asn);
    behind
        .checked_sub(1)
        .and_then(|at| table.get(at))
        .map_or(0, |(_, country)| *country)
}

#[derive(Default)]
struct Ranges32 {
    starts: Vec<u32>,
    values: Vec<u32>,
}

impl Ranges32 {
    fn push(&mut self, start: u128, record: u32) {
        // Columns of the family stay below 2^32.
        self.starts.push(start as u32);
        self.values.push(record);
    }
}

/// Ranges by the upper half of their start, and those that begin within a /64 apart.
#[derive(Default)]
struct Ranges64 {
    starts: Vec<u64>,
    values: Vec<u32>,
    fine: Vec<(u128, u32)>,
    /// What holds at the end of what came in.
    holds: u32,
}

impl Ranges64 {
    fn push(&mut self, start: u128, record: u32) {
        let (upper, lower) = ((start >> 64) as u64, start as u64);
        self.leave_fine(Some(upper).filter(|_| lower == 0), upper);
        if lower == 0 {
            self.starts.push(upper);
            self.values.push(record);
        } else {
            if self.starts.last() == Some(&upper) {
                if let Some(value) = self.values.last_mut().filter(|value| **value != FINE) {
                    self.fine.push((u128::from(upper) << 64, *value));
                    *value = FINE;
                }
            } else {
                self.starts.push(upper);
                self.values.push(FINE);
                self.fine.push((u128::from(upper) << 64, self.holds));
            }
            self.fine.push((start, record));
        }
        self.holds = record;
    }

    /// Behind a /64 that has ranges within, what held at its end goes on, unless something begins right there.
    fn leave_fine(&mut self, begins: Option<u64>, upper: u64) {
        if self.values.last() != Some(&FINE) {
            return;
        }
        let Some(behind) = self.starts.last().and_then(|last| last.checked_add(1)) else {
            return;
        };
        if behind <= upper && begins != Some(behind) {
            self.starts.push(behind);
            self.values.push(self.holds);
        }
    }

    fn finish(mut self) -> (Table<u64>, Vec<(u128, u32)>) {
        self.leave_fine(None, u64::MAX);
        self.fine.shrink_to_fit();
        (Table::new(self.starts, self.values), self.fine)
    }
}
