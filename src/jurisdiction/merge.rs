//! Goes through the columns of all sources at once, range by range.

use super::column::{Column, ColumnSteps, Fact, steps_in};
use super::compile::Record;
use super::fine::FINE;
use super::operators::Operators;
use super::place::{Place, Voice, anycast};
use super::rows::Family;
use super::seats::{Seats, seats};
use super::source::Source;
use super::{Asn, BadData, OperatorId};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// As a power of two: how many records [`Merge`] keeps at hand.
const RECENT_BITS: u32 = 14;

/// What tells records apart while they are gathered.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    asn: Asn,
    place: u32,
    /// By prefix: operator id + 1.
    operator: u16,
}

pub(super) struct Merge<'a> {
    sources: &'a [Source],
    operators: &'a Operators,
    seats: Vec<Seats>,
    pub(super) voices: Vec<Voice>,
    pub(super) first_origin: Option<usize>,
    pub(super) records: Vec<Record>,
    /// [`Key::operator`] of each record.
    by_prefix: Vec<u16>,
    /// Numbers of records, by their keys.
    record_numbers: HashTable<u32>,
    /// Records asked for lately: neighbours repeat each other, and this fits a near cache.
    recent: Vec<(Key, u32)>,
    pub(super) places: Vec<Place>,
    /// Numbers of places, by their answers.
    place_numbers: HashTable<u32>,
    pub(super) answers: Vec<u32>,
    hasher: RandomState,
}

