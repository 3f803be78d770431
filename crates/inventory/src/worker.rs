//! The sweeper: gives back the stock of reservations whose time is over.

use std::time::Duration;

use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry};
use service_kit::{database::chain, metrics::register};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// Between two looks at the sums.
const MEASURE_INTERVAL: Duration = Duration::from_secs(2);

/// Shows `inventory_stock_units{state}` (`on_hand`, reserved), `inventory_reservations_open` and
/// `inventory_reservations_overdue_seconds` until the shutdown. All replicas show the same: take the maximum, not the sum.
pub async fn measure(store: Store, registry: Registry, shutdown: CancellationToken) {
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
    let units = register(&registry, units);
    let open = register(&registry, open.expect("the name is valid"));
    let overdue = register(&registry, overdue.expect("the name is valid"));
    loop {
        match store.sums().await {
            Ok(sums) => {
                units.with_label_values(&["on_hand"]).set(sums.on_hand);
                units.with_label_values(&["reserved"]).set(sums.reserved);
                open.set(sums.open_reservations);
                overdue.set(sums.overdue_seconds);
            }
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
        loop {
            match store.expire_one().await {
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
