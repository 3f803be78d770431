//! The program `api-gateway`.

use std::{env, process::ExitCode};

use api_gateway::{Config, IDENTITY};

fn main() -> ExitCode {
    let config = Config::from_lookup(&|name| env::var(name).ok());
    service_kit::run(IDENTITY, config, |config, kit| api_gateway::start(&config, kit))
}
