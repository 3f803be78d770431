//! A crowd before the dashboard: what it costs the gateway, and everybody else.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use local_stack::{Service, Stack, http, state::temporary_folder};
use tokio::time::{Instant as Tick, MissedTickBehavior, interval, interval_at};

use crate::{
    memory::limit,
    support::{connect, metric, order, place, start},
};

const GATEWAY: Service = Service::Gateway;
/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Viewers of the dashboard, each on a connection of its own.
#[derive(Clone, Copy)]
struct Crowd {
    viewers: u32,
    /// How long it takes until all have come, one after the other.
    come_within: Duration,
    /// Between two looks of one of them.
    every: Duration,
    lasts: Duration,
}

/// How long probes of `/health` at the admin listeners took, sorted.
struct Probes(Vec<Duration>);

impl Probes {
    fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

impl Crowd {
    /// Lets the crowd look, and probes every service meanwhile.
    #[expect(clippy::print_stdout, reason = "--nocapture shows what was measured")]
    async fn look(self, stack: &Stack) -> Probes {
        let comes = |number: u32| self.come_within * number / self.viewers;
        let crowd = join_all((0..self.viewers).map(|number| self.view(stack, comes(number))));
        let (views, mut probes) = tokio::join!(crowd, self.probe(stack));
        assert!(views.iter().all(|views| *views > 0));
        probes.sort_unstable();
        let memory = metric(stack, GATEWAY, "process_resident_memory_bytes").await / 1024.0;
        let half = f64::from(u32::try_from(limit(GATEWAY) / 2).unwrap());
        let probes = Probes(probes);
        // --nocapture shows it
        println!(
            "{} viewers: {} views in {:?}, {:.1} MiB, /health p99 {:.1?}, slowest {:.1?}",
            self.viewers,
            views.iter().sum::<usize>(),
            self.lasts,
            memory / 1024.0,
            probes.percentile(99),
            probes.percentile(100),
        );
        assert!(memory < half, "{memory} kB, half of the pod's are {half}");
        probes
    }

    /// Asks for the dashboard again and again on one connection; how often it came.
    async fn view(self, stack: &Stack, comes: Duration) -> usize {
        let stream = TokioIo::new(connect(stack, GATEWAY).await);
        let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let (begin, mut views) = (Instant::now(), 0);
        let mut ticks = interval_at(Tick::now() + comes, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while begin.elapsed() < self.lasts {
            ticks.tick().await;
            sender.ready().await.unwrap();
            let request = Request::get("/").header("host", "x").header("accept", "text/html");
            let answer = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let page = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(page.ends_with(b"</html>\n"));
            views += 1;
        }
        drop(sender);
        connection.await.unwrap().unwrap();
        views
    }

    async fn probe(self, stack: &Stack) -> Vec<Duration> {
        let (begin, mut probes) = (Instant::now(), Vec::new());
        let mut ticks = interval(PROBE_EVERY);
        while begin.elapsed() < self.lasts {
            ticks.tick().await;
            for service in Service::ALL {
                let sent = Instant::now();
                let health = http::get(&format!("{}/health", stack.admin_url(service))).await;
                assert_eq!(health.unwrap().status, 200);
                probes.push(sent.elapsed());
            }
        }
        probes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_before_the_dashboard_costs_one_snapshot_a_second_and_little_memory() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let lists = "http_request_duration_seconds_count{method=\"GET\",route=\"/v1/items\"";
    let before = metric(&stack, Service::Inventory, lists).await;
    let begin = Instant::now();
    // A closed loop would take both cores from the tests beside it.
    let (every, lasts) = (Duration::from_millis(200), Duration::from_secs(4));
    let probes =
        Crowd { viewers: 200, come_within: Duration::ZERO, every, lasts }.look(&stack).await;
    let looks = metric(&stack, Service::Inventory, lists).await - before;
    let seconds = begin.elapsed().as_secs_f64();
    assert!(looks <= seconds + 1.0, "{looks} snapshots in {seconds:.1} s");
    // A wide bound: the crowd and other tests share the cores with it.
    assert!(probes.percentile(100) < Duration::from_secs(1), "{:?}", probes.percentile(100));
    stack.stop().await.unwrap();
}

/// Places orders, eight at a time, until the work is done; how many a second.
async fn orders_beside<T>(stack: &Stack, work: impl Future<Output = T>) -> (f64, T) {
    let (begin, placed) = (Instant::now(), AtomicUsize::new(0));
    let orders = join_all((0..8).map(|_| async {
        loop {
            let key = uuid::Uuid::now_v7().to_string();
            let answer = place(stack, &key, order("NUT-M8", 1)).await;
            assert!(matches!(answer.status.as_u16(), 201 | 409), "{}", answer.text());
            placed.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let done = tokio::select! {
        done = work => done,
        _ = orders => unreachable!("it goes on for ever"),
    };
    let orders = f64::from(u32::try_from(placed.into_inner()).unwrap());
    (orders / begin.elapsed().as_secs_f64(), done)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and a machine that does nothing else: .ci/long viewers"]
async fn five_hundred_viewers_cost_others_little() {
    let state = temporary_folder().unwrap();
    let stack = start(&state).await;
    let lasts = Duration::from_secs(30);
    let bound = Duration::from_millis(50);
    let (alone, ()) = orders_beside(&stack, tokio::time::sleep(lasts)).await;
    // As often as live.js renews the page. All at once they would be more than may be at work.
    let every = Duration::from_secs(3);
    let crowd = Crowd { viewers: 500, come_within: every, every, lasts };
    let (beside, probes) = orders_beside(&stack, crowd.look(&stack)).await;
    println!("{alone:.0} orders/s alone, {beside:.0} beside the crowd");
    assert!(probes.percentile(99) < bound, "{:?}", probes.percentile(99));
    assert!(beside > alone * 0.8, "{beside} orders/s, {alone} without viewers");
    let (come_within, every) = (Duration::ZERO, Duration::from_nanos(1));
    let without_a_pause = Crowd { viewers: 50, come_within, every, lasts };
    let probes = without_a_pause.look(&stack).await;
    assert!(probes.percentile(99) < bound, "{:?}", probes.percentile(99));
    stack.stop().await.unwrap();
}
