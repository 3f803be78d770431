//! Memory under many connections: no public route may take more than half of what its pod may have.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use local_stack::{Service, Stack, measure::Memory, state::temporary_folder};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout, timeout_at},
};
use uuid::Uuid;

use crate::support::{allow_files, connect, get, order, place, start};

const GATEWAY: Service = Service::Gateway;
/// Connections that read what they are sent, as many as there may be requests at work, and some that read nothing.
const READERS: usize = 256;
const NEVER_READERS: usize = 64;
/// How long each operation is asked for.
const ASKED: Duration = Duration::from_millis(600);
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(20);

/// What is asked for: an operation of `openapi.json`, which has all that is public.
struct Operation {
    method: Method,
    path: String,
    content: (&'static str, String),
    key: String,
}

/// All of them, with parameters that there are.
async fn operations(stack: &Stack) -> Vec<Operation> {
    let placed = place(stack, "memory", order("NUT-M8", 1)).await.json();
    let id = placed["id"].as_str().unwrap();
    let paths = get(stack, "/openapi.json").await.json()["paths"].clone();
    let mut operations = Vec::new();
    for (path, item) in paths.as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|name| *name != "parameters") {
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                content: content(path, stack.api_key()),
                path: path.replace("{sku}", "NUT-M8").replace("{id}", id),
                key: stack.api_key().to_owned(),
            });
        }
    }
    operations
}

/// What a write to this path takes.
fn content(path: &str, key: &str) -> (&'static str, String) {
    let json = |value: Value| ("application/json", value.to_string());
    match path {
        "/api/v1/orders" => ("application/json", order("NUT-M8", 1)),
        "/api/v1/items/{sku}/receipts" => json(json!({"quantity": 1})),
        "/api/v1/items/{sku}" => json(json!({"name": "Nut", "price_cents": 1, "currency": "EUR"})),
        "/session" => ("application/x-www-form-urlencoded", format!("key={key}")),
        _ => ("application/x-www-form-urlencoded", "sku=NUT-M8&quantity=1".to_owned()),
    }
}

impl Operation {
    fn request(&self) -> Request<Full<Bytes>> {
        let request = Request::builder()
            .method(&self.method)
            .uri(&self.path)
            .header(HOST, "x")
            .header("accept", "text/html, application/json")
            .header("authorization", format!("Bearer {}", self.key))
            .header("idempotency-key", Uuid::now_v7().to_string())
            .header("sec-fetch-site", "same-origin")
            .header("content-type", self.content.0);
        let content = if self.method == Method::GET { "" } else { &self.content.1 };
        request.body(Full::new(content.to_owned().into())).unwrap()
    }

    /// Asks again and again on one connection; how many answers came that were no refusal for want of room.
    async fn ask(&self, stack: &Stack, end: Instant) -> usize {
        let stream = TokioIo::new(connect(stack, GATEWAY).await);
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut answered = 0;
        while Instant::now() < end {
            let Ok(answer) = sender.send_request(self.request()).await else { break };
            let status = answer.status().as_u16();
            let _whole = answer.into_body().collect().await.unwrap();
            assert!(!matches!(status, 404 | 405 | 500), "{} {}: {status}", self.method, self.path);
            answered += usize::from(status != 503);
        }
        connection.abort();
        answered
    }

    /// Asks again and again on one connection, and never reads.
    async fn ask_only(&self, stack: &Stack, end: Instant) {
        let mut stream = connect(stack, GATEWAY).await;
        let head = format!("{} {} HTTP/1.1\r\nhost: x\r\n\r\n", self.method, self.path).repeat(50);
        let asking = async { while stream.write_all(head.as_bytes()).await.is_ok() {} };
        let _until_the_end = timeout_at(end.into(), asking).await;
    }
}

/// The memory that a service's pod may have, in kB.
pub(crate) fn limit(service: Service) -> u64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kustomize/base");
    let manifest = fs::read_to_string(folder.join(service.name()).join("deployment.yaml")).unwrap();
    let limits = manifest.lines().find(|line| line.trim_start().starts_with("limits:")).unwrap();
    let memory = limits.split("memory: ").nth(1).unwrap().split("Mi").next().unwrap();
    memory.parse::<u64>().unwrap() * 1024
}

/// The most that each service holds until the work is done, in kB.
pub(crate) async fn most_during(processes: &[u32], work: impl Future) -> Vec<u64> {
    let mut most = vec![0; processes.len()];
    let look = async {
        loop {
            for (most, process) in most.iter_mut().zip(processes) {
                *most = Memory::of(*process).unwrap().resident.max(*most);
            }
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = look => {}
        _ = work => {}
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn no_public_route_takes_half_of_its_pods_memory() {
    allow_files(2048);
    let state = temporary_folder().unwrap();
    let mut stack = start(&state).await;
    let processes = Service::ALL.map(|one| stack.running(one).unwrap().child.id().unwrap());
    for operation in operations(&stack).await {
        let end = Instant::now() + ASKED;
        let mut answered = 0;
        let work = async {
            let readers = join_all((0..READERS).map(|_| operation.ask(&stack, end)));
            let others = join_all((0..NEVER_READERS).map(|_| operation.ask_only(&stack, end)));
            answered = tokio::join!(readers, others).0.iter().sum();
        };
        let most = most_during(&processes, timeout(Duration::from_secs(60), work)).await;
        let name = format!("{} {}", operation.method, operation.path);
        println!("{name}: {answered} answers, {most:?} kB"); // --nocapture shows it
        assert!(answered > 0, "{name}");
        for (service, most) in Service::ALL.into_iter().zip(most) {
            assert!(most < limit(service) / 2, "{name}: {} holds {most} kB", service.name());
        }
    }
    assert_eq!(get(&stack, "/api/v1/items/NUT-M8").await.status, 200);
    stack.stop().await.unwrap();
}
