//! The form of an operator file, and what its entries must be like.

use crate::jurisdiction::{Asn, BadData, Country};
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::HashMap;

/// A list of anycast prefixes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Anycast {
    #[expect(dead_code, reason = "for readers of the file")]
    pub(super) name: String,
    pub(super) prefix: Vec<IpNet>,
    #[expect(dead_code, reason = "for readers of the file")]
    pub(super) source: String,
    pub(super) as_of: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) operator: Vec<Entry>,
    #[serde(default)]
    pub(super) anycast: Vec<Anycast>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) seat: Country,
    pub(super) parent: Option<String>,
    #[serde(default)]
    pub(super) asn: Vec<Asn>,
    #[serde(default)]
    pub(super) prefix: Vec<IpNet>,
    #[serde(default)]
    pub(super) anycast: Vec<IpNet>,
    #[serde(default)]
    pub(super) domain: Vec<String>,
    pub(super) source: String,
    pub(super) as_of: String,
    #[serde(default)]
    pub(super) note: String,
}

/// Within one file nothing may stand twice: one of the two would silently not count.
pub(super) fn check_claims(
    claims: &mut HashMap<String, String>,
    entry: &Entry,
) -> Result<(), BadData> {
    let asns = entry.asn.iter().map(|asn| format!("AS{asn}"));
    let prefixes = entry.prefix.iter().chain(&entry.anycast);
    let prefixes = prefixes.map(|prefix| format!("prefix {}", prefix.trunc()));
    let domains = entry.domain.iter().map(|domain| format!("domain {domain}"));
    let id = std::iter::once(format!("operator “{}”", entry.id));
    for claim in id.chain(asns).chain(prefixes).chain(domains) {
        if let Some(other) = claims.insert(claim.clone(), entry.id.clone()) {
            let id = &entry.id;
            return Err(BadData::Entry(format!(
                "{claim} stands twice in one file: with “{other}” and with “{id}”"
            )));
        }
    }
    Ok(())
}

pub(super) fn check_id(id: &str) -> Result<(), BadData> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !id.is_empty() && id.bytes().all(fits) {
        return Ok(());
    }
    Err(BadData::Entry(format!(
        "operator id “{id}” may have only a-z, 0-9 and “-”"
    )))
}

/// A leading dot is allowed, as policies write domains with one.
pub(super) fn check_domain(domain: &str) -> Result<String, BadData> {
    let bare = domain.strip_prefix('.').unwrap_or(domain);
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    if bare.len() <= 253
        && bare
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(fits))
    {
        return Ok(bare.to_owned());
    }
    Err(BadData::Entry(format!(
        "“{domain}” is no domain name in lower case (write A-labels for other scripts)"
    )))
}

pub(super) fn check_date(date: &str) -> Result<(), BadData> {
    match unix_date(date) {
        Some(_) => Ok(()),
        None => Err(BadData::Entry(format!(
            "“{date}” is no date like 2026-06-17"
        ))),
    }
}

/// Midnight UTC of a date, in seconds since the Unix epoch.
pub(super) fn unix_date(date: &str) -> Option<u64> {
    let date: jiff::civil::Date = date.parse().ok()?;
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(midnight.timestamp().as_second()).ok()
}
