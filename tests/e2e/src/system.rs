//! The staging overlay in the cluster: deployed once for all tests, and what the tests ask of it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use local_stack::{ApiClient, http, laws::Databases};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    Result,
    cluster::{self, PortForward, get, kubectl, until},
};

/// The overlay, as README applies it.
pub const OVERLAY: &str = "kustomize/overlays/staging";
/// The services, which are Deployments of that name.
pub const SERVICES: [&str; 3] = ["api-gateway", "orders", "inventory"];
/// The label of a namespace `production` that these tests have made.
pub const OURS: &str = "stockyard.example/e2e";
/// How long a deployment may take: images are pulled, and PostgreSQL makes its databases.
const READY_WITHIN: Duration = Duration::from_secs(120);

static DEPLOYED: OnceCell<Duration> = OnceCell::const_new();

/// A page of docs/.
pub fn page(name: &str) -> Result<String> {
    fs::read_to_string(Path::new("docs").join(name)).context("run this in the checkout")
}

/// Deploys staging if no test did yet; gives how long it took until everything was ready.
pub async fn deployed() -> Result<Duration> {
    DEPLOYED.get_or_try_init(deploy).await.copied()
}

async fn deploy() -> Result<Duration> {
    ensure!(Path::new(OVERLAY).exists(), "there is no {OVERLAY}: run this in the checkout");
    ensure!(
        Path::new(&format!("{OVERLAY}/secrets.yaml")).exists(),
        "there is no {OVERLAY}/secrets.yaml: nix run .#secrets -- staging writes it"
    );
    load_key()?;
    remove_production().await?; // of a run that did not come to its end: the node has no room for all
    let start = Instant::now();
    apply_overlay().await?;
    all_ready().await?;
    Ok(start.elapsed())
}

/// The text of the key that people write with.
pub fn api_key() -> Result<String> {
    key("api-key")
}

/// The text of the key with a high limit.
pub fn load_key() -> Result<String> {
    key("api-key-load-test")
}

fn key(file: &str) -> Result<String> {
    let file = format!("{OVERLAY}/{file}");
    let key = fs::read_to_string(&file)
        .with_context(|| format!("{file}: nix run .#secrets -- staging writes it"))?;
    Ok(key.trim_end().to_owned())
}

/// Waits until a service's newest revision has replaced the one before.
pub async fn rolled_out(namespace: &str, service: &str) -> Result<()> {
    rolled_out_within(namespace, service, Duration::from_secs(90)).await
}

/// The same with a bound of its own.
pub async fn rolled_out_within(namespace: &str, service: &str, within: Duration) -> Result<()> {
    let within = within.as_secs();
    kubectl(&format!("rollout status deployment/{service} -n {namespace} --timeout={within}s"))
        .await
        .map(drop)
}

/// Removes production if these tests have made it.
pub async fn remove_production() -> Result<()> {
    kubectl(&format!("delete namespace -l {OURS} --timeout=120s")).await.map(drop)
}

/// `kubectl apply -k kustomize/overlays/staging`.
pub async fn apply_overlay() -> Result<()> {
    kubectl(&format!("apply -k {OVERLAY}")).await.map(drop)
}

/// Waits until every workload has all its pods, of the newest revision, ready and no other ones.
pub async fn all_ready() -> Result<()> {
    all_ready_in("staging").await
}

/// The same in another namespace.
pub async fn all_ready_in(namespace: &str) -> Result<()> {
    until(&format!("every pod of {namespace} is ready"), READY_WITHIN, async || {
        let workloads = get(&format!("deployments,statefulsets -n {namespace}")).await?;
        let items = workloads["items"].as_array().context("no list")?;
        let ready = items.len() >= SERVICES.len() && items.iter().all(is_ready);
        Ok((ready
            && pods_in(namespace, "part-of=stockyard").await?.iter().all(|pod| !pod.is_ending()))
        .then_some(()))
    })
    .await
}

fn is_ready(workload: &Value) -> bool {
    let (spec, status) = (&workload["spec"], &workload["status"]);
    let wanted = spec["replicas"].as_u64().unwrap_or(1);
    let is_seen = status["observedGeneration"] == workload["metadata"]["generation"];
    let number = |field: &str| status[field].as_u64().unwrap_or_default();
    is_seen
        && number("updatedReplicas") == wanted
        && number("readyReplicas") == wanted
        && number("availableReplicas") == wanted
        && number("replicas") == wanted
}

/// A pod as the API server has it.
#[derive(Debug, Clone)]
pub struct Pod(Value);

impl Pod {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Its address.
    pub fn address(&self) -> &str {
        self.0["status"]["podIP"].as_str().unwrap_or_default()
    }

