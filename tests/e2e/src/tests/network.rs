//! Who may reach whom: docs/connectivity.md against what connections tell, from a pod with each part's labels, to each
//! part's own pod. The tests/policy of the manifests holds the same table against the policies' text.

use std::{collections::BTreeSet, env, time::Duration};

use anyhow::{Context, ensure};
use manifest_tests::table::rows_of;

use super::{Test, test};
use crate::{
    Result,
    cluster::apply,
    pod::{NEVER_READY, Pod, Settings},
    schedule::Resource::Staging,
    system::{self, STAGING},
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
        test("the_parts_reach_each_other_exactly_as_documented", &[Staging], 240, as_documented),
        test("without_policies_everything_reaches_everything", &[Staging], 240, without_policies),
    ]
}

async fn as_documented() -> Result<String> {
    STAGING.deployed().await?;
    STAGING.back_to_one().await?;
    let (open, documented) = (open().await?, documented()?);
    let extra: Vec<_> = open.difference(&documented).collect();
    let missing: Vec<_> = documented.difference(&open).collect();
    let told = format!("open, not documented: {extra:?}; documented, not open: {missing:?}");
    if env::var_os("CONTAINERD_ADDRESS").is_none() && missing.is_empty() {
        // A network plug-in of the user's own, which may enforce nothing: that is told, and no fault of the manifests.
        return Ok(format!("{} ways open; {told}", open.len()));
    }
    ensure!(extra.is_empty() && missing.is_empty(), "{told}");
    let tried = tried();
    Ok(format!("{} ways open, {} shut", open.len(), tried - open.len()))
}

/// The same connections without a policy: all of them come through, so what is shut above is shut by the policies.
async fn without_policies() -> Result<String> {
    STAGING.deployed().await?;
    STAGING.kubectl("delete networkpolicies -l app.kubernetes.io/part-of=stockyard").await?;
    STAGING.kubectl("delete networkpolicy e2e-load --ignore-not-found").await?; // the load's own
    let open = open().await;
    STAGING.apply().await?;
    let open = open?;
    let tried = tried();
    ensure!(open.len() == tried, "{} of {tried} ways are open: {open:?}", open.len());
    Ok(format!("all {tried} ways open"))
}

/// How many ways are tried: from each part and from the stranger to each port of the other parts.
fn tried() -> usize {
    let ports: usize = PARTS.iter().map(|(_, ports)| ports.len()).sum();
    (PARTS.len() + 1) * ports - ports
}

/// What the page lists between these parts.
fn documented() -> Result<BTreeSet<Way>> {
    let page = system::page("connectivity.md")?;
    let is_here = |name: &str| PARTS.iter().any(|(part, _)| *part == name);
    let mut ways = BTreeSet::new();
    for row in rows_of(&page, &["with", "from", "to", "ports", "for"]) {
        let [with, from, to, ports, _] = &row[..] else { continue };
        if with != "base" || !(is_here(from) || from == STRANGER) || !is_here(to) {
            continue;
        }
        for port in ports.split(", ").filter_map(|port| port.strip_suffix("/TCP")) {
            ways.insert((from.clone(), to.clone(), port.parse()?));
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
        let pods = STAGING.pods_of(part).await?;
        let address =
            pods.first().with_context(|| format!("{part} has no pod"))?.address().to_owned();
        targets.extend(ports.iter().map(|port| (part, *port, format!("{address}:{port}"))));
    }
    let mut probes = Vec::new();
    for from in PARTS.iter().map(|(part, _)| *part).chain([STRANGER]) {
        let addresses = targets.iter().filter(|(to, ..)| *to != from);
        let addresses: Vec<_> = addresses.map(|(.., address)| address.as_str()).collect();
        probes.push((from, probe(from, &addresses).await?));
    }
    let mut open = BTreeSet::new();
    for (from, pod) in probes {
        let reached: Vec<String> = pod.found(Duration::from_secs(60)).await?;
        for (to, port, address) in &targets {
            if reached.contains(address) {
                open.insert((from.to_owned(), (*to).to_owned(), *port));
            }
        }
    }
    Ok(open)
}

/// A pod that policies take for a part's own, and no Service does: it is never ready.
async fn probe(from: &str, addresses: &[&str]) -> Result<Pod> {
    let (namespace, part) =
        if from == STRANGER { (ELSEWHERE, "stranger") } else { (STAGING.namespace, from) };
    let settings = Settings {
        name: &format!("probe-{part}"),
        labels: &format!("{{app.kubernetes.io/name: {part}}}"),
        arguments: &format!("[reach, {}]", addresses.join(", ")),
        resources: "{requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 100m, memory: 64Mi}}",
        readiness: NEVER_READY,
        ..Settings::default()
    };
    Pod::start(namespace, settings).await
}
