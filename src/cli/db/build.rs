//! `cordon db build`: data files from published ones.

use crate::db;
use crate::jurisdiction::{Draft, Family, Format, Meta, Source, is_compact, write_mmdb};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// No published file comes near, also when unpacked.
const LARGEST: u64 = 1 << 30;

/// What the files say.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// Where addresses are located: `range,country`.
    Location,
    /// Where address blocks are registered: `range,country`.
    Registration,
    /// Who originates addresses: `range,asn[,name]`.
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
pub(in crate::cli) struct Args {
    /// The files; several are taken as one.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What text files say; mmdb and compact files say it themselves.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Short name, shown beside each answer. A compact file has one.
    #[arg(long)]
    name: Option<String>,
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

pub(in crate::cli) fn run(args: &Args) -> Result<ExitCode> {
    if args.output.is_none() && args.mmdb.is_none() {
        bail!("nothing to write: give --output, --mmdb or both");
    }
    let files = args
        .files
        .iter()
        .map(|path| read(path))
        .collect::<Result<Vec<_>>>()?;
    let (source, skipped) = match files.as_slice() {
        [file] if is_compact(file) => (Source::read_compact(file).context(shown(&args.files))?, 0),
        files => gather(args, files)?,
    };
    writeln!(
        std::io::stdout(),
        "{}: {} IPv4 and {} IPv6 ranges, {skipped} rows without a country",
        source.meta().name,
        source.len(Family::V4),
        source.len(Family::V6)
    )?;
    if let Some(path) = &args.output {
        write(path, &source.write_compact(args.level)?)?;
    }
    if let Some(path) = &args.mmdb {
        write(path, &write_mmdb(&source)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One source of all files, and how many rows said nothing.
fn gather(args: &Args, files: &[Vec<u8>]) -> Result<(Source, usize)> {
    let mut draft = Draft::default();
    let mut built = args.built.map(midnight).transpose()?;
    for (path, file) in args.files.iter().zip(files) {
        let told = match args.kind {
            Some(Kind::AsCountry) => as_countries(&mut draft, args, file),
            kind => draft
                .read(file, kind.and_then(Kind::format))
                .map_err(Into::into),
        };
        let told = told.with_context(|| format!("{} cannot be used", path.display()))?;
        built = built.or(told);
    }
    let skipped = draft.skipped;
    let meta = Meta {
        name: args
            .name
            .clone()
            .context("give --name: what the source shall be called")?,
        licence: args.licence.clone(),
        attribution: args.attribution.clone(),
        built: built.context("give --built: these files do not tell their date")?,
    };
    let source = draft
        .finish(meta)
        .with_context(|| format!("{} cannot be used", shown(&args.files)))?;
    Ok((source, skipped))
}

fn as_countries(draft: &mut Draft, args: &Args, file: &[u8]) -> Result<Option<u64>> {
    let origins = args
        .origins
        .as_deref()
        .context("--kind as-country needs --origins")?;
    let origins =
        Source::read_compact(&read(origins)?).with_context(|| origins.display().to_string())?;
    let mut countries = Draft::default();
    let built = countries.read(file, Some(Format::Location))?;
    let countries = countries.finish(origins.meta().clone())?;
    draft.as_countries(&origins, &countries)?;
    Ok(built)
}

impl Kind {
    fn format(self) -> Option<Format> {
        match self {
            Self::Location => Some(Format::Location),
            Self::Registration => Some(Format::Registration),
            Self::Origin => Some(Format::Origin),
            Self::Anycast => Some(Format::Anycast),
            Self::Geofeed => Some(Format::Geofeed),
            Self::Iptoasn => Some(Format::Iptoasn),
            Self::AsCountry => None,
        }
    }
}

/// A date in seconds since the Unix epoch.
fn midnight(date: jiff::civil::Date) -> Result<u64> {
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp();
    u64::try_from(midnight.as_second()).context("--built lies before 1970")
}

fn shown(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    db::decompress(bytes, LARGEST).with_context(|| path.display().to_string())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(
        std::io::stdout(),
        "{}: {} bytes",
        path.display(),
        bytes.len()
    )?;
    Ok(())
}
