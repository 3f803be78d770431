//! What a load pod runs: requests at a constant rate, whatever the answers do (an open loop), each of them once and
//! without a retry. Every one that has no 2xx within five seconds has failed; a shed one too.

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use lexopt::{Arg, ValueExt};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    net::{TcpStream, lookup_host},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use crate::Result;

/// What a load pod prints before it sends.
pub const BEGUN: &str = "the target takes connections";
/// The variable that holds the key that every request is sent with.
pub const API_KEY: &str = "API_KEY";
/// How long that may take.
const FOUND_WITHIN: Duration = Duration::from_secs(40);
/// What is read and ordered.
pub const SKU: &str = "BOLT-M8";
/// After this a request has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the load is.
#[derive(Debug, Clone)]
struct Settings {
    /// `HOST:PORT`.
    target: String,
    /// The text of the key that every request is sent with: production wants one for reads too.
    key: String,
    /// Is each request sent on a connection of its own?
    new_connections: bool,
    /// Requests per second, of all connections together.
    rate: f64,
    /// How many are open at a time, at most.
    connections: u32,
    /// Every so many requests one places an order; none for 0.
    orders_every: u64,
    /// The longest time.
    seconds: u64,
}

/// What became of the requests.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Report {
    /// How many were sent, or could not be.
    pub requests: u64,
    /// Orders placed: those of them that were answered 2xx.
    pub orders: u64,
    /// The failed ones by what failed.
    pub failed: BTreeMap<String, Failure>,
    /// 99 of 100 requests that did not fail were answered within these milliseconds.
    pub p99_ms: f64,
}

/// Failures of one kind.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// How many.
    pub count: u64,
    /// When the first was, in seconds since the load began.
    pub first: f64,
    /// When the last was.
    pub last: f64,
}

impl Report {
    /// How many requests failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().map(|failure| failure.count).sum()
    }
}

/// One request's end.
struct Outcome {
    is_order: bool,
    at: Duration,
    took: Duration,
    result: Result<()>,
}

/// Sends the load until its time is over or it is told to stop; prints the report as JSON.
pub fn run() -> Result<()> {
    let settings = settings(lexopt::Parser::from_env())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(load(settings))?;
    #[expect(clippy::print_stdout, reason = "the pod's log is how the report comes out")]
    {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// Tells the container's first process to stop and report.
pub fn stop() -> Result<()> {
    kill_process(Pid::INIT, Signal::TERM).context("cannot signal the first process")
}

fn settings(mut parser: lexopt::Parser) -> Result<Settings> {
    let mut settings = Settings {
        target: String::new(),
        key: env::var(API_KEY).unwrap_or_default(),
        new_connections: false,
        rate: 100.0,
        connections: 20,
        orders_every: 0,
        seconds: 60,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("target") => settings.target = parser.value()?.string()?,
            Arg::Long("new-connections") => settings.new_connections = true,
            Arg::Long("rate") => settings.rate = parser.value()?.parse()?,
            Arg::Long("connections") => settings.connections = parser.value()?.parse()?,
            Arg::Long("orders-every") => settings.orders_every = parser.value()?.parse()?,
            Arg::Long("seconds") => settings.seconds = parser.value()?.parse()?,
            Arg::Value(value) if value == "load" => {}
            other => return Err(other.unexpected().into()),
        }
    }
    ensure!(!settings.target.is_empty(), "--target HOST:PORT is missing");
    ensure!(!settings.key.is_empty(), "{API_KEY} is not set");
    ensure!(
        settings.rate > 0.0 && settings.connections > 0,
        "--rate and --connections are above 0"
    );
    Ok(settings)
}

async fn load(settings: Settings) -> Result<Report> {
    let address = found(&settings.target).await?;
    #[expect(clippy::print_stdout, reason = "the pod's log is what the tests wait for")]
    {
        println!("{BEGUN}");
    }
    let (stop, stopped) = watch::channel(false);
    let mut term = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        term.recv().await;
        stop.send_replace(true);
        std::future::pending::<()>().await; // the sender lives as long as this
    });
    let shared =
        Arc::new(Shared { address, start: Instant::now(), outcomes: Mutex::default(), settings });
    let mut workers = JoinSet::new();
    for number in 0..shared.settings.connections {
        workers.spawn(Arc::clone(&shared).work(number, stopped.clone()));
    }
    while workers.join_next().await.is_some() {}
    let outcomes = std::mem::take(&mut *shared.outcomes.lock().expect("no holder panics"));
    Ok(report(&outcomes))
}

