//! R7: an idempotency key belongs to the caller who sent it. A caller is the name of an API key.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use hyper::{HeaderMap, Method, StatusCode};
use local_stack::{ApiClient, Service, Stack, http::Reply, laws::Databases};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    api_keys::{Keys, key, named},
    support::{fault, form, get, item, metric, no_faults, order, until},
};

const CALLERS: [&str; 3] = ["ada", "bob", "carol"];
const RATE: u32 = 100_000;
const ORDERS: &str = "/api/v1/orders";
const RECEIPTS: &str = "/api/v1/items/CHAIN-6/receipts";
const KEY_REUSED: &str = "/problems/idempotency-key-reused";

/// A stack whose gateway knows the callers, each by a key whose text is the name.
async fn start(state: &TempDir) -> (Keys, Stack) {
    let keys = Keys::new(&CALLERS.map(|name| key(name, "write", RATE)));
    let stack = keys.stack(state, &[]).await;
    (keys, stack)
}

/// Sends a body under an idempotency key, with the API key of that text.
async fn send(stack: &Stack, caller: &str, path: &str, key: &str, body: &str) -> Reply {
    send_with(stack, caller, path, &[("idempotency-key", key)], body).await
}

async fn send_with(
    stack: &Stack,
    caller: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let client = ApiClient::new(stack.url(Service::Gateway), caller);
    client.send(Method::POST, path, headers, body.to_owned()).await.unwrap()
}

/// All of an answer that must come again.
fn told(reply: &Reply) -> (StatusCode, HeaderMap, String) {
    let mut headers = reply.headers.clone();
    // Each response has its own.
    for name in ["date", "x-trace-id"] {
        headers.remove(name);
    }
    (reply.status, headers, reply.text())
}

async fn count_orders(stack: &Stack) -> usize {
    let page = get(stack, "/api/v1/orders?page_size=200").await.json();
    page["orders"].as_array().unwrap().len()
}

async fn on_hand(stack: &Stack) -> i64 {
    item(stack, "CHAIN-6").await["on_hand"].as_i64().unwrap()
}

