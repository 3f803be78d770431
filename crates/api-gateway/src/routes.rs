//! The gateway's routes. What is not named here is not reachable from outside.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use serde_json::json;
use service_kit::{
    App, BoxError, Kit, Problem, Request, Response,
    body::{self, JSON},
    client::Client,
    idempotency::CALLER,
    input::{Segments, segments},
    telemetry,
    watched::Watched,
    workload,
};
use uuid::Uuid;

use crate::{
    accept::prefers_html,
    access::{self, Access},
    config::Config,
    dashboard::{
        self,
        forms::{self, Outcome, Placement, SignIn},
    },
    keys::{Key, May},
    snapshot::Snapshot,
    system::{Look, System},
    topology,
    upstream::Upstream,
};

/// How long a service may take to answer a passed request; longer than placing an order may.
const PASS_WITHIN: Duration = Duration::from_secs(9);
/// The largest form of the dashboard in bytes.
const FORM_BYTES: usize = 1024;
/// How long its content may take. Who signs in is not known yet, and keeps a connection busy meanwhile.
const FORM_WITHIN: Duration = Duration::from_secs(2);
/// The shortest deadline of who has no API key: it is time enough for a read, since one that is given up half-way costs a
/// connection to a service.
const STRANGERS_DEADLINE: Duration = Duration::from_millis(100);
/// The types of our files.
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
/// They are what they say.
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The service.
#[derive(Debug)]
pub struct Gateway {
    orders: Upstream,
    inventory: Upstream,
    access: Access,
    /// What the dashboard and the topology show.
    look: Snapshot<Look>,
    kit: Kit,
}

/// A recognised route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `GET /`.
    Dashboard,
    /// `GET /assets/style.css`.
    Style,
    /// `GET /assets/live.js`.
    Script,
    /// `POST /demo/orders`: the dashboard's form.
    DemoPlace,
    /// `POST /demo/orders/{id}/cancel`: the dashboard's form.
    DemoCancel,
    /// `POST /session`: the dashboard's form.
    SignIn,
    /// `POST /session/end`: the dashboard's form.
    SignOut,
    /// `GET /openapi.json`.
    OpenApi,
    /// `GET /api/v1/topology`.
    Topology,
    /// `/api/v1/orders...`.
    Orders,
    /// `/api/v1/items...`.
    Items,
}

impl Gateway {
    /// The gateway before these services.
    ///
    /// # Errors
    /// When a file with keys or tokens cannot be used.
    pub fn new(config: Config, kit: &Kit) -> Result<Self, BoxError> {
        // A service that reads a body to its end must have time left to answer.
        let answer_within = PASS_WITHIN.min(kit.config.request_timeout);
        let body_within = kit.config.body_timeout.min(answer_within / 2);
        let upstream = |name, base: &hyper::Uri, token: Option<Watched<_>>| {
            let client = Client::new(name, PASS_WITHIN, &kit.metrics).with_token(token.clone());
            let probe = Client::unguarded(topology::WITHIN).with_token(token);
            Upstream::new(name, base.clone(), client, probe, body_within)
        };
        let orders = workload::token("ORDERS_TOKEN_FILE", &config.orders_token, kit)?;
        let inventory = workload::token("INVENTORY_TOKEN_FILE", &config.inventory_token, kit)?;
        let orders = upstream("orders", &config.orders, orders);
        let inventory = upstream("inventory", &config.inventory, inventory);
        let access = Access::start(&config, kit)?;
        let system = Arc::new(System::new(config, kit, orders.clone(), inventory.clone()));
        let look = Snapshot::start(move || {
            let system = Arc::clone(&system);
            telemetry::background("snapshot", async move { system.look().await })
        });
        Ok(Self { orders, inventory, access, look, kit: kit.clone() })
    }

    /// Places the order of the dashboard's form, and shows the page again.
    async fn demo_place(&self, mut request: Request) -> Result<Response, Problem> {
        let caller = request.headers().get(CALLER).cloned();
        let placement = Placement::parse(&self.form(&mut request).await?)?;
        let (key, order) = (placement.key.to_string(), placement.order());
        let (status, problem) = self.orders.post("v1/orders", caller, &key, &order).await?;
        self.look.expire();
        Ok(forms::back(Outcome::of(status, &problem, Outcome::Placed)))
    }

    /// Cancels the order of the dashboard's button, and shows the page again.
    async fn demo_cancel(&self, request: &Request) -> Result<Response, Problem> {
        let path = request.uri().path().trim_start_matches("/demo/");
        let caller = request.headers().get(CALLER).cloned();
        let path = format!("v1/{path}");
        let (status, problem) = self.orders.post(&path, caller, "-", &json!({})).await?;
        self.look.expire();
        Ok(forms::back(Outcome::of(status, &problem, Outcome::Cancelled)))
    }

