//! Only the right service gets in: orders and inventory with identity on, against an issuer of the tests.

use std::time::Duration;

use hyper::Method;
use local_stack::{
    Service, Stack,
    http::{self, Reply},
};
use serde_json::{Value, json};
use service_kit::workload::testing::{Signer, compact, confused};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    issuer::{Issuer, claims_of, in_seconds},
    support::{get, metric, order, place, start_with, until},
};

const ORDERS: Service = Service::Orders;
const INVENTORY: Service = Service::Inventory;
/// Between two looks that no unknown key causes, for tests that want none.
const SELDOM: &str = "1h";

/// A whole stack whose services know each other by that key.
async fn start(state: &TempDir, issuer: &Issuer, signer: &Signer, refresh: &str) -> Stack {
    // Both callers read the file of the same name here; in a pod each has its own.
    issuer.write_token("orders", &signer.token(&claims_of("gateway-sa", "orders")));
    issuer.write_token("inventory", &signer.token(&claims_of("orders-sa", "inventory")));
    let settings = issuer.settings(refresh);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    start_with(state, &settings).await
}

/// Every route of a service, as orders and inventory have them, and two that they have not.
fn routes(service: Service) -> Vec<(Method, String)> {
    let id = Uuid::nil();
    let of = |method: Method, path: &str| (method, path.replace("ID", &id.to_string()));
    match service {
        ORDERS => vec![
            of(Method::GET, "/v1/orders"),
            of(Method::POST, "/v1/orders"),
            of(Method::GET, "/v1/orders/ID"),
            of(Method::POST, "/v1/orders/ID/cancel"),
            of(Method::DELETE, "/v1/orders"),
            of(Method::GET, "/nothing"),
        ],
        _ => vec![
            of(Method::GET, "/v1/items"),
            of(Method::GET, "/v1/items/NUT-M8"),
            of(Method::PUT, "/v1/items/NUT-M8"),
            of(Method::POST, "/v1/items/NUT-M8/receipts"),
            of(Method::PUT, "/v1/reservations/ID"),
            of(Method::POST, "/v1/reservations/ID/confirm"),
            of(Method::POST, "/v1/reservations/ID/release"),
            of(Method::POST, "/v1/reservations/ID/return"),
            of(Method::DELETE, "/v1/items"),
            of(Method::GET, "/nothing"),
        ],
    }
}

async fn ask(stack: &Stack, service: Service, method: Method, path: &str, token: &str) -> Reply {
    let authorization = format!("Bearer {token}");
    let headers: &[_] = if token.is_empty() { &[] } else { &[("authorization", &*authorization)] };
    http::send(method, &format!("{}{path}", stack.url(service)), headers, "").await.unwrap()
}

/// The status of a read with a token.
async fn read(stack: &Stack, token: &str) -> u16 {
    ask(stack, INVENTORY, Method::GET, "/v1/items", token).await.status.as_u16()
}

