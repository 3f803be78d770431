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
        }
    }
}
