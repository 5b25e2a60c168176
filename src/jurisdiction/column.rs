//! One fact over one address family, laid out for compression: how many low bits of each distance are zero, then the
//! distances without them, then the values. A third of the size of the same data as a search tree.

use super::BadData;
use super::joined::Part;
use super::pack::Packed;
use super::rows::{Family, Step};
use std::borrow::Cow;

/// What a column says about its ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The country where addresses are located, as [`Country`](super::Country) index + 1.
    Location,
    /// The country where the address block is registered, as index + 1.
    Registration,
    /// The autonomous system that originates it.
    Origin,
    /// 1 announced from many places, 2 known not to be.
    Anycast,
    /// The country where an autonomous system is registered, as index + 1; in [`Family::As`].
    AsCountry,
    /// Who operates it, as operator number + 1; made of the operator file, in no source's file.
    Operator,
}

impl Fact {
    /// Whether a value means something.
    pub(super) fn admits(self, value: u32) -> bool {
        match self {
            Self::Location | Self::Registration | Self::AsCountry => {
                usize::try_from(value).is_ok_and(|v| v <= super::Country::COUNT)
            }
            Self::Origin | Self::Operator => true,
            Self::Anycast => value <= 2,
        }
    }

    /// What it is called in listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Location => "location",
            Self::Registration => "registration",
            Self::Origin => "origin",
            Self::Anycast => "anycast",
            Self::AsCountry => "as-country",
            Self::Operator => "operator",
        }
    }
}

/// One fact over one family, encoded.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) fact: Fact,
    pub(super) family: Family,
    pub(super) body: Body,
}

/// The bytes of a column.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// As they are read.
    Plain(Vec<u8>),
    /// As they lie in the program; they are taken out only while they are read.
    Packed(Packed),
    /// Among others, as they lie in the program.
    Joined(Part),
}

impl Column {
    /// Encodes steps whose starts ascend.
    pub(super) fn encode(fact: Fact, family: Family, steps: &[Step]) -> Self {
        Self {
            fact,
            family,
            body: Body::Plain(encode(steps)),
        }
    }

    /// Its bytes as [`steps`](Self::steps) reads them.
    pub(super) fn bytes(&self) -> Result<Cow<'_, [u8]>, BadData> {
        match &self.body {
            Body::Plain(bytes) => Ok(Cow::Borrowed(bytes)),
            Body::Packed(packed) => packed.unpack().map(Cow::Owned),
            Body::Joined(part) => part.alone(self.family).map(Cow::Owned),
        }
    }

    /// Reads its bytes step by step; total on damaged ones.
    pub(super) fn steps<'a>(&self, body: &'a [u8]) -> Result<ColumnSteps<'a>, BadData> {
        let (count, rest) = take_length(body)?;
        let (distance_bytes, rest) = take_length(rest)?;
        let (zeros, rest) = rest.split_at_checked(count).ok_or(BadData::Truncated)?;
        let (distances, values) = rest
            .split_at_checked(distance_bytes)
            .ok_or(BadData::Truncated)?;
        Ok(ColumnSteps {
            zeros: zeros.iter(),
            distances,
            values,
            fact: self.fact,
            last: self.family.last(),
            begun: false,
            step: Step { start: 0, value: 0 },
        })
    }

    /// How many steps it has, as its head says.
    pub(super) fn len(&self) -> usize {
        match &self.body {
            Body::Plain(body) => steps_in(body),
            Body::Packed(packed) => packed.unpack().map_or(0, |body| steps_in(&body)),
            Body::Joined(part) => part.steps,
        }
    }
}

/// Steps whose starts ascend, as [`Column::steps`] reads them.
pub(super) fn encode(steps: &[Step]) -> Vec<u8> {
    let mut zeros = Vec::with_capacity(steps.len());
    let mut distances = Vec::new();
    let mut values = Vec::new();
    let mut previous = 0;
    for step in steps {
        let distance = step.start.saturating_sub(previous);
        let shift = if distance == 0 {
            0
        } else {
            distance.trailing_zeros()
        };
        zeros.push(u8::try_from(shift).unwrap_or(0));
        put_varint(&mut distances, distance >> shift);
        put_varint(&mut values, step.value.into());
        previous = step.start;
    }
    let mut body = Vec::with_capacity(8 + zeros.len() + distances.len() + values.len());
    for length in [zeros.len(), distances.len()] {
        body.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }
    body.extend(zeros);
    body.extend(distances);
    body.extend(values);
    body
}

/// How many steps the bytes of a column say they have.
pub(super) fn steps_in(body: &[u8]) -> usize {
    take_length(body).map_or(0, |(count, _)| count)
}

/// The steps of a [`Column`].
#[derive(Debug)]
pub(super) struct ColumnSteps<'a> {
    zeros: std::slice::Iter<'a, u8>,
    distances: &'a [u8],
    values: &'a [u8],
    fact: Fact,
    last: u128,
    begun: bool,
    step: Step,
}

