//! Environments in the cluster, each a namespace with all of Stockyard in it, deployed once for all tests; and what the
//! tests ask of them.

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
    cluster::{self, Forward, get, kubectl, until},
};

/// The services, which are Deployments of that name.
pub const SERVICES: [&str; 3] = ["api-gateway", "orders", "inventory"];
/// The label of a namespace that these tests have made.
pub const OURS: &str = "stockyard.example/e2e";
/// How long a deployment may take: images are pulled, and PostgreSQL makes its databases.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A namespace with all of Stockyard in it.
#[derive(Debug)]
pub struct Environment {
    /// The namespace.
    pub namespace: &'static str,
    /// What is applied.
    pub overlay: &'static str,
    deployed: OnceCell<Duration>,
}

/// The overlay, as README applies it.
pub static STAGING: Environment = Environment::new("staging", "kustomize/overlays/staging");
/// A copy of staging whose pods are restarted, scaled, drained, under load.
pub static DISRUPTIONS: Environment =
    Environment::new("stockyard-e2e-disruptions", "tests/e2e/environments/disruptions");
/// A copy of staging whose parts are killed, frozen and taken away.
pub static FAILURES: Environment =
    Environment::new("stockyard-e2e-failures", "tests/e2e/environments/failures");
/// The production overlay; its tests deploy it, with what it needs.
pub static PRODUCTION: Environment =
    Environment::new("production", "kustomize/overlays/production");

/// A page of docs/.
pub fn page(name: &str) -> Result<String> {
    fs::read_to_string(Path::new("docs").join(name)).context("run this in the checkout")
}

impl Environment {
    const fn new(namespace: &'static str, overlay: &'static str) -> Self {
        Self { namespace, overlay, deployed: OnceCell::const_new() }
    }

    /// Deploys it if no test did yet; gives how long it took until everything was ready.
    pub async fn deployed(&self) -> Result<Duration> {
        self.deployed.get_or_try_init(|| self.deploy()).await.copied()
    }

    async fn deploy(&self) -> Result<Duration> {
        let (overlay, staging) = (self.overlay, STAGING.overlay);
        ensure!(Path::new(overlay).exists(), "there is no {overlay}: run this in the checkout");
        ensure!(
            Path::new(&format!("{staging}/secrets.yaml")).exists(),
            "there is no {staging}/secrets.yaml: nix run .#secrets -- staging writes it"
        );
        load_key()?;
        let start = Instant::now();
        self.apply().await?;
        self.all_ready().await?;
        Ok(start.elapsed())
    }

    /// Runs `kubectl ARGUMENTS` in the namespace; gives what it printed.
    pub async fn kubectl(&self, arguments: &str) -> Result<String> {
        kubectl(&format!("{arguments} -n {}", self.namespace)).await
    }

    /// Runs `kubectl get ARGUMENTS -o json` in the namespace.
    pub async fn get(&self, arguments: &str) -> Result<Value> {
        get(&format!("{arguments} -n {}", self.namespace)).await
    }

    /// Changes an object of it by a JSON patch.
    pub async fn patch(&self, object: &str, patch: &Value) -> Result<()> {
        cluster::patch(&format!("{object} -n {}", self.namespace), patch).await
    }

    /// A way in: `forward("svc/api-gateway :80")`.
    pub async fn forward(&self, arguments: &str) -> Result<Forward> {
        Forward::open(&format!("{arguments} -n {}", self.namespace)).await
    }

    /// Leads to a pod of the gateway.
    pub async fn gateway(&self) -> Result<Forward> {
        self.forward("svc/api-gateway :80").await
    }

    /// `kubectl apply -k OVERLAY`.
    pub async fn apply(&self) -> Result<()> {
        kubectl(&format!("apply -k {}", self.overlay)).await.map(drop)
    }

    /// Waits until a service's newest revision has replaced the one before.
    pub async fn rolled_out(&self, service: &str) -> Result<()> {
        self.rolled_out_within(service, Duration::from_secs(90)).await
    }

    /// The same with a bound of its own.
    pub async fn rolled_out_within(&self, service: &str, within: Duration) -> Result<()> {
        let within = within.as_secs();
        let status = format!("rollout status deployment/{service} --timeout={within}s");
        self.kubectl(&status).await.map(drop)
    }

