//! The programs of a version before and these, one after the other and beside each other, on one database. The folder of
//! the former programs is `STOCKYARD_FORMER_BIN_DIR`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::join_all;
use hyper::Method;
use local_stack::{
    ApiClient, Service, Stack,
    http::{self, Reply},
    laws::Databases,
    service::Running,
    state::temporary_folder,
};
use rustix::process::Signal;

use crate::{
    api_keys::{Keys, key},
    support::{folder_of, get, item, order, settings, until},
};

const FORMER: &str = "STOCKYARD_FORMER_BIN_DIR";
const CALLERS: [&str; 2] = ["ada", "bob"];
const RECEIPT: &str = r#"{"quantity":5}"#;

/// An order and a receipt under the same key, through the gateway, by the caller whose API key has that text.
async fn send(stack: &Stack, caller: &str, key: &str) -> [Reply; 2] {
    let client = ApiClient::new(stack.url(Service::Gateway), caller);
    let headers = [("idempotency-key", key)];
    let placed = client.place(key, order("NUT-M8", 1)).await.unwrap();
    let receipts = "/api/v1/items/CHAIN-6/receipts";
    let received = client.send(Method::POST, receipts, &headers, RECEIPT).await.unwrap();
    assert_eq!((placed.status.as_u16(), received.status.as_u16()), (201, 200));
    [placed, received]
}

/// All of an order's answer that must come again.
fn told(placed: &Reply) -> (u16, &str, &str, String) {
    let [location, kind] = ["location", "content-type"].map(|name| placed.header(name));
    (placed.status.as_u16(), location, kind, placed.text())
}

/// How many orders there are, and how many units of the item that receipts are for.
async fn counts(stack: &Stack) -> (usize, i64) {
    let orders = get(stack, "/api/v1/orders?page_size=200").await.json();
    let on_hand = item(stack, "CHAIN-6").await["on_hand"].as_i64().unwrap();
    (orders["orders"].as_array().unwrap().len(), on_hand)
}

/// Puts the programs of a folder in the place of those that run, one service after the other.
async fn replace(stack: &mut Stack, variable: &str) {
    stack.use_programs(&folder_of(variable));
    for service in Service::ALL {
        stack.end(service, Signal::TERM).await.unwrap();
        stack.start_service(service).await.unwrap();
    }
    stack.await_ready().await.unwrap();
}

