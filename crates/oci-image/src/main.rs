//! The command `oci-image`.

mod command;

use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]
fn main() -> ExitCode {
    match command::run(lexopt::Parser::from_env()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("oci-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}
