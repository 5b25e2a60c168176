//! `cordon generate`: shell completions and man pages, from the definitions of the commands.

use super::Cli;
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print shell completions, or write man pages.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cordon generate completions bash > /etc/bash_completion.d/cordon\n  \
    cordon generate man /usr/local/share/man/man1"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Completions for a shell, on standard output.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// A man page for each command, into a directory that is there.
    Man {
        /// The directory.
        directory: PathBuf,
    },
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let mut command = Cli::command();
    match args.what {
        What::Completions { shell } => {
            clap_complete::generate(shell, &mut command, "cordon", &mut std::io::stdout());
        }
        What::Man { directory } => clap_mangen::generate_to(command, &directory)
            .with_context(|| format!("cannot write man pages to {}", directory.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_a_completion() {
        let directory = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), directory.path()).unwrap();
        let mut completions = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "cordon", &mut completions);
        let completions = String::from_utf8(completions).unwrap();
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let page = directory.path().join(format!("cordon-{name}.1"));
            assert!(page.exists(), "{}", page.display());
            assert!(completions.contains(name), "{name}");
        }
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
