//! Idempotency keys over time, and orders that somebody left unfinished.

use hyper::Method;
use local_stack::{Service, Stack, http, laws::Databases, state::temporary_folder};
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{get, item, order, place, reserve, start, start_with, until};

const CLOSED: &str = "/problems/reservation-closed";

/// Stock arrives.
async fn receive(stack: &Stack, sku: &str, quantity: u32) {
    let url = format!("{}/v1/items/{sku}/receipts", stack.url(Service::Inventory));
    let (key, body) = (Uuid::now_v7().to_string(), format!(r#"{{"quantity":{quantity}}}"#));
    let headers = [("idempotency-key", key.as_str())];
    let arrived = http::send(Method::POST, &url, &headers, body).await;
    assert_eq!(arrived.unwrap().status, 200);
}

/// An order under a key as orders leaves it when it dies: unsettled, its lease over, its key without an answer.
async fn leave(databases: &Databases, id: Uuid, key: &str, status: &str, lines: &Value) {
    let insert = format!(
        "INSERT INTO orders (id, customer, status, lines, total_minor, currency, lease_until)
            VALUES ('{id}', 'ada', '{status}', '{lines}', 80, 'EUR', now());
        INSERT INTO idempotency_keys (key, fingerprint, order_id) VALUES ('{key}', '', '{id}')"
    );
    databases.orders.batch_execute(&insert).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_free_again_after_its_time_and_not_before() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("IDEMPOTENCY_TTL", "1s")]).await;
    let first = place(&stack, "key", order("ROPE-10", 1)).await.json();
    assert_eq!(place(&stack, "key", order("ROPE-10", 1)).await.json(), first);
    let databases = Databases::connect(&stack).await.unwrap();
    let count = "SELECT count(*) FROM idempotency_keys";
    until("the answer is forgotten", || async {
        databases.orders.query_one(count, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    let second = place(&stack, "key", order("ROPE-10", 2)).await.json();
    assert_eq!(second["status"], "confirmed");
    assert_ne!(second["id"], first["id"]);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_reservation_gives_its_stock_back_and_is_not_held_anew_once_released() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("SWEEP_INTERVAL", "20ms")]).await;
    let (inventory, id) = (stack.url(Service::Inventory), Uuid::now_v7());
    assert_eq!(reserve(inventory, id, "CHAIN-6", 5, 1).await.status, 201);
    assert_eq!(item(&stack, "CHAIN-6").await["reserved"], 5);
    until("the reservation has expired", || async {
        item(&stack, "CHAIN-6").await["reserved"] == 0
    })
    .await;
    let url = format!("{inventory}/v1/reservations/{id}/release");
    let released = http::send(Method::POST, &url, &[], "").await.unwrap();
    assert_eq!(
        (released.status.as_u16(), released.json()["status"].as_str()),
        (200, Some("released"))
    );
    // A request that was long under way, for an order that was cancelled meanwhile.
    assert_eq!(
        reserve(inventory, id, "CHAIN-6", 5, 1).await.json()["type"],
        "/problems/reservation-closed"
    );
    assert_eq!(item(&stack, "CHAIN-6").await["reserved"], 0);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_past_its_time_that_nobody_sweeps_shows_as_overdue() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("SWEEP_INTERVAL", "1h")]).await;
    let inventory = stack.url(Service::Inventory);
    assert_eq!(reserve(inventory, Uuid::now_v7(), "CHAIN-6", 5, 1).await.status, 201);
    let metrics = format!("{}/metrics", stack.admin_url(Service::Inventory));
    until("the metric shows it", || async {
        let text = http::get(&metrics).await.unwrap().text();
        let value = |line: &str| {
            line.strip_prefix("inventory_reservations_overdue_seconds ")?.parse::<f64>().ok()
        };
        text.lines().find_map(value).is_some_and(|seconds| seconds > 0.0)
    })
    .await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_stays_pending_while_inventory_is_away_and_is_finished_afterwards() {
    let state = temporary_folder().unwrap();
    let settings = [("ORDER_LEASE", "6s"), ("RESUME_INTERVAL", "50ms")];
    let mut stack = start_with(&state, &settings).await;
    let databases = Databases::connect(&stack).await.unwrap();
    // As a crash between the commit of order and key and the call to inventory leaves it.
    let placed = place(&stack, "key", order("CHAIN-6", 2)).await.json();
    let copy =
        "INSERT INTO orders (id, customer, status, lines, total_minor, currency, lease_until)
        SELECT $1, customer, 'pending', lines, total_minor, currency, now() FROM orders";
    let left: Uuid = Uuid::now_v7();
    stack.end(Service::Inventory, Signal::KILL).await.unwrap();
    databases.orders.execute(copy, &[&left]).await.unwrap();
    let path = format!("/api/v1/orders/{left}");
    until("the worker has tried in vain", || async {
        let attempts = "SELECT attempts FROM orders WHERE id = $1";
        databases.orders.query_one(attempts, &[&left]).await.unwrap().get::<_, i32>(0) > 0
    })
    .await;
    assert_eq!(get(&stack, &path).await.json()["status"], "pending");
    // A new order has no price now: it is refused, and its key is not used up.
    assert_eq!(place(&stack, "other", order("CHAIN-6", 1)).await.status, 503);
    stack.start_service(Service::Inventory).await.unwrap();
    stack.await_ready().await.unwrap();
    until("the order is finished", || async {
        get(&stack, &path).await.json()["status"] == "confirmed"
    })
    .await;
    assert_eq!(place(&stack, "other", order("CHAIN-6", 1)).await.status, 201);
    let on_hand = item(&stack, "CHAIN-6").await["on_hand"].as_i64().unwrap();
    assert_eq!(on_hand, 800 - 2 - 2 - 1, "{placed}");
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_never_told_of_an_order_that_is_confirmed_in_the_end() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("RESUME_INTERVAL", "50ms")]).await;
    let databases = Databases::connect(&stack).await.unwrap();
    // As if orders died when it was about to write the rejection.
    let dying = "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'died'; END $$;
        CREATE TRIGGER dying BEFORE UPDATE ON orders FOR EACH ROW WHEN (NEW.status = 'rejected') EXECUTE FUNCTION die()";
    databases.orders.batch_execute(dying).await.unwrap();
    let first = place(&stack, "key", order("PADLOCK-40", 80)).await;
    assert_ne!(first.json()["type"], "/problems/insufficient-stock", "told before it was true");
    receive(&stack, "PADLOCK-40", 100).await;
    databases.orders.batch_execute("DROP TRIGGER dying ON orders").await.unwrap();
    until("the order is finished", || async {
        get(&stack, "/api/v1/orders").await.json()["orders"][0]["status"] == "confirmed"
    })
    .await;
    assert_eq!(place(&stack, "key", order("PADLOCK-40", 80)).await.status, 201);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_that_is_written_late_gives_back_what_another_has_taken_meanwhile() {
    let state = temporary_folder().unwrap();
    let settings = [("ORDER_LEASE", "6s"), ("RESUME_INTERVAL", "50ms")];
    let stack = start_with(&state, &settings).await;
    let databases = Databases::connect(&stack).await.unwrap();
    // Who writes an order's end waits until its turn comes, before it has looked at the order.
    let gates = "CREATE SEQUENCE turns;
        CREATE TABLE gates (is_open bigint);
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
            DECLARE turn bigint := nextval('turns');
            BEGIN
                WHILE NOT EXISTS (SELECT FROM gates WHERE is_open = turn) LOOP
                    PERFORM pg_sleep(0.01);
                END LOOP;
                RETURN NULL;
            END $$;
        GRANT ALL ON gates, turns TO PUBLIC;
        CREATE TRIGGER waiting BEFORE UPDATE OF status ON orders FOR EACH STATEMENT EXECUTE FUNCTION wait()";
    databases.orders.batch_execute(gates).await.unwrap();
    let open = async |gate: i64| {
        databases.orders.execute("INSERT INTO gates VALUES ($1)", &[&gate]).await.unwrap();
    };
    // There is too little; but before the rejection is written, placing's time is over.
    let placed = place(&stack, "key", order("PADLOCK-40", 80)).await;
    assert_eq!((placed.status.as_u16(), &placed.json()["status"]), (201, &"pending".into()));
    receive(&stack, "PADLOCK-40", 100).await;
    until("the worker has taken the stock", || async {
        item(&stack, "PADLOCK-40").await["on_hand"] == 75 + 100 - 80
    })
    .await;
    open(1).await;
    until("the rejection is through, and the worker's end waits", || async {
        let state = "SELECT EXISTS (SELECT FROM orders WHERE status = 'rejected') AND last_value = 2 FROM turns";
        databases.orders.query_one(state, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    open(2).await;
    until("all is at rest", || async { databases.at_rest().await.unwrap() }).await;
    assert_eq!(databases.breaches().await.unwrap().0, Vec::<String>::new());
    assert_eq!(get(&stack, placed.header("location")).await.json()["status"], "rejected");
    assert_eq!(item(&stack, "PADLOCK-40").await["on_hand"], 75 + 100);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_order_gets_no_stock_however_late_somebody_asks_for_it() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("RESUME_INTERVAL", "50ms")]).await;
    let (databases, inventory) =
        (Databases::connect(&stack).await.unwrap(), stack.url(Service::Inventory));
    assert_eq!(place(&stack, "key", order("PADLOCK-40", 80)).await.status, 409);
    until("all is at rest", || async { databases.at_rest().await.unwrap() }).await;
    receive(&stack, "PADLOCK-40", 100).await;
    let id = "SELECT order_id FROM idempotency_keys WHERE key = 'key'";
    let id: Uuid = databases.orders.query_one(id, &[]).await.unwrap().get(0);
    let late = reserve(inventory, id, "PADLOCK-40", 80, 60).await;
    assert_eq!((late.status.as_u16(), &late.json()["type"]), (409, &CLOSED.into()));
    // One whose rejection was written just before a crash, and whose stock was taken just before that.
    let id = Uuid::now_v7();
    assert_eq!(reserve(inventory, id, "PADLOCK-40", 80, 60).await.status, 201);
    let confirm = format!("{inventory}/v1/reservations/{id}/confirm");
    assert_eq!(http::send(Method::POST, &confirm, &[], "").await.unwrap().status, 200);
    assert_eq!(item(&stack, "PADLOCK-40").await["on_hand"], 75 + 100 - 80);
    leave(&databases, id, "other", "rejected", &json!([])).await;
    until("all is at rest", || async { databases.at_rest().await.unwrap() }).await;
    assert_eq!(item(&stack, "PADLOCK-40").await["on_hand"], 75 + 100);
    assert_eq!(databases.breaches().await.unwrap().0, Vec::<String>::new());
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_illegal_moves_of_an_order() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    place(&stack, "key", order("CHAIN-6", 1)).await;
    let databases = Databases::connect(&stack).await.unwrap();
    let statuses = ["pending", "confirmed", "rejected", "cancelled"];
    for from in statuses {
        for to in statuses {
            let id = Uuid::now_v7();
            let insert = "INSERT INTO orders (id, customer, status, lines, total_minor, currency, lease_until, settled)
                SELECT $1, customer, $2, lines, total_minor, currency, now(), true FROM orders LIMIT 1";
            databases.orders.execute(insert, &[&id, &from]).await.unwrap();
            let update = "UPDATE orders SET status = $2 WHERE id = $1";
            let moved = databases.orders.execute(update, &[&id, &to]).await;
            let legal = from == to || from == "pending" || (from, to) == ("confirmed", "cancelled");
            assert_eq!(moved.is_ok(), legal, "{from} to {to}");
        }
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_by_the_worker_is_answered_as_one_by_a_request() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("RESUME_INTERVAL", "50ms")]).await;
    let databases = Databases::connect(&stack).await.unwrap();
    // As if orders had died just after it began to place an order of too much.
    let id = Uuid::now_v7();
    let lines = json!([{"sku": "PADLOCK-40", "quantity": 80, "unit_price": {"minor": 1, "currency": "EUR"}}]);
    leave(&databases, id, "key", "pending", &lines).await;
    until("all is at rest", || async { databases.at_rest().await.unwrap() }).await;
    let kept = "SELECT body FROM idempotency_keys WHERE key = 'key'";
    let kept: String = databases.orders.query_one(kept, &[]).await.unwrap().get(0);
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let asked = place(&stack, "other", order("PADLOCK-40", 80)).await.json();
    for member in ["type", "title", "status", "detail", "lines"] {
        assert_eq!(kept[member], asked[member], "{kept} {asked}");
    }
    let trace_id = kept["trace_id"].as_str().unwrap();
    assert!(trace_id.len() == 32 && !trace_id.trim_matches('0').is_empty(), "{kept}");
    stack.stop().await.unwrap();
}
