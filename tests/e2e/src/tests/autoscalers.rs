//! The autoscalers, on what metrics-server measures.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hyper::Method;
use local_stack::http;
use serde_json::{Value, json};

use super::{Test, test};
use crate::{
    Result,
    cluster::until,
    load::{Kind, Load},
    schedule::{
        Resource::{Cpus, Staging},
        release,
    },
    system::{self, Pod, SERVICES, STAGING, unique},
    token,
};

/// What drives the gateway well above half of the CPU that five replicas request.
const HEAVY: [Kind; 2] = [
    Kind { new_connections: false, rate: 1000, orders_every: 0 },
    Kind { new_connections: true, rate: 700, orders_every: 0 },
];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(
            "the_gateway_goes_from_one_replica_to_five_under_load_and_back",
            &[Staging, Cpus],
            480,
            one_to_five,
        ),
        test(
            "the_vertical_autoscaler_recommends_and_changes_no_pod",
            &[Staging],
            240,
            recommendations,
        ),
    ]
}

async fn one_to_five() -> Result<String> {
    STAGING.deployed().await?;
    until("metrics-server measures the gateway", Duration::from_secs(90), async || {
        let scaler = STAGING.get("hpa api-gateway").await?;
        let is_measured =
            scaler["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"]
                .is_u64();
        Ok((is_measured && ready("api-gateway").await?.len() == 1).then_some(()))
    })
    .await?;
    // The overlay's own patience would be three minutes of waiting.
    let soon = json!({"stabilizationWindowSeconds": 15, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 10}]});
    let soon = json!([{"op": "replace", "path": "/spec/behavior/scaleDown", "value": soon}]);
    STAGING.patch("hpa api-gateway", &soon).await?;
    let start = Instant::now();
    let load = Load::start(&STAGING, &HEAVY).await?;
    until("there are five replicas", Duration::from_secs(150), async || {
        Ok((ready("api-gateway").await?.len() == 5).then_some(()))
    })
    .await?;
    let up = start.elapsed();
    let replicas = same_stock().await?;
    let reports = load.stop().await?;
    release(Cpus);
    let (requests, failed) = reports.iter().fold((0, 0), |(requests, failed), report| {
        (requests + report.requests, failed + report.failures())
    });
    let start = Instant::now();
    until("there is one replica again", Duration::from_secs(300), async || {
        let pods = STAGING.pods_of("api-gateway").await?;
        Ok((pods.len() == 1 && !pods[0].is_ending()).then_some(()))
    })
    .await?;
    let back = start.elapsed();
    STAGING.apply().await?;
    Ok(format!(
        "1 to 5 in {:.0} s, back to 1 {:.0} s after the load; {requests} requests, {failed} failed; {replicas} replicas of inventory had the same stock",
        up.as_secs_f64(),
        back.as_secs_f64()
    ))
}

async fn ready(service: &str) -> Result<Vec<Pod>> {
    let pods = STAGING.pods_of(service).await?;
    Ok(pods.into_iter().filter(|pod| pod.is_ready() && !pod.is_ending()).collect())
}

/// An order through one replica of the gateway; what is left is the same by every replica of inventory, of which there
/// are at least two.
async fn same_stock() -> Result<usize> {
    let gateway = STAGING.gateway().await?;
    let sku = "LATCH-GATE"; // nobody else orders it now
    let before =
        system::item(&gateway.url(), sku).await?["on_hand"].as_u64().context("no stock")?;
    let reply = system::place(&gateway.url(), &unique(), sku, 1).await?;
    ensure!(reply.json()["status"] == "confirmed", "{}", reply.text());
    STAGING.set_replicas("inventory", 3).await?;
    let pods = ready("inventory").await?;
    let token = token::of(STAGING.namespace, "gateway-sa", Some("stockyard-inventory")).await?;
    let authorization = format!("Bearer {token}");
    for pod in &pods {
        let forward = STAGING.forward(&format!("pod/{} :8080", pod.name())).await?;
        let url = format!("{}/v1/items/{sku}", forward.url());
        let headers = [("authorization", &*authorization)];
        let item = http::send(Method::GET, &url, &headers, "").await?.json();
        ensure!(
            item["on_hand"] == before - 1,
            "{} has {item}, and {before} were there before",
            pod.name()
        );
    }
    Ok(pods.len())
}

async fn recommendations() -> Result<String> {
    STAGING.deployed().await?;
    as_deployed().await?;
    let targets =
        until("there is a recommendation for each service", Duration::from_secs(90), async || {
            let list = STAGING.get("vpa").await?;
            let recommended = |vpa: &Value| {
                let target =
                    &vpa["status"]["recommendation"]["containerRecommendations"][0]["target"];
                let name = vpa["metadata"]["name"].as_str()?.to_owned();
                Some((name, format!("{} {}", target["cpu"].as_str()?, target["memory"].as_str()?)))
            };
            let found: BTreeMap<_, _> = list["items"]
                .as_array()
                .context("no list")?
                .iter()
                .filter_map(recommended)
                .collect();
            Ok((SERVICES.iter().all(|service| found.contains_key(*service))).then_some(found))
        })
        .await?;
    // An updater would evict pods, or change what they ask for.
    tokio::time::sleep(Duration::from_secs(20)).await;
    as_deployed().await?;
    let events = STAGING.kubectl("get events --field-selector reason=EvictedByVPA").await?;
    ensure!(events.is_empty(), "pods were evicted: {events}");
    Ok(format!("{targets:?}"))
}

/// Every pod asks for what its Deployment says.
async fn as_deployed() -> Result<()> {
    for service in SERVICES {
        let deployment = STAGING.get(&format!("deployment {service}")).await?;
        let resources = &deployment["spec"]["template"]["spec"]["containers"][0]["resources"];
        for pod in STAGING.pods_of(service).await? {
            ensure!(pod.resources() == resources, "{} asks for {}", pod.name(), pod.resources());
        }
    }
    Ok(())
}
