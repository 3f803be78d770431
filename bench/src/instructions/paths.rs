//! The hot paths: what is sent on each, to which service.

use hyper::{Method, StatusCode};
use local_stack::{Result, Service};
use serde_json::json;
use uuid::Uuid;

use crate::kept::Kept;

/// The item that is read, held and ordered: one of the catalogue's.
pub(crate) const ITEM: &str = "BOLT-M8";

/// A hot path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HotPath {
    /// A probe: answered before the pipeline.
    Probe,
    /// A path that there is not: parse, route, problem.
    Unmatched,
    /// A file of the gateway's own: the kit's whole pipeline around the cheapest handler.
    Asset,
    /// A request passed on to inventory, and its answer back.
    Pass,
    /// One item, read from PostgreSQL.
    Item,
    /// An order's stock held and taken: two requests.
    Reserve,
    /// An order, as its own service sees it: its statements, and its calls of inventory.
    Place,
}

impl HotPath {
    /// All of them, the cheap ones first.
    pub(crate) const ALL: [Self; 7] = [
        Self::Probe,
        Self::Unmatched,
        Self::Asset,
        Self::Pass,
        Self::Item,
        Self::Reserve,
        Self::Place,
    ];

    /// What its figure is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Probe => "gateway_probe",
            Self::Unmatched => "gateway_unmatched",
            Self::Asset => "gateway_asset",
            Self::Pass => "gateway_pass",
            Self::Item => "inventory_item",
            Self::Reserve => "inventory_reserve_and_confirm",
            Self::Place => "orders_place",
        }
    }

    /// The service whose instructions are counted.
    pub(crate) fn service(self) -> Service {
        match self {
            Self::Probe | Self::Unmatched | Self::Asset | Self::Pass => Service::Gateway,
            Self::Item | Self::Reserve => Service::Inventory,
            Self::Place => Service::Orders,
        }
    }

    /// How many times it is gone: enough that what happens by time and at the start does not count.
    pub(crate) fn times(self) -> u32 {
        match self {
            Self::Probe | Self::Unmatched | Self::Asset => 2000,
            Self::Pass | Self::Item => 1500,
            Self::Reserve | Self::Place => 800,
        }
    }

    /// Goes it once. Every answer must be the expected one.
    pub(crate) async fn go(self, connection: &mut Kept) -> Result<()> {
        let json = ("content-type", "application/json");
        match self {
            Self::Probe => get(connection, "/health", StatusCode::OK).await,
            Self::Unmatched => get(connection, "/nothing/here", StatusCode::NOT_FOUND).await,
            Self::Asset => get(connection, "/assets/live.js", StatusCode::OK).await,
            Self::Pass => get(connection, &format!("/api/v1/items/{ITEM}"), StatusCode::OK).await,
            Self::Item => get(connection, &format!("/v1/items/{ITEM}"), StatusCode::OK).await,
            Self::Reserve => {
                let order = format!("/v1/reservations/{}", Uuid::now_v7());
                let lines = [json!({"sku": ITEM, "quantity": 1})];
                let body = json!({"lines": lines, "ttl_seconds": 60}).to_string();
                let reserve = (Method::PUT, order.as_str());
                connection.ask(reserve, &[json], body, StatusCode::CREATED).await?;
                let confirm = format!("{order}/confirm");
                connection
                    .ask((Method::POST, &confirm), &[json], "", StatusCode::OK)
                    .await
                    .map(drop)
            }
            Self::Place => {
                let key = Uuid::now_v7().to_string();
                let lines = [json!({"sku": ITEM, "quantity": 1})];
                let body = json!({"customer": "ada", "lines": lines}).to_string();
                let headers = [json, ("idempotency-key", key.as_str())];
                let place = (Method::POST, "/v1/orders");
                connection.ask(place, &headers, body, StatusCode::CREATED).await.map(drop)
            }
        }
    }
}

async fn get(connection: &mut Kept, path: &str, expected: StatusCode) -> Result<()> {
    connection.ask((Method::GET, path), &[], "", expected).await.map(drop)
}
