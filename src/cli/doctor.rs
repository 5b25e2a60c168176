//! `cordon doctor`: what this machine can and cannot do.

use crate::kernel::namespace::lab::{Entered, Lab};
use crate::kernel::probe::{Probe, probes};
use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;

/// What this kernel and set-up can do, and what is done where it cannot.
///
/// Everything is tried in a network of its own; nothing on the machine changes. Ends with status 1 if something is
/// missing that Cordon cannot do without.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cordon doctor")]
pub(super) struct Args {
    /// Print JSON Lines.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let lab = match crate::link::tun::available().and_then(|()| Lab::enter()) {
        Ok(Entered::Inside(lab)) => lab,
        Ok(Entered::Finished(status)) => return Ok(ExitCode::from(status)),
        Err(error) => {
            tell(
                &Probe {
                    name: "namespaces and TUN",
                    problem: Some(format!("{error:#}")),
                    with: "`cordon exec`, `cordon demo` and all that follows",
                    without: "nothing else can be tried",
                },
                args.json,
            );
            return Ok(ExitCode::from(1));
        }
    };
    let found = probes(&lab)?;
    for probe in &found {
        tell(probe, args.json);
    }
    let broken = found.first().is_none_or(|tun| tun.problem.is_some());
    Ok(ExitCode::from(u8::from(broken)))
}

fn tell(probe: &Probe, json: bool) {
    let Probe {
        name,
        problem,
        with,
        without,
    } = probe;
    if json {
        let works = problem.is_none();
        println!(
            "{}",
            json!({"type": "capability", "name": name, "works": works, "problem": problem,
                   "means": if works { with } else { without }})
        );
        return;
    }
    match problem {
        None => println!("yes  {name}: {with}"),
        Some(problem) => println!("no   {name}: {without} ({problem})"),
    }
}
