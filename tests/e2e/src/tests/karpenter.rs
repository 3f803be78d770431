//! Nodes that come and go: the component karpenter, with Karpenter's own simulated provider in AWS' place
//! (tests/e2e/karpenter). What decides is real, Karpenter and the scheduler; machines and their kubelets are not.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Test, test};
use crate::{
    Result,
    cluster::{apply, get, kubectl, patch, until},
    evidence,
    schedule::Resource::Karpenter,
};

/// The component, the provider, and the namespace of all that is in one.
const KUSTOMIZATION: &str = "tests/e2e/karpenter";
/// That namespace.
const NAMESPACE: &str = "stockyard-e2e-karpenter";
/// What Karpenter made.
const MADE: &str = "-l karpenter.sh/nodepool=stockyard";
/// How long anything else may take than taking away a node.
const SOON: Duration = Duration::from_secs(45);
/// How long that may take. Karpenter may leave a node in peace for 20 s after it meant pods for it, and for
/// `consolidateAfter` (5 s) after the last of them; it looks every 10 s, and once more 15 s later before it acts; some
/// seconds go until the node is drained.
const GONE: Duration = Duration::from_secs(90);
/// How long an underused node has to stay: longer than all of these together.
const HELD: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(
            "karpenter_adds_a_node_for_pods_that_do_not_fit_and_takes_it_away",
            &[Karpenter],
            400,
            comes_and_goes,
        ),
        test("karpenter_heeds_a_disruption_budget", &[Karpenter], 600, heeds_a_budget),
    ]
}

async fn comes_and_goes() -> Result<String> {
    with_karpenter(async || {
        let up = pods("first", 6).await?;
        let nodes = nodes().await?;
        ensure!(!nodes.is_empty(), "the pods run, and not on a node of Karpenter's");
        let start = Instant::now();
        pods("first", 0).await?;
        // The second budget is in force, and lets empty nodes go.
        until("the empty nodes are gone", GONE, async || {
            Ok(self::nodes().await?.is_empty().then_some(()))
        })
        .await?;
        let kinds: Vec<_> = nodes.into_values().collect();
        Ok(format!(
            "6 pods of 1 CPU ran after {:.1} s on {}, which was gone {:.0} s after them",
            up.as_secs_f64(),
            kinds.join(" and "),
            start.elapsed().as_secs_f64()
        ))
    })
    .await
}

/// Two nodes with a pod each, which would have room on one of them: both stay while the budget says so. That one goes
/// as soon as it does not, and sooner than they had to stay, is the control.
async fn heeds_a_budget() -> Result<String> {
    with_karpenter(async || {
        pods("first", 1).await?;
        pods("second", 6).await?;
        pods("second", 1).await?;
        let before = until("two nodes are left, and none is empty", GONE, async || {
            let nodes = nodes().await?;
            Ok((nodes.len() == 2).then_some(nodes))
        })
        .await?;
        until("Karpenter says that it could take both", SOON, async || {
            let claims = get(&format!("nodeclaims {MADE}")).await?;
            let claims = claims["items"].as_array().context("no list")?;
            Ok(claims.iter().all(is_consolidatable).then_some(()))
        })
        .await?;
        sleep(HELD).await;
        let held = nodes().await?;
        ensure!(held == before, "there were {before:?}, and in spite of the budget {held:?}");

        let start = Instant::now();
        let lift = json!([{"op": "remove", "path": "/spec/disruption/budgets/1"}]);
        patch("nodepool stockyard", &lift).await?;
        until("one node is left", HELD, async || {
            let left = nodes().await?;
            Ok((left.len() == 1 && left.keys().all(|node| before.contains_key(node))).then_some(()))
        })
        .await?;
        let went = start.elapsed();
        all_run("first", 1).await?;
        all_run("second", 1).await?;
        Ok(format!(
            "two underused nodes stayed for {HELD:?}, one was gone {:.0} s after the budget",
            went.as_secs_f64()
        ))
    })
    .await
}

