//! `cordon run`: run the gate on this machine.

use super::load;
use crate::config::{Config, DEFAULT_PATH};
use crate::report::{EventLog, Reporter};
use anyhow::{Context, Result, anyhow};
use std::fs::OpenOptions;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run the gate of a network, or of this machine.
///
/// Routes, rules, packet filter and settings are put in place in one go and taken back at the end. If the process is
/// killed, the guard stays and nothing passes; the next start takes over. `SIGHUP` or `cordon reload` loads the policy anew,
/// `SIGTERM` ends cleanly. `cordon status` and `cordon flows` tell how it stands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cordon run --config /etc/cordon/cordon.toml")]
pub(super) struct Args {
    /// This machine's configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// The policy, instead of the one that the configuration names.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    load::keep_from_core_dumps();
    let mut config = Config::read(&args.config)?;
    let policy = args
        .policy
        .or_else(|| config.policy.clone())
        .ok_or_else(|| {
            anyhow!(
                "no policy: set `policy` in {} or give --policy",
                args.config.display()
            )
        })?;
    let log = match &config.events.file {
        Some(path) => {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path);
            let file =
                file.with_context(|| format!("cannot write events to {}", path.display()))?;
            Some(EventLog::new(Box::new(BufWriter::new(file))))
        }
        None => None,
    };
    config.policy = Some(policy.clone());
    let load = || load::tested(&policy, &config);
    crate::run::run(
        &config,
        &load,
        Reporter {
            log,
            ..Reporter::default()
        },
    )?;
    Ok(ExitCode::SUCCESS)
}