/// The target's address, once it takes a connection: a new pod may be cut off until all policies know it. The name leads
/// to the Service's address, which stays.
async fn found(target: &str) -> Result<SocketAddr> {
    let start = Instant::now();
    loop {
        let attempt = async {
            let address = lookup_host(target).await?.next().context("it has no address")?;
            connect(address).await.map(|_| address)
        };
        match timeout(ANSWER_WITHIN, attempt).await {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(error)) if start.elapsed() > FOUND_WITHIN => {
                return Err(error.context(format!("{target} is not reached")));
            }
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// What all workers have.
struct Shared {
    address: SocketAddr,
    start: Instant,
    outcomes: Mutex<Vec<Outcome>>,
    settings: Settings,
}

impl Shared {
    /// Sends each request when it is due; a late one at once.
    async fn work(self: Arc<Self>, number: u32, mut stopped: watch::Receiver<bool>) {
        let mut connection = None;
        for turn in 0_u32.. {
            let sequence =
                f64::from(number) + f64::from(turn) * f64::from(self.settings.connections);
            let due = Duration::from_secs_f64(sequence / self.settings.rate);
            if due.as_secs() >= self.settings.seconds {
                return;
            }
            tokio::select! {
                () = sleep_until((self.start + due).into()) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let begin = Instant::now();
            let index = u64::from(turn) * u64::from(self.settings.connections) + u64::from(number);
            let result = timeout(ANSWER_WITHIN, self.send(&mut connection, index)).await;
            let result = result.unwrap_or_else(|_| Err(anyhow!("no answer in time")));
            if !matches!(result, Ok(false)) {
                connection = None;
            }
            let is_order = self.is_order(index);
            let (at, took) = (self.start.elapsed(), begin.elapsed());
            let outcome = Outcome { is_order, at, took, result: result.map(drop) };
            self.outcomes.lock().expect("no holder panics").push(outcome);
        }
    }

    /// Sends one request; was its connection told to close?
    async fn send(
        &self,
        connection: &mut Option<SendRequest<Full<Bytes>>>,
        index: u64,
    ) -> Result<bool> {
        // As any pool does: one that was closed meanwhile is not taken.
        let kept = match connection.take() {
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let age = if kept.is_some() { "kept" } else { "new" };
        let sender = match kept {
            Some(kept) => kept,
            None => connect(self.address).await?,
        };
        let sender = connection.insert(sender);
        let request = self.request(index)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| anyhow!("{age} connection: {error}"))?;
        let status = response.status();
        let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
        response
            .into_body()
            .collect()
            .await
            .map_err(|error| anyhow!("{age} connection: body: {error}"))?;
        ensure!(status.is_success(), "status {}", status.as_u16());
        Ok(closes || self.settings.new_connections)
    }

    fn is_order(&self, index: u64) -> bool {
        let every = self.settings.orders_every;
        every > 0 && index % every == 0
    }

    fn request(&self, index: u64) -> Result<Request<Full<Bytes>>> {
        let Settings { target, key: api_key, new_connections, .. } = &self.settings;
        let authorization = format!("Bearer {api_key}");
        let mut request =
            Request::builder().header(HOST, target).header(AUTHORIZATION, authorization);
        if *new_connections {
            request = request.header(CONNECTION, "close");
        }
        if !self.is_order(index) {
            return Ok(request.uri(format!("/api/v1/items/{SKU}")).body(Full::default())?);
        }
        // The pod's name is in no other run's keys.
        let pod = env::var("HOSTNAME").unwrap_or_default();
        let key = format!("load-{pod}-{index}");
        let body = json!({"customer": key, "lines": [{"sku": SKU, "quantity": 1}]}).to_string();
        let request = request.method("POST").uri("/api/v1/orders").header("idempotency-key", key);
        Ok(request.header(CONTENT_TYPE, "application/json").body(body.into())?)
    }
}

/// A connection that requests are sent on, one after the other.
pub async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| anyhow!("connecting: {}", error.kind()))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn report(outcomes: &[Outcome]) -> Report {
    let mut report = Report { requests: outcomes.len() as u64, ..Report::default() };
    let mut times = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match &outcome.result {
            Ok(()) => {
                report.orders += u64::from(outcome.is_order);
                times.push(outcome.took.as_secs_f64() * 1000.0);
            }
            Err(error) => {
                let at = outcome.at.as_secs_f64();
                let failure = report.failed.entry(format!("{error:#}")).or_insert(Failure {
                    count: 0,
                    first: at,
                    last: at,
                });
                failure.count += 1;
                failure.first = failure.first.min(at);
                failure.last = failure.last.max(at);
            }
        }
    }
    times.sort_by(f64::total_cmp);
    let rank = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
    report.p99_ms = times.get(rank).copied().unwrap_or_default();
    report
}
