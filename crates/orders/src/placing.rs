//! Placing and cancelling: the steps between orders' own state and inventory's, each safe to repeat.
//!
//! Order and key are committed with a lease before inventory is called. Whatever dies then, the worker takes the order
//! up when the lease is over, and repeats steps that are all idempotent, until nothing is left to do.

use std::time::Duration;

use prometheus::{IntCounterVec, Opts};
use service_kit::{Kit, Problem, database::chain, metrics::register, telemetry};
use tokio::time::{Instant, timeout_at};
use tracing::Span;
use uuid::Uuid;

use crate::{
    domain::{Order, OrderInput, PricedLine, Status, total},
    error::Error,
    inventory::{Inventory, Moved},
    store::{Answer, Begun, Store},
};

/// How long placing waits for inventory: without prices it is then refused, without stock it is answered `pending`.
/// Shorter than the lease, and than what the gateway waits.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Places and cancels orders.
#[derive(Debug)]
pub struct Placing {
    /// orders' own state.
    pub store: Store,
    inventory: Inventory,
    /// `orders_total{outcome}`: orders by what became of them.
    outcomes: IntCounterVec,
}

impl Placing {
    /// Over a store and inventory.
    pub fn new(store: Store, inventory: Inventory, kit: &Kit) -> Self {
        let opts = Opts::new("orders_total", "Orders by what became of them");
        let outcomes = IntCounterVec::new(opts, &["outcome"]).expect("the options are valid");
        for status in Status::ALL {
            outcomes.with_label_values(&[status.name()]); // so that a rate sees the first one too
        }
        Self { store, inventory, outcomes: register(&kit.metrics.registry, outcomes) }
    }

    /// Places an order once for a key, or gives the answer that the key got.
    pub async fn place(&self, key: &str, input: &OrderInput) -> Result<Answer, Error> {
        let fingerprint = input.fingerprint();
        if let Some(answer) = self.earlier_answer(key, &fingerprint).await? {
            return Ok(answer);
        }
        let deadline = Instant::now() + DEADLINE;
        let lines = timeout_at(deadline, self.inventory.price(&input.lines))
            .await
            .unwrap_or_else(|_| Err(Error::Inventory("the prices took too long".into())))?;
        let total = total(&lines)?;
        let id = Uuid::now_v7();
        match self.store.begin(key, &fingerprint, id, &input.customer, &lines, &total).await? {
            Begun::New => {}
            Begun::Earlier => {
                return self.store.answer(key, &fingerprint).await?.ok_or(Error::KeyAtWork);
            }
        }
        // A failure here is not the order's: it stays pending, and the worker goes on.
        let driven = timeout_at(deadline, self.drive(id, &lines))
            .await
            .unwrap_or_else(|_| Err(Error::Inventory("the deadline is over".into())));
        if let Err(error) = driven {
            tracing::warn!(order = %id, error = chain(&error), "an order stays pending");
            self.store.postpone(id).await?;
        }
        let order = self.store.order(id).await?;
        if order.status == Status::Pending {
            self.count(Status::Pending);
        }
        self.store.keep_answer(&answer(&order), id).await?;
        self.store.answer(key, &fingerprint).await?.ok_or(Error::KeyAtWork)
    }

    /// The answer of an earlier request with this key. Where a crash came between the order's end and its answer, the
    /// answer is made up for now.
    async fn earlier_answer(&self, key: &str, fingerprint: &[u8]) -> Result<Option<Answer>, Error> {
        match self.store.answer(key, fingerprint).await {
            Err(Error::KeyAtWork) => {}
            result => return result,
        }
        let order = self.store.order_of_key(key).await?;
        if order.status == Status::Pending {
            return Err(Error::KeyAtWork);
        }
        self.store.keep_answer(&answer(&order), order.id).await?;
        self.store.answer(key, fingerprint).await
    }

    /// Brings a pending order to its end.
    pub async fn drive(&self, id: Uuid, lines: &[PricedLine]) -> Result<(), Error> {
        let (status, rejection) = match self.inventory.reserve(id, lines).await {
            Ok(Moved::Done) => match self.inventory.confirm(id).await? {
                Moved::Done => (Status::Confirmed, None),
                // It expired or was released in between: the next round sees what is true then.
                Moved::Closed => {
                    return Err(Error::Inventory("the reservation did not last".into()));
                }
            },
            // Released: the order was cancelled meanwhile, which settles it.
            Ok(Moved::Closed) => return Ok(()),
            Err(Error::InsufficientStock(lacking)) => {
                let problem = Problem::from(Error::InsufficientStock(lacking));
                let answer = Answer::problem(&problem, &telemetry::trace_id(&Span::current()));
                (Status::Rejected, Some(answer))
            }
            Err(error) => return Err(error),
        };
        if self.store.finish(id, status, rejection.as_ref()).await? {
            self.count(status);
        } else if self.store.order(id).await?.status == Status::Cancelled {
            // Its cancelling may have passed before the stock was taken: whoever is last gives it back.
            self.settle(id).await?;
        }
        Ok(())
    }

    /// Cancels an order; cancelled already, nothing happens.
    pub async fn cancel(&self, id: Uuid) -> Result<Order, Error> {
        if self.store.cancel(id).await? {
            self.count(Status::Cancelled);
        }
        if let Err(error) = self.settle(id).await {
            tracing::warn!(order = %id, error = chain(&error), "a cancelled order's stock comes back later");
            self.store.postpone(id).await?;
        }
        self.store.order(id).await
    }

    /// Gives a cancelled order's stock back, held or taken.
    pub async fn settle(&self, id: Uuid) -> Result<(), Error> {
        if self.inventory.release(id).await? == Moved::Closed {
            self.inventory.put_back(id).await?;
        }
        self.store.settled(id).await
    }

    fn count(&self, status: Status) {
        self.outcomes.with_label_values(&[status.name()]).inc();
    }
}

/// An order's answer to the one who placed it.
fn answer(order: &Order) -> Answer {
    Answer {
        status: 201,
        content_type: "application/json".to_owned(),
        location: Some(format!("/v1/orders/{}", order.id)),
        body: serde_json::to_string(order)
            .expect("our types have string keys and cannot fail to serialise"),
    }
}
