//! What stands before an upstream: its breaker, its budget for retries, and the metrics of both.

use std::{sync::Arc, time::Duration};

use hyper::{Response, StatusCode};
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use tower::retry::budget::{Budget, TpsBudget};

use super::{
    ClientError,
    breaker::{Breaker, Permit},
};
use crate::{
    deadline::{self, CallTime},
    metrics::register,
};

/// How far back the budget looks.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
/// Retries for each second that a quiet client has in any case.
const BUDGET_MIN_PER_SECOND: u32 = 1;
/// Retries as a share of the requests.
const BUDGET_SHARE: f32 = 0.1;

/// The metrics of all upstreams.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamMetrics {
    /// `upstream_requests_total{upstream,outcome}`: answer, failure (5xx but 503), connect, broken,
    /// timeout, deadline (the caller's passed first), body (the request's own broke off), open.
    requests: IntCounterVec,
    /// `upstream_retries_total{upstream,outcome}`: sent, or refused by the budget.
    retries: IntCounterVec,
    /// `upstream_breaker_state{upstream}`: 0 closed, 1 half open, 2 open.
    state: IntGaugeVec,
    /// `upstream_breaker_opened_total{upstream}`.
    opened: IntCounterVec,
}

impl UpstreamMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels);
            register(registry, counter.expect("the options are valid"))
        };
        let state = Opts::new("upstream_breaker_state", "0 closed, 1 half open, 2 open");
        let state = IntGaugeVec::new(state, &["upstream"]).expect("the options are valid");
        Self {
            requests: counter(
                "upstream_requests_total",
                "Requests to another service by what came of them",
                &["upstream", "outcome"],
            ),
            retries: counter(
                "upstream_retries_total",
                "Retries, sent or refused because their budget was spent",
                &["upstream", "outcome"],
            ),
            state: register(registry, state),
            opened: counter(
                "upstream_breaker_opened_total",
                "How often a breaker opened",
                &["upstream"],
            ),
        }
    }
}

/// The guard of one upstream, shared by all clones of its client.
#[derive(Debug)]
pub(super) struct Guard {
    breaker: Arc<Breaker>,
    budget: TpsBudget,
    /// By their outcomes.
    requests: [(&'static str, IntCounter); 8],
    retried: IntCounter,
    refused: IntCounter,
}

impl Guard {
    pub(super) fn new(name: &'static str, metrics: &UpstreamMetrics) -> Self {
        let labels = &[name];
        let breaker = Breaker::new(
            metrics.state.with_label_values(labels),
            metrics.opened.with_label_values(labels),
        );
        // All of them at once, so that a rate sees the first one too.
        let requests =
            ["answer", "failure", "connect", "broken", "timeout", "deadline", "body", "open"]
                .map(|outcome| (outcome, metrics.requests.with_label_values(&[name, outcome])));
        Self {
            breaker,
            budget: TpsBudget::new(BUDGET_WINDOW, BUDGET_MIN_PER_SECOND, BUDGET_SHARE),
            requests,
            retried: metrics.retries.with_label_values(&[name, "sent"]),
            refused: metrics.retries.with_label_values(&[name, "refused"]),
        }
    }

    /// The right to send one request.
    pub(super) fn admit(&self) -> Result<Permit, ClientError> {
        self.breaker.admit().map_err(|retry_after| {
            self.count("open");
            ClientError::Open { retry_after }
        })
    }

    /// A request that is not sent, since its caller's deadline has passed.
    pub(super) fn too_late(&self) -> ClientError {
        self.count("deadline");
        ClientError::Deadline
    }

    /// Counts a request by its outcome, informs the breaker, and adds to the budget for retries if it `earns`. What its
    /// caller caused is evidence of nothing. A 503 is no failure: a service that sheds load says so at once, and opening
    /// the breaker would take away what it does carry.
    pub(super) fn record<T>(
        &self,
        permit: Permit,
        time: CallTime,
        earns: bool,
        result: &mut Result<Response<T>, ClientError>,
    ) {
        let outcome = match result {
            // The upstream was told the caller's deadline too, and gave up for it.
            Ok(response) if time.is_cut && response.status() == StatusCode::GATEWAY_TIMEOUT => {
                response.extensions_mut().insert(deadline::Exceeded);
                "deadline"
            }
            Ok(response) if is_failure(response.status()) => "failure",
            Ok(_) => "answer",
            Err(error) => error.outcome(),
        };
        self.count(outcome);
        if matches!(outcome, "body" | "deadline") {
            return;
        }
        permit.record(outcome == "answer");
        if earns {
            self.budget.deposit();
        }
    }

    /// May one more retry be sent?
    pub(super) fn withdraw(&self) -> bool {
        let allowed = self.budget.withdraw();
        if allowed { &self.retried } else { &self.refused }.inc();
        allowed
    }

    fn count(&self, outcome: &str) {
        let of_outcome = self.requests.iter().find(|(name, _)| *name == outcome);
        of_outcome.expect("every outcome is listed").1.inc();
    }
}

fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE
}
