//! Goes through the columns of all sources at once, range by range.

use super::column::{Body, Column, Fact, steps_in};
use super::combinations::Combinations;
use super::compile::Record;
use super::fine::FINE;
use super::joined::Joined;
use super::lanes::{JoinedLane, Key, Lane, Lanes, Now, Role};
use super::operators::Operators;
use super::place::{Place, Voice};
use super::rows::Family;
use super::seats::{Seats, seats};
use super::source::Source;
use super::{BadData, OperatorId};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

/// As a power of two: how many records [`Merge`] keeps at hand.
const RECENT_BITS: u32 = 12;

pub(super) struct Merge<'a> {
    sources: &'a [Source],
    operators: &'a Operators,
    seats: Vec<Seats>,
    voices: Vec<Voice>,
    first_origin: Option<usize>,
    records: Vec<Record>,
    /// Numbers of records, each with its [`Key::operator`], by their keys; but for those of `combinations`.
    record_numbers: HashTable<(u32, u16)>,
    /// Records asked for lately: neighbours repeat each other, and this fits a near cache.
    recent: Vec<(Key, u32)>,
    places: Vec<Place>,
    /// Numbers of places, by their answers.
    place_numbers: HashTable<u32>,
    answers: Vec<u32>,
    combinations: Combinations,
    /// The answers of a combination while they are looked up.
    scratch: Vec<u32>,
    /// The place of the newest combination.
    last_place: Option<u32>,
    hasher: RandomState,
}

