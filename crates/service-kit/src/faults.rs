//! Faults on purpose: latency, errors and dropped connections by route, and a frozen runtime. They are set on the admin
//! listener, only with `FAULTS=on`, and end by themselves.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use prometheus::IntCounterVec;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{runtime::Handle, time::sleep};
use tracing::Span;

use crate::{Problem, Request, Response, body, input::Faults as InputFaults};

/// The route that stands for all.
const ANY_ROUTE: &str = "*";
/// The longest that a fault lasts, in seconds.
const MAX_TTL: u64 = 600;
/// The longest added latency and freeze, in milliseconds.
const MAX_MILLIS: u64 = 60_000;

/// The faults that are set now; none can be without `FAULTS=on`.
#[derive(Debug, Clone)]
pub struct Faults {
    active: Arc<Mutex<Active>>,
    is_on: bool,
    /// `faults_injected_total{kind}`: latency, error, drop, freeze.
    injected: IntCounterVec,
    /// The public runtime, which a freeze blocks.
    runtime: Handle,
}

/// By route, with the end of each.
type Active = BTreeMap<String, (Rule, Instant)>;

/// One fault, as it is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A route's template, e.g. `/v1/orders`, or `*` for all.
    route: String,
    /// Milliseconds before the answer.
    #[serde(default)]
    latency_ms: u64,
    /// The share of requests answered with `error_status`.
    #[serde(default)]
    error_ratio: f64,
    /// That status.
    #[serde(default = "internal_server_error")]
    error_status: u16,
    /// The share of requests whose connection is closed without an answer.
    #[serde(default)]
    drop_ratio: f64,
    /// Milliseconds for which every worker of the public runtime is blocked, once, now.
    #[serde(default)]
    freeze_ms: u64,
    /// Seconds until it ends by itself.
    ttl_seconds: u64,
}

fn internal_server_error() -> u16 {
    500
}

impl Rule {
    /// 422 with every fault of it.
    fn validate(&self) -> Result<(), Problem> {
        let mut faults = InputFaults::default();
        let ratio = |ratio: f64| (0.0..=1.0).contains(&ratio);
        let millis = format!("is from 0 to {MAX_MILLIS}");
        faults.check(self.latency_ms <= MAX_MILLIS, "latency_ms", &millis);
        faults.check(self.freeze_ms <= MAX_MILLIS, "freeze_ms", &millis);
        faults.check(ratio(self.error_ratio), "error_ratio", "is from 0 to 1");
        faults.check(ratio(self.drop_ratio), "drop_ratio", "is from 0 to 1");
        faults.check(
            (500..=599).contains(&self.error_status),
            "error_status",
            "is from 500 to 599",
        );
        faults.check(
            (1..=MAX_TTL).contains(&self.ttl_seconds),
            "ttl_seconds",
            format!("is from 1 to {MAX_TTL}"),
        );
        faults.finish()
    }
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
pub struct Dropped;

impl Faults {
    /// No fault; `is_on` says whether any can be set.
    pub(crate) fn new(is_on: bool, injected: IntCounterVec, runtime: Handle) -> Self {
        Self { active: Arc::default(), is_on, injected, runtime }
    }

    /// Can any be set?
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// What is set now: the routes, and for how many seconds still.
    pub fn shown(&self) -> Vec<serde_json::Value> {
        let show = |(rule, end): &(Rule, Instant)| {
            let left = end.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
            let mut shown = json!(rule);
            shown["ttl_seconds"] = json!(left);
            shown
        };
        self.active().values().map(show).collect()
    }

    /// Answers `GET`, `HEAD`, `PUT` and `DELETE /faults`.
    pub(crate) async fn answer(&self, mut request: Request) -> Result<Response, Problem> {
        if !self.is_on {
            return Err(Problem::not_found("faults are off: FAULTS=on allows them"));
        }
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::PUT => {
                let bytes = body::read(&mut request, 4096, Duration::from_secs(5)).await?;
                let rule: Rule = body::parse(&bytes)?;
                rule.validate()?;
                self.set(rule);
            }
            Method::DELETE => self.active().clear(),
            _ => return Err(Problem::method_not_allowed("GET, HEAD, PUT, DELETE")),
        }
        Ok(body::json(StatusCode::OK, &json!({"faults": self.shown()})))
    }

    fn set(&self, rule: Rule) {
        tracing::warn!(?rule, "a fault is set");
        if rule.freeze_ms > 0 {
            self.freeze(Duration::from_millis(rule.freeze_ms));
        }
        let end = Instant::now() + Duration::from_secs(rule.ttl_seconds);
        self.active().insert(rule.route.clone(), (rule, end));
    }

    /// Blocks every worker of the public runtime, as a deadlock would.
    fn freeze(&self, time: Duration) {
        self.injected.with_label_values(&["freeze"]).inc();
        let end = Instant::now() + time;
        // A worker that is blocked takes no second task, so each task of these many ends up on another worker.
        for _ in 0..self.runtime.metrics().num_workers() {
            self.runtime.spawn(async move { block_until(end) });
        }
    }

    /// Lets a request to this route suffer what is set for it. The answer in place of the handler's, if there is one.
    pub(crate) async fn suffer(&self, template: &str) -> Result<Option<Problem>, Dropped> {
        let Some(rule) = self.rule(template) else { return Ok(None) };
        if rule.latency_ms > 0 {
            self.mark("latency");
            sleep(Duration::from_millis(rule.latency_ms)).await;
        }
        if fastrand::f64() < rule.drop_ratio {
            self.mark("drop");
            return Err(Dropped);
        }
        if fastrand::f64() < rule.error_ratio {
            self.mark("error");
            let status = StatusCode::from_u16(rule.error_status).expect("it was validated");
            return Ok(Some(Problem::new(status, "injected-fault", "A fault on purpose")));
        }
        Ok(None)
    }

    fn mark(&self, kind: &str) {
        self.injected.with_label_values(&[kind]).inc();
        Span::current().record("fault", kind);
    }

    fn rule(&self, template: &str) -> Option<Rule> {
        let active = self.active();
        active.get(template).or_else(|| active.get(ANY_ROUTE)).map(|(rule, _)| rule.clone())
    }

    /// Those whose time is not over.
    fn active(&self) -> MutexGuard<'_, Active> {
        let mut active = self.active.lock().expect("no holder of this lock panics");
        active.retain(|_, (_, end)| *end > Instant::now());
        active
    }
}

#[expect(clippy::disallowed_methods, reason = "to block a worker is what it is for")]
fn block_until(end: Instant) {
    thread::sleep(end.saturating_duration_since(Instant::now()));
}
