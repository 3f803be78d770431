//! Why something was not done, and how that is answered.

use serde_json::json;
use service_kit::{Problem, database::DatabaseError};

use crate::domain::{Shortage, Status};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("the database failed")]
    Database(#[from] DatabaseError),
    /// There is no such item.
    #[error("there is no item {0}")]
    NoItem(String),
    /// There is no such reservation.
    #[error("there is no such reservation")]
    NoReservation,
    /// Some lines name items that are not there.
    #[error("unknown items")]
    UnknownSkus(Vec<String>),
    /// Not enough is there.
    #[error("not enough stock")]
    InsufficientStock(Vec<Shortage>),
    /// The reservation exists with other lines.
    #[error("the reservation has other lines")]
    OtherLines,
    /// The reservation is past the point where that could be done.
    #[error("the reservation is {0:?}")]
    Closed(Status),
    /// The key was used for another receipt.
    #[error("the key was used for another receipt")]
    KeyReused,
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::NoItem(sku) => Self::not_found(format!("there is no item {sku}")),
            Error::NoReservation => Self::not_found("there is no such reservation"),
            Error::UnknownSkus(skus) => Self::new(
                hyper::StatusCode::UNPROCESSABLE_ENTITY,
                "unknown-sku",
                "An item is not known",
            )
            .detail(format!("not known: {}", skus.join(", ")))
            .extension("skus", json!(skus)),
            Error::InsufficientStock(shortages) => Self::conflict(
                "insufficient-stock",
                "Not enough is in stock",
                "nothing was reserved",
            )
            .extension("lines", json!(shortages)),
            Error::OtherLines => Self::conflict(
                "reservation-differs",
                "The reservation has other lines",
                "a reservation's lines do not change",
            ),
            Error::Closed(status) => Self::conflict(
                "reservation-closed",
                "The reservation is past that",
                format!("it is {}", status.name()),
            ),
            Error::KeyReused => Self::new(
                hyper::StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The Idempotency-Key was used for another request",
            )
            .detail("send another key with another receipt"),
        }
    }
}
