//! A stack of its own for each test.

use std::{collections::BTreeMap, env, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use hyper::Method;
use local_stack::{
    Service, Settings, Stack,
    http::{self, Reply},
    ports::Ports,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder that PostgreSQL's unprivileged user can reach too.
pub(crate) fn state_folder() -> TempDir {
    let folder = TempDir::with_prefix("stockyard-test-").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn folder_of(variable: &str) -> PathBuf {
    let value = env::var(variable);
    value
        .unwrap_or_else(|_| panic!("set {variable}: CONTRIBUTING.md says how the tests are run"))
        .into()
}

/// Starts everything on that state, on free ports.
pub(crate) async fn start(state: &TempDir) -> Stack {
    let settings = Settings {
        programs: folder_of("STOCKYARD_BIN_DIR"),
        postgres: folder_of("STOCKYARD_POSTGRES_DIR"),
        prometheus: None,
        state: state.path().to_owned(),
        ports: Ports::any(),
        durable: false,
        echo: false,
        environment: BTreeMap::new(),
    };
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
