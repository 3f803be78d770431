//! Why something was not done, and how that is answered.

use hyper::StatusCode;
use serde_json::{Value, json};
use service_kit::{BoxError, Problem, client::ClientError, database::DatabaseError};

use crate::domain::{MAX_AMOUNT, Status};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("the database failed")]
    Database(#[from] DatabaseError),
    /// inventory gave no answer, or one that cannot be used: to be tried again.
    #[error("inventory gave no answer")]
    Inventory(#[source] BoxError),
    /// The caller's own deadline passed before inventory answered.
    #[error("the caller's deadline passed")]
    Deadline,
    /// There is no such order.
    #[error("there is no such order")]
    NoOrder,
    /// Some items are not known.
    #[error("unknown items")]
    UnknownSkus(Vec<String>),
    /// Not enough is there: what each line lacks.
    #[error("not enough stock")]
    InsufficientStock(Value),
    /// The lines' prices are in several currencies.
    #[error("the lines are in different currencies")]
    MixedCurrencies,
    /// The total does not fit.
    #[error("the total is too large")]
    TotalTooLarge,
    /// The first request with this key is at work.
    #[error("the first request with this key is at work")]
    KeyAtWork,
    /// The key was used with another body.
    #[error("the key was used with another body")]
    KeyReused,
    /// The order cannot go there from where it is.
    #[error("the order is {0:?}")]
    Illegal(Status),
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Deadline => Self::Deadline,
            error => Self::Inventory(error.into()),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let unprocessable = |slug, title| Self::new(StatusCode::UNPROCESSABLE_ENTITY, slug, title);
        match error {
            Error::Database(error) => error.into(),
            Error::Inventory(source) => {
                Self::unavailable("inventory gave no answer").source(source)
            }
            Error::Deadline => Self::deadline_exceeded(),
            Error::NoOrder => Self::not_found("there is no such order"),
            Error::UnknownSkus(skus) => unprocessable("unknown-sku", "An item is not known")
                .detail(format!("not known: {}", skus.join(", ")))
                .extension("skus", json!(skus)),
            Error::InsufficientStock(lines) => Self::conflict(
                "insufficient-stock",
                "Not enough is in stock",
                "nothing was ordered",
            )
            .extension("lines", lines),
            Error::MixedCurrencies => {
                unprocessable("mixed-currencies", "The lines are in different currencies")
                    .detail("an order has one currency: place one for each")
            }
            Error::TotalTooLarge => unprocessable("total-too-large", "The total is too large")
                .detail(format!(
                    "a total is at most {MAX_AMOUNT} minor units: place several orders"
                )),
            Error::KeyAtWork => Self::conflict(
                "idempotency-key-at-work",
                "The first request with this key is at work",
                "try again in a moment",
            ),
            Error::KeyReused => unprocessable(
                "idempotency-key-reused",
                "The Idempotency-Key was used with another body",
            )
            .detail("send another key with another order"),
            Error::Illegal(status) => Self::conflict(
                "illegal-move",
                "The order is past that",
                format!("it is {}", status.name()),
            )
            .extension("order_status", json!(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_refusal_has_its_status_and_type() {
        for (error, status, slug) in [
            (Error::NoOrder, 404, "not-found"),
            (Error::KeyAtWork, 409, "idempotency-key-at-work"),
            (Error::InsufficientStock(json!([])), 409, "insufficient-stock"),
            (Error::Illegal(Status::Rejected), 409, "illegal-move"),
            (Error::KeyReused, 422, "idempotency-key-reused"),
            (Error::UnknownSkus(vec!["A".to_owned()]), 422, "unknown-sku"),
            (Error::MixedCurrencies, 422, "mixed-currencies"),
            (Error::TotalTooLarge, 422, "total-too-large"),
            (Error::Inventory("refused".into()), 503, "unavailable"),
            (ClientError::Deadline.into(), 504, "deadline-exceeded"),
            (ClientError::Timeout(Duration::ZERO).into(), 503, "unavailable"),
        ] {
            let members = Problem::from(error).members();
            assert_eq!(members["status"], status, "{members}");
            assert_eq!(members["type"], format!("/problems/{slug}"));
            assert!(!members.to_string().contains("refused"), "{members}");
        }
    }
}
