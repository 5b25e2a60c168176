//! The command `cordon`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Cordon starts itself as a helper where namespaces have to be entered by a process of one thread.
    cordon::kernel::namespace::helper().unwrap_or_else(cordon::cli::main)
}
