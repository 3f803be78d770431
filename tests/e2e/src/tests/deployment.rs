//! What README's first commands give.

use std::time::Duration;

use anyhow::ensure;
use hyper::StatusCode;
use local_stack::http;

use super::{Test, test};
use crate::{
    Result,
    cluster::{PortForward, until},
    system::{self, place, unique},
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("staging_is_deployed_and_everything_becomes_ready", 180, everything_becomes_ready),
        test("the_dashboard_is_shown_by_port_forward", 60, dashboard),
        test("an_order_is_placed_and_confirmed", 60, order),
    ]
}

async fn everything_becomes_ready() -> Result<String> {
    let took = system::deployed().await?;
    let pods = system::pods("part-of=stockyard").await?;
    ensure!(pods.iter().all(|pod| pod.restarts() == 0), "a container was started again: {pods:?}");
    Ok(format!("{} pods ready after {:.1} s", pods.len(), took.as_secs_f64()))
}

async fn dashboard() -> Result<String> {
    system::deployed().await?;
    // As README has it.
    let forward = PortForward::open("svc/api-gateway 8080:80 -n staging").await?;
    ensure!(forward.address == "127.0.0.1:8080", "it listens on {}", forward.address);
    until("the dashboard shows every part up", Duration::from_secs(40), async || {
        let page = http::get("http://127.0.0.1:8080/").await?;
        let topology = http::get("http://127.0.0.1:8080/api/v1/topology").await?.text();
        let is_whole = page.status == StatusCode::OK && page.text().contains("Gateway Dashboard");
        Ok((is_whole && !topology.contains("\"down\"")).then_some(()))
    })
    .await?;
    Ok("the page, and every part up".to_owned())
}

async fn order() -> Result<String> {
    system::deployed().await?;
    let gateway = system::gateway().await?;
    let key = unique();
    let reply = place(&gateway.url(), &key, "BOLT-M8", 2).await?;
    ensure!(reply.status == StatusCode::CREATED, "{} {}", reply.status, reply.text());
    ensure!(reply.json()["status"] == "confirmed", "{}", reply.text());
    let again = place(&gateway.url(), &key, "BOLT-M8", 2).await?;
    ensure!(again.body == reply.body, "the same key was answered {}", again.text());
    Ok(format!("confirmed, and the same again for the same key: {}", reply.json()["id"]))
}
