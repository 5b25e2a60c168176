//! One source of facts: what it says, who made it, when, under which licence.

use super::BadData;
use super::column::{Column, Fact};
use super::pack::Packed;
use super::rows::Family;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a source comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Short name, as shown beside each of its answers.
    pub name: String,
    /// The licence of the data, by its SPDX identifier where it has one.
    pub licence: String,
    /// Whom the licence wants named.
    pub attribution: String,
    /// When the data was built, in seconds since the Unix epoch.
    pub built: u64,
}

/// How old data is, measured against the limits at which users are warned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// Up to 30 days.
    Fresh,
    /// More than 30 days: addresses change hands; say so.
    Old,
    /// More than 90 days: say so loudly.
    Stale,
    /// It claims to be from more than a day after now: the clock or the date is wrong, so nobody can tell.
    Future,
}

impl Meta {
    /// Build dates before this (2000-01-01) or after [`Meta::LATEST`] are errors in the file, not dates.
    const EARLIEST: u64 = 946_684_800;
    /// 2200-01-01.
    const LATEST: u64 = 7_258_118_400;

    /// Refuses a build date that cannot be one.
    pub(super) fn check_built(built: u64) -> Result<u64, BadData> {
        if (Self::EARLIEST..Self::LATEST).contains(&built) {
            Ok(built)
        } else {
            Err(BadData::Date(built))
        }
    }

    /// The build date as `YYYY-MM-DD`, in UTC.
    pub fn built_on(&self) -> String {
        i64::try_from(self.built)
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .map_or_else(
                || "unknown".into(),
                |time| time.strftime("%Y-%m-%d").to_string(),
            )
    }

    /// How old it is at `now`; zero if it claims to be built later.
    pub fn age(&self, now: Time) -> Duration {
        now.since(Time::from_secs(self.built))
    }

    /// How many whole days after `now` it claims to be built.
    pub fn days_ahead(&self, now: Time) -> u64 {
        Time::from_secs(self.built).since(now).as_secs() / 86_400
    }

    /// Its age against the limits.
    pub fn freshness(&self, now: Time) -> Freshness {
        if self.days_ahead(now) > 0 {
            return Freshness::Future;
        }
        let days = self.age(now).as_secs() / 86_400;
        match days {
            0..=30 => Freshness::Fresh,
            31..=90 => Freshness::Old,
            _ => Freshness::Stale,
        }
    }
}

/// What a source says, encoded column by column; input of [`Data::compile`](super::Data::compile).
#[derive(Clone, Debug)]
pub struct Source {
    pub(super) meta: Meta,
    pub(super) columns: Vec<Column>,
    /// Names of autonomous systems; [`super::names`] reads them when they are first asked for.
    pub(super) names: Option<Packed>,
    /// SHA-256 of what it was read from.
    pub(super) digest: [u8; 32],
}

impl Source {
    /// Where it comes from.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Gives it another name, for a file that is configured under one.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.meta.name = name.into();
        self
    }

    /// SHA-256 of what it was read from.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The facts it speaks about, without repetition.
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts: Vec<Fact> = Vec::new();
        for column in &self.columns {
            if !facts.contains(&column.fact) {
                facts.push(column.fact);
            }
        }
        facts
    }

    /// How many steps it has in a family, over all facts.
    pub fn len(&self, family: Family) -> usize {
        self.columns
            .iter()
            .filter(|column| column.family == family)
            .map(Column::len)
            .sum()
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.columns.iter().all(|column| column.len() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_measured_in_days_and_impossible_dates_are_refused() {
        let meta = Meta {
            name: "x".into(),
            licence: "y".into(),
            attribution: "z".into(),
            built: 1_781_654_400,
        };
        assert_eq!(meta.built_on(), "2026-06-17");
        let at = |days: u64| meta.freshness(Time::from_secs(meta.built + days * 86_400));
        assert_eq!(
            (at(0), at(30), at(31), at(90), at(91)),
            (
                Freshness::Fresh,
                Freshness::Fresh,
                Freshness::Old,
                Freshness::Old,
                Freshness::Stale
            )
        );
        assert_eq!(
            meta.freshness(Time::from_secs(0)),
            Freshness::Future,
            "a clock that is not set is wrong"
        );
        for absurd in [0, 1, 946_684_799, 7_258_118_400, u64::MAX] {
            assert_eq!(Meta::check_built(absurd), Err(BadData::Date(absurd)));
        }
        assert_eq!(Meta::check_built(meta.built), Ok(meta.built));
    }
}
