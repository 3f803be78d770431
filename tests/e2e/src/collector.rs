//! What stands in for an OpenTelemetry collector: it takes traces as the services send them (OTLP over HTTP, protobuf)
//! and tells which services sent spans of a trace. It reads no more of them than that.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use crate::Result;

/// Where the component tracing has its collector listen: OTLP, metrics, health.
const PORTS: [u16; 3] = [4318, 8888, 13133];

/// What was sent, as it came.
type Batches = Arc<Mutex<Vec<Bytes>>>;

/// Listens until it is ended. `POST /v1/traces` takes spans; `GET /seen/TRACE` has the names of the services that sent
/// spans of that trace, as JSON; everything else is answered 200, for the probes.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let batches = Batches::default();
        let mut listeners = JoinSet::new();
        for port in PORTS {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
            listeners.spawn(serve(listener, Arc::clone(&batches)));
        }
        listeners.join_all().await;
        Ok(())
    })
}

async fn serve(listener: TcpListener, batches: Batches) {
    while let Ok((stream, _)) = listener.accept().await {
        let batches = Arc::clone(&batches);
        let service = service_fn(move |request| answer(request, Arc::clone(&batches)));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, batches: Batches) -> Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::POST {
        let body = request.into_body().collect().await?.to_bytes();
        batches.lock().expect("no holder panics").push(body);
        return Ok(Response::default());
    }
    let Some(trace) = path.strip_prefix("/seen/").and_then(trace_id) else {
        return Ok(Response::default());
    };
    let seen: BTreeSet<_> = {
        let batches = batches.lock().expect("no holder panics");
        let of_trace = batches.iter().filter(|batch| contains(batch, &trace));
        of_trace.filter_map(|batch| service_name(batch)).collect()
    };
    let body = serde_json::to_vec(&seen)?;
    Ok(Response::builder().status(StatusCode::OK).body(body.into())?)
}

/// A trace's 16 bytes from their hexadecimal digits.
fn trace_id(hex: &str) -> Option<[u8; 16]> {
    u128::from_str_radix(hex, 16).ok().map(u128::to_be_bytes)
}

fn contains(batch: &[u8], bytes: &[u8]) -> bool {
    batch.windows(bytes.len()).any(|window| window == bytes)
}

/// The value of the attribute `service.name`. After a key stand the tag and length of its value and of the string in it
/// (opentelemetry-proto, common.proto, `KeyValue` and `AnyValue`).
fn service_name(batch: &[u8]) -> Option<String> {
    let key = b"service.name";
    let at = batch.windows(key.len()).position(|window| window == key)? + key.len();
    let [0x12, _, 0x0a, length] = *batch.get(at..at + 4)? else { return None };
    let name = batch.get(at + 4..at + 4 + usize::from(length))?;
    String::from_utf8(name.to_vec()).ok()
}