    /// Begins a session with the key of the dashboard's form.
    fn sign_in(&self, request: &Request) -> Result<Response, Problem> {
        let form = request.extensions().get::<SignIn>().expect("the form is read on admission");
        Ok(match self.access.sign_in(request.headers(), &form.key)? {
            Some(cookie) => forms::back_with(Outcome::SignedIn, &cookie),
            None => forms::back(Outcome::RefusedKey),
        })
    }

    /// A form's body.
    async fn form(&self, request: &mut Request) -> Result<Bytes, Problem> {
        forms::check_is_form(request.headers())?;
        body::read(request, FORM_BYTES, self.kit.config.body_timeout.min(FORM_WITHIN)).await
    }

    async fn dashboard(&self, request: &Request) -> Result<Response, Problem> {
        let headers = request.headers();
        let as_html = prefers_html(headers);
        let outcome = Outcome::from_query(request.uri().query());
        let session = match self.access.admit_look(headers) {
            Err(refused) if as_html && refused.status() == StatusCode::UNAUTHORIZED => {
                return Ok(dashboard::sign_in(outcome));
            }
            session => session?,
        };
        let dashboard = &self.look.get().await.dashboard;
        Ok(if as_html { dashboard.html(session.as_deref(), outcome) } else { dashboard.text() })
    }
}

impl Gateway {
    /// The key by which a request is let in, if it needs one or shows one.
    fn key(&self, route: Option<&Route>, request: &Request) -> Result<Option<Arc<Key>>, Problem> {
        let headers = request.headers();
        match route {
            Some(Route::Orders | Route::Items | Route::Topology) => {
                self.access.admit(headers, May::needed_for(request.method()))
            }
            Some(Route::DemoPlace | Route::DemoCancel) => {
                forms::check_same_origin(headers)?;
                self.access.admit_session(headers).map(Some)
            }
            Some(Route::SignIn | Route::SignOut) => {
                forms::check_same_origin(headers).map(|()| None)
            }
            // The dashboard shows who may not look how to sign in.
            Some(Route::Dashboard | Route::Style | Route::Script | Route::OpenApi) | None => {
                Ok(None)
            }
        }
    }
}

impl App for Gateway {
    type Route = Route;

    const IS_EDGE: bool = true;

    fn route(&self, method: &Method, path: &str) -> Result<(Route, &'static str), Problem> {
        route(method, path)
    }

    async fn admit(&self, route: Option<&Route>, request: &mut Request) -> Result<(), Problem> {
        // Who calls is told by the key alone.
        request.headers_mut().remove(CALLER);
        if let Some(key) = self.key(route, request)? {
            request.headers_mut().insert(CALLER, key.header());
        }
        if route == Some(&Route::SignIn) {
            // Here, where the request has no permit yet: anybody may send a form, and as slowly as FORM_WITHIN allows.
            let form = Box::pin(self.form(request)).await?;
            request.extensions_mut().insert(SignIn::parse(&form)?);
        }
        Ok(())
    }

    fn may_ask_for_sampling(&self, headers: &HeaderMap) -> bool {
        self.access.may_ask_for_sampling(headers)
    }

    fn least_deadline(&self, headers: &HeaderMap) -> Duration {
        if self.access.is_known(headers) { Duration::ZERO } else { STRANGERS_DEADLINE }
    }

    async fn call(self: Arc<Self>, route: Route, request: Request) -> Result<Response, Problem> {
        match route {
            // Boxed, as all that waits for others: every request would carry the room for that.
            Route::Dashboard => Box::pin(self.dashboard(&request)).await,
            Route::Style => Ok(asset(CSS, include_str!("../assets/style.css"))),
            Route::Script => Ok(asset(JAVASCRIPT, include_str!("../assets/live.js"))),
            Route::DemoPlace => Box::pin(self.demo_place(request)).await,
            Route::DemoCancel => Box::pin(self.demo_cancel(&request)).await,
            Route::SignIn => self.sign_in(&request),
            Route::SignOut => {
                let cookie = access::sign_out(request.headers());
                Ok(forms::back_with(Outcome::SignedOut, &cookie))
            }
            Route::OpenApi => Ok(asset(JSON, include_str!("../assets/openapi.json"))),
            Route::Topology => {
                let topology = self.look.get().await.topology.clone();
                Ok(body::text(StatusCode::OK, JSON, topology))
            }
            Route::Orders => Box::pin(self.orders.pass(request)).await,
            Route::Items => Box::pin(self.inventory.pass(request)).await,
        }
    }
}

