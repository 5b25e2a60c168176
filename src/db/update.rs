//! Fetching a source, and everything it must pass before it counts.

use super::fetch::{Https, decompress};
use super::settings::{Canary, Configured, Settings};
use super::store;
use crate::jurisdiction::{Anycast, Data, Family, Label, Operators, Source, sha256};
use crate::time::Time;
use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER_PERMISSIVE;

/// How hard the stored file is compressed: a compromise, since routers do this too.
const LEVEL: i32 = 12;

/// What fetches.
#[derive(Debug)]
pub struct Client(Https);

impl Client {
    /// A client that trusts whom the settings say.
    ///
    /// # Errors
    /// If the certificates cannot be read.
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(Self(Https::new(settings.ca.as_deref())?))
    }
}

/// Which checks may be skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Take a source although it is older or much smaller than the one it replaces.
    pub force: bool,
}

/// What an update did.
#[derive(Debug)]
pub struct Outcome {
    /// The source that counts now.
    pub source: Source,
    /// Whether it differs from the one before.
    pub changed: bool,
}

/// Fetches a source, checks it, and makes it count. Whatever fails, the file before stays as it was.
///
/// # Errors
/// If it cannot be fetched, has the wrong size or digest, cannot be read, is older or much smaller than the one before,
/// or answers a canary wrongly; one sentence says which.
pub fn update(
    settings: &Settings,
    source: &Configured,
    client: &Client,
    now: Time,
    rules: Rules,
) -> Result<Outcome> {
    let _lock = store::lock(&settings.directory)?;
    let files = fetch(source, client, now)?;
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let label = Label {
        built: now.as_nanos() / 1_000_000_000,
        ..source.label()
    };
    let new =
        Source::read(&files, source.kind, &label).context("what was fetched cannot be used")?;
    // A file that is broken is as good as none: this is how it is repaired.
    let before = store::read(&settings.directory, &source.name).unwrap_or_default();
    let compact = new.write_compact(LEVEL)?;
    let stored = Source::read_compact(&compact)?;
    if before
        .as_ref()
        .is_some_and(|before| before.digest() == stored.digest())
    {
        return Ok(Outcome {
            source: stored,
            changed: false,
        });
    }
    if let Some(before) = before.filter(|_| !rules.force) {
        check_progress(&before, &stored)?;
    }
    check_canaries(&stored, &source.canary)?;
    store::put(&settings.directory, &source.name, &compact)?;
    Ok(Outcome {
        source: stored,
        changed: true,
    })
}

fn fetch(source: &Configured, client: &Client, now: Time) -> Result<Vec<Vec<u8>>> {
    let token = match &source.token_file {
        None => String::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            text.trim().to_owned()
        }
    };
    let mut files = Vec::new();
    for (place, pattern) in source.url.iter().enumerate() {
        let packed = fetch_one(
            &pattern.replace("{token}", &token),
            source.max_bytes,
            client,
            now,
        )?;
        if place == 0 {
            check_digest(source, &packed, client)?;
        }
        let plain = decompress(packed, source.max_bytes)?;
        if u64::try_from(plain.len()).is_ok_and(|length| length < source.min_bytes) {
            bail!(
                "it has only {} bytes, less than the {} that are expected",
                plain.len(),
                source.min_bytes
            );
        }
        files.push(plain);
    }
    Ok(files)
}

/// A file of this month, or of the month before if this month's is not there yet.
fn fetch_one(pattern: &str, most: u64, client: &Client, now: Time) -> Result<Vec<u8>> {
    if !pattern.contains("{YYYY-MM}") {
        return client.0.get(pattern, most);
    }
    let seconds = i64::try_from(now.as_nanos() / 1_000_000_000)?;
    let today = jiff::Timestamp::from_second(seconds)?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let before = today.first_of_month().yesterday()?;
    let [this, last] =
        [today, before].map(|day| pattern.replace("{YYYY-MM}", &day.strftime("%Y-%m").to_string()));
    client
        .0
        .get(&this, most)
        .or_else(|error| client.0.get(&last, most).map_err(|_| error))
}

fn check_digest(source: &Configured, fetched: &[u8], client: &Client) -> Result<()> {
    let expected = match (&source.sha256, &source.sha256_url) {
        (Some(digest), _) => digest.clone(),
        (None, Some(url)) => {
            let text = String::from_utf8(client.0.get(url, 4096)?).unwrap_or_default();
            text.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
        }
        (None, None) => return Ok(()),
    };
    let is = HEXLOWER_PERMISSIVE.encode(&sha256(fetched));
    if is == expected {
        return Ok(());
    }
    bail!("its SHA-256 is {is}, not {expected} as it should be")
}

/// Newer data, and not much less of it: a publisher's half-written file or an old copy in between must not count.
fn check_progress(before: &Source, new: &Source) -> Result<()> {
    if new.meta().built < before.meta().built {
        let [new, before] = [new.meta().built_on(), before.meta().built_on()];
        bail!(
            "it was built on {new}, before the one in use ({before}); --force takes it all the same"
        );
    }
    for family in [Family::V4, Family::V6] {
        let [new, before] = [new.len(family), before.len(family)];
        if new < before / 2 {
            bail!(
                "it has {new} ranges where the one in use has {before}; --force takes it all the same"
            );
        }
    }
    Ok(())
}

fn check_canaries(source: &Source, canaries: &[Canary]) -> Result<()> {
    let data = Data::compile(vec![source.clone()], Operators::default())?;
    for canary in canaries {
        let facts = data.lookup(canary.ip);
        let Canary {
            ip,
            country,
            asn,
            anycast,
        } = canary;
        if let Some(country) =
            country.filter(|country| !facts.located.union(&facts.registered_in).contains(*country))
        {
            bail!("it does not place {ip} in {country}: this is not the file it should be");
        }
        if let Some(asn) = asn.filter(|asn| facts.asn != Some(*asn)) {
            bail!("it does not know {ip} to be of AS{asn}: this is not the file it should be");
        }
        if let Some(anycast) = anycast.filter(|anycast| (facts.anycast == Anycast::Yes) != *anycast)
        {
            bail!(
                "it does not say of {ip} that anycast is {anycast}: this is not the file it should be"
            );
        }
    }
    Ok(())
}
