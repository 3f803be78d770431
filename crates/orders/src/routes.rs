//! orders' routes.

use std::{sync::Arc, time::Duration};

use hyper::{Method, StatusCode};
use service_kit::{
    App, Kit, Problem, Request, Response, body, conditional,
    idempotency::Key,
    input::{List, Page, as_get, segments},
    workload::Verifier,
};
use uuid::Uuid;

use crate::{
    domain::{OrderInput, OrderPage},
    placing::Placing,
    store,
};

/// The largest body in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// The orders, by their ids as they are written.
const LIST: List =
    List { tag: 'o', is_key: |key| key.parse::<Uuid>().is_ok_and(|id| id.to_string() == key) };

/// The service.
#[derive(Debug)]
pub struct Orders {
    placing: Arc<Placing>,
    callers: Verifier,
    body_timeout: Duration,
}

/// A recognised route.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /v1/orders`.
    Place,
    /// `GET /v1/orders`.
    List,
    /// `GET /v1/orders/{id}`.
    Get(Uuid),
    /// `POST /v1/orders/{id}/cancel`.
    Cancel(Uuid),
}

impl Orders {
    /// The service over its parts.
    pub fn new(placing: Arc<Placing>, callers: Verifier, kit: &Kit) -> Self {
        Self { placing, callers, body_timeout: kit.config.body_timeout }
    }

    async fn place(&self, mut request: Request) -> Result<Response, Problem> {
        let key = Key::of(request.headers())?;
        let input: OrderInput =
            body::parse(&body::read(&mut request, BODY_BYTES, self.body_timeout).await?)?;
        input.validate()?;
        Ok(self.placing.place(&key, input).await?.into_response())
    }

    async fn list(&self, request: &Request) -> Result<Response, Problem> {
        let page = Page::from_query(request.uri().query(), LIST)?;
        let mut orders = self.placing.store.orders(page.size, store::after(&page)).await?;
        let next = page.cut(LIST, &mut orders, |order| order.id.to_string());
        Ok(body::json(StatusCode::OK, &OrderPage { orders, next_page_token: next }))
    }
}

impl App for Orders {
    type Route = Route;

    fn route(&self, method: &Method, path: &str) -> Result<(Route, &'static str), Problem> {
        route(method, path)
    }

    async fn admit(&self, _route: Option<&Route>, request: &mut Request) -> Result<(), Problem> {
        self.callers.admit(request.headers(), &["gateway-sa"]).await
    }

    async fn call(self: Arc<Self>, route: Route, request: Request) -> Result<Response, Problem> {
        match route {
            // Boxed: a read would carry the room for them.
            Route::Place => Box::pin(self.place(request)).await,
            Route::List => Box::pin(self.list(&request)).await,
            Route::Get(id) => {
                conditional::answer(request.headers(), &self.placing.store.order(id).await?)
            }
            Route::Cancel(id) => {
                let order = Box::pin(self.placing.cancel(id)).await?;
                Ok(body::json(StatusCode::OK, &order))
            }
        }
    }
}

fn route(method: &Method, path: &str) -> Result<(Route, &'static str), Problem> {
    let not_found = || Problem::not_found("there is no such route");
    let segments = segments(path).ok_or_else(not_found)?;
    let id =
        |id: &str| id.parse::<Uuid>().map_err(|_| Problem::not_found("an order's id is a UUID"));
    Ok(match (as_get(method), segments.as_slice()) {
        (&Method::POST, ["v1", "orders"]) => (Route::Place, "/v1/orders"),
        (&Method::GET, ["v1", "orders"]) => (Route::List, "/v1/orders"),
        (_, ["v1", "orders"]) => return Err(Problem::method_not_allowed("GET, HEAD, POST")),
        (&Method::GET, ["v1", "orders", order]) => (Route::Get(id(order)?), "/v1/orders/{id}"),
        (_, ["v1", "orders", _]) => return Err(Problem::method_not_allowed("GET, HEAD")),
        (&Method::POST, ["v1", "orders", order, "cancel"]) => {
            (Route::Cancel(id(order)?), "/v1/orders/{id}/cancel")
        }
        (_, ["v1", "orders", _, "cancel"]) => return Err(Problem::method_not_allowed("POST")),
        _ => return Err(not_found()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_recognised_by_template() {
        let id = Uuid::nil();
        let cases = [
            (Method::POST, "/v1/orders".to_owned(), Ok("/v1/orders")),
            (Method::GET, format!("/v1/orders/{id}"), Ok("/v1/orders/{id}")),
            (Method::POST, format!("/v1/orders/{id}/cancel"), Ok("/v1/orders/{id}/cancel")),
            (Method::HEAD, "/v1/orders".to_owned(), Ok("/v1/orders")),
            (Method::HEAD, format!("/v1/orders/{id}"), Ok("/v1/orders/{id}")),
            (Method::HEAD, format!("/v1/orders/{id}/cancel"), Err(405)),
            (Method::DELETE, "/v1/orders".to_owned(), Err(405)),
            (Method::GET, "/v1/orders/1".to_owned(), Err(404)),
            (Method::GET, "/info".to_owned(), Err(404)),
        ];
        for (method, path, expected) in cases {
            let routed = route(&method, &path).map(|(_, template)| template);
            assert_eq!(
                routed.map_err(|problem| problem.status().as_u16()),
                expected,
                "{method} {path}"
            );
        }
    }
}
