//! The whole system as it is at one moment, for the dashboard and the topology.

use bytes::Bytes;
use futures_util::future::{join, join4};
use serde_json::json;
use service_kit::{Kit, client::Client, epoch};

use crate::{
    config::Config,
    dashboard::{Dashboard, View},
    measured::Measured,
    topology::{self, Part},
    upstream::Upstream,
};

/// Where everything is asked for.
#[derive(Debug)]
pub struct System {
    orders: Upstream,
    inventory: Upstream,
    config: Config,
    /// A part that hangs may not hold up what is shown of the others.
    probes: Client,
    kit: Kit,
}

/// What is shown of one moment.
#[derive(Debug)]
pub struct Look {
    /// The page.
    pub dashboard: Dashboard,
    /// `{"parts": [...]}`.
    pub topology: Bytes,
}

impl System {
    /// The system around these services.
    pub fn new(config: Config, kit: &Kit, orders: Upstream, inventory: Upstream) -> Self {
        let probes = Client::unguarded(topology::WITHIN);
        Self { orders, inventory, config, probes, kit: kit.clone() }
    }

    /// Asks all parts.
    pub async fn look(&self) -> Look {
        let now = epoch::seconds();
        let (services, prometheus, orders, items) = join4(
            Box::pin(self.services()),
            Box::pin(self.prometheus(now)),
            self.orders.json("v1/orders?page_size=10"),
            self.inventory.json("v1/items?page_size=50"),
        )
        .await;
        let (prometheus, measured) = prometheus;
        let parts: Vec<_> = services.into_iter().chain(prometheus).collect();
        let topology = json!({"parts": parts}).to_string().into();
        let has_prometheus = self.config.prometheus.is_some();
        let view = View { parts, orders, items, measured, has_prometheus, now };
        Look { dashboard: view.render(), topology }
    }

    async fn services(&self) -> [Part; 3] {
        let Config { orders, inventory, orders_admin, inventory_admin, .. } = &self.config;
        let (orders, inventory) = join(
            topology::service(&self.probes, "orders", orders, orders_admin.as_ref()),
            topology::service(&self.probes, "inventory", inventory, inventory_admin.as_ref()),
        )
        .await;
        [topology::own(&self.kit), orders, inventory]
    }

    /// Prometheus and what it has measured; it is not asked for that when it does not answer at all.
    async fn prometheus(&self, now: u64) -> (Option<Part>, Option<Measured>) {
        let Some(base) = &self.config.prometheus else { return (None, None) };
        let part = topology::prometheus(&self.probes, base).await;
        let measured = match part.latency_ms {
            Some(_) => Measured::read(&self.probes, base, now).await,
            None => None,
        };
        (Some(part), measured)
    }
}
