//! The trace that a request belongs to.
//!
//! Few traces are sampled. A request of any other has the trace's identifier, for the log and for the next service, and
//! no span: [`is_unsampled`] keeps those below it away too.

use std::ops::Range;

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{
        Link, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState,
    },
};
use opentelemetry_http::HeaderInjector;
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{Sampler, SamplingResult, ShouldSample},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::scope;

/// W3C trace context's header.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it, which is passed on.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The two hexadecimal digits of each byte: every answer has 16 of them.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        all[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    all
};

/// The trace of a request or of work in the background, and what stands for that in it.
#[derive(Debug, Clone)]
pub(crate) struct Trace(SpanContext);

impl Trace {
    /// The trace that the request's headers name, or a new one, with the request's span, which is made only when it is
    /// sampled. A caller who asks for sampling gets it where `may_ask` says so; else `ratio` of its traces is sampled, as
    /// of new ones. One who asks for none gets none.
    pub(crate) fn of(
        headers: &HeaderMap,
        ratio: f64,
        may_ask: impl FnOnce() -> bool,
        span: impl FnOnce() -> Span,
    ) -> (Self, Span) {
        let caller = caller(headers);
        let asks = caller.as_ref().map(SpanContext::is_sampled);
        let is_granted = asks == Some(true) && may_ask();
        if is_granted || (asks != Some(false) && fastrand::f64() < ratio) {
            let span = span();
            if let Some(caller) = caller {
                let _no_layer_in_this_process =
                    span.set_parent(Context::new().with_remote_span_context(caller));
            }
            return (Self(span.context().span().span_context().clone()), span);
        }
        let (id, state) = caller.map_or_else(
            || (TraceId::from(fastrand::u128(..)), TraceState::default()),
            |caller| (caller.trace_id(), caller.trace_state().clone()),
        );
        let own = SpanId::from(fastrand::u64(..));
        (Self(SpanContext::new(id, own, TraceFlags::NOT_SAMPLED, false, state)), Span::none())
    }

    /// The identifier in hexadecimal digits.
    pub(crate) fn id(&self) -> [u8; 32] {
        let mut digits = [0; 32];
        put_hex(&mut digits, &self.0.trace_id().to_bytes());
        digits
    }

    /// The same as text.
    pub(crate) fn id_text(&self) -> String {
        self.0.trace_id().to_string()
    }

    /// Tells the next service of a trace that is not sampled: no span stands between.
    fn tell(&self, headers: &mut HeaderMap) {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut value[3..35], &self.0.trace_id().to_bytes());
        put_hex(&mut value[36..52], &self.0.span_id().to_bytes());
        headers.insert(TRACEPARENT, HeaderValue::from_bytes(&value).expect("it is ASCII"));
        // Of another trace than this one it would be wrong.
        headers.remove(TRACESTATE);
        let state = self.0.trace_state().header();
        if !state.is_empty() {
            headers.insert(TRACESTATE, HeaderValue::try_from(state).expect("it came as one"));
        }
    }
}

/// The caller's place in its trace, if it tells one: version, trace, span and flags, to which later versions may add.
fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let value = headers.get(TRACEPARENT)?.as_bytes();
    let number = |at: Range<usize>| value.get(at).and_then(from_hex);
    let (version, trace) = (number(0..2)?, number(3..35)?);
    let (span, flags) = (u64::try_from(number(36..52)?).ok()?, u8::try_from(number(53..55)?).ok()?);
    let is_one = [2, 35, 52].iter().all(|dash| value[*dash] == b'-')
        && match version {
            0 => value.len() == 55,
            255 => false,
            _ => value.get(55).is_none_or(|next| *next == b'-'),
        };
    let state = headers.get(TRACESTATE).and_then(|state| state.to_str().ok()?.parse().ok());
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let (trace, state) = (TraceId::from(trace), state.unwrap_or_default());
    let caller = SpanContext::new(trace, span.into(), flags, true, state);
    (is_one && caller.is_valid()).then_some(caller)
}

/// The number that lower-case hexadecimal digits are, at most 32 of them.
fn from_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(value))
    })
}

/// Writes bytes as hexadecimal digits, two for each.
fn put_hex(digits: &mut [u8], bytes: &[u8]) {
    for (two, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        two.copy_from_slice(&HEX[usize::from(*byte)]);
    }
}

/// Writes the place in the trace into an outgoing request's headers.
pub(crate) fn inject(headers: &mut HeaderMap) {
    if is_unsampled() {
        scope::with(|scope| scope.trace.tell(headers));
    } else {
        let context = Span::current().context();
        TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
    }
}