impl ColumnSteps<'_> {
    /// The next step, or `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Step>, BadData> {
        Ok(self.advance()?.then_some(self.step))
    }

    /// Goes on to the next step; whether there is one.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool, BadData> {
        let Some(&shift) = self.zeros.next() else {
            return Ok(false);
        };
        // Before the first step it is 0.
        let before = (self.step.start, self.begun);
        let start = take_start(&mut self.distances, shift, before, self.last)?;
        let value = u32::try_from(take_varint(&mut self.values)?)
            .map_err(|_| BadData::Corrupt("a value"))?;
        if !self.fact.admits(value) {
            return Err(BadData::Corrupt("a value"));
        }
        self.begun = true;
        self.step = Step { start, value };
        Ok(true)
    }

    /// The step that it went to last.
    #[inline]
    pub(super) fn step(&self) -> Step {
        self.step
    }
}

/// Where a step begins, told by how far it lies behind the one before it without `shift` low bits. `before` is where
/// that began and whether there was one: only the first may lie no further. None begins behind `last`.
#[inline]
pub(super) fn take_start(
    distances: &mut &[u8],
    shift: u8,
    before: (u128, bool),
    last: u128,
) -> Result<u128, BadData> {
    let distance = take_varint(distances)?;
    let distance = distance
        .checked_shl(shift.into())
        .filter(|shifted| shifted >> shift == distance)
        .ok_or(BadData::Corrupt("a distance"))?;
    let (start, begun) = before;
    if distance == 0 && begun {
        return Err(BadData::Corrupt("the order of ranges"));
    }
    let start = start.checked_add(distance);
    let start = start.ok_or(BadData::Corrupt("a distance"))?;
    if start > last {
        return Err(BadData::Corrupt("a range outside its family"));
    }
    Ok(start)
}

/// LEB128: seven bits a byte, lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u128) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Reads what [`put_varint`] wrote and moves past it.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u128, BadData> {
    let (&first, rest) = bytes.split_first().ok_or(BadData::Truncated)?;
    if first < 0x80 {
        *bytes = rest;
        return Ok(first.into());
    }
    take_long_varint(bytes)
}

fn take_long_varint(bytes: &mut &[u8]) -> Result<u128, BadData> {
    let length = bytes.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let (varint, rest) = bytes.split_at_checked(length).ok_or(BadData::Truncated)?;
    *bytes = rest;
    if length <= 9 {
        let number = varint
            .iter()
            .rev()
            .fold(0u64, |number, byte| number << 7 | u64::from(byte & 0x7f));
        return Ok(number.into());
    }
    // Of a nineteenth byte two bits still fit into 128.
    if length > 19 || (length == 19 && varint.last().is_some_and(|last| *last > 3)) {
        return Err(BadData::Corrupt("a number"));
    }
    Ok(varint
        .iter()
        .rev()
        .fold(0, |number, byte| number << 7 | u128::from(byte & 0x7f)))
}

fn take_length(bytes: &[u8]) -> Result<(usize, &[u8]), BadData> {
    let (head, rest) = bytes.split_first_chunk().ok_or(BadData::Truncated)?;
    Ok((
        usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX),
        rest,
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]
    use super::*;
    use proptest::prelude::*;

    fn decode(column: &Column) -> Result<Vec<Step>, BadData> {
        let body = column.bytes()?;
        let mut steps = column.steps(&body)?;
        let mut all = Vec::new();
        while let Some(step) = steps.next()? {
            all.push(step);
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(
            starts in proptest::collection::btree_set(any::<u128>(), 0..50), wide in any::<bool>(), seed in any::<u32>()
        ) {
            let family = if wide { Family::V6 } else { Family::V4 };
            let starts: std::collections::BTreeSet<u128> = starts.into_iter().map(|s| s & family.last()).collect();
            let steps: Vec<Step> = starts.iter().enumerate()
                .map(|(i, &start)| Step { start, value: seed.rotate_left(u32::try_from(i).unwrap()) })
                .collect();
            let column = Column::encode(Fact::Origin, family, &steps);
            prop_assert_eq!(column.len(), steps.len());
            prop_assert_eq!(decode(&column).unwrap(), steps);
        }

        #[test]
        fn damaged_bytes_never_panic_and_never_leave_the_family(body in proptest::collection::vec(any::<u8>(), 0..200), fix in any::<bool>()) {
            let mut body = body;
            if fix && body.len() >= 8 {
                let count = u32::from(body[0]) % 20;
                body[..4].copy_from_slice(&count.to_le_bytes());
                let bytes = u32::from(body[4]) % 60;
                body[4..8].copy_from_slice(&bytes.to_le_bytes());
            }
            let column = Column { fact: Fact::Location, family: Family::V4, body: Body::Plain(body) };
            if let Ok(steps) = decode(&column) {
                prop_assert!(steps.iter().all(|step| step.start <= u128::from(u32::MAX) && step.value <= 250));
                prop_assert!(steps.windows(2).all(|pair| pair[0].start < pair[1].start));
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let steps: Vec<Step> = (0..40u32)
            .map(|i| Step {
                start: u128::from(i) << 9,
                value: i % 7,
            })
            .collect();
        let column = Column::encode(Fact::Location, Family::V4, &steps);
        let body = column.bytes().unwrap().into_owned();
        for length in 0..body.len() {
            let cut = Column {
                body: Body::Plain(body[..length].to_vec()),
                ..column.clone()
            };
            assert!(decode(&cut).is_err(), "{length}");
        }
    }
}
