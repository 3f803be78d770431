//! The resume worker: takes up what a crash or an absent inventory left unfinished.

use std::{sync::Arc, time::Duration};

use service_kit::database::chain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{domain::Status, error::Error, placing::Placing};

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);

/// Resumes until the shutdown. Several replicas may: the lease gives each order to one.
pub async fn resume(placing: Arc<Placing>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(sleep(PAUSE)).await.is_some() {
        loop {
            match resume_one(&placing).await {
                Ok(true) => tracing::info!("took up an unfinished order"),
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(error = chain(&error), "an unfinished order stays so");
                    break;
                }
            }
        }
    }
}

/// True when there was one.
async fn resume_one(placing: &Placing) -> Result<bool, Error> {
    let Some(order) = placing.store.take_up().await? else { return Ok(false) };
    match order.status {
        Status::Cancelled => placing.settle(order.id).await?,
        _ => placing.drive(order.id, &order.lines).await?,
    }
    Ok(true)
}
