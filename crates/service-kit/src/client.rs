//! Calls to other services: pooled connections, a bound on every wait, a breaker, retries with a budget; trace and
//! deadline travel with them.

mod breaker;
mod guard;
mod link;
mod pool;

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, Response, StatusCode,
    header::{AUTHORIZATION, HOST, HeaderValue},
    http::uri::PathAndQuery,
};
use tokio::time::{sleep, timeout_at};

use self::{guard::Guard, pool::Pool};
pub(crate) use self::{guard::UpstreamMetrics, link::Answer};
use crate::{
    Body, BoxError, Problem, deadline, deadline::CallTime, metrics::Metrics, telemetry,
    watched::Watched,
};

/// The largest response that is collected, in bytes: above a page of 200 items, and what Prometheus tells the dashboard.
const RESPONSE_BYTES: usize = 1024 * 1024;
/// How often a request is sent at most.
const ATTEMPTS: u32 = 3;
/// The longest wait before the first retry; it doubles, and each wait is a random part of it.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// With less time left until its caller's deadline a request is not sent: given up half-way it would cost a connection here
/// and a statement there, for nobody.
const LEAST_TIME: Duration = Duration::from_millis(10);

/// A client for one other service.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Arc<Pool>,
    response: Duration,
    guard: Option<Arc<Guard>>,
    token: Option<Watched<HeaderValue>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection: the request was not sent.
    #[error("cannot connect")]
    Connect(#[source] BoxError),
    /// No answer in time: the request may have been carried out.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The caller's deadline passed before this call had its full time: that is no evidence about the upstream.
    #[error("the caller's deadline passed")]
    Deadline,
    /// The connection broke: the request may have been carried out.
    #[error("the connection broke")]
    Broken(#[source] BoxError),
    /// The request's own body broke off, or was cut: the upstream has no part in that.
    #[error("the request's body broke off")]
    Body(#[source] hyper::Error),
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
            Self::Deadline => return Problem::deadline_exceeded(),
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
            Self::Deadline => "deadline",
            Self::Broken(_) => "broken",
            Self::Open { .. } => "open",
        }
    }
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        // Did the request's body fail, rather than the connection?
        if error.is_user() { Self::Body(error) } else { Self::Broken(error.into()) }
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
        Self { pool: Pool::new(), response, guard: None, token: None }
    }

    /// The same client, which tells with this token who it is.
    #[must_use]
    pub fn with_token(self, token: Option<Watched<HeaderValue>>) -> Self {
        Self { token, ..self }
    }

    /// Sends a request that is safe to repeat, and reads the whole answer. One of more than 1 MiB counts as broken.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        let answer = self.with_retries(|within| {
            let answer = self.exchange(request.clone().map(Body::from), within);
            async move {
                let (parts, body) = answer.await?.into_parts();
                let body = Limited::new(body, RESPONSE_BYTES).collect().await;
                let bytes = body.map_err(ClientError::Broken)?.to_bytes();
                Ok(Response::from_parts(parts, bytes))
            }
        });
        let answer = answer.await?;
        // The upstream gave up for the caller's deadline, a moment before this client.
        let is_late = answer.extensions().get::<deadline::Exceeded>().is_some();
        if is_late { Err(ClientError::Deadline) } else { Ok(answer) }
    }

    /// Sends a request on and gives the answer as it comes.
    pub async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, ClientError> {
        self.once(false, |within| self.exchange(request, within)).await
    }

    /// The same for a request that is safe to repeat, and is made for each attempt.
    pub async fn forward_again(
        &self,
        request: impl Fn() -> Request<Body>,
    ) -> Result<Response<Body>, ClientError> {
        self.with_retries(|within| self.exchange(request(), within)).await
    }

    /// Tries again while the request was not answered, the budget lasts and the deadline is not over.
    async fn with_retries<T, F>(
        &self,
        exchange: impl Fn(Duration) -> F,
    ) -> Result<Response<T>, ClientError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Response<T>, ClientError>> + Send + 'static,
    {
        let mut attempt = 1;
        loop {
            let result = self.once(attempt == 1, &exchange).await;
            let Some(guard) = &self.guard else { return result };
            if attempt == ATTEMPTS || !is_worth_a_retry(&result) {
                return result;
            }
            let pause = RETRY_PAUSE * 2_u32.pow(attempt - 1);
            let in_time =
                deadline::remaining().is_none_or(|remaining| remaining > pause + LEAST_TIME);
            if !in_time || !guard.withdraw() {
                return result;
            }
            sleep(pause.mul_f64(fastrand::f64())).await;
            attempt += 1;
        }
    }

    /// One attempt, within the time that is left, behind the breaker. `earns`: does it earn budget for retries?
    async fn once<T, F>(
        &self,
        earns: bool,
        exchange: impl FnOnce(Duration) -> F,
    ) -> Result<Response<T>, ClientError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Response<T>, ClientError>> + Send + 'static,
    {
        let time = CallTime::of(self.response);
        let is_over = time.is_cut && time.within < LEAST_TIME;
        let Some(guard) = &self.guard else {
            if is_over {
                return Err(ClientError::Deadline);
            }
            return in_time(time, pin!(exchange(time.within))).await;
        };
        if is_over {
            return Err(guard.too_late());
        }
        let permit = guard.admit()?;
        if permit.is_trial {
            // It has its full time, whoever waits for it and for how long: callers who wait for less, or go away, would
            // keep the breaker open.
            let full = CallTime::full(self.response);
            let (exchange, guard) = (exchange(full.within), Arc::clone(guard));
            let trial = tokio::spawn(async move {
                let mut result = in_time(full, pin!(exchange)).await;
                guard.record(permit, full, earns, &mut result);
                result
            });
            let joined =
                async { trial.await.unwrap_or_else(|end| Err(ClientError::Broken(end.into()))) };
            return in_time(time, pin!(joined)).await;
        }
        let mut result = in_time(time, pin!(exchange(time.within))).await;
        guard.record(permit, time, earns, &mut result);
        result
    }

    /// No async function, which would carry the request twice.
    fn exchange(
        &self,
        mut request: Request<Body>,
        within: Duration,
    ) -> impl Future<Output = Result<Response<Body>, ClientError>> + Send + use<> {
        let host = self.pool.host(request.uri());
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        let headers = request.headers_mut();
        headers.entry(HOST).or_insert_with(|| host.header());
        telemetry::inject(headers);
        deadline::inject(headers, within);
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, HeaderValue::clone(&token.get()));
        }
        Arc::clone(&self.pool).send(request, host)
    }
}

