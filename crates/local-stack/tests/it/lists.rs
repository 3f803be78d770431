//! Pages of lists.

use local_stack::state::temporary_folder;
use serde_json::Value;

use crate::support::{get, order, place, start};

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_order_once_the_newest_first_while_others_come() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let mut placed = Vec::new();
    for number in 0..5 {
        let reply = place(&stack, &format!("key-{number}"), order("ROPE-10", 1)).await;
        placed.insert(0, reply.json()["id"].clone());
    }
    let mut seen: Vec<Value> = Vec::new();
    let mut path = "/api/v1/orders?page_size=2".to_owned();
    for page in 0.. {
        let answer = get(&stack, &path).await.json();
        seen.extend(answer["orders"].as_array().unwrap().iter().map(|order| order["id"].clone()));
        let Some(token) = answer["next_page_token"].as_str() else { break };
        path = format!("/api/v1/orders?page_size=2&page_token={token}");
        place(&stack, &format!("later-{page}"), order("ROPE-10", 1)).await;
    }
    assert_eq!(seen, placed);
    assert_eq!(get(&stack, "/api/v1/orders?page_token=1zz").await.status, 400);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_items_go_by_sku() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let all = get(&stack, "/api/v1/items").await.json()["items"].clone();
    let first = get(&stack, "/api/v1/items?page_size=5").await.json();
    let token = first["next_page_token"].as_str().unwrap();
    let rest = get(&stack, &format!("/api/v1/items?page_token={token}")).await.json();
    let joined =
        [first["items"].as_array().unwrap().clone(), rest["items"].as_array().unwrap().clone()]
            .concat();
    assert_eq!(Value::from(joined), all);
    assert_eq!(rest["next_page_token"], Value::Null);
    stack.stop().await.unwrap();
}
