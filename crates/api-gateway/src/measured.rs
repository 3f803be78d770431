//! What Prometheus has measured: series over the last minutes for the charts, and some figures of now.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::{Request, Uri};
use serde_json::Value;
use service_kit::client::Client;

/// How far back the charts look, in seconds.
pub const WINDOW_SECONDS: u64 = 15 * 60;
/// Between two points, in seconds.
pub const STEP_SECONDS: u64 = 15;

/// How many questions at a time.
const AT_ONCE: usize = 2;

/// Each kind of series by service (the scrape job's name).
const RANGES: [(Kind, &str); 7] = [
    (Kind::Rate, "sum by (job) (rate(http_request_duration_seconds_count[1m]))"),
    (
        Kind::Errors, // without an error there is no such series: then it is 0
        r#"sum by (job) (rate(http_request_duration_seconds_count{status=~"5.."}[1m])) or 0 * sum by (job) (rate(http_request_duration_seconds_count[1m]))"#,
    ),
    (
        Kind::P50,
        "histogram_quantile(0.5, sum by (job, le) (rate(http_request_duration_seconds_bucket[1m])))",
    ),
    (
        Kind::P95,
        "histogram_quantile(0.95, sum by (job, le) (rate(http_request_duration_seconds_bucket[1m])))",
    ),
    (
        Kind::P99,
        "histogram_quantile(0.99, sum by (job, le) (rate(http_request_duration_seconds_bucket[1m])))",
    ),
    (Kind::Cpu, "sum by (job) (rate(process_cpu_seconds_total[1m]))"),
    (Kind::Memory, "sum by (job) (process_resident_memory_bytes)"),
];
/// The same for figures of now.
const FIGURES: [(Kind, &str); 6] = [
    (Kind::InFlight, "sum by (job) (http_requests_in_flight)"),
    (Kind::InFlightLimit, "sum by (job) (http_requests_in_flight_limit)"),
    (Kind::Replicas, "count by (job) (up == 1)"),
    (Kind::Breaker, "max by (job) (upstream_breaker_state)"),
    (Kind::Retries, r#"sum by (job) (increase(upstream_retries_total{outcome="sent"}[15m]))"#),
    (
        Kind::RetriesRefused,
        r#"sum by (job) (increase(upstream_retries_total{outcome="refused"}[15m]))"#,
    ),
];

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Requests a second.
    Rate,
    /// Of these, answered 5xx.
    Errors,
    /// Median latency, seconds.
    P50,
    /// 95th percentile of the latency, seconds.
    P95,
    /// 99th percentile of the latency, seconds.
    P99,
    /// Cores.
    Cpu,
    /// Resident bytes.
    Memory,
    /// Requests at work.
    InFlight,
    /// At most so many.
    InFlightLimit,
    /// Replicas that are up.
    Replicas,
    /// The worst breaker: 0 closed, 1 half open, 2 open.
    Breaker,
    /// Retries within the window.
    Retries,
    /// Retries that the budget refused.
    RetriesRefused,
}

/// A point: seconds since the Unix epoch, and the value.
pub type Point = (f64, f64);

/// Everything that was measured, by kind and service.
#[derive(Debug, Default)]
pub struct Measured(BTreeMap<(Kind, String), Vec<Point>>);

impl Measured {
    /// Asks Prometheus for all; none when it does not answer.
    pub async fn read(client: &Client, base: &Uri, now: u64) -> Option<Self> {
        let ranges = RANGES.map(|(kind, query)| {
            let range = format!("start={}&end={now}&step={STEP_SECONDS}", now - WINDOW_SECONDS);
            (kind, format!("{base}api/v1/query_range?query={}&{range}", escaped(query)))
        });
        let figures = FIGURES
            .map(|(kind, query)| (kind, format!("{base}api/v1/query?query={}", escaped(query))));
        let asked = ranges
            .into_iter()
            .chain(figures)
            .map(|(kind, url)| async move { ask(client, &url).await.map(|answer| (kind, answer)) });
        let answers = stream::iter(asked).buffered(AT_ONCE).map(|answer| answer.ok_or(()));
        let add = |mut measured: Self, (kind, answer): (Kind, Value)| async move {
            measured.add(kind, &answer);
            Ok(measured)
        };
        answers.try_fold(Self::default(), add).await.ok()
    }

    /// The points of a kind for a service, oldest first.
    pub fn points(&self, kind: Kind, service: &str) -> &[Point] {
        self.0.get(&(kind, service.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The latest value.
    pub fn now(&self, kind: Kind, service: &str) -> Option<f64> {
        self.points(kind, service).last().map(|(_, value)| *value)
    }

    fn add(&mut self, kind: Kind, answer: &Value) {
        for series in answer["data"]["result"].as_array().into_iter().flatten() {
            let Some(job) = series["metric"]["job"].as_str() else { continue };
            let range = series["values"].as_array().into_iter().flatten();
            let points = range.chain(series.get("value")).filter_map(point).collect();
            self.0.insert((kind, job.to_owned()), points);
        }
    }
}

/// A value as Prometheus writes it, `[seconds, "value"]`; none when it is no number.
fn point(value: &Value) -> Option<Point> {
    let number: f64 = value[1].as_str()?.parse().ok()?;
    number.is_finite().then_some((value[0].as_f64()?, number))
}

async fn ask(client: &Client, url: &str) -> Option<Value> {
    let request = Request::get(url).body(Bytes::new()).ok()?;
    let response = client.send(request).await.ok()?;
    response.status().is_success().then(|| serde_json::from_slice(response.body()).ok())?
}

fn escaped(query: &str) -> String {
    form_urlencoded::byte_serialize(query.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn series_and_figures_are_kept_by_service_and_what_is_no_number_is_left_out() {
        let mut measured = Measured::default();
        let values = json!([[10, "1.5"], [25, "NaN"], [40, "2"]]);
        let result =
            json!([{"metric": {"job": "orders"}, "values": values}, {"metric": {}, "values": []}]);
        measured.add(Kind::Rate, &json!({"data": {"result": result}}));
        let result = json!([{"metric": {"job": "orders"}, "value": [40.5, "7"]}]);
        measured.add(Kind::InFlight, &json!({"data": {"result": result}}));
        assert_eq!(measured.points(Kind::Rate, "orders"), [(10.0, 1.5), (40.0, 2.0)]);
        assert_eq!(measured.now(Kind::InFlight, "orders"), Some(7.0));
        assert_eq!(measured.now(Kind::Rate, "inventory"), None);
    }
}
