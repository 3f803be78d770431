//! The limits of a listener: each row of ARCHITECTURE's table that a client can run into.

use std::{
    str,
    time::{Duration, Instant},
};

use hyper::Method;
use local_stack::{Service, Stack, http, state::temporary_folder};
use rustix::net::sockopt;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{
    address_of, connect, connect_from, fault, get, item, metric, order, place, read_to_end,
    start_with, until,
};

const GATEWAY: Service = Service::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_or_slow_client_has_the_header_timeout_and_an_idle_one_its_own() {
    let state = temporary_folder().unwrap();
    let settings = [("HEADER_TIMEOUT", "400ms"), ("IDLE_TIMEOUT", "1500ms")];
    let stack = start_with(&state, &settings).await;
    let health = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    for (beginning, least) in [
        (String::new(), 350),
        ("GET / HTT".to_owned(), 350),
        ("GET /health HTTP/1.1\r\nhost: x\r\n".to_owned(), 350),
        (health.to_owned(), 1400),
    ] {
        let start = Instant::now();
        let mut stream = connect(&stack, GATEWAY).await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        let (took, least) = (start.elapsed(), Duration::from_millis(least));
        assert!(took >= least && took < Duration::from_secs(10), "{beginning:?}: {took:?}");
        assert_eq!(answer.contains("200 OK"), beginning == health, "{answer}");
    }
    // A head that begins while the connection is idle has a head's time.
    let mut stream = connect(&stack, GATEWAY).await;
    stream.write_all(health.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(700)).await;
    stream.write_all(b"GET /health HT").await.unwrap();
    let start = Instant::now();
    assert!(read_to_end(&mut stream).await.contains("200 OK"));
    assert!(start.elapsed() < Duration::from_millis(790), "{:?}", start.elapsed());
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_answered_431() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[]).await;
    for (service, kibibytes, expected) in [
        (GATEWAY, 11, 200),
        (GATEWAY, 13, 431),
        (Service::Orders, 20, 200),
        (Service::Orders, 25, 431),
    ] {
        let mut stream = connect(&stack, service).await;
        let head = format!(
            "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\nlong: {}\r\n\r\n",
            "a".repeat(kibibytes * 1024)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{kibibytes} KiB: {answer}");
    }
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
async fn content_that_stalls_is_answered_408_when_the_request_has_no_more_time_either() {
    let state = temporary_folder().unwrap();
    let settings = [("BODY_TIMEOUT", "500ms"), ("REQUEST_TIMEOUT", "500ms")];
    let stack = start_with(&state, &settings).await;
    let form = "sec-fetch-site: same-origin\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    let write = format!("authorization: Bearer {}\r\nidempotency-key: slow\r\n", stack.api_key());
    for (service, path, headers) in [
        (GATEWAY, "/session", form),
        (GATEWAY, "/api/v1/orders", &write),
        (Service::Orders, "/v1/orders", &write),
        (Service::Inventory, "/v1/items/NUT-M8/receipts", &write),
    ] {
        for (deadline, status) in [("", 408), ("x-request-timeout-ms: 200\r\n", 504)] {
            let mut stream = connect(&stack, service).await;
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\n{headers}{deadline}content-length: 100\r\nconnection: close\r\n\r\n{{"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let answer = read_to_end(&mut stream).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        }
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
async fn a_connection_too_many_takes_the_place_of_the_one_that_is_idle_longest() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("MAX_CONNECTIONS", "6")]).await;
    let health = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut served = connect(&stack, GATEWAY).await;
    assert_eq!(ask(&mut served, health).await, 200);
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(connect(&stack, GATEWAY).await);
    }
    // Who has asked before is worth more than who never did, however many they are.
    assert_eq!(ask(&mut served, health).await, 200);
    let mut last = connect(&stack, GATEWAY).await;
    assert_eq!(ask(&mut last, health).await, 200);
    let closed = metric(&stack, GATEWAY, "http_connections_closed_total{reason=\"room\"}").await;
    assert!(closed >= 45.0, "{closed}");
    let open = metric(&stack, GATEWAY, "http_connections{").await;
    assert!((1.0..=6.0).contains(&open), "{open}");
    drop(silent);
    stack.stop().await.unwrap();
}

/// The status of an answer to a request on a connection that stays open.
async fn ask(stream: &mut TcpStream, request: &[u8]) -> u16 {
    stream.write_all(request).await.unwrap();
    let mut answer = [0; 4096];
    let read = timeout(Duration::from_secs(20), stream.read(&mut answer)).await.unwrap().unwrap();
    let status = str::from_utf8(&answer[..read]).unwrap().split(' ').nth(1);
    status.expect("an answer").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_clients_at_a_full_table_are_all_answered() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("MAX_CONNECTIONS", "160")]).await;
    let health = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut idle = Vec::new();
    for _ in 0..160 {
        let mut stream = connect(&stack, GATEWAY).await;
        assert_eq!(ask(&mut stream, health).await, 200);
        idle.push(stream);
    }
    // All are connected before one of them asks: they must not close each other.
    let mut new = Vec::new();
    for _ in 0..20 {
        new.push(connect(&stack, GATEWAY).await);
    }
    sleep(Duration::from_millis(100)).await;
    for stream in &mut new {
        assert_eq!(ask(stream, health).await, 200);
    }
    assert_eq!(ask(&mut idle[159], health).await, 200, "those that were idle longest are gone");
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_behind_a_slow_one_is_answered_although_its_client_sends_no_more() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    fault(&stack, Service::Inventory, json!({"route": "/v1/items", "latency_ms": 1500})).await;
    let body = r#"{"quantity":7}"#;
    let requests = format!(
        "GET /v1/items HTTP/1.1\r\nhost: x\r\n\r\n\
         POST /v1/items/CHAIN-6/receipts HTTP/1.1\r\nhost: x\r\nidempotency-key: behind\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = connect(&stack, Service::Inventory).await;
    stream.write_all(requests.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answers = read_to_end(&mut stream).await;
    assert_eq!(answers.matches("HTTP/1.1 20").count(), 2, "{answers}");
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_waits_while_all_have_a_request_at_work() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("MAX_CONNECTIONS", "3"), ("FAULTS", "on")]).await;
    fault(&stack, GATEWAY, json!({"route": "/openapi.json", "latency_ms": 1500})).await;
    let mut working = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&stack, GATEWAY).await;
        stream.write_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        working.push(stream);
    }
    until("all are at work", || async {
        metric(&stack, GATEWAY, "http_connections{state=\"working\"}").await > 2.5
    })
    .await;
    let mut last = connect(&stack, GATEWAY).await;
    last.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let waited = timeout(Duration::from_millis(300), last.readable()).await;
    assert!(waited.is_err(), "it was served beside three others");
    let mut answer = [0; 4096];
    assert!(last.read(&mut answer).await.unwrap() > 0, "one has answered and makes room");
    for mut stream in working {
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_holds_an_eighth_and_others_have_the_rest() {
    let state = temporary_folder().unwrap();
    let settings = [
        ("FAIR_SHARES", "on"),
        ("TRUSTED_PROXIES", "127.0.0.7"),
        ("MAX_CONNECTIONS", "80"),
        ("MAX_IN_FLIGHT", "16"),
        ("FAULTS", "on"),
    ];
    let stack = start_with(&state, &settings).await;
    fault(&stack, GATEWAY, json!({"route": "/openapi.json", "latency_ms": 3000})).await;
    let slow = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect_as(&stack, 2).await;
        stream.write_all(format!("{slow}\r\n").as_bytes()).await.unwrap();
        held.push(stream);
    }
    until("both are at work", || async {
        metric(&stack, GATEWAY, "http_requests_in_flight ").await > 1.5
    })
    .await;
    let quick = b"GET /api/v1/items HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut third = connect_as(&stack, 2).await;
    assert_eq!(ask(&mut third, quick).await, 429, "two are an eighth of sixteen");
    let mut other = connect_as(&stack, 3).await;
    assert_eq!(ask(&mut other, quick).await, 200);
    // A trusted proxy tells whom a request is from; nobody else does.
    for (from, client, status) in
        [(7, "127.0.0.2", 429), (7, "198.51.100.9", 200), (2, "198.51.100.9", 429)]
    {
        let mut stream = connect_as(&stack, from).await;
        let told =
            format!("GET /api/v1/items HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {client}\r\n\r\n");
        assert_eq!(ask(&mut stream, told.as_bytes()).await, status, "{from} for {client}");
    }
    // Silent connections: beyond its eighth of eighty it loses its own.
    for _ in 0..200 {
        held.push(connect_as(&stack, 2).await);
    }
    until("it has its share", || async {
        let closed = "http_connections_closed_total{reason=\"share\"}";
        metric(&stack, GATEWAY, closed).await >= 180.0
    })
    .await;
    assert_eq!(ask(&mut other, quick).await, 200);
    assert!(metric(&stack, GATEWAY, "http_connections{").await <= 20.0);
    stack.stop().await.unwrap();
}

