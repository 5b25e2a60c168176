//! `cordon demo`: The Clubhouse case, end to end.
use anyhow::Result;
use std::process::ExitCode;

/// The Clubhouse case, end to end.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> Result<ExitCode> {
    todo!()
}
