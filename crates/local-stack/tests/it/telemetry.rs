//! Traces, metrics and logs: whole, documented, and without anybody's data.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hyper::Method;
use local_stack::{Service, Stack, http, http::Reply, state::temporary_folder};
use serde_json::json;

use crate::{
    collector::{Collector, Received, hex},
    support::{fault, get, order, place, start_with, until},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Places an order as part of the caller's trace.
async fn place_traced(stack: &Stack, key: &str, flags: &str, body: String) -> Reply {
    let traceparent = format!("00-{TRACE}-{CALLER}-{flags}");
    let headers = [("idempotency-key", key), ("traceparent", &traceparent)];
    stack.api_client().send(Method::POST, "/api/v1/orders", &headers, body).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_orders_trace_is_whole_from_the_caller_over_the_services_to_their_sql() {
    let collector = Collector::start();
    let state = temporary_folder().unwrap();
    let url = collector.url();
    let settings =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let mut stack = start_with(&state, &settings).await;
    assert_eq!(place_traced(&stack, "traced", "01", order("NUT-M8", 1)).await.status, 201);
    for service in Service::ALL {
        let child = &stack.running(service).unwrap().child;
        let logged = format!("\"trace_id\":\"{TRACE}\"");
        until("its log tells of the trace", || async { child.tail().contains(&logged) }).await;
    }
    stack.stop().await.unwrap(); // which sends what is still there
    let spans = collector.trace(TRACE);
    let by_id: BTreeMap<String, &Received> =
        spans.iter().map(|received| (hex(&received.span.span_id), received)).collect();
    let parent = |received: &Received| by_id.get(&hex(&received.span.parent_span_id)).copied();
    let named = |service: &str, name: &str| {
        let of = |received: &&Received| received.service == service && received.span.name == name;
        spans.iter().find(of).unwrap_or_else(|| panic!("no span {service} {name} in {spans:#?}"))
    };
    let gateway = named("api-gateway", "POST /api/v1/orders");
    assert_eq!(hex(&gateway.span.parent_span_id), CALLER);
    assert_eq!(gateway.attributes["http.route"], "/api/v1/orders");
    let orders = named("orders", "POST /v1/orders");
    assert_eq!(parent(orders).unwrap().span.name, "POST /api/v1/orders");
    for name in [
        "GET /v1/items/{sku}",
        "PUT /v1/reservations/{order_id}",
        "POST /v1/reservations/{order_id}/confirm",
    ] {
        assert_eq!(
            parent(named("inventory", name)).unwrap().span.name,
            "POST /v1/orders",
            "{name}"
        );
    }
    for (service, name, above) in [
        ("orders", "begin", "POST /v1/orders"),
        ("orders", "finish", "POST /v1/orders"),
        ("inventory", "reserve", "PUT /v1/reservations/{order_id}"),
        ("inventory", "confirm", "POST /v1/reservations/{order_id}/confirm"),
    ] {
        let sql = named(service, name);
        assert_eq!(parent(sql).unwrap().span.name, above);
        assert_eq!(sql.attributes["db.system.name"], "postgresql");
    }
    let without_parent = spans.iter().filter(|received| parent(received).is_none()).count();
    assert_eq!(without_parent, 1, "all hang together: {spans:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_does_not_sample_is_not_sent_and_the_ratio_rules_the_rest() {
    let collector = Collector::start();
    let state = temporary_folder().unwrap();
    let url = collector.url();
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("TRACE_RATIO", "1")];
    let stack = start_with(&state, &settings).await;
    assert_eq!(place_traced(&stack, "unsampled", "00", order("NUT-M8", 1)).await.status, 201);
    assert_eq!(place(&stack, "sampled", order("NUT-M8", 1)).await.status, 201);
    stack.stop().await.unwrap();
    assert!(collector.trace(TRACE).is_empty());
    assert!(collector.all().iter().any(|received| received.span.name == "POST /v1/orders"));
    let state = temporary_folder().unwrap();
    let none = Collector::start();
    let url = none.url();
    let stack =
        start_with(&state, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), ("TRACE_RATIO", "0")]).await;
    assert_eq!(place(&stack, "sampled", order("NUT-M8", 1)).await.status, 201);
    stack.stop().await.unwrap();
    assert!(none.all().is_empty());
}