#[tokio::test]
async fn the_system_works_and_nobody_else_gets_in_by_any_route() {
    let (state, signer) = (TempDir::new().unwrap(), Signer::rs256("a"));
    let issuer = Issuer::start(&[&signer]).await;
    let stack = start(&state, &issuer, &signer, SELDOM).await;
    assert_eq!(place(&stack, "known", order("NUT-M8", 1)).await.status, 201);
    for service in [ORDERS, INVENTORY] {
        for (method, path) in routes(service) {
            let status = async |account: &str| {
                let claims = claims_of(account, service.name());
                let token = if account.is_empty() { String::new() } else { signer.token(&claims) };
                let reply = ask(&stack, service, method.clone(), &path, &token).await;
                let challenge = reply.header("www-authenticate").starts_with("Bearer");
                assert_eq!(challenge, reply.status == 401, "{method} {path}");
                assert_eq!(
                    reply.header("content-type").contains("problem"),
                    reply.status.as_u16() >= 400
                );
                reply.status.as_u16()
            };
            assert_eq!(status("").await, 401, "no token: {method} {path}");
            for account in ["default", "inventory-sa", "postgres-sa", "gateway-sa-2", "Gateway-SA"]
            {
                assert_eq!(status(account).await, 403, "{account}: {method} {path}");
            }
            let allowed = async |account: &str| !matches!(status(account).await, 401 | 403);
            let (gateway, orders) = match (service, &path) {
                (ORDERS, _) => (true, false),
                (_, path) if path.starts_with("/v1/reservations") => (false, true),
                (_, path) if path == "/v1/items/NUT-M8" && method == Method::PUT => (true, false),
                (_, path) if path.ends_with("/receipts") => (true, false),
                _ => (true, true),
            };
            assert_eq!(allowed("gateway-sa").await, gateway, "{method} {path}");
            assert_eq!(allowed("orders-sa").await, orders, "{method} {path}");
        }
        let probes = format!("{}/health", stack.url(service));
        assert_eq!(http::get(&probes).await.unwrap().status, 200, "probes need no token");
        assert!(
            metric(&stack, service, "identity_requests_total{outcome=\"missing\"}").await >= 6.0
        );
    }
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_not_what_it_should_be_is_refused() {
    let (state, signer, ec) = (TempDir::new().unwrap(), Signer::rs256("rsa"), Signer::es256("ec"));
    let issuer = Issuer::start(&[&signer, &ec]).await;
    let stack = start(&state, &issuer, &signer, SELDOM).await;
    let good = || claims_of("gateway-sa", "inventory");
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        signer.token(&claims)
    };
    let whole = signer.token(&good());
    let (head, signature) = whole.rsplit_once('.').unwrap();
    let forged = |account: &str| {
        let other = signer.token(&claims_of(account, "inventory"));
        format!("{}.{signature}", other.rsplit_once('.').unwrap().0)
    };
    for (what, token) in [
        ("garbage", "garbage".to_owned()),
        ("another alphabet", "%00.~.~".to_owned()),
        ("the other service's", with("aud", json!(["stockyard-orders"]))),
        ("the API server's", with("aud", json!(["https://kubernetes.default.svc"]))),
        ("another issuer's", with("iss", json!("https://elsewhere"))),
        ("expired", with("exp", json!(in_seconds(-31)))),
        ("not yet valid", with("nbf", json!(in_seconds(60)))),
        ("forged claims", forged("orders-sa")),
        ("no signature", format!("{head}.")),
        ("alg none", compact(&json!({"alg": "none", "kid": "rsa"}), &good(), |_| Vec::new())),
        ("algorithm confusion", confused("rsa", &signer.jwk(), &good())),
        ("another key's name", ec.sign(&json!({"alg": "ES256", "kid": "rsa"}), &good())),
        ("a forged key of that name", Signer::es256("ec").token(&good())),
        ("a key that is not published", Signer::es256("other").token(&good())),
        ("huge", with("more", json!("x".repeat(9 * 1024)))),
    ] {
        assert_eq!(read(&stack, &token).await, 401, "{what}");
    }
    let elsewhere = with("sub", json!("system:serviceaccount:production:gateway-sa"));
    assert_eq!(read(&stack, &elsewhere).await, 403, "the other namespace's");
    let person = with("sub", json!("system:admin"));
    assert_eq!(read(&stack, &person).await, 403);
    for good in [whole, ec.token(&good())] {
        assert_eq!(read(&stack, &good).await, 200);
    }
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn no_service_is_ready_before_it_has_keys() {
    let (state, signer) = (TempDir::new().unwrap(), Signer::es256("a"));
    let issuer = Issuer::start(&[&signer]).await;
    let stack = start(&state, &issuer, &signer, SELDOM).await;
    issuer.stop();
    let replica = stack.start_replica(INVENTORY).await.unwrap();
    let ready = format!("{}/ready", replica.admin_url);
    until("it says what it waits for", || async {
        let reply = http::get(&ready).await.unwrap();
        reply.status == 503 && reply.text().contains("identity: https://localhost")
    })
    .await;
    let token = format!("Bearer {}", signer.token(&claims_of("gateway-sa", "inventory")));
    let items = format!("{}/v1/items", replica.url);
    let headers = [("authorization", &*token)];
    let ask = || http::send(Method::GET, &items, &headers, "");
    assert_eq!(ask().await.unwrap().status, 503, "nobody is let in on trust");
    issuer.start_again();
    until("it is ready", || async { http::get(&ready).await.unwrap().status == 200 }).await;
    assert_eq!(ask().await.unwrap().status, 200);
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn made_up_keys_lead_to_one_look_and_no_more() {
    let (state, signer) = (TempDir::new().unwrap(), Signer::es256("a"));
    let issuer = Issuer::start(&[&signer]).await;
    let stack = start(&state, &issuer, &signer, SELDOM).await;
    let (new, other) = (Signer::es256("new"), Signer::es256("other"));
    let claims = claims_of("gateway-sa", "inventory");
    let before = issuer.looks();
    issuer.publish(&[&signer, &new]);
    assert_eq!(
        read(&stack, &new.token(&claims)).await,
        200,
        "a key that has come is found at once"
    );
    let asked = (0..300).map(|number| {
        let header = json!({"alg": "ES256", "kid": format!("made-up-{number}")});
        let (token, stack) = (other.sign(&header, &claims), &stack);
        async move { read(stack, &token).await }
    });
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
    assert_eq!(issuer.looks() - before, 1);
    assert_eq!(read(&stack, &signer.token(&claims)).await, 200);
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_look_for_a_key_comes_to_its_end_although_its_caller_went_away() {
    let (state, signer) = (TempDir::new().unwrap(), Signer::es256("a"));
    let issuer = Issuer::start(&[&signer]).await;
    let stack = start(&state, &issuer, &signer, SELDOM).await;
    issuer.hang();
    let failures =
        || metric(&stack, INVENTORY, "identity_keys_refreshes_total{outcome=\"failure\"}");
    let unknown = Signer::es256("unknown").token(&claims_of("gateway-sa", "inventory"));
    for _ in 0..20 {
        let asked = ask(&stack, INVENTORY, Method::GET, "/v1/items", &unknown);
        let _went_away = timeout(Duration::from_millis(100), asked).await;
    }
    until("the one look has failed", || async { failures().await >= 1.0 }).await;
    assert_eq!(read(&stack, &unknown).await, 401);
    let looks = failures().await;
    assert!(looks < 2.0, "it counts: there is no other for ten seconds; {looks}");
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn keys_are_rotated_under_load_with_no_failed_request() {
    let (state, old) = (TempDir::new().unwrap(), Signer::rs256("old"));
    let issuer = Issuer::start(&[&old]).await;
    let stack = start(&state, &issuer, &old, "1s").await;
    let new = Signer::es256("new");
    let old_token = old.token(&claims_of("gateway-sa", "inventory"));
    let load = async {
        for number in 0.. {
            let placed = place(&stack, &format!("rotated-{number}"), order("NUT-M8", 1)).await;
            assert_eq!(placed.status, 201, "{}", placed.text());
            if read(&stack, &old_token).await == 401 {
                return number;
            }
        }
        unreachable!()
    };
    let rotation = async {
        // As a cluster does it: the new key is published, the callers' tokens are renewed, the old key goes.
        issuer.publish(&[&old, &new]);
        issuer.write_token("orders", &new.token(&claims_of("gateway-sa", "orders")));
        issuer.write_token("inventory", &new.token(&claims_of("orders-sa", "inventory")));
        sleep(Duration::from_secs(11)).await; // clients read a new token within ten seconds
        issuer.publish(&[&new]);
    };
    let (orders, ()) = timeout(Duration::from_secs(60), async { tokio::join!(load, rotation) })
        .await
        .expect("the old key counts no more");
    assert!(orders > 10, "{orders} orders");
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn where_it_is_off_the_log_and_the_dashboard_say_so() {
    let state = TempDir::new().unwrap();
    let mut stack = start_with(&state, &[]).await;
    let page = get(&stack, "/").await.text();
    for service in Service::ALL {
        let line = page.lines().find(|line| line.starts_with(service.name())).unwrap();
        assert!(line.contains("IDENTITY=off"), "{line}");
        let log = stack.running(service).unwrap().child.tail();
        assert!(log.contains("IDENTITY=off"), "{log}");
    }
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_is_not_let_in_says_so_and_blames_no_client() {
    let (state, signer) = (TempDir::new().unwrap(), Signer::es256("a"));
    let issuer = Issuer::start(&[&signer]).await;
    let stack = start(&state, &issuer, &signer, SELDOM).await;
    issuer.write_token("orders", &signer.token(&claims_of("gateway-sa", "inventory")));
    until("the gateway sends the token that orders does not take", || async {
        let refused = place(&stack, "refused", order("NUT-M8", 1)).await;
        refused.status == 502 && refused.json()["type"] == "/problems/upstream-refused"
    })
    .await;
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn known_keys_go_on_while_the_api_server_is_away() {
    let (state, signer, new) = (TempDir::new().unwrap(), Signer::es256("a"), Signer::es256("new"));
    let issuer = Issuer::start(&[&signer]).await;
    let stack = start(&state, &issuer, &signer, "200ms").await;
    issuer.stop();
    let failures = "identity_keys_refreshes_total{outcome=\"failure\"}";
    until("several looks have failed", || async {
        metric(&stack, INVENTORY, failures).await >= 3.0
    })
    .await;
    assert_eq!(place(&stack, "away", order("NUT-M8", 1)).await.status, 201);
    // One that was never seen is verified too.
    let mut claims = claims_of("gateway-sa", "inventory");
    claims["jti"] = json!("never seen");
    assert_eq!(read(&stack, &signer.token(&claims)).await, 200);
    assert_eq!(read(&stack, &new.token(&claims)).await, 401);
    let ready = format!("{}/ready", stack.admin_url(INVENTORY));
    assert_eq!(http::get(&ready).await.unwrap().status, 200);
    issuer.publish_too_much();
    issuer.start_again();
    let failed = metric(&stack, INVENTORY, failures).await;
    until("too large an answer is refused", || async {
        metric(&stack, INVENTORY, failures).await >= failed + 3.0
    })
    .await;
    assert_eq!(read(&stack, &signer.token(&claims)).await, 200);
    issuer.publish(&[&signer, &new]);
    until("the new key is known", || async { read(&stack, &new.token(&claims)).await == 200 })
        .await;
    assert_eq!(get(&stack, "/api/v1/orders").await.status, 200);
    stack.stop().await.unwrap();
}
