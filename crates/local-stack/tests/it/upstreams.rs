//! One service before another: deadlines, retries, the breaker; and faults on purpose.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use local_stack::{Service, Stack, http, state::temporary_folder};
use serde_json::json;
use service_kit::{
    Request, body,
    server::{Bound, Connections, Limits},
};

use crate::support::{fault, get, metric, no_faults, order, start, start_with, until};

const GATEWAY: Service = Service::Gateway;
const INVENTORY: Service = Service::Inventory;

async fn sent(stack: &Stack, outcome: &str) -> f64 {
    let series = format!("upstream_requests_total{{outcome=\"{outcome}\",upstream=\"inventory\"}}");
    metric(stack, GATEWAY, &series).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_deadline_is_carried_to_the_last_service() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    fault(&stack, INVENTORY, json!({"route": "*", "latency_ms": 10_000})).await;
    let deadline = [("x-request-timeout-ms", "1500"), ("idempotency-key", "brief")];
    // inventory itself gives up, long before its fault's ten seconds are over.
    let start = Instant::now();
    let url = format!("{}/v1/items", stack.url(INVENTORY));
    let reply = http::send(Method::GET, &url, &deadline, "").await.unwrap();
    assert_eq!(reply.json()["type"], "/problems/deadline-exceeded", "{}", reply.text());
    assert!(start.elapsed() < Duration::from_secs(5));
    // Through the gateway, orders gives up on inventory as early, though a write of its own it would bring to its end.
    let start = Instant::now();
    let api = stack.api_client();
    let reply =
        api.send(Method::POST, "/api/v1/orders", &deadline, order("NUT-M8", 1)).await.unwrap();
    assert_eq!(reply.status, 504, "{}", reply.text());
    let series = "upstream_requests_total{outcome=\"deadline\",upstream=\"inventory\"}";
    until("orders has given up", || async { metric(&stack, Service::Orders, series).await > 0.5 })
        .await;
    // Without the deadline it would wait its own three seconds.
    assert!(start.elapsed() < Duration::from_millis(2900), "{:?}", start.elapsed());
    let none_left =
        api.send(Method::GET, "/api/v1/items", &[("x-request-timeout-ms", "0")], "").await.unwrap();
    assert_eq!(none_left.json()["type"], "/problems/deadline-exceeded");
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_are_retried_for_reads_within_the_budget() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    fault(&stack, INVENTORY, json!({"route": "*", "drop_ratio": 0.05})).await;
    let mut failed = 0;
    for _ in 0..200 {
        failed += usize::from(get(&stack, "/api/v1/items/NUT-M8").await.status != 200);
    }
    let retries =
        metric(&stack, GATEWAY, "upstream_retries_total{outcome=\"sent\",upstream=\"inventory\"}")
            .await;
    assert!(failed < 5, "{failed} failed although they could be repeated");
    assert!((1.0..=40.0).contains(&retries), "{retries} retries");
    // When all fail, the budget ends the retries long before each request had its two.
    fault(&stack, INVENTORY, json!({"route": "*", "error_ratio": 1.0, "error_status": 502})).await;
    for _ in 0..100 {
        assert!(get(&stack, "/api/v1/items/NUT-M8").await.status.is_server_error());
    }
    let refused = metric(
        &stack,
        GATEWAY,
        "upstream_retries_total{outcome=\"refused\",upstream=\"inventory\"}",
    )
    .await;
    let more =
        metric(&stack, GATEWAY, "upstream_retries_total{outcome=\"sent\",upstream=\"inventory\"}")
            .await
            - retries;
    assert!(more < 60.0, "{more} retries of 100 requests");
    assert!(refused > 0.0 || sent(&stack, "open").await > 0.0);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_after_failures_and_closes_when_the_service_is_back() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    let state_of = || metric(&stack, GATEWAY, "upstream_breaker_state{upstream=\"inventory\"}");
    fault(&stack, INVENTORY, json!({"route": "*", "error_ratio": 1.0})).await;
    for _ in 0..5 {
        assert_eq!(
            get(&stack, "/api/v1/items").await.status,
            500,
            "an answer is passed on as it is"
        );
    }
    let refused = get(&stack, "/api/v1/items").await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("retry-after")),
        (503, "1"),
        "{}",
        refused.text()
    );
    assert!(state_of().await > 1.5 && sent(&stack, "open").await > 0.5);
    // The other upstream has a breaker of its own.
    assert_eq!(get(&stack, "/api/v1/orders").await.status, 200);
    no_faults(&stack, INVENTORY).await;
    until("the breaker has closed", || async { get(&stack, "/api/v1/items").await.status == 200 })
        .await;
    assert!(state_of().await < 0.5);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_callers_deadline_passes_is_answered_504() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    fault(&stack, INVENTORY, json!({"route": "*", "latency_ms": 10_000})).await;
    let url = format!("{}/v1/orders", stack.url(Service::Orders));
    for millis in [5, 12, 50, 200].repeat(3) {
        let millis = millis.to_string();
        let headers = [("x-request-timeout-ms", &*millis), ("idempotency-key", &*millis)];
        let late = http::send(Method::POST, &url, &headers, order("NUT-M8", 1)).await.unwrap();
        assert_eq!(late.status, 504, "{millis} ms: {}", late.text());
        assert_eq!(late.json()["type"], "/problems/deadline-exceeded");
    }
    let failed =
        "http_request_duration_seconds_count{method=\"POST\",route=\"/v1/orders\",status=\"";
    assert!(metric(&stack, Service::Orders, &format!("{failed}5")).await < 0.5);
    assert!(metric(&stack, Service::Orders, &format!("{failed}499")).await > 11.5);
    stack.stop().await.unwrap();
}

