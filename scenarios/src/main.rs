//! The `converge` command: thin over the libraries.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
