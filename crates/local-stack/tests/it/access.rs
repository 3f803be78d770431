//! People and programs at the gateway: API keys, and the dashboard's sessions.

use std::time::{Duration, Instant};

use hyper::Method;
use local_stack::{
    Service, Stack,
    http::{self, Reply},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    api_keys::{Keys, key},
    support::{form, get, metric, order, until},
};

async fn place(stack: &Stack, authorization: &str) -> Reply {
    let key = Uuid::new_v4().to_string();
    let mut headers = vec![("idempotency-key", &*key)];
    if !authorization.is_empty() {
        headers.push(("authorization", authorization));
    }
    let url = format!("{}/api/v1/orders", stack.url(Service::Gateway));
    http::send(Method::POST, &url, &headers, order("NUT-M8", 1)).await.unwrap()
}

/// Waits until the gateway has written that.
async fn until_logged(stack: &mut Stack, text: &str) {
    let start = Instant::now();
    while !stack.running(Service::Gateway).unwrap().child.tail().contains(text) {
        assert!(start.elapsed() < Duration::from_secs(60), "it is not told: {text}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn read(stack: &Stack, path: &str, headers: &[(&str, &str)]) -> Reply {
    let url = format!("{}{path}", stack.url(Service::Gateway));
    http::send(Method::GET, &url, headers, "").await.unwrap()
}

#[tokio::test]
async fn reading_is_open_and_writing_needs_a_key_that_may() {
    let state = TempDir::new().unwrap();
    let keys = Keys::new(&[key("writer", "write", 100), key("reader", "read", 100)]);
    let stack = keys.stack(&state, &[]).await;
    for (authorization, status, kind) in [
        ("", 401, "unauthenticated"),
        ("Bearer wrong", 401, "unauthenticated"),
        ("Basic d3JpdGVyOg==", 401, "unauthenticated"),
        ("writer", 401, "unauthenticated"),
        ("Bearer reader", 403, "forbidden"),
    ] {
        let refused = place(&stack, authorization).await;
        assert_eq!(refused.status, status, "{authorization}");
        assert_eq!(refused.json()["type"], format!("/problems/{kind}"));
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(!refused.header("www-authenticate").is_empty(), status == 401);
    }
    assert_eq!(place(&stack, "Bearer writer").await.status, 201);
    for path in ["/", "/api/v1/items", "/api/v1/orders", "/api/v1/topology"] {
        assert_eq!(get(&stack, path).await.status, 200, "{path}");
    }
    let wrong = [("authorization", "Bearer wrong")];
    assert_eq!(read(&stack, "/api/v1/items", &wrong).await.status, 401);
    let orders = get(&stack, "/api/v1/orders").await.json();
    assert_eq!(orders["orders"].as_array().unwrap().len(), 1, "nothing of the refused was done");
    let refused = "api_key_requests_total{key=\"reader\",outcome=\"forbidden\"}";
    assert!(metric(&stack, Service::Gateway, refused).await >= 1.0);
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn where_reading_needs_a_key_nothing_is_told_without_one() {
    let state = TempDir::new().unwrap();
    let keys = Keys::new(&[key("reader", "read", 100)]);
    let stack = keys.stack(&state, &[("READ_ACCESS", "key")]).await;
    for path in ["/", "/api/v1/items", "/api/v1/orders", "/api/v1/topology"] {
        assert_eq!(get(&stack, path).await.status, 401, "{path}");
        let with = [("authorization", "Bearer reader")];
        assert_eq!(read(&stack, path, &with).await.status, 200, "{path}");
    }
    let page = read(&stack, "/", &[("accept", "text/html")]).await;
    assert!(page.text().contains("action=\"/session\"") && !page.text().contains("NUT-M8"));
    let signed_in = form(&stack, "/session", "", "same-origin", "key=reader").await;
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
    let page = read(&stack, "/", &[("accept", "text/html"), ("cookie", &cookie)]).await;
    assert!(page.text().contains("NUT-M8") && !page.text().contains("action=\"/demo/"));
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_key_that_comes_too_often_is_told_to_wait_and_others_are_not() {
    let state = TempDir::new().unwrap();
    let keys = Keys::new(&[key("slow", "write", 2), key("fast", "write", 1000)]);
    let stack = keys.stack(&state, &[]).await;
    let mut limited = 0;
    for _ in 0..20 {
        let reply = read(&stack, "/api/v1/items", &[("authorization", "Bearer slow")]).await;
        if reply.status == 429 {
            assert_eq!(reply.json()["type"], "/problems/too-many-requests");
            assert_eq!(reply.header("retry-after"), "1");
            limited += 1;
        }
        assert_eq!(place(&stack, "Bearer fast").await.status, 201);
    }
    assert!(limited > 0, "a burst of 20 is more than 2 a second");
    until("the key may come again", || async { place(&stack, "Bearer slow").await.status == 201 })
        .await;
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_key_guessed_at_speed_is_slowed_down_and_who_has_one_is_not() {
    let state = TempDir::new().unwrap();
    let keys = Keys::new(&[key("right", "write", 1000)]);
    let stack = keys.stack(&state, &[]).await;
    let guesses = async {
        let mut answers = Vec::new();
        for number in 0..400 {
            answers.push(place(&stack, &format!("Bearer guess-{number}")).await.status.as_u16());
        }
        answers
    };
    let work = async {
        for _ in 0..20 {
            assert_eq!(place(&stack, "Bearer right").await.status, 201);
        }
    };
    let (answers, ()) = tokio::join!(guesses, work);
    assert!(answers.iter().all(|status| matches!(status, 401 | 429)), "{answers:?}");
    assert!(answers.contains(&429), "400 guesses are more than 20 a second");
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn keys_are_rotated_without_a_restart_and_a_broken_file_changes_nothing() {
    let state = TempDir::new().unwrap();
    let keys = Keys::new(&[key("old", "write", 100)]);
    let mut stack = keys.stack(&state, &[]).await;
    let placed = async |key: &str| place(&stack, &format!("Bearer {key}")).await.status.as_u16();
    assert_eq!(placed("old").await, 201);
    keys.write(&json!([key("old", "write", 100), key("new", "write", 100)]).to_string());
    until("the new key is known", || async { placed("new").await == 201 }).await;
    assert_eq!(placed("old").await, 201, "both, for a while");
    keys.write(&json!([key("new", "write", 100)]).to_string());
    until("the old key is gone", || async { placed("old").await == 401 }).await;
    keys.write("[");
    until_logged(&mut stack, "a change is not used").await;
    assert_eq!(place(&stack, "Bearer new").await.status, 201);
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn the_dashboards_forms_need_a_session_and_come_from_its_own_page() {
    let state = TempDir::new().unwrap();
    let keys = Keys::new(&[key("writer", "write", 100), key("reader", "read", 100)]);
    let stack = keys.stack(&state, &[]).await;
    let demo = format!("key={}&sku=NUT-M8&quantity=1", Uuid::new_v4());
    let place = async |cookie: &str, site: &str| {
        form(&stack, "/demo/orders", cookie, site, &demo).await.status.as_u16()
    };
    assert_eq!(place("", "same-origin").await, 401);
    assert_eq!(place("stockyard_session=writer.9999999999.00", "same-origin").await, 401);

    for wrong in ["key=wrong", "key=reader"] {
        let refused = form(&stack, "/session", "", "same-origin", wrong).await;
        assert_eq!(refused.header("location"), "/?outcome=refused-key#orders", "{wrong}");
        assert_eq!(refused.header("set-cookie"), "");
    }
    let elsewhere = form(&stack, "/session", "", "cross-site", "key=writer").await;
    assert_eq!((elsewhere.status.as_u16(), elsewhere.header("set-cookie")), (403, ""));

    let signed_in = form(&stack, "/session", "", "same-origin", "key=writer").await;
    assert_eq!(signed_in.header("location"), "/?outcome=signed-in#orders");
    let set = signed_in.header("set-cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    assert!(
        !set.contains("Bearer") && !set.contains(&key("writer", "write", 1)["sha256"].to_string())
    );
    let cookie = set.split(';').next().unwrap();
    for site in ["cross-site", "same-site", "none"] {
        assert_eq!(place(cookie, site).await, 403, "{site}");
    }
    assert_eq!(place(cookie, "same-origin").await, 303);
    assert_eq!(get(&stack, "/api/v1/orders").await.json()["orders"].as_array().unwrap().len(), 1);

    // The API is for keys alone: what a browser sends by itself opens nothing there.
    let url = format!("{}/api/v1/orders", stack.url(Service::Gateway));
    let headers = [("idempotency-key", "k"), ("cookie", cookie), ("sec-fetch-site", "same-origin")];
    let refused = http::send(Method::POST, &url, &headers, order("NUT-M8", 1)).await.unwrap();
    assert_eq!(refused.status, 401);

    let signed_out = form(&stack, "/session/end", cookie, "same-origin", "").await;
    assert!(signed_out.header("set-cookie").starts_with("stockyard_session=; Max-Age=0"));
    keys.write(&json!([key("reader", "read", 100)]).to_string());
    until("with its key the session has ended", || async {
        place(cookie, "same-origin").await == 401
    })
    .await;
    stack.stop().await.unwrap();
}
