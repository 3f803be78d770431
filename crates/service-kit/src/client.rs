//! Calls to other services: pooled connections, a bound on every wait, a breaker, retries with a budget; trace and
//! deadline travel with them.

mod breaker;
mod guard;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Body as _,
    header::{AUTHORIZATION, HeaderValue},
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{sleep, timeout};

use self::guard::Guard;
pub(crate) use self::guard::UpstreamMetrics;
use crate::{
    Body, BoxError, Problem, body, deadline, metrics::Metrics, telemetry, watched::Watched,
};

/// To connect.
const CONNECT: Duration = Duration::from_secs(1);
/// How long an idle connection is kept: less than the server's header time-out (30 s), or it would be closed under us.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Idle connections for each host.
const POOL_SIZE: usize = 64;
/// How often a request is sent at most.
const ATTEMPTS: u32 = 3;
/// The longest wait before the first retry; it doubles, and each wait is a random part of it.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A client for one other service.
#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpConnector, Body>,
    response: Duration,
    guard: Option<Arc<Guard>>,
    token: Option<Watched<HeaderValue>>,
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
    /// The request's own body broke off, or was cut: the upstream has no part in that.
    #[error("the request's body broke off")]
    Body(#[source] legacy::Error),
    /// The breaker is open: the request was not sent.
    #[error("too many failures in a row; no request for {retry_after:?}")]
    Open {
        /// How long it stays so.
        retry_after: Duration,
    },
}

impl ClientError {
    /// As the gateway tells it: 503 when nothing was sent, 504 for a time-out, 502 for a broken connection.
    pub fn into_problem(self, upstream: &str) -> Problem {
        let problem = match self {
            Self::Connect(_) => Problem::unavailable(format!("{upstream} is not reached")),
            Self::Body(_) => Problem::bad_request("the body broke off"),
            Self::Open { retry_after } => Problem::unavailable_for(
                format!("{upstream} failed too often in a row and gets a pause"),
                retry_after,
            ),
            Self::Timeout(within) => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "A service did not answer in time",
            )
            .detail(format!("{upstream} did not answer within {within:?}")),
            Self::Broken(_) => Problem::new(
                StatusCode::BAD_GATEWAY,
                "upstream-broken",
                "A service broke off its answer",
            )
            .detail(format!("{upstream} broke off its answer")),
        };
        problem.source(self)
    }

    /// Its name in `upstream_requests_total`.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Body(_) => "body",
            Self::Timeout(_) => "timeout",
            Self::Broken(_) => "broken",
            Self::Open { .. } => "open",
        }
    }
}

impl Client {
    /// A client of the service `upstream` that waits for an answer at most `response`.
    pub fn new(upstream: &'static str, response: Duration, metrics: &Metrics) -> Self {
        let guard = Guard::new(upstream, &metrics.upstreams);
        Self { guard: Some(Arc::new(guard)), ..Self::unguarded(response) }
    }

    /// A client for looking how others are: no breaker, no retry, no metrics.
    pub fn unguarded(response: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .build(tcp);
        Self { http, response, guard: None, token: None }
    }

    /// The same client, which tells with this token who it is.
    #[must_use]
    pub fn with_token(self, token: Option<Watched<HeaderValue>>) -> Self {
        Self { token, ..self }
    }

    /// Sends a request that is safe to repeat, and reads the whole answer.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, ClientError> {
        self.with_retries(|| async {
            let request =
                request.clone().map(|bytes| bytes.map_err(|never| match never {}).boxed());
            let (parts, body) = self.exchange(request).await?.into_parts();
            let bytes = body.collect().await.map_err(ClientError::Broken)?.to_bytes();
            Ok(Response::from_parts(parts, bytes))
        })
        .await
    }

    /// Sends a request on and gives the answer as it comes. It is repeated only when it is a GET without a body.
    pub async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, ClientError> {
        if request.method() == Method::GET && request.body().is_end_stream() {
            let (head, _) = request.into_parts();
            let again = || Request::from_parts(head.clone(), body::full(Bytes::new()));
            return self.with_retries(|| self.exchange(again())).await;
        }
        self.once(self.exchange(request)).await
    }

    /// Tries again while the request was not answered, the budget lasts and the deadline is not over.
    async fn with_retries<T, F: Future<Output = Result<Response<T>, ClientError>>>(
        &self,
        exchange: impl Fn() -> F,
    ) -> Result<Response<T>, ClientError> {
        let Some(guard) = &self.guard else { return self.once(exchange()).await };
        guard.deposit();
        let mut attempt = 1;
        loop {
            let result = self.once(exchange()).await;
            let pause = RETRY_PAUSE * 2_u32.pow(attempt - 1);
            let in_time = deadline::remaining().is_none_or(|remaining| remaining > pause);
            if attempt == ATTEMPTS || !is_worth_a_retry(&result) || !in_time || !guard.withdraw() {
                return result;
            }
            sleep(pause.mul_f64(fastrand::f64())).await;
            attempt += 1;
        }
    }

    /// One attempt, within the time that is left, behind the breaker.
    async fn once<T>(
        &self,
        exchange: impl Future<Output = Result<Response<T>, ClientError>>,
    ) -> Result<Response<T>, ClientError> {
        let within = self.time_left();
        let bounded =
            async { timeout(within, exchange).await.unwrap_or(Err(ClientError::Timeout(within))) };
        let Some(guard) = &self.guard else { return bounded.await };
        let permit = guard.admit()?;
        let result = bounded.await;
        guard.record(permit, result.as_ref().map(Response::status));
        result
    }

    async fn exchange(&self, mut request: Request<Body>) -> Result<Response<Body>, ClientError> {
        telemetry::inject_trace(request.headers_mut());
        deadline::inject(request.headers_mut(), self.time_left());
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, HeaderValue::clone(&token.get()));
        }
        match self.http.request(request).await {
            Ok(response) => Ok(response.map(|body| body.map_err(BoxError::from).boxed())),
            Err(error) if error.is_connect() => Err(ClientError::Connect(error)),
            Err(error) if is_of_the_body(&error) => Err(ClientError::Body(error)),
            Err(error) => Err(ClientError::Broken(error.into())),
        }
    }

    fn time_left(&self) -> Duration {
        deadline::remaining().map_or(self.response, |remaining| remaining.min(self.response))
    }
}

/// Did the request's body fail, rather than the connection?
fn is_of_the_body(error: &legacy::Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
    cause.is_some_and(hyper::Error::is_user)
}

/// Nothing came back, or a proxy on the way says so. A 503 asks for time, and an answer is an answer.
fn is_worth_a_retry<T>(result: &Result<Response<T>, ClientError>) -> bool {
    match result {
        Ok(response) => response.status() == StatusCode::BAD_GATEWAY,
        Err(error) => matches!(error, ClientError::Connect(_) | ClientError::Broken(_)),
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
