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
    system::load_key,
};

/// Where the pods are.
pub const NAMESPACE: &str = "stockyard-e2e";
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
    /// Starts one pod for each kind, sending to staging's gateway, and waits until they send.
    pub async fn start(kinds: &[Kind]) -> Result<Self> {
        Self::start_at("staging", kinds).await
    }

    /// The same for the gateway of another namespace.
    pub async fn start_at(target: &str, kinds: &[Kind]) -> Result<Self> {
        apply(&namespace(target, &load_key()?)).await?;
        // Of a test that failed: it would go on for minutes.
        kubectl(&format!("delete pods --all -n {NAMESPACE} --grace-period=1")).await?;
        let mut pods = Vec::new();
        for kind in kinds {
            pods.push(start(target, *kind).await?);
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

fn namespace(target: &str, key: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels: {{pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Secret
metadata: {{name: api-key, namespace: {NAMESPACE}}}
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
    - from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {NAMESPACE}}}}}}}]
      ports: [{{protocol: TCP, port: http}}]
"
    )
}

async fn start(target: &str, kind: Kind) -> Result<Pod> {
    let Kind { new_connections, rate, orders_every } = kind;
    let mode = if new_connections { "--new-connections" } else { "--connections=40" };
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
    Pod::start(NAMESPACE, settings).await
}
