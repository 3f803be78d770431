//! How requests of warm clients are shared among the replicas of a service.

use std::time::Duration;

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use local_stack::http;
use serde_json::json;
use tokio::time::sleep;

use super::{Test, test};
use crate::{
    Result,
    cluster::Forward,
    load::{Kind, Load},
    schedule::Resource::{Cpus, Disruptions},
    system::DISRUPTIONS,
};

/// With [`LATENCY_MS`] these are 36 requests in flight, each on a connection of its own between gateway and inventory. A
/// Service gives each new connection to any replica: with so many, replaced several times in a minute, chance plays no part.
const READS: Kind = Kind { new_connections: false, rate: 300, orders_every: 0 };
const LATENCY_MS: u64 = 120;
/// The route that is read.
const ROUTE: &str = "/v1/items/{sku}";
/// The maximum age of the gateway's connections.
const MAX_AGE: Duration = Duration::from_secs(12);
/// How long requests are counted.
const COUNTED: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![test(
        "new_replicas_get_their_share_of_warm_clients_requests",
        &[Disruptions, Cpus],
        420,
        new_replicas,
    )]
}

async fn new_replicas() -> Result<String> {
    DISRUPTIONS.deployed().await?;
    DISRUPTIONS.kubectl("set env deployment/inventory FAULTS=on").await?;
    DISRUPTIONS.set_all_replicas(1).await?;
    slow_down(&admin_listeners().await?).await?;
    let load = Load::start(&DISRUPTIONS, &[READS]).await?;
    sleep(MAX_AGE).await; // the gateway has as many connections as it needs
    DISRUPTIONS.set_replicas("inventory", 3).await?;
    let replicas = admin_listeners().await?;
    slow_down(&replicas).await?;
    sleep(MAX_AGE).await;
    let before = counts(&replicas).await?;
    sleep(COUNTED).await;
    let after = counts(&replicas).await?;
    let reports = load.stop().await?;
    DISRUPTIONS.kubectl("set env deployment/inventory FAULTS-").await?;
    DISRUPTIONS.back_to_one().await?;
    let counts: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    let all: f64 = counts.iter().sum();
    let shares: Vec<_> = counts.iter().map(|count| (count / all * 100.0).round()).collect();
    let enough = f64::from(READS.rate) * COUNTED.as_secs_f64() / 2.0;
    ensure!(all > enough, "{all} requests are no load");
    ensure!(counts.len() == 3 && shares.iter().all(|share| *share >= 20.0), "percent: {shares:?}");
    ensure!(reports[0].failures() == 0, "requests failed: {:?}", reports[0].failed);
    Ok(format!("percent of {all} requests by replica of inventory: {shares:?}"))
}

/// The admin listeners of inventory's pods.
async fn admin_listeners() -> Result<Vec<Forward>> {
    let mut listeners = Vec::new();
    for pod in DISRUPTIONS.pods_of("inventory").await? {
        listeners.push(DISRUPTIONS.forward(&format!("pod/{} :9090", pod.name())).await?);
    }
    Ok(listeners)
}

/// Has each replica answer late, so that many requests are in flight.
async fn slow_down(replicas: &[Forward]) -> Result<()> {
    let fault = json!({"route": ROUTE, "latency_ms": LATENCY_MS, "ttl_seconds": 600}).to_string();
    for replica in replicas {
        let url = format!("{}/faults", replica.url());
        let headers = [("content-type", "application/json")];
        let reply = http::send(Method::PUT, &url, &headers, fault.clone()).await?;
        ensure!(reply.status == StatusCode::OK, "the fault: {} {}", reply.status, reply.text());
    }
    Ok(())
}

/// How many requests each replica has answered.
async fn counts(replicas: &[Forward]) -> Result<Vec<f64>> {
    let route = format!("route=\"{ROUTE}\"");
    let mut counts = Vec::new();
    for replica in replicas {
        let metrics = http::get(&format!("{}/metrics", replica.url())).await?.text();
        let mut count = 0.0;
        for line in metrics.lines() {
            if line.starts_with("http_request_duration_seconds_count{") && line.contains(&route) {
                let value = line.rsplit(' ').next().context("a sample has a value")?;
                count += value.parse::<f64>()?;
            }
        }
        counts.push(count);
    }
    Ok(counts)
}
