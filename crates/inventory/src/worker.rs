//! The sweeper: gives back the stock of reservations whose time is over.

use std::time::Duration;

use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry};
use service_kit::{database::chain, metrics::register};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, Sums};

/// Between two looks at the sums.
const MEASURE_INTERVAL: Duration = Duration::from_secs(2);

/// `inventory_stock_units{state}` (`on_hand`, reserved), `inventory_reservations_open` and
/// `inventory_reservations_overdue_seconds`. All replicas show the same: take the maximum, not the sum.
#[derive(Debug, Clone)]
pub struct Stock {
    units: IntGaugeVec,
    open: IntGauge,
    overdue: Gauge,
}

impl Stock {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        let units = Opts::new("inventory_stock_units", "Units of all items, by state");
        let units = IntGaugeVec::new(units, &["state"]).expect("the options are valid");
        let open = IntGauge::new(
            "inventory_reservations_open",
            "Reservations neither confirmed nor given back",
        );
        let overdue = Gauge::new(
            "inventory_reservations_overdue_seconds",
            "How long the oldest of them has been due to be given back",
        );
        Self {
            units: register(registry, units),
            open: register(registry, open.expect("the name is valid")),
            overdue: register(registry, overdue.expect("the name is valid")),
        }
    }

    fn show(&self, sums: Sums) {
        self.units.with_label_values(&["on_hand"]).set(sums.on_hand);
        self.units.with_label_values(&["reserved"]).set(sums.reserved);
        self.open.set(sums.open_reservations);
        self.overdue.set(sums.overdue_seconds);
    }
}

/// Shows the sums until the shutdown.
pub async fn measure(store: Store, metrics: Stock, shutdown: CancellationToken) {
    while let Some(read) = shutdown.run_until_cancelled(store.sums()).await {
        match read {
            Ok(sums) => metrics.show(sums),
            Err(error) => tracing::debug!(error = chain(&error), "cannot read the sums"),
        }
        if shutdown.run_until_cancelled(sleep(MEASURE_INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// Sweeps until the shutdown. Several replicas may: a reservation that one holds is skipped by the others.
pub async fn sweep(store: Store, interval: Duration, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(sleep(interval)).await.is_some() {
        while let Some(expired) = shutdown.run_until_cancelled(store.expire_one()).await {
            match expired {
                Ok(true) => tracing::info!("gave back the stock of an expired reservation"),
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(error = chain(&error), "cannot look for expired reservations");
                    break;
                }
            }
        }
    }
}
