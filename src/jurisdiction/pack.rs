//! The compact file: a head, a digest, then compressed sections. What `cordon db build` writes.
//!
//! ```text
//! "CORDONDB"  version u8  SHA-256 of the rest (32 bytes)
//! section*:   kind u8  family u8  length u32  packed length u32  zstd frame        (little endian)
//! ```

use super::BadData;
use super::column::{Body, Column, Fact};
use super::rows::Family;
use super::source::{Meta, Source};
use std::borrow::Cow;

const MAGIC: &[u8; 8] = b"CORDONDB";
const VERSION: u8 = 1;
pub(super) const META: u8 = 0;
pub(super) const AS_NAMES: u8 = 6;

/// No section of honest data comes near; a damaged length must not fill the memory.
const LARGEST_SECTION: usize = 256 << 20;

/// Whether bytes claim to be a compact file; [`Source::read_compact`] then says whether they are a sound one.
pub fn is_compact(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl Source {
    /// Reads a compact file.
    pub fn read_compact(bytes: &[u8]) -> Result<Self, BadData> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BadData::Foreign)?;
        let (&version, rest) = rest.split_first().ok_or(BadData::Truncated)?;
        if version != VERSION {
            return Err(BadData::Version(version));
        }
        let (&digest, rest) = rest.split_first_chunk::<32>().ok_or(BadData::Truncated)?;
        // Everything behind the head is covered, so whatever passes here is what was once written.
        if sha256(rest) != digest {
            return Err(BadData::Digest);
        }
        read_sections(rest, digest)
    }

    /// Writes a compact file. `level` is zstd's, 1 to 22.
    pub fn write_compact(&self, level: i32) -> Result<Vec<u8>, BadData> {
        let mut sections = Vec::new();
        let meta =
            serde_json::to_vec(&self.meta).map_err(|_| BadData::Corrupt("the description"))?;
        put_section(&mut sections, META, 0, &meta, level)?;
        for column in &self.columns {
            put_section(
                &mut sections,
                fact_code(column.fact),
                family_code(column.family),
                &column.bytes()?,
                level,
            )?;
        }
        if let Some(names) = &self.names {
            let raw = names.unpack()?;
            put_section(
                &mut sections,
                AS_NAMES,
                family_code(Family::As),
                &raw,
                level,
            )?;
        }
        let mut file = Vec::with_capacity(sections.len() + 41);
        file.extend(MAGIC);
        file.push(VERSION);
        file.extend(sha256(&sections));
        file.extend(sections);
        Ok(file)
    }
}

/// Bytes, compressed.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    packed: Cow<'static, [u8]>,
    raw_len: usize,
}

impl Packed {
    /// Takes the bytes out.
    pub(super) fn unpack(&self) -> Result<Vec<u8>, BadData> {
        unpack(&self.packed, self.raw_len)
    }

    /// Reads them piece by piece; they must have been compressed with at most that window, as a power of two.
    pub(super) fn reader(
        &self,
        window_bits: u32,
    ) -> Result<zstd::stream::read::Decoder<'static, &[u8]>, BadData> {
        let reader = zstd::stream::read::Decoder::with_buffer(&*self.packed);
        let limited = reader.and_then(|mut reader| {
            reader.window_log_max(window_bits)?;
            Ok(reader)
        });
        limited.map_err(|_| BadData::Corrupt("the compression"))
    }

    /// Compresses bytes so that they can be read piece by piece, with that window as a power of two.
    #[cfg(test)]
    pub(super) fn pack_small(raw: &[u8], level: i32, window_bits: u32) -> Result<Self, BadData> {
        let packed = || {
            let mut compressor = zstd::bulk::Compressor::new(level)?;
            compressor.set_parameter(zstd::zstd_safe::CParameter::WindowLog(window_bits))?;
            compressor.compress(raw)
        };
        Ok(Self {
            packed: Cow::Owned(packed().map_err(|_| BadData::Corrupt("the compression"))?),
            raw_len: raw.len(),
        })
    }

    /// Compresses bytes.
    pub(super) fn pack(raw: &[u8]) -> Result<Self, BadData> {
        let packed =
            zstd::bulk::compress(raw, 3).map_err(|_| BadData::Corrupt("the compression"))?;
        Ok(Self {
            packed: Cow::Owned(packed),
            raw_len: raw.len(),
        })
    }
}

