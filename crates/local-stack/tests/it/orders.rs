//! Orders from the gateway to the stock and back.

use futures_util::future::join_all;
use hyper::Method;
use local_stack::{Service, http, state::temporary_folder};
use serde_json::Value;

use crate::support::{cancel, get, item, order, place, start};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_confirmed_and_takes_stock_and_is_shown_and_counted() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let before = item(&stack, "NUT-M8").await;
    let reply = place(&stack, "one", order("NUT-M8", 3)).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let placed = reply.json();
    assert_eq!(placed["status"], "confirmed");
    assert_eq!(placed["total"]["minor"], 36);
    assert_eq!(
        reply.header("location"),
        format!("/api/v1/orders/{}", placed["id"].as_str().unwrap())
    );
    let after = item(&stack, "NUT-M8").await;
    assert_eq!(after["on_hand"].as_i64().unwrap(), before["on_hand"].as_i64().unwrap() - 3);
    assert_eq!(after["reserved"], 0);
    assert_eq!(get(&stack, reply.header("location")).await.json(), placed);

    let page = format!("{}/", stack.url(Service::Gateway));
    let page = http::send(Method::GET, &page, &[("accept", "text/html")], "").await.unwrap();
    assert!(page.text().contains(placed["id"].as_str().unwrap()));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    let metrics =
        http::get(&format!("{}/metrics", stack.admin_url(Service::Orders))).await.unwrap().text();
    assert!(metrics.contains("orders_total{outcome=\"confirmed\"} 1"), "{metrics}");
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gives_one_order_and_the_same_answer() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let first = place(&stack, "key", order("ROPE-10", 1)).await;
    let again = place(&stack, "key", order("ROPE-10", 1)).await;
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert_eq!(first.header("location"), again.header("location"));
    assert_eq!(get(&stack, "/api/v1/orders").await.json()["orders"].as_array().unwrap().len(), 1);
    assert_eq!(place(&stack, "key", order("ROPE-10", 2)).await.status, 422);
    let missing = stack
        .api_client()
        .send(Method::POST, "/api/v1/orders", &[], order("ROPE-10", 1))
        .await
        .unwrap();
    assert_eq!(missing.status, 400);
    assert_eq!(missing.header("content-type"), "application/problem+json");
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_and_nothing_is_held() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let reply = place(&stack, "much", order("PADLOCK-40", 76)).await;
    assert_eq!(reply.status, 409);
    assert_eq!(reply.json()["type"], "/problems/insufficient-stock");
    assert_eq!(reply.json()["lines"][0]["available"], 75);
    assert_eq!(place(&stack, "much", order("PADLOCK-40", 76)).await.body, reply.body);
    assert_eq!(item(&stack, "PADLOCK-40").await["available"], 75);
    let unknown = place(&stack, "unknown", order("NO-SUCH", 1)).await;
    assert_eq!(
        (unknown.status.as_u16(), &unknown.json()["type"]),
        (422, &Value::from("/problems/unknown-sku"))
    );
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_on_few_items_never_oversell() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let bodies = (0..50).map(|number| (format!("key-{number}"), order("PADLOCK-40", 2)));
    let replies = join_all(bodies.map(|(key, body)| {
        let stack = &stack;
        async move { place(stack, &key, body).await.status.as_u16() }
    }))
    .await;
    assert_eq!(replies.iter().filter(|status| **status == 201).count(), 37, "{replies:?}");
    assert_eq!(replies.iter().filter(|status| **status == 409).count(), 13, "{replies:?}");
    let left = item(&stack, "PADLOCK-40").await;
    assert_eq!((&left["on_hand"], &left["reserved"]), (&Value::from(1), &Value::from(0)));
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_gives_its_stock_back_once() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let placed = place(&stack, "key", order("LATCH-GATE", 20)).await;
    for _ in 0..2 {
        let cancelled = cancel(&stack, &placed).await;
        assert_eq!(
            (cancelled.status.as_u16(), &cancelled.json()["status"]),
            (200, &Value::from("cancelled"))
        );
        assert_eq!(item(&stack, "LATCH-GATE").await["available"], 120);
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_state_and_leaves_no_process() {
    let state = temporary_folder().unwrap();
    let mut stack = start(&state).await;
    let placed = place(&stack, "key", order("CHAIN-6", 1)).await;
    let processes = stack.process_ids();
    assert_eq!(processes.len(), 4);
    stack.stop().await.unwrap();
    for id in processes {
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "process {id} is left");
    }
    let stack = start(&state).await;
    assert_eq!(get(&stack, placed.header("location")).await.json()["status"], "confirmed");
    assert_eq!(place(&stack, "key", order("CHAIN-6", 1)).await.body, placed.body);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_migrate_and_share_the_stock() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let replicas = join_all((0..2).map(|_| stack.start_replica(Service::Inventory))).await;
    for replica in replicas {
        let mut replica = replica.unwrap();
        let items = http::get(&format!("{}/v1/items", replica.url)).await.unwrap().json();
        assert_eq!(items["items"].as_array().unwrap().len(), 8);
        replica
            .child
            .stop(rustix::process::Signal::TERM, std::time::Duration::from_secs(30))
            .await
            .unwrap();
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_paths_are_not_reachable_from_outside() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    for service in Service::ALL {
        for path in ["/metrics", "/info", "/faults"] {
            assert_eq!(
                http::get(&format!("{}{path}", stack.url(service))).await.unwrap().status,
                404
            );
        }
    }
    assert_eq!(get(&stack, "/api/v1/reservations/1").await.status, 404);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_cannot_enter_the_other_database() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let url = stack.database_url("orders").replace("dbname=orders", "dbname=inventory");
    let refused = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map(drop).unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    stack.stop().await.unwrap();
}
