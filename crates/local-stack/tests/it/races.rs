//! Those who want the same thing at the same time.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use hyper::Method;
use local_stack::{Service, http, laws::Databases, state::temporary_folder};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{cancel, item, order, place, reserve, start, start_with, until};

#[tokio::test(flavor = "multi_thread")]
async fn confirm_and_release_race_and_exactly_one_wins() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let inventory = stack.url(Service::Inventory);
    let mut confirmed = 0;
    for _ in 0..40 {
        let id = Uuid::now_v7();
        assert_eq!(reserve(inventory, id, "PADLOCK-40", 1, 600).await.status, 201);
        let replies =
            join_all(["confirm", "release", "confirm", "release"].map(|verb| async move {
                let url = format!("{inventory}/v1/reservations/{id}/{verb}");
                (verb, http::send(Method::POST, &url, &[], "").await.unwrap())
            }))
            .await;
        let won = |verb: &str| {
            let of_verb = replies.iter().filter(|(of, _)| *of == verb);
            of_verb.map(|(_, reply)| reply.status.as_u16()).collect::<Vec<_>>()
        };
        match (&won("confirm")[..], &won("release")[..]) {
            ([200, 200], [409, 409]) => confirmed += 1,
            ([409, 409], [200, 200]) => {}
            other => panic!("neither or both won: {other:?}"),
        }
    }
    let left = item(&stack, "PADLOCK-40").await;
    assert_eq!(left["on_hand"], 75 - confirmed);
    assert_eq!(left["reserved"], 0);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_or_receipt_sent_many_times_at_once_counts_once() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let inventory = stack.url(Service::Inventory);
    for round in 1..=10 {
        let id = Uuid::now_v7();
        let replies = join_all((0..8).map(|_| reserve(inventory, id, "PADLOCK-40", 2, 600))).await;
        let of = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
        assert_eq!((of(201), of(200)), (1, 7));
        let too_many = Uuid::now_v7();
        let replies =
            join_all((0..8).map(|_| reserve(inventory, too_many, "PADLOCK-40", 1000, 600))).await;
        for reply in replies {
            assert_eq!(reply.json()["type"], "/problems/insufficient-stock");
        }
        let (url, key) = (format!("{inventory}/v1/items/CHAIN-6/receipts"), format!("{round}"));
        let headers = [("idempotency-key", key.as_str())];
        let arrive = || http::send(Method::POST, &url, &headers, r#"{"quantity":1}"#);
        for reply in join_all((0..8).map(|_| arrive())).await {
            assert_eq!(reply.unwrap().json()["on_hand"], 800 + round);
        }
        assert_eq!(item(&stack, "PADLOCK-40").await["reserved"], 2 * round);
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_moves_of_few_reservations_at_once_keep_the_law() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("SWEEP_INTERVAL", "1ms")]).await;
    let databases = Databases::connect(&stack).await.unwrap();
    let orders: Vec<_> = (0..40).map(|_| Uuid::now_v7()).collect();
    let clients = (0..16).map(|_| move_about(stack.url(Service::Inventory), &databases, &orders));
    let done: BTreeSet<_> = join_all(clients).await.into_iter().flatten().collect();
    assert_eq!(done.len(), 4, "not every move was made: {done:?}");
    let (breaches, _) = databases.breaches().await.unwrap();
    // Here no order belongs to a reservation.
    let of_items: Vec<_> = breaches.iter().filter(|text| !text.starts_with("there is")).collect();
    assert_eq!(of_items, Vec::<&String>::new());
    stack.stop().await.unwrap();
}

/// Moves reservations at random, most of the time while others move the same one; some expire. Which moves were made.
async fn move_about(
    inventory: &str,
    databases: &Databases,
    orders: &[Uuid],
) -> BTreeSet<&'static str> {
    let mut done = BTreeSet::new();
    for turn in 0..150 {
        let order = orders[turn * orders.len() / 150];
        let verb =
            ["reserve", "reserve", "expire", "confirm", "release", "return"][fastrand::usize(..6)];
        let url = format!("{inventory}/v1/reservations/{order}");
        let reply = match verb {
            "reserve" => http::send(Method::PUT, &url, &[], lines_at_random()).await,
            "expire" => {
                let expire = "UPDATE reservations SET expires_at = now() WHERE order_id = $1";
                databases.inventory.execute(expire, &[&order]).await.unwrap();
                continue;
            }
            verb => http::send(Method::POST, &format!("{url}/{verb}"), &[], "").await,
        };
        let reply = reply.unwrap();
        assert!(!reply.status.is_server_error(), "{}", reply.text());
        if reply.status.is_success() {
            done.insert(verb);
        }
    }
    done
}

/// One or two lines in any order, few enough that there is stock most of the time.
fn lines_at_random() -> String {
    let mut lines = ["PADLOCK-40", "LATCH-GATE"]
        .map(|sku| json!({"sku": sku, "quantity": fastrand::u32(1..9)}))
        .to_vec();
    fastrand::shuffle(&mut lines);
    lines.truncate(fastrand::usize(1..=2));
    json!({"lines": lines, "ttl_seconds": 600}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_sent_many_times_at_once_gives_one_order() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    for round in 0..10 {
        let key = format!("key-{round}");
        let replies = join_all((0..8).map(|_| place(&stack, &key, order("BOLT-M8", 1)))).await;
        let mut bodies = Vec::new();
        for reply in &replies {
            match reply.status.as_u16() {
                201 => bodies.push(&reply.body),
                409 => assert_eq!(reply.json()["type"], "/problems/idempotency-key-at-work"),
                other => panic!("{other}: {}", reply.text()),
            }
        }
        assert!(!bodies.is_empty(), "nobody got the order");
        assert!(bodies.iter().all(|body| *body == bodies[0]), "two answers for one key");
    }
    assert_eq!(item(&stack, "BOLT-M8").await["on_hand"], 5000 - 10);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_that_place_and_cancel_few_items_keep_the_law() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let databases = Databases::connect(&stack).await.unwrap();
    join_all((0..16).map(|client| client_turns(&stack, client))).await;
    until("all is at rest", || async { databases.at_rest().await.unwrap() }).await;
    let (breaches, counts) = databases.breaches().await.unwrap();
    assert_eq!(breaches, Vec::<String>::new());
    assert_eq!(counts.values().sum::<u64>(), 16 * 20, "{counts:?}");
    assert!(counts["rejected"] > 0 && counts["cancelled"] > 0, "{counts:?}");
    stack.stop().await.unwrap();
}

/// Places 20 orders of two items in either order, and cancels every third that was confirmed.
async fn client_turns(stack: &local_stack::Stack, client: usize) {
    let mut confirmed = 0;
    for turn in 0..20 {
        let mut lines = vec![
            json!({"sku": "PADLOCK-40", "quantity": 1 + turn % 3}),
            json!({"sku": "LATCH-GATE", "quantity": 1 + client % 3}),
        ];
        if (client + turn) % 2 == 0 {
            lines.reverse();
        }
        let body = json!({"customer": "stress", "lines": lines}).to_string();
        let reply = place(stack, &format!("{client}-{turn}"), body).await;
        if reply.status == 409 {
            assert_eq!(reply.json()["type"], "/problems/insufficient-stock");
            continue;
        }
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["status"]),
            (201, &Value::from("confirmed"))
        );
        confirmed += 1;
        if confirmed % 3 == 0 {
            assert_eq!(cancel(stack, &reply).await.status, 200);
        }
    }
}
