use std::pin::pin;

use hyper::{Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::process::getpriority_process;
use tokio::net::TcpListener;

use super::*;

/// What requests pass at the server.
struct Gate {
    /// The permits to pass.
    permits: Semaphore,
    /// How many have come to it.
    come: AtomicUsize,
}

/// A gate that so many requests may be beyond at a time.
fn gate(permits: usize) -> Arc<Gate> {
    Arc::new(Gate { permits: Semaphore::new(permits), come: AtomicUsize::new(0) })
}

/// A server that answers a path `/STATUS` with that status to who has passed its gate.
async fn server(gate: Arc<Gate>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let gate = Arc::clone(&gate);
            let answer = move |request: Request<Incoming>| {
                let gate = Arc::clone(&gate);
                async move {
                    gate.come.fetch_add(1, Relaxed);
                    let _passed = gate.permits.acquire().await.unwrap();
                    let status: StatusCode = request.uri().path()[1..].parse().unwrap();
                    let response = Response::builder().status(status);
                    response.body(Full::new(Bytes::from_static(b"said")))
                }
            };
            tokio::spawn(
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)),
            );
        }
    });
    address
}

fn target(address: SocketAddr, paths: &'static [&'static str]) -> Target {
    let request = move |number: u64| {
        let path = paths[usize::try_from(number).unwrap() % paths.len()];
        Request::get(path).header("host", "test").body(Full::default()).unwrap()
    };
    Target { address, request: Arc::new(request), place: None }
}

/// More permits than there are requests.
const ALL: usize = 1000;

const SECOND: Duration = Duration::from_secs(1);

/// The nice value that requests of such an open loop are made with.
async fn nice(place: Option<(Cores, Place)>) -> i32 {
    let seen = Arc::new(Mutex::new(None));
    let target = target(server(gate(ALL)).await, &["/200"]);
    let request = {
        let (seen, request) = (Arc::clone(&seen), target.request);
        move |number| {
            *seen.lock().unwrap() = Some(getpriority_process(None).unwrap());
            request(number)
        }
    };
    let target = Target { request: Arc::new(request), place, ..target };
    open(&target, &Schedule::constant(10.0, SECOND / 10), 1, 1).await.unwrap();
    let seen = seen.lock().unwrap().take();
    seen.expect("a request was made")
}

#[tokio::test]
async fn an_open_loop_goes_before_others_only_where_nothing_is_bound_to_a_core() {
    let own = getpriority_process(None).unwrap();
    let may = thread::spawn(take_precedence).join().unwrap();
    let cores = Cores::read().unwrap();
    assert_eq!(nice(None).await, own);
    assert_eq!(nice(Some((cores.clone(), Place::Server))).await, own);
    let first = nice(Some((cores, Place::Anywhere))).await;
    assert_eq!(first, if may { PRECEDENCE } else { own });
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate() {
    let target = target(server(gate(ALL)).await, &["/200"]);
    let load = open(&target, &Schedule::constant(500.0, SECOND), 4, 64).await.unwrap();
    assert_eq!((load.count(Class::Admitted), load.unanswered), (500, 0), "{:?}", load.fault);
    let last = load.outcomes.iter().map(|outcome| outcome.due).max().unwrap();
    assert_eq!(last, Duration::from_millis(998));
}

#[tokio::test]
async fn a_stall_counts_for_all_that_was_due_meanwhile() {
    let gate = gate(0);
    let target = target(server(Arc::clone(&gate)).await, &["/200"]);
    let schedule = Schedule::constant(100.0, SECOND);
    // Two connections only: most requests cannot even be sent before the stall is over.
    let mut load = pin!(open(&target, &schedule, 2, 2));
    tokio::select! {
        _ = &mut load => unreachable!("nothing is answered yet"),
        () = sleep(2 * SECOND) => gate.permits.add_permits(ALL),
    }
    let load = load.await.unwrap();
    assert_eq!(load.count(Class::Admitted), 100);
    let latencies = load.latencies(Class::Admitted);
    assert!(latencies.percentile(1.0).unwrap() > SECOND * 8 / 10, "the last waited least");
    assert!(latencies.percentile(100.0).unwrap() > SECOND * 18 / 10, "the first waited longest");
}

#[tokio::test]
async fn connections_grow_when_all_are_busy() {
    let gate = gate(0);
    let target = target(server(Arc::clone(&gate)).await, &["/200"]);
    let schedule = Schedule::constant(100.0, SECOND);
    let mut load = pin!(open(&target, &schedule, 1, 1000));
    tokio::select! {
        _ = &mut load => unreachable!("nothing is answered yet"),
        () = sleep(2 * SECOND) => {}
    }
    assert_eq!(gate.come.load(Relaxed), 100, "none waits for a connection");
    gate.permits.add_permits(ALL);
    assert_eq!(load.await.unwrap().count(Class::Admitted), 100);
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let target = target(server(gate(ALL)).await, &["/200", "/201", "/503", "/404"]);
    let load = open(&target, &Schedule::constant(400.0, SECOND), 4, 64).await.unwrap();
    let counts = [Class::Admitted, Class::Shed, Class::Other, Class::Failed];
    assert_eq!(counts.map(|class| load.count(class)), [200, 100, 100, 0]);
    assert_eq!(load.fault.unwrap(), "status 404: said");
}

#[tokio::test]
async fn a_refused_connection_is_a_failure_and_no_hang() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let target = target(gone, &["/200"]);
    let load = open(&target, &Schedule::constant(100.0, SECOND), 2, 2).await.unwrap();
    assert_eq!((load.count(Class::Failed), load.unanswered), (100, 0));
    let message = load.fault.unwrap();
    assert!(message.starts_with("cannot connect: "), "{message}");
    let load = closed(&target, 2, SECOND / 10).await.unwrap();
    assert!(load.count(Class::Failed) > 0);
}

#[tokio::test]
async fn a_closed_loop_keeps_its_connections_busy_for_the_time() {
    let target = target(server(gate(ALL)).await, &["/200"]);
    let load = closed(&target, 3, SECOND / 2).await.unwrap();
    assert!(load.rate() > 100.0, "{}", load.rate());
    assert_eq!(load.count(Class::Admitted), load.outcomes.len() as u64);
    let longest = load.outcomes.iter().map(|outcome| outcome.due).max().unwrap();
    assert!(longest <= SECOND / 2);
    assert_eq!(load.unanswered, 0);
}
