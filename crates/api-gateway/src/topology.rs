//! Every part as its own admin listener tells it: health, readiness with reasons, build, and how fast it answered.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri};
use serde::Serialize;
use serde_json::Value;
use service_kit::{client::Client, health::Readiness};

/// How long a part may take to tell.
pub const WITHIN: Duration = Duration::from_secs(1);

/// One part.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// The service's name.
    pub name: &'static str,
    /// Does it answer that it is healthy?
    pub healthy: bool,
    /// Does it answer that it is ready?
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// How long its readiness took to come, in milliseconds; none without an answer.
    pub latency_ms: Option<f64>,
    /// What it says of its build.
    pub build: Option<Value>,
}

/// The gateway itself.
pub fn own(readiness: &Readiness) -> Part {
    let reasons = readiness.reasons();
    let build = serde_json::json!({"name": "api-gateway", "version": env!("CARGO_PKG_VERSION")});
    Part {
        name: "api-gateway",
        healthy: true, // it answers this very request
        ready: reasons.is_empty(),
        reasons,
        latency_ms: Some(0.0),
        build: Some(build),
    }
}

/// Asks a part, by its admin listener or, where that is not known, by the probes of its public one.
pub async fn ask(client: &Client, name: &'static str, public: &Uri, admin: Option<&Uri>) -> Part {
    let base = admin.unwrap_or(public);
    let start = Instant::now();
    let ready = get(client, base, "ready").await;
    let latency_ms = ready.as_ref().map(|_| (start.elapsed().as_secs_f64() * 1e4).round() / 10.0);
    let Some((is_ready, answer)) = ready else {
        let reasons = vec![format!("{name} does not answer")];
        return Part { name, healthy: false, ready: false, reasons, latency_ms: None, build: None };
    };
    let reasons = answer["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned);
    let healthy = get(client, base, "health").await.is_some_and(|(is_healthy, _)| is_healthy);
    let build = match admin {
        Some(admin) => get(client, admin, "info").await.map(|(_, info)| info),
        None => None,
    };
    Part { name, healthy, ready: is_ready, reasons: reasons.collect(), latency_ms, build }
}

/// Was the status a success, and the JSON of the body.
async fn get(client: &Client, base: &Uri, path: &str) -> Option<(bool, Value)> {
    let request = Request::get(format!("{base}{path}")).body(Full::<Bytes>::default()).ok()?;
    let response = client.send(request).await.ok()?;
    let json = serde_json::from_slice(response.body()).ok()?;
    Some((response.status().is_success(), json))
}
