//! Clients that place and cancel orders, and repeat what failed with the same key, as the contract asks of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{ApiClient, Result, http::Reply};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(30);
/// How long a key may go without a definite answer: the lease (15 s) and the waits between attempts are within it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// What is ordered; plenty of the first, little of the others.
const SKUS: [&str; 3] = ["BOLT-M8", "PADLOCK-40", "LATCH-GATE"];

/// An order that was answered, and with what.
#[derive(Debug)]
pub struct Acknowledged {
    /// Its key, which is its customer too.
    pub key: String,
    /// The answer.
    pub reply: Reply,
    /// Was its cancelling acknowledged as well?
    pub cancelled: bool,
    body: String,
}

impl Acknowledged {
    /// Sends the same request again.
    pub async fn repeat(&self, api: &ApiClient) -> Result<Reply> {
        api.place(&self.key, self.body.clone()).await
    }

    /// The order as it is now.
    pub async fn now(&self, api: &ApiClient) -> Result<Value> {
        Ok(api.get(self.reply.header("location")).await?.json())
    }
}

/// Running clients.
#[derive(Debug)]
pub struct Load {
    clients: JoinSet<Result<Vec<Acknowledged>>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    api: ApiClient,
    name: String,
    stopping: AtomicBool,
    repeats: AtomicUsize,
}

impl Load {
    /// Starts so many, whose keys begin with a name.
    pub fn start(api: ApiClient, name: &str, count: usize) -> Self {
        let shared = Arc::new(Shared {
            api,
            name: name.to_owned(),
            stopping: AtomicBool::new(false),
            repeats: AtomicUsize::new(0),
        });
        let mut clients = JoinSet::new();
        for number in 0..count {
            let shared = Arc::clone(&shared);
            clients.spawn(async move { shared.client(number).await });
        }
        Self { clients, shared }
    }

    /// No new orders; those begun get their answers. What was acknowledged, and how many requests were repeats.
    pub async fn finish(mut self) -> Result<(Vec<Acknowledged>, usize)> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            acknowledged.extend(client??);
        }
        Ok((acknowledged, self.shared.repeats.load(Ordering::Relaxed)))
    }
}

impl Shared {
    async fn client(&self, number: usize) -> Result<Vec<Acknowledged>> {
        let mut acknowledged = Vec::new();
        for turn in 0.. {
            if self.stopping.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("{}-{number}-{turn}", self.name);
            let sku = SKUS[fastrand::usize(..SKUS.len())];
            let lines = [json!({"sku": sku, "quantity": fastrand::u32(1..=3)})];
            let body = json!({"customer": key, "lines": lines}).to_string();
            if fastrand::u32(..8) == 0 {
                // This one goes away and never asks again: its order, if there is one, must come to an end too.
                let _ = tokio::time::timeout(PAUSE, self.api.place(&key, body.clone())).await;
                continue;
            }
            let reply = self.until_answered(|| self.api.place(&key, body.clone())).await?;
            ensure!(
                matches!(reply.status, StatusCode::CREATED | StatusCode::CONFLICT),
                "{key} was answered {} {}",
                reply.status,
                reply.text()
            );
            let mut order = Acknowledged { key, reply, cancelled: false, body };
            if order.reply.status == StatusCode::CREATED && fastrand::u32(..5) == 0 {
                order.cancelled = self.cancel(&order).await?;
            }
            acknowledged.push(order);
        }
        Ok(acknowledged)
    }

    /// Cancels an order; false when it was rejected meanwhile.
    async fn cancel(&self, order: &Acknowledged) -> Result<bool> {
        let location = order.reply.header("location");
        let reply = self.until_answered(|| self.api.cancel(location)).await?;
        Ok(reply.status == StatusCode::OK)
    }

    /// Repeats a request until it has an answer that is not a failure.
    async fn until_answered<F: Future<Output = Result<Reply>>>(
        &self,
        send: impl Fn() -> F,
    ) -> Result<Reply> {
        let start = Instant::now();
        loop {
            let result = send().await;
            match &result {
                Ok(reply) if !is_to_be_repeated(reply) => return result,
                _ if start.elapsed() > ANSWER_WITHIN => {
                    let reply = result.context("no definite answer came")?;
                    anyhow::bail!("the last answer was {} {}", reply.status, reply.text());
                }
                _ => {}
            }
            self.repeats.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
    }
}

/// A failure of the moment, or the same key at work.
fn is_to_be_repeated(reply: &Reply) -> bool {
    reply.status.is_server_error() || reply.json()["type"] == "/problems/idempotency-key-at-work"
}
