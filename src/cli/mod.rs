//! What users type: one file a command.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "commands read files and print their answers"
)]

mod audit;
mod check;
mod daemon;
mod db;
mod demo;
mod doctor;
mod exec;
mod explain;
mod generate;
mod load;
mod lookup;
mod machine;
mod page;
mod policy;
mod run;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A transparent, privacy-enforcing gate for network traffic.
#[derive(Debug, Parser)]
#[command(name = "cordon", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Exec(exec::Args),
    Run(run::Args),
    Audit(audit::Args),
    Check(check::Args),
    Explain(explain::Args),
    Lookup(lookup::Args),
    Db(db::Args),
    Status(daemon::StatusArgs),
    Reload(daemon::ReloadArgs),
    Flows(daemon::FlowsArgs),
    Doctor(doctor::Args),
    Generate(generate::Args),
}

/// Parses the command line, runs the command and says how the process ends: 0 done, 1 the answer is "no",
/// 2 wrong usage or unreadable input; what `explain` and `exec` add stands in their help.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // What went wrong beside the answer: on standard error, without addresses or names.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("CORDON_LOG")
                .unwrap_or_else(|_| "warn".into()),
        )
        .with_target(false)
        .init();
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Exec(args) => exec::run(args),
        Command::Run(args) => run::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Lookup(args) => lookup::run(args),
        Command::Db(args) => db::run(args),
        Command::Status(args) => daemon::status(&args),
        Command::Reload(args) => daemon::reload(&args),
        Command::Flows(args) => daemon::flows(&args),
        Command::Doctor(args) => doctor::run(args),
        Command::Generate(args) => generate::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cordon: {error:#}");
            ExitCode::from(2)
        }
    }
}
