//! The program `api-gateway`.

use std::process::ExitCode;

use api_gateway::{Config, IDENTITY, start};

fn main() -> ExitCode {
    service_kit::main(IDENTITY, Config::read, start)
}
