//! The keys that tokens are signed with: replaced, and not to be had, under load all the while.

use std::time::Duration;

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use local_stack::http;
use tokio::time::sleep;

use super::{
    Test,
    disruptions::{ready, restart, without_loss},
    test,
};
use crate::{
    Result,
    cluster::kubectl,
    plane::{self, plane},
    schedule::Resource,
    system::{DISRUPTIONS, SERVICES},
    token::{self, Parts},
};

/// How long the scheduler and the kubelet may take to look for the API server again: ever more seldom, up to a minute
/// apart, and one after the other.
const HEARD_AGAIN: Duration = Duration::from_secs(240);

/// The services that look at tokens.
const CALLED: [&str; 2] = ["orders", "inventory"];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(
            "signing_keys_are_rotated_under_load_with_no_failed_request",
            Resource::ALL,
            300,
            rotated,
        ),
        test(
            "known_keys_go_on_while_the_api_server_is_away",
            Resource::ALL,
            200 + HEARD_AGAIN.as_secs() + plane::away().as_secs(),
            without_api_server,
        ),
    ]
}

/// The pods of before keep their tokens of the old key; those that come get tokens of the new one, which the others do
/// not know yet. Service by service, so that each meets both.
async fn rotated() -> Result<String> {
    if !plane::is_given() {
        return Ok(plane::MISSING.to_owned());
    }
    ready().await?;
    let old = tokens().await?;
    let measured = without_loss(async || {
        plane("rotate-keys").await?;
        for service in ["orders", "api-gateway", "inventory"] {
            restart(service).await?;
        }
        Ok(())
    })
    .await?;
    let new = tokens().await?;
    let keys = token::published_keys().await?;
    for ((old, service), (new, _)) in old.iter().zip(&new) {
        let names = [Parts::of(old)?.key_id()?, Parts::of(new)?.key_id()?];
        ensure!(names[0] != names[1], "{service}'s tokens are signed with the same key");
        for (name, token) in names.iter().zip([old, new]) {
            ensure!(keys.iter().any(|key| key["kid"] == **name), "{name} is not published");
            let status = asked(service, token).await?;
            ensure!(status == StatusCode::OK, "{service}, a token of the key {name}: {status}");
        }
    }
    let algorithms: Vec<_> = keys.iter().filter_map(|key| key["alg"].as_str()).collect();
    Ok(format!("{measured}; keys published: {}", algorithms.join(", ")))
}

/// A token of the gateway for each service, with the service.
async fn tokens() -> Result<Vec<(String, &'static str)>> {
    let mut tokens = Vec::new();
    for service in CALLED {
        let audience = format!("stockyard-{service}");
        tokens.push((
            token::of(DISRUPTIONS.namespace, "gateway-sa", Some(&audience)).await?,
            service,
        ));
    }
    Ok(tokens)
}

/// What a service says to a token.
async fn asked(service: &str, token: &str) -> Result<StatusCode> {
    let forward = DISRUPTIONS.forward(&format!("svc/{service} :80")).await?;
    let path = if service == "orders" { "/v1/orders" } else { "/v1/items" };
    let headers = [("authorization", &*format!("Bearer {token}"))];
    let reply = http::send(Method::GET, &format!("{}{path}", forward.url()), &headers, "").await?;
    Ok(reply.status)
}

/// Nobody can ask the cluster anything meanwhile, these tests neither.
async fn without_api_server() -> Result<String> {
    if !plane::is_given() {
        return Ok(plane::MISSING.to_owned());
    }
    ready().await?;
    // Else a service would hardly look for keys in so short a time.
    for service in CALLED {
        DISRUPTIONS.kubectl(&format!("set env deployment/{service} IDENTITY_REFRESH=5s")).await?;
    }
    DISRUPTIONS.all_ready().await?;
    let before = restarts().await?;
    let away = plane::away();
    let measured = without_loss(async || {
        plane("stop").await?;
        let answer = kubectl("get --raw /readyz").await;
        sleep(away).await;
        plane("start").await?;
        let refusal = answer.err().context("the API server is not away")?;
        ensure!(format!("{refusal:#}").contains("refused"), "it is not away: {refusal:#}");
        Ok(())
    })
    .await?;
    let after = restarts().await?;
    ensure!(after == before, "pods, and how often they were started again: {before:?}, {after:?}");
    for service in CALLED {
        let log = DISRUPTIONS.kubectl(&format!("logs deployment/{service}")).await?;
        ensure!(log.contains("the known ones go on"), "{service} did not look for keys meanwhile");
    }
    // And it is heard again: a new pod becomes ready, which waits for the keys.
    DISRUPTIONS.kubectl("rollout restart deployment/orders").await?;
    DISRUPTIONS.rolled_out_within("orders", HEARD_AGAIN).await?;
    Ok(format!("the API server was away for {away:?}; {measured}"))
}

/// Every pod of the services, with how often it was started again.
async fn restarts() -> Result<Vec<(String, u64)>> {
    let mut restarts = Vec::new();
    for service in SERVICES {
        let pods = DISRUPTIONS.pods_of(service).await?;
        restarts.extend(pods.iter().map(|pod| (pod.name().to_owned(), pod.restarts())));
    }
    restarts.sort();
    Ok(restarts)
}
