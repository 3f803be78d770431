//! Workload identity: which service account of the cluster sends a request.
//!
//! The kubelet gives a pod short-lived tokens, each for one audience (projected service-account tokens, KEP-1205), and
//! the API server publishes the keys that sign them. So whoever is called verifies a token (RFC 7519) by itself: no
//! request leads to a call of the API server.

mod issuer;
mod keys;
mod seen;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;
mod verifier;

use std::time::Duration;

use hyper::{Uri, header::HeaderValue};

pub use self::verifier::Verifier;
use crate::{BoxError, Env, Kit, watched::Watched};

/// `IDENTITY`: do services prove to each other who they are?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By the cluster's service-account tokens.
    Kubernetes,
    /// Not at all: whoever reaches a service is served.
    Off,
}

impl Mode {
    /// As it is set and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Off => "off",
        }
    }
}

/// Where a service that is called finds the keys.
#[derive(Debug, Clone)]
pub struct Config {
    /// `IDENTITY_DIR`: the folder with `token` (for the API server), `ca.crt` and `namespace`, as Kubernetes lays it out.
    pub folder: String,
    /// `IDENTITY_URL`: the API server.
    pub url: Uri,
    /// `IDENTITY_REFRESH`: between two looks for new keys.
    pub refresh: Duration,
}

impl Config {
    /// Reads it.
    pub fn read(env: &mut Env<'_>) -> Self {
        Self {
            folder: env.string(
                "IDENTITY_DIR",
                "/var/run/secrets/kubernetes.io/serviceaccount",
                "the folder with token (for the API server), ca.crt and namespace",
            ),
            url: env.uri_or(
                "IDENTITY_URL",
                "https://kubernetes.default.svc",
                "the API server, which publishes the keys that sign callers' tokens",
            ),
            refresh: env.interval(
                "IDENTITY_REFRESH",
                Duration::from_secs(300),
                "between two looks for new keys",
            ),
        }
    }
}

/// The token that a client sends, as the kubelet renews it; none with `IDENTITY=off`.
///
/// # Errors
/// When the file cannot be read.
pub fn token(
    setting: &'static str,
    file: &str,
    kit: &Kit,
) -> Result<Option<Watched<HeaderValue>>, BoxError> {
    if kit.config.identity == Mode::Off {
        return Ok(None);
    }
    let token = Watched::start(setting, file, authorization, kit);
    token.map(Some).map_err(|error| {
        format!("{error}: it holds this service's token for the one that it calls; outside of a cluster set IDENTITY=off").into()
    })
}

/// The header's value for a token.
fn authorization(token: &str) -> Result<HeaderValue, BoxError> {
    let token = token.trim();
    if token.is_empty() {
        return Err("there is no token in it".into());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(value)
}
