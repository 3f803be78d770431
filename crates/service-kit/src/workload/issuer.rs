//! What the API server publishes of its service-account issuer, over TLS with the cluster's authority (`OpenID Connect
//! Discovery 1.0`, as Kubernetes serves it to every service account).

use std::{fs, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, header::AUTHORIZATION};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use tokio::time::timeout;

use super::{Config, authorization, keys::KeySet};
use crate::{BoxError, tls};

/// For one answer.
const WITHIN: Duration = Duration::from_secs(2);
/// The largest answer in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// The part of the discovery document that counts here. Its `jwks_uri` may name an address that only the outside
/// reaches; the API server serves the same keys at a path of its own.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
}

/// Asks for the issuer's name and its keys. Token and authority are read anew: the kubelet renews them.
pub(super) async fn fetch(config: &Config) -> Result<KeySet, BoxError> {
    let discovery = get(config, "/.well-known/openid-configuration").await?;
    let Discovery { issuer } = serde_json::from_slice(&discovery)?;
    let keys = get(config, "/openid/v1/jwks").await?;
    KeySet::parse(issuer, keys.to_vec())
}

async fn get(config: &Config, path: &str) -> Result<Bytes, BoxError> {
    let url = format!("{}{path}", config.url.to_string().trim_end_matches('/'));
    let asked = timeout(WITHIN, ask(config, &url)).await;
    asked
        .map_err(|_| BoxError::from(format!("no answer within {WITHIN:?}")))
        .and_then(|answer| answer)
        .map_err(|error| format!("{url}: {}", crate::database::chain(error.as_ref())).into())
}

async fn ask(config: &Config, url: &str) -> Result<Bytes, BoxError> {
    let named = |file: &str, error: BoxError| format!("{file}: {error}");
    let authority = format!("{}/ca.crt", config.folder);
    let tls = tls::trusting(&authority).map_err(|error| named(&authority, error))?;
    let token = format!("{}/token", config.folder);
    let credential = fs::read_to_string(&token).map_err(|error| named(&token, error.into()))?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
    let client = Client::builder(TokioExecutor::new()).build(connector.wrap_connector(tcp));
    let request = Request::get(url.parse::<Uri>()?)
        .header(AUTHORIZATION, authorization(&credential)?)
        .body(Empty::<Bytes>::new())?;
    let response = client.request(request).await?;
    if !response.status().is_success() {
        return Err(format!("the API server answered {}", response.status()).into());
    }
    Ok(Limited::new(response.into_body(), MAX_BYTES).collect().await?.to_bytes())
}