/// SHA-256 (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    for (to, from) in digest.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    digest
}

fn read_sections(mut rest: &[u8], digest: [u8; 32]) -> Result<Source, BadData> {
    let (mut meta, mut columns, mut names) = (None, Vec::new(), None);
    while !rest.is_empty() {
        let section = take_section(&mut rest)?;
        match (section.kind, section.family) {
            (META, _) => meta = Some(read_meta(&section.unpack()?)?),
            (AS_NAMES, _) => {
                names = Some(Packed {
                    packed: Cow::Owned(section.packed.to_vec()),
                    raw_len: section.raw_len,
                });
            }
            (kind, family) => columns.push(Column {
                fact: fact_of(kind).ok_or(BadData::Corrupt("a section's kind"))?,
                family: family_of(family).ok_or(BadData::Corrupt("a section's family"))?,
                body: Body::Plain(section.unpack()?),
            }),
        }
    }
    let meta = meta.ok_or(BadData::Corrupt("the description"))?;
    Ok(Source {
        meta,
        columns,
        names,
        digest,
    })
}

pub(super) fn read_meta(raw: &[u8]) -> Result<Meta, BadData> {
    let meta: Meta =
        serde_json::from_slice(raw).map_err(|_| BadData::Corrupt("the description"))?;
    Meta::check_built(meta.built)?;
    Ok(meta)
}

/// A section of a file.
pub(super) struct Section<'a> {
    pub(super) kind: u8,
    pub(super) family: u8,
    pub(super) raw_len: usize,
    pub(super) packed: &'a [u8],
}

impl Section<'_> {
    fn unpack(&self) -> Result<Vec<u8>, BadData> {
        unpack(self.packed, self.raw_len)
    }
}

impl Section<'static> {
    /// Its bytes, left where they are, in the program.
    pub(super) fn lying_there(&self) -> Packed {
        Packed {
            packed: Cow::Borrowed(self.packed),
            raw_len: self.raw_len,
        }
    }
}

pub(super) fn take_section<'a>(rest: &mut &'a [u8]) -> Result<Section<'a>, BadData> {
    let (&[kind, family, a, b, c, d, e, f, g, h], after) =
        rest.split_first_chunk::<10>().ok_or(BadData::Truncated)?;
    let raw_len =
        usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| BadData::TooLarge)?;
    let packed_len =
        usize::try_from(u32::from_le_bytes([e, f, g, h])).map_err(|_| BadData::TooLarge)?;
    if raw_len > LARGEST_SECTION {
        return Err(BadData::TooLarge);
    }
    let (packed, after) = after
        .split_at_checked(packed_len)
        .ok_or(BadData::Truncated)?;
    *rest = after;
    Ok(Section {
        kind,
        family,
        raw_len,
        packed,
    })
}

pub(super) fn put_section(
    out: &mut Vec<u8>,
    kind: u8,
    family: u8,
    raw: &[u8],
    level: i32,
) -> Result<(), BadData> {
    if raw.len() > LARGEST_SECTION {
        return Err(BadData::TooLarge);
    }
    let packed =
        zstd::bulk::compress(raw, level).map_err(|_| BadData::Corrupt("the compression"))?;
    out.extend([kind, family]);
    for length in [raw.len(), packed.len()] {
        out.extend(
            u32::try_from(length)
                .map_err(|_| BadData::TooLarge)?
                .to_le_bytes(),
        );
    }
    out.extend(packed);
    Ok(())
}

