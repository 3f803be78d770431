//! The gateway's routes. What is not named here is not reachable from outside.

use std::{sync::Arc, time::Duration};

use futures_util::future::join;
use hyper::{Method, StatusCode, header::ACCEPT};
use serde_json::json;
use service_kit::{
    App, Kit, Problem, Request, Response, body, client::Client, health::Readiness, input::segments,
};

use crate::{
    config::Config,
    dashboard::View,
    topology::{self, Part},
    upstream::Upstream,
};

/// How long a service may take to answer a passed request; longer than placing an order may.
const PASS_WITHIN: Duration = Duration::from_secs(9);

/// The service.
#[derive(Debug)]
pub struct Gateway {
    orders: Upstream,
    inventory: Upstream,
    config: Config,
    probes: Client,
    readiness: Readiness,
}

/// A recognised route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `GET /`.
    Dashboard,
    /// `GET /assets/style.css`.
    Style,
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
    pub fn new(config: &Config, kit: &Kit) -> Self {
        let client = Client::new(PASS_WITHIN);
        Self {
            orders: Upstream::new("orders", config.orders.clone(), client.clone()),
            inventory: Upstream::new("inventory", config.inventory.clone(), client),
            config: config.clone(),
            probes: Client::new(topology::WITHIN),
            readiness: kit.readiness.clone(),
        }
    }

    async fn parts(&self) -> Vec<Part> {
        let Config { orders, inventory, orders_admin, inventory_admin, .. } = &self.config;
        let (orders, inventory) = join(
            topology::ask(&self.probes, "orders", orders, orders_admin.as_ref()),
            topology::ask(&self.probes, "inventory", inventory, inventory_admin.as_ref()),
        )
        .await;
        vec![topology::own(&self.readiness), orders, inventory]
    }

    async fn dashboard(&self, request: &Request) -> Response {
        let lists = join(
            self.orders.json("v1/orders?page_size=10"),
            self.inventory.json("v1/items?page_size=50"),
        );
        let (parts, (orders, items)) = join(self.parts(), lists).await;
        let view = View { parts, orders, items, with_prometheus: self.config.prometheus.is_some() };
        let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
        if accept.is_some_and(|accept| accept.contains("text/html")) {
            view.html()
        } else {
            view.text()
        }
    }
}

impl App for Gateway {
    type Route = Route;

    fn route(&self, method: &Method, path: &str) -> Result<(Route, &'static str), Problem> {
        route(method, path)
    }

    async fn call(self: Arc<Self>, route: Route, request: Request) -> Result<Response, Problem> {
        match route {
            Route::Dashboard => Ok(self.dashboard(&request).await),
            Route::Style => Ok(body::text(
                StatusCode::OK,
                "text/css; charset=utf-8",
                include_str!("../assets/style.css"),
            )),
            Route::OpenApi => Ok(body::text(
                StatusCode::OK,
                "application/json",
                include_str!("../assets/openapi.json"),
            )),
            Route::Topology => {
                Ok(body::json(StatusCode::OK, &json!({"parts": self.parts().await})))
            }
            Route::Orders => self.orders.pass(request).await,
            Route::Items => self.inventory.pass(request).await,
        }
    }
}

fn route(method: &Method, path: &str) -> Result<(Route, &'static str), Problem> {
    if path == "/" {
        return allow(method, "GET", &[Method::GET], (Route::Dashboard, "/"));
    }
    let not_found = || Problem::not_found("there is no such route");
    let segments = segments(path).ok_or_else(not_found)?;
    let (get, post) = (&[Method::GET], &[Method::POST]);
    match segments.as_slice() {
        ["assets", "style.css"] => allow(method, "GET", get, (Route::Style, "/assets/style.css")),
        ["openapi.json"] => allow(method, "GET", get, (Route::OpenApi, "/openapi.json")),
        ["api", "v1", "topology"] => {
            allow(method, "GET", get, (Route::Topology, "/api/v1/topology"))
        }
        ["api", "v1", "orders"] => allow(
            method,
            "GET, POST",
            &[Method::GET, Method::POST],
            (Route::Orders, "/api/v1/orders"),
        ),
        ["api", "v1", "orders", _] => {
            allow(method, "GET", get, (Route::Orders, "/api/v1/orders/{id}"))
        }
        ["api", "v1", "orders", _, "cancel"] => {
            allow(method, "POST", post, (Route::Orders, "/api/v1/orders/{id}/cancel"))
        }
        ["api", "v1", "items"] => allow(method, "GET", get, (Route::Items, "/api/v1/items")),
        ["api", "v1", "items", _] => allow(
            method,
            "GET, PUT",
            &[Method::GET, Method::PUT],
            (Route::Items, "/api/v1/items/{sku}"),
        ),
        ["api", "v1", "items", _, "receipts"] => {
            allow(method, "POST", post, (Route::Items, "/api/v1/items/{sku}/receipts"))
        }
        _ => Err(not_found()),
    }
}

fn allow(
    method: &Method,
    allowed: &'static str,
    methods: &[Method],
    route: (Route, &'static str),
) -> Result<(Route, &'static str), Problem> {
    if methods.contains(method) { Ok(route) } else { Err(Problem::method_not_allowed(allowed)) }
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
}
