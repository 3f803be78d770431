//! The production overlay beside staging: deployed, upgraded and rolled back under load.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hyper::{Method, StatusCode};
use local_stack::http;
use serde_json::json;
use tokio::time::sleep;

use super::{Test, test};
use crate::{
    Result,
    cluster::{PortForward, apply, get, kubectl, until},
    load::{Kind, Load},
    system::{self, SERVICES, all_ready_in, databases_in, unique},
};

const OVERLAY: &str = "kustomize/overlays/production";
/// Where production's images come from, and the version after the one that is deployed. The registry of tests/cluster has
/// the same images by both tags once they are pushed to 127.0.0.1:5000/stockyard, the second time with TAG=0.1.1.
const REGISTRY: &str = "registry.example.com/stockyard";
const NEXT: &str = "0.1.1";
/// A light load: the node has two environments.
const LIGHT: [Kind; 2] = [
    Kind { new_connections: false, rate: 80, orders_every: 4 },
    Kind { new_connections: true, rate: 40, orders_every: 4 },
];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("production_runs_beside_staging", 240, beside_staging),
        test("production_is_upgraded_and_rolled_back_without_losing_an_order", 420, upgraded),
    ]
}

async fn deploy() -> Result<()> {
    apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: production}\n").await?;
    for secret in ["postgres-admin", "orders-database", "inventory-database"] {
        if kubectl(&format!("get secret {secret} -n production")).await.is_err() {
            let password = unique();
            kubectl(&format!(
                "create secret generic {secret} -n production --from-literal=password={password}"
            ))
            .await?;
        }
    }
    kubectl(&format!("apply -k {OVERLAY}")).await?;
    all_ready_in("production").await
}

async fn beside_staging() -> Result<String> {
    system::deployed().await?;
    system::back_to_one().await?;
    let start = Instant::now();
    deploy().await?;
    let took = start.elapsed();
    for service in SERVICES {
        let deployment = get(&format!("deployment {service} -n production")).await?;
        ensure!(deployment["status"]["readyReplicas"] == 2, "{service}: {}", deployment["status"]);
    }
    system::all_ready().await?;
    Ok(format!("two replicas of each service, ready after {:.1} s", took.as_secs_f64()))
}

async fn upgraded() -> Result<String> {
    system::deployed().await?;
    deploy().await?;
    let sku = "BOLT-M8"; // what the load orders
    stock(sku).await?;
    let load = Load::start_at("production", &LIGHT).await?;
    sleep(Duration::from_secs(3)).await;
    let start = Instant::now();
    for service in SERVICES {
        kubectl(&format!(
            "set image deployment/{service} {service}={REGISTRY}/{service}:{NEXT} -n production"
        ))
        .await?;
        kubectl(&format!("rollout status deployment/{service} -n production --timeout=90s"))
            .await?;
    }
    let up = start.elapsed();
    let start = Instant::now();
    for service in SERVICES {
        kubectl(&format!("rollout undo deployment/{service} -n production")).await?;
        kubectl(&format!("rollout status deployment/{service} -n production --timeout=90s"))
            .await?;
    }
    let back = start.elapsed();
    all_ready_in("production").await?;
    sleep(Duration::from_secs(3)).await;
    let reports = load.stop().await?;
    let failed: u64 = reports.iter().map(crate::generator::Report::failures).sum();
    ensure!(failed == 0, "{failed} requests failed: {reports:?}");
    let placed: u64 = reports.iter().map(|report| report.orders).sum();
    let (databases, _forward) = databases_in("production").await?;
    until("nothing is under way", Duration::from_secs(90), async || {
        Ok(databases.at_rest().await?.then_some(()))
    })
    .await?;
    let (breaches, counts) = databases.breaches().await?;
    ensure!(breaches.is_empty(), "the law is broken: {breaches:?}");
    let kept: i64 = databases
        .orders
        .query_one("SELECT count(*) FROM orders WHERE customer LIKE 'load-%'", &[])
        .await?
        .get(0);
    ensure!(u64::try_from(kept)? >= placed, "{placed} orders were confirmed, and {kept} are there");
    let image = get("deployment orders -n production").await?;
    let image = &image["spec"]["template"]["spec"]["containers"][0]["image"];
    ensure!(*image == format!("{REGISTRY}/orders:0.1.0"), "it was not rolled back: {image}");
    Ok(format!(
        "upgraded in {:.0} s, rolled back in {:.0} s; {placed} orders placed meanwhile, none lost: {counts:?}",
        up.as_secs_f64(),
        back.as_secs_f64()
    ))
}

/// Production begins empty: an item, and enough of it.
async fn stock(sku: &str) -> Result<()> {
    let forward = PortForward::open("svc/api-gateway :80 -n production").await?;
    let item =
        json!({"name": "Hex bolt", "unit_price": {"minor": 35, "currency": "EUR"}}).to_string();
    let headers = [("content-type", "application/json")];
    let url = format!("{}/api/v1/items/{sku}", forward.url());
    let reply = http::send(Method::PUT, &url, &headers, item).await?;
    let is_there = [StatusCode::CREATED, StatusCode::OK].contains(&reply.status);
    ensure!(is_there, "the item: {} {}", reply.status, reply.text());
    system::receive(&forward.url(), sku, 100_000).await
}