/// A section of bytes that are compressed already.
#[cfg(test)]
pub(super) fn put_raw_section(
    out: &mut Vec<u8>,
    kind: u8,
    family: Family,
    bytes: &Packed,
) -> Result<(), BadData> {
    out.extend([kind, family_code(family)]);
    for length in [bytes.raw_len, bytes.packed.len()] {
        out.extend(
            u32::try_from(length)
                .map_err(|_| BadData::TooLarge)?
                .to_le_bytes(),
        );
    }
    out.extend(&*bytes.packed);
    Ok(())
}

fn unpack(packed: &[u8], raw_len: usize) -> Result<Vec<u8>, BadData> {
    let raw =
        zstd::bulk::decompress(packed, raw_len).map_err(|_| BadData::Corrupt("the compression"))?;
    if raw.len() == raw_len {
        Ok(raw)
    } else {
        Err(BadData::Truncated)
    }
}

pub(super) fn fact_code(fact: Fact) -> u8 {
    match fact {
        Fact::Location => 1,
        Fact::Registration => 2,
        Fact::Origin => 3,
        Fact::Anycast => 4,
        Fact::AsCountry => 5,
        // In no file; `fact_of` does not know it.
        Fact::Operator => u8::MAX,
    }
}

pub(super) fn fact_of(code: u8) -> Option<Fact> {
    [
        Fact::Location,
        Fact::Registration,
        Fact::Origin,
        Fact::Anycast,
        Fact::AsCountry,
    ]
    .into_iter()
    .find(|fact| fact_code(*fact) == code)
}

pub(super) fn family_code(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
        Family::As => 0,
    }
}

pub(super) fn family_of(code: u8) -> Option<Family> {
    [Family::V4, Family::V6, Family::As]
        .into_iter()
        .find(|family| family_code(*family) == code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]
    use super::*;
    use crate::jurisdiction::rows::Step;

    fn sample() -> Source {
        let steps: Vec<Step> = (0..200u32)
            .map(|i| Step {
                start: u128::from(i) << 12,
                value: i % 9,
            })
            .collect();
        Source {
            meta: Meta {
                name: "sample".into(),
                licence: "CC0-1.0".into(),
                attribution: "nobody".into(),
                built: 1_781_654_400,
            },
            columns: vec![
                Column::encode(Fact::Location, Family::V4, &steps),
                Column::encode(Fact::Origin, Family::V6, &steps),
            ],
            names: Some(Packed::pack(b"the names").unwrap()),
            digest: [0; 32],
        }
    }

    #[test]
    fn a_compact_file_reads_back_as_it_was_written() {
        let source = sample();
        let file = source.write_compact(3).unwrap();
        assert!(is_compact(&file));
        let read = Source::read_compact(&file).unwrap();
        assert_eq!(read.meta, source.meta);
        assert_eq!(read.columns.len(), 2);
        for (a, b) in read.columns.iter().zip(&source.columns) {
            assert_eq!((a.fact, a.family), (b.fact, b.family));
            assert_eq!(a.bytes(), b.bytes());
        }
        assert_eq!(read.names.unwrap().unpack().unwrap(), b"the names");
        assert_eq!(read.digest, file[9..41]);
        assert_eq!(
            file,
            source.write_compact(3).unwrap(),
            "writing is reproducible"
        );
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_an_error() {
        let file = sample().write_compact(3).unwrap();
        for length in 0..file.len() {
            assert!(
                Source::read_compact(&file[..length]).is_err(),
                "cut to {length}"
            );
        }
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Source::read_compact(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_forged_length_is_refused_before_memory_is_taken() {
        let mut sections = vec![1, 4];
        sections.extend(u32::MAX.to_le_bytes());
        sections.extend(0u32.to_le_bytes());
        let mut file = MAGIC.to_vec();
        file.push(VERSION);
        file.extend(sha256(&sections));
        file.extend(sections);
        assert_eq!(Source::read_compact(&file).unwrap_err(), BadData::TooLarge);
    }
}
