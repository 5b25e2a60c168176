//! `cordon status`, `cordon reload`, `cordon flows`: what the running daemon is asked.

use crate::config::{Config, DEFAULT_PATH};
use crate::control::{FlowLine, FlowsEnd, MOST_FLOWS, Reloaded, Request, Status, ask, table};
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of every command that asks the running daemon.
#[derive(Debug, clap::Args)]
struct Daemon {
    /// Its socket, instead of the one in /etc/cordon/cordon.toml, or else the usual one: /run/cordon/control.sock, for
    /// users other than root first $XDG_RUNTIME_DIR/cordon/control.sock.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// How the running daemon stands: its policy, data and link, its flows, and each exit with why it is up or down.
///
/// Ends with status 0 if all is well; 1 if something needs looking after: an exit that a rule uses is down (itself, as
/// a member of a group, or as the one that takes over), the jurisdiction data is more than 90 days old, the policy in
/// its file could not be loaded, or a thread does not answer; 2 if no daemon answers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: cordon status || logger -p daemon.warning 'cordon needs looking after'"
)]
pub(super) struct StatusArgs {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Have the running daemon load its policy and data anew.
///
/// Live flows are judged again; those that would now be treated differently end. If the policy has errors, or fails its
/// own tests, the old one stays in force. Ends with status 0 if the new policy is in force, 1 if the old one stays, 2
/// if no daemon answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cordon check /etc/cordon/policy.toml && cordon reload")]
pub(super) struct ReloadArgs {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// The flows of the running daemon, those used last first.
///
/// Bytes are payload, from and to the client, as far as they came through the daemon: what the kernel forwards alone is
/// not counted, nor are the answers of a flow on the `pass` path. Ends with status 0, or 2 if no daemon answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cordon flows\n  cordon flows --json | grep '\"exit\":\"nl\"'")]
pub(super) struct FlowsArgs {
    /// Print JSON Lines: an object a flow, then one with how many there are.
    #[arg(long)]
    json: bool,
    /// List at most so many.
    #[arg(long, value_name = "COUNT", default_value_t = 1000,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=MOST_FLOWS as u64))]
    limit: usize,
    #[command(flatten)]
    daemon: Daemon,
}

pub(super) fn status(args: &StatusArgs) -> Result<ExitCode> {
    let answer = args.daemon.ask(&Request::Status {})?;
    let status: Status = read(&answer)?;
    match args.json {
        true => print(&answer)?,
        false => print(&status.to_string())?,
    }
    Ok(ExitCode::from(u8::from(!status.problems.is_empty())))
}

pub(super) fn reload(args: &ReloadArgs) -> Result<ExitCode> {
    let answer = args.daemon.ask(&Request::Reload {})?;
    let reloaded: Reloaded = read(&answer)?;
    let Reloaded {
        policy,
        rules,
        error,
        ..
    } = &reloaded;
    match error {
        _ if args.json => print(&answer)?,
        None => print(&format!(
            "the policy {policy} is in force, with {rules} rules; live flows are judged again\n"
        ))?,
        Some(error) => eprintln!("cordon: the old policy stays: {error}"),
    }
    Ok(ExitCode::from(u8::from(!reloaded.ok)))
}

pub(super) fn flows(args: &FlowsArgs) -> Result<ExitCode> {
    let limit = args.limit;
    let answer = args.daemon.ask(&Request::Flows { limit })?;
    if args.json {
        print(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines: Vec<&str> = answer.lines().collect();
    let end: FlowsEnd = read(lines.pop().unwrap_or_default())?;
    let flows: Vec<FlowLine> = lines.into_iter().map(read).collect::<Result<_>>()?;
    print(&table(&flows, end))?;
    Ok(ExitCode::SUCCESS)
}

impl Daemon {
    fn ask(&self, request: &Request) -> Result<String> {
        let socket = self.socket.clone().or_else(configured);
        Ok(ask(socket.as_deref(), request)?)
    }
}

/// The socket that this machine's configuration names. Where that may not be read, or has errors, there is still the
/// usual one to be tried.
fn configured() -> Option<PathBuf> {
    Config::read(Path::new(DEFAULT_PATH)).ok()?.control.socket
}

fn read<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line)
        .context("the daemon's answer cannot be read; is it of another version than this command?")
}

/// Whoever reads may stop at any time.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
