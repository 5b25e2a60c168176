//! `cordon db`: Show, build and update the jurisdiction data.
use anyhow::Result;
use std::process::ExitCode;

/// Show, build and update the jurisdiction data.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> Result<ExitCode> {
    todo!()
}
