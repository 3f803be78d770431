//! The cluster, by kubectl: its answers as text or JSON, waiting for what it does, ways in by port-forward and proxy.

use std::{
    env,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use hyper::StatusCode;
use local_stack::http;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::Result;

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(400);

/// Runs `kubectl ARGUMENTS`; gives what it printed. The arguments are one string of words.
pub async fn kubectl(arguments: &str) -> Result<String> {
    run(arguments, None).await
}

/// Runs `kubectl get ARGUMENTS -o json`.
pub async fn get(arguments: &str) -> Result<Value> {
    let text = kubectl(&format!("get {arguments} -o json")).await?;
    serde_json::from_str(&text).with_context(|| format!("kubectl get {arguments} gave no JSON"))
}

/// The API, by `kubectl proxy`: what tests look at again and again would else cost them a kubectl each time, which takes a
/// tenth of a second of CPU.
static PROXY: Mutex<Option<Forward>> = Mutex::const_new(None);

/// What the API has at a path.
pub async fn read(path: &str) -> Result<Value> {
    let url = {
        let mut proxy = PROXY.lock().await;
        if proxy.is_none() {
            *proxy = Some(Forward::start("proxy --port=0", "Starting to serve on ").await?);
        }
        proxy.as_ref().context("it was started above")?.url()
    };
    let reply = http::get(&format!("{url}{path}")).await?;
    ensure!(reply.status == StatusCode::OK, "{path}: {} {}", reply.status, reply.text());
    Ok(reply.json())
}

/// Ends the proxy, which would outlive this program.
pub async fn end_proxy() {
    PROXY.lock().await.take();
}

/// Applies one or more objects.
pub async fn apply(manifest: &str) -> Result<String> {
    run("apply -f -", Some(manifest)).await
}

/// Changes an object by a JSON patch (RFC 6902).
pub async fn patch(object: &str, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    let mut words: Vec<_> = "patch --type=json -p".split(' ').collect();
    words.push(&patch);
    words.extend(object.split(' '));
    output("kubectl", &words, None).await.map(drop)
}

async fn run(arguments: &str, input: Option<&str>) -> Result<String> {
    output("kubectl", &arguments.split_whitespace().collect::<Vec<_>>(), input).await
}

/// Runs a command that is one string of words; gives what it printed.
pub async fn command(words: &str) -> Result<String> {
    let words: Vec<_> = words.split_whitespace().collect();
    let (program, arguments) = words.split_first().context("no command")?;
    output(program, arguments, None).await
}

/// Runs `ctr ARGUMENTS` on the node, on what the kubelet has there; gives what it printed, and none where no node is
/// within reach. `E2E_NODE` is what runs a command on the node, such as `docker exec kind-control-plane`; beside a cluster
/// of tests/cluster it is not needed.
pub async fn ctr(arguments: &str) -> Result<Option<String>> {
    let node = env::var("E2E_NODE").unwrap_or_default();
    if node.is_empty() && env::var_os("CONTAINERD_ADDRESS").is_none() {
        return Ok(None);
    }
    command(&format!("{node} ctr --namespace k8s.io {arguments}")).await.map(Some)
}

async fn output(program: &str, words: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = Command::new(program)
        .args(words)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} does not start: is it on the PATH?"))?;
    if let Some(input) = input {
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).await?;
    }
    let done = child.wait_with_output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        done.status.success(),
        "{program} {} failed: {}{}",
        words.join(" "),
        text(&done.stderr),
        text(&done.stdout)
    );
    Ok(text(&done.stdout))
}

/// Looks again and again until there is what is waited for.
///
/// # Errors
/// After that time, with the last error if looking failed.
pub async fn until<T>(
    what: &str,
    within: Duration,
    look: impl AsyncFn() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = look().await;
        match seen {
            Ok(Some(found)) => return Ok(found),
            _ if start.elapsed() < within => sleep(PAUSE).await,
            Ok(None) => bail!("not within {within:?}: {what}"),
            Err(error) => return Err(error.context(format!("not within {within:?}: {what}"))),
        }
    }
}

/// A running `kubectl port-forward` or `kubectl proxy`; it ends when it is dropped.
#[derive(Debug)]
pub struct Forward {
    /// `127.0.0.1:PORT`, which leads into the pod, or to the API.
    pub address: String,
    _child: Child,
}

impl Forward {
    /// Opens a way to a pod: `open("svc/api-gateway 8080:80 -n staging")`.
    pub async fn open(arguments: &str) -> Result<Self> {
        // Forwarding from 127.0.0.1:8080 -> 8080
        Self::start(&format!("port-forward {arguments}"), "Forwarding from ").await
    }

    /// Starts kubectl; the address is the first word after a beginning of its first line.
    async fn start(arguments: &str, before: &str) -> Result<Self> {
        let mut child = Command::new("kubectl")
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = timeout(Duration::from_secs(10), lines.next_line())
            .await
            .with_context(|| format!("kubectl {arguments} says nothing"))??;
        let address = line
            .as_deref()
            .and_then(|line| line.strip_prefix(before))
            .and_then(|line| line.split(' ').next())
            .with_context(|| format!("kubectl {arguments} ended"))?
            .to_owned();
        // It writes a line for each connection, and would wait for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { address, _child: child })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
