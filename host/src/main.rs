//! The command-line host.

use std::process;

fn main() -> process::ExitCode {
    pilotfish::cli::main().into()
}
