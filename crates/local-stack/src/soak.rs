//! A long run under steady load: what a service holds of memory at its end is what it held at its begin.

use std::{fmt, time::Duration};

use anyhow::{Context, ensure};
use tokio::time::sleep;

use crate::{
    Result, Service, Settings, Stack,
    crash::{Load, settle},
    laws::{Counts, Databases},
    measure::Memory,
};

/// One client: every order that it places is asked for again at the end.
const CLIENTS: usize = 1;
/// The part of the time after which caches and buffers have their size.
const WARM_AFTER: u32 = 10;
/// How much more memory a service may hold at the end, in kB: a leak of a few bytes for each order is more in half an hour.
const MAX_GROWTH_KB: u64 = 2048;

/// What a run saw.
#[derive(Debug)]
pub struct Soaked {
    /// Orders in the database by status.
    pub orders: Counts,
    /// Each service's resident memory in kB, once warm and at the end.
    pub memory: Vec<(Service, u64, u64)>,
}

impl fmt::Display for Soaked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let orders: u64 = self.orders.values().sum();
        write!(formatter, "{orders} orders, nothing lost, nothing doubled; resident memory")?;
        for (service, warm, end) in &self.memory {
            write!(formatter, " {} {warm} -> {end} kB", service.name())?;
        }
        Ok(())
    }
}

/// Places and cancels orders for so long.
///
/// # Errors
/// Names a service that holds more memory at the end, and everything that was lost, doubled or left hanging.
pub async fn soak(settings: Settings, time: Duration) -> Result<Soaked> {
    let mut stack = Stack::start(settings).await?;
    let load = Load::start(stack.api_client(), "soak", CLIENTS);
    sleep(time / WARM_AFTER).await;
    let warm = memory(&mut stack)?;
    sleep(time - time / WARM_AFTER).await;
    let memory: Vec<_> = warm
        .into_iter()
        .zip(memory(&mut stack)?)
        .map(|((service, warm), (_, end))| (service, warm, end))
        .collect();
    let (acknowledged, _) = load.finish().await?;
    let databases = Databases::connect(&stack).await?;
    let orders = settle(&stack.api_client(), &databases, &acknowledged).await?;
    stack.stop().await?;
    for (service, warm, end) in &memory {
        let name = service.name();
        ensure!(
            *end <= warm + MAX_GROWTH_KB,
            "{name} held {warm} kB once warm and {end} kB at the end"
        );
    }
    Ok(Soaked { orders, memory })
}

/// Each service's resident memory in kB.
fn memory(stack: &mut Stack) -> Result<Vec<(Service, u64)>> {
    let resident = |service| {
        let process = stack.running(service).and_then(|running| running.child.id());
        let process = process.context("a service has ended")?;
        Ok((service, Memory::of(process)?.resident))
    };
    Service::ALL.into_iter().map(resident).collect()
}
