//! Traces in the cluster: the component tracing, with a receiver of the tests in its collector's place.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::ensure;
use hyper::{Method, StatusCode};
use local_stack::http;
use serde_json::json;

use super::{Test, test};
use crate::{
    Result,
    cluster::{kubectl, until},
    schedule::Resource::Failures,
    system::{self, FAILURES, SERVICES, unique},
};

/// The component on the copy of staging; the receiver answers on the collector's ports.
const KUSTOMIZATION: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: stockyard-e2e-failures
resources: [../failures]
components: [../../../../kustomize/components/tracing]
images: [{name: otel/opentelemetry-collector, newName: e2e, newTag: 0.1.0}]
patches:
  - target: {kind: Deployment, name: otel-collector}
    patch: |-
      - {op: replace, path: /spec/template/spec/containers/0/args, value: [collect]}
      - {op: replace, path: /spec/template/spec/containers/0/imagePullPolicy, value: IfNotPresent}
      - {op: replace, path: /spec/template/spec/containers/0/resources/requests/cpu, value: 5m}
";

pub(super) fn tests() -> Vec<Test> {
    vec![test(
        "an_orders_trace_reaches_a_collector_from_all_three_services",
        &[Failures],
        240,
        trace,
    )]
}

async fn trace() -> Result<String> {
    FAILURES.deployed().await?;
    let folder = tempfile::Builder::new().prefix(".e2e-").tempdir_in("tests/e2e/environments")?;
    fs::write(folder.path().join("kustomization.yaml"), KUSTOMIZATION)?;
    let outcome = async {
        kubectl(&format!("apply -k {}", folder.path().display())).await?;
        FAILURES.all_ready().await?;
        traced().await
    }
    .await;
    FAILURES.apply().await?;
    let collector =
        "deployment,service,poddisruptionbudget -l app.kubernetes.io/name=otel-collector";
    FAILURES.kubectl(&format!("delete {collector}")).await?;
    FAILURES.kubectl("delete serviceaccount otel-collector-sa --ignore-not-found").await?;
    let policies = "otel-collector tracing tracing-metrics";
    FAILURES.kubectl(&format!("delete networkpolicy {policies} --ignore-not-found")).await?;
    FAILURES.all_ready().await?;
    outcome
}

async fn traced() -> Result<String> {
    let gateway = FAILURES.gateway().await?;
    let collector = FAILURES.forward("deployment/otel-collector :13133").await?;
    let key = unique();
    let trace = format!("{:032x}", u128::from_str_radix(&key, 16)?);
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [
        ("idempotency-key", key.as_str()),
        ("content-type", "application/json"),
        ("traceparent", &parent),
    ];
    let body = json!({"customer": key, "lines": [{"sku": "BOLT-M8", "quantity": 1}]}).to_string();
    let api = system::api(&gateway.url())?;
    let reply = api.send(Method::POST, "/api/v1/orders", &headers, body).await?;
    ensure!(reply.status == StatusCode::CREATED, "{} {}", reply.status, reply.text());
    until("all three services have sent spans of it", Duration::from_secs(60), async || {
        let seen = http::get(&format!("{}/seen/{trace}", collector.url())).await?.json();
        let seen: BTreeSet<_> =
            seen.as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
        Ok((seen == SERVICES.into()).then_some(()))
    })
    .await?;
    Ok(format!("trace {trace}: spans from {}", SERVICES.join(", ")))
}
