//! What the machine gives when nothing is done: a bare hyper server with one answer for everything.
//!
//! It has a service's runtime and protocol, and none of a service's work: no routes, limits, time-outs, metrics, logs,
//! traces. It is the upstream of the pass-through row too.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use lexopt::{
    Parser,
    prelude::{Long, ValueExt},
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime,
};

use crate::say;

/// As a service has it.
const BACKLOG: u32 = 4096;
/// As long as an item of inventory.
const BODY: &str = r#"{"sku":"BOLT-M8","name":"Hex bolt M8 x 40, zinc","unit_price":{"minor":35,"currency":"EUR"},"on_hand":5000,"reserved":12,"available":4988}"#;

/// `bench ideal`: tells where it listens in a log line like a service's, and serves until it is killed.
pub fn main(mut flags: Parser) -> Result<()> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    while let Some(flag) = flags.next()? {
        match flag {
            Long("listen") => address = flags.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let public = listener.local_addr()?.to_string();
        say(&json!({"message": "listening", "public": public}).to_string());
        serve(listener, |_| async { answer(BODY) }).await
    })
}

/// Answers every request of every connection.
pub async fn serve<F>(
    listener: TcpListener,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Response<Full<Bytes>>> + Send,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer(request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        let mut http = http1::Builder::new();
        let connection = http.pipeline_flush(true).serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async { drop(connection.await) });
    }
}

/// 200 with a body.
pub fn answer(body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use local_stack::http;

    use super::*;

    #[tokio::test]
    async fn everything_is_answered_alike() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, |_| async { answer(BODY) }));
        for path in ["/", "/v1/items/BOLT-M8"] {
            let reply = http::get(&format!("http://{address}{path}")).await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, BODY));
        }
        assert_eq!(serde_json::from_str::<serde_json::Value>(BODY).unwrap()["available"], 4988);
    }
}
