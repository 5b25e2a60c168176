//! From the files that others publish to a [`Source`]: ranges in CSV or TSV, RFC 8805 geofeeds, mmdb files of any known
//! schema. All readers take bytes, are total on damaged ones, and are bounded in time and memory by their length.

mod csv;
mod format;
mod geofeed;
mod mmdb;
mod vote;

use super::column::{Column, Fact};
use super::names::pack_names;
use super::pack::sha256;
use super::rows::{Family, Row, Step, flatten, number};
use super::source::{Meta, Source};
use super::{Asn, BadData, Country};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub use csv::Ranges;
pub use format::{Format, Label};
pub use mmdb::{is_mmdb, mmdb_meta};

/// Facts gathered from one or more files, before they become a [`Source`].
#[derive(Debug, Default)]
pub struct Draft {
    rows: BTreeMap<(u8, u8), (Fact, Family, Vec<Row>)>,
    names: BTreeMap<Asn, String>,
    digests: Vec<u8>,
    /// Rows that were read but say nothing: codes that mean no country, entries that a geofeed may not contain.
    pub skipped: usize,
}

impl Draft {
    /// Makes ranges disjoint and encodes them. An empty draft is an error: a file that says nothing is the wrong file.
    pub fn finish(self, meta: Meta) -> Result<Source, BadData> {
        Meta::check_built(meta.built)?;
        if self.rows.is_empty() {
            return Err(BadData::NothingKnown);
        }
        let columns = self
            .rows
            .into_values()
            .map(|(fact, family, rows)| Column::encode(fact, family, &flatten(rows, family)))
            .collect();
        let names = pack_names(&self.names)?;
        Ok(Source {
            meta,
            columns,
            names,
            digest: sha256(&self.digests),
        })
    }

    /// Remembers which bytes this was made of.
    fn came_from(&mut self, bytes: &[u8]) {
        self.digests.extend(sha256(bytes));
    }

    fn add(&mut self, fact: Fact, family: Family, first: u128, last: u128, value: u32) {
        let key = (fact as u8, family as u8);
        let entry = self
            .rows
            .entry(key)
            .or_insert_with(|| (fact, family, Vec::new()));
        entry.2.push(Row { first, last, value });
    }

    fn add_name(&mut self, asn: Asn, name: &str) {
        if !name.is_empty() {
            self.names.entry(asn).or_insert_with(|| name.into());
        }
    }

    /// A country as a column holds it. Codes that mean no country say *nothing*, also over what a wider row says.
    fn country_value(&mut self, code: &str) -> u32 {
        let country = match Country::parse(code) {
            Ok(country) | Err(super::BadCountry::Alias(country)) => Some(country),
            Err(_) => None,
        };
        match country {
            Some(country) => country.number(),
            None => {
                self.skipped += 1;
                0
            }
        }
    }
}

/// `174` or `AS174`.
fn parse_asn(text: &str) -> Option<Asn> {
    let digits = match text.get(..2) {
        Some(prefix) if prefix.eq_ignore_ascii_case("AS") => text.get(2..)?,
        _ => text,
    };
    digits.parse().ok()
}

/// The first and last address of a prefix such as `192.0.2.0/24`. Host bits are ignored, as the files' authors do.
fn parse_prefix(text: &str) -> Option<(Family, u128, u128)> {
    let (address, length) = text.split_once('/')?;
    let (family, bits) = number(address.parse::<IpAddr>().ok()?);
    let width: u32 = if family == Family::V4 { 32 } else { 128 };
    let host_bits = width.checked_sub(length.parse().ok()?)?;
    let host = 1u128
        .checked_shl(host_bits)
        .map_or(u128::MAX, |bit| bit - 1);
    Some((family, bits & !host, bits | host))
}

/// Steps of every column of one fact and family, decoded.
fn steps_of(source: &Source, fact: Fact, family: Family) -> Result<Vec<Step>, BadData> {
    let mut all = Vec::new();
    for column in &source.columns {
        if column.fact == fact && column.family == family {
            let body = column.bytes()?;
            let mut steps = column.steps(&body)?;
            while let Some(step) = steps.next()? {
                all.push(step);
            }
        }
    }
    Ok(all)
}
