//! The command `athena`.

use std::process::ExitCode;

fn main() -> ExitCode {
    athena::cli::run(std::env::args_os())
}
