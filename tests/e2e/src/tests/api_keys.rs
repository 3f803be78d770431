//! The gateway's API keys: who writes needs one, and nobody finds one by guessing.

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER},
};
use local_stack::{
    ApiClient,
    http::{self, Reply},
};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::{Test, test};
use crate::{
    Result,
    cluster::Forward,
    generator::{SKU, connect},
    schedule::Resource::Failures,
    system::{FAILURES, is_confirmed, place, unique},
};

/// Connections that guess, and how often each does.
const GUESSERS: u64 = 8;
const GUESSES: u64 = 400;
/// Wrong keys that are looked at in a second; further ones are answered 429.
const LOOKED_AT: u64 = 20;

pub(super) fn tests() -> Vec<Test> {
    vec![test("the_gateway_wants_a_key_for_writes", &[Failures], 240, for_writes)]
}

async fn for_writes() -> Result<String> {
    FAILURES.deployed().await?;
    FAILURES.back_to_one().await?;
    let gateway = FAILURES.gateway().await?;
    let before = writes().await?;
    let url = format!("{}/api/v1/orders", gateway.url());
    let headers = [("idempotency-key", "e2e"), ("content-type", "application/json")];
    is_refused("no key", &http::send(Method::POST, &url, &headers, order("e2e")).await?)?;
    let wrong = ApiClient::new(gateway.url(), &"0".repeat(64));
    is_refused("a wrong key", &wrong.place("e2e", order("e2e")).await?)?;

    let start = Instant::now();
    let (answers, placed) = guessed(&gateway).await?;
    let took = start.elapsed();
    let count = |status: StatusCode| answers.get(&status.as_u16()).copied().unwrap_or_default();
    let (looked_at, limited) =
        (count(StatusCode::UNAUTHORIZED), count(StatusCode::TOO_MANY_REQUESTS));
    ensure!(looked_at + limited == GUESSERS * GUESSES, "wrong keys were answered {answers:?}");
    ensure!(limited > 0, "none of {looked_at} wrong keys in {took:?} was answered 429");
    ensure!(
        looked_at <= LOOKED_AT * (took.as_secs() + 3), // a second's worth at once, and a part of one at each end
        "{looked_at} wrong keys were looked at in {took:?}"
    );
    let seen = writes().await? - before;
    ensure!(seen == placed, "{placed} orders were placed, and orders was asked for {seen}");
    Ok(format!(
        "wrong keys: {looked_at} answered 401 and {limited} answered 429 in {:.1} s; {placed} orders with the right one meanwhile, and orders saw no other",
        took.as_secs_f64()
    ))
}

/// Keys are guessed as fast as they are answered, while orders are placed with the right one. Gives how often guesses
/// were answered with which status, and how many orders were placed.
async fn guessed(gateway: &Forward) -> Result<(BTreeMap<u16, u64>, u64)> {
    let mut guessers = JoinSet::new();
    for number in 0..GUESSERS {
        guessers.spawn(guess(gateway.address.clone(), number));
    }
    let mut guessing = pin!(guessers.join_all());
    let mut placed = 0;
    let guesses = loop {
        tokio::select! {
            guesses = &mut guessing => break guesses,
            () = sleep(Duration::from_millis(200)) => {
                let reply = place(&gateway.url(), &unique(), SKU, 1).await?;
                ensure!(is_confirmed(&reply), "the right key: {} {}", reply.status, reply.text());
                placed += 1;
            }
        }
    };
    ensure!(placed > 0, "the guesses were over before an order was placed");
    let mut answers = BTreeMap::new();
    for statuses in guesses {
        for status in statuses? {
            *answers.entry(status).or_default() += 1;
        }
    }
    Ok((answers, placed))
}

/// Guesses on a connection of its own; gives the answers' statuses.
async fn guess(address: String, number: u64) -> Result<Vec<u16>> {
    let mut connection = connect(address.parse()?).await?;
    let mut statuses = Vec::new();
    for turn in 0..GUESSES {
        let name = format!("guess-{number}-{turn}");
        let request = Request::post("/api/v1/orders")
            .header(HOST, &address)
            .header(AUTHORIZATION, format!("Bearer {:064x}", GUESSES * number + turn))
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", &name)
            .body(Full::new(Bytes::from(order(&name))))?;
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        let is_limited = status == StatusCode::TOO_MANY_REQUESTS;
        ensure!(!is_limited || response.headers().contains_key(RETRY_AFTER), "429 says not when");
        response.into_body().collect().await?;
        statuses.push(status.as_u16());
    }
    Ok(statuses)
}

fn order(customer: &str) -> String {
    json!({"customer": customer, "lines": [{"sku": SKU, "quantity": 1}]}).to_string()
}

fn is_refused(what: &str, reply: &Reply) -> Result<()> {
    let is_it = reply.status == StatusCode::UNAUTHORIZED
        && reply.json()["type"] == "/problems/unauthenticated"
        && reply.header("www-authenticate").starts_with("Bearer");
    ensure!(is_it, "{what}: {} {}", reply.status, reply.text());
    Ok(())
}

/// How many POST requests orders has answered.
async fn writes() -> Result<u64> {
    let pod = FAILURES.pod_of("orders").await?;
    let forward = FAILURES.forward(&format!("pod/{} :9090", pod.name())).await?;
    let metrics = http::get(&format!("{}/metrics", forward.url())).await?.text();
    let counts = metrics.lines().filter(|line| {
        line.starts_with("http_request_duration_seconds_count{") && line.contains("method=\"POST\"")
    });
    let mut sum = 0;
    for count in counts {
        let value = count.rsplit(' ').next().context("a line has a value")?;
        sum += value.parse::<u64>()?;
    }
    Ok(sum)
}
