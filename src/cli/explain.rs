//! `cordon explain`: The verdict on a destination, and why.
use anyhow::Result;
use std::process::ExitCode;

/// The verdict on a destination, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> Result<ExitCode> {
    todo!()
}
