//! Load from inside the cluster: pods of a namespace of their own, which may reach the gateway alone.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    Result,
    cluster::{apply, kubectl},
    generator::{API_KEY, BEGUN, Report},
    plane,
    pod::{Pod, Settings},
    schedule::Resource,
    system::{DISRUPTIONS, Environment, FAILURES, OURS, PRODUCTION, STAGING, load_key},
};

/// Where the pods are that send to an environment.
fn namespace_for(target: &Environment) -> String {
    format!("stockyard-e2e-load-{}", target.namespace.trim_start_matches("stockyard-e2e-"))
}

/// The namespaces in which a test with these needs may leave something to be seen.
pub fn namespaces_of(needs: &[Resource]) -> Vec<String> {
    let environments = needs.iter().filter_map(|resource| match resource {
        Resource::Staging => Some(&STAGING),
        Resource::Production => Some(&PRODUCTION),
        Resource::Disruptions => Some(&DISRUPTIONS),
        Resource::Failures => Some(&FAILURES),
        Resource::Karpenter | Resource::Cpus => None,
    });
    environments
        .flat_map(|environment| [environment.namespace.to_owned(), namespace_for(environment)])
        .collect()
}

/// The most that a pod lives, should nobody stop it, beside the time for which nobody can.
const AT_MOST: Duration = Duration::from_secs(300);

/// One load.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Is each request sent on a connection of its own?
    pub new_connections: bool,
    /// Requests per second.
    pub rate: u32,
    /// Every so many requests one places an order; none for 0.
    pub orders_every: u32,
}

/// What the requests without a loss are sent as: pooled connections and new ones, a part of them orders.
pub const BOTH: [Kind; 2] = [
    Kind { new_connections: false, rate: 300, orders_every: 20 },
    Kind { new_connections: true, rate: 300, orders_every: 20 },
];

/// Running load pods.
#[derive(Debug)]
pub struct Load {
    pods: Vec<Pod>,
}

impl Load {
    /// Starts one pod for each kind, sending to an environment's gateway, and waits until they send.
    pub async fn start(target: &Environment, kinds: &[Kind]) -> Result<Self> {
        let namespace = namespace_for(target);
        apply(&manifest(&namespace, target.namespace, &load_key()?)).await?;
        // Of a test that failed: it would go on for minutes.
        kubectl(&format!("delete pods --all -n {namespace} --grace-period=1")).await?;
        let mut pods = Vec::new();
        for kind in kinds {
            pods.push(start(&namespace, target.namespace, *kind).await?);
        }
        for pod in &pods {
            pod.prints(BEGUN, Duration::from_secs(60)).await?;
        }
        Ok(Self { pods })
    }

    /// Stops them; gives their reports, in the order of the kinds.
    pub async fn stop(self) -> Result<Vec<Report>> {
        for pod in &self.pods {
            pod.stop().await;
        }
        let mut reports = Vec::new();
        for pod in self.pods {
            reports.push(pod.found(Duration::from_secs(30)).await?);
        }
        Ok(reports)
    }
}

/// Requests that all tests of this run sent in good order.
static TOTAL: AtomicU64 = AtomicU64::new(0);

/// Counts a report's requests.
pub fn count(report: &Report) {
    TOTAL.fetch_add(report.requests, Ordering::Relaxed);
}

/// How many were counted.
pub fn counted() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

fn manifest(namespace: &str, target: &str, key: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
  labels: {{pod-security.kubernetes.io/enforce: restricted, {OURS}: 'true'}}
---
apiVersion: v1
kind: Secret
metadata: {{name: api-key, namespace: {namespace}}}
stringData: {{key: {key:?}}}
---
# The gateway hears nobody but what an overlay lets in.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: e2e-load, namespace: {target}}}
spec:
  podSelector: {{matchLabels: {{app.kubernetes.io/name: api-gateway}}}}
  policyTypes: [Ingress]
  ingress:
    - from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}]
      ports: [{{protocol: TCP, port: http}}]
"
    )
}

async fn start(namespace: &str, target: &str, kind: Kind) -> Result<Pod> {
    let Kind { new_connections, rate, orders_every } = kind;
    let mode = if new_connections { "--new-connections" } else { "--connections=30" };
    let seconds = (AT_MOST + plane::away()).as_secs();
    let environment =
        format!("[{{name: {API_KEY}, valueFrom: {{secretKeyRef: {{name: api-key, key: key}}}}}}]");
    let arguments = format!(
        "[load, --target=api-gateway.{target}:80, {mode}, --rate={rate}, --orders-every={orders_every}, --seconds={seconds}]"
    );
    let settings = Settings {
        name: "load",
        labels: "{app.kubernetes.io/part-of: stockyard}",
        arguments: &arguments,
        environment: &environment,
        resources: "{requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 256Mi}}",
        ..Settings::default()
    };
    Pod::start(namespace, settings).await
}