/// Sends a GET to this path of the gateway whose caller waits for so many milliseconds.
async fn get_within(stack: &Stack, path: &str, millis: u32) -> http::Reply {
    let (url, millis) = (format!("{}{path}", stack.url(GATEWAY)), millis.to_string());
    http::send(Method::GET, &url, &[("x-request-timeout-ms", &millis)], "").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_own_deadline_affects_nobody_else() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    fault(&stack, INVENTORY, json!({"route": "*", "latency_ms": 300})).await;
    for millis in [0, 1, 2, 5, 150].repeat(4) {
        let late = get_within(&stack, "/api/v1/items", millis).await;
        assert_eq!(late.status, 504, "{}", late.text());
        assert_eq!(late.json()["type"], "/problems/deadline-exceeded", "{millis} ms");
    }
    assert_eq!(get(&stack, "/api/v1/items").await.status, 200, "the breaker is open");
    let state_of = metric(&stack, GATEWAY, "upstream_breaker_state{upstream=\"inventory\"}").await;
    assert!(state_of < 0.5, "breaker state {state_of}");
    assert!(sent(&stack, "timeout").await + sent(&stack, "failure").await < 0.5);
    assert!(sent(&stack, "deadline").await > 0.5);
    // Nor do they burn the error budget, which counts 5xx.
    let series =
        "http_request_duration_seconds_count{method=\"GET\",route=\"/api/v1/items\",status=\"";
    assert!(metric(&stack, GATEWAY, &format!("{series}5")).await < 0.5);
    assert!(metric(&stack, GATEWAY, &format!("{series}499")).await > 19.5);
    assert!(
        metric(&stack, INVENTORY, "http_request_duration_seconds_count{status=\"5").await < 0.5
    );
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_is_too_short_costs_no_upstream_connection() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    fault(&stack, INVENTORY, json!({"route": "*", "latency_ms": 25})).await;
    let api = stack.api_client();
    for millis in [0, 1, 2, 5, 9].repeat(4) {
        let millis = millis.to_string();
        let headers = [("x-request-timeout-ms", &*millis)];
        let late = api.send(Method::GET, "/api/v1/items", &headers, "").await.unwrap();
        assert_eq!(late.json()["type"], "/problems/deadline-exceeded", "{millis} ms");
    }
    let asked = "http_request_duration_seconds_count{method=\"GET\",route=\"/v1/items\"";
    assert!(metric(&stack, INVENTORY, asked).await < 0.5, "none is sent in vain");
    // A stranger cannot set such a deadline: its requests come to their end.
    for millis in [0, 1, 5, 10, 20].repeat(4) {
        get_within(&stack, "/api/v1/items", millis).await;
    }
    let given_up = format!("{asked},status=\"499\"");
    // Other tests share the cores.
    assert!(metric(&stack, INVENTORY, asked).await > 19.5);
    assert!(metric(&stack, INVENTORY, &given_up).await < 5.0);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_of_the_breaker_has_its_full_time_whatever_its_callers_deadline() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    fault(&stack, INVENTORY, json!({"route": "*", "error_ratio": 1.0})).await;
    until("the breaker is open", || async { get(&stack, "/api/v1/items").await.status == 503 })
        .await;
    // Whoever asks from now on waits for less time than an answer takes.
    fault(&stack, INVENTORY, json!({"route": "*", "latency_ms": 200})).await;
    until("the breaker has closed", || async {
        let late = get_within(&stack, "/api/v1/items", 20).await.status.as_u16();
        assert!(matches!(late, 503 | 504), "{late}");
        metric(&stack, GATEWAY, "upstream_breaker_state{upstream=\"inventory\"}").await < 0.5
    })
    .await;
    assert_eq!(get(&stack, "/api/v1/items").await.status, 200);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_told_as_503_and_sheds_do_not_open_the_breaker() {
    let state = temporary_folder().unwrap();
    let settings = [("FAULTS", "on")];
    let mut stack = start_with(&state, &settings).await;
    fault(&stack, INVENTORY, json!({"route": "*", "error_ratio": 1.0, "error_status": 503})).await;
    for _ in 0..20 {
        assert_eq!(get(&stack, "/api/v1/items").await.json()["type"], "/problems/injected-fault");
    }
    assert!(sent(&stack, "open").await < 0.5, "a 503 opened the breaker");
    stack.end(INVENTORY, rustix::process::Signal::KILL).await.unwrap();
    let away = get(&stack, "/api/v1/items").await;
    assert_eq!(
        (away.status.as_u16(), &away.json()["type"]),
        (503, &json!("/problems/unavailable"))
    );
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_for_the_admin_listener_with_faults_on_and_end_by_themselves() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    assert_eq!(
        http::get(&format!("{}/faults", stack.admin_url(INVENTORY))).await.unwrap().status,
        404
    );
    stack.stop().await.unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    let url = format!("{}/faults", stack.admin_url(INVENTORY));
    let wrong = json!({"route": "*", "error_ratio": 2, "ttl_seconds": 0}).to_string();
    let refused = http::send(Method::PUT, &url, &[], wrong).await.unwrap();
    assert_eq!(
        (refused.status.as_u16(), refused.json()["errors"].as_array().unwrap().len()),
        (422, 2)
    );
    let brief = json!({"route": "/v1/items", "error_ratio": 1, "ttl_seconds": 1}).to_string();
    assert_eq!(http::send(Method::PUT, &url, &[], brief).await.unwrap().status, 200);
    assert_eq!(get(&stack, "/api/v1/items").await.status, 500);
    assert_eq!(
        get(&stack, "/api/v1/items/NUT-M8").await.status,
        200,
        "the fault is of another route"
    );
    let page = format!("{}/", stack.url(GATEWAY));
    let page = http::send(Method::GET, &page, &[("accept", "text/html")], "").await.unwrap().text();
    assert!(page.contains("fault on purpose"), "{page}");
    until("the fault has ended", || async { get(&stack, "/api/v1/items").await.status == 200 })
        .await;
    assert!(metric(&stack, INVENTORY, "faults_injected_total{kind=\"error\"}").await >= 1.0);
    stack.stop().await.unwrap();
}

/// A stand-in for a service, which answers with the values of `x-forwarded-for` that it got; its URL.
fn told() -> String {
    let bound = Bound::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let url = format!("http://{}", bound.local_addr());
    let time = Duration::from_secs(60);
    let limits = Limits { connections: 64, header: time, idle: time, write: time };
    let handler = |request: Request, _| async move {
        let told = request.headers().get_all("x-forwarded-for");
        let told: Vec<_> = told.iter().map(|value| value.to_str().unwrap()).collect();
        Ok(body::json(StatusCode::OK, &told))
    };
    tokio::spawn(bound.run(Connections::new(limits), handler, std::future::pending()));
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_told_who_asked_the_gateway() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("INVENTORY_URL", &told())]).await;
    assert_eq!(get(&stack, "/api/v1/items").await.json(), json!(["127.0.0.1"]));
    let url = format!("{}/api/v1/items", stack.url(GATEWAY));
    let before = [("x-forwarded-for", "192.0.2.1")];
    let reply = http::send(Method::GET, &url, &before, "").await.unwrap();
    assert_eq!(reply.json(), json!(["192.0.2.1", "127.0.0.1"]));
    stack.stop().await.unwrap();
}
