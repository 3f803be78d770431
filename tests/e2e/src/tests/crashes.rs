//! A process killed without a word (SIGKILL) under load: nothing is oversold, lost or doubled, and it is soon back.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hyper::StatusCode;
use local_stack::{
    ApiClient,
    crash::{Load, settle},
};
use tokio::time::sleep;

use super::{Test, test};
use crate::{
    Result,
    cluster::{ctr, until},
    schedule::Resource::{Cpus, Failures},
    system::{self, FAILURES, Pod, load_key, unique},
};

/// Clients that place and cancel orders meanwhile.
const CLIENTS: usize = 8;
/// Kills in each test. Each one but the first has the kubelet wait longer before it starts the container again.
const KILLS: u32 = 2;

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("no_order_is_lost_when_orders_is_killed", &[Failures, Cpus], 180, || killed("orders")),
        test("no_order_is_lost_when_inventory_is_killed", &[Failures, Cpus], 180, || {
            killed("inventory")
        }),
        test("no_order_is_lost_when_postgres_is_killed", &[Failures, Cpus], 240, || {
            killed("postgres")
        }),
    ]
}

async fn killed(victim: &'static str) -> Result<String> {
    FAILURES.deployed().await?;
    FAILURES.back_to_one().await?;
    let forward = FAILURES.gateway().await?;
    let gateway = forward.url();
    system::receive(&gateway, "BOLT-M8", 10_000).await?;
    let api = ApiClient::new(&*gateway, &load_key()?);
    let load = Load::start(api.clone(), &unique(), CLIENTS);
    let mut recoveries = Vec::new();
    for _ in 0..KILLS {
        sleep(Duration::from_secs(2)).await;
        let before = FAILURES.pod_of(victim).await?;
        let start = Instant::now();
        kill(&before).await?;
        until(&format!("{victim} was started again"), Duration::from_secs(60), async || {
            let pod = FAILURES.pod_of(victim).await?;
            let is_another = pod.container_id() != before.container_id();
            Ok((is_another && pod.is_ready()).then_some(()))
        })
        .await?;
        until("an order is placed again", Duration::from_secs(60), async || {
            let reply = system::place(&gateway, &unique(), "BOLT-M8", 1).await?;
            Ok(system::is_confirmed(&reply).then_some(()))
        })
        .await?;
        recoveries.push(format!("{:.1} s", start.elapsed().as_secs_f64()));
    }
    let (acknowledged, repeats) = load.finish().await?;
    ensure!(repeats > 0, "no request failed meanwhile: nothing was killed under load");
    let (databases, _forward) = FAILURES.databases().await?;
    let orders = settle(&api, &databases, &acknowledged).await?;
    let topology = api.get("/api/v1/topology").await?;
    ensure!(topology.status == StatusCode::OK, "the topology: {}", topology.text());
    Ok(format!(
        "serving again after {}; {} orders acknowledged, {repeats} requests repeated, {orders:?}",
        recoveries.join(" and "),
        acknowledged.len()
    ))
}

/// Ends a pod's container by SIGKILL, from the node: no signal of that kind reaches the first process of a container
/// from within.
async fn kill(pod: &Pod) -> Result<()> {
    let id = pod.container_id().context("it has no container")?;
    if ctr(&format!("task kill --signal SIGKILL {id}")).await?.is_none() {
        // The nearest thing without the node.
        let name = pod.name();
        FAILURES.kubectl(&format!("delete pod {name} --grace-period=0 --force")).await?;
    }
    Ok(())
}
