//! `cordon audit`: what a capture shows, and what a policy would have done.

use super::machine::Machine;
use super::page;
use super::policy::{Data, load_or_observe};
use crate::link::pcap::Capture;
use crate::report::audit::{Audit, Flow};
use crate::report::judged::{Judge, Judged};
use crate::report::lines::{FanoutLine, FlowLine};
use crate::report::text;
use crate::report::totals::Totals;
use crate::sanitize::{Kind, Sanitizer, Secret};
use anyhow::{Context, Result, anyhow};
use std::collections::BTreeMap;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Frames between two reports of progress.
const PROGRESS: u64 = 200_000;

/// What left, to whose jurisdiction, what leaked in the clear, and what a policy would have done.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Captures are pcap or pcapng, also gzip or zstd, of any size; no privileges are needed.\n\nExamples:\n  \
    cordon audit phone.pcap\n  cordon audit --policy policies/clubhouse-2021.toml --secret user=512345687 \\\n    \
    --html report.html phone.pcapng.gz"
)]
pub(super) struct Args {
    /// Capture files.
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// The policy; without it, one that only observes.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A value to look for in every encoding; may be given again.
    #[arg(long, value_name = "NAME=VALUE")]
    secret: Vec<String>,
    /// One JSON object a flow, then fan-outs, then a summary.
    #[arg(long)]
    json: bool,
    /// Also write a report as one self-contained page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let config = args.machine.config()?;
    let secrets = secrets(config.secrets, &args.secret)?;
    let data = Data::configured(&config.db)?;
    let policy = load_or_observe(args.policy.as_deref(), &data)?;
    let mut judge = Judge::new(&policy, &data.data);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut totals = Totals::default();
    let mut complete = true;
    for path in &args.captures {
        let sanitizer = Sanitizer::new(&secrets).map_err(|error| anyhow!(error))?;
        let session = Session {
            name: path.file_name().map_or_else(
                || path.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            ),
            json: args.json,
            out: &mut out,
            totals: &mut totals,
            failed: None,
        };
        complete &= audit(path, sanitizer, &mut judge, session)?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&totals.summary)?)?;
    } else {
        let mut answer = String::new();
        text::write(&mut answer, &totals)?;
        out.write_all(answer.as_bytes())?;
    }
    out.flush()?;
    if let Some(path) = &args.html {
        page::write(path, policy.name(), &totals)?;
    }
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

/// The declared secrets: those of the configuration, and those given here. No error repeats a value.
fn secrets(configured: BTreeMap<String, String>, given: &[String]) -> Result<Vec<Secret>> {
    let secret = |name: &str, value: &str| {
        Secret::new(name, value, Kind::Guess).map_err(|error| anyhow!(error))
    };
    let mut secrets = Vec::new();
    for (name, value) in &configured {
        secrets.push(secret(name, value)?);
    }
    for (number, text) in (1..).zip(given) {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--secret number {number} is not NAME=VALUE"))?;
        secrets.push(secret(name, value)?);
    }
    Ok(secrets)
}

/// What is told of one capture, and to whom.
struct Session<'a, W> {
    name: String,
    json: bool,
    out: &'a mut W,
    totals: &'a mut Totals,
    failed: Option<anyhow::Error>,
}

impl<W: Write> Session<'_, W> {
    fn over(&mut self, judged: Judged) {
        if self.json && self.failed.is_none() {
            let line = serde_json::to_string(&FlowLine::new(&self.name, &judged))
                .map_err(anyhow::Error::from);
            let written = line.and_then(|line| Ok(writeln!(self.out, "{line}")?));
            self.failed = written.err();
        }
        self.totals.add(&self.name, judged);
    }
}

/// Audits one capture; false if it could not be read to its end.
fn audit(
    path: &Path,
    sanitizer: Sanitizer,
    judge: &mut Judge<'_>,
    mut session: Session<'_, impl Write>,
) -> Result<bool> {
    let mut capture = Capture::open(path).with_context(|| path.display().to_string())?;
    let mut meter = Meter::new(path, &capture);
    let mut audit = Audit::new(sanitizer);
    let end = capture.frames(|frame| {
        meter.tick(frame.number);
        if session.failed.is_some() {
            return;
        }
        let mut over: Vec<Flow> = Vec::new();
        audit.frame(
            &frame,
            |source, destination| judge.blocks(source, destination, frame.at),
            |flow| over.push(flow),
        );
        for flow in over {
            session.over(judge.judge(flow));
        }
    });
    meter.end();
    let fanouts = audit.finish(|flow| session.over(judge.judge(flow)));
    if let Some(error) = session.failed {
        return Err(error).context("cannot write to standard output");
    }
    if session.json {
        for fanout in &fanouts {
            let countries = fanout
                .destinations
                .iter()
                .filter_map(|address| judge.country(*address));
            let line = FanoutLine::new(&session.name, fanout, countries);
            writeln!(session.out, "{}", serde_json::to_string(&line)?)?;
        }
    }
    session.totals.add_fanouts(&session.name, fanouts);
    session.totals.summary.captures += 1;
    let complete = end.is_ok();
    if let Err(error) = end {
        eprintln!(
            "cordon: {} {:#}",
            path.display(),
            anyhow::Error::from(error)
        );
    }
    Ok(complete)
}

/// Progress on a terminal, in per cent of the file.
struct Meter {
    progress: crate::link::pcap::Progress,
    size: u64,
    shown: bool,
}

impl Meter {
    fn new(path: &Path, capture: &Capture) -> Self {
        Self {
            progress: capture.progress(),
            size: std::fs::metadata(path).map_or(0, |meta| meta.len()),
            shown: false,
        }
    }

    fn tick(&mut self, frame: u64) {
        if frame.is_multiple_of(PROGRESS) && self.size > 0 && std::io::stderr().is_terminal() {
            eprint!(
                "\r{:3} %",
                (self.progress.bytes() * 100 / self.size).min(100)
            );
            self.shown = true;
        }
    }

    fn end(&self) {
        if self.shown {
            eprint!("\r      \r");
        }
    }
}
