//! Who may reach whom: docs/connectivity.md against what connections tell, from a pod with each part's labels, to each
//! part's own pod. The tests/policy of the manifests holds the same table against the policies' text.

use std::{collections::BTreeSet, env, fs, time::Duration};

use anyhow::{Context, ensure};

use super::{Test, test};
use crate::{
    Result,
    cluster::{apply, get, kubectl, until},
    system::{self, pods_of, unique},
};

/// The parts of staging with the ports that they listen on.
const PARTS: [(&str, &[u16]); 5] = [
    ("api-gateway", &[8080, 9090]),
    ("orders", &[8080, 9090]),
    ("inventory", &[8080, 9090]),
    ("postgres", &[5432]),
    ("prometheus", &[9090]),
];
/// A pod of another namespace, as docs/connectivity.md calls it.
const STRANGER: &str = "a pod elsewhere";
/// That namespace.
const ELSEWHERE: &str = "stockyard-e2e-elsewhere";

/// From, to and port.
type Way = (String, String, u16);

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("the_parts_reach_each_other_exactly_as_documented", 120, as_documented),
        test("without_policies_everything_reaches_everything", 120, without_policies),
    ]
}

async fn as_documented() -> Result<String> {
    system::deployed().await?;
    system::back_to_one().await?;
    let (open, documented) = (open().await?, documented()?);
    let extra: Vec<_> = open.difference(&documented).collect();
    let missing: Vec<_> = documented.difference(&open).collect();
    let told = format!("open, not documented: {extra:?}; documented, not open: {missing:?}");
    if env::var_os("CONTAINERD_ADDRESS").is_none() && missing.is_empty() {
        // A network plug-in of the user's own, which may enforce nothing: that is told, and no fault of the manifests.
        return Ok(format!("{} ways open; {told}", open.len()));
    }
    ensure!(extra.is_empty() && missing.is_empty(), "{told}");
    let ports: usize = PARTS.iter().map(|(_, ports)| ports.len()).sum();
    let tried = (PARTS.len() + 1) * ports - ports;
    Ok(format!("{} ways open, {} shut", open.len(), tried - open.len()))
}

/// The same connections without a policy: all of them come through, so what is shut above is shut by the policies.
async fn without_policies() -> Result<String> {
    system::deployed().await?;
    kubectl("delete networkpolicies -l app.kubernetes.io/part-of=stockyard -n staging").await?;
    kubectl("delete networkpolicy e2e-load -n staging --ignore-not-found").await?; // the load's own
    let open = open().await;
    system::apply_overlay().await?;
    let open = open?;
    let ports: usize = PARTS.iter().map(|(_, ports)| ports.len()).sum();
    let tried = (PARTS.len() + 1) * ports - ports;
    ensure!(open.len() == tried, "{} of {tried} ways are open: {open:?}", open.len());
    Ok(format!("all {tried} ways open"))
}

/// What the page lists between these parts.
fn documented() -> Result<BTreeSet<Way>> {
    let page = fs::read_to_string("docs/connectivity.md").context("run this in the checkout")?;
    let is_here = |name: &str| PARTS.iter().any(|(part, _)| *part == name);
    let mut ways = BTreeSet::new();
    for line in page.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", "base", from, to, ports, _, ""] = cells[..] else { continue };
        if !(is_here(from) || from == STRANGER) || !is_here(to) {
            continue;
        }
        for port in ports.split(", ").filter_map(|port| port.strip_suffix("/TCP")) {
            ways.insert((from.to_owned(), to.to_owned(), port.parse()?));
        }
    }
    ensure!(!ways.is_empty(), "docs/connectivity.md has no table");
    Ok(ways)
}

/// What is open from each part, and from a stranger, to each other part.
async fn open() -> Result<BTreeSet<Way>> {
    apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {ELSEWHERE}}}\n")).await?;
    let mut targets = Vec::new();
    for (part, ports) in PARTS {
        let pods = pods_of(part).await?;
        let address =
            pods.first().with_context(|| format!("{part} has no pod"))?.address().to_owned();
        targets.extend(ports.iter().map(|port| (part, *port, format!("{address}:{port}"))));
    }
    let mut probes = Vec::new();
    for from in PARTS.iter().map(|(part, _)| *part).chain([STRANGER]) {
        let addresses = targets.iter().filter(|(to, ..)| *to != from);
        let addresses: Vec<_> = addresses.map(|(.., address)| address.as_str()).collect();
        let (namespace, name) =
            if from == STRANGER { (ELSEWHERE, "stranger") } else { ("staging", from) };
        let pod = format!("probe-{name}-{}", unique());
        apply(&probe(&pod, namespace, name, &addresses)).await?;
        probes.push((from, namespace, pod));
    }
    let mut open = BTreeSet::new();
    for (from, namespace, pod) in probes {
        let ends = format!("the probe {pod} ends");
        until(&ends, Duration::from_secs(60), async || {
            let pod = get(&format!("pod {pod} -n {namespace}")).await?;
            Ok((pod["status"]["phase"] == "Succeeded").then_some(()))
        })
        .await?;
        let log = kubectl(&format!("logs {pod} -n {namespace}")).await?;
        let reached: Vec<String> =
            serde_json::from_str(&log).with_context(|| format!("{pod}: {log}"))?;
        for (to, port, address) in &targets {
            if reached.contains(address) {
                open.insert((from.to_owned(), (*to).to_owned(), *port));
            }
        }
        kubectl(&format!("delete pod {pod} -n {namespace} --wait=false")).await?;
    }
    Ok(open)
}

/// A pod that policies take for a part's own, and no Service does: it is never ready.
fn probe(name: &str, namespace: &str, part: &str, addresses: &[&str]) -> String {
    let addresses = addresses.join(", ");
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app.kubernetes.io/name: {part}}}}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: probe
      image: e2e:0.1.0
      imagePullPolicy: IfNotPresent
      args: [reach, {addresses}]
      readinessProbe: {{exec: {{command: [/bin/none]}}, periodSeconds: 60}}
      resources: {{requests: {{cpu: 10m, memory: 16Mi}}, limits: {{cpu: 100m, memory: 64Mi}}}}
      securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
"
    )
}
