//! inventory's routes.

use std::{sync::Arc, time::Duration};

use hyper::{HeaderMap, Method, StatusCode};
use prometheus::{IntCounterVec, Opts};
use serde_json::json;
use service_kit::{
    App, Kit, Problem, Request, Response, body, conditional,
    idempotency::Key,
    input::{List, Page, as_get, is_identifier, segments},
    metrics::register,
    workload::Verifier,
};
use uuid::Uuid;

use crate::{
    domain::{Item, ItemInput, ReceiptInput, Reservation, ReservationInput},
    error::Error,
    store::Store,
};

/// The largest body in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// The items, by SKU.
const LIST: List = List { tag: 'i', is_key: is_identifier };

/// How often a conditional change is tried, each time on what is there then.
const PUT_ATTEMPTS: usize = 5;

/// The service.
#[derive(Debug)]
pub struct Inventory {
    store: Store,
    callers: Verifier,
    body_timeout: Duration,
    /// `inventory_reservations_total{outcome}`: moves of reservations.
    reservations: IntCounterVec,
}

/// A recognised route.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /v1/items`.
    List,
    /// `GET /v1/items/{sku}`.
    Get(String),
    /// `PUT /v1/items/{sku}`.
    Put(String),
    /// `POST /v1/items/{sku}/receipts`.
    Receive(String),
    /// `PUT /v1/reservations/{order_id}`.
    Reserve(Uuid),
    /// `POST /v1/reservations/{order_id}/confirm`.
    Confirm(Uuid),
    /// `POST /v1/reservations/{order_id}/release`.
    Release(Uuid),
    /// `POST /v1/reservations/{order_id}/return`.
    Return(Uuid),
}

impl Inventory {
    /// The service over its store.
    pub fn new(store: Store, callers: Verifier, kit: &Kit) -> Self {
        let opts = Opts::new("inventory_reservations_total", "Moves of reservations by outcome");
        let reservations = IntCounterVec::new(opts, &["outcome"]).expect("the options are valid");
        Self {
            store,
            callers,
            body_timeout: kit.config.body_timeout,
            reservations: register(&kit.metrics.registry, reservations),
        }
    }

    async fn list(&self, request: &Request) -> Result<Response, Problem> {
        let page = Page::from_query(request.uri().query(), LIST)?;
        let mut items = self.store.items(&page).await?;
        let next = page.cut(LIST, &mut items, |item| item.sku.clone());
        Ok(body::json(StatusCode::OK, &json!({"items": items, "next_page_token": next})))
    }

    async fn put(&self, sku: &str, request: Request) -> Result<Response, Problem> {
        let headers = request.headers().clone();
        let input: ItemInput = self.read(request).await?;
        input.validate()?;
        let (item, is_new) = if conditional::is_conditional(&headers) {
            self.put_if(sku, &headers, &input).await?
        } else {
            self.store.put_item(sku, &input).await?
        };
        // Without a tag: what is there is more than what was sent (RFC 9110, 9.3.4).
        Ok(body::json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &item))
    }

    /// Makes or changes an item on the conditions of a request, which must hold at the moment of the change; true when it
    /// is new.
    async fn put_if(
        &self,
        sku: &str,
        headers: &HeaderMap,
        input: &ItemInput,
    ) -> Result<(Item, bool), Problem> {
        for _ in 0..PUT_ATTEMPTS {
            let current = match self.store.item(sku).await {
                Ok(item) => Some(item),
                Err(Error::NoItem(_)) => None,
                Err(error) => return Err(error.into()),
            };
            conditional::check_write(headers, current.as_ref())?;
            if let Some(item) = self.store.put_item_onto(sku, input, current.as_ref()).await? {
                return Ok((item, current.is_none()));
            }
        }
        Err(Problem::unavailable("the item changes all the time"))
    }

    async fn receive(&self, sku: &str, request: Request) -> Result<Response, Problem> {
        let key = Key::of(request.headers())?;
        let input: ReceiptInput = self.read(request).await?;
        input.validate()?;
        Ok(body::json(StatusCode::OK, &self.store.receive(&key, sku, input.quantity).await?))
    }

    async fn reserve(&self, order_id: Uuid, request: Request) -> Result<Response, Problem> {
        let input: ReservationInput = self.read(request).await?;
        input.validate()?;
        let reserved = self.store.reserve(order_id, input).await;
        let is_new = reserved.as_ref().is_ok_and(|(_, is_new)| *is_new);
        let reserved = reserved.map(|(reservation, _)| reservation);
        self.moved("reserved", reserved, if is_new { StatusCode::CREATED } else { StatusCode::OK })
    }

    /// Counts a reservation's move and answers it.
    fn moved(
        &self,
        outcome: &str,
        result: Result<Reservation, Error>,
        status: StatusCode,
    ) -> Result<Response, Problem> {
        let outcome = match &result {
            Ok(_) => outcome,
            Err(Error::InsufficientStock(_)) => "insufficient",
            Err(_) => "refused",
        };
        self.reservations.with_label_values(&[outcome]).inc();
        Ok(body::json(status, &result?))
    }

    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        mut request: Request,
    ) -> Result<T, Problem> {
        body::parse(&body::read(&mut request, BODY_BYTES, self.body_timeout).await?)
    }
}