/// Reads an item through the gateway as part of a trace that asks for sampling.
async fn read_traced(stack: &Stack, trace: &str, credential: Option<(&str, &str)>) -> u16 {
    let traceparent = format!("00-{trace}-{CALLER}-01");
    let mut headers = vec![("traceparent", &*traceparent)];
    headers.extend(credential);
    let url = format!("{}/api/v1/items/NUT-M8", stack.url(Service::Gateway));
    http::send(Method::GET, &url, &headers, "").await.unwrap().status.as_u16()
}

/// The cookie of a session.
async fn session(stack: &Stack) -> String {
    let url = format!("{}/session", stack.url(Service::Gateway));
    let headers =
        [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    let form = format!("key={}", stack.api_key());
    let reply = http::send(Method::POST, &url, &headers, form).await.unwrap();
    reply.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_caller_has_its_trace_sampled_and_a_stranger_has_not() {
    let collector = Collector::start();
    let state = temporary_folder().unwrap();
    let url = collector.url();
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("TRACE_RATIO", "0")];
    let mut stack = start_with(&state, &settings).await;
    let [of_nobody, of_a_wrong_key] = ["1", "2"].map(|digit| digit.repeat(32));
    assert_eq!(read_traced(&stack, &of_nobody, None).await, 200);
    assert_eq!(
        read_traced(&stack, &of_a_wrong_key, Some(("authorization", "Bearer wrong"))).await,
        401
    );
    let key = format!("Bearer {}", stack.api_key());
    assert_eq!(read_traced(&stack, TRACE, Some(("authorization", &key))).await, 200);
    let signed_in = "3".repeat(32);
    assert_eq!(
        read_traced(&stack, &signed_in, Some(("cookie", &session(&stack).await))).await,
        200
    );
    // Not sampled, the stranger's trace still goes on to the last service.
    let logged = format!("\"trace_id\":\"{of_nobody}\"");
    let inventory = &stack.running(Service::Inventory).unwrap().child;
    until("its log tells of the trace", || async { inventory.tail().contains(&logged) }).await;
    stack.stop().await.unwrap();
    let services: BTreeSet<_> =
        collector.all().into_iter().map(|received| received.service).collect();
    assert_eq!(services, BTreeSet::from(["api-gateway".to_owned(), "inventory".to_owned()]));
    let traces: BTreeSet<_> =
        collector.all().iter().map(|received| hex(&received.span.trace_id)).collect();
    assert_eq!(traces, BTreeSet::from([TRACE.to_owned(), signed_in]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_traces_that_ask_for_sampling_is_bounded() {
    let collector = Collector::start();
    let state = temporary_folder().unwrap();
    let url = collector.url();
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("TRACE_RATIO", "0")];
    let stack = start_with(&state, &settings).await;
    let key = format!("Bearer {}", stack.api_key());
    let traces: Vec<_> = (1..=200).map(|number| format!("{number:032x}")).collect();
    let start = Instant::now();
    let statuses = join_all(
        traces.iter().map(|trace| read_traced(&stack, trace, Some(("authorization", &key)))),
    )
    .await;
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(statuses, [200; 200]);
    stack.stop().await.unwrap();
    let sampled: BTreeSet<_> =
        collector.all().iter().map(|received| hex(&received.span.trace_id)).collect();
    let most = 11.0 + 10.0 * seconds; // ten at once, and ten for each second
    let count = u32::try_from(sampled.len()).unwrap();
    assert!(count >= 10 && f64::from(count) <= most, "{count} traces in {seconds:.1} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_costs_no_request_anything_and_the_drain_little() {
    // It takes connections and never answers: worse than one that is away.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", dead.local_addr().unwrap());
    let state = temporary_folder().unwrap();
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("TRACE_RATIO", "1"),
    ];
    let stack = start_with(&state, &settings).await;
    let mut slowest = Duration::ZERO;
    for number in 0..30 {
        let start = Instant::now();
        assert_eq!(place(&stack, &format!("key-{number}"), order("NUT-M8", 1)).await.status, 201);
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let start = Instant::now();
    stack.stop().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_one_is_there() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("FAULTS", "on")]).await;
    place(&stack, "key", order("NUT-M8", 1)).await;
    for service in Service::ALL {
        fault(&stack, service, json!({"route": "*", "error_ratio": 1})).await;
        let path = if service == Service::Inventory { "v1/items" } else { "v1/orders" };
        let prefix = if service == Service::Gateway { "api/" } else { "" };
        http::get(&format!("{}/{prefix}{path}", stack.url(service))).await.unwrap();
    }
    let documented: BTreeSet<String> = include_str!("../../../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [name, labels, place, ..] = cells[..] else { panic!("{row}") };
            let (name, labels) = (name.trim_end_matches('`'), labels.replace('`', ""));
            let services = match place {
                "all" => "api-gateway, orders, inventory",
                some => some,
            };
            let entry = |service| format!("{service} {name} {labels}");
            services.split(", ").map(entry).collect::<Vec<_>>()
        })
        .collect();
    let mut live = BTreeSet::new();
    until("the sums are there", || async {
        let url = format!("{}/metrics", stack.admin_url(Service::Inventory));
        http::get(&url).await.unwrap().text().contains("inventory_stock_units{")
    })
    .await;
    for service in Service::ALL {
        let text =
            http::get(&format!("{}/metrics", stack.admin_url(service))).await.unwrap().text();
        live.extend(series(&text).into_iter().map(|series| format!("{} {series}", service.name())));
    }
    assert_eq!(live, documented);
    stack.stop().await.unwrap();
}

/// The metrics of a scrape with their labels' names.
fn series(text: &str) -> BTreeSet<String> {
    let histograms: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"))
        .collect();
    let entry = |line: &str| {
        let (name, labels) = line.split_once([' ', '{'])?;
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let name = base.filter(|base| histograms.contains(base)).unwrap_or(name);
        let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels);
        let mut names: Vec<_> =
            labels.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        names.retain(|label| *label != "le");
        names.sort_unstable();
        Some(format!("{name} {}", names.join(", ")))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(entry).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_customers_data_and_no_api_key_is_in_logs_spans_or_labels() {
    let collector = Collector::start();
    let state = temporary_folder().unwrap();
    let url = collector.url();
    let settings =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("TRACE_RATIO", "1"), ("LOG", "debug")];
    let mut stack = start_with(&state, &settings).await;
    let body = |sku: &str, quantity| {
        json!({"customer": "Grace Hopper", "lines": [{"sku": sku, "quantity": quantity}]})
            .to_string()
    };
    for (number, (sku, quantity, status)) in
        [("NUT-M8", 1, 201), ("PADLOCK-40", 1000, 409), ("Hopper", 1, 422), ("NUT-M8", 0, 422)]
            .into_iter()
            .enumerate()
    {
        let reply = place(&stack, &format!("Hopper-key-{number}"), body(sku, quantity)).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
    }
    let malformed = place(&stack, "Hopper-key", r#"{"customer":"Grace Hopper","#.to_owned()).await;
    assert_eq!(malformed.status, 400);
    assert_eq!(get(&stack, "/api/v1/orders?page_token=Hopper").await.status, 400);
    assert_eq!(get(&stack, "/Hopper").await.status, 404);
    let api_key = stack.api_key().to_owned();
    let mut told = String::new();
    for service in Service::ALL {
        told.push_str(
            &http::get(&format!("{}/metrics", stack.admin_url(service))).await.unwrap().text(),
        );
        let child = &stack.running(service).unwrap().child;
        // Lines are written together, a moment later; the gateway's last one is of the path that it does not know.
        let last = if service == Service::Gateway { "\"unmatched\"" } else { "\"request\"" };
        until("the log tells of requests", || async { child.tail().contains(last) }).await;
        let log = child.tail();
        assert!(!log.contains("\"level\":\"ERROR\""), "bad input is no error of ours: {log}");
        told.push_str(&log);
    }
    stack.stop().await.unwrap();
    assert!(!collector.all().is_empty());
    told.push_str(&format!("{:?}", collector.all()));
    for word in ["Hopper", &api_key] {
        let at = told.find(word);
        let told = &told[at.unwrap_or(0).saturating_sub(300)..][..300.min(told.len())];
        assert_eq!(at, None, "{told}");
    }
}
