//! orders' settings.

use std::time::Duration;

use hyper::Uri;
use service_kit::{Env, config::DatabaseConfig, workload};

use crate::placing::DEADLINE;

/// What orders is told beside the common settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: DatabaseConfig,
    /// `INVENTORY_URL`: where inventory answers.
    pub inventory: Uri,
    /// `INVENTORY_TOKEN_FILE`: the token that tells inventory who calls.
    pub inventory_token: String,
    /// How callers are known.
    pub callers: workload::Config,
    /// `ORDER_LEASE`: how long one who works on an order has it alone; longer than placing takes.
    pub lease: Duration,
    /// `RESUME_INTERVAL`: between two looks for unfinished orders.
    pub resume_interval: Duration,
    /// `IDEMPOTENCY_TTL`: how long a key's answer is kept at least.
    pub idempotency_ttl: Duration,
}

impl Config {
    /// Reads it.
    pub fn read(env: &mut Env<'_>) -> Self {
        let config = Self {
            database: DatabaseConfig::read(env),
            inventory: env.uri_or("INVENTORY_URL", "http://inventory", "where inventory answers"),
            inventory_token: env.string(
                "INVENTORY_TOKEN_FILE",
                "/var/run/secrets/stockyard/inventory",
                "the token that tells inventory who calls",
            ),
            callers: workload::Config::read(env),
            lease: env.duration(
                "ORDER_LEASE",
                Duration::from_secs(15),
                "how long one who works on an order has it alone; longer than placing takes",
            ),
            resume_interval: env.interval(
                "RESUME_INTERVAL",
                Duration::from_secs(1),
                "between two looks for unfinished orders",
            ),
            idempotency_ttl: env.interval(
                "IDEMPOTENCY_TTL",
                Duration::from_secs(24 * 3600),
                "how long a key's answer is kept at least",
            ),
        };
        if config.lease <= DEADLINE {
            env.fault(format!("ORDER_LEASE must be longer than placing takes, {DEADLINE:?}"));
        }
        config
    }
}
