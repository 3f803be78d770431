//! Calls to other services: pooled connections, a bound on every wait, the trace carried on.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

use crate::{Body, BoxError, Problem, body, telemetry};

/// To connect.
const CONNECT: Duration = Duration::from_secs(1);
/// How long an idle connection is kept: less than the server's header time-out (30 s), or it would be closed under us.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Idle connections for each host.
const POOL_SIZE: usize = 64;

/// A client for other services.
#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpConnector, Body>,
    response: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection: the request was not sent.
    #[error("cannot connect")]
    Connect(#[source] legacy::Error),
    /// No answer in time: the request may have been carried out.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke: the request may have been carried out.
    #[error("the connection broke")]
    Broken(#[source] BoxError),
}

impl ClientError {
    /// As the gateway tells it: 503 when nothing was sent, 504 for a time-out, 502 for a broken connection.
    pub fn into_problem(self, upstream: &str) -> Problem {
        let problem = match self {
            Self::Connect(_) => Problem::unavailable(format!("{upstream} is not reached")),
            Self::Timeout(within) => Problem::new(
                hyper::StatusCode::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "A service did not answer in time",
            )
            .detail(format!("{upstream} did not answer within {within:?}")),
            Self::Broken(_) => Problem::new(
                hyper::StatusCode::BAD_GATEWAY,
                "upstream-broken",
                "A service broke off its answer",
            )
            .detail(format!("{upstream} broke off its answer")),
        };
        problem.source(self)
    }
}

impl Client {
    /// A client that waits for an answer's head and body at most `response`.
    pub fn new(response: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .build(tcp);
        Self { http, response }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, ClientError> {
        let exchange = async {
            let response = self
                .exchange(request.map(|bytes| bytes.map_err(|never| match never {}).boxed()))
                .await?;
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.map_err(ClientError::Broken)?.to_bytes();
            Ok(Response::from_parts(parts, bytes))
        };
        timeout(self.response, exchange).await.unwrap_or(Err(ClientError::Timeout(self.response)))
    }

    /// Sends a request on and gives the answer as it comes.
    pub async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, ClientError> {
        timeout(self.response, self.exchange(request))
            .await
            .unwrap_or(Err(ClientError::Timeout(self.response)))
    }

    async fn exchange(&self, mut request: Request<Body>) -> Result<Response<Body>, ClientError> {
        telemetry::inject_trace(request.headers_mut());
        match self.http.request(request).await {
            Ok(response) => Ok(response.map(|body| body.map_err(BoxError::from).boxed())),
            Err(error) if error.is_connect() => Err(ClientError::Connect(error)),
            Err(error) => Err(ClientError::Broken(error.into())),
        }
    }
}

/// A request body of JSON bytes.
pub fn json_body(value: &impl serde::Serialize) -> Full<Bytes> {
    Full::new(
        serde_json::to_vec(value)
            .expect("our types have string keys and cannot fail to serialise")
            .into(),
    )
}

/// An empty request body.
pub fn empty() -> Body {
    body::full(Bytes::new())
}
