//! Logs as JSON lines, and traces over OTLP.

mod trace;

use std::{io, panic, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use hyper::{HeaderMap, Uri, header::HeaderName};
use once_cell::sync::OnceCell;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::{runtime::Handle, task, time::timeout};
use tracing::{Instrument, Metadata, Span, info_span, subscriber::Interest};
use tracing_subscriber::{
    Layer,
    filter::{DynFilterFn, FilterExt, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::trace::Sampling;
pub(crate) use self::trace::{Trace, inject};
use crate::{BoxError, Identity, KitConfig, client::Client, log::Log, scope, scope::Scope};

/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last one may take: a part of the pod's grace.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The trace's identifier in every answer, in hexadecimal digits as in the log.
pub const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// The process has one log and one subscriber; tests, which start many services in one process, share the first.
static INSTALLED: OnceCell<Installed> = OnceCell::new();

#[derive(Debug)]
struct Installed {
    log: Log,
    provider: SdkTracerProvider,
    trace_ratio: f64,
}

/// Sets up logs and traces; what they hold back is to be sent in the end by [`flush`] and [`flush_log`].
pub(crate) fn install(
    identity: Identity,
    config: &KitConfig,
    runtime: &Handle,
) -> Result<Log, BoxError> {
    let installed = INSTALLED.get_or_try_init(|| {
        let provider = provider(identity, config, runtime)?;
        let log = Log::start(io::stdout())?;
        let lines = fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(log.clone())
            .with_filter(config.log.clone().and(filter_fn(is_line)));
        // Below a request that is not sampled nothing is, and no span need be made.
        let traces =
            tracing_opentelemetry::layer().with_tracer(provider.tracer(identity.name)).with_filter(
                DynFilterFn::new(|metadata, _| is_ours(metadata) && !trace::is_unsampled())
                    .with_callsite_filter(|metadata| {
                        if is_ours(metadata) { Interest::sometimes() } else { Interest::never() }
                    }),
            );
        tracing_subscriber::registry().with(lines).with(traces).try_init()?;
        tell_panics();
        Ok::<_, BoxError>(Installed { log, provider, trace_ratio: config.trace_ratio })
    })?;
    Ok(installed.log.clone())
}

/// Spans are no part of the log.
fn is_line(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

/// Our own spans alone: the exporter's and hyper's would feed on themselves.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("service_kit")
}

/// Tells of a panic in the log, as of every other error.
fn tell_panics() {
    panic::set_hook(Box::new(|panic| {
        tracing::error!(trace_id = trace_id(), panic = %panic, "a panic: this is a bug");
        flush_log();
    }));
}

fn provider(
    identity: Identity,
    config: &KitConfig,
    runtime: &Handle,
) -> Result<SdkTracerProvider, BoxError> {
    let resource = Resource::builder()
        .with_service_name(identity.name)
        .with_attribute(KeyValue::new("service.version", identity.version))
        .with_attribute(KeyValue::new("deployment.environment.name", config.environment.clone()))
        .build();
    let mut builder = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampling::new(config.trace_ratio));
    if let Some(endpoint) = &config.otlp_endpoint {
        let client = Client::unguarded(EXPORT_TIMEOUT);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OtlpClient { runtime: runtime.clone(), client })
            .with_endpoint(traces_url(endpoint))
            .build()?;
        builder = builder.with_batch_exporter(exporter);
    }
    Ok(builder.build())
}

fn traces_url(endpoint: &Uri) -> String {
    format!("{}/v1/traces", endpoint.to_string().trim_end_matches('/'))
}

/// Writes the lines that are still held back; bounded by a second.
pub(crate) fn flush_log() {
    if let Some(installed) = INSTALLED.get() {
        installed.log.flush();
    }
}

/// Sends the spans that are still held back, within [`FLUSH_TIMEOUT`].
pub(crate) async fn flush() {
    let Some(Installed { provider, .. }) = INSTALLED.get() else { return };
    // It blocks; inline it would hold up the very runtime that exports.
    let flushed = timeout(FLUSH_TIMEOUT, task::spawn_blocking(|| provider.force_flush()));
    if !matches!(flushed.await, Ok(Ok(Ok(())))) {
        tracing::warn!("spans were lost: the collector does not answer");
    }
}

/// The identifier of the trace that the work belongs to, in hexadecimal digits; empty outside of a request and of
/// [`background`].
pub fn trace_id() -> String {
    scope::with(|scope| scope.trace.id_text()).unwrap_or_default()
}

/// An identifier for what is no request and has a line in the log.
pub(crate) fn new_trace_id() -> String {
    Trace::of(&HeaderMap::new(), 0.0, || false, Span::none).0.id_text()
}

/// Runs work that no request waits for as a trace of its own: [`trace_id`] is that one's, calls to other services carry it
/// on, and of such traces as many are sampled as of those that requests begin. There is no deadline.
pub fn background<F: Future>(name: &'static str, work: F) -> impl Future<Output = F::Output> {
    let span = || {
        info_span!(
            target: "service_kit::background",
            "background",
            otel.name = name,
            otel.kind = "consumer",
        )
    };
    let ratio = INSTALLED.get().map_or(0.0, |installed| installed.trace_ratio);
    let (trace, span) = Trace::of(&HeaderMap::new(), ratio, || false, span);
    Scope { deadline: None, trace, peer: None }.run(work.instrument(span))
}

/// The exporter's client. The batch processor polls it on a thread without a reactor, where hyper cannot work: the
/// exchange runs on the service's runtime and only its end is awaited here.
#[derive(Debug)]
struct OtlpClient {
    runtime: Handle,
    client: Client,
}

#[async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let exchange = async move { client.send(request).await };
        Ok(self.runtime.spawn(exchange).await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline;

    #[tokio::test]
    async fn work_in_the_background_has_a_trace_of_its_own_and_no_deadline() {
        assert_eq!(trace_id(), "");
        let look = || async { (trace_id(), deadline::remaining()) };
        let (one, remaining) = background("one", look()).await;
        assert_eq!(one.len(), 32);
        assert_ne!(u128::from_str_radix(&one, 16).unwrap(), 0);
        assert_eq!(remaining, None);
        assert_ne!(background("other", look()).await.0, one);
    }
}
