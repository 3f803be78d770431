//! The production overlay beside staging: deployed, upgraded and rolled back under load, its database's volume lost and
//! the backup restored.

use std::{
    fs::File,
    io::Read,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use local_stack::{crash::settle, http, laws::Counts};
use serde_json::json;
use tokio::{process::Command, time::sleep};

use super::{Test, rights, test};
use crate::{
    Result,
    cluster::{Forward, apply, kubectl},
    generator::{Report, SKU},
    load::{Kind, Load},
    schedule::Resource::{Production, Staging},
    system::{self, OURS, PRODUCTION, SERVICES, STAGING, unique},
};

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
        test("production_runs_beside_staging", &[Production, Staging], 240, beside_staging),
        test(
            "every_account_of_production_has_exactly_the_documented_rights",
            &[Production],
            240,
            its_rights,
        ),
        test(
            "production_is_upgraded_and_rolled_back_without_losing_an_order",
            &[Production],
            420,
            upgraded,
        ),
        test(
            "a_lost_volume_is_restored_from_a_backup_taken_under_load",
            &[Production],
            420,
            restored,
        ),
    ]
}

/// Production, with all that it needs, its autoscalers held still: the node has no room for more. Staging has one replica
/// of each service, and nothing that runs beside production puts load on it.
async fn deploy() -> Result<()> {
    STAGING.deployed().await?;
    if kubectl("get namespace production").await.is_err() {
        kubectl("create namespace production").await?;
        kubectl(&format!("label namespace production {OURS}=true")).await?;
    }
    let ours = kubectl(&format!("get namespaces -l {OURS} -o name")).await?;
    ensure!(
        ours.contains("namespace/production"),
        "there is a production here that these tests did not make: they would overwrite it"
    );
    for secret in ["postgres-admin", "orders-database", "inventory-database"] {
        if PRODUCTION.kubectl(&format!("get secret {secret}")).await.is_err() {
            let password = password()?;
            kubectl(&format!(
                "create secret generic {secret} -n production --from-literal=password={password}"
            ))
            .await?;
        }
    }
    // The same people and programs write to both.
    let keys = STAGING.get("secret api-keys").await?;
    let keys = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "api-keys", "namespace": "production"},
        "data": keys["data"],
    });
    apply(&keys.to_string()).await?;
    PRODUCTION.apply().await?;
    for service in SERVICES {
        PRODUCTION.pin(service, 2).await?;
    }
    PRODUCTION.all_ready().await
}

fn password() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

async fn beside_staging() -> Result<String> {
    STAGING.deployed().await?;
    STAGING.back_to_one().await?;
    let start = Instant::now();
    deploy().await?;
    let took = start.elapsed();
    for service in SERVICES {
        let deployment = PRODUCTION.get(&format!("deployment {service}")).await?;
        ensure!(deployment["status"]["readyReplicas"] == 2, "{service}: {}", deployment["status"]);
    }
    reads_need_a_key().await?;
    STAGING.all_ready().await?;
    Ok(format!(
        "two replicas of each service, ready after {:.1} s; no read without a key",
        took.as_secs_f64()
    ))
}

/// Without a key nothing is read; with one it is.
async fn reads_need_a_key() -> Result<()> {
    let forward = gateway().await?;
    let api = system::api(&forward.url())?;
    for path in ["/", "/api/v1/items", "/api/v1/orders", "/api/v1/topology"] {
        let without = http::get(&format!("{}{path}", forward.url())).await?;
        let is_refused = without.status == StatusCode::UNAUTHORIZED
            && without.json()["type"] == "/problems/unauthenticated";
        ensure!(is_refused, "{path} without a key: {} {}", without.status, without.text());
        let with = api.get(path).await?;
        let (status, text) = (with.status, with.text());
        ensure!(status == StatusCode::OK, "{path} with a key: {status} {text}");
    }
    Ok(())
}

async fn its_rights() -> Result<String> {
    deploy().await?;
    rights::rights_in("production").await
}

async fn upgraded() -> Result<String> {
    deploy().await?;
    stock().await?;
    let before = orders().await?;
    let load = Load::start(&PRODUCTION, &LIGHT).await?;
    sleep(Duration::from_secs(3)).await;
    let up = rolled(async |service| {
        let image = format!("{service}={REGISTRY}/{service}:{NEXT}");
        PRODUCTION.kubectl(&format!("set image deployment/{service} {image}")).await
    })
    .await?;
    let back = rolled(async |service| {
        PRODUCTION.kubectl(&format!("rollout undo deployment/{service}")).await
    })
    .await?;
    PRODUCTION.all_ready().await?;
    sleep(Duration::from_secs(3)).await;
    let placed = placed_without_failure(load).await?;
    let counts = lawful().await?;
    let kept = orders().await? - before;
    ensure!(kept == placed, "{placed} orders were placed, and {kept} are there");
    let deployment = PRODUCTION.get("deployment orders").await?;
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    ensure!(*image == format!("{REGISTRY}/orders:0.1.0"), "it was not rolled back: {image}");
    Ok(format!(
        "upgraded in {:.0} s, rolled back in {:.0} s; {placed} orders placed meanwhile, none lost: {counts:?}",
        up.as_secs_f64(),
        back.as_secs_f64()
    ))
}

