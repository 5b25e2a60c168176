//! `cordon run`: Run the gate on this machine.
use anyhow::Result;
use std::process::ExitCode;

/// Run the gate on this machine.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> Result<ExitCode> {
    todo!()
}