impl App for Inventory {
    type Route = Route;

    fn route(&self, method: &Method, path: &str) -> Result<(Route, &'static str), Problem> {
        route(method, path)
    }

    async fn admit(&self, route: Option<&Route>, request: &mut Request) -> Result<(), Problem> {
        self.callers.admit(request.headers(), callers(route)).await
    }

    async fn call(self: Arc<Self>, route: Route, request: Request) -> Result<Response, Problem> {
        match route {
            // Boxed but for the most frequent one, which would carry the room for the others.
            Route::List => Box::pin(self.list(&request)).await,
            Route::Get(sku) => {
                conditional::answer(request.headers(), &self.store.item(&sku).await?)
            }
            Route::Put(sku) => Box::pin(self.put(&sku, request)).await,
            Route::Receive(sku) => Box::pin(self.receive(&sku, request)).await,
            Route::Reserve(order_id) => Box::pin(self.reserve(order_id, request)).await,
            Route::Confirm(id) => {
                let moved = Box::pin(self.store.confirm(id)).await;
                self.moved("confirmed", moved, StatusCode::OK)
            }
            Route::Release(id) => {
                let moved = Box::pin(self.store.release(id)).await;
                self.moved("released", moved, StatusCode::OK)
            }
            Route::Return(id) => {
                let moved = Box::pin(self.store.put_back(id)).await;
                self.moved("returned", moved, StatusCode::OK)
            }
        }
    }
}

/// The service accounts that may call a route: stock is held for orders and for nobody else.
fn callers(route: Option<&Route>) -> &'static [&'static str] {
    match route {
        None | Some(Route::List | Route::Get(_)) => &["gateway-sa", "orders-sa"],
        Some(Route::Put(_) | Route::Receive(_)) => &["gateway-sa"],
        Some(Route::Reserve(_) | Route::Confirm(_) | Route::Release(_) | Route::Return(_)) => {
            &["orders-sa"]
        }
    }
}

fn route(method: &Method, path: &str) -> Result<(Route, &'static str), Problem> {
    let not_found = || Problem::not_found("there is no such route");
    let segments = segments(path).ok_or_else(not_found)?;
    let sku = |sku: &str| if is_identifier(sku) { Ok(sku.to_owned()) } else { Err(not_found()) };
    let id =
        |id: &str| id.parse::<Uuid>().map_err(|_| Problem::not_found("an order's id is a UUID"));
    Ok(match (as_get(method), segments.as_slice()) {
        (&Method::GET, ["v1", "items"]) => (Route::List, "/v1/items"),
        (_, ["v1", "items"]) => return Err(Problem::method_not_allowed("GET, HEAD")),
        (&Method::GET, ["v1", "items", item]) => (Route::Get(sku(item)?), "/v1/items/{sku}"),
        (&Method::PUT, ["v1", "items", item]) => (Route::Put(sku(item)?), "/v1/items/{sku}"),
        (_, ["v1", "items", _]) => return Err(Problem::method_not_allowed("GET, HEAD, PUT")),
        (&Method::POST, ["v1", "items", item, "receipts"]) => {
            (Route::Receive(sku(item)?), "/v1/items/{sku}/receipts")
        }
        (_, ["v1", "items", _, "receipts"]) => return Err(Problem::method_not_allowed("POST")),
        (&Method::PUT, ["v1", "reservations", order]) => {
            (Route::Reserve(id(order)?), "/v1/reservations/{order_id}")
        }
        (_, ["v1", "reservations", _]) => return Err(Problem::method_not_allowed("PUT")),
        (&Method::POST, ["v1", "reservations", order, "confirm"]) => {
            (Route::Confirm(id(order)?), "/v1/reservations/{order_id}/confirm")
        }
        (&Method::POST, ["v1", "reservations", order, "release"]) => {
            (Route::Release(id(order)?), "/v1/reservations/{order_id}/release")
        }
        (&Method::POST, ["v1", "reservations", order, "return"]) => {
            (Route::Return(id(order)?), "/v1/reservations/{order_id}/return")
        }
        (_, ["v1", "reservations", _, "confirm" | "release" | "return"]) => {
            return Err(Problem::method_not_allowed("POST"));
        }
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
            (Method::GET, "/v1/items".to_owned(), Ok("/v1/items")),
            (Method::PUT, "/v1/items/A-1".to_owned(), Ok("/v1/items/{sku}")),
            (
                Method::POST,
                format!("/v1/reservations/{id}/return"),
                Ok("/v1/reservations/{order_id}/return"),
            ),
            (Method::HEAD, "/v1/items".to_owned(), Ok("/v1/items")),
            (Method::HEAD, "/v1/items/A-1".to_owned(), Ok("/v1/items/{sku}")),
            (Method::HEAD, format!("/v1/reservations/{id}"), Err(405)),
            (Method::DELETE, "/v1/items/A-1".to_owned(), Err(405)),
            (Method::PUT, "/v1/reservations/1".to_owned(), Err(404)),
            (Method::GET, "/v1/items/a%20b".to_owned(), Err(404)),
            (Method::GET, "/metrics".to_owned(), Err(404)),
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
