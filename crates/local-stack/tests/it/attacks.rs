//! Attacks on the running system, tried as by somebody who knows its address alone: what they change for others.

use std::{
    env,
    future::pending,
    net::{Ipv4Addr, SocketAddr},
    str,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::Method;
use local_stack::{Service, Stack, api_client::ApiClient, http, state::temporary_folder};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use uuid::Uuid;

use crate::{
    memory::{limit, most_during},
    support::{address_of, allow_files, connect_from, metric, order, start_with, until},
};

const GATEWAY: Service = Service::Gateway;
/// Requests of an attack a second, or attempts that bring none, each on a connection of its own from one of so many addresses.
const ATTEMPTS: u32 = 200;
const ADDRESSES: u8 = 100;
/// How long an attempt that stays, stays: a thousand are there at a time.
const STAYS: Duration = Duration::from_secs(5);
/// Requests of the client that others attack, a second.
const ASKED: u32 = 40;
/// How much later than beside as many requests of good manners the slowest hundredth of its answers may be: two runs of the
/// same beside each other differ by as much.
const NOISE: Duration = Duration::from_millis(25);

/// What somebody sends, and does then.
struct Attack {
    name: &'static str,
    sends: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    /// Reads what comes, and closes.
    Reads,
    /// Waits, and reads nothing.
    Stays,
    /// Sends one more byte from time to time.
    Drips,
    /// Says that it sends no more, and reads.
    Ends,
    /// Is gone at once.
    Resets,
}

fn one(name: &'static str, sends: String, then: Then) -> Attack {
    Attack { name, sends: sends.into_bytes(), then }
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n")
}

/// All attacks.
fn attacks() -> Vec<Attack> {
    [slow(), malformed(), well_formed()].into_iter().flatten().collect()
}

const FORM: &str = "sec-fetch-site: same-origin\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 900\r\n";

fn post(path: &str, more: &str) -> String {
    get(path, more).replacen("GET", "POST", 1)
}

/// Who takes long.
fn slow() -> Vec<Attack> {
    use Then::{Drips, Stays};
    let orders = |more: &str| post("/api/v1/orders", more);
    let expecting = post("/session", &format!("{FORM}expect: 100-continue\r\n"));
    vec![
        one("silence", String::new(), Stays),
        one("a request line that does not end", "GET / HT".into(), Drips),
        one("a head that does not end", "GET / HTTP/1.1\r\nhost: x\r\nx: ".into(), Drips),
        one("a form that does not end", post("/session", FORM), Drips),
        one("a form that is expected and never comes", expecting, Stays),
        one("a write that does not end", orders("content-length: 900\r\n"), Drips),
        one("the largest page, unread", get("/openapi.json", "").repeat(60), Stays),
        one("the dashboard, unread", get("/", "accept: text/html\r\n").repeat(60), Stays),
    ]
}

/// Who sends what is not allowed.
fn malformed() -> Vec<Attack> {
    use Then::{Reads, Stays};
    let orders = |more: &str| post("/api/v1/orders", more);
    let upload = orders("content-length: 2000000\r\n") + &"x".repeat(200_000);
    let chunks = orders("transfer-encoding: chunked\r\n") + &"1\r\nx\r\n".repeat(9000);
    let lengths = orders("content-length: 3\r\ncontent-length: 4\r\n") + "abcd";
    vec![
        one("an upload that is too large", upload, Reads),
        one("chunks without an end", chunks, Reads),
        one("two lengths", lengths, Reads),
        one("TLS", "\u{16}\u{3}\u{1}\u{2}".repeat(50), Reads),
        one("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Stays),
        one("a head that is too large", get("/", &format!("x: {}\r\n", "y".repeat(30_000))), Reads),
        one("too many fields", get("/", &"x: y\r\n".repeat(200)), Reads),
        one("no host", "GET / HTTP/1.1\r\n\r\n".into(), Reads),
    ]
}

/// Who asks as anybody could.
fn well_formed() -> Vec<Attack> {
    use Then::{Ends, Resets};
    let items = |more: &str| get("/api/v1/items", more);
    let sampled = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let long_key = format!("authorization: Bearer {}\r\n", "k".repeat(9000));
    let cookies =
        format!("accept: text/html\r\ncookie: {}\r\n", "stockyard_session=x;".repeat(200));
    vec![
        one("no time", items("x-request-timeout-ms: 1\r\n").repeat(5), Ends),
        one("a reset after the head", items(""), Resets),
        one("a reset after many heads", items("").repeat(20), Resets),
        one("a hundred requests at once", items("").repeat(100), Ends),
        one("traces to be sampled", items(sampled), Ends),
        one("a wrong key", items("authorization: Bearer 0123456789abcdef\r\n"), Ends),
        one("a long key", items(&long_key), Ends),
        one(
            "a page that there is not",
            get("/api/v1/items?page_token=AAAA&page_size=100", ""),
            Ends,
        ),
        one("an address that is forged", items("x-forwarded-for: 127.0.0.1\r\n"), Ends),
        one("cookies", get("/", &cookies), Ends),
    ]
}

impl Attack {
    /// How many requests an attempt brings, all of which are answered: so many fewer attempts are as many requests.
    fn requests(&self) -> u32 {
        if matches!(self.then, Then::Stays) {
            return 1;
        }
        let heads = str::from_utf8(&self.sends).unwrap().matches("HTTP/1.1\r\n").count();
        u32::try_from(heads).unwrap().max(1)
    }

    /// One attempt. That it fails is what is hoped for.
    async fn attempt(&self, to: SocketAddr, from: Ipv4Addr) {
        let Ok(mut stream) = connect_from(from, to).await else { return };
        let _refused = stream.write_all(&self.sends).await;
        match self.then {
            Then::Stays => return sleep(STAYS).await,
            Then::Drips => {
                let begin = Instant::now();
                while begin.elapsed() < STAYS && stream.write_all(b"x").await.is_ok() {
                    sleep(Duration::from_millis(200)).await;
                }
            }
            Then::Resets => {
                let _closed = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                return;
            }
            Then::Ends => {
                let _closed = stream.shutdown().await;
            }
            Then::Reads => {}
        }
        read(&mut stream).await;
    }
}

/// Reads for a while.
async fn read(stream: &mut TcpStream) {
    let mut room = [0; 4096];
    let reading = async { while stream.read(&mut room).await.is_ok_and(|count| count > 0) {} };
    let _closed = timeout(Duration::from_secs(1), reading).await;
}

/// Does something so many times a second, each time from another address, until it is dropped.
async fn from_many<F>(per_second: u32, attempt: impl Fn(Ipv4Addr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for last in (1..=ADDRESSES).cycle() {
        ticks.tick().await;
        attempts.spawn(attempt(Ipv4Addr::new(127, 0, 1, last)));
        while attempts.try_join_next().is_some() {}
    }
}

/// The client that others attack: it has a key, and asks for this and that. How long each answer took, sorted.
async fn ask(client: &ApiClient, lasts: Duration) -> Vec<Duration> {
    let (begin, mut requests) = (Instant::now(), JoinSet::new());
    let mut ticks = interval(Duration::from_secs(1) / ASKED);
    for number in 0.. {
        ticks.tick().await;
        if begin.elapsed() >= lasts {
            break;
        }
        let client = client.clone();
        requests.spawn(async move {
            let sent = Instant::now();
            let (answer, expected) = match number % 4 {
                0 => (client.place(&Uuid::now_v7().to_string(), order("NUT-M8", 1)).await, 201),
                1 => (client.get("/api/v1/items").await, 200),
                2 => (client.get("/health").await, 200),
                _ => (client.get("/api/v1/items/NUT-M8").await, 200),
            };
            let answer = answer.unwrap();
            assert_eq!(answer.status, expected, "{}", answer.text());
            sent.elapsed()
        });
    }
    let mut took = requests.join_all().await;
    took.sort_unstable();
    took
}

/// The ninety-ninth hundredth.
fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

/// The ninety-ninth hundredth of what the client waits beside an attack, and the most that each service holds, in kB.
async fn beside(
    (stack, processes): (&Stack, &[u32]),
    attack: Option<&Arc<Attack>>,
    lasts: Duration,
) -> (Duration, Vec<u64>) {
    let to = address_of(stack, GATEWAY);
    let attacking = async {
        let Some(attack) = attack else { return pending().await };
        let attempt = |from| {
            let attack = Arc::clone(attack);
            async move { attack.attempt(to, from).await }
        };
        from_many(ATTEMPTS / attack.requests(), attempt).await;
    };
    let (client, mut took) = (stack.api_client(), Vec::new());
    let asking = async {
        tokio::select! {
            all = ask(&client, lasts) => took = all,
            () = attacking => {}
        }
    };
    let most = most_during(processes, asking).await;
    (p99(&took), most)
}

/// What is wrong with a service once the attacks are over.
async fn wrong_after(stack: &Stack, service: Service) -> Vec<String> {
    until("nothing is at work", || async {
        metric(stack, service, "http_requests_in_flight ").await < 0.5
    })
    .await;
    let metrics = http::get(&format!("{}/metrics", stack.admin_url(service))).await.unwrap().text();
    let counts = "http_request_duration_seconds_count{";
    let failed =
        metrics.lines().filter(|line| line.starts_with(counts) && line.contains("status=\"5"));
    failed.map(|line| format!("{}: {line}", service.name())).collect()
}

/// Carries out every attack for so long. What it changed for others, in words.
#[expect(clippy::print_stdout, reason = "--nocapture shows what was measured")]
async fn attack(each: Duration) -> Vec<String> {
    allow_files(4096);
    let state = temporary_folder().unwrap();
    // As in production.
    let mut stack = start_with(&state, &[("FAIR_SHARES", "on"), ("READ_ACCESS", "key")]).await;
    let processes = Service::ALL.map(|one| stack.running(one).unwrap().child.id().unwrap());
    receive(&stack).await;
    let on = (&stack, processes.as_slice());
    let (alone, _) = beside(on, None, each).await;
    let good = format!("authorization: Bearer {}\r\nconnection: close\r\n", stack.api_key());
    let good = one("good requests", get("/api/v1/items", &good), Then::Reads);
    let (beside_good, _) = beside(on, Some(&Arc::new(good)), each).await;
    println!("p99 alone {alone:.1?}, beside as many good requests {beside_good:.1?}");
    let mut found = Vec::new();
    for attack in attacks() {
        let name = attack.name;
        let (p99, most) = beside(on, Some(&Arc::new(attack)), each).await;
        println!("p99 {p99:.1?}, {most:?} kB: {name}");
        if p99 > beside_good.max(alone) + NOISE {
            found.push(format!("{name}: p99 {p99:.1?}, beside good requests {beside_good:.1?}"));
        }
        for (service, most) in Service::ALL.into_iter().zip(most) {
            if most > limit(service) / 2 {
                found.push(format!("{name}: {} holds {most} kB", service.name()));
            }
        }
    }
    for service in Service::ALL {
        found.extend(wrong_after(&stack, service).await);
    }
    let now = Service::ALL.map(|one| stack.running(one).unwrap().child.id().unwrap());
    assert_eq!(now, processes, "a service was started again");
    stack.stop().await.unwrap();
    found
}

/// Enough for all orders.
async fn receive(stack: &Stack) {
    let headers = [("idempotency-key", "stock"), ("content-type", "application/json")];
    let (path, many) = ("/api/v1/items/NUT-M8/receipts", r#"{"quantity":1000000}"#);
    let received = stack.api_client().send(Method::POST, path, &headers, many).await.unwrap();
    assert!(received.status.is_success(), "{}", received.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_from_outside_change_no_answer_and_take_no_memory() {
    let mut found = attack(Duration::from_millis(500)).await;
    // So short and beside other tests it tells nothing of times.
    found.retain(|found| !found.contains("p99"));
    assert_eq!(found, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes an hour, and a machine that does nothing else: .ci/long attacks"]
async fn an_hour_of_attacks_costs_others_no_more_than_good_requests_do() {
    let seconds = env::var("ATTACK_SECONDS").map_or(3500, |seconds| seconds.parse().unwrap());
    let each = Duration::from_secs(seconds) / u32::try_from(attacks().len() + 2).unwrap();
    assert_eq!(attack(each).await, [""; 0]);
}
