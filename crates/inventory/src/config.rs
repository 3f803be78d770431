//! inventory's settings.

use std::time::Duration;

use service_kit::{ConfigError, Env, KitConfig, config::DatabaseConfig};

/// What inventory is told beside the common settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: DatabaseConfig,
    /// `DEMO_CATALOGUE`: fill an empty store once.
    pub demo_catalogue: bool,
    /// `SWEEP_INTERVAL`: between two looks for reservations whose time is over.
    pub sweep_interval: Duration,
}

impl Config {
    /// Reads everything; all faults come in one error.
    pub fn from_lookup(
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(KitConfig, Self), ConfigError> {
        let mut env = Env::new(lookup);
        let kit = KitConfig::read(&mut env);
        let config = Self {
            database: DatabaseConfig::read(&mut env),
            demo_catalogue: env.flag("DEMO_CATALOGUE", false),
            sweep_interval: env.interval("SWEEP_INTERVAL", Duration::from_secs(1)),
        };
        env.finish().map(|()| (kit, config))
    }
}
