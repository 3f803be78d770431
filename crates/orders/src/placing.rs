//! Placing and cancelling: the steps between orders' own state and inventory's, each safe to repeat.
//!
//! Order and key are committed with a lease before inventory is called. Whatever dies then, the worker takes the order
//! up when the lease is over, and repeats steps that are all idempotent, until nothing is left to do.

use std::time::Duration;

use prometheus::{IntCounterVec, Opts};
use service_kit::{Kit, Problem, database::chain, idempotency::Key, metrics::register, telemetry};
use tokio::{
    time::{Instant, timeout_at},
    try_join,
};
use uuid::Uuid;

use crate::{
    domain::{Line, Order, OrderInput, PricedLine, Status, total},
    error::Error,
    inventory::{Inventory, Moved},
    store::{Answer, Finished, Known, Place, Store},
};

/// How long placing waits for inventory: without prices it is then refused, without stock it is answered `pending`.
/// Shorter than the lease, and than what the gateway waits.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How often an order is to be stored under its key, each time where nobody had it at the last look.
const BEGIN_ATTEMPTS: usize = 3;

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

    /// Places an order once for a caller's key, or gives the answer that the key got.
    pub async fn place(&self, key: &Key, input: OrderInput) -> Result<Answer, Error> {
        let fingerprint = input.fingerprint();
        let deadline = Instant::now() + DEADLINE;
        // Most keys are new: the prices are asked for at the same time. With an earlier answer they are of no interest.
        let is_new = async {
            match self.earlier(key, &fingerprint).await {
                Ok(Known::New(place)) => Ok(place),
                Ok(known) => Err(known.answer()),
                Err(error) => Err(Err(error)),
            }
        };
        let prices = async { Ok(self.prices(&input.lines, deadline).await) };
        let (place, lines) = match try_join!(is_new, prices) {
            Ok((place, lines)) => (place, lines?),
            Err(earlier) => return earlier,
        };
        let mut order = Order::new(input.customer, total(&lines)?, lines);
        let id = order.id;
        if let Some(answer) = self.begin(key, place, &fingerprint, &mut order).await? {
            return Ok(answer);
        }
        // A failure here is not the order's: it stays pending, and the worker goes on.
        let driven = timeout_at(deadline, self.drive(order))
            .await
            .unwrap_or_else(|_| Err(Error::Inventory("the deadline is over".into())));
        match driven {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(order = %id, error = chain(&error), "an order stays pending");
                self.store.postpone(id).await?;
            }
        }
        let order = self.store.order(id).await?;
        if order.status == Status::Pending {
            self.count(Status::Pending);
        }
        self.store.keep_answer(&Answer::order(&order), id).await?;
        self.store.known(key, &fingerprint).await?.answer()
    }

    /// Stores a new order under its key; or gives the answer of another request with it that came first. When the key
    /// became another caller's meanwhile, it is stored beside that.
    async fn begin(
        &self,
        key: &Key,
        mut place: Place,
        fingerprint: &[u8],
        order: &mut Order,
    ) -> Result<Option<Answer>, Error> {
        for _ in 0..BEGIN_ATTEMPTS {
            if self.store.begin(key, place, fingerprint, order).await? {
                return Ok(None);
            }
            place = match self.store.known(key, fingerprint).await? {
                Known::New(place) => place,
                known => return known.answer().map(Some),
            };
        }
        Err(Error::KeyAtWork)
    }

    async fn prices(&self, lines: &[Line], deadline: Instant) -> Result<Vec<PricedLine>, Error> {
        timeout_at(deadline, self.inventory.price(lines))
            .await
            .unwrap_or_else(|_| Err(Error::Inventory("the prices took too long".into())))
    }

    /// What is known of a key. Where a crash came between its order's end and the answer, the answer is made up for now.
    async fn earlier(&self, key: &Key, fingerprint: &[u8]) -> Result<Known, Error> {
        let known = self.store.known(key, fingerprint).await?;
        let Known::AtWork(id) = known else { return Ok(known) };
        let order = self.store.order(id).await?;
        if order.status == Status::Pending {
            return Ok(known);
        }
        self.store.keep_answer(&Answer::order(&order), id).await?;
        self.store.known(key, fingerprint).await
    }

    /// Brings a pending order to its end. Gives the answer that its key got with that; none when the key had one, or
    /// when the order was brought to its end elsewhere.
    pub async fn drive(&self, order: Order) -> Result<Option<Answer>, Error> {
        let id = order.id;
        let (status, rejection) = match self.inventory.reserve(id, &order.lines).await {
            Ok(Moved::Done) => match self.inventory.confirm(id).await? {
                Moved::Done => (Status::Confirmed, None),
                // It expired or was released in between: the next round sees what is true then.
                Moved::Closed => {
                    return Err(Error::Inventory("the reservation did not last".into()));
                }
            },
            // Released: the order was cancelled or rejected meanwhile, which settles it.
            Ok(Moved::Closed) => return Ok(None),
            Err(Error::InsufficientStock(lacking)) => {
                let problem = Problem::from(Error::InsufficientStock(lacking));
                let answer = Answer::problem(&problem, &telemetry::trace_id());
                (Status::Rejected, Some(answer))
            }
            Err(error) => return Err(error),
        };
        let Finished::Now(answer) = self.store.finish(order, rejection).await? else {
            return Ok(None);
        };
        self.count(status);
        if status == Status::Rejected {
            self.settle(id).await?;
        }
        Ok(answer)
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

    /// Gives a cancelled or rejected order's stock back, held or taken, and closes its reservation for good: a slower one
    /// who still works on the order may ask for stock at any time after.
    pub async fn settle(&self, id: Uuid) -> Result<(), Error> {
        if self.inventory.release(id).await? == Moved::Closed
            && self.inventory.put_back(id).await? == Moved::Closed
        {
            return Err(Error::Inventory("its stock is being moved".into()));
        }
        self.store.settled(id).await
    }

    fn count(&self, status: Status) {
        self.outcomes.with_label_values(&[status.name()]).inc();
    }
}
