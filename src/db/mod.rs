//! The jurisdiction data of this machine: files that are configured, files that were fetched, and what the program
//! carries; and how they are brought up to date.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "data lies in files"
)]

mod fetch;
mod settings;
mod store;
mod update;

#[cfg(test)]
mod tests;

use crate::jurisdiction::{Data, Fact, Freshness, Groups, Label, Operators, Source, SourceInfo};
use crate::time::Time;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use fetch::decompress;
pub use settings::{Canary, Configured, Settings, presets};
pub use store::rollback;
pub use update::{Client, Outcome, Rules, update};

/// Data ready for use.
#[derive(Debug)]
pub struct Loaded {
    /// The compiled tables.
    pub data: Data,
    /// The named groups of countries.
    pub groups: Groups,
    /// What the user should know: old data, sources that were never fetched. One sentence each.
    pub warnings: Vec<String>,
}

/// Loads everything that is configured. Configured sources count before embedded ones, in the order in which they
/// stand.
///
/// # Errors
/// If any file that is there cannot be used: a broken file must not silently be done without, because the facts that
/// are missing then would be missed by the rules that need them.
pub fn load(settings: &Settings, now: Time) -> Result<Loaded> {
    let mut sources = Vec::new();
    let mut warnings = Vec::new();
    for configured in settings.sources()? {
        match read_source(settings, &configured)? {
            Some(source) => sources.push(source),
            None => warnings.push(format!(
                "{} was never fetched: run `cordon db update`",
                configured.name
            )),
        }
    }
    if settings.embedded {
        sources.extend(Data::embedded_sources().context("the embedded data cannot be used")?);
    }
    let operators = read_texts(&settings.operators)?;
    let operators =
        Operators::with(&as_strs(&operators)).context("the files of operators have errors")?;
    let groups = read_texts(&settings.groups)?;
    let groups =
        Groups::with(&as_strs(&groups)).context("the files of groups of countries have errors")?;
    let data = Data::compile(sources, operators).context("the data cannot be used")?;
    warnings.extend(age_warnings(data.sources(), now));
    Ok(Loaded {
        data,
        groups,
        warnings,
    })
}

/// Now, by the wall clock.
pub fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_secs(since.as_secs())
}

/// Whether some of them are so old that much of what they say is no longer true.
pub fn is_stale(sources: &[SourceInfo], now: Time) -> bool {
    let mut sources = about_addresses(sources);
    sources.any(|source| source.meta.freshness(now) == Freshness::Stale)
}

fn about_addresses(sources: &[SourceInfo]) -> impl Iterator<Item = &SourceInfo> {
    let counts = |fact: &Fact| matches!(fact, Fact::Location | Fact::Registration | Fact::Origin);
    sources
        .iter()
        .filter(move |source| source.facts.iter().any(counts))
}

/// One sentence for all sources of one day that are so old that decisions may be wrong, or dated so that nobody can tell.
pub fn age_warnings(sources: &[SourceInfo], now: Time) -> Vec<String> {
    let mut by_day: BTreeMap<(u64, String), Vec<&str>> = BTreeMap::new();
    for source in about_addresses(sources) {
        if let Freshness::Old | Freshness::Stale = source.meta.freshness(now) {
            let day = (
                source.meta.age(now).as_secs() / 86_400,
                source.meta.built_on(),
            );
            by_day.entry(day).or_default().push(&source.meta.name);
        }
    }
    let warning = |((days, date), names): ((u64, String), Vec<&str>)| {
        let what = format!("{} was built on {date}, {days} days ago", names.join(", "));
        match days {
            0..=90 => format!("{what}: addresses have changed hands since"),
            _ => format!(
                "{what}: IT IS OUT OF DATE, much of what it says is no longer true; see `cordon db update`"
            ),
        }
    };
    let mut warnings = future_warnings(sources, now);
    warnings.extend(by_day.into_iter().map(warning));
    warnings
}

/// One sentence for all sources that claim to be built on the same day to come.
fn future_warnings(sources: &[SourceInfo], now: Time) -> Vec<String> {
    let mut by_day: BTreeMap<(u64, String), Vec<&str>> = BTreeMap::new();
    for source in sources {
        let days = source.meta.days_ahead(now);
        if days > 0 {
            let day = (days, source.meta.built_on());
            by_day.entry(day).or_default().push(&source.meta.name);
        }
    }
    let warning = |((days, date), names): ((u64, String), Vec<&str>)| {
        let plural = if days == 1 { "" } else { "s" };
        format!(
            "{} is dated {date}, {days} day{plural} in the future: is this machine's clock right? If it is, the date is wrong, \
             and how old the data is cannot be told",
            names.join(", ")
        )
    };
    by_day.into_iter().map(warning).collect()
}

/// A source from its own files, or as it was fetched last; `None` if it never was.
fn read_source(settings: &Settings, configured: &Configured) -> Result<Option<Source>> {
    if configured.path.is_empty() {
        return store::read(&settings.directory, &configured.name);
    }
    let mut files = Vec::new();
    let mut built = 0;
    for path in &configured.path {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push(
            decompress(bytes, configured.max_bytes).with_context(|| path.display().to_string())?,
        );
        built = built.max(modified(path));
    }
    let label = Label {
        built,
        ..configured.label()
    };
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let source = Source::read(&files, configured.kind, &label)
        .with_context(|| format!("{} cannot be used", list(&configured.path)))?;
    Ok(Some(source))
}

/// When a file was last written, in seconds since the Unix epoch: the build date of files that do not tell theirs.
fn modified(path: &Path) -> u64 {
    let time = std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok();
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs())
}

/// What errors call each file, and its text.
fn read_texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        Ok((name, text))
    };
    paths.iter().map(read).collect()
}

fn as_strs(texts: &[(String, String)]) -> Vec<(&str, &str)> {
    let texts = texts.iter();
    texts
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect()
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}
