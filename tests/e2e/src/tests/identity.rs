//! Who gets in at orders and inventory: the service accounts that call them, with a token for them, and nobody else.

use std::time::Duration;

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use local_stack::http::{self, Reply};

use super::{Test, rights::service_accounts, test};
use crate::{
    Result,
    ask::Answers,
    cluster::{Forward, apply, kubectl},
    plane::{self, plane},
    pod::{NEVER_READY, Pod, Settings, TOKENS},
    schedule::Resource::Staging,
    system::{STAGING, is_confirmed, place, unique},
    token::{
        self, Parts, SigningKey,
        forged::{by_anybody, by_the_cluster},
    },
};

/// No order's.
const ID: &str = "00000000-0000-4000-8000-000000000000";
/// The accounts that may call: the gateway for whoever writes, orders for its stock, both to look.
const GATEWAY: &[&str] = &["gateway-sa"];
const GATEWAY_AND_ORDERS: &[&str] = &["gateway-sa", "orders-sa"];
const ORDERS: &[&str] = &["orders-sa"];
/// Every route (`{id}` is no order's), one that there is not, and who may call it. What is asked has no body: nothing
/// comes of it where the caller may.
const ROUTES: [(&str, &str, &str, &[&str]); 14] = [
    ("orders", "GET", "/v1/orders", GATEWAY),
    ("orders", "POST", "/v1/orders", GATEWAY),
    ("orders", "GET", "/v1/orders/{id}", GATEWAY),
    ("orders", "POST", "/v1/orders/{id}/cancel", GATEWAY),
    ("orders", "GET", "/nowhere", GATEWAY),
    ("inventory", "GET", "/v1/items", GATEWAY_AND_ORDERS),
    ("inventory", "GET", "/v1/items/BOLT-M8", GATEWAY_AND_ORDERS),
    ("inventory", "PUT", "/v1/items/BOLT-M8", GATEWAY),
    ("inventory", "POST", "/v1/items/BOLT-M8/receipts", GATEWAY),
    ("inventory", "PUT", "/v1/reservations/{id}", ORDERS),
    ("inventory", "POST", "/v1/reservations/{id}/confirm", ORDERS),
    ("inventory", "POST", "/v1/reservations/{id}/release", ORDERS),
    ("inventory", "POST", "/v1/reservations/{id}/return", ORDERS),
    ("inventory", "GET", "/nowhere", GATEWAY_AND_ORDERS),
];
/// A service, an account that may call it, and what it asks for.
const CALLS: [(&str, &str, &str); 2] =
    [("orders", "gateway-sa", "/v1/orders"), ("inventory", "orders-sa", "/v1/items")];
/// A namespace with accounts of the same names.
const ELSEWHERE: &str = "stockyard-e2e-identity";

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(
            "a_pod_of_another_account_gets_nothing_from_orders_and_inventory",
            &[Staging],
            240,
            other_accounts,
        ),
        test("tokens_that_are_not_what_they_should_be_are_refused", &[Staging], 240, wrong_tokens),
    ]
}

/// Each account of staging in a pod that the policies let through, with tokens of its own for both services.
async fn other_accounts() -> Result<String> {
    STAGING.deployed().await?;
    let questions = questions().await?;
    let accounts = service_accounts(STAGING.namespace).await?;
    let mut pods = Vec::new();
    for account in &accounts {
        pods.push(caller(account, &questions).await?);
    }
    let (mut refused, mut faults) = (0, Vec::new());
    for (account, pod) in accounts.iter().zip(pods) {
        let answers: Vec<Answers> = pod.found(Duration::from_secs(60)).await?;
        ensure!(answers.len() == ROUTES.len(), "{account} was given {} answers", answers.len());
        for ((service, method, path, may), Answers { without, with }) in
            ROUTES.into_iter().zip(answers)
        {
            let is_let_in = may.contains(&account.as_str());
            let is_right = if is_let_in {
                !["401", "403"].iter().any(|status| with.starts_with(status))
            } else {
                with == "403 /problems/forbidden"
            };
            refused += usize::from(!is_let_in);
            if !is_right || without != "401 /problems/unauthenticated" {
                faults.push(format!(
                    "{account}, {method} {service}{path}: {without} without a token, {with} with it"
                ));
            }
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    let gateway = STAGING.gateway().await?;
    let reply = place(&gateway.url(), &unique(), "BOLT-M8", 1).await?;
    ensure!(is_confirmed(&reply), "an order: {} {}", reply.status, reply.text());
    Ok(format!(
        "{} accounts, {} routes: {refused} requests with a token refused, {} let in, none without one; an order is confirmed",
        accounts.len(),
        ROUTES.len(),
        accounts.len() * ROUTES.len() - refused
    ))
}

/// What `e2e ask` is to ask, in the order of the routes.
async fn questions() -> Result<String> {
    let mut questions = Vec::new();
    for (service, method, path, _) in ROUTES {
        let object = STAGING.get(&format!("service {service}")).await?;
        let address = object["spec"]["clusterIP"].as_str().context("it has no address")?;
        let path = path.replace("{id}", ID);
        questions.push(format!("{TOKENS}/stockyard-{service} {method} http://{address}:80{path}"));
    }
    Ok(format!("[ask, {}]", questions.join(", ")))
}

/// A pod that policies take for the gateway's own, under an account.
async fn caller(account: &str, questions: &str) -> Result<Pod> {
    let settings = Settings {
        name: "caller",
        labels: "{app.kubernetes.io/name: api-gateway}",
        arguments: questions,
        account,
        audiences: &["stockyard-orders", "stockyard-inventory"],
        resources: "{requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 100m, memory: 64Mi}}",
        readiness: NEVER_READY,
        ..Settings::default()
    };
    Pod::start(STAGING.namespace, settings).await
}

async fn wrong_tokens() -> Result<String> {
    STAGING.deployed().await?;
    apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {ELSEWHERE}}}\n")).await?;
    let refused = refused_by_all().await;
    kubectl(&format!("delete namespace {ELSEWHERE} --timeout=60s")).await?;
    let refused = refused?;
    let left = if plane::is_given() {
        String::new()
    } else {
        format!("; such as the cluster itself has signed: {}", plane::MISSING)
    };
    Ok(format!("{refused} tokens refused{left}"))
}

