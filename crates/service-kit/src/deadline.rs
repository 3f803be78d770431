//! Deadlines that travel with a request: who answers knows how long the one who asked still waits.

use std::time::Duration;

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use tokio::time::Instant;

use crate::scope;

/// The milliseconds that the caller still waits, a whole number. It can only shorten what the service allows.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// Until when a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// Then it is over.
    pub(crate) at: Instant,
    /// So long it is from its begin.
    pub(crate) within: Duration,
}

impl Deadline {
    /// Is the time over?
    pub(crate) fn is_over(self) -> bool {
        self.at <= Instant::now()
    }
}

/// How long a request with these headers may take: what the caller still waits, but at most `limit`. A header that is
/// no number says nothing.
pub fn within(headers: &HeaderMap, limit: Duration) -> Duration {
    let told = headers.get(HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    told.map_or(limit, |millis: u32| limit.min(Duration::from_millis(millis.into())))
}

/// How long the caller of the request at work still waits; none outside of a request.
pub fn remaining() -> Option<Duration> {
    scope::deadline().map(|deadline| deadline.at.saturating_duration_since(Instant::now()))
}

/// Until when a call to another service may last, which gets `limit` at most, and how long that is.
pub(crate) fn of_call(limit: Duration) -> (Instant, Duration) {
    let now = Instant::now();
    let limit = now + limit;
    let end = scope::deadline().map_or(limit, |deadline| deadline.at.min(limit));
    (end, end.saturating_duration_since(now))
}

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
        let with = |value: &'static str| {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_static(value))]);
            within(&headers, limit)
        };
        assert_eq!(within(&HeaderMap::new(), limit), limit);
        assert_eq!(with("250"), Duration::from_millis(250));
        assert_eq!(with("0"), Duration::ZERO);
        for nothing_said in ["60000", "-1", "1.5", "soon", "99999999999999999999"] {
            assert_eq!(with(nothing_said), limit, "{nothing_said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_told_the_limit_holds(value in "[\\x20-\\x7e]{0,30}") {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_str(&value).unwrap())]);
            proptest::prop_assert!(within(&headers, Duration::from_secs(10)) <= Duration::from_secs(10));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_remains_is_told_to_the_next() {
        assert_eq!(remaining(), None);
        let (trace, _) = Trace::of(&HeaderMap::new(), 0.0, Span::none);
        let within = Duration::from_secs(2);
        let deadline = Some(Deadline { at: Instant::now() + within, within });
        Scope { deadline, trace, peer: None }
            .run(async {
                tokio::time::advance(Duration::from_millis(500)).await;
                assert_eq!(remaining(), Some(Duration::from_millis(1500)));
                tokio::time::advance(Duration::from_secs(5)).await;
                assert_eq!(remaining(), Some(Duration::ZERO));
            })
            .await;
    }
}
