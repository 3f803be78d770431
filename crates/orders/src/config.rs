//! orders' settings.

use std::time::Duration;

use hyper::Uri;
use service_kit::{ConfigError, Env, KitConfig, config::DatabaseConfig};

use crate::placing::DEADLINE;

/// What orders is told beside the common settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: DatabaseConfig,
    /// `INVENTORY_URL`: where inventory answers.
    pub inventory: Uri,
    /// `ORDER_LEASE`: how long one who works on an order has it alone; longer than placing takes.
    pub lease: Duration,
    /// `RESUME_INTERVAL`: between two looks for unfinished orders.
    pub resume_interval: Duration,
    /// `IDEMPOTENCY_TTL`: how long a key's answer is kept at least.
    pub idempotency_ttl: Duration,
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
            lease: env.duration("ORDER_LEASE", Duration::from_secs(15)),
            resume_interval: env.interval("RESUME_INTERVAL", Duration::from_secs(1)),
            idempotency_ttl: env.interval("IDEMPOTENCY_TTL", Duration::from_secs(24 * 3600)),
        };
        if config.lease <= DEADLINE {
            env.fault(format!("ORDER_LEASE must be longer than placing takes, {DEADLINE:?}"));
        }
        env.finish().map(|()| (kit, config))
    }
}
