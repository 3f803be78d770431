//! The gateway's settings.

use hyper::Uri;
use service_kit::Env;

/// What the gateway is told beside the common settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `ORDERS_URL`: where orders answers.
    pub orders: Uri,
    /// `INVENTORY_URL`: where inventory answers.
    pub inventory: Uri,
    /// `ORDERS_ADMIN_URL`: orders' admin listener; without it the dashboard shows no build.
    pub orders_admin: Option<Uri>,
    /// `INVENTORY_ADMIN_URL`: inventory's admin listener.
    pub inventory_admin: Option<Uri>,
    /// `PROMETHEUS_URL`: where Prometheus answers.
    pub prometheus: Option<Uri>,
    /// `ORDERS_TOKEN_FILE`: the token that tells orders who calls.
    pub orders_token: String,
    /// `INVENTORY_TOKEN_FILE`: the token that tells inventory who calls.
    pub inventory_token: String,
    /// `API_KEYS_FILE`: the API keys by their hashes.
    pub api_keys: String,
    /// `SESSION_KEY_FILE`: the secret that authenticates the dashboard's sessions.
    pub session_key: String,
    /// `READ_ACCESS`: may everybody read?
    pub reads_are_open: bool,
}

impl Config {
    /// Reads it.
    pub fn read(env: &mut Env<'_>) -> Self {
        Self {
            orders: env.uri_or("ORDERS_URL", "http://orders", "where orders answers"),
            inventory: env.uri_or("INVENTORY_URL", "http://inventory", "where inventory answers"),
            orders_admin: env.uri(
                "ORDERS_ADMIN_URL",
                "orders' admin listener; without it the dashboard shows no build",
            ),
            inventory_admin: env.uri("INVENTORY_ADMIN_URL", "inventory's admin listener"),
            prometheus: env.uri("PROMETHEUS_URL", "where Prometheus answers"),
            orders_token: env.string(
                "ORDERS_TOKEN_FILE",
                "/var/run/secrets/stockyard/orders",
                "the token that tells orders who calls",
            ),
            inventory_token: env.string(
                "INVENTORY_TOKEN_FILE",
                "/var/run/secrets/stockyard/inventory",
                "the token that tells inventory who calls",
            ),
            api_keys: env.string(
                "API_KEYS_FILE",
                "/etc/api-keys/keys.json",
                "the API keys by their hashes: docs/security.md has the form",
            ),
            session_key: env.string(
                "SESSION_KEY_FILE",
                "/etc/api-keys/session-key",
                "the secret, of 32 characters at least, that authenticates the dashboard's sessions",
            ),
            reads_are_open: env.choice(
                "READ_ACCESS",
                &[("open", true), ("key", false)],
                "who may read: everybody, or who has an API key; writes always need one",
            ),
        }
    }
}
