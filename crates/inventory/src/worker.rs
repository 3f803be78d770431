//! The sweeper: gives back the stock of reservations whose time is over.

use std::time::Duration;

use service_kit::database::chain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

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
