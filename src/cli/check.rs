//! `cordon check`: Parse and lint policies and run their own tests.
use anyhow::Result;
use std::process::ExitCode;

/// Parse and lint policies and run their own tests.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> Result<ExitCode> {
    todo!()
}
