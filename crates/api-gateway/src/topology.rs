//! Every part as it tells itself: health, readiness with reasons, build, and how fast it answered.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{TryFutureExt, future::join};
use hyper::{Request, Uri};
use serde::Serialize;
use serde_json::{Value, json};
use service_kit::{Kit, client::Client};

use crate::IDENTITY;

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

/// An answer's success and body.
type Answer = Option<(bool, Bytes)>;

/// The gateway itself.
pub fn own(kit: &Kit) -> Part {
    let reasons = kit.readiness.reasons();
    let build = json!({
        "name": IDENTITY.name,
        "version": IDENTITY.version,
        "revision": IDENTITY.revision,
        "environment": kit.config.environment,
        "image_digest": kit.config.image_digest,
        "identity": kit.config.identity.name(),
        "faults": kit.faults.shown(),
    });
    Part {
        name: IDENTITY.name,
        healthy: true, // it answers this very request
        ready: reasons.is_empty(),
        reasons,
        latency_ms: Some(0.0),
        build: Some(build),
    }
}

/// Asks a service, by its admin listener or, where that is not known, by the probes of its public one.
pub async fn service(
    client: &Client,
    name: &'static str,
    public: &Uri,
    admin: Option<&Uri>,
) -> Part {
    let base = admin.unwrap_or(public);
    let build = admin.map(|admin| (admin, "info"));
    ask(client, name, (base, "ready"), (base, "health"), build).await
}

/// Asks Prometheus.
pub async fn prometheus(client: &Client, base: &Uri) -> Part {
    let build = Some((base, "api/v1/status/buildinfo"));
    let mut part = ask(client, "prometheus", (base, "-/ready"), (base, "-/healthy"), build).await;
    part.build = part.build.map(|mut answer| answer["data"].take());
    part
}

/// Asks a part for its readiness, health and build, each at an address and path, with two connections at most: an admin
/// listener has few, and the kubelet's probes need them.
async fn ask(
    client: &Client,
    name: &'static str,
    ready: (&Uri, &str),
    health: (&Uri, &str),
    build: Option<(&Uri, &str)>,
) -> Part {
    let others = async {
        let health = get(client, health).await;
        match build {
            Some(build) if health.is_some() => (health, get(client, build).await),
            _ => (health, None),
        }
    };
    let (ready, (health, build)) = join(timed(get(client, ready)), others).await;
    part(name, ready, &health, build)
}

fn part(
    name: &'static str,
    (ready, latency_ms): (Answer, f64),
    health: &Answer,
    build: Answer,
) -> Part {
    let healthy = health.as_ref().is_some_and(|(success, _)| *success);
    let build = build
        .filter(|(success, _)| *success)
        .and_then(|(_, body)| serde_json::from_slice(&body).ok());
    let Some((ready, body)) = ready else {
        let reasons = vec![format!("{name} does not answer")];
        return Part { name, healthy, ready: false, reasons, latency_ms: None, build };
    };
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let reasons = said["reasons"].as_array().into_iter().flatten();
    let reasons = reasons.filter_map(Value::as_str).map(str::to_owned).collect();
    Part { name, healthy, ready, reasons, latency_ms: Some(latency_ms), build }
}

/// A future's output with the milliseconds that it took.
async fn timed<T>(future: impl Future<Output = T>) -> (T, f64) {
    let start = Instant::now();
    let output = future.await;
    (output, (start.elapsed().as_secs_f64() * 1e4).round() / 10.0)
}

async fn get(client: &Client, (base, path): (&Uri, &str)) -> Answer {
    let request = Request::get(format!("{base}{path}")).body(Bytes::new()).ok()?;
    // Boxed: a snapshot asks many things at once, and would carry the room for all.
    let response = Box::pin(client.send(request))
        .inspect_err(|error| tracing::debug!(%error, path, "a part does not answer"))
        .await
        .ok()?;
    Some((response.status().is_success(), response.into_body()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(success: bool, body: &'static str) -> (bool, Bytes) {
        (success, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn a_part_that_is_not_ready_says_why() {
        let ready = answer(false, r#"{"ready":false,"reasons":["database: away"]}"#);
        let part = part(
            "orders",
            (Some(ready), 0.5),
            &Some(answer(true, "{}")),
            Some(answer(false, "{}")),
        );
        assert!(part.healthy && !part.ready);
        assert_eq!(part.reasons, ["database: away"]);
        assert_eq!(part.build, None);
    }

    #[test]
    fn a_part_that_is_away_has_no_latency() {
        let part = part("orders", (None, 1000.0), &None, None);
        assert!(!part.healthy && !part.ready);
        assert_eq!(part.latency_ms, None);
        assert_eq!(part.reasons, ["orders does not answer"]);
    }
}
