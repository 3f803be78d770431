//! The program `api-gateway`.

use std::{env, process::ExitCode};

use api_gateway::Config;
use service_kit::Identity;

const IDENTITY: Identity = Identity {
    name: "api-gateway",
    version: env!("CARGO_PKG_VERSION"),
    revision: match option_env!("STOCKYARD_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    },
};

fn main() -> ExitCode {
    let config = Config::from_lookup(&|name| env::var(name).ok());
    service_kit::run(IDENTITY, config, |config, kit| api_gateway::start(&config, kit))
}