/// A column on its way through the merge.
struct Lane<'a> {
    steps: ColumnSteps<'a>,
    ended: bool,
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
    pub(super) fn new(sources: &'a [Source], operators: &'a Operators) -> Result<Self, BadData> {
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
        let nothing_held = Key {
            place: u32::MAX,
            ..Key::default()
        };
        Ok(Self {
            sources,
            operators,
            seats: seats(sources)?,
            voices,
            first_origin,
            records: Vec::new(),
            by_prefix: Vec::new(),
            record_numbers: HashTable::new(),
            recent: vec![(nothing_held, 0); 1 << RECENT_BITS],
            places: Vec::new(),
            place_numbers: HashTable::new(),
            answers: Vec::new(),
            hasher: RandomState::default(),
        })
    }

    /// Calls back for every range of a family with the number of its record. How many ranges each source has.
    pub(super) fn family(
        &mut self,
        family: Family,
        mut emit: impl FnMut(u128, u32),
    ) -> Result<Vec<usize>, BadData> {
        let operators = self.operators.columns(family);
        let columns = self.columns(family, &operators);
        let bodies = columns
            .iter()
            .map(|(_, column)| column.body.bytes())
            .collect::<Result<Vec<_>, _>>()?;
        let mut counts = vec![0; self.sources.len()];
        let mut lanes = Vec::new();
        for ((source, column), body) in columns.iter().zip(&bodies) {
            if let Some(count) = source.and_then(|source| counts.get_mut(source)) {
                *count += steps_in(body);
            }
            if let Some(role) = self.role(*source, column.fact) {
                lanes.extend(Lane::new(column.steps(body)?, role)?);
            }
        }
        self.merge(lanes, &mut emit)?;
        Ok(counts)
    }

    /// The columns of a family, each with its source; those of the operator file have none.
    fn columns<'b>(
        &self,
        family: Family,
        operators: &'b [Column],
    ) -> Vec<(Option<usize>, &'b Column)>
    where
        'a: 'b,
    {
        let told = self.sources.iter().enumerate().flat_map(|(source, data)| {
            let columns = data.columns.iter();
            columns.map(move |column| (Some(source), column))
        });
        let told = told.filter(|(_, column)| column.family == family);
        let by_prefix = operators.iter().map(|column| (None, column));
        by_prefix.chain(told).collect()
    }

    fn role(&self, source: Option<usize>, fact: Fact) -> Option<Role> {
        let Some(source) = source else {
            return Some(Role::Operator);
        };
        let mut voices = self.voices.iter();
        match voices.position(|voice| voice.source == source && voice.fact == fact) {
            Some(voice) => Some(Role::Answer(voice)),
            None => (fact == Fact::Origin).then_some(Role::FirstOrigin),
        }
    }

    fn merge(
        &mut self,
        mut lanes: Vec<Lane<'_>>,
        emit: &mut impl FnMut(u128, u32),
    ) -> Result<(), BadData> {
        let mut answers = vec![0; self.voices.len()];
        let mut key = Key {
            place: self.place(&answers)?,
            ..Key::default()
        };
        let mut previous = self.record(key)?;
        let mut start = lanes.iter().map(|lane| lane.start()).min();
        if start != Some(0) {
            emit(0, previous);
        }
        while let Some(here) = start {
            let (mut moved, mut ended) = (false, false);
            for lane in lanes.iter_mut().filter(|lane| lane.start() == here) {
                let value = lane.steps.step().value;
                match lane.role {
                    Role::Operator => key.operator = u16::try_from(value).unwrap_or(0),
                    Role::FirstOrigin => key.asn = value,
                    Role::Answer(voice) => {
                        moved = true;
                        if let Some(answer) = answers.get_mut(voice) {
                            *answer = value;
                        }
                    }
                }
                ended |= lane.step()?;
            }
            if moved {
                key.place = self.place(&answers)?;
            }
            let record = self.record(key)?;
            if previous != record || here == 0 {
                emit(here, record);
                previous = record;
            }
            if ended {
                lanes.retain(|lane| !lane.ended);
            }
            start = lanes.iter().map(|lane| lane.start()).min();
        }
        Ok(())
    }

    /// The number of a combination of answers.
    fn place(&mut self, answers: &[u32]) -> Result<u32, BadData> {
        let width = answers.len();
        let held = |number: u32| {
            let start = number as usize * width;
            self.answers.get(start..start + width).unwrap_or_default()
        };
        let hash = |answers: &[u32]| self.hasher.hash_one(answers);
        let of_answers = hash(answers);
        let known = self
            .place_numbers
            .find(of_answers, |number| held(*number) == answers);
        if let Some(number) = known {
            return Ok(*number);
        }
        let number = u32::try_from(self.places.len()).map_err(|_| BadData::TooMany("ranges"))?;
        self.place_numbers
            .insert_unique(of_answers, number, |number| hash(held(*number)));
        self.places.push(Place::new(&self.voices, answers));
        self.answers.extend(answers);
        Ok(number)
    }

    /// The number of the record with this key.
    fn record(&mut self, key: Key) -> Result<u32, BadData> {
        let recent = key.asn.wrapping_mul(0x9e37_79b1) ^ key.place.wrapping_mul(0x85eb_ca6b);
        let recent = (recent >> (u32::BITS - RECENT_BITS)) as usize;
        if let Some((_, number)) = self.recent.get(recent).filter(|(held, _)| *held == key) {
            return Ok(*number);
        }
        let hash = hash(&self.hasher, key);
        let known = self
            .record_numbers
            .find(hash, |number| self.has_key(*number, key));
        let number = match known {
            Some(number) => *number,
            None => self.new_record(key, hash)?,
        };
        if let Some(slot) = self.recent.get_mut(recent) {
            *slot = (key, number);
        }
        Ok(number)
    }

    fn has_key(&self, number: u32, key: Key) -> bool {
        let place = number as usize;
        let Some(record) = self.records.get(place) else {
            return false;
        };
        let by_prefix = || self.by_prefix.get(place) == Some(&key.operator);
        record.asn == key.asn
            && record.place == key.place
            // Hardly any has an operator, so that the other list is hardly ever read.
            && ((record.operator, key.operator) == (0, 0) || by_prefix())
    }

    fn new_record(&mut self, key: Key, hash_of_key: u64) -> Result<u32, BadData> {
        let number = u32::try_from(self.records.len())
            .ok()
            .filter(|number| *number < FINE)
            .ok_or(BadData::TooMany("ranges"))?;
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
            None => {
                let asn = if key.asn == 0 { place.asn } else { key.asn };
                self.seats.iter().find_map(|seats| seats.of(asn))
            }
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
        self.by_prefix.push(key.operator);
        let (records, by_prefix, hasher) = (&self.records, &self.by_prefix, &self.hasher);
        self.record_numbers
            .insert_unique(hash_of_key, number, |number| {
                hash(hasher, key_of(records, by_prefix, *number))
            });
        Ok(number)
    }
}

fn key_of(records: &[Record], by_prefix: &[u16], number: u32) -> Key {
    let place = number as usize;
    records.get(place).map_or_else(Key::default, |record| Key {
        asn: record.asn,
        place: record.place,
        operator: by_prefix.get(place).copied().unwrap_or(0),
    })
}

fn hash(hasher: &RandomState, key: Key) -> u64 {
    let [asn, place, operator]: [u128; 3] = [key.asn.into(), key.place.into(), key.operator.into()];
    hasher.hash_one(asn | place << 32 | operator << 64)
}

impl<'a> Lane<'a> {
    /// At its first step; `None` for a column without steps.
    fn new(mut steps: ColumnSteps<'a>, role: Role) -> Result<Option<Self>, BadData> {
        Ok(steps.advance()?.then_some(Self {
            steps,
            ended: false,
            role,
        }))
    }

    /// Where its next step is.
    #[inline]
    fn start(&self) -> u128 {
        self.steps.step().start
    }

    /// Goes on to the next step; whether there is none.
    #[inline]
    fn step(&mut self) -> Result<bool, BadData> {
        self.ended = !self.steps.advance()?;
        Ok(self.ended)
    }
}
