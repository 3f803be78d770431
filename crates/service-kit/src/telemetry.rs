//! Logs as JSON lines, and traces over OTLP.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Uri};
use once_cell::sync::OnceCell;
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_http::{
    HeaderExtractor, HeaderInjector, HttpClient, HttpError, Request, Response,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tokio::{runtime::Handle, task};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    Layer, filter::filter_fn, fmt as log, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{BoxError, Identity, KitConfig, client::Client};

/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The process has one subscriber; tests, which start many services in one process, share the first.
static PROVIDER: OnceCell<SdkTracerProvider> = OnceCell::new();

/// Sets up logs and traces; the provider is to be flushed at the end by [`flush`].
pub fn install(identity: Identity, config: &KitConfig, runtime: &Handle) -> Result<(), BoxError> {
    PROVIDER.get_or_try_init(|| {
        let provider = provider(identity, config, runtime)?;
        let lines =
            log::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        // Our own spans alone: the exporter's and hyper's would feed on themselves.
        let ours = filter_fn(|metadata| {
            metadata.is_span() && metadata.target().starts_with("service_kit")
        });
        let traces = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(identity.name))
            .with_filter(ours);
        tracing_subscriber::registry()
            .with(lines.with_filter(config.log.clone()))
            .with(traces)
            .try_init()?;
        Ok::<_, BoxError>(provider)
    })?;
    Ok(())
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
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_ratio)));
    let mut builder = SdkTracerProvider::builder().with_resource(resource).with_sampler(sampler);
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

/// Sends what is buffered; bounded by the exporter's own time-out.
pub async fn flush() {
    let Some(provider) = PROVIDER.get() else { return };
    // It blocks; inline it would hold up the very runtime that exports.
    if let Ok(Err(error)) = task::spawn_blocking(|| provider.force_flush()).await {
        tracing::warn!(%error, "spans were lost: the collector does not answer");
    }
}

/// Makes the span a child of what the request's headers name (W3C trace context).
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    let _no_layer_in_this_process = span.set_parent(parent);
}

/// Writes the current span's context into an outgoing request's headers.
pub fn inject_trace(headers: &mut HeaderMap) {
    let context: Context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
}

/// The trace's id in hex, empty when there is none.
pub fn trace_id(span: &Span) -> String {
    let context = span.context();
    let span_context = context.span().span_context().clone();
    if span_context.is_valid() { span_context.trace_id().to_string() } else { String::new() }
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
        let exchange = async move { client.send(request.map(Full::new)).await };
        Ok(self.runtime.spawn(exchange).await??)
    }
}
