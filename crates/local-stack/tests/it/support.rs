//! A stack of its own for each test.

use std::{
    env, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper::Method;
use local_stack::{
    Service, Settings, Stack,
    http::{self, Reply},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use uuid::Uuid;

/// The folder that a variable names.
pub(crate) fn folder_of(variable: &str) -> PathBuf {
    let value = env::var(variable);
    value
        .unwrap_or_else(|_| panic!("set {variable}: CONTRIBUTING.md says how the tests are run"))
        .into()
}

/// The settings of a stack on that state, on free ports.
pub(crate) fn settings(state: &Path) -> Settings {
    Settings::new(&folder_of("STOCKYARD_BIN_DIR"), &folder_of("STOCKYARD_POSTGRES_DIR"), state)
}

/// Starts everything on that state.
pub(crate) async fn start(state: &TempDir) -> Stack {
    start_with(state, &[]).await
}

/// Starts everything on that state, the services with further settings.
pub(crate) async fn start_with(state: &TempDir, environment: &[(&str, &str)]) -> Stack {
    let mut settings = settings(state.path());
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    settings.environment = environment.iter().map(owned).collect();
    Stack::start(settings).await.unwrap()
}

/// Lets this process, and those that it starts, have so many files open: many machines allow 1,024.
pub(crate) fn allow_files(files: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < files) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum });
        raised.unwrap_or_else(|_| panic!("{files} open files are needed: raise ulimit -n"));
    }
}

/// An order's body.
pub(crate) fn order(sku: &str, quantity: i64) -> String {
    json!({"customer": "ada", "lines": [{"sku": sku, "quantity": quantity}]}).to_string()
}

/// Places an order through the gateway.
pub(crate) async fn place(stack: &Stack, key: &str, body: String) -> Reply {
    stack.api_client().place(key, body).await.unwrap()
}

/// Cancels an order through the gateway, by the answer to its placing.
pub(crate) async fn cancel(stack: &Stack, placed: &Reply) -> Reply {
    stack.api_client().cancel(placed.header("location")).await.unwrap()
}

/// A form of the dashboard, sent by its own page.
pub(crate) async fn form(stack: &Stack, path: &str, cookie: &str, site: &str, body: &str) -> Reply {
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", site),
        ("cookie", cookie),
    ];
    let url = format!("{}{path}", stack.url(Service::Gateway));
    http::send(Method::POST, &url, &headers, body.to_owned()).await.unwrap()
}

/// An item through the gateway.
pub(crate) async fn item(stack: &Stack, sku: &str) -> Value {
    get(stack, &format!("/api/v1/items/{sku}")).await.json()
}

/// A GET through the gateway.
pub(crate) async fn get(stack: &Stack, path: &str) -> Reply {
    http::get(&format!("{}{path}", stack.url(Service::Gateway))).await.unwrap()
}

/// Holds stock for an order at inventory itself, for so many seconds.
pub(crate) async fn reserve(
    inventory: &str,
    order: Uuid,
    sku: &str,
    quantity: i64,
    seconds: u32,
) -> Reply {
    let lines = [json!({"sku": sku, "quantity": quantity})];
    let body = json!({"lines": lines, "ttl_seconds": seconds}).to_string();
    let url = format!("{inventory}/v1/reservations/{order}");
    http::send(Method::PUT, &url, &[("content-type", "application/json")], body).await.unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Sets a fault on a service's admin listener, for a minute.
pub(crate) async fn fault(stack: &Stack, service: Service, mut rule: Value) {
    rule["ttl_seconds"] = 60.into();
    let url = format!("{}/faults", stack.admin_url(service));
    let reply = http::send(Method::PUT, &url, &[], rule.to_string()).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Takes all faults away.
pub(crate) async fn no_faults(stack: &Stack, service: Service) {
    let url = format!("{}/faults", stack.admin_url(service));
    assert_eq!(http::send(Method::DELETE, &url, &[], "").await.unwrap().status, 200);
}

/// The sum of a metric's series whose line begins so; 0 when there is none.
pub(crate) async fn metric(stack: &Stack, service: Service, series: &str) -> f64 {
    let text = http::get(&format!("{}/metrics", stack.admin_url(service))).await.unwrap().text();
    let values = text.lines().filter(|line| line.starts_with(series));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Where a service listens.
pub(crate) fn address_of(stack: &Stack, service: Service) -> SocketAddr {
    stack.url(service).trim_start_matches("http://").parse().unwrap()
}

/// A connection to a service's public listener, for what no client would send.
pub(crate) async fn connect(stack: &Stack, service: Service) -> TcpStream {
    TcpStream::connect(address_of(stack, service)).await.unwrap()
}

/// The same from an address of this machine.
pub(crate) async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// All that comes until the peer closes, which it must do in time.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it too.
    let _ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes))
        .await
        .expect("the peer closes");
    String::from_utf8_lossy(&bytes).into_owned()
}
