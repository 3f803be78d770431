//! Crash rounds: orders and inventory are killed (SIGKILL) again and again under load; then everything that was
//! acknowledged must be there, once, and the law must hold.

mod load;

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tokio::time::sleep;

pub use self::load::{Acknowledged, Load};
use crate::{
    ApiClient, Result, Service, Settings, Stack,
    laws::{Counts, Databases},
};

/// Clients at a time.
const CLIENTS: usize = 8;
/// How many blows a round has.
const BLOWS: usize = 8;
/// After the last restart, how long until nothing is under way: the lease (15 s), some waits between attempts, and the
/// reservations' time (60 s) for what is held in vain.
const REST_WITHIN: Duration = Duration::from_secs(90);

/// What a round saw.
#[derive(Debug, Default)]
pub struct Round {
    /// Processes killed.
    pub killed: usize,
    /// Orders in the database by status.
    pub orders: Counts,
    /// Orders whose placing was acknowledged.
    pub acknowledged: usize,
    /// Requests that were sent again with the same key after a failure.
    pub repeats: usize,
    /// From the last restart until nothing was under way.
    pub rest: Duration,
    /// The whole round.
    pub took: Duration,
}

impl fmt::Display for Round {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |status: &str| self.orders.get(status).copied().unwrap_or_default();
        write!(
            formatter,
            "{} killed, {} orders ({} confirmed, {} rejected, {} cancelled), {} acknowledged, {} repeats, at rest after {:.1} s, {:.1} s in all: nothing lost, nothing doubled",
            self.killed,
            self.orders.values().sum::<u64>(),
            of("confirmed"),
            of("rejected"),
            of("cancelled"),
            self.acknowledged,
            self.repeats,
            self.rest.as_secs_f64(),
            self.took.as_secs_f64()
        )
    }
}

/// Runs one round on an empty state folder.
///
/// # Errors
/// Names everything that was lost, doubled or left hanging.
pub async fn round(settings: Settings) -> Result<Round> {
    let start = Instant::now();
    let mut stack = Stack::start(settings).await?;
    let load = Load::start(stack.api_client(), "client", CLIENTS);
    let mut killed = 0;
    for blow in 0..BLOWS {
        sleep(Duration::from_millis(fastrand::u64(150..700))).await;
        killed += strike(&mut stack, blow).await?;
    }
    let restarted = Instant::now();
    let (acknowledged, repeats) = load.finish().await?;
    let databases = Databases::connect(&stack).await?;
    let orders = settle(&stack.api_client(), &databases, &acknowledged)
        .await
        .with_context(|| format!("after {killed} kills"))?;
    let rest = restarted.elapsed();
    stack.stop().await?;
    Ok(Round {
        killed,
        orders,
        acknowledged: acknowledged.len(),
        repeats,
        rest,
        took: start.elapsed(),
    })
}

/// Waits until nothing is under way. Then everything that was acknowledged must be there, once, and the law must hold;
/// gives how many orders there are of each status.
///
/// # Errors
/// Names everything that was lost, doubled or left hanging.
pub async fn settle(
    api: &ApiClient,
    databases: &Databases,
    acknowledged: &[Acknowledged],
) -> Result<Counts> {
    let start = Instant::now();
    while !databases.at_rest().await? {
        ensure!(
            start.elapsed() < REST_WITHIN,
            "after {REST_WITHIN:?} there are still unsettled orders or held stock"
        );
        sleep(Duration::from_millis(50)).await;
    }
    let (mut breaches, orders) = databases.breaches().await?;
    breaches.extend(forgotten(api, databases, acknowledged).await?);
    ensure!(breaches.is_empty(), "{} breaches:\n  {}", breaches.len(), breaches.join("\n  "));
    Ok(orders)
}

/// Kills one or both services, and starts them again after a while.
async fn strike(stack: &mut Stack, blow: usize) -> Result<usize> {
    let victims: &[Service] = match blow % 3 {
        0 => &[Service::Orders],
        1 => &[Service::Inventory],
        _ => &[Service::Inventory, Service::Orders],
    };
    for victim in victims {
        stack.end(*victim, Signal::KILL).await?;
    }
    sleep(Duration::from_millis(fastrand::u64(0..300))).await;
    for victim in victims {
        stack.start_service(*victim).await?;
    }
    stack.await_ready().await?;
    Ok(victims.len())
}

/// What was acknowledged and is not so any more; and customers (one for each key) with more than one order.
async fn forgotten(
    api: &ApiClient,
    databases: &Databases,
    acknowledged: &[Acknowledged],
) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for order in acknowledged {
        let again = order.repeat(api).await?;
        if (again.status, &again.body) != (order.reply.status, &order.reply.body) {
            breaches.push(format!(
                "the key {} was answered {} {}, and now {} {}",
                order.key,
                order.reply.status,
                order.reply.text(),
                again.status,
                again.text()
            ));
        }
        if order.cancelled {
            let now = order.now(api).await?;
            if now["status"] != "cancelled" {
                breaches.push(format!(
                    "the order {} was cancelled and is {}",
                    now["id"], now["status"]
                ));
            }
        }
    }
    let doubled = "SELECT customer, count(*) FROM orders GROUP BY customer HAVING count(*) > 1";
    for row in databases.orders.query(doubled, &[]).await? {
        breaches.push(format!(
            "the key {} has {} orders",
            row.get::<_, &str>(0),
            row.get::<_, i64>(1)
        ));
    }
    Ok(breaches)
}
