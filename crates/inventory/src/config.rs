//! inventory's settings.

use std::time::Duration;

use service_kit::{Env, config::DatabaseConfig, workload};

/// What inventory is told beside the common settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: DatabaseConfig,
    /// How callers are known.
    pub callers: workload::Config,
    /// `DEMO_CATALOGUE`: fill an empty store once.
    pub demo_catalogue: bool,
    /// `SWEEP_INTERVAL`: between two looks for reservations whose time is over.
    pub sweep_interval: Duration,
}

impl Config {
    /// Reads it.
    pub fn read(env: &mut Env<'_>) -> Self {
        Self {
            database: DatabaseConfig::read(env),
            callers: workload::Config::read(env),
            demo_catalogue: env.flag("DEMO_CATALOGUE", false, "fill an empty store once"),
            sweep_interval: env.interval(
                "SWEEP_INTERVAL",
                Duration::from_secs(1),
                "between two looks for reservations whose time is over",
            ),
        }
    }
}
