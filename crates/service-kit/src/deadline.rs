//! Deadlines that travel with a request: who answers knows how long the one who asked still waits.

use std::time::Duration;

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use tokio::time::Instant;

use crate::{input::digits, scope};

/// The milliseconds that the caller still waits, a whole number. It can only shorten what the service allows.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// Until when a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// Then it is over.
    pub(crate) at: Instant,
    /// So long it is from its begin.
    pub(crate) within: Duration,
    /// Did the caller shorten it? What does not end in time then is of the caller's making.
    pub(crate) is_callers: bool,
}

impl Deadline {
    /// Of a request that began with these headers: what the caller still waits, but at least `least`, which is asked where
    /// there is a header, and at most `limit`. A header that is no number says nothing.
    pub(crate) fn of(
        headers: &HeaderMap,
        begin: Instant,
        least: impl FnOnce() -> Duration,
        limit: Duration,
    ) -> Self {
        let told = headers.get(HEADER).and_then(|value| digits(value.to_str().ok()?));
        let told = told.map(|millis| Duration::from_millis(millis.into()).max(least()));
        let is_callers = told.is_some_and(|told| told < limit);
        let within = told.map_or(limit, |told| told.min(limit));
        Self { at: begin + within, within, is_callers }
    }

    /// Is the time over?
    pub(crate) fn is_over(self) -> bool {
        self.at <= Instant::now()
    }
}

/// How long the caller of the request at work still waits; none outside of a request.
pub fn remaining() -> Option<Duration> {
    scope::deadline().map(|deadline| deadline.at.saturating_duration_since(Instant::now()))
}

/// The time that a call to another service has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallTime {
    /// Then it is over.
    pub(crate) end: Instant,
    /// So long it is from now.
    pub(crate) within: Duration,
    /// Did the caller's deadline cut it short?
    pub(crate) is_cut: bool,
}

impl CallTime {
    /// All of `limit`.
    pub(crate) fn full(limit: Duration) -> Self {
        Self { end: Instant::now() + limit, within: limit, is_cut: false }
    }

    /// At most `limit`, and within the deadline of the request in flight.
    pub(crate) fn of(limit: Duration) -> Self {
        let full = Self::full(limit);
        match scope::deadline() {
            Some(Deadline { at, is_callers, .. }) if at < full.end => {
                let within = at.saturating_duration_since(Instant::now());
                Self { end: at, within, is_cut: is_callers }
            }
            _ => full,
        }
    }
}

/// Marks an upstream's 504 that says that the caller's deadline was over, among a response's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exceeded;

/// Tells the next service how long this one still waits.
pub(crate) fn inject(headers: &mut HeaderMap, within: Duration) {
    headers
        .insert(HEADER, HeaderValue::from(u64::try_from(within.as_millis()).unwrap_or(u64::MAX)));
}

#[cfg(test)]
mod tests {
    use tracing::Span;

    use super::*;
    use crate::{scope::Scope, telemetry::Trace};

    #[test]
    fn a_caller_can_shorten_the_time_and_not_lengthen_it() {
        let limit = Duration::from_secs(10);
        let with_least = |value: &'static str, least: u64| {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_static(value))]);
            let least = || Duration::from_millis(least);
            let Deadline { within, is_callers, .. } =
                Deadline::of(&headers, Instant::now(), least, limit);
            (within, is_callers)
        };
        let with = |value| with_least(value, 0);
        assert_eq!(with("250"), (Duration::from_millis(250), true));
        assert_eq!(with("0"), (Duration::ZERO, true));
        assert_eq!(with_least("99", 100), (Duration::from_millis(100), true));
        assert_eq!(with_least("250", 100), (Duration::from_millis(250), true));
        assert_eq!(with_least("0", 60_000), (limit, false));
        for nothing_said in ["", "10000", "60000", "-1", "1.5", "soon", "99999999999999999999"] {
            assert_eq!(with(nothing_said), (limit, false), "{nothing_said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_told_the_limit_holds(value in "[\\x20-\\x7e]{0,30}") {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_str(&value).unwrap())]);
            let limit = Duration::from_secs(10);
            proptest::prop_assert!(Deadline::of(&headers, Instant::now(), Duration::default, limit).within <= limit);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_remains_is_told_to_the_next() {
        assert_eq!(remaining(), None);
        let (trace, _) = Trace::of(&HeaderMap::new(), 0.0, || false, Span::none);
        let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_static("2000"))]);
        let deadline = Some(Deadline::of(
            &headers,
            Instant::now(),
            Duration::default,
            Duration::from_secs(10),
        ));
        Scope { deadline, trace, peer: None }
            .run(async {
                tokio::time::advance(Duration::from_millis(500)).await;
                assert_eq!(remaining(), Some(Duration::from_millis(1500)));
                let [full, cut] = [1, 3].map(|seconds| CallTime::of(Duration::from_secs(seconds)));
                assert_eq!((full.within, full.is_cut), (Duration::from_secs(1), false));
                assert_eq!((cut.within, cut.is_cut), (Duration::from_millis(1500), true));
                tokio::time::advance(Duration::from_secs(5)).await;
                assert_eq!(remaining(), Some(Duration::ZERO));
            })
            .await;
    }
}
