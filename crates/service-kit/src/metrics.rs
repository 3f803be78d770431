//! Metrics: requests by rate, errors and duration, the build, the process; a registry for the service's own.

use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder, core::Collector,
};

use crate::{Identity, client::UpstreamMetrics};

/// Bucket bounds in seconds: fine below a millisecond, where such services answer.
const SECONDS: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The metrics of a service.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Where the service registers its own.
    pub registry: Registry,
    /// `http_request_duration_seconds{method,route,status}`: from the head read to the answer's head.
    pub(crate) duration: HistogramVec,
    /// `http_requests_in_flight`: requests at work.
    pub in_flight: IntGauge,
    /// `faults_injected_total{kind}`: faults on purpose.
    pub(crate) faults: IntCounterVec,
    /// Of the calls to other services.
    pub(crate) upstreams: UpstreamMetrics,
    /// `http_requests_in_flight_limit`: requests at work at most.
    pub(crate) in_flight_limit: IntGauge,
    /// `http_requests_shed_total`: requests answered 503 because too many were at work.
    pub shed: IntCounter,
}

impl Metrics {
    /// The metrics of a service of this name and version.
    pub fn new(identity: Identity) -> Self {
        let registry = Registry::new();
        let build = Opts::new("build_info", "1, with the version and revision that runs")
            .const_label("service", identity.name)
            .const_label("version", identity.version)
            .const_label("revision", identity.revision);
        let build = register(&registry, Gauge::with_opts(build).expect("the options are valid"));
        build.set(1.0);
        let duration =
            HistogramOpts::new("http_request_duration_seconds", "Requests by route and status")
                .buckets(SECONDS.to_vec());
        let duration = HistogramVec::new(duration, &["method", "route", "status"])
            .expect("the options are valid");
        let in_flight = IntGauge::new("http_requests_in_flight", "Requests at work")
            .expect("the name is valid");
        let limit = IntGauge::new("http_requests_in_flight_limit", "Requests at work at most");
        let shed = IntCounter::new(
            "http_requests_shed_total",
            "Requests refused because too many were at work",
        )
        .expect("the name is valid");
        let faults = Opts::new("faults_injected_total", "Faults on purpose, by kind");
        let faults = IntCounterVec::new(faults, &["kind"]).expect("the options are valid");
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process)).expect("registered once");
        Self {
            duration: register(&registry, duration),
            in_flight: register(&registry, in_flight),
            in_flight_limit: register(&registry, limit.expect("the name is valid")),
            shed: register(&registry, shed),
            faults: register(&registry, faults),
            upstreams: UpstreamMetrics::new(&registry),
            registry,
        }
    }

    /// All of them in Prometheus' text format.
    pub fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("our metrics are well-formed")
    }
}

/// Registers a metric and gives it back. Each name is registered once, at the start.
pub fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("each metric is registered once");
    collector
}
