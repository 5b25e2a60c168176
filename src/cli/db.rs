//! `cordon db`: Show, build and update the jurisdiction data.

mod build;

use super::machine::{self, Machine};
use crate::db::{self, Client, Configured, Rules};
use crate::jurisdiction::{Family, Freshness, SourceInfo};
use crate::time::Time;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show, build and update the jurisdiction data.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Which data is loaded, how old it is, under which licence.
    Status(Show),
    /// Make a compact data file, and an mmdb that other tools read, from CSV, mmdb or geofeed files.
    Build(build::Args),
    /// Fetch the configured sources, check them, and use them from then on. Nothing is fetched that is not configured.
    Update(Update),
    /// Go back to the file that a source had before its last update.
    Rollback(Rollback),
    /// The sources that are known by name, none of which is used unless it is configured.
    Presets(Show),
    /// The named groups of countries, whose decision each is and of when. None of this is legal advice.
    Groups(Show),
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    machine: Machine,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, in /etc/cordon/cordon.toml:\n  [[db.source]]\n  preset = \"dbip-country\""
)]
struct Update {
    /// This machine's configuration, instead of /etc/cordon/cordon.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only these sources.
    names: Vec<String>,
    /// Take a source although it is older or much smaller than the one in use.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
struct Rollback {
    /// This machine's configuration, instead of /etc/cordon/cordon.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The sources.
    #[arg(required = true)]
    names: Vec<String>,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Status(args) => status(&args),
        Command::Build(args) => build::run(&args),
        Command::Update(args) => update(&args),
        Command::Rollback(args) => rollback(&args),
        Command::Presets(args) => presets(&args),
        Command::Groups(args) => groups(&args),
    }
}

/// One line of `status --json`.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    facts: Vec<&'static str>,
    built: String,
    age_days: u64,
    freshness: &'static str,
    v4: usize,
    v6: usize,
    licence: &'a str,
    attribution: &'a str,
    sha256: String,
}

impl<'a> Line<'a> {
    fn new(source: &'a SourceInfo, now: Time) -> Self {
        Self {
            name: &source.meta.name,
            facts: source.facts.iter().map(|fact| fact.name()).collect(),
            built: source.meta.built_on(),
            age_days: source.meta.age(now).as_secs() / 86_400,
            freshness: match source.meta.freshness(now) {
                Freshness::Fresh => "fresh",
                Freshness::Old => "old",
                Freshness::Stale => "stale",
                Freshness::Future => "future",
            },
            v4: source.v4,
            v6: source.v6,
            licence: &source.meta.licence,
            attribution: &source.meta.attribution,
            sha256: data_encoding::HEXLOWER.encode(&source.digest),
        }
    }
}

fn status(args: &Show) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let now = db::now();
    let loaded = machine::load(&args.machine.config()?.db)?;
    let data = &loaded.data;
    for source in data.sources() {
        let line = Line::new(source, now);
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
            continue;
        }
        let age = match source.meta.days_ahead(now) {
            0 => format!("{} days ago ({})", line.age_days, line.freshness),
            days => format!("{days} days from now"),
        };
        writeln!(out, "{:<24}built {}, {age}", line.name, line.built)?;
        writeln!(
            out,
            "{:<24}{}: {} IPv4 and {} IPv6 ranges",
            "",
            line.facts.join(", "),
            line.v4,
            line.v6
        )?;
        writeln!(out, "{:<24}{}; {}", "", line.licence, line.attribution)?;
    }
    if !args.json {
        let (v4, v6, bytes) = data.size();
        let (operators, groups) = (data.operators().len(), loaded.groups.iter().count());
        writeln!(
            out,
            "\ndata version {}: {v4} IPv4 and {v6} IPv6 ranges in {} KiB",
            data.version(),
            bytes / 1024
        )?;
        writeln!(out, "{operators} operators, {groups} groups of countries")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn update(args: &Update) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let settings = machine::config(args.config.as_deref())?.db;
    let sources = settings.sources()?;
    let chosen = choose(&sources, &args.names)?;
    if chosen.is_empty() {
        writeln!(
            out,
            "no source is configured that could be fetched: nothing is fetched without consent; see `cordon db presets`"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let client = Client::new(&settings)?;
    let mut failed = false;
    for source in chosen {
        match db::update(
            &settings,
            source,
            &client,
            db::now(),
            Rules { force: args.force },
        ) {
            Ok(outcome) => {
                let what = if outcome.changed {
                    "updated"
                } else {
                    "unchanged"
                };
                let (meta, v4, v6) = (
                    outcome.source.meta(),
                    outcome.source.len(Family::V4),
                    outcome.source.len(Family::V6),
                );
                writeln!(
                    out,
                    "{}: {what}, built {}, {v4} IPv4 and {v6} IPv6 ranges",
                    source.name,
                    meta.built_on()
                )?;
            }
            Err(error) => {
                failed = true;
                eprintln!("cordon: {}: {error:#}; the file in use stays", source.name);
            }
        }
    }
    Ok(if failed {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

/// The sources to be fetched: those that are named, or all that have an address.
fn choose<'a>(sources: &'a [Configured], names: &[String]) -> Result<Vec<&'a Configured>> {
    let fetchable = || sources.iter().filter(|source| !source.url.is_empty());
    if names.is_empty() {
        return Ok(fetchable().collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        match fetchable().find(|source| source.name == *name) {
            Some(source) => chosen.push(source),
            None => bail!("no source “{name}” with a `url` is configured"),
        }
    }
    Ok(chosen)
}

fn rollback(args: &Rollback) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let settings = machine::config(args.config.as_deref())?.db;
    for name in &args.names {
        if !settings
            .sources()?
            .iter()
            .any(|source| source.name == *name)
        {
            bail!("no source “{name}” is configured");
        }
        let source = db::rollback(&settings.directory, name).with_context(|| name.clone())?;
        writeln!(
            out,
            "{name}: back to what was built {}",
            source.meta().built_on()
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn presets(args: &Show) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for preset in db::presets()? {
        let from: Vec<String> = match preset.url.is_empty() {
            true => preset
                .path
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
            false => preset.url.clone(),
        };
        if args.json {
            let line = serde_json::json!({
                "name": preset.name, "from": from, "licence": preset.licence, "attribution": preset.attribution,
                "note": preset.note,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        writeln!(out, "{:<24}{}", preset.name, from.join(" "))?;
        writeln!(out, "{:<24}{}; {}", "", preset.licence, preset.attribution)?;
        writeln!(out, "{:<24}{}", "", preset.note)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn groups(args: &Show) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let loaded = db::load(&args.machine.config()?.db, db::now())?;
    for group in loaded.groups.iter() {
        let members: Vec<String> = group.members.iter().map(ToString::to_string).collect();
        if args.json {
            let line = serde_json::json!({
                "name": group.name, "title": group.title, "members": members, "source": group.source,
                "as_of": group.as_of, "note": group.note,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        writeln!(out, "@{:<27}{}", group.name, group.title)?;
        writeln!(out, "{:<28}{}", "", members.join(" "))?;
        writeln!(
            out,
            "{:<28}{} (as of {}). {}",
            "", group.source, group.as_of, group.note
        )?;
    }
    if !args.json {
        writeln!(
            out,
            "\nMemberships change, and none of this is legal advice."
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