    /// What no other pod has ever.
    pub fn uid(&self) -> &str {
        self.0["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// Is it being deleted?
    pub fn is_ending(&self) -> bool {
        !self.0["metadata"]["deletionTimestamp"].is_null()
    }

    /// Does its first container pass its readiness probe?
    pub fn is_ready(&self) -> bool {
        self.container()["ready"] == true
    }

    /// How often its first container was started again.
    pub fn restarts(&self) -> u64 {
        self.container()["restartCount"].as_u64().unwrap_or_default()
    }

    /// The runtime's name of its first container.
    pub fn container_id(&self) -> Option<&str> {
        self.container()["containerID"].as_str()?.split("://").nth(1)
    }

    /// What its first container asks for and may use.
    pub fn resources(&self) -> &Value {
        &self.0["spec"]["containers"][0]["resources"]
    }

    fn container(&self) -> &Value {
        &self.0["status"]["containerStatuses"][0]
    }
}

/// The pods of staging with a label, whose name is given without its `app.kubernetes.io/`.
pub async fn pods(label: &str) -> Result<Vec<Pod>> {
    pods_in("staging", label).await
}

/// The same in another namespace.
pub async fn pods_in(namespace: &str, label: &str) -> Result<Vec<Pod>> {
    let list = get(&format!("pods -n {namespace} -l app.kubernetes.io/{label}")).await?;
    Ok(list["items"].as_array().context("no list")?.iter().cloned().map(Pod).collect())
}

/// A part's pods, and not those that only look like them to a policy.
pub async fn pods_of(part: &str) -> Result<Vec<Pod>> {
    pods(&format!("name={part},app.kubernetes.io/part-of=stockyard")).await
}

/// A service's pod, when it has one alone.
pub async fn pod_of(service: &str) -> Result<Pod> {
    let pods = pods_of(service).await?;
    ensure!(pods.len() == 1, "{service} has {} pods", pods.len());
    Ok(pods[0].clone())
}

/// Sets how many replicas a service has, by its autoscaler's bounds: beside an autoscaler nothing else can.
pub async fn set_replicas(service: &str, count: u32) -> Result<()> {
    pin("staging", service, count).await?;
    until(&format!("{service} has {count} replicas"), Duration::from_secs(90), async || {
        let pods = pods_of(service).await?;
        let settled = pods.len() == count as usize && pods.iter().all(Pod::is_ready);
        Ok(settled.then_some(()))
    })
    .await
}

/// Has an autoscaler keep to that number, whatever the load is.
pub async fn pin(namespace: &str, service: &str, count: u32) -> Result<()> {
    let patch = json!([
        {"op": "replace", "path": "/spec/minReplicas", "value": count},
        {"op": "replace", "path": "/spec/maxReplicas", "value": count},
    ]);
    cluster::patch(&format!("hpa {service} -n {namespace}"), &patch).await
}

/// Sets the replicas of all services, and waits until all is ready.
pub async fn set_all_replicas(count: u32) -> Result<()> {
    for service in SERVICES {
        set_replicas(service, count).await?;
    }
    all_ready().await
}

/// The overlay's own autoscaling again, with one replica of each service for a start.
pub async fn back_to_one() -> Result<()> {
    set_all_replicas(1).await?;
    apply_overlay().await?;
    all_ready().await
}

/// Leads to a pod of the gateway.
pub async fn gateway() -> Result<PortForward> {
    PortForward::open("svc/api-gateway :80 -n staging").await
}

/// A client of the gateway at a URL, with the key that people write with.
pub fn api(gateway: &str) -> Result<ApiClient> {
    Ok(ApiClient::new(gateway, &api_key()?))
}

/// An item as inventory has it.
pub async fn item(gateway: &str, sku: &str) -> Result<Value> {
    let reply = http::get(&format!("{gateway}/api/v1/items/{sku}")).await?;
    ensure!(reply.status == StatusCode::OK, "{sku}: {} {}", reply.status, reply.text());
    Ok(reply.json())
}

/// Places an order; the customer's name is its key.
pub async fn place(gateway: &str, key: &str, sku: &str, quantity: u32) -> Result<http::Reply> {
    let body = json!({"customer": key, "lines": [{"sku": sku, "quantity": quantity}]}).to_string();
    api(gateway)?.place(key, body).await
}

/// Was an order placed and confirmed?
pub fn is_confirmed(reply: &http::Reply) -> bool {
    reply.status == StatusCode::CREATED && reply.json()["status"] == "confirmed"
}

/// Has stock arrive.
pub async fn receive(gateway: &str, sku: &str, quantity: u32) -> Result<()> {
    let path = format!("/api/v1/items/{sku}/receipts");
    let key = format!("e2e-{}", unique());
    let headers = [("idempotency-key", key.as_str()), ("content-type", "application/json")];
    let body = json!({"quantity": quantity}).to_string();
    let reply = api(gateway)?.send(Method::POST, &path, &headers, body).await?;
    ensure!(reply.status == StatusCode::OK, "the receipt: {} {}", reply.status, reply.text());
    Ok(())
}

/// A word that no run before had.
pub fn unique() -> String {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{:x}", since.as_nanos())
}

/// The databases, each as its service's own role, and the way to them, which must be kept.
pub async fn databases() -> Result<(Databases, PortForward)> {
    databases_in("staging").await
}

/// The same in another namespace.
pub async fn databases_in(namespace: &str) -> Result<(Databases, PortForward)> {
    let forward = PortForward::open(&format!("pod/postgres-0 :5432 -n {namespace}")).await?;
    let port = forward.address.rsplit(':').next().unwrap_or_default().to_owned();
    let url = async |role: &str| -> Result<String> {
        let template = "go-template={{.data.password|base64decode}}";
        let password =
            kubectl(&format!("get secret {role}-database -n {namespace} -o {template}")).await?;
        Ok(format!("host=127.0.0.1 port={port} user={role} dbname={role} password={password}"))
    };
    let databases = Databases::open(&url("orders").await?, &url("inventory").await?).await?;
    Ok((databases, forward))
}

/// The names of the nodes that pods of a service are on.
pub async fn nodes_of(service: &str) -> Result<BTreeSet<String>> {
    let node = |pod: Pod| pod.0["spec"]["nodeName"].as_str().map(str::to_owned);
    Ok(pods_of(service).await?.into_iter().filter_map(node).collect())
}