/// A file of ours.
fn asset(content_type: HeaderValue, text: &'static str) -> Response {
    let mut response = body::text(StatusCode::OK, content_type, text);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

fn route(method: &Method, path: &str) -> Result<(Route, &'static str), Problem> {
    const GET: &[Method] = &[Method::GET, Method::HEAD];
    const POST: &[Method] = &[Method::POST];
    const GET_POST: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
    const GET_PUT: &[Method] = &[Method::GET, Method::HEAD, Method::PUT];
    let not_found = || Problem::not_found("there is no such route");
    let segments =
        if path == "/" { Segments::default() } else { segments(path).ok_or_else(not_found)? };
    let (methods, allowed, route, template) = match segments.as_slice() {
        [] => (GET, "GET, HEAD", Route::Dashboard, "/"),
        ["assets", "style.css"] => (GET, "GET, HEAD", Route::Style, "/assets/style.css"),
        ["assets", "live.js"] => (GET, "GET, HEAD", Route::Script, "/assets/live.js"),
        ["demo", "orders"] => (POST, "POST", Route::DemoPlace, "/demo/orders"),
        ["demo", "orders", id, "cancel"] if id.parse::<Uuid>().is_ok() => {
            (POST, "POST", Route::DemoCancel, "/demo/orders/{id}/cancel")
        }
        ["session"] => (POST, "POST", Route::SignIn, "/session"),
        ["session", "end"] => (POST, "POST", Route::SignOut, "/session/end"),
        ["openapi.json"] => (GET, "GET, HEAD", Route::OpenApi, "/openapi.json"),
        ["api", "v1", "topology"] => (GET, "GET, HEAD", Route::Topology, "/api/v1/topology"),
        ["api", "v1", "orders"] => (GET_POST, "GET, HEAD, POST", Route::Orders, "/api/v1/orders"),
        ["api", "v1", "orders", _] => (GET, "GET, HEAD", Route::Orders, "/api/v1/orders/{id}"),
        ["api", "v1", "orders", _, "cancel"] => {
            (POST, "POST", Route::Orders, "/api/v1/orders/{id}/cancel")
        }
        ["api", "v1", "items"] => (GET, "GET, HEAD", Route::Items, "/api/v1/items"),
        ["api", "v1", "items", _] => {
            (GET_PUT, "GET, HEAD, PUT", Route::Items, "/api/v1/items/{sku}")
        }
        ["api", "v1", "items", _, "receipts"] => {
            (POST, "POST", Route::Items, "/api/v1/items/{sku}/receipts")
        }
        _ => return Err(not_found()),
    };
    if methods.contains(method) {
        Ok((route, template))
    } else {
        Err(Problem::method_not_allowed(allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_reachable() {
        let status = |method, path| {
            route(&method, path).map_or_else(|problem| problem.status().as_u16(), |_| 200)
        };
        for path in
            ["/", "/openapi.json", "/api/v1/topology", "/api/v1/orders", "/api/v1/items/A-1"]
        {
            assert_eq!(status(Method::GET, path), 200, "{path}");
        }
        for path in [
            "/metrics",
            "/info",
            "/faults",
            "*",
            "",
            "/api/v1/items/A-1/receipts/x",
            "/api/v1/items/a%2Fb",
            "/api/v1/items/A-1;x/receipts",
            "/v1/orders",
            "/api/v1/reservations/1",
            "/api/v1/orders/../../metrics",
            "/api/v1/orders/%2e%2e/x",
            "/api/v1//orders",
            "/api/v1/orders/",
        ] {
            assert_eq!(status(Method::GET, path), 404, "{path}");
        }
        assert_eq!(status(Method::DELETE, "/api/v1/orders"), 405);
    }

    #[test]
    fn the_openapi_document_names_what_is_served() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("../assets/openapi.json")).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let paths = document["paths"].as_object().unwrap();
        for (template, path) in paths {
            if ["/health", "/ready"].contains(&template.as_str()) {
                continue; // service-kit serves them
            }
            let sample = template.replace("{id}", &"0".repeat(32)).replace("{sku}", "A-1");
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let routed = route(&method, &sample);
                match path.get(method.as_str().to_lowercase()) {
                    Some(_) => assert_eq!(routed.unwrap().1, template, "{method}"),
                    None => assert_eq!(routed.unwrap_err().status(), 405, "{method} {template}"),
                }
            }
        }
        for template in ["/", "/api/v1/orders/{id}/cancel", "/api/v1/items/{sku}/receipts"] {
            assert!(paths.contains_key(template), "{template}");
        }
    }
}
