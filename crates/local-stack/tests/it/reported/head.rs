//! R20: HEAD is answered as GET without the body, by every service (RFC 9110, 9.3.2), and passed on as HEAD.

use std::{collections::BTreeSet, fs};

use local_stack::{Service, Stack, http};

use super::{Listener, Row};
use crate::support::{get, metric};

pub(super) fn rows() -> Vec<Row> {
    use Service::{Gateway, Inventory, Orders};
    let mut rows = Vec::new();
    for (service, target, status) in [
        (Gateway, "/", 200),
        (Gateway, "/openapi.json", 200),
        (Gateway, "/api/v1/topology", 200),
        (Gateway, "/api/v1/orders", 200),
        (Gateway, "/api/v1/orders/{order}", 200),
        (Gateway, "/api/v1/orders/00000000-0000-0000-0000-000000000000", 404),
        (Gateway, "/api/v1/items?page_size=2", 200),
        (Gateway, "/api/v1/items/NUT-M8", 200),
        (Gateway, "/api/v1/items/NONE", 404),
        (Gateway, "/api/v1/items?page_size=x", 400),
        (Orders, "/v1/orders", 200),
        (Orders, "/v1/orders/{order}", 200),
        (Inventory, "/v1/items", 200),
        (Inventory, "/v1/items/NUT-M8", 200),
        (Inventory, "/v1/items/NONE", 404),
    ] {
        let row = Row::read("R20", "HEAD", target, &[], status).to(Listener::Public(service));
        let row = row.contains("\r\ncontent-length: ").lacks("content-length: 0\r\n");
        rows.push(row.lacks("transfer-encoding"));
    }
    for target in ["/health", "/ready", "/metrics", "/info"] {
        let row = Row::read("R20", "HEAD", target, &[], 200);
        rows.push(row.to(Listener::Admin(Orders)).contains("\r\ncontent-length: "));
    }
    for (service, method, target, allowed) in [
        (Gateway, "DELETE", "/api/v1/items/NUT-M8", "allow: GET, HEAD, PUT"),
        (Orders, "DELETE", "/v1/orders", "allow: GET, HEAD, POST"),
        (Orders, "PUT", "/v1/orders/{order}", "allow: GET, HEAD\r\n"),
        (Orders, "HEAD", "/v1/orders/{order}/cancel", "allow: POST\r\n"),
        (Inventory, "POST", "/v1/items", "allow: GET, HEAD\r\n"),
        (Inventory, "DELETE", "/v1/items/NUT-M8", "allow: GET, HEAD, PUT"),
    ] {
        let row = Row::read("R20", method, target, &[], 405);
        rows.push(row.to(Listener::Public(service)).contains(allowed));
    }
    rows
}

/// What is wrong with how the gateway passes HEAD on: each on a new connection, or as something else.
pub(super) async fn burnt_connections(stack: &Stack) -> Vec<String> {
    let mut wrong = Vec::new();
    let path = "/api/v1/items/NUT-M8";
    assert_eq!(get(stack, path).await.status, 200);
    let passed = "http_request_duration_seconds_count{method=\"HEAD\",route=\"/v1/items/{sku}\"";
    let port: u16 = stack.url(Service::Inventory).rsplit(':').next().unwrap().parse().unwrap();
    let (open, count) = (connections_to(port), metric(stack, Service::Inventory, passed).await);
    for _ in 0..20 {
        let url = format!("{}{path}", stack.url(Service::Gateway));
        assert_eq!(http::send(hyper::Method::HEAD, &url, &[], "").await.unwrap().status, 200);
    }
    let new = connections_to(port).difference(&open).count();
    if new > 0 {
        wrong.push(format!("R20: 20 HEADs cost {new} connections"));
    }
    let passed = metric(stack, Service::Inventory, passed).await - count;
    if passed < 20.0 {
        wrong.push(format!("R20: of 20 HEADs {passed} came as HEAD to inventory"));
    }
    wrong
}

/// The local ends of connections to a port of this machine, also of those that were closed a moment ago: the kernel
/// remembers them for a minute.
fn connections_to(port: u16) -> BTreeSet<String> {
    let remote = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let connections = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (from, to) = (fields.next()?, fields.next()?);
        to.ends_with(&remote).then(|| from.to_owned())
    });
    connections.collect()
}
