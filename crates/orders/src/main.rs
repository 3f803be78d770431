//! The program `orders`.

use std::{env, process::ExitCode};

use orders::Config;
use service_kit::Identity;

const IDENTITY: Identity = Identity {
    name: "orders",
    version: env!("CARGO_PKG_VERSION"),
    revision: match option_env!("STOCKYARD_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    },
};

fn main() -> ExitCode {
    let config = Config::from_lookup(&|name| env::var(name).ok());
    service_kit::run(IDENTITY, config, orders::start)
}
