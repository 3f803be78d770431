//! The pages that every service has: /health and /ready on both listeners, /metrics and /info on the admin's alone.

use hyper::{Method, StatusCode, header::HeaderValue};
use serde_json::json;

use crate::{
    Identity, Problem, Request, Response, body,
    faults::Faults,
    health::{Heartbeat, Readiness},
    host,
    metrics::Metrics,
    workload::Mode,
};

/// What the pages tell about.
#[derive(Debug, Clone)]
pub struct Pages {
    /// Which service this is.
    pub identity: Identity,
    /// Where it runs.
    pub environment: String,
    /// The image's digest, as far as the deployment told it.
    pub image_digest: Option<String>,
    /// Do services prove to each other who they are?
    pub identity_mode: Mode,
    /// Liveness.
    pub heartbeat: Heartbeat,
    /// Readiness.
    pub readiness: Readiness,
    /// Metrics.
    pub metrics: Metrics,
    /// Faults on purpose.
    pub faults: Faults,
}

impl Pages {
    /// The probes: none when the path is another.
    pub fn probe(&self, method: &Method, path: &str) -> Option<Response> {
        if !matches!(path, "/health" | "/ready") {
            return None;
        }
        Some(self.page(method, path).unwrap_or_else(|problem| problem.into_response("")))
    }

    /// Any page of the admin listener.
    pub async fn admin(&self, mut request: Request) -> Result<Response, Problem> {
        host::settle(&mut request)?;
        match request.uri().path() {
            "/faults" => self.faults.answer(request).await,
            path => self.page(request.method(), path),
        }
    }

    fn page(&self, method: &Method, path: &str) -> Result<Response, Problem> {
        let page: fn(&Self) -> Response = match path {
            "/health" => Self::health,
            "/ready" => Self::ready,
            "/metrics" => Self::metrics,
            "/info" => Self::info,
            _ => {
                return Err(Problem::not_found(
                    "the admin listener has /health, /ready, /metrics, /info and, with FAULTS=on, /faults",
                ));
            }
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Problem::method_not_allowed("GET, HEAD"));
        }
        Ok(page(self))
    }

    fn metrics(&self) -> Response {
        const TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
        body::text(StatusCode::OK, TYPE, self.metrics.text())
    }

    fn health(&self) -> Response {
        match self.heartbeat.stalled() {
            None => body::text(StatusCode::OK, body::JSON, r#"{"healthy":true}"#),
            Some(silence) => {
                let reason =
                    format!("the public runtime made no progress for {} ms", silence.as_millis());
                body::json(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &json!({"healthy": false, "reasons": [reason]}),
                )
            }
        }
    }

    fn ready(&self) -> Response {
        let reasons = self.readiness.reasons();
        let status =
            if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        body::json(status, &json!({"ready": reasons.is_empty(), "reasons": reasons}))
    }

    fn info(&self) -> Response {
        let Identity { name, version, revision, .. } = self.identity;
        let facts = json!({
            "name": name,
            "version": version,
            "revision": revision,
            "environment": self.environment,
            "image_digest": self.image_digest,
            "identity": self.identity_mode.name(),
            "faults": self.faults.shown(),
        });
        body::json(StatusCode::OK, &facts)
    }
}
