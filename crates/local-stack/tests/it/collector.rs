//! A receiver of OTLP over HTTP, as a collector is one: it keeps the spans that it gets.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::{StatusCode, header::HeaderValue};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value as AnyValue,
    trace::v1::Span,
};
use prost::Message;
use service_kit::{
    body,
    server::{Bound, Connections, Limits},
};

/// What an export and its answer are.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// A running receiver.
pub(crate) struct Collector {
    address: SocketAddr,
    exports: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

/// A span and the service that sent it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) service: String,
    pub(crate) span: Span,
    pub(crate) attributes: HashMap<String, String>,
}

impl Collector {
    /// Starts one on a free port, for as long as the test's runtime lives.
    pub(crate) fn start() -> Self {
        let bound = Bound::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (address, exports) = (bound.local_addr(), Arc::<Mutex<Vec<_>>>::default());
        let kept = Arc::clone(&exports);
        let seconds = Duration::from_secs;
        let limits =
            Limits { connections: 64, header: seconds(60), idle: seconds(60), write: seconds(60) };
        let handler = move |mut request: service_kit::Request, _| {
            let kept = Arc::clone(&kept);
            async move {
                assert_eq!(request.uri().path(), "/v1/traces");
                assert_eq!(request.headers()["content-type"], PROTOBUF);
                let bytes = body::read(&mut request, 16 << 20, seconds(10)).await.unwrap();
                let export = ExportTraceServiceRequest::decode(bytes).unwrap();
                kept.lock().unwrap().push(export);
                Ok(body::text(StatusCode::OK, PROTOBUF, Vec::new()))
            }
        };
        tokio::spawn(bound.run(Connections::new(limits), handler, std::future::pending()));
        Self { address, exports }
    }

    /// Its address as a service is told it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans of a trace, given by its id in hex.
    pub(crate) fn trace(&self, id: &str) -> Vec<Received> {
        let of_trace = |received: &Received| hex(&received.span.trace_id) == id;
        self.all().into_iter().filter(of_trace).collect()
    }

    /// All spans.
    pub(crate) fn all(&self) -> Vec<Received> {
        let exports = self.exports.lock().unwrap();
        let mut all = Vec::new();
        for of_resource in exports.iter().flat_map(|export| &export.resource_spans) {
            let resource = of_resource.resource.as_ref().unwrap();
            let service = texts(&resource.attributes)["service.name"].clone();
            for span in of_resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
                let (span, attributes) = (span.clone(), texts(&span.attributes));
                all.push(Received { service: service.clone(), span, attributes });
            }
        }
        all
    }
}

/// Bytes in hex, as trace ids are written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
) -> HashMap<String, String> {
    let text = |value: &AnyValue| match value {
        AnyValue::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let pair = |attribute: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        (attribute.key.clone(), value.map(text).unwrap_or_default())
    };
    attributes.iter().map(pair).collect()
}
