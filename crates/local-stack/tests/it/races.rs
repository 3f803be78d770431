//! Those who want the same thing at the same time.

use futures_util::future::join_all;
use hyper::Method;
use local_stack::{Service, http, laws::Databases, state::temporary_folder};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{cancel, item, order, place, reserve, start, until};

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
