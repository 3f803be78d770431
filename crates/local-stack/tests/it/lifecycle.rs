//! Start, freeze, the database's absence, drain.

use std::time::{Duration, Instant};

use hyper::Method;
use local_stack::{Service, http, state::temporary_folder};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{connect, fault, get, item, metric, order, place, start, start_with, until};

const INVENTORY: Service = Service::Inventory;

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_runtime_fails_liveness_in_time_while_the_admin_listener_answers() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on"), ("HEALTH_STALL", "500ms")]).await;
    let health = format!("{}/health", stack.admin_url(INVENTORY));
    assert_eq!(http::get(&health).await.unwrap().status, 200);
    fault(&stack, INVENTORY, json!({"route": "-", "freeze_ms": 4000})).await;
    let frozen = Instant::now();
    until("it is told as not alive", || async { http::get(&health).await.unwrap().status == 503 })
        .await;
    assert!(frozen.elapsed() < Duration::from_secs(4), "{:?}", frozen.elapsed());
    let told = http::get(&health).await.unwrap().json();
    assert!(
        told["reasons"][0].as_str().unwrap().starts_with("the public runtime made no progress"),
        "{told}"
    );
    until("it is alive again", || async { http::get(&health).await.unwrap().status == 200 }).await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_service_starts_is_alive_and_not_ready_until_it_comes() {
    let state = temporary_folder().unwrap();
    let mut stack = start(&state).await;
    stack.end(INVENTORY, Signal::TERM).await.unwrap();
    stack.postgres().crash().await.unwrap();
    stack.start_service(INVENTORY).await.unwrap();
    let url = |probe: &str| format!("{}/{probe}", stack.admin_url(INVENTORY));
    assert_eq!(http::get(&url("health")).await.unwrap().status, 200);
    until("it says that the database is missing", || async {
        let ready = http::get(&url("ready")).await.unwrap();
        assert_eq!(ready.status, 503);
        ready.json()["reasons"][0]
            .as_str()
            .is_some_and(|reason| reason.starts_with("database: no database connection"))
    })
    .await;
    stack.postgres().start_again().await.unwrap();
    stack.await_ready().await.unwrap();
    assert_eq!(get(&stack, "/api/v1/items").await.status, 200);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_told_as_503_and_comes_back_by_itself() {
    let state = temporary_folder().unwrap();
    let mut stack = start_with(&state, &[("DATABASE_WAIT", "300ms")]).await;
    let placed = place(&stack, "before", order("CHAIN-6", 1)).await.json();
    stack.postgres().crash().await.unwrap();
    let refused = get(&stack, "/api/v1/items").await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("content-type")),
        (503, "application/problem+json")
    );
    assert_eq!(place(&stack, "during", order("CHAIN-6", 1)).await.status, 503);
    let health = http::get(&format!("{}/health", stack.admin_url(INVENTORY))).await.unwrap();
    assert_eq!(health.status, 200, "a restart would not bring the database back");
    stack.postgres().start_again().await.unwrap();
    until("it answers again", || async { get(&stack, "/api/v1/items").await.status == 200 }).await;
    until("orders too", || async {
        place(&stack, "during", order("CHAIN-6", 1)).await.status == 201
    })
    .await;
    assert_eq!(place(&stack, "before", order("CHAIN-6", 1)).await.json(), placed);
    assert_eq!(item(&stack, "CHAIN-6").await["on_hand"], 798);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_database_connection_only_so_long() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("DATABASE_POOL", "1"), ("DATABASE_WAIT", "300ms")]).await;
    let mut databases = local_stack::laws::Databases::connect(&stack).await.unwrap();
    let lock = databases.inventory.transaction().await.unwrap();
    lock.execute("SELECT FROM items WHERE sku = 'CHAIN-6' FOR UPDATE", &[]).await.unwrap();
    let url = format!("{}/v1/items/CHAIN-6/receipts", stack.url(INVENTORY));
    let holder = tokio::spawn(async move {
        http::send(Method::POST, &url, &[("idempotency-key", "k")], r#"{"quantity":1}"#)
            .await
            .unwrap()
            .status
    });
    until("the only connection is used", || async {
        metric(&stack, INVENTORY, "database_pool_connections{state=\"in_use\"}").await > 0.5
            && get(&stack, "/api/v1/items").await.status == 503
    })
    .await;
    assert!(metric(&stack, INVENTORY, "database_pool_timeouts_total ").await >= 1.0);
    lock.rollback().await.unwrap();
    assert_eq!(holder.await.unwrap(), 200);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_behind_a_statement_that_was_given_up() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("DATABASE_POOL", "1"), ("DATABASE_WAIT", "300ms")]).await;
    let mut databases = local_stack::laws::Databases::connect(&stack).await.unwrap();
    let lock = databases.inventory.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE items").await.unwrap();
    let url = format!("{}/v1/items/CHAIN-6", stack.url(INVENTORY));
    let (start, hasty) = (Instant::now(), [("x-request-timeout-ms", "600")]);
    let given_up = http::send(Method::GET, &url, &hasty, "").await.unwrap();
    assert!([503, 504].contains(&given_up.status.as_u16()), "{}", given_up.text());
    // The only connection is at work still: it is not lent.
    assert_eq!(http::get(&url).await.unwrap().status, 503);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    lock.rollback().await.unwrap();
    until("it is free again", || async { http::get(&url).await.unwrap().status == 200 }).await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_answered_after_sigterm_and_readiness_goes_first() {
    let state = temporary_folder().unwrap();
    let settings = [("FAULTS", "on"), ("SHUTDOWN_DELAY", "700ms")];
    let mut stack = start_with(&state, &settings).await;
    fault(&stack, Service::Orders, json!({"route": "/v1/orders", "latency_ms": 2000})).await;
    let orders = stack.url(Service::Orders).to_owned();
    let placing = tokio::spawn(async move {
        let headers = [("idempotency-key", "drain")];
        http::send(Method::POST, &format!("{orders}/v1/orders"), &headers, order("CHAIN-6", 1))
            .await
            .unwrap()
    });
    until("the order is at work", || async {
        metric(&stack, Service::Orders, "http_requests_in_flight ").await > 0.5
    })
    .await;
    let ready = format!("{}/ready", stack.admin_url(Service::Orders));
    stack.running(Service::Orders).unwrap().child.signal(Signal::TERM);
    until("it is not ready any more", || async {
        http::get(&ready).await.unwrap().json()["reasons"] == json!(["draining"])
    })
    .await;
    // Within the delay, while endpoints are taken away, it still answers new requests, and lets pooled clients go.
    let late = http::get(&format!("{}/v1/orders/x", stack.url(Service::Orders))).await.unwrap();
    assert_eq!((late.status.as_u16(), late.header("connection")), (404, "close"));
    let reply = placing.await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (201, &Value::from("confirmed")));
    let status = stack.running(Service::Orders).unwrap().child.wait().await.unwrap();
    assert!(status.success(), "{status}");
    stack.start_service(Service::Orders).await.unwrap();
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_holds_up_no_shutdown() {
    let state = temporary_folder().unwrap();
    let settings = [("SHUTDOWN_DELAY", "100ms"), ("SHUTDOWN_GRACE", "3s")];
    let mut stack = start_with(&state, &settings).await;
    stack.postgres().signal_all(Signal::STOP);
    // At work when the drain begins, and without an answer until its end.
    let orders = stack.url(Service::Orders).to_owned();
    let hanging = tokio::spawn(async move { http::get(&format!("{orders}/v1/orders")).await });
    until("a read hangs", || async {
        metric(&stack, Service::Orders, "http_requests_in_flight ").await > 0.5
    })
    .await;
    for service in [Service::Orders, INVENTORY] {
        let start = Instant::now();
        let status = stack.end(service, Signal::TERM).await.unwrap();
        let took = start.elapsed();
        // One deadline for the listener and all tasks: 3.1 s, and a moment for the process' end.
        assert!(took < Duration::from_millis(5500), "{service:?} took {took:?}");
        let drained = service == INVENTORY; // nothing was at work there that must come to its end
        assert_eq!(status.success(), drained, "{service:?}: {status}");
    }
    stack.postgres().signal_all(Signal::CONT);
    hanging.await.unwrap().unwrap_err();
    for service in [Service::Orders, INVENTORY] {
        stack.start_service(service).await.unwrap();
    }
    stack.await_ready().await.unwrap();
    assert_eq!(place(&stack, "after", order("CHAIN-6", 1)).await.status, 201);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_holds_up_no_shutdown() {
    let state = temporary_folder().unwrap();
    let mut stack = start(&state).await;
    let mut begun = connect(&stack, Service::Orders).await;
    begun.write_all(b"GET /v1/orders HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    until("its head has begun", || async {
        metric(&stack, Service::Orders, "http_connections{state=\"waiting\"}").await > 0.5
    })
    .await;
    let start = Instant::now();
    let status = stack.end(Service::Orders, Signal::TERM).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    stack.start_service(Service::Orders).await.unwrap();
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_aborts_at_once() {
    let state = temporary_folder().unwrap();
    let mut stack = start_with(&state, &[("SHUTDOWN_DELAY", "60s")]).await;
    let ready = format!("{}/ready", stack.admin_url(Service::Orders));
    stack.running(Service::Orders).unwrap().child.signal(Signal::TERM);
    until("it drains", || async { http::get(&ready).await.unwrap().status == 503 }).await;
    let start = Instant::now();
    let status = stack.end(Service::Orders, Signal::TERM).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(20), "it waited for the delay");
    for service in [Service::Inventory, Service::Gateway] {
        stack.end(service, Signal::KILL).await.unwrap();
    }
    stack.stop().await.unwrap();
}
