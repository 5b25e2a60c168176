//! Columns of several sources in one stream of ranges: every range once, with the combination of what all of them say.
//! What the program carries is joined when it is made, so that starting it need not.
//!
//! A stream is a zstd frame with a small window, read piece by piece. Integers are little endian:
//!
//! ```text
//! steps u32   width u8   chunk*
//! chunk:      how many steps and how many bytes of each part behind the zeros, u32 each
//!             zeros u8 per step     low zero bits of the distance to the step before
//!             distances             without those bits, as varints
//!             numbers               of the combinations, from 1 on, as varints; 0 is a new one
//!             values                of the new combinations, `width` columns, as varints
//! ```
//!
//! Combinations are numbered in the order in which they come, those of the IPv6 stream behind those of the IPv4 stream.

use super::BadData;
use super::column::{encode, take_start};
use super::pack::Packed;
use super::rows::{Family, Steps};
use std::io::Read;
use std::sync::Arc;

/// No honest chunk comes near; a damaged length must not fill the memory.
const LARGEST_CHUNK: usize = 4 << 20;

/// As a power of two, the bytes that reading keeps at hand.
pub(super) const WINDOW_BITS: u32 = 17;

/// Parts of a chunk with a length of their own: distances and numbers, before the columns.
const PARTS: usize = 2;

/// Joined columns.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) v4: Packed,
    pub(super) v6: Packed,
}

/// One of the columns that were joined.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) joined: Arc<Joined>,
    /// Which of its columns.
    pub(super) column: usize,
    /// How many steps it has alone.
    pub(super) steps: usize,
}

impl Part {
    /// The bytes of the column alone, as a column has them.
    pub(super) fn alone(&self, family: Family) -> Result<Vec<u8>, BadData> {
        let (mut values, mut alone) = (Vec::new(), Steps::default());
        for of in [Family::V4, Family::V6] {
            let mut steps = self.joined.steps(of)?;
            while steps.advance()? {
                if let Some(new) = steps.new_values() {
                    values.push(new.get(self.column).copied().unwrap_or(0));
                }
                if of == family {
                    let number = steps.number().unwrap_or(values.len().saturating_sub(1));
                    let value = values.get(number).ok_or(BadData::Corrupt("a number"))?;
                    alone.push(steps.start(), *value);
                }
            }
            if of == family {
                break;
            }
        }
        Ok(encode(&alone.0))
    }
}

impl Joined {
    /// The steps of a family; those of IPv6 go on with the combinations of IPv4.
    pub(super) fn steps(&self, family: Family) -> Result<JoinedSteps<'_>, BadData> {
        let packed = match family {
            Family::V4 => &self.v4,
            Family::V6 | Family::As => &self.v6,
        };
        let mut reader = packed.reader(WINDOW_BITS)?;
        let [a, b, c, d, width] = take(&mut reader)?;
        Ok(JoinedSteps {
            reader,
            left: u32::from_le_bytes([a, b, c, d]) as usize,
            last: family.last(),
            chunk: Vec::new(),
            zeros: 0,
            zeros_end: 0,
            distances: 0,
            numbers: 0,
            columns: vec![0; usize::from(width)],
            start: 0,
            begun: false,
            number: None,
            values: vec![0; usize::from(width)],
        })
    }
}

/// The steps of [`Joined`] columns.
pub(super) struct JoinedSteps<'a> {
    reader: zstd::stream::read::Decoder<'static, &'a [u8]>,
    /// Steps that no chunk has brought yet.
    left: usize,
    /// The highest number of the family.
    last: u128,
    chunk: Vec<u8>,
    /// Where in the chunk the rest of each part begins.
    zeros: usize,
    zeros_end: usize,
    distances: usize,
    numbers: usize,
    columns: Vec<usize>,
    start: u128,
    begun: bool,
    /// `None` if the combination is new.
    number: Option<usize>,
    values: Vec<u32>,
}

impl JoinedSteps<'_> {
    /// Goes on to the next step; whether there is one.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool, BadData> {
        if self.zeros == self.zeros_end {
            if self.left == 0 {
                return Ok(false);
            }
            self.next_chunk()?;
        }
        let shift = *self.chunk.get(self.zeros).ok_or(BadData::Truncated)?;
        self.zeros += 1;
        let mut distances = self.chunk.get(self.distances..).unwrap_or_default();
        let before = (self.start, self.begun);
        self.start = take_start(&mut distances, shift, before, self.last)?;
        self.distances = self.chunk.len() - distances.len();
        self.begun = true;
        let number = take_short(&self.chunk, &mut self.numbers)?;
        self.number = (number as usize).checked_sub(1);
        if number == 0 {
            self.read_values()?;
        }
        Ok(true)
    }

    /// Where the step begins.
    #[inline]
    pub(super) fn start(&self) -> u128 {
        self.start
    }

    /// The number of the step's combination, from 0 on; `None` if it is new.
    #[inline]
    pub(super) fn number(&self) -> Option<usize> {
        self.number
    }

    /// The values of the step's combination, by column, if it is new.
    #[inline]
    pub(super) fn new_values(&self) -> Option<&[u32]> {
        self.number.is_none().then_some(&self.values)
    }

    fn read_values(&mut self) -> Result<(), BadData> {
        for (value, column) in self.values.iter_mut().zip(&mut self.columns) {
            *value = take_short(&self.chunk, column)?;
        }
        Ok(())
    }

    fn next_chunk(&mut self) -> Result<(), BadData> {
        let steps = take_length(&mut self.reader)?;
        if steps == 0 || steps > self.left {
            return Err(BadData::Corrupt("a number of steps"));
        }
        self.left -= steps;
        let mut end = steps;
        for part in 0..PARTS + self.columns.len() {
            let begin = match part.checked_sub(PARTS) {
                None if part == 0 => &mut self.distances,
                None => &mut self.numbers,
                Some(column) => self.columns.get_mut(column).ok_or(BadData::Truncated)?,
            };
            *begin = end;
            end += take_length(&mut self.reader)?;
            if end > LARGEST_CHUNK {
                return Err(BadData::TooLarge);
            }
        }
        (self.zeros, self.zeros_end) = (0, steps);
        // Not twice as much, as growing would take.
        self.chunk
            .reserve_exact(end.saturating_sub(self.chunk.len()));
        self.chunk.resize(end, 0);
        self.reader
            .read_exact(&mut self.chunk)
            .map_err(|_| BadData::Truncated)
    }
}

/// Reads a varint that has at most 32 bits, and moves past it.
#[inline]
fn take_short(bytes: &[u8], at: &mut usize) -> Result<u32, BadData> {
    let (mut number, mut shift) = (0u64, 0);
    // Five bytes have room for 35 bits.
    for byte in bytes.get(*at..).unwrap_or_default().iter().take(5) {
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return u32::try_from(number).map_err(|_| BadData::Corrupt("a number"));
        }
        shift += 7;
    }
    Err(BadData::Corrupt("a number"))
}

fn take_length(reader: &mut impl Read) -> Result<usize, BadData> {
    let length = u32::from_le_bytes(take(reader)?);
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= LARGEST_CHUNK)
        .ok_or(BadData::TooLarge)
}

fn take<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], BadData> {
    let mut bytes = [0; N];
    reader
        .read_exact(&mut bytes)
        .map_err(|_| BadData::Truncated)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests;
