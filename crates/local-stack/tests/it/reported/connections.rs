//! R2, R4, R5, R8: how connections begin, wait and end, by what no polite client does.

use std::time::{Duration, Instant};

use local_stack::{Service, Stack};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{GATEWAY, Listener, Row};
use crate::support::{connect, metric, read_to_end};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = malformed();
    rows.extend(heads());
    rows.extend(expecting());
    rows
}

/// R4: a client that waits for `100 Continue` gets its answer, and is told that the connection ends with it.
fn expecting() -> Vec<Row> {
    let row = |length: u32| {
        let head = format!(
            "POST /api/v1/orders HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        let row = Row::raw("R4", &format!("{length} bytes expecting 100"), head, 401);
        row.contains("\r\nconnection: close\r\n").lacks("100 Continue")
    };
    [1, 100, 4096, 4097].map(row).into()
}

/// R5: what is no HTTP is answered as every other error is, by every listener.
fn malformed() -> Vec<Row> {
    let mut rows = Vec::new();
    let listeners =
        Service::ALL.iter().flat_map(|one| [Listener::Public(*one), Listener::Admin(*one)]);
    for to in listeners {
        for (name, request, status) in [
            ("no request line", "HELLO\r\n\r\n".to_owned(), 400),
            ("another version", "GET /health HTTP/3.9\r\nhost: x\r\n\r\n".to_owned(), 400),
            ("no name", "GET /health HTTP/1.1\r\nhost: x\r\n: y\r\n\r\n".to_owned(), 400),
            ("101 fields", head(100, 1), 431),
            ("25 KiB", head(1, 25 * 1024), 431),
        ] {
            let row = Row::raw("R5", name, request, status).to(to);
            rows.push(row.contains("\"trace_id\":\"").contains("\r\nx-trace-id: "));
        }
    }
    rows
}

/// A request for /health with so many fields, besides Host, that have so many bytes together.
fn head(fields: usize, bytes: usize) -> String {
    let lines = (0..fields).map(|number| format!("f{number}: {}\r\n", "x".repeat(bytes / fields)));
    let lines: String = lines.collect();
    format!("GET /health HTTP/1.1\r\nhost: x\r\n{lines}\r\n")
}

/// R5: what the gateway lets in every service behind it can read; what it does not let in no page of its own answers.
fn heads() -> Vec<Row> {
    let mut rows = Vec::new();
    for target in ["/health", "/openapi.json", "/api/v1/items", "/api/v1/orders"] {
        let row = |name: &str, lines: String, status| {
            let head =
                format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}\r\n");
            Row::raw("R5", &format!("{target} with {name}"), head, status).to(GATEWAY)
        };
        let fields =
            |count: usize| (0..count).map(|number| format!("f{number}: x\r\n")).collect::<String>();
        let long = |bytes: usize| format!("long: {}\r\n", "x".repeat(bytes));
        rows.extend([
            row("64 fields", fields(62), 200),
            row("65 fields", fields(63), 431),
            row("12 KiB", long(12 * 1024 - 60), 200),
            row("more than 12 KiB", long(12 * 1024), 431),
            row("what a service alone had refused", long(16_200), 431),
        ]);
    }
    rows
}

/// What is wrong with clients that say that they send no more, and wait for their answer.
pub(super) async fn half_closed(stack: &Stack) -> Vec<String> {
    let key = stack.api_key();
    let body = r#"{"customer":"ada","lines":[{"sku":"NUT-M8","quantity":1}]}"#;
    let post = format!(
        "POST /api/v1/orders HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nidempotency-key: half-closed\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut wrong = Vec::new();
    for (request, expected) in [
        ("GET /api/v1/items/NUT-M8 HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200 "),
        ("GET / HTTP/1.1\r\nhost: x\r\naccept: text/html\r\n\r\n", "HTTP/1.1 200 "),
        ("GET /api/v1/items/NUT-M8 HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "),
        (post.as_str(), "HTTP/1.1 201 "),
    ] {
        let mut stream = connect(stack, Service::Gateway).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let begin = Instant::now();
        let answer = read_to_end(&mut stream).await;
        if !answer.starts_with(expected) {
            wrong.push(format!("R2 {request:?}: {answer:?}"));
        }
        if begin.elapsed() > Duration::from_secs(5) {
            wrong.push(format!("R2 {request:?}: its connection stays open"));
        }
    }
    // Two requests at once, and then no more: both are answered.
    let mut stream = connect(stack, Service::Gateway).await;
    let get = "GET /api/v1/items/NUT-M8 HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(get.repeat(2).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answers = read_to_end(&mut stream).await;
    if answers.matches("HTTP/1.1 200 ").count() != 2 {
        wrong.push(format!("R2 two requests: {answers}"));
    }
    wrong
}

/// What is wrong with answers that come before the request's end: who sends everything first must be able to read them.
pub(super) async fn early_answers(stack: &Stack) -> Vec<String> {
    let mut wrong = Vec::new();
    let key = stack.api_key();
    let authorized = format!("authorization: Bearer {key}\r\nidempotency-key: large\r\n");
    for (headers, expected) in [("", "401"), (authorized.as_str(), "413"), ("host: y\r\n", "400")] {
        for framing in ["content-length: 2000000\r\n", "transfer-encoding: chunked\r\n"] {
            for target in ["/api/v1/orders", "/api/v1/items/NUT-M8/receipts"] {
                let head = format!("POST {target} HTTP/1.1\r\nhost: x\r\n{headers}{framing}\r\n");
                let answer = upload(stack, &head, framing.starts_with("transfer")).await;
                let is_right = answer.starts_with(&format!("HTTP/1.1 {expected} "))
                    && answer.contains("\r\nconnection: close\r\n")
                    && answer.ends_with('}');
                if !is_right {
                    wrong.push(format!("R4 {target} {headers} {framing}: {answer:?}"));
                }
            }
        }
    }
    wrong
}

/// Sends a head and two megabytes, whatever comes back, and only then reads.
async fn upload(stack: &Stack, head: &str, is_chunked: bool) -> String {
    let mut stream = connect(stack, Service::Gateway).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 50_000];
    for _ in 0..40 {
        let mut bytes = if is_chunked { b"c350\r\n".to_vec() } else { Vec::new() };
        bytes.extend_from_slice(&piece);
        bytes.extend_from_slice(if is_chunked { b"\r\n" } else { b"" });
        if let Err(error) = stream.write_all(&bytes).await {
            return format!("cannot send: {error}");
        }
    }
    if is_chunked {
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    }
    let mut answer = Vec::new();
    let reading = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    match reading.expect("the service closes") {
        Ok(_) => String::from_utf8_lossy(&answer).into_owned(),
        Err(error) => format!("cannot read: {error}"),
    }
}

/// What is wrong with how malformed requests are counted.
pub(super) async fn uncounted(stack: &Stack) -> Vec<String> {
    let count =
        metric(stack, Service::Gateway, "http_requests_malformed_total{status=\"431\"}").await;
    let is_counted = count >= 2.0;
    (!is_counted)
        .then(|| format!("R5: {count} of the malformed requests are counted"))
        .into_iter()
        .collect()
}
