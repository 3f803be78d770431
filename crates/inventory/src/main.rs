//! The program `inventory`.

use std::process::ExitCode;

use inventory::{Config, IDENTITY, start};

fn main() -> ExitCode {
    service_kit::main(IDENTITY, Config::read, start)
}
