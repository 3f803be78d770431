//! What is told of every request: its time as a metric, and a line of the access log.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use prometheus::{Histogram, HistogramVec};
use serde_json::json;
use tracing::Level;

use crate::{KitConfig, log::Log, metrics::Metrics};

/// The name by which `LOG` knows the access log.
const TARGET: &str = "service_kit::run";
/// How a line ends, after the trace's identifier.
const END: &[u8] = b"\",\"target\":\"service_kit::run\"}\n";

/// Counts and logs requests.
#[derive(Debug)]
pub(crate) struct Requests {
    duration: HistogramVec,
    /// None when `LOG` has the lines left out.
    log: Option<Log>,
    /// What all requests of a kind have in common is made once.
    kinds: RwLock<BTreeMap<Place, Arc<Common>>>,
}

/// Requests with the same method, route's template and status.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    pub(crate) status: u16,
}

/// A kind by where its texts begin and how long they are, which is compared faster. A text that is in two places makes two
/// entries that say the same.
type Place = ([usize; 4], u16);

impl Kind {
    fn place(self) -> Place {
        let (route, method) = (self.route, self.method);
        let texts = [route.as_ptr().addr(), route.len(), method.as_ptr().addr(), method.len()];
        (texts, self.status)
    }
}

/// What requests of a kind have in common.
#[derive(Debug)]
struct Common {
    duration: Histogram,
    /// The line's middle: from the level to the duration.
    line: String,
}

impl Requests {
    /// For a service with these metrics and settings.
    pub(crate) fn new(metrics: &Metrics, config: &KitConfig, log: Log) -> Self {
        let is_logged = config.log.would_enable(TARGET, &Level::INFO);
        Self {
            duration: metrics.duration.clone(),
            log: is_logged.then_some(log),
            kinds: RwLock::default(),
        }
    }

    /// Counts and logs one.
    pub(crate) fn answered(&self, kind: Kind, duration: Duration, trace_id: &[u8]) {
        let common = self.common(kind);
        common.duration.observe(duration.as_secs_f64());
        let Some(log) = &self.log else { return };
        log.add(|line| {
            line.extend_from_slice(common.line.as_bytes());
            write_millis(line, duration);
            line.extend_from_slice(b",\"trace_id\":\"");
            line.extend_from_slice(trace_id);
            line.extend_from_slice(END);
        });
    }

    fn common(&self, kind: Kind) -> Arc<Common> {
        let place = kind.place();
        let known = self.kinds.read().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        known.unwrap_or_else(|| {
            let common = Arc::new(Common::new(kind, &self.duration));
            let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(kinds.entry(place).or_insert(common))
        })
    }
}

impl Common {
    fn new(Kind { method, route, status }: Kind, duration: &HistogramVec) -> Self {
        Self {
            duration: duration.with_label_values(&[method, route, &status.to_string()]),
            line: format!(
                "\"level\":\"INFO\",\"message\":\"request\",\"method\":{},\"route\":{},\"status\":{status},\"duration_ms\":",
                json!(method),
                json!(route)
            ),
        }
    }
}

/// Writes a duration in milliseconds, with three digits after the point.
fn write_millis(line: &mut Vec<u8>, duration: Duration) {
    let mut micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut digits = [b'0'; 20]; // u64::MAX has as many
    let point = digits.len() - 3;
    let mut begin = digits.len();
    while micros > 0 || begin >= point {
        begin -= 1;
        digits[begin] = b'0' + (micros % 10) as u8;
        micros /= 10;
    }
    line.extend_from_slice(&digits[begin..point]);
    line.push(b'.');
    line.extend_from_slice(&digits[point..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_in_milliseconds() {
        for (micros, expected) in
            [(0, "0.000"), (7, "0.007"), (999, "0.999"), (1000, "1.000"), (12_345_678, "12345.678")]
        {
            let mut line = Vec::new();
            write_millis(&mut line, Duration::from_micros(micros));
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
        let mut line = Vec::new();
        write_millis(&mut line, Duration::MAX);
        assert_eq!(line, b"18446744073709551.615");
    }

    #[test]
    fn a_route_that_is_the_begin_of_another_is_not_that_one() {
        let whole = "/v1/items/{sku}";
        let kind = |route| Kind { method: "GET", route, status: 200 };
        assert_ne!(kind(&whole[..9]).place(), kind(whole).place());
        assert_eq!(kind(whole).place(), kind(whole).place());
    }
}