    /// Waits until every workload has all its pods, of the newest revision, ready and no other ones.
    pub async fn all_ready(&self) -> Result<()> {
        let what = format!("every pod of {} is ready", self.namespace);
        until(&what, READY_WITHIN, async || {
            let mut workloads = self.list("apis/apps/v1", "deployments", "").await?;
            workloads.extend(self.list("apis/apps/v1", "statefulsets", "").await?);
            let ready = workloads.len() >= SERVICES.len() && workloads.iter().all(is_ready);
            Ok((ready && self.pods("part-of=stockyard").await?.iter().all(|pod| !pod.is_ending()))
                .then_some(()))
        })
        .await
    }

    /// The objects of a kind with that label; all of them if it is empty.
    async fn list(&self, api: &str, kind: &str, label: &str) -> Result<Vec<Value>> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("labelSelector", label)
            .finish();
        let namespace = self.namespace;
        let list = cluster::read(&format!("/{api}/namespaces/{namespace}/{kind}?{query}")).await?;
        list["items"].as_array().cloned().context("no list")
    }

    /// The pods with a label, whose name is given without its `app.kubernetes.io/`.
    pub async fn pods(&self, label: &str) -> Result<Vec<Pod>> {
        let pods = self.list("api/v1", "pods", &format!("app.kubernetes.io/{label}")).await?;
        Ok(pods.into_iter().map(Pod).collect())
    }

    /// A part's pods, and not those that only look like them to a policy.
    pub async fn pods_of(&self, part: &str) -> Result<Vec<Pod>> {
        self.pods(&format!("name={part},app.kubernetes.io/part-of=stockyard")).await
    }

    /// A service's pod, when it has one alone.
    pub async fn pod_of(&self, service: &str) -> Result<Pod> {
        let pods = self.pods_of(service).await?;
        ensure!(pods.len() == 1, "{service} has {} pods", pods.len());
        Ok(pods[0].clone())
    }

    /// Sets how many replicas a service has, by its autoscaler's bounds: beside an autoscaler nothing else can.
    pub async fn set_replicas(&self, service: &str, count: u32) -> Result<()> {
        self.pin(service, count).await?;
        self.has_replicas(service, count).await
    }

    /// Waits until a service has so many replicas.
    async fn has_replicas(&self, service: &str, count: u32) -> Result<()> {
        until(&format!("{service} has {count} replicas"), Duration::from_secs(90), async || {
            let pods = self.pods_of(service).await?;
            let settled = pods.len() == count as usize && pods.iter().all(Pod::is_ready);
            Ok(settled.then_some(()))
        })
        .await
    }

    /// Has an autoscaler keep to that number, whatever the load is.
    pub async fn pin(&self, service: &str, count: u32) -> Result<()> {
        let patch = json!([
            {"op": "replace", "path": "/spec/minReplicas", "value": count},
            {"op": "replace", "path": "/spec/maxReplicas", "value": count},
        ]);
        self.patch(&format!("hpa {service}"), &patch).await
    }

    /// Sets the replicas of all services, of all at once, and waits until all is ready.
    pub async fn set_all_replicas(&self, count: u32) -> Result<()> {
        for service in SERVICES {
            self.pin(service, count).await?;
        }
        for service in SERVICES {
            self.has_replicas(service, count).await?;
        }
        self.all_ready().await
    }

    /// The overlay's own autoscaling again, with one replica of each service for a start.
    pub async fn back_to_one(&self) -> Result<()> {
        self.set_all_replicas(1).await?;
        self.apply().await?;
        self.all_ready().await
    }

    /// The databases, each as its service's own role, and the way to them, which must be kept.
    pub async fn databases(&self) -> Result<(Databases, Forward)> {
        let forward = self.forward("pod/postgres-0 :5432").await?;
        let port = forward.address.rsplit(':').next().unwrap_or_default().to_owned();
        let url = async |role: &str| -> Result<String> {
            let template = "go-template={{.data.password|base64decode}}";
            let password =
                self.kubectl(&format!("get secret {role}-database -o {template}")).await?;
            Ok(format!("host=127.0.0.1 port={port} user={role} dbname={role} password={password}"))
        };
        let databases = Databases::open(&url("orders").await?, &url("inventory").await?).await?;
        Ok((databases, forward))
    }

    /// The names of the nodes that pods of a service are on.
    pub async fn nodes_of(&self, service: &str) -> Result<BTreeSet<String>> {
        let node = |pod: Pod| pod.0["spec"]["nodeName"].as_str().map(str::to_owned);
        Ok(self.pods_of(service).await?.into_iter().filter_map(node).collect())
    }
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
    let file = format!("{}/{file}", STAGING.overlay);
    let key = fs::read_to_string(&file)
        .with_context(|| format!("{file}: nix run .#secrets -- staging writes it"))?;
    Ok(key.trim_end().to_owned())
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
