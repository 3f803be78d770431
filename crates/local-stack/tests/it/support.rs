//! A stack of its own for each test.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper::Method;
use local_stack::{
    Service, Settings, Stack,
    http::{self, Reply},
    ports::Ports,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use uuid::Uuid;

fn folder_of(variable: &str) -> PathBuf {
    let value = env::var(variable);
    value
        .unwrap_or_else(|_| panic!("set {variable}: CONTRIBUTING.md says how the tests are run"))
        .into()
}

/// The settings of a stack on that state, on free ports.
pub(crate) fn settings(state: &Path) -> Settings {
    Settings {
        programs: folder_of("STOCKYARD_BIN_DIR"),
        postgres: folder_of("STOCKYARD_POSTGRES_DIR"),
        prometheus: None,
        state: state.to_owned(),
        ports: Ports::any(),
        durable: false,
        echo: false,
        environment: BTreeMap::new(),
    }
}

/// Starts everything on that state.
pub(crate) async fn start(state: &TempDir) -> Stack {
    start_with(state, &[]).await
}

/// Starts everything on that state, the services with further settings.
pub(crate) async fn start_with(state: &TempDir, environment: &[(&str, &str)]) -> Stack {
    let mut settings = settings(state.path());
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    settings.environment = environment.iter().map(owned).collect();
    Stack::start(settings).await.unwrap()
}

/// An order's body.
pub(crate) fn order(sku: &str, quantity: i64) -> String {
    json!({"customer": "ada", "lines": [{"sku": sku, "quantity": quantity}]}).to_string()
}

/// Places an order through the gateway.
pub(crate) async fn place(stack: &Stack, key: &str, body: String) -> Reply {
    let url = format!("{}/api/v1/orders", stack.url(Service::Gateway));
    let headers = [("idempotency-key", key), ("content-type", "application/json")];
    http::send(Method::POST, &url, &headers, body).await.unwrap()
}

/// An item through the gateway.
pub(crate) async fn item(stack: &Stack, sku: &str) -> Value {
    get(stack, &format!("/api/v1/items/{sku}")).await.json()
}

/// A GET through the gateway.
pub(crate) async fn get(stack: &Stack, path: &str) -> Reply {
    http::get(&format!("{}{path}", stack.url(Service::Gateway))).await.unwrap()
}

/// Holds stock for an order at inventory itself, for so many seconds.
pub(crate) async fn reserve(
    inventory: &str,
    order: Uuid,
    sku: &str,
    quantity: i64,
    seconds: u32,
) -> Reply {
    let lines = [json!({"sku": sku, "quantity": quantity})];
    let body = json!({"lines": lines, "ttl_seconds": seconds}).to_string();
    let url = format!("{inventory}/v1/reservations/{order}");
    http::send(Method::PUT, &url, &[("content-type", "application/json")], body).await.unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
