//! Whatever is sent: a 4xx as problem+json, nothing lost, nothing at error level.

use hyper::Method;
use local_stack::{Service, Stack, http, laws::Databases, state::temporary_folder};
use tokio::io::AsyncWriteExt;

use crate::support::{connect, item, read_to_end, start, start_with};

/// Bodies that are no order, and the status of each.
fn bodies() -> Vec<(Vec<u8>, u16)> {
    let line = |quantity: &str| {
        format!(r#"{{"customer":"a","lines":[{{"sku":"NUT-M8","quantity":{quantity}}}]}}"#)
            .into_bytes()
    };
    let deep = "[".repeat(20_000);
    let mut bodies: Vec<(Vec<u8>, u16)> = [
        "",
        "{",
        "null",
        "[]",
        "\"\"",
        "{}",
        "1",
        "{\"customer\":1,\"lines\":[]}",
        r#"{"customer":"a"}"#,
        r#"{"customer":"a","lines":{}}"#,
        r#"{"customer":"a","lines":[1]}"#,
        r#"{"customer":"a","lines":[],"total":0}"#,
        r#"{"customer":"a","customer":"b","lines":[]}"#,
        r#"{"customer":"a","lines":[]}x"#,
        &deep,
        "\u{feff}{}",
    ]
    .into_iter()
    .map(|text| (text.as_bytes().to_vec(), 400))
    .collect();
    bodies.push((b"{\"customer\":\"\xff\xfe\",\"lines\":[]}".to_vec(), 400));
    for (quantity, status) in [
        ("0", 422),
        ("-1", 422),
        ("1000001", 422),
        ("9223372036854775807", 422),
        ("9223372036854775808", 400),
        ("1e400", 400),
        ("1.5", 400),
        ("\"1\"", 400),
        ("null", 400),
        ("01", 400),
        ("NaN", 400),
    ] {
        bodies.push((line(quantity), status));
    }
    for (customer, status) in
        [("", 422), ("\\u0000", 422), ("\\ud800", 400), (&"x".repeat(201), 422)]
    {
        bodies.push((
            format!(r#"{{"customer":"{customer}","lines":[{{"sku":"NUT-M8","quantity":1}}]}}"#)
                .into_bytes(),
            status,
        ));
    }
    for sku in ["", "../NUT-M8", "NUT M8", "NUT-M8'; DROP TABLE orders;--", &"x".repeat(65)] {
        bodies.push((
            format!(r#"{{"customer":"a","lines":[{{"sku":"{sku}","quantity":1}}]}}"#).into_bytes(),
            422,
        ));
    }
    bodies
}

async fn hold_nothing_happened(mut stack: Stack) {
    let databases = Databases::connect(&stack).await.unwrap();
    let orders: i64 =
        databases.orders.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0);
    let keys: i64 = databases
        .orders
        .query_one("SELECT count(*) FROM idempotency_keys", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!((orders, keys), (0, 0));
    assert_eq!(databases.breaches().await.unwrap().0, Vec::<String>::new());
    assert_eq!(item(&stack, "NUT-M8").await["available"], 8000);
    for service in Service::ALL {
        let log = stack.running(service).unwrap().child.tail();
        assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_at_the_gateway_and_at_orders() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let urls = [
        format!("{}/api/v1/orders", stack.url(Service::Gateway)),
        format!("{}/v1/orders", stack.url(Service::Orders)),
    ];
    for (number, (body, status)) in bodies().into_iter().enumerate() {
        for url in &urls {
            let headers = [
                ("idempotency-key", format!("bad-{number}")),
                ("content-type", "application/json".to_owned()),
                ("authorization", format!("Bearer {}", stack.api_key())),
            ];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            let reply = http::send(Method::POST, url, &headers, body.clone()).await.unwrap();
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            assert_eq!(reply.status.as_u16(), status, "{shown}: {}", reply.text());
            assert_eq!(reply.header("content-type"), "application/problem+json", "{shown}");
            assert_eq!(reply.json()["status"], status, "{shown}");
            assert_eq!(reply.json()["trace_id"].as_str().unwrap().len(), 32, "{shown}");
        }
    }
    hold_nothing_happened(stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_paths_methods_queries_and_keys_are_refused() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let valid = r#"{"customer":"a","lines":[{"sku":"NUT-M8","quantity":1}]}"#;
    let long_key = "k".repeat(256);
    for (method, path, headers, status) in [
        ("GET", "/api/v1/orders/1", "", 404),
        ("GET", "/api/v1/orders/..%2f..%2fmetrics", "", 404),
        ("GET", "/api/v1/items/%00", "", 404),
        ("GET", "/api/v1//items", "", 404),
        ("GET", "/api/v1/items/NUT-M8/", "", 404),
        ("GET", "/api/v1/items?page_size=0", "", 400),
        ("GET", "/api/v1/items?page_size=1e3", "", 400),
        ("GET", "/api/v1/items?page_size=99999999999999999999", "", 400),
        ("GET", "/api/v1/items?page_token=%27%20OR%201=1", "", 400),
        ("GET", "/api/v1/items?sort=name", "", 400),
        ("GET", "/api/v1/orders?page_token=1666f6f", "", 400),
        ("DELETE", "/api/v1/orders", "", 405),
        ("PATCH", "/api/v1/items/NUT-M8", "", 405),
        ("TRACE", "/health", "", 405),
        ("BREW", "/api/v1/items", "", 405),
        ("POST", "/api/v1/orders", "", 400),
        ("POST", "/api/v1/orders", "idempotency-key:\r\n", 400),
        ("POST", "/api/v1/orders", "idempotency-key: a b\r\n", 400),
        ("POST", "/api/v1/orders", "idempotency-key: \u{e9}\r\n", 400),
        ("POST", "/api/v1/orders", "idempotency-key: a\r\nidempotency-key: b\r\n", 400),
        ("POST", "/api/v1/orders", &format!("idempotency-key: {long_key}\r\n"), 400),
        ("POST", "/api/v1/orders/00000000-0000-0000-0000-000000000000/cancel", "", 404),
    ] {
        let body = if method == "POST" { valid } else { "" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            stack.api_key(),
            body.len()
        );
        let answer = raw(&stack, request.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{method} {path} {headers}: {answer}"
        );
        assert!(
            answer.contains("content-type: application/problem+json"),
            "{method} {path}: {answer}"
        );
    }
    hold_nothing_happened(stack).await;
}

/// Requests that two servers could read as different ones, each with an order hidden behind.
fn smuggled(key: &str) -> Vec<(&'static str, String)> {
    let order = r#"{"customer":"a","lines":[{"sku":"NUT-M8","quantity":1}]}"#;
    let hidden = format!(
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\nidempotency-key: hidden\r\ncontent-length: {}\r\n\r\n{order}",
        order.len()
    );
    let host = format!("host: x\r\nauthorization: Bearer {key}"); // else each would be refused for that alone
    vec![
        (
            "two lengths",
            format!(
                "POST /api/v1/orders HTTP/1.1\r\n{host}\r\ncontent-length: 0\r\ncontent-length: {}\r\n\r\n{hidden}",
                hidden.len()
            ),
        ),
        (
            "a length and chunks",
            format!(
                "POST /api/v1/orders HTTP/1.1\r\n{host}\r\nidempotency-key: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n{hidden}",
                hidden.len() + 5
            ),
        ),
        (
            "chunks in disguise",
            format!(
                "POST /api/v1/orders HTTP/1.1\r\n{host}\r\ncontent-length: 4\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "a folded header",
            format!(
                "POST /api/v1/orders HTTP/1.1\r\n{host}\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "a bare newline",
            format!(
                "POST /api/v1/orders HTTP/1.1\nhost: x\nauthorization: Bearer {key}\ncontent-length: 0\n\r\n{hidden}"
            ),
        ),
        (
            "a negative length",
            format!("POST /api/v1/orders HTTP/1.1\r\n{host}\r\ncontent-length: -1\r\n\r\n{hidden}"),
        ),
        (
            "a length with a sign",
            format!("POST /api/v1/orders HTTP/1.1\r\n{host}\r\ncontent-length: +0\r\n\r\n{hidden}"),
        ),
        (
            "a space before the colon",
            format!("POST /api/v1/orders HTTP/1.1\r\n{host}\r\ncontent-length : 5\r\n\r\n{hidden}"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_shaped_for_smuggling_never_reach_a_service_as_two() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("HEADER_TIMEOUT", "2s"), ("IDLE_TIMEOUT", "2s")]).await;
    for (name, request) in smuggled(stack.api_key()) {
        let answer = raw(&stack, request.as_bytes()).await;
        for status in answer.split("HTTP/1.1 ").skip(1) {
            assert!(status.starts_with('4'), "{name}: {answer}");
        }
    }
    hold_nothing_happened(stack).await;
}

/// Sends bytes to the gateway, and all that comes back until it closes.
async fn raw(stack: &Stack, bytes: &[u8]) -> String {
    let mut stream = connect(stack, Service::Gateway).await;
    let _closed_early = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}
