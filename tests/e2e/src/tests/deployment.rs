//! What README's first commands give.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hyper::StatusCode;
use local_stack::http;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Test, test};
use crate::{
    Result,
    cluster::{ctr, kubectl, until},
    schedule::Resource::{self, Cpus, Disruptions, Failures, Production, Staging},
    system::{STAGING, place, unique},
};

/// Nobody may start a gateway meanwhile: the node would have the image again.
const ALONE: [Resource; 5] = [Staging, Production, Disruptions, Failures, Cpus];

/// More than any buffer on the way holds.
const UPLOAD_BYTES: usize = 2_000_000;

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(
            "staging_is_deployed_and_everything_becomes_ready",
            &[Staging],
            180,
            everything_becomes_ready,
        ),
        test("the_dashboard_is_shown_by_port_forward", &[Staging], 60, dashboard),
        test("a_refused_upload_leaves_the_port_forward_as_it_was", &[Staging], 60, refused_upload),
        test("an_order_is_placed_and_confirmed", &[Staging], 60, order),
        test("a_node_without_the_image_pulls_it_and_has_a_ready_pod_at_once", &ALONE, 180, pulled),
    ]
}

async fn everything_becomes_ready() -> Result<String> {
    let took = STAGING.deployed().await?;
    let pods = STAGING.pods("part-of=stockyard").await?;
    ensure!(pods.iter().all(|pod| pod.restarts() == 0), "a container was started again: {pods:?}");
    Ok(format!("{} pods ready after {:.1} s", pods.len(), took.as_secs_f64()))
}

async fn dashboard() -> Result<String> {
    STAGING.deployed().await?;
    // As README has it.
    let forward = STAGING.forward("svc/api-gateway 8080:80").await?;
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

/// A reset from the pod would end the forward for everybody who uses it.
async fn refused_upload() -> Result<String> {
    STAGING.deployed().await?;
    let gateway = STAGING.gateway().await?;
    for upload in 0..3 {
        let mut stream = TcpStream::connect(&gateway.address).await?;
        let head = format!(
            "POST /api/v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: {UPLOAD_BYTES}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&vec![b'x'; UPLOAD_BYTES]).await?;
        let mut answer = String::new();
        timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await??;
        ensure!(answer.starts_with("HTTP/1.1 401 "), "upload {upload} was answered {answer:?}");
        let page = http::get(&format!("{}/api/v1/items", gateway.url())).await?;
        ensure!(page.status == StatusCode::OK, "after upload {upload}: {}", page.status);
    }
    Ok(format!("three uploads of {UPLOAD_BYTES} bytes without a key were answered 401"))
}

async fn order() -> Result<String> {
    STAGING.deployed().await?;
    let gateway = STAGING.gateway().await?;
    let key = unique();
    let reply = place(&gateway.url(), &key, "BOLT-M8", 2).await?;
    ensure!(reply.status == StatusCode::CREATED, "{} {}", reply.status, reply.text());
    ensure!(reply.json()["status"] == "confirmed", "{}", reply.text());
    let again = place(&gateway.url(), &key, "BOLT-M8", 2).await?;
    ensure!(again.body == reply.body, "the same key was answered {}", again.text());
    Ok(format!("confirmed, and the same again for the same key: {}", reply.json()["id"]))
}

/// The gateway's image is taken from the node, and its pod started anew, five times. Probes come once a second, and one
/// that comes a moment too early costs a whole one: the bound is for a machine that is busy too.
async fn pulled() -> Result<String> {
    STAGING.deployed().await?;
    let mut times = Vec::new();
    let mut pulls = Vec::new();
    for _ in 0..5 {
        // Without replicas its autoscaler rests too.
        scale(0).await?;
        until("the gateway's pods are gone", Duration::from_secs(60), async || {
            Ok(STAGING.pods_of("api-gateway").await?.is_empty().then_some(()))
        })
        .await?;
        remove_image("api-gateway").await?;
        let start = Instant::now();
        scale(1).await?;
        let ready = "wait pod -l app.kubernetes.io/name=api-gateway,app.kubernetes.io/part-of=stockyard -n staging
            --for=condition=Ready --timeout=30s";
        until("the gateway's pod is ready", Duration::from_secs(40), async || {
            kubectl(ready).await.map(Some) // fails at once as long as there is no pod
        })
        .await?;
        times.push(start.elapsed());
        pulls.push(pull(STAGING.pod_of("api-gateway").await?.name()).await?);
    }
    times.sort();
    ensure!(times[0] <= Duration::from_secs(4), "it took {times:?}; the pulls: {pulls:?}");
    let seconds = |index: usize| times[index].as_secs_f64();
    Ok(format!(
        "pulled and ready after {:.2} s at best, {:.2} s in the median; {}",
        seconds(0),
        seconds(times.len() / 2),
        pulls.join("; ")
    ))
}

async fn scale(replicas: u32) -> Result<()> {
    STAGING.kubectl(&format!("scale deployment/api-gateway --replicas={replicas}")).await.map(drop)
}

/// Removes a service's image from the node by all its names, with what no other image has of it.
async fn remove_image(service: &str) -> Result<()> {
    let listed = ctr("images ls").await?;
    let listed =
        listed.context("the images are the node's: E2E_NODE says what runs a command there")?;
    // The name, the type, the digest.
    let images = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.nth(1)?))
    });
    let of_service = format!("/{service}:");
    let (_, digest) = images
        .clone()
        .find(|(name, _)| name.contains(&of_service))
        .with_context(|| format!("the node has no image of {service}:\n{listed}"))?;
    let names: Vec<_> =
        images.filter(|(_, other)| *other == digest).map(|(name, _)| name).collect();
    ctr(&format!("images rm --sync {}", names.join(" "))).await.map(drop)
}

/// What the kubelet says of a pod's pull: how long it took, and of how many bytes.
async fn pull(pod: &str) -> Result<String> {
    let events = STAGING
        .get(&format!("events --field-selector involvedObject.name={pod},reason=Pulled"))
        .await?;
    let message = events["items"][0]["message"].as_str().context("no image was pulled")?;
    ensure!(message.starts_with("Successfully pulled"), "{message}");
    Ok(message.to_owned())
}
