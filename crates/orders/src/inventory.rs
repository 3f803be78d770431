//! inventory as orders sees it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::{Method, Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::client::{Client, json_body};
use uuid::Uuid;

use crate::{
    domain::{Line, Money, PricedLine},
    error::Error,
};

/// How long one answer may take.
pub const RESPONSE: Duration = Duration::from_secs(3);
/// How many prices one order asks for at the same time.
const PRICES_AT_ONCE: usize = 4;
/// How long stock is held for an order that is being placed; the worker has taken it up long before.
const HOLD_SECONDS: i32 = 60;

/// A client of inventory.
#[derive(Debug, Clone)]
pub struct Inventory {
    base: Uri,
    client: Client,
}

/// What came of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It is done, now or before.
    Done,
    /// The reservation is in a state from which it cannot.
    Closed,
}

impl Inventory {
    /// inventory at this address.
    pub fn new(base: Uri, client: Client) -> Self {
        Self { base, client }
    }

    /// The lines with their items' prices now.
    pub async fn price(&self, lines: &[Line]) -> Result<Vec<PricedLine>, Error> {
        let prices: Vec<_> = lines.iter().map(|line| self.unit_price(&line.sku)).collect();
        let prices: Vec<_> = stream::iter(prices).buffered(PRICES_AT_ONCE).try_collect().await?;
        let mut priced = Vec::with_capacity(lines.len());
        let mut unknown = Vec::new();
        for (line, price) in lines.iter().zip(prices) {
            match price {
                Some(unit_price) => {
                    let (sku, quantity) = (line.sku.clone(), line.quantity);
                    priced.push(PricedLine { sku, quantity, unit_price });
                }
                None => unknown.push(line.sku.clone()),
            }
        }
        if unknown.is_empty() { Ok(priced) } else { Err(Error::UnknownSkus(unknown)) }
    }

    /// What an item costs now; none when there is no such item.
    async fn unit_price(&self, sku: &str) -> Result<Option<Money>, Error> {
        #[derive(Deserialize)]
        struct Item {
            unit_price: Money,
        }
        let response = self.send(Method::GET, &format!("v1/items/{sku}"), Bytes::new()).await?;
        match response.status() {
            StatusCode::OK => {
                let item: Item = serde_json::from_slice(response.body())
                    .map_err(|error| Error::Inventory(error.into()))?;
                Ok(Some(item.unit_price))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(unexpected(status)),
        }
    }

    /// Holds an order's stock, all lines or none.
    pub async fn reserve(&self, order_id: Uuid, lines: &[PricedLine]) -> Result<Moved, Error> {
        #[derive(Serialize)]
        struct Hold<'a> {
            lines: Vec<Held<'a>>,
            ttl_seconds: i32,
        }
        #[derive(Serialize)]
        struct Held<'a> {
            sku: &'a str,
            quantity: i64,
        }
        let lines =
            lines.iter().map(|line| Held { sku: &line.sku, quantity: line.quantity }).collect();
        let body = json_body(&Hold { lines, ttl_seconds: HOLD_SECONDS });
        let response = self.send(Method::PUT, &format!("v1/reservations/{order_id}"), body).await?;
        match response.status() {
            StatusCode::OK | StatusCode::CREATED => Ok(Moved::Done),
            StatusCode::CONFLICT => {
                let mut problem: Value =
                    serde_json::from_slice(response.body()).unwrap_or_default();
                match problem["type"].as_str() {
                    Some("/problems/insufficient-stock") => {
                        Err(Error::InsufficientStock(problem["lines"].take()))
                    }
                    Some("/problems/reservation-closed") => Ok(Moved::Closed),
                    _ => Err(unexpected(StatusCode::CONFLICT)),
                }
            }
            status => Err(unexpected(status)),
        }
    }

    /// Takes the held stock off the shelf.
    pub async fn confirm(&self, order_id: Uuid) -> Result<Moved, Error> {
        self.close(order_id, "confirm").await
    }

    /// Gives held stock back.
    pub async fn release(&self, order_id: Uuid) -> Result<Moved, Error> {
        self.close(order_id, "release").await
    }

    /// Puts a confirmed order's stock back on the shelf.
    pub async fn put_back(&self, order_id: Uuid) -> Result<Moved, Error> {
        self.close(order_id, "return").await
    }

    async fn close(&self, order_id: Uuid, verb: &str) -> Result<Moved, Error> {
        let path = format!("v1/reservations/{order_id}/{verb}");
        let response = self.send(Method::POST, &path, Bytes::new()).await?;
        match response.status() {
            StatusCode::OK => Ok(Moved::Done),
            StatusCode::CONFLICT => Ok(Moved::Closed),
            status => Err(unexpected(status)),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .expect("the address and identifiers were checked when they came in");
        Ok(self.client.send(request).await?)
    }
}

fn unexpected(status: StatusCode) -> Error {
    Error::Inventory(format!("inventory answered {status}").into())
}
