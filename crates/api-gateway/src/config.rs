//! The gateway's settings.

use hyper::Uri;
use service_kit::{ConfigError, Env, KitConfig};

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
    /// Reads everything; all faults come in one error.
    pub fn from_lookup(
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(KitConfig, Self), ConfigError> {
        let mut env = Env::new(lookup);
        let kit = KitConfig::read(&mut env);
        let config = Self {
            orders: env.uri("ORDERS_URL").unwrap_or_else(|| Uri::from_static("http://orders")),
            inventory: env
                .uri("INVENTORY_URL")
                .unwrap_or_else(|| Uri::from_static("http://inventory")),
            orders_admin: env.uri("ORDERS_ADMIN_URL"),
            inventory_admin: env.uri("INVENTORY_ADMIN_URL"),
            prometheus: env.uri("PROMETHEUS_URL"),
        };
        env.finish().map(|()| (kit, config))
    }
}
