//! The resume worker: takes up what a crash or an absent inventory left unfinished.

use std::{sync::Arc, time::Duration};

use prometheus::{Gauge, IntGauge, Registry};
use service_kit::{database::chain, metrics::register, telemetry};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Order, Status},
    error::Error,
    placing::Placing,
};

/// Between two looks at what is unsettled.
const MEASURE_INTERVAL: Duration = Duration::from_secs(2);
/// The longest time between two looks for answers that may be forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Resumes until the shutdown. Several replicas may: the lease gives each order to one.
pub async fn resume(placing: Arc<Placing>, interval: Duration, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(sleep(interval)).await.is_some() {
        if let Err(error) = round(&placing, &shutdown).await {
            tracing::debug!(error = chain(&error), "cannot look for unfinished orders");
        }
    }
}

/// `orders_unsettled` and `orders_oldest_unsettled_seconds`. All replicas show the same: take the maximum, not the sum.
#[derive(Debug, Clone)]
pub struct Unsettled {
    count: IntGauge,
    oldest: Gauge,
}

impl Unsettled {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        let count = IntGauge::new("orders_unsettled", "Orders that something is left to do for");
        let oldest =
            Gauge::new("orders_oldest_unsettled_seconds", "How long the oldest of them waits");
        Self {
            count: register(registry, count.expect("the name is valid")),
            oldest: register(registry, oldest.expect("the name is valid")),
        }
    }
}

/// Shows what is unsettled until the shutdown.
pub async fn measure(placing: Arc<Placing>, metrics: Unsettled, shutdown: CancellationToken) {
    while let Some(read) = shutdown.run_until_cancelled(placing.store.unsettled()).await {
        match read {
            Ok((count, seconds)) => {
                metrics.count.set(count);
                metrics.oldest.set(seconds);
            }
            Err(error) => tracing::debug!(error = chain(&error), "cannot read what is unsettled"),
        }
        if shutdown.run_until_cancelled(sleep(MEASURE_INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// Forgets old answers to idempotency keys until the shutdown.
pub async fn forget(placing: Arc<Placing>, ttl: Duration, shutdown: CancellationToken) {
    let interval = FORGET_INTERVAL.min(ttl);
    while shutdown.run_until_cancelled(sleep(interval)).await.is_some() {
        let forget = || shutdown.run_until_cancelled(placing.store.forget_answers(ttl));
        while let Some(forgotten) = forget().await {
            match forgotten {
                Ok(0) => break,
                Ok(count) => tracing::info!(count, "forgot old answers"),
                Err(error) => {
                    tracing::debug!(error = chain(&error), "cannot forget old answers");
                    break;
                }
            }
        }
    }
}

/// Takes up every order that is due. One that fails waits for its next turn, and the round goes on with the others. At the
/// shutdown the look for one is given up, whatever the database does: if it gave one out, the lease ends by itself. An order
/// that was taken up is driven to its end.
async fn round(placing: &Placing, shutdown: &CancellationToken) -> Result<(), Error> {
    while let Some(taken) = shutdown.run_until_cancelled(placing.store.take_up()).await {
        let Some(order) = taken? else { break };
        let id = order.id;
        match telemetry::background("resume", finish(placing, order)).await {
            Ok(()) => tracing::info!(order = %id, "took up an unfinished order"),
            Err(error) => {
                tracing::warn!(order = %id, error = chain(&error), "an unfinished order stays so");
                placing.store.postpone(id).await?;
            }
        }
    }
    Ok(())
}

async fn finish(placing: &Placing, order: Order) -> Result<(), Error> {
    match order.status {
        Status::Pending => placing.drive(order).await.map(drop),
        Status::Rejected | Status::Cancelled => placing.settle(order.id).await,
        Status::Confirmed => Ok(()), // it was settled in the same commit
    }
}