async fn check_law(stack: &Stack) {
    let databases = Databases::connect(stack).await.unwrap();
    until("all is at rest", || async { databases.at_rest().await.unwrap() }).await;
    assert_eq!(databases.breaches().await.unwrap().0, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs STOCKYARD_FORMER_BIN_DIR"]
async fn keys_are_answered_alike_after_an_upgrade_and_a_roll_back_and_an_upgrade() {
    let (former, now) = (folder_of(FORMER), "STOCKYARD_BIN_DIR");
    let state = temporary_folder().unwrap();
    let keys = Keys::new(&CALLERS.map(|name| key(name, "write", 100_000)));
    let mut settings = settings(state.path());
    settings.programs = former;
    let file = keys.file().display().to_string();
    settings.environment.insert("API_KEYS_FILE".to_owned(), file);
    let mut stack = Stack::start(settings).await.unwrap();
    let [before, _] = send(&stack, "ada", "before").await;

    replace(&mut stack, now).await;
    for caller in CALLERS {
        assert_eq!(told(&send(&stack, caller, "before").await[0]), told(&before), "{caller}");
    }
    let other = ApiClient::new(stack.url(Service::Gateway), "bob");
    assert_eq!(other.place("before", order("NUT-M8", 2)).await.unwrap().status, 422);
    let [adas, _] = send(&stack, "ada", "after").await;
    let [bobs, _] = send(&stack, "bob", "after").await;
    assert_ne!(adas.text(), bobs.text());
    let counted = counts(&stack).await;
    assert_eq!(counted, (3, 800 + 3 * 5));

    replace(&mut stack, FORMER).await;
    for (caller, key, first) in
        [("ada", "before", &before), ("ada", "after", &adas), ("bob", "after", &adas)]
    {
        assert_eq!(told(&send(&stack, caller, key).await[0]), told(first), "{caller}: {key}");
    }
    assert_eq!(counts(&stack).await, counted);
    let [between, _] = send(&stack, "bob", "between").await;

    replace(&mut stack, now).await;
    for (caller, key, first) in [
        ("ada", "before", &before),
        ("ada", "after", &adas),
        ("bob", "after", &bobs),
        ("bob", "between", &between),
        ("ada", "between", &between),
    ] {
        assert_eq!(told(&send(&stack, caller, key).await[0]), told(first), "{caller}: {key}");
    }
    assert_eq!(counts(&stack).await, (4, 800 + 4 * 5));
    check_law(&stack).await;
    stack.stop().await.unwrap();
}

/// A request to a service itself, as the gateway sends it for a caller.
async fn ask(url: &str, path: &str, caller: &str, key: &str, body: &str) -> Reply {
    let headers = [("idempotency-key", key), ("x-caller", caller)];
    let url = format!("{url}{path}");
    http::send(Method::POST, &url, &headers, body.to_owned()).await.unwrap()
}

/// The answers that callers get for a key from each of these addresses, asked one after the other or all at once, each
/// twice: by address and caller, all of them the same.
async fn place_at<'a>(
    urls: &[&'a str],
    key: &str,
    at_once: bool,
) -> BTreeMap<(&'a str, &'static str), String> {
    let body = order("NUT-M8", 1);
    let asked = urls.iter().flat_map(|url| CALLERS.map(|caller| (*url, caller)));
    let asked: Vec<_> = asked.clone().chain(asked).collect();
    let ask = async |(url, caller)| loop {
        let reply = ask(url, "/v1/orders", caller, key, &body).await;
        match reply.status.as_u16() {
            201 => break ((url, caller), reply.text()),
            409 => assert_eq!(reply.json()["type"], "/problems/idempotency-key-at-work"),
            other => panic!("{other}: {}", reply.text()),
        }
    };
    let mut answers = Vec::new();
    if at_once {
        answers = join_all(asked.into_iter().map(ask)).await;
    } else {
        for one in asked {
            answers.push(ask(one).await);
        }
    }
    let mut by_asked = BTreeMap::new();
    for (asked, answer) in answers {
        let first = by_asked.entry(asked).or_insert_with(|| answer.clone());
        assert_eq!(*first, answer, "{asked:?}");
    }
    by_asked
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs STOCKYARD_FORMER_BIN_DIR"]
async fn two_versions_beside_each_other_place_one_order_for_each_caller_of_a_key_at_most() {
    let state = temporary_folder().unwrap();
    let mut stack = Stack::start(settings(state.path())).await.unwrap();
    stack.use_programs(&folder_of(FORMER));
    let mut former = stack.start_replica(Service::Orders).await.unwrap();
    former.await_ready(Duration::from_secs(30)).await.unwrap();
    let (now, before) = (stack.url(Service::Orders).to_owned(), former.url.clone());
    let mut expected = 0;
    for round in 0..10 {
        // The former has it first: it is nobody's, and answers all.
        let answers = place_at(&[&before, &now], &format!("former-{round}"), false).await;
        assert_eq!(answers.values().collect::<BTreeSet<_>>().len(), 1, "{answers:?}");
        // This one has it first: the former knows the first caller's, who is answered alike by both.
        let answers = place_at(&[&now, &before], &format!("now-{round}"), false).await;
        let adas = &answers[&(&*now, "ada")];
        assert_ne!(*adas, answers[&(&*now, "bob")]);
        assert!(CALLERS.iter().all(|caller| answers[&(&*before, *caller)] == *adas));
        let answers = place_at(&[&now, &before], &format!("both-{round}"), true).await;
        let at_once: BTreeSet<_> = answers.into_values().collect();
        assert!(at_once.len() <= CALLERS.len(), "{at_once:?}");
        expected += 1 + 2 + at_once.len();
    }
    assert_eq!(counts(&stack).await.0, expected, "an order that nobody was told of");
    check_law(&stack).await;
    stop(&mut former).await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs STOCKYARD_FORMER_BIN_DIR"]
async fn two_versions_beside_each_other_book_one_receipt_for_each_caller_of_a_key_at_most() {
    let state = temporary_folder().unwrap();
    let mut stack = Stack::start(settings(state.path())).await.unwrap();
    stack.use_programs(&folder_of(FORMER));
    let mut former = stack.start_replica(Service::Inventory).await.unwrap();
    former.await_ready(Duration::from_secs(30)).await.unwrap();
    let (now, before) = (stack.url(Service::Inventory).to_owned(), former.url.clone());
    let receive = async |url: &str, caller: &str, key: String| {
        let reply = ask(url, "/v1/items/CHAIN-6/receipts", caller, &key, RECEIPT).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    for (name, urls, receipts) in [("former", [&before, &now], 1), ("now", [&now, &before], 2)] {
        let (_, on_hand) = counts(&stack).await;
        for url in urls.into_iter().chain(urls) {
            for caller in CALLERS {
                receive(url, caller, name.to_owned()).await;
            }
        }
        assert_eq!(counts(&stack).await.1, on_hand + receipts * 5, "{name}");
    }
    for round in 0..10 {
        let (_, on_hand) = counts(&stack).await;
        let asked = [&now, &before].map(|url| CALLERS.map(|caller| (url, caller)));
        let asked = asked.as_flattened().repeat(3);
        let all = asked.iter().map(|(url, caller)| receive(url, caller, format!("both-{round}")));
        join_all(all).await;
        let arrived = counts(&stack).await.1 - on_hand;
        assert!([5, 10].contains(&arrived), "{arrived}");
    }
    check_law(&stack).await;
    stop(&mut former).await;
    stack.stop().await.unwrap();
}

async fn stop(replica: &mut Running) {
    replica.child.stop(Signal::TERM, Duration::from_secs(30)).await.unwrap();
}
