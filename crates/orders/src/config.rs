//! orders' settings.

use hyper::Uri;
use service_kit::{ConfigError, Env, KitConfig, config::DatabaseConfig};

/// What orders is told beside the common settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: DatabaseConfig,
    /// `INVENTORY_URL`: where inventory answers.
    pub inventory: Uri,
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
            inventory: env
                .uri("INVENTORY_URL")
                .unwrap_or_else(|| Uri::from_static("http://inventory")),
        };
        env.finish().map(|()| (kit, config))
    }
}
