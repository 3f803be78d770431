//! What a cluster does to pods every day must fail no request. Under load all the while: from pooled connections and on
//! new ones, reads and orders, each sent once.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use tokio::time::sleep;

use super::{Test, test};
use crate::{
    Result,
    cluster::kubectl,
    generator::Report,
    load::{self, BOTH, Load},
    schedule::Resource,
    system::{self, DISRUPTIONS, SERVICES},
};

const NEEDS: &[Resource] = &[Resource::Disruptions, Resource::Cpus];
/// How long the load goes on before and after what happens.
const CALM: Duration = Duration::from_secs(3);
/// Requests that all of these tests together must have seen.
const ENOUGH: u64 = 100_000;

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("no_request_fails_while_the_gateway_is_restarted", NEEDS, 240, || {
            restarted("api-gateway")
        }),
        test("no_request_fails_while_orders_is_restarted", NEEDS, 240, || restarted("orders")),
        test("no_request_fails_while_inventory_is_restarted", NEEDS, 240, || {
            restarted("inventory")
        }),
        test("no_request_fails_while_replicas_come_and_go", NEEDS, 180, scaled),
        test("no_request_fails_while_pods_are_deleted", NEEDS, 240, deleted),
        test("no_request_fails_while_the_gateway_is_drained", NEEDS, 240, || {
            drained("api-gateway")
        }),
        test("no_request_fails_while_orders_is_drained", NEEDS, 240, || drained("orders")),
        test("no_request_fails_while_inventory_is_drained", NEEDS, 240, || drained("inventory")),
        test("these_were_a_hundred_thousand_requests", NEEDS, 1, enough),
        test("requests_do_fail_without_time_to_leave", NEEDS, 180, negative_control),
    ]
}

/// The system with two replicas of each service and enough stock.
pub(super) async fn ready() -> Result<()> {
    DISRUPTIONS.deployed().await?;
    DISRUPTIONS.set_all_replicas(2).await?;
    let gateway = DISRUPTIONS.gateway().await?;
    system::receive(&gateway.url(), "BOLT-M8", 100_000).await
}

/// Lets something happen under load; gives what the clients saw.
async fn under_load(event: impl AsyncFnOnce() -> Result<()>) -> Result<(Vec<Report>, Duration)> {
    let load = Load::start(&DISRUPTIONS, &BOTH).await?;
    sleep(CALM).await;
    let start = Instant::now();
    event().await?;
    DISRUPTIONS.all_ready().await?; // the last pod that was to go is gone
    let took = start.elapsed();
    sleep(CALM).await;
    Ok((load.stop().await?, took))
}

/// As above; no request may have failed.
pub(super) async fn without_loss(event: impl AsyncFnOnce() -> Result<()>) -> Result<String> {
    let (reports, took) = under_load(event).await?;
    let mut told = Vec::new();
    for (kind, report) in ["pooled", "new"].iter().zip(&reports) {
        ensure!(
            report.failures() == 0,
            "{} of {} requests on {kind} connections failed: {:?}",
            report.failures(),
            report.requests,
            report.failed
        );
        ensure!(report.requests > 1000, "{} requests are no load", report.requests);
        load::count(report);
        told.push(format!("{} {kind} (p99 {:.0} ms)", report.requests, report.p99_ms));
    }
    Ok(format!("{:.0} s, requests: {}", took.as_secs_f64(), told.join(", ")))
}

/// As above; what happens must leave none of a service's pods, of which there are two before.
async fn replaced(
    service: &'static str,
    event: impl AsyncFnOnce() -> Result<()>,
) -> Result<String> {
    ready().await?;
    let before = DISRUPTIONS.pods_of(service).await?;
    let measured = without_loss(event).await?;
    let after = DISRUPTIONS.pods_of(service).await?;
    let stayed = after.iter().any(|pod| before.iter().any(|old| old.uid() == pod.uid()));
    ensure!(!stayed, "a pod of before is still there");
    Ok(measured)
}

/// Replaces a service's pods one after the other, as a new version would.
pub(super) async fn restart(service: &str) -> Result<()> {
    DISRUPTIONS.kubectl(&format!("rollout restart deployment/{service}")).await?;
    DISRUPTIONS.rolled_out(service).await
}

async fn restarted(service: &'static str) -> Result<String> {
    replaced(service, async || restart(service).await).await
}

async fn scaled() -> Result<String> {
    ready().await?;
    without_loss(async || {
        for count in [4, 1, 2] {
            DISRUPTIONS.set_all_replicas(count).await?;
        }
        Ok(())
    })
    .await
}

async fn deleted() -> Result<String> {
    ready().await?;
    without_loss(async || {
        for service in SERVICES {
            let pods = DISRUPTIONS.pods_of(service).await?;
            DISRUPTIONS.kubectl(&format!("delete pod {}", pods[0].name())).await?;
        }
        Ok(())
    })
    .await
}

/// Evicts all pods of a service from their nodes, as before a node is taken away. The budget for disruptions must hold
/// the second pod back until the first is replaced; the nodes are made schedulable again at once, since there may be
/// no other.
async fn drained(service: &'static str) -> Result<String> {
    replaced(service, async || {
        let nodes = DISRUPTIONS.nodes_of(service).await?;
        let names = nodes.into_iter().collect::<Vec<_>>().join(" ");
        let drain = format!(
            "drain {names} --pod-selector=app.kubernetes.io/name={service} --ignore-daemonsets --delete-emptydir-data --timeout=90s"
        );
        let uncordon = async {
            loop {
                sleep(Duration::from_millis(500)).await;
                let _ = kubectl(&format!("uncordon {names}")).await;
            }
        };
        let output = tokio::select! {
            output = kubectl(&drain) => output?,
            () = uncordon => String::new(),
        };
        kubectl(&format!("uncordon {names}")).await?;
        ensure!(output.contains("evicted"), "nothing was evicted: {output}");
        Ok(())
    })
    .await
}

async fn enough() -> Result<String> {
    let counted = load::counted();
    ensure!(counted >= ENOUGH, "{counted} requests only; this test follows those before it");
    Ok(format!("{counted} requests, 0 failed"))
}

/// The same restart without the waits: none before the end signal (preStop), none after it (`SHUTDOWN_DELAY`), and a grace
/// of one second. If no request failed then either, the tests above would prove nothing.
async fn negative_control() -> Result<String> {
    ready().await?;
    let remove = json!([
        {"op": "remove", "path": "/spec/template/spec/containers/0/lifecycle"},
        {"op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 1},
    ]);
    DISRUPTIONS.patch("deployment api-gateway", &remove).await?;
    DISRUPTIONS.kubectl("set env deployment/api-gateway SHUTDOWN_DELAY=0s").await?;
    DISRUPTIONS.all_ready().await?;
    let (reports, _) = under_load(async || restart("api-gateway").await).await?;
    DISRUPTIONS.kubectl("set env deployment/api-gateway SHUTDOWN_DELAY-").await?;
    DISRUPTIONS.apply().await?;
    DISRUPTIONS.all_ready().await?;
    let failed: Vec<_> = reports.iter().map(Report::failures).collect();
    ensure!(
        failed.iter().sum::<u64>() > 0,
        "no request failed: the other tests would prove nothing"
    );
    Ok(format!("{} on pooled and {} on new connections failed", failed[0], failed[1]))
}