/// An exchange's result, if it comes in time.
async fn in_time<T>(
    time: CallTime,
    exchange: Pin<&mut impl Future<Output = Result<T, ClientError>>>,
) -> Result<T, ClientError> {
    let late =
        || if time.is_cut { ClientError::Deadline } else { ClientError::Timeout(time.within) };
    timeout_at(time.end, exchange).await.unwrap_or_else(|_| Err(late()))
}

/// Nothing came back, or a proxy on the way says so. A 503 asks for time, and an answer is an answer.
fn is_worth_a_retry<T>(result: &Result<Response<T>, ClientError>) -> bool {
    match result {
        Ok(response) => response.status() == StatusCode::BAD_GATEWAY,
        Err(error) => matches!(error, ClientError::Connect(_) | ClientError::Broken(_)),
    }
}

/// A request body of JSON bytes.
pub fn json_body(value: &impl serde::Serialize) -> Bytes {
    let bytes = serde_json::to_vec(value);
    bytes.expect("our types have string keys and cannot fail to serialise").into()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hyper::HeaderMap;
    use tokio::{
        net::TcpListener,
        time::{Instant, timeout},
    };
    use tracing::Span;

    use super::*;
    use crate::{deadline::Deadline, scope::Scope, telemetry::Trace};

    #[tokio::test]
    async fn a_request_with_too_little_time_left_is_not_sent() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = Client::unguarded(Duration::from_secs(5));
        for (left, is_sent) in [(LEAST_TIME / 2, false), (LEAST_TIME * 20, true)] {
            let at = Instant::now() + left;
            let deadline = Some(Deadline { at, within: left, is_callers: true });
            let (trace, _) = Trace::of(&HeaderMap::new(), 0.0, || false, Span::none);
            let request = Request::get(&url).body(Bytes::new()).unwrap();
            let result = Scope { deadline, trace, peer: None }.run(client.send(request)).await;
            assert!(matches!(result, Err(ClientError::Deadline)), "{result:?}");
            let connected = timeout(Duration::from_millis(50), listener.accept()).await;
            assert_eq!(connected.is_ok(), is_sent, "{left:?}");
        }
    }
}