/// A connection to the gateway from an address of this machine.
async fn connect_as(stack: &Stack, last: u8) -> TcpStream {
    connect_from([127, 0, 0, last].into(), address_of(stack, GATEWAY)).await.unwrap()
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

/// Lets a client be gone at once: its connection is reset.
fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_counted_and_its_read_ends_with_it() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on"), ("REQUEST_TIMEOUT", "60s")]).await;
    fault(&stack, Service::Orders, json!({"route": "/v1/orders", "latency_ms": 50_000})).await;
    let mut stream = connect(&stack, Service::Orders).await;
    stream.write_all(b"GET /v1/orders HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let in_flight = async || metric(&stack, Service::Orders, "http_requests_in_flight ").await;
    until("it is at work", || async { in_flight().await > 0.5 }).await;
    reset(stream);
    until("its work has ended", || async { in_flight().await < 0.5 }).await;
    let left =
        "http_request_duration_seconds_count{method=\"GET\",route=\"/v1/orders\",status=\"499\"}";
    until("it is counted", || async {
        (metric(&stack, Service::Orders, left).await - 1.0).abs() < 0.5
    })
    .await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_keeps_its_room_until_its_end_although_its_client_went_away() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("REQUEST_TIMEOUT", "60s")]).await;
    let mut databases = local_stack::laws::Databases::connect(&stack).await.unwrap();
    let lock = databases.inventory.transaction().await.unwrap();
    lock.execute("SELECT FROM items WHERE sku = 'CHAIN-6' FOR UPDATE", &[]).await.unwrap();
    let mut stream = connect(&stack, Service::Inventory).await;
    let receipt = "POST /v1/items/CHAIN-6/receipts HTTP/1.1\r\nhost: x\r\nidempotency-key: gone\r\n\
        content-length: 14\r\n\r\n{\"quantity\":7}";
    stream.write_all(receipt.as_bytes()).await.unwrap();
    let in_flight = async || metric(&stack, Service::Inventory, "http_requests_in_flight ").await;
    until("it is at work", || async { in_flight().await > 0.5 }).await;
    reset(stream);
    let left = "http_request_duration_seconds_count{method=\"POST\",route=\"/v1/items/{sku}/receipts\",status=\"499\"}";
    until("it is counted as one who left", || async {
        metric(&stack, Service::Inventory, left).await > 0.5
    })
    .await;
    assert!(in_flight().await > 0.5, "its work goes on, and its room is taken");
    lock.rollback().await.unwrap();
    until("its work has ended", || async { in_flight().await < 0.5 }).await;
    assert_eq!(item(&stack, "CHAIN-6").await["on_hand"], 807);
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
