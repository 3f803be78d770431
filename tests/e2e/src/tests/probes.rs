//! What the kubelet does about a service that hangs or is not ready.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use local_stack::http;
use serde_json::json;

use super::{Test, test};
use crate::{Result, cluster::until, schedule::Resource::Failures, system::FAILURES};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("a_frozen_service_is_restarted_by_the_kubelet", &[Failures], 180, frozen),
        test("no_traffic_reaches_a_pod_that_is_not_ready", &[Failures], 240, not_ready),
    ]
}

/// Its runtime is blocked, as by a deadlock: the process lives and its port is open, only /health tells.
async fn frozen() -> Result<String> {
    FAILURES.deployed().await?;
    FAILURES.back_to_one().await?;
    FAILURES.kubectl("set env deployment/inventory FAULTS=on").await?;
    FAILURES.all_ready().await?;
    let pod = FAILURES.pod_of("inventory").await?;
    let forward = FAILURES.forward(&format!("pod/{} :9090", pod.name())).await?;
    let freeze = json!({"route": "*", "freeze_ms": 60_000, "ttl_seconds": 60}).to_string();
    let headers = [("content-type", "application/json")];
    let url = format!("{}/faults", forward.url());
    let start = Instant::now();
    let reply = http::send(Method::PUT, &url, &headers, freeze).await?;
    ensure!(reply.status == StatusCode::OK, "the fault: {} {}", reply.status, reply.text());
    until("the kubelet starts it again", Duration::from_secs(60), async || {
        let now = FAILURES.pod_of("inventory").await?;
        Ok((now.uid() == pod.uid() && now.restarts() == 1 && now.is_ready()).then_some(()))
    })
    .await?;
    let took = start.elapsed();
    let events = FAILURES
        .kubectl(&format!("get events --field-selector involvedObject.name={}", pod.name()))
        .await?;
    ensure!(events.contains("Liveness probe failed"), "the kubelet gives another reason: {events}");
    FAILURES.kubectl("set env deployment/inventory FAULTS-").await?;
    FAILURES.all_ready().await?;
    Ok(format!("frozen, found, started again and ready after {:.1} s", took.as_secs_f64()))
}

/// PostgreSQL is held back: orders starts, says why it is not ready, and is in no Service's list until it is.
async fn not_ready() -> Result<String> {
    FAILURES.deployed().await?;
    FAILURES.back_to_one().await?;
    FAILURES.kubectl("scale statefulset/postgres --replicas=0").await?;
    until("PostgreSQL is gone", Duration::from_secs(90), async || {
        Ok(FAILURES.pods_of("postgres").await?.is_empty().then_some(()))
    })
    .await?;
    let old = FAILURES.pod_of("orders").await?;
    FAILURES.kubectl(&format!("delete pod {}", old.name())).await?;
    let pod = until("the new pod runs", Duration::from_secs(60), async || {
        let pod = FAILURES.pod_of("orders").await?;
        Ok((pod.uid() != old.uid() && pod.container_id().is_some()).then_some(pod))
    })
    .await?;
    let forward = until("its admin port answers", Duration::from_secs(30), async || {
        let forward = FAILURES.forward(&format!("pod/{} :9090", pod.name())).await?;
        let alive = http::get(&format!("{}/health", forward.url())).await?;
        Ok((alive.status == StatusCode::OK).then_some(forward))
    })
    .await?;
    let reply = http::get(&format!("{}/ready", forward.url())).await?;
    ensure!(
        reply.status == StatusCode::SERVICE_UNAVAILABLE,
        "it says {} {}",
        reply.status,
        reply.text()
    );
    ensure!(endpoints("orders").await? == 0, "it is among the Service's endpoints");
    let reasons = reply.json()["reasons"].to_string();
    let start = Instant::now();
    FAILURES.kubectl("scale statefulset/postgres --replicas=1").await?;
    until("it is ready and among the endpoints", Duration::from_secs(90), async || {
        Ok((FAILURES.pod_of("orders").await?.is_ready() && endpoints("orders").await? == 1)
            .then_some(()))
    })
    .await?;
    FAILURES.all_ready().await?;
    Ok(format!(
        "held back with {reasons}; ready {:.1} s after PostgreSQL was let go",
        start.elapsed().as_secs_f64()
    ))
}

/// How many addresses a Service sends requests to.
async fn endpoints(service: &str) -> Result<usize> {
    let slices =
        FAILURES.get(&format!("endpointslices -l kubernetes.io/service-name={service}")).await?;
    let slices = slices["items"].as_array().context("no list")?.clone();
    let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
    Ok(endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count())
}
