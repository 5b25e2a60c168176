//! `cordon lookup`: All jurisdiction facts of addresses.
use anyhow::Result;
use std::process::ExitCode;

/// All jurisdiction facts of addresses.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> Result<ExitCode> {
    todo!()
}