/// Is a request at work whose trace is not sampled?
pub(super) fn is_unsampled() -> bool {
    scope::with(|scope| !scope.trace.0.is_sampled()).unwrap_or_default()
}

/// Samples the span of a request or of work in the background, since it was made for that; below it, what it has; else by
/// a ratio.
#[derive(Debug, Clone)]
pub(super) struct Sampling(Sampler);

impl Sampling {
    pub(super) fn new(ratio: f64) -> Self {
        Self(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let is_made_for_that = matches!(kind, SpanKind::Server | SpanKind::Consumer);
        let sampler = if is_made_for_that { &Sampler::AlwaysOn } else { &self.0 };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_http::HeaderExtractor;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(values: &[(HeaderName, &str)]) -> HeaderMap {
        values.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    /// The same by the propagator of the SDK.
    fn caller_by_sdk(headers: &HeaderMap) -> Option<SpanContext> {
        let context = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let caller = context.span().span_context().clone();
        caller.is_valid().then_some(caller)
    }

    #[test]
    fn a_caller_is_one_of_the_form_that_the_standard_has() {
        let told = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1,b=2")]);
        assert!(caller(&told).unwrap().is_sampled());
        assert_eq!(caller(&told), caller_by_sdk(&told));
        for (from, to, is_one) in [
            ("-01", "-00", true),
            ("-01", "-ff", true),
            ("00-4", "01-4", true),
            ("-01", "-01-more", false),
            ("00-4", "ff-4", false),
            ("4bf9", "4BF9", false),
            ("4bf9", "4bf", false),
            ("-01", "-1", false),
            ("-01", "", false),
            ("-00f0", "_00f0", false),
            ("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000", false),
            ("00f067aa0ba902b7", "0000000000000000", false),
        ] {
            let told = headers(&[(TRACEPARENT, &PARENT.replacen(from, to, 1))]);
            assert_eq!(caller(&told).is_some(), is_one, "{from} {to}");
        }
        let later = headers(&[(TRACEPARENT, &(PARENT.replacen("00", "cc", 1) + "-more"))]);
        assert!(caller(&later).is_some());
    }

    #[test]
    fn a_trace_that_is_not_sampled_travels_on() {
        let told =
            headers(&[(TRACEPARENT, &PARENT.replace("-01", "-00")), (TRACESTATE, "a=1,b=2")]);
        let nobody_asks = || unreachable!("the flag is not set");
        let (trace, span) = Trace::of(&told, 1.0, nobody_asks, || unreachable!("no span is made"));
        assert!(span.is_none());
        assert_eq!(trace.id_text().as_bytes(), trace.id());
        let mut next = headers(&[(TRACESTATE, "of=another")]);
        trace.tell(&mut next);
        let (before, after) = (caller(&told).unwrap(), caller(&next).unwrap());
        assert_eq!(
            (before.trace_id(), before.trace_state()),
            (after.trace_id(), after.trace_state())
        );
        assert_ne!(before.span_id(), after.span_id());
        assert!(!after.is_sampled());
        let (begun, _) =
            Trace::of(&HeaderMap::new(), 0.0, nobody_asks, || unreachable!("no span is made"));
        begun.tell(&mut next);
        assert!(!next.contains_key(TRACESTATE));
    }

    #[test]
    fn a_caller_who_may_not_ask_for_sampling_keeps_its_trace_and_has_the_ratio_of_others() {
        let told = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1,b=2")]);
        let is_sampled = |ratio, may_ask| {
            let mut is_made = false;
            let span = || {
                is_made = true;
                Span::none()
            };
            let (trace, _) = Trace::of(&told, ratio, || may_ask, span);
            (is_made, trace)
        };
        assert!(is_sampled(0.0, true).0);
        assert!(is_sampled(1.0, false).0);
        let (is_made, trace) = is_sampled(0.0, false);
        assert!(!is_made);
        let mut next = HeaderMap::new();
        trace.tell(&mut next);
        let (before, after) = (caller(&told).unwrap(), caller(&next).unwrap());
        assert_eq!(
            (before.trace_id(), before.trace_state()),
            (after.trace_id(), after.trace_state())
        );
        assert!(!after.is_sampled());
    }

    proptest::proptest! {
        #[test]
        fn a_caller_is_who_the_sdk_reads_too(value in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]{3})?|[0-9a-fA-F -]{0,60}") {
            let told = headers(&[(TRACEPARENT, value.trim())]);
            if let Some(caller) = caller(&told) {
                proptest::prop_assert_eq!(Some(caller), caller_by_sdk(&told));
            }
        }
    }
}
