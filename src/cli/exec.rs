//! `cordon exec`: Run one program whose only way out is Cordon.
use anyhow::Result;
use std::process::ExitCode;

/// Run one program whose only way out is Cordon.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> Result<ExitCode> {
    todo!()
}