async fn check_law(databases: &Databases) {
    until("all is at rest", || async { databases.at_rest().await.unwrap() }).await;
    assert_eq!(databases.breaches().await.unwrap().0, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_the_same_key_have_an_order_each_and_are_answered_with_their_own() {
    let state = TempDir::new().unwrap();
    let (_keys, stack) = start(&state).await;
    let (one, two) = (order("NUT-M8", 1), order("NUT-M8", 2));
    let bodies = [&one, &one, &two];
    let mut first = Vec::new();
    for (caller, body) in CALLERS.into_iter().zip(bodies) {
        let placed = send(&stack, caller, ORDERS, "key", body).await;
        assert_eq!(placed.status, 201, "{caller}: {}", placed.text());
        first.push(placed);
    }
    assert_eq!(count_orders(&stack).await, 3);
    for ((caller, body), first) in CALLERS.into_iter().zip(bodies).zip(&first) {
        let again = send(&stack, caller, ORDERS, "key", body).await;
        assert_eq!(told(&again), told(first), "{caller}");
        let other = send(&stack, caller, ORDERS, "key", &order("NUT-M8", 3)).await;
        assert_eq!((other.status.as_u16(), &other.json()["type"]), (422, &KEY_REUSED.into()));
    }
    assert_eq!(count_orders(&stack).await, 3);
    // A rejection is a caller's own too.
    let much = order("NUT-M8", 1_000_000);
    let rejected = send(&stack, "ada", ORDERS, "much", &much).await;
    assert_eq!(rejected.status, 409);
    let other = send(&stack, "bob", ORDERS, "much", &much).await;
    assert_ne!(other.json()["trace_id"], rejected.json()["trace_id"]);
    assert_eq!(told(&send(&stack, "bob", ORDERS, "much", &much).await), told(&other));
    check_law(&Databases::connect(&stack).await.unwrap()).await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_several_callers_with_the_same_key_all_arrive_each_once() {
    let state = TempDir::new().unwrap();
    let (_keys, stack) = start(&state).await;
    let before = on_hand(&stack).await;
    for _ in 0..2 {
        for (caller, quantity) in CALLERS.into_iter().zip([5, 5, 7]) {
            let body = json!({"quantity": quantity}).to_string();
            let arrived = send(&stack, caller, RECEIPTS, "key", &body).await;
            assert_eq!(arrived.status, 200, "{caller}: {}", arrived.text());
        }
        assert_eq!(on_hand(&stack).await, before + 17);
    }
    for caller in CALLERS {
        for (path, body) in [
            (RECEIPTS, r#"{"quantity":9}"#),
            ("/api/v1/items/NUT-M8/receipts", r#"{"quantity":5}"#),
        ] {
            let other = send(&stack, caller, path, "key", body).await;
            assert_eq!((other.status.as_u16(), &other.json()["type"]), (422, &KEY_REUSED.into()));
        }
    }
    check_law(&Databases::connect(&stack).await.unwrap()).await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_its_callers_still_when_the_api_key_was_rotated() {
    let state = TempDir::new().unwrap();
    let keys = Keys::new(&[named("ada", "old", "write", RATE), key("bob", "write", RATE)]);
    let stack = keys.stack(&state, &[]).await;
    let body = order("NUT-M8", 1);
    let others = send(&stack, "bob", ORDERS, "key", &body).await;
    let first = send(&stack, "old", ORDERS, "key", &body).await;
    assert_ne!(first.json()["id"], others.json()["id"]);
    keys.write(&json!([named("ada", "new", "write", RATE), key("bob", "write", RATE)]).to_string());
    until("the new key is known", || async {
        send(&stack, "new", ORDERS, "key", &body).await.status == 201
    })
    .await;
    assert_eq!(told(&send(&stack, "new", ORDERS, "key", &body).await), told(&first));
    assert_eq!(count_orders(&stack).await, 2);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_believed_who_says_that_another_calls() {
    let state = TempDir::new().unwrap();
    let (_keys, stack) = start(&state).await;
    let body = order("NUT-M8", 1);
    let adas = send(&stack, "ada", ORDERS, "key", &body).await;
    let key = ("idempotency-key", "key");
    let lies = [
        &[("x-caller", "ada")][..],
        &[("x-caller", "ada"), ("x-caller", "bob")],
        &[("x-caller", "carol\tada")],
        // As if it was for this connection alone, and so no longer on the way to orders.
        &[("connection", "x-caller")],
        &[("connection", "x-caller"), ("x-caller", "ada")],
    ];
    let mut bobs = BTreeSet::new();
    for lie in lies {
        let placed = send_with(&stack, "bob", ORDERS, &[&[key][..], lie].concat(), &body).await;
        assert_eq!(placed.status, 201, "{lie:?}: {}", placed.text());
        bobs.insert(placed.text());
        let receipt = [&[key][..], lie].concat();
        let receipt = send_with(&stack, "bob", RECEIPTS, &receipt, r#"{"quantity":5}"#).await;
        assert_eq!(receipt.status, 200, "{lie:?}: {}", receipt.text());
    }
    assert_eq!(bobs.len(), 1, "{bobs:?}");
    assert!(!bobs.contains(&adas.text()));
    assert_eq!(send(&stack, "ada", RECEIPTS, "key", r#"{"quantity":6}"#).await.status, 200);
    assert_eq!(on_hand(&stack).await, 800 + 5 + 6);
    assert_eq!(told(&send(&stack, "ada", ORDERS, "key", &body).await), told(&adas));
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_the_dashboard_is_of_the_caller_who_has_signed_in() {
    let state = TempDir::new().unwrap();
    let (_keys, stack) = start(&state).await;
    let key = Uuid::new_v4().to_string();
    for caller in ["ada", "bob"] {
        let signed_in = form(&stack, "/session", "", "same-origin", &format!("key={caller}")).await;
        let cookie = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
        let placement = format!("key={key}&sku=NUT-M8&quantity=1");
        for _ in 0..2 {
            let placed = form(&stack, "/demo/orders", &cookie, "same-origin", &placement).await;
            assert_eq!(placed.header("location"), "/?outcome=placed#orders");
        }
    }
    assert_eq!(count_orders(&stack).await, 2);
    let lines = [json!({"sku": "NUT-M8", "quantity": 1})];
    let body = json!({"customer": "dashboard", "lines": lines}).to_string();
    assert_eq!(send(&stack, "bob", ORDERS, &key, &body).await.status, 201);
    assert_eq!(count_orders(&stack).await, 2);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_without_a_caller_goes_on_to_answer_anybody_with_the_same_body() {
    let state = TempDir::new().unwrap();
    let (_keys, stack) = start(&state).await;
    let databases = Databases::connect(&stack).await.unwrap();
    let (body, receipt) = (order("NUT-M8", 1), r#"{"quantity":5}"#);
    let first = send(&stack, "ada", ORDERS, "key", &body).await;
    assert_eq!(send(&stack, "ada", RECEIPTS, "key", receipt).await.status, 200);
    databases.orders.execute("UPDATE idempotency_keys SET caller = NULL", &[]).await.unwrap();
    databases.inventory.execute("UPDATE receipts SET caller = NULL", &[]).await.unwrap();
    for caller in CALLERS {
        assert_eq!(told(&send(&stack, caller, ORDERS, "key", &body).await), told(&first));
        let other = send(&stack, caller, ORDERS, "key", &order("NUT-M8", 2)).await;
        assert_eq!((other.status.as_u16(), &other.json()["type"]), (422, &KEY_REUSED.into()));
        assert_eq!(send(&stack, caller, RECEIPTS, "key", receipt).await.status, 200);
        let other = send(&stack, caller, RECEIPTS, "key", r#"{"quantity":6}"#).await;
        assert_eq!(other.status, 422);
    }
    assert_eq!(count_orders(&stack).await, 1);
    assert_eq!(on_hand(&stack).await, 800 + 5);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_key_outlives_that_of_another_who_was_first() {
    let state = TempDir::new().unwrap();
    let (_keys, stack) = start(&state).await;
    let databases = Databases::connect(&stack).await.unwrap();
    let body = order("NUT-M8", 1);
    send(&stack, "ada", ORDERS, "key", &body).await;
    let bobs = send(&stack, "bob", ORDERS, "key", &body).await;
    // As when its time is over.
    let forget = "DELETE FROM idempotency_keys WHERE key = 'key'";
    assert_eq!(databases.orders.execute(forget, &[]).await.unwrap(), 1);
    let carols = send(&stack, "carol", ORDERS, "key", &body).await;
    for (caller, first) in [("bob", bobs), ("carol", carols)] {
        assert_eq!(told(&send(&stack, caller, ORDERS, "key", &body).await), told(&first));
    }
    assert_eq!(count_orders(&stack).await, 3);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_places_nothing_while_the_key_of_the_first_caller_is_forgotten() {
    let state = TempDir::new().unwrap();
    let keys = Keys::new(&CALLERS.map(|name| key(name, "write", RATE)));
    let stack = keys.stack(&state, &[("FAULTS", "on")]).await;
    let databases = Databases::connect(&stack).await.unwrap();
    let body = order("NUT-M8", 1);
    send(&stack, "ada", ORDERS, "key", &body).await;
    // The first attempt has seen ada's row when it waits for the price.
    let slow = json!({"route": "/v1/items/{sku}", "latency_ms": 1500});
    fault(&stack, Service::Inventory, slow).await;
    let first = send(&stack, "bob", ORDERS, "key", &body);
    let retry = async {
        let injected = "faults_injected_total";
        until("the price is asked for", || async {
            metric(&stack, Service::Inventory, injected).await > 0.5
        })
        .await;
        no_faults(&stack, Service::Inventory).await;
        databases.orders.execute("DELETE FROM idempotency_keys", &[]).await.unwrap();
        send(&stack, "bob", ORDERS, "key", &body).await
    };
    let (first, retried) = tokio::join!(first, retry);
    assert_eq!(retried.status, 201);
    assert_eq!(told(&first), told(&retried));
    assert_eq!(count_orders(&stack).await, 2);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_send_one_key_at_the_same_time_get_one_order_and_one_receipt_each() {
    const ROUNDS: i64 = 10;
    let state = TempDir::new().unwrap();
    let (_keys, stack) = start(&state).await;
    let before = on_hand(&stack).await;
    for round in 0..ROUNDS {
        let key = format!("key-{round}");
        let (body, receipt) = (order("BOLT-M8", 1), r#"{"quantity":1}"#);
        let callers = || CALLERS.into_iter().cycle().take(5 * CALLERS.len());
        let place = callers().map(|caller| send(&stack, caller, ORDERS, &key, &body));
        let receive = callers().map(|caller| send(&stack, caller, RECEIPTS, &key, receipt));
        let (placed, received) = tokio::join!(join_all(place), join_all(receive));
        let mut orders = BTreeSet::new();
        for (caller, reply) in callers().zip(placed) {
            match reply.status.as_u16() {
                201 => drop(orders.insert((caller, reply.text()))),
                409 => assert_eq!(reply.json()["type"], "/problems/idempotency-key-at-work"),
                other => panic!("{other}: {}", reply.text()),
            }
        }
        assert_eq!(orders.len(), CALLERS.len(), "{orders:?}");
        assert!(received.iter().all(|reply| reply.status == 200));
        assert_eq!(on_hand(&stack).await, before + (round + 1) * 3);
    }
    assert_eq!(count_orders(&stack).await, 3 * usize::try_from(ROUNDS).unwrap());
    assert_eq!(item(&stack, "BOLT-M8").await["on_hand"], 5000 - 3 * ROUNDS);
    check_law(&Databases::connect(&stack).await.unwrap()).await;
    stack.stop().await.unwrap();
}
