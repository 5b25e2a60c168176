//! `cordon demo`: the Clubhouse case, end to end.

use super::{load, page};
use crate::gateway::{Cause, Event};
use crate::kernel::namespace::lab::{Entered, Lab};
use crate::packet::protocol;
use crate::policy::Verdict;
use crate::report::live::Recorder;
use crate::report::{EventLog, Reporter, RowKey, Summary, printable};
use crate::run::demo;
use anyhow::Result;
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// The Clubhouse case end to end, offline and without root.
///
/// Builds namespaces with a phone, a router and servers "in" several countries, has an app join a room, first without a
/// gate and then behind Cordon under policies/clubhouse-2021.toml, and has an observer outside count what reached each
/// server; then once more with the audio by an exit. Ends with status 1 if a forbidden packet or an identifier left.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cordon demo\n  cordon demo --report demo.html")]
pub(super) struct Args {
    /// Also write what happened behind the gate as one self-contained page.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print events and the outcome as JSON Lines.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    crate::link::tun::available()?;
    let lab = match Lab::enter()? {
        Entered::Inside(lab) => lab,
        Entered::Finished(status) => return Ok(ExitCode::from(status)),
    };
    let mut reporter = Reporter {
        summary: (!args.json).then(Summary::default),
        record: args.report.is_some().then(Recorder::default),
        ..Reporter::default()
    };
    if args.json {
        reporter.log = Some(EventLog::new(Box::new(std::io::stdout())));
    } else {
        reporter.live = Some(Box::new(live()));
    }
    let say = |line: &str| {
        if !args.json {
            println!("{line}");
        }
    };
    let acts = [
        load::built_in(demo::POLICY, &demo::secrets())?,
        load::built_in(demo::POLICY_BY_EXIT, &demo::secrets())?,
    ];
    let policy = acts[0].policy.name().to_owned();
    let (finale, reporter) = demo::play(&lab, acts, reporter, say)?;
    match reporter.summary {
        Some(summary) => println!("\n{summary}\n{finale}"),
        None => println!("{}", finale.json()),
    }
    if let Some((path, record)) = args.report.as_deref().zip(reporter.record) {
        page::write(path, &policy, &record.finish())?;
    }
    Ok(if finale.is_proof() && finale.is_usable() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A line for each flow as it is judged, and one for the first thing that each flow was to give away.
fn live() -> impl FnMut(&Event) + Send {
    let began = Instant::now();
    let mut told = HashSet::new();
    move |event| {
        let line = match event {
            Event::Open(open) => opened(open),
            Event::Leak(leak) if told.insert(leak.flow) => format!(
                "{}  {} {} to {}",
                match (leak.sent, leak.redacted) {
                    (true, _) => "left     ",
                    (false, true) => "redacted ",
                    (false, false) => "sanitised",
                },
                printable(&leak.finding.field),
                printable(&leak.finding.sample),
                leak.key.dst
            ),
            Event::Shown(_)
            | Event::Leak(_)
            | Event::Close(_)
            | Event::Refused(_)
            | Event::Exit(_) => return,
        };
        println!("  {:5.2} s  {line}", began.elapsed().as_secs_f32());
    }
}

fn opened(open: &crate::gateway::Open) -> String {
    let (subject, snapshot) = (&open.subject, &open.snapshot);
    let (verb, rule) = match open.cause {
        Cause::Scope(scope) => ("blocked  ", scope.name()),
        Cause::Policy(decision) => match decision.verdict {
            Verdict::Block(_) => ("blocked  ", snapshot.policy.rule_id(decision.origin)),
            Verdict::Pass(_) => ("passes   ", snapshot.policy.rule_id(decision.origin)),
        },
        Cause::Unavailable(decision, _) => ("blocked  ", snapshot.policy.rule_id(decision.origin)),
    };
    let row = RowKey::of(open);
    let protocol = if subject.key.protocol == protocol::TCP {
        "tcp"
    } else {
        "udp"
    };
    format!(
        "{verb}  {protocol} {:<24}  {:<8} {:<14} {rule}",
        row.who, row.jurisdiction, row.operator
    )
}
