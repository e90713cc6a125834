//! The `edgec` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    edgec::cli::main()
}