fn is_consolidatable(claim: &Value) -> bool {
    let mut conditions = claim["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|found| found["type"] == "Consolidatable" && found["status"] == "True")
}

/// With Karpenter in the cluster, and without it afterwards, whatever happens.
async fn with_karpenter(event: impl AsyncFnOnce() -> Result<String>) -> Result<String> {
    if kubectl(&format!("get namespace {NAMESPACE}")).await.is_ok() {
        remove().await?; // a run that was cut off has left it
    }
    let others = kubectl("get nodepools -o name").await?;
    ensure!(others.is_empty(), "there is a Karpenter already, with {others}");
    let outcome = async {
        kubectl(&format!("apply -k {KUSTOMIZATION}")).await?;
        for program in ["kwok", "karpenter"] {
            let status =
                format!("rollout status deployment/{program} -n {NAMESPACE} --timeout=30s");
            kubectl(&status).await?;
        }
        event().await
    }
    .await;
    if outcome.is_err() {
        let _ = evidence::keep("karpenter", &[NAMESPACE.to_owned()]).await; // what failed is told in any case
    }
    let removed = remove().await;
    let measured = outcome?;
    removed?;
    Ok(measured)
}

/// So many pods of one CPU, of which nothing runs: until all of them are ready, and no others there. Gives how long it
/// took. A node of two CPUs has room for one of them, since 100m of it are the system's.
async fn pods(name: &str, count: u64) -> Result<Duration> {
    let start = Instant::now();
    apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  replicas: {count}
  selector: {{matchLabels: {{app.kubernetes.io/name: {name}}}}}
  template:
    metadata: {{labels: {{app.kubernetes.io/name: {name}}}}}
    spec:
      nodeSelector: {{karpenter.sh/nodepool: stockyard}}
      tolerations: [{{key: stockyard.example/simulated, operator: Exists}}]
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
        - name: nothing
          image: nothing
          resources: {{requests: {{cpu: 1, memory: 64Mi}}}}
          securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"
    ))
    .await?;
    all_run(name, count).await?;
    Ok(start.elapsed())
}

async fn all_run(name: &str, count: u64) -> Result<()> {
    until(&format!("{count} pods of {name} run"), SOON, async || {
        let deployment = get(&format!("deployment {name} -n {NAMESPACE}")).await?;
        let number = |field: &str| deployment["status"][field].as_u64().unwrap_or_default();
        Ok((number("replicas") == count && number("readyReplicas") == count).then_some(()))
    })
    .await
}

/// The nodes that Karpenter made, with their kind.
async fn nodes() -> Result<BTreeMap<String, String>> {
    let list = get(&format!("nodes {MADE}")).await?;
    let node = |node: &Value| {
        let metadata = &node["metadata"];
        let kind = metadata["labels"]["node.kubernetes.io/instance-type"].as_str()?;
        Some((metadata["name"].as_str()?.to_owned(), kind.to_owned()))
    };
    Ok(list["items"].as_array().context("no list")?.iter().filter_map(node).collect())
}

/// Karpenter takes its nodes away, as long as it is there; then it goes.
async fn remove() -> Result<()> {
    kubectl("delete nodepool stockyard --ignore-not-found --wait=false").await?;
    let gone = until("Karpenter's nodes are gone", SOON, async || {
        let left = kubectl(&format!("get nodeclaims,nodes {MADE} -o name")).await?;
        Ok(left.is_empty().then_some(()))
    })
    .await;
    if gone.is_err() {
        // It does not do its work: without it nobody takes back what holds them.
        kubectl(&format!("delete nodeclaims,nodes {MADE} --wait=false")).await?;
        for left in kubectl(&format!("get nodeclaims,nodes {MADE} -o name")).await?.lines() {
            let merge = r#"patch --type=merge -p {"metadata":{"finalizers":null}}"#;
            let _ = kubectl(&format!("{merge} {left}")).await; // it may be gone meanwhile
        }
    }
    kubectl(&format!("delete -k {KUSTOMIZATION} --ignore-not-found --timeout=60s")).await?;
    gone
}
