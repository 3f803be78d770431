//! A collector that takes spans and forgets them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::ideal;

/// A collector of OTLP over HTTP, which runs on the caller's runtime until it is dropped.
#[derive(Debug)]
pub struct Sink {
    url: String,
    exports: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Sink {
    /// Starts it on loopback.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let exports = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&exports);
        let served = ideal::serve(listener, move |request| take(request, Arc::clone(&count)));
        let task = tokio::spawn(async { drop(served.await) }).abort_handle();
        Ok(Self { url, exports, task })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// How many exports came so far: of whoever should trace, at least one has to.
    pub fn exports(&self) -> u64 {
        self.exports.load(Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads an export to its end. No byte is a whole answer in protobuf: nothing was refused.
async fn take(request: Request<Incoming>, exports: Arc<AtomicU64>) -> Response<Full<Bytes>> {
    if request.into_body().collect().await.is_ok() {
        exports.fetch_add(1, Relaxed);
    }
    Response::new(Full::default())
}

#[cfg(test)]
mod tests {
    use hyper::Method;
    use local_stack::http;

    use super::*;

    #[tokio::test]
    async fn exports_are_taken_and_counted() {
        let sink = Sink::start().await.unwrap();
        let url = format!("{}/v1/traces", sink.url());
        let reply = http::send(Method::POST, &url, &[], "spans").await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.body.len(), sink.exports()), (200, 0, 1));
    }
}