async fn refused_by_all() -> Result<usize> {
    let mut refused = 0;
    for (service, account, path) in CALLS {
        refused += Called::open(service, account, path).await?.refuses().await?;
    }
    Ok(refused)
}

/// A service that is called, and by whom.
struct Called {
    service: &'static str,
    account: &'static str,
    url: String,
    _forward: Forward,
}

impl Called {
    async fn open(service: &'static str, account: &'static str, path: &str) -> Result<Self> {
        let forward = STAGING.forward(&format!("svc/{service} :80")).await?;
        Ok(Self { service, account, url: format!("{}{path}", forward.url()), _forward: forward })
    }

    /// A token of the account for a service.
    async fn token(&self, service: &str) -> Result<String> {
        token::of(STAGING.namespace, self.account, Some(&format!("stockyard-{service}"))).await
    }

    async fn send(&self, token: &str) -> Result<Reply> {
        let headers = [("authorization", &*format!("Bearer {token}"))];
        http::send(Method::GET, &self.url, &headers, "").await
    }

    /// The right token is taken, and none of the wrong ones; gives how many these were.
    async fn refuses(&self) -> Result<usize> {
        let token = self.token(self.service).await?;
        self.takes("its own token", &token).await?;
        let for_the_api_server = token::of(STAGING.namespace, self.account, None).await?;
        let mut refused = vec![("for the API server".to_owned(), for_the_api_server)];
        for (other, ..) in CALLS.iter().filter(|(other, ..)| *other != self.service) {
            refused.push((format!("for {other}"), self.token(other).await?));
        }
        let id = Parts::of(&token)?.key_id()?;
        let keys = token::published_keys().await?;
        let key = keys.iter().find(|key| key["kid"] == id);
        refused.extend(by_anybody(&token, key.context("its key is not published")?)?);
        if plane::is_given() {
            let key = SigningKey::from_pem(&plane("signing-key").await?)?;
            let (good, others) = by_the_cluster(&token, &key)?;
            self.takes("its own token, signed again", &good).await?;
            refused.extend(others);
        }
        for (what, token) in &refused {
            self.is_refused(what, token).await?;
        }
        self.has_no_other_namespace().await?;
        self.takes("its own token, afterwards", &token).await?;
        Ok(refused.len() + 1)
    }

    async fn takes(&self, what: &str, token: &str) -> Result<()> {
        let reply = self.send(token).await?;
        ensure!(reply.status == StatusCode::OK, "{}, {what}: {}", self.service, reply.text());
        Ok(())
    }

    async fn is_refused(&self, what: &str, token: &str) -> Result<()> {
        let reply = self.send(token).await?;
        let is_it = reply.status == StatusCode::UNAUTHORIZED
            && reply.json()["type"] == "/problems/unauthenticated"
            && reply.header("www-authenticate").starts_with("Bearer");
        let told = reply.text();
        ensure!(is_it, "{}, a token, {what}: {} {told}", self.service, reply.status);
        Ok(())
    }

    /// The account of the same name in another namespace is another one.
    async fn has_no_other_namespace(&self) -> Result<()> {
        let account = self.account;
        apply(&format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}, namespace: {ELSEWHERE}}}\n"
        ))
        .await?;
        let audience = format!("stockyard-{}", self.service);
        let token = token::of(ELSEWHERE, account, Some(&audience)).await?;
        let reply = self.send(&token).await?;
        let is_it =
            reply.status == StatusCode::FORBIDDEN && reply.json()["type"] == "/problems/forbidden";
        ensure!(is_it, "{account} of {ELSEWHERE}: {} {}", reply.status, reply.text());
        Ok(())
    }
}
