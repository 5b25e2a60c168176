//! The sources that the program carries, joined into one file when they change, so that starting needs not merge them.
//!
//! Sections as in a compact file ([`pack`](super::pack)). The two joined streams come first, IPv4 and IPv6; then each
//! source: its digest and description, its joined columns (a section of one byte, which of the columns, whose length
//! says how many steps the column has alone), its other columns, and names.

use super::BadData;
use super::column::{Body, Column};
use super::joined::{Joined, Part};
use super::pack::{
    AS_NAMES, META, Packed, Section, fact_of, family_code, family_of, read_meta, take_section,
};
use super::rows::Family;
use super::source::Source;
use std::sync::Arc;

/// A joined stream.
const STREAM: u8 = 7;

/// Marks the fact of a column that is joined.
const JOINED: u8 = 0x80;

static FILE: &[u8] = include_bytes!("data/embedded.cdb");

/// The sources, in the order in which they count.
pub(super) fn sources() -> Result<Vec<Source>, BadData> {
    read(FILE)
}

fn read(file: &'static [u8]) -> Result<Vec<Source>, BadData> {
    let mut rest = file;
    let joined = Arc::new(Joined {
        v4: stream(&mut rest, Family::V4)?,
        v6: stream(&mut rest, Family::V6)?,
    });
    let mut sources: Vec<Source> = Vec::new();
    while !rest.is_empty() {
        let section = take_section(&mut rest)?;
        if section.kind == META {
            sources.push(begin(&section)?);
            continue;
        }
        let source = sources.last_mut();
        let source = source.ok_or(BadData::Corrupt("the order of sections"))?;
        if section.kind == AS_NAMES {
            source.names = Some(section.lying_there());
        } else {
            source.columns.push(column(&section, &joined)?);
        }
    }
    Ok(sources)
}

fn stream(rest: &mut &'static [u8], family: Family) -> Result<Packed, BadData> {
    let section = take_section(rest)?;
    if (section.kind, section.family) != (STREAM, family_code(family)) {
        return Err(BadData::Corrupt("the order of sections"));
    }
    Ok(section.lying_there())
}

/// A source that has no columns yet.
fn begin(section: &Section<'static>) -> Result<Source, BadData> {
    let raw = section.lying_there().unpack()?;
    let (digest, meta) = raw.split_first_chunk().ok_or(BadData::Truncated)?;
    Ok(Source {
        meta: read_meta(meta)?,
        columns: Vec::new(),
        names: None,
        digest: *digest,
    })
}

fn column(section: &Section<'static>, joined: &Arc<Joined>) -> Result<Column, BadData> {
    let body = match section.packed {
        &[column] if section.kind & JOINED != 0 => Body::Joined(Part {
            joined: Arc::clone(joined),
            column: column.into(),
            steps: section.raw_len,
        }),
        _ => Body::Packed(section.lying_there()),
    };
    Ok(Column {
        fact: fact_of(section.kind & !JOINED).ok_or(BadData::Corrupt("a section's kind"))?,
        family: family_of(section.family).ok_or(BadData::Corrupt("a section's family"))?,
        body,
    })
}

#[cfg(test)]
mod tests;
