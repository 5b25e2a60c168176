//! `cordon db`: Show, build and update the jurisdiction data.

use crate::jurisdiction::{
    Data, Draft, Family, Meta, Ranges, Source, is_compact, is_mmdb, mmdb_meta, write_mmdb,
};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
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
    Status(StatusArgs),
    /// Make a compact data file, and an mmdb that other tools read, from CSV, mmdb or geofeed files.
    Build(BuildArgs),
}

#[derive(Debug, clap::Args)]
struct StatusArgs {
    /// One JSON object a source.
    #[arg(long)]
    json: bool,
}

/// What the files say.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// Where addresses are located: `range,country`, or an mmdb file.
    Location,
    /// Where address blocks are registered: `range,country`.
    Registration,
    /// Who originates addresses: `range,asn[,name]`, or an mmdb file.
    Origin,
    /// Anycast prefixes: `prefix[,…]`.
    Anycast,
    /// A feed of locations (RFC 8805).
    Geofeed,
    /// `range,asn,country,name`, as IPtoASN publishes it.
    Iptoasn,
    /// Where autonomous systems are registered: files that tell it by address, put beside `--origins`.
    AsCountry,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cordon db build --name geo-whois --kind location --licence CC-BY-4.0 \\\n    \
    --attribution 'NRO' --built 2026-06-17 -o geo-whois.cdb geo-whois-asn-country-ipv4.csv …-ipv6.csv"
)]
struct BuildArgs {
    /// The files; several are taken as one.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What the files say. mmdb files say it themselves.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Short name, shown beside each answer.
    #[arg(long)]
    name: String,
    /// Licence of the data, by its SPDX identifier.
    #[arg(long, default_value = "unknown")]
    licence: String,
    /// Whom the licence wants named.
    #[arg(long, default_value = "")]
    attribution: String,
    /// When the data was built, YYYY-MM-DD. An mmdb file tells it itself.
    #[arg(long)]
    built: Option<jiff::civil::Date>,
    /// With `--kind as-country`: a compact file that tells origins.
    #[arg(long)]
    origins: Option<PathBuf>,
    /// Where to write the compact file.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Where to write an mmdb file.
    #[arg(long)]
    mmdb: Option<PathBuf>,
    /// How hard to compress, 1 to 22.
    #[arg(long, default_value_t = 19)]
    level: i32,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Status(args) => status(&args),
        Command::Build(args) => build(&args),
    }
}

fn status(_args: &StatusArgs) -> Result<ExitCode> {
    let data = Data::embedded()?;
    println!("{:?}", data.size());
    Ok(ExitCode::SUCCESS)
}

fn build(args: &BuildArgs) -> Result<ExitCode> {
    if args.output.is_none() && args.mmdb.is_none() {
        bail!("nothing to write: give --output, --mmdb or both");
    }
    let mut draft = Draft::default();
    let mut built = match args.built {
        Some(date) => Some(u64::try_from(
            date.to_zoned(jiff::tz::TimeZone::UTC)?
                .timestamp()
                .as_second(),
        )?),
        None => None,
    };
    for path in &args.files {
        let bytes = read(path)?;
        let said =
            add(&mut draft, args, path, &bytes).with_context(|| path.display().to_string())?;
        built = built.or(said);
    }
    let meta = Meta {
        name: args.name.clone(),
        licence: args.licence.clone(),
        attribution: args.attribution.clone(),
        built: built.context("give --built: these files do not tell their date")?,
    };
    let skipped = draft.skipped;
    let source = draft.finish(meta)?;
    println!(
        "{}: {} IPv4 and {} IPv6 ranges, {skipped} rows without a country",
        args.name,
        source.len(Family::V4),
        source.len(Family::V6)
    );
    if let Some(path) = &args.output {
        write(path, &source.write_compact(args.level)?)?;
    }
    if let Some(path) = &args.mmdb {
        write(path, &write_mmdb(&source)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds a file and gives the build date that it tells.
fn add(draft: &mut Draft, args: &BuildArgs, path: &Path, bytes: &[u8]) -> Result<Option<u64>> {
    let ranges = match args.kind {
        Kind::AsCountry => return as_countries(draft, args, path, bytes),
        _ if is_mmdb(bytes) => {
            draft.mmdb(bytes)?;
            return Ok(Some(mmdb_meta(bytes)?.built));
        }
        _ if is_compact(bytes) => bail!("it is a compact file already"),
        Kind::Geofeed => {
            draft.geofeed(bytes)?;
            return Ok(None);
        }
        Kind::Location => Ranges::Location,
        Kind::Registration => Ranges::Registration,
        Kind::Origin => Ranges::Origin,
        Kind::Anycast => Ranges::Anycast,
        Kind::Iptoasn => Ranges::OriginAndCountry,
    };
    draft.ranges(bytes, ranges)?;
    Ok(None)
}

fn as_countries(
    draft: &mut Draft,
    args: &BuildArgs,
    path: &Path,
    bytes: &[u8],
) -> Result<Option<u64>> {
    let origins = args
        .origins
        .as_deref()
        .context("--kind as-country needs --origins")?;
    let origins =
        Source::read_compact(&read(origins)?).with_context(|| origins.display().to_string())?;
    let mut countries = Draft::default();
    let built = if is_mmdb(bytes) {
        countries.mmdb(bytes)?;
        mmdb_meta(bytes)?.built
    } else {
        countries
            .ranges(bytes, Ranges::Location)
            .with_context(|| path.display().to_string())?;
        origins.meta().built
    };
    let countries = countries.finish(Meta {
        built,
        ..origins.meta().clone()
    })?;
    draft.as_countries(&origins, &countries)?;
    Ok(Some(built))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}: {} bytes", path.display(), bytes.len());
    Ok(())
}