/// What is left of a [`Merge`].
pub(super) struct Merged {
    pub(super) records: Vec<Record>,
    pub(super) places: Vec<Place>,
    pub(super) voices: Vec<Voice>,
    pub(super) answers: Vec<u32>,
    pub(super) first_origin: Option<usize>,
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
            // Room that is not used costs nothing; growing would cost copies.
            records: Vec::with_capacity(most_records(sources)),
            combinations: Combinations::default(),
            record_numbers: HashTable::new(),
            recent: vec![(nothing_held, 0); 1 << RECENT_BITS],
            places: Vec::new(),
            place_numbers: HashTable::new(),
            answers: Vec::new(),
            scratch: Vec::new(),
            last_place: None,
            hasher: RandomState::default(),
        })
    }

    /// What it has gathered.
    pub(super) fn finish(self) -> Merged {
        let mut records = self.records;
        records.shrink_to_fit();
        Merged {
            records,
            places: self.places,
            voices: self.voices,
            answers: self.answers,
            first_origin: self.first_origin,
        }
    }

    /// At most so many ranges a family has.
    pub(super) fn most_ranges(&self, family: Family) -> usize {
        self.sources.iter().map(|source| source.len(family)).sum()
    }

    /// Calls back for every range of a family with the number of its record. How many ranges each source has.
    pub(super) fn family(
        &mut self,
        family: Family,
        mut emit: impl FnMut(u128, u32),
    ) -> Result<Vec<usize>, BadData> {
        let operators = self.operators.columns(family);
        let columns = self.columns(family, &operators);
        let joined = columns.iter().find_map(|(_, column)| joined(column));
        let of_joined = |column: &Column| match &column.body {
            Body::Joined(part)
                if joined.is_some_and(|joined| Arc::ptr_eq(joined, &part.joined)) =>
            {
                Some(part.column)
            }
            Body::Joined(_) | Body::Plain(_) | Body::Packed(_) => None,
        };
        let bodies = columns
            .iter()
            .map(|(_, column)| match of_joined(column) {
                Some(_) => Ok(Cow::default()),
                None => column.bytes(),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut counts = vec![0; self.sources.len()];
        let (mut single, mut roles) = (Vec::new(), Vec::new());
        for ((source, column), body) in columns.iter().zip(&bodies) {
            let of_joined = of_joined(column);
            if let Some(count) = source.and_then(|source| counts.get_mut(source)) {
                *count += of_joined.map_or_else(|| steps_in(body), |_| column.len());
            }
            match (self.role(*source, column.fact), of_joined) {
                (Some(role), Some(column)) => roles.push((column, role)),
                (Some(role), None) => single.extend(Lane::new(column.steps(body)?, role)?),
                (None, _) => {}
            }
        }
        let joined = joined.map(|joined| JoinedLane::new(joined.steps(family)?, roles));
        let joined = joined.transpose()?.flatten();
        self.merge(Lanes { single, joined }, &mut emit)?;
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
        mut lanes: Lanes<'_>,
        emit: &mut impl FnMut(u128, u32),
    ) -> Result<(), BadData> {
        let answers = vec![0; self.voices.len()];
        let key = Key {
            place: self.place(&answers)?,
            ..Key::default()
        };
        let mut previous = self.record(key)?;
        let mut now = Now {
            key,
            answers,
            all: Vec::new(),
            speaking: 0,
            joined: previous,
        };
        let mut start = lanes.start();
        if start != Some(0) {
            emit(0, previous);
        }
        while let Some(here) = start {
            for lane in lanes.single.iter_mut().filter(|lane| lane.start() == here) {
                now.take(lane);
                lane.step()?;
            }
            if let Some(lane) = lanes
                .joined
                .as_mut()
                .filter(|lane| lane.steps.start() == here)
            {
                now.joined = self.combination(lane)?;
                lane.ended = !lane.steps.advance()?;
            }
            let record = match now.speaking {
                0 => now.joined,
                _ => self.both(&mut now)?,
            };
            if previous != record || here == 0 {
                emit(here, record);
                previous = record;
            }
            lanes.drop_ended();
            start = lanes.start();
        }
        Ok(())
    }

    /// The record where nothing but the joined lane speaks.
    fn combination(&mut self, lane: &JoinedLane<'_>) -> Result<u32, BadData> {
        let Some(values) = lane.steps.new_values() else {
            let number = lane.steps.number().unwrap_or(usize::MAX);
            let known = self.combinations.record(number);
            return known.ok_or(BadData::Corrupt("a number"));
        };
        let (mut key, mut answers) = (Key::default(), std::mem::take(&mut self.scratch));
        answers.clear();
        answers.resize(self.voices.len(), 0);
        for (column, role) in &lane.roles {
            key.set(
                &mut answers,
                *role,
                values.get(*column).copied().unwrap_or(0),
            );
        }
        // Neighbours mostly differ in who originates them.
        key.place = match self.last_place {
            Some(place) if self.answers_of(place) == answers => place,
            _ => self.place(&answers)?,
        };
        self.last_place = Some(key.place);
        self.scratch = answers;
        // Nothing else has such a key, so that it needs not be found again.
        let record = self.new_record(key)?;
        self.combinations.push(record);
        Ok(record)
    }

    /// The record where single lanes speak too. No two lanes speak for one voice.
    fn both(&mut self, now: &mut Now) -> Result<u32, BadData> {
        let mut key = now.key;
        now.all.clone_from(&now.answers);
        if let Some(joined) = self.records.get(now.joined as usize) {
            key.asn = key.asn.max(joined.asn);
            let told = self.answers_of(joined.place());
            for (answer, told) in now.all.iter_mut().zip(told) {
                *answer = (*answer).max(*told);
            }
        }
        key.place = self.place(&now.all)?;
        self.record(key)
    }

    fn answers_of(&self, place: u32) -> &[u32] {
        let width = self.voices.len();
        let start = place as usize * width;
        self.answers.get(start..start + width).unwrap_or_default()
    }

    /// The number of a combination of answers.
    fn place(&mut self, answers: &[u32]) -> Result<u32, BadData> {
        let held = |number: u32| self.answers_of(number);
        let hash = |answers: &[u32]| self.hasher.hash_one(answers);
        let of_answers = hash(answers);
        let known = self
            .place_numbers
            .find(of_answers, |number| held(*number) == answers);
        if let Some(number) = known {
            return Ok(*number);
        }
        let number = u32::try_from(self.places.len()).map_err(|_| BadData::TooMany("ranges"))?;
        let (width, hasher, all) = (answers.len(), &self.hasher, &self.answers);
        self.place_numbers
            .insert_unique(of_answers, number, |number| {
                let start = *number as usize * width;
                hasher.hash_one(all.get(start..start + width).unwrap_or_default())
            });
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
        let known = self.record_numbers.find(hash, |(number, operator)| {
            key_of(&self.records, *number, *operator) == key
        });
        let number = match known {
            Some((number, _)) => *number,
            None => {
                let number = self.new_record(key)?;
                let (records, hasher) = (&self.records, &self.hasher);
                let hash_of = |(number, operator): &(u32, u16)| {
                    self::hash(hasher, key_of(records, *number, *operator))
                };
                self.record_numbers
                    .insert_unique(hash, (number, key.operator), hash_of);
                number
            }
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
        let place = self.places.get(key.place as usize);
        let place = place.ok_or(BadData::TooMany("ranges"))?;
        let operator = match key.operator.checked_sub(1) {
            None => {
                let mut origins = [key.asn, place.asn].into_iter().filter(|asn| *asn != 0);
                origins.find_map(|asn| self.operators.by_asn(asn))
            }
            Some(by_prefix) => Some(OperatorId(by_prefix)),
        };
        let entry = operator.and_then(|operator| self.operators.get(operator));
        let seat = match entry {
            Some(entry) => Some(entry.seat),
            None => {
                let asn = if key.asn == 0 { place.asn } else { key.asn };
                self.seats.iter().find_map(|seats| seats.of(asn))
            }
        };
        self.records
            .push(Record::new(key.asn, (operator, seat), key.place, place));
        Ok(number)
    }
}

fn key_of(records: &[Record], number: u32, operator: u16) -> Key {
    let record = records.get(number as usize);
    record.map_or_else(Key::default, |record| Key {
        asn: record.asn,
        place: record.place(),
        operator,
    })
}

/// More records than sources have in practice: ranges repeat each other.
fn most_records(sources: &[Source]) -> usize {
    let ranges = |family| sources.iter().map(move |source| source.len(family));
    ranges(Family::V4).chain(ranges(Family::V6)).sum::<usize>() / 4
}

fn joined(column: &Column) -> Option<&Arc<Joined>> {
    match &column.body {
        Body::Joined(part) => Some(&part.joined),
        Body::Plain(_) | Body::Packed(_) => None,
    }
}

fn hash(hasher: &RandomState, key: Key) -> u64 {
    let [asn, place, operator]: [u128; 3] = [key.asn.into(), key.place.into(), key.operator.into()];
    hasher.hash_one(asn | place << 32 | operator << 64)
}
