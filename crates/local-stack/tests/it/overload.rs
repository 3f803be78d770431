//! More asked for than there is: five times the capacity offered, and forms that do not end.

use std::time::{Duration, Instant};

use local_stack::{Service, Stack, http, state::temporary_folder};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use crate::support::{connect, fault, get, metric, read_to_end, start_with, until};

/// Requests at work at a time, and how long each takes: together the capacity.
const IN_FLIGHT: u32 = 8;
const SERVICE_MILLIS: u32 = 40;
/// How much is offered, and for how long.
const TIMES: u32 = 5;
const OFFERED_SECONDS: u32 = 4;

/// A status and how long it took.
type Timed = (u16, Duration);

/// Offers so many requests a second, whatever comes back, and probes beside them.
async fn offer(stack: &Stack, per_second: u32) -> (Vec<Timed>, Vec<Timed>) {
    let timed = |url: String| async move {
        let sent = Instant::now();
        let status = http::get(&url).await.unwrap().status.as_u16();
        (status, sent.elapsed())
    };
    let url = format!("{}/api/v1/items/NUT-M8", stack.url(Service::Gateway));
    let (mut requests, mut probes) = (JoinSet::new(), JoinSet::new());
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    for number in 0..per_second * OFFERED_SECONDS {
        ticks.tick().await;
        requests.spawn(timed(url.clone()));
        if number % 50 == 0 {
            probes.spawn(timed(format!("{}/health", stack.admin_url(Service::Gateway))));
            probes.spawn(timed(format!("{}/ready", stack.admin_url(Service::Inventory))));
        }
    }
    (requests.join_all().await, probes.join_all().await)
}

/// The durations of those with that status, sorted; there must be some.
fn of_status(timed: &[Timed], status: u16) -> Vec<Duration> {
    let of_status = timed.iter().filter(|(of, _)| *of == status);
    let mut durations: Vec<_> = of_status.map(|(_, duration)| *duration).collect();
    assert!(!durations.is_empty(), "none was answered {status}");
    durations.sort();
    durations
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

#[tokio::test(flavor = "multi_thread")]
async fn five_times_the_capacity_leaves_probes_answering_and_the_admitted_bounded() {
    let state = temporary_folder().unwrap();
    let limit = IN_FLIGHT.to_string();
    let stack = start_with(&state, &[("MAX_IN_FLIGHT", &limit), ("FAULTS", "on")]).await;
    fault(&stack, Service::Inventory, json!({"route": "*", "latency_ms": SERVICE_MILLIS})).await;
    let capacity = IN_FLIGHT * 1000 / SERVICE_MILLIS;
    let (requests, probes) = offer(&stack, capacity * TIMES).await;
    let (admitted, shed) = (of_status(&requests, 200), of_status(&requests, 503));
    let probed = of_status(&probes, 200);
    assert_eq!(admitted.len() + shed.len(), requests.len());
    assert_eq!(probed.len(), probes.len());
    // For CHANGELOG: --nocapture shows it.
    println!(
        "capacity {capacity}/s, {} offered in {OFFERED_SECONDS} s: {} admitted (p50 {:.1?}, p99 {:.1?}), {} shed (p50 {:.1?}, p99 {:.1?}), {} probes, the slowest {:.1?}",
        requests.len(),
        admitted.len(),
        percentile(&admitted, 50),
        percentile(&admitted, 99),
        shed.len(),
        percentile(&shed, 50),
        percentile(&shed, 99),
        probed.len(),
        percentile(&probed, 100),
    );
    // Wide bounds: the test's own load and other tests share the cores.
    let full = usize::try_from(capacity * OFFERED_SECONDS).unwrap();
    assert!(admitted.len() > full / 2, "only {} of {full} were admitted", admitted.len());
    assert!(percentile(&admitted, 99) < Duration::from_secs(1));
    assert!(percentile(&shed, 50) < Duration::from_millis(SERVICE_MILLIS.into()));
    assert!(percentile(&probed, 100) < Duration::from_secs(2));
    // And at once as before.
    assert_eq!(get(&stack, "/api/v1/items/NUT-M8").await.status, 200);
    stack.stop().await.unwrap();
}

/// Sends the head of a sign-in form with so many bytes of content, and no content yet.
async fn begin_sign_in(stack: &Stack, length: usize) -> TcpStream {
    let mut stream = connect(stack, Service::Gateway).await;
    let head = format!(
        "POST /session HTTP/1.1\r\nhost: x\r\nconnection: close\r\nsec-fetch-site: same-origin\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_content_is_awaited_makes_room_for_another() {
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("MAX_CONNECTIONS", "8")]).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        stalled.push(begin_sign_in(&stack, 100).await);
    }
    for _ in 0..5 {
        // A form is waited for 2 s.
        let answer = timeout(Duration::from_secs(1), get(&stack, "/api/v1/items/NUT-M8"));
        assert_eq!(answer.await.expect("it is answered at once").status, 200);
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_form_that_is_sent_slowly_holds_no_permit() {
    const FORMS: u32 = 8;
    let state = temporary_folder().unwrap();
    let stack = start_with(&state, &[("MAX_IN_FLIGHT", "2")]).await;
    let form = format!("key={}", stack.api_key());
    let mut stalled = Vec::new();
    for _ in 0..FORMS {
        stalled.push(begin_sign_in(&stack, 100).await);
    }
    let mut slow = begin_sign_in(&stack, form.len()).await;
    until("their content is awaited", || async {
        let reading = "http_connections{state=\"reading\"}";
        metric(&stack, Service::Gateway, reading).await > f64::from(FORMS) + 0.5
    })
    .await;
    assert!(metric(&stack, Service::Gateway, "http_requests_in_flight ").await < 0.5);
    for _ in 0..5 {
        assert_eq!(get(&stack, "/api/v1/items/NUT-M8").await.status, 200);
    }
    for piece in form.as_bytes().chunks(form.len() / 3) {
        slow.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    let signed_in = read_to_end(&mut slow).await;
    assert!(signed_in.starts_with("HTTP/1.1 303 "), "{signed_in}");
    assert!(signed_in.contains("\r\nset-cookie: stockyard_session="), "{signed_in}");
    for mut stream in stalled {
        let refused = read_to_end(&mut stream).await;
        assert!(refused.starts_with("HTTP/1.1 408 "), "{refused}");
    }
    let mut large = begin_sign_in(&stack, 1025).await;
    assert!(read_to_end(&mut large).await.starts_with("HTTP/1.1 413 "));
    stack.stop().await.unwrap();
}
