//! The compact file: a head, a digest, then compressed sections. What `cordon db build` writes and what is embedded.
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
const META: u8 = 0;
const AS_NAMES: u8 = 6;

/// No section of honest data comes near; a damaged length must not fill the memory.
const LARGEST_SECTION: usize = 256 << 20;

/// Whether bytes claim to be a compact file; [`Source::read_compact`] then says whether they are a sound one.
pub fn is_compact(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl Source {
    /// Reads a compact file.
    pub fn read_compact(bytes: &[u8]) -> Result<Self, BadData> {
        let unpacked = |section: &Section<'_>| {
            let raw = unpack(section.packed, section.raw_len)?;
            Ok(Body::Plain(raw))
        };
        read(bytes, |packed| Cow::Owned(packed.to_vec()), unpacked)
    }

    /// Reads a compact file that lies in the program itself; all but its description stays there, compressed, until it
    /// is needed.
    pub(super) fn read_embedded(bytes: &'static [u8]) -> Result<Self, BadData> {
        let left = |section: &Section<'static>| {
            Ok(Body::Packed(Packed {
                packed: Cow::Borrowed(section.packed),
                raw_len: section.raw_len,
            }))
        };
        read(bytes, Cow::Borrowed, left)
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
                &column.body.bytes()?,
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

fn read<'a>(
    bytes: &'a [u8],
    keep: impl Fn(&'a [u8]) -> Cow<'static, [u8]>,
    body: impl Fn(&Section<'a>) -> Result<Body, BadData>,
) -> Result<Source, BadData> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(BadData::Foreign)?;
    let (&version, rest) = rest.split_first().ok_or(BadData::Truncated)?;
    if version != VERSION {
        return Err(BadData::Version(version));
    }
    let (&digest, mut rest) = rest.split_first_chunk::<32>().ok_or(BadData::Truncated)?;
    // Everything behind the head is covered, so whatever passes here is what was once written.
    if sha256(rest) != digest {
        return Err(BadData::Digest);
    }
    let (mut meta, mut columns, mut names) = (None, Vec::new(), None);
    while !rest.is_empty() {
        let section = take_section(&mut rest)?;
        match (section.kind, section.family) {
            (META, _) => meta = Some(read_meta(&section)?),
            (AS_NAMES, _) => {
                names = Some(Packed {
                    packed: keep(section.packed),
                    raw_len: section.raw_len,
                });
            }
            (kind, family) => columns.push(Column {
                fact: fact_of(kind).ok_or(BadData::Corrupt("a section's kind"))?,
                family: family_of(family).ok_or(BadData::Corrupt("a section's family"))?,
                body: body(&section)?,
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

fn read_meta(section: &Section<'_>) -> Result<Meta, BadData> {
    let raw = unpack(section.packed, section.raw_len)?;
    let meta: Meta =
        serde_json::from_slice(&raw).map_err(|_| BadData::Corrupt("the description"))?;
    Meta::check_built(meta.built)?;
    Ok(meta)
}

struct Section<'a> {
    kind: u8,
    family: u8,
    raw_len: usize,
    packed: &'a [u8],
}

fn take_section<'a>(rest: &mut &'a [u8]) -> Result<Section<'a>, BadData> {
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

fn put_section(
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

fn unpack(packed: &[u8], raw_len: usize) -> Result<Vec<u8>, BadData> {
    let raw =
        zstd::bulk::decompress(packed, raw_len).map_err(|_| BadData::Corrupt("the compression"))?;
    if raw.len() == raw_len {
        Ok(raw)
    } else {
        Err(BadData::Truncated)
    }
}

fn fact_code(fact: Fact) -> u8 {
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

fn fact_of(code: u8) -> Option<Fact> {
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

fn family_code(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
        Family::As => 0,
    }
}

fn family_of(code: u8) -> Option<Family> {
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
            assert_eq!(a.body.bytes(), b.body.bytes());
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
