//! The command `cordon`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cordon::cli::main()
}