/// Stops a load of which no request may have failed; gives how many orders it placed.
async fn placed_without_failure(load: Load) -> Result<u64> {
    let reports = load.stop().await?;
    let failed: u64 = reports.iter().map(Report::failures).sum();
    ensure!(failed == 0, "{failed} requests failed: {reports:?}");
    Ok(reports.iter().map(|report| report.orders).sum())
}

/// Changes one service after the other, each once the one before is whole again.
async fn rolled(change: impl AsyncFn(&str) -> Result<String>) -> Result<Duration> {
    let start = Instant::now();
    for service in SERVICES {
        change(service).await?;
        PRODUCTION.rolled_out(service).await?;
    }
    Ok(start.elapsed())
}

/// Production begins empty: an item, and enough of it.
async fn stock() -> Result<()> {
    let forward = gateway().await?;
    let item =
        json!({"name": "Hex bolt", "unit_price": {"minor": 35, "currency": "EUR"}}).to_string();
    let headers = [("content-type", "application/json")];
    let api = system::api(&forward.url())?;
    let reply = api.send(Method::PUT, &format!("/api/v1/items/{SKU}"), &headers, item).await?;
    let is_there = [StatusCode::CREATED, StatusCode::OK].contains(&reply.status);
    ensure!(is_there, "the item: {} {}", reply.status, reply.text());
    system::receive(&forward.url(), SKU, 100_000).await
}

async fn gateway() -> Result<Forward> {
    PRODUCTION.gateway().await
}

/// How many orders production has.
async fn orders() -> Result<u64> {
    let (databases, _forward) = PRODUCTION.databases().await?;
    let row = databases.orders.query_one("SELECT count(*) FROM orders", &[]).await?;
    Ok(u64::try_from(row.get::<_, i64>(0))?)
}

/// Waits until nothing is under way; then the law must hold.
async fn lawful() -> Result<Counts> {
    let (databases, _forward) = PRODUCTION.databases().await?;
    let forward = gateway().await?;
    settle(&system::api(&forward.url())?, &databases, &[]).await
}

/// An order that was confirmed.
async fn confirmed() -> Result<String> {
    let forward = gateway().await?;
    let reply = system::place(&forward.url(), &unique(), SKU, 1).await?;
    ensure!(system::is_confirmed(&reply), "{} {}", reply.status, reply.text());
    reply.json()["id"].as_str().map(str::to_owned).context("an order has an id")
}

async fn restored() -> Result<String> {
    deploy().await?;
    stock().await?;
    // Of a run before.
    PRODUCTION.kubectl("delete job backup-now restore-1 --ignore-not-found").await?;
    let load = Load::start(&PRODUCTION, &LIGHT).await?;
    let before = confirmed().await?;
    let start = Instant::now();
    commands("## Make one now").await?;
    let backup = start.elapsed();
    let after = confirmed().await?;
    placed_without_failure(load).await?;
    let had = orders().await?;

    let lost = PRODUCTION.get("pvc data-postgres-0").await?;
    let start = Instant::now();
    commands("## When the volume is lost").await?;
    let volume = PRODUCTION.get("pvc data-postgres-0").await?;
    ensure!(volume["spec"]["volumeName"] != lost["spec"]["volumeName"], "it is the same volume");
    ensure!(tables().await? == 0, "the volume was not lost: the database has tables");
    commands("## Restore").await?;
    PRODUCTION.all_ready().await?;
    confirmed().await?;
    let took = start.elapsed();

    let (is_there, is_later) = (has(&before).await?, has(&after).await?);
    ensure!(is_there, "the order {before}, placed before the backup, is lost");
    ensure!(!is_later, "the order {after}, placed after the backup, is there: nothing was lost");
    let counts = lawful().await?;
    let has = orders().await?;
    kubectl("delete namespace production --timeout=120s").await?;
    Ok(format!(
        "backup in {:.1} s, {had} orders before the loss, {has} afterwards ({counts:?}), {:.0} s from an empty volume to an order placed",
        backup.as_secs_f64(),
        took.as_secs_f64()
    ))
}

async fn tables() -> Result<i64> {
    let (databases, _forward) = PRODUCTION.databases().await?;
    let count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    Ok(databases.orders.query_one(count, &[]).await?.get(0))
}

async fn has(order: &str) -> Result<bool> {
    let forward = gateway().await?;
    let reply = system::api(&forward.url())?.get(&format!("/api/v1/orders/{order}")).await?;
    ensure!([StatusCode::OK, StatusCode::NOT_FOUND].contains(&reply.status), "{}", reply.text());
    Ok(reply.status == StatusCode::OK)
}

/// Runs the commands of docs/backup.md below a heading as they stand there.
async fn commands(heading: &str) -> Result<()> {
    let page = system::page("backup.md")?;
    let block = page
        .split_once(&format!("{heading}\n"))
        .and_then(|(_, rest)| rest.split_once("```sh\n"))
        .and_then(|(_, rest)| rest.split_once("```"))
        .map(|(block, _)| block)
        .with_context(|| format!("docs/backup.md has no commands below {heading:?}"))?;
    let done = Command::new("sh")
        .args(["-exc", block])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(done.status.success(), "{heading}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
