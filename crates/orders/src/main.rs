//! The program `orders`.

use std::process::ExitCode;

use orders::{Config, IDENTITY, start};

fn main() -> ExitCode {
    service_kit::main(IDENTITY, Config::read, start)
}
