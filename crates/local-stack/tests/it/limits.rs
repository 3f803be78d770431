//! The limits of a listener: each row of ARCHITECTURE's table that a client can run into.

use std::time::{Duration, Instant};

use hyper::Method;
use local_stack::{Service, http, state::temporary_folder};
use serde_json::json;
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::support::{
    connect, fault, get, item, metric, order, place, read_to_end, start_with, until,
};

const GATEWAY: Service = Service::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn silent_slow_and_idle_clients_are_closed_after_the_header_timeout() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("HEADER_TIMEOUT", "400ms")]).await;
    let beginnings = [
        "",
        "GET / HTT",
        "GET /health HTTP/1.1\r\nhost: x\r\n",
        "GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
    ];
    for beginning in beginnings {
        let start = Instant::now();
        let mut stream = connect(&stack, GATEWAY).await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(350) && took < Duration::from_secs(5),
            "{beginning:?}: {took:?}"
        );
        assert_eq!(answer.contains("200 OK"), beginning.ends_with("\r\n\r\n"), "{answer}");
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_answered_431() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[]).await;
    let mut stream = connect(&stack, GATEWAY).await;
    let head =
        format!("GET /health HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "a".repeat(20 * 1024));
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 431 "));
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_answered_413_and_one_that_stalls_408() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("BODY_TIMEOUT", "400ms")]).await;
    let key = format!("Bearer {}", stack.api_key());
    for service in [GATEWAY, Service::Orders] {
        let path = if service == GATEWAY { "/api/v1/orders" } else { "/v1/orders" };
        let url = format!("{}{path}", stack.url(service));
        let large = "x".repeat(64 * 1024 + 1);
        let headers = [("idempotency-key", "large"), ("authorization", &key)];
        let reply = http::send(Method::POST, &url, &headers, large).await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.header("content-type")),
            (413, "application/problem+json")
        );
        let mut stream = connect(&stack, service).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\nidempotency-key: slow\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_too_many_is_shed_at_once_and_probes_are_answered() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("MAX_IN_FLIGHT", "1"), ("FAULTS", "on")]).await;
    fault(&stack, Service::Inventory, json!({"route": "/v1/items", "latency_ms": 2000})).await;
    let inventory = stack.url(Service::Inventory).to_owned();
    let slow =
        tokio::spawn(
            async move { http::get(&format!("{inventory}/v1/items")).await.unwrap().status },
        );
    until("the request is at work", || async {
        metric(&stack, Service::Inventory, "http_requests_in_flight ").await > 0.5
    })
    .await;
    // The fastest of some: what is measured is the service, not the machine's other work.
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        let shed =
            http::get(&format!("{}/v1/items/NUT-M8", stack.url(Service::Inventory))).await.unwrap();
        fastest = fastest.min(start.elapsed());
        assert_eq!(
            (shed.status.as_u16(), shed.header("retry-after")),
            (503, "1"),
            "{}",
            shed.text()
        );
    }
    assert!(fastest < Duration::from_millis(5), "{fastest:?}");
    for base in [stack.url(Service::Inventory), stack.admin_url(Service::Inventory)] {
        for probe in ["health", "ready"] {
            assert_eq!(http::get(&format!("{base}/{probe}")).await.unwrap().status, 200);
        }
    }
    assert!(metric(&stack, Service::Inventory, "http_requests_shed_total ").await >= 20.0);
    assert_eq!(slow.await.unwrap(), 200);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_waits_for_room() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("MAX_CONNECTIONS", "6")]).await;
    // The gateway's own connections to orders are none: it asks when it is asked.
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(connect(&stack, GATEWAY).await);
    }
    let mut last = connect(&stack, GATEWAY).await;
    last.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let waited = timeout(Duration::from_millis(300), last.readable()).await;
    assert!(waited.is_err(), "it was served beside six others");
    open.pop();
    assert!(read_to_end(&mut last).await.starts_with("HTTP/1.1 200 "));
    drop(open);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_closed_after_the_write_timeout() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("WRITE_TIMEOUT", "500ms")]).await;
    let mut stream = connect(&stack, Service::Inventory).await;
    let request = b"GET /v1/items HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    // It asks and asks and never reads, until both sides' buffers are full; then the service must give up.
    let asking = async { while stream.write_all(&request).await.is_ok() {} };
    timeout(Duration::from_secs(30), asking).await.expect("the service closes the connection");
    assert_eq!(get(&stack, "/api/v1/items").await.status, 200);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_answered_503_and_a_write_comes_to_its_end() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("REQUEST_TIMEOUT", "500ms")]).await;
    let mut databases = local_stack::laws::Databases::connect(&stack).await.unwrap();
    let lock = databases.inventory.transaction().await.unwrap();
    lock.execute("SELECT FROM items WHERE sku = 'CHAIN-6' FOR UPDATE", &[]).await.unwrap();
    let url = format!("{}/v1/items/CHAIN-6/receipts", stack.url(Service::Inventory));
    let headers = [("idempotency-key", "receipt")];
    let reply = http::send(Method::POST, &url, &headers, r#"{"quantity":7}"#).await.unwrap();
    assert_eq!(reply.status, 503, "{}", reply.text());
    lock.rollback().await.unwrap();
    until("the receipt has arrived", || async { item(&stack, "CHAIN-6").await["on_hand"] == 807 })
        .await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_comes_to_its_end_although_its_client_went_away() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    fault(&stack, Service::Inventory, json!({"route": "*", "latency_ms": 300})).await;
    let mut stream = connect(&stack, Service::Orders).await;
    let body = order("CHAIN-6", 3);
    let request = format!(
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\nidempotency-key: gone\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    until("the order is at work", || async {
        metric(&stack, Service::Inventory, "http_requests_in_flight ").await > 0.5
    })
    .await;
    drop(stream);
    until("the order is confirmed", || async {
        get(&stack, "/api/v1/orders").await.json()["orders"][0]["status"] == "confirmed"
    })
    .await;
    assert_eq!(place(&stack, "gone", order("CHAIN-6", 3)).await.status, 201);
    stack.stop().await.unwrap();
}
