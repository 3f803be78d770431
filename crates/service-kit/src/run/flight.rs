//! A request in flight: one object, from its head to the end of its work, whoever goes away in between.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{
    StatusCode,
    header::{CONNECTION, HeaderValue},
};
use prometheus::{IntCounter, IntGauge};
use tokio::time::Instant;
use tracing::Span;

use super::{
    Kit,
    requests::{Kind, Requests},
};
use crate::{
    Problem, Response,
    database::chain,
    deadline,
    health::Readiness,
    shares::{FairShares, Held},
    telemetry::{TRACE_ID, Trace},
};

/// The status in metrics and log of a request whose caller did not wait for the answer, as nginx has it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What all requests in flight share: the room for them, and where they are told of.
#[derive(Debug)]
pub(super) struct Flights {
    requests: Requests,
    readiness: Readiness,
    /// Requests that have a permit, and how many may have one.
    at_work: AtomicUsize,
    limit: usize,
    shares: Option<Arc<FairShares>>,
    shown: IntGauge,
    shed: IntCounter,
}

/// A request in flight. It is counted and logged once: when it is answered, or when nobody waits for the answer any more.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<Flights>,
    method: &'static str,
    pub(super) route: &'static str,
    pub(super) begin: Instant,
    pub(super) trace: Trace,
    pub(super) span: Span,
    permit: Option<Permit>,
    is_told: bool,
}

/// The room for one request at work.
#[derive(Debug)]
struct Permit {
    flights: Arc<Flights>,
    _share: Option<Held>,
}

impl Flights {
    /// As many at a time as the settings say, of which each client has its share.
    pub(super) fn new(kit: &Kit, shares: Option<Arc<FairShares>>, requests: Requests) -> Arc<Self> {
        let (limit, metrics) = (kit.config.max_in_flight, &kit.metrics);
        metrics.in_flight_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        Arc::new(Self {
            requests,
            readiness: kit.readiness.clone(),
            at_work: AtomicUsize::new(0),
            limit,
            shares,
            shown: metrics.in_flight.clone(),
            shed: metrics.shed.clone(),
        })
    }

    /// Lets pooled clients go before the connections are closed: one closed just as the next request is sent would lose
    /// it (RFC 9112, 9.6).
    pub(super) fn close_if_draining(&self, response: &mut Response) {
        if self.readiness.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// The client that a request is from, where clients have shares.
    pub(super) fn client(&self, peer: IpAddr, headers: &hyper::HeaderMap) -> Option<IpAddr> {
        self.shares.as_ref().map(|shares| shares.client(peer, headers))
    }

    /// Room for one more request.
    fn permit(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Permit, Problem> {
        let one_more = |count| (count < self.limit).then_some(count + 1);
        let share = match (&self.shares, client) {
            (Some(shares), Some(client)) => {
                let share = shares.hold(client, self.limit);
                Some(share.ok_or_else(|| {
                    let detail = "this address has as many requests at work as one may have";
                    Problem::too_many_requests(detail, Duration::from_secs(1))
                })?)
            }
            _ => None,
        };
        if self.at_work.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_err() {
            self.shed.inc();
            return Err(Problem::unavailable("too many requests are at work"));
        }
        self.shown.inc();
        Ok(Permit { flights: Arc::clone(self), _share: share })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.flights.shown.dec();
        self.flights.at_work.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Flight {
    /// Of a request whose head was read at `begin`.
    pub(super) fn new(
        flights: &Arc<Flights>,
        (method, route): (&'static str, &'static str),
        begin: Instant,
        (trace, span): (Trace, Span),
    ) -> Self {
        let flights = Arc::clone(flights);
        Self { flights, method, route, begin, trace, span, permit: None, is_told: false }
    }

    /// Takes the room for its work, which it has until it ends.
    pub(super) fn take_permit(&mut self, client: Option<IpAddr>) -> Result<(), Problem> {
        self.permit = Some(self.flights.permit(client)?);
        Ok(())
    }

    /// The answer to what came of it.
    pub(super) fn answer(&mut self, result: Result<Response, Problem>) -> Response {
        // A caller whose deadline passed had stopped waiting, as a client that went away: no error of this service.
        let is_given_up = match &result {
            Ok(response) => response.extensions().get::<deadline::Exceeded>().is_some(),
            Err(problem) => problem.is_deadline_exceeded(),
        };
        let mut response = match result {
            Ok(response) => response,
            Err(problem) => self.refuse(problem),
        };
        let id = self.trace.id();
        let value = HeaderValue::from_bytes(&id).expect("digits are visible letters");
        response.headers_mut().insert(TRACE_ID, value);
        self.flights.close_if_draining(&mut response);
        let status = response.status().as_u16();
        self.span.record("http.response.status_code", status);
        self.tell(if is_given_up { CLIENT_CLOSED_REQUEST } else { status }, &id);
        response
    }

    fn refuse(&self, problem: Problem) -> Response {
        let (trace_id, route) = (self.trace.id_text(), self.route);
        if let Some(cause) = problem.cause() {
            let error = chain(cause.as_ref());
            if problem.status() == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!(trace_id, route, error, "a request failed");
            } else {
                tracing::warn!(trace_id, route, error, "a request failed");
            }
        }
        problem.into_response(&trace_id)
    }

    /// Nobody waits for the answer any more.
    pub(super) fn leave(&mut self) {
        self.span.record("http.response.status_code", CLIENT_CLOSED_REQUEST);
        self.tell(CLIENT_CLOSED_REQUEST, &self.trace.id());
    }

    /// It is neither counted nor logged: its connection is closed on purpose.
    pub(super) fn forget(&mut self) {
        self.is_told = true;
    }

    /// The work of a write has ended after it was answered, or after its caller left.
    pub(super) fn end(self, result: &Result<Response, Problem>) {
        let status = match result {
            Ok(response) => response.status(),
            Err(problem) => problem.status(),
        };
        tracing::info!(
            trace_id = self.trace.id_text(),
            method = self.method,
            route = self.route,
            status = status.as_u16(),
            duration_ms = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX),
            "a write came to its end, for which nobody waited"
        );
    }

    fn tell(&mut self, status: u16, trace_id: &[u8]) {
        if self.is_told {
            return;
        }
        self.is_told = true;
        let kind = Kind { method: self.method, route: self.route, status };
        self.flights.requests.answered(kind, self.begin.elapsed(), trace_id);
    }
}

impl Drop for Flight {
    /// A connection that ends takes what is at work on it along.
    fn drop(&mut self) {
        if !self.is_told {
            self.leave();
        }
    }
}
