//! `cordon exec`: run one program whose only way out is Cordon.

use super::machine::Machine;
use super::policy::Data;
use super::{load, page};
use crate::report::live::Recorder;
use crate::report::{EventLog, Reporter, Summary};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run one program whose only way out is Cordon.
///
/// The program gets a network of its own; nothing on the machine changes and no root is needed. Ends with the program's
/// exit status (128 and the signal's number if one ended it; 125 if it could not be run), and prints on standard error
/// who was contacted, under which jurisdiction, and what was stopped.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: cordon exec --policy policies/home.toml -- curl -sI https://example.org"
)]
pub(super) struct Args {
    /// The policy; without one everything is judged and recorded and nothing is stopped.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
    /// Write events to this file, as JSON Lines. It will hold addresses and names.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Write who was contacted and what was stopped as one self-contained page. It will hold addresses and names.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// A value that must not leave in the clear, in whatever encoding; may be given several times. Other users of this
    /// machine may see it in the list of processes: real ones belong into a configuration.
    #[arg(long = "secret", value_name = "NAME=VALUE", value_parser = load::secret)]
    secrets: Vec<(String, String)>,
    /// Print no summary at the end.
    #[arg(long, short)]
    quiet: bool,
    /// The program and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// The exit status of programs that run others when they could not (as of env(1) and chroot(1)).
const FAILED: u8 = 125;

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let config = args.machine.config()?;
    let declared = config.secrets.into_iter();
    let secrets: Vec<(String, String)> = declared.chain(args.secrets).collect();
    if !secrets.is_empty() || !config.exits.is_empty() {
        load::keep_from_core_dumps();
    }
    let data = Data::configured(&config.db)?;
    let snapshot = load::snapshot(args.policy.as_deref(), data, &secrets)?;
    let log = match &args.events {
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("cannot write events to {}", path.display()))?;
            Some(EventLog::new(Box::new(BufWriter::new(file))))
        }
        None => None,
    };
    let Some((program, arguments)) = args.command.split_first() else {
        return Ok(ExitCode::from(2));
    };
    let reporter = Reporter {
        log,
        summary: Some(Summary::default()),
        record: args.report.is_some().then(Recorder::default),
        ..Reporter::default()
    };
    let policy = snapshot.policy.name().to_owned();
    let judged_by = (snapshot, &config.exits);
    match crate::run::exec(program, arguments, judged_by, reporter) {
        Ok((status, reporter)) => {
            if let Some(summary) = reporter.summary.filter(|_| !args.quiet) {
                eprint!("\n{summary}");
            }
            if let Some((path, record)) = args.report.as_deref().zip(reporter.record)
                && let Err(error) = page::write(path, &policy, &record.finish())
            {
                eprintln!("cordon: {error:#}");
            }
            Ok(ExitCode::from(status))
        }
        Err(error) => {
            eprintln!("cordon: {error:#}");
            Ok(ExitCode::from(FAILED))
        }
    }
}
