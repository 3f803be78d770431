//! The answers to idempotency keys, kept and given again.

use std::time::Duration;

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};
use service_kit::{
    Problem, Response, body,
    database::{Database, Lookup},
};
use tracing::instrument;
use uuid::Uuid;

use super::{Store, order};
use crate::{
    domain::{Order, Status},
    error::Error,
};

const FIND_KEYS: &str =
    "SELECT key, fingerprint, status, content_type, location, body FROM idempotency_keys
    WHERE key = ANY($1)";
const KEEP: &str =
    "UPDATE idempotency_keys SET status = $2, content_type = $3, location = $4, body = $5
    WHERE order_id = $1 AND status IS NULL";
const FORGET: &str =
    "DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(secs => $1)
    AND status IS NOT NULL";
const ORDER_OF_KEY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM orders WHERE id = (SELECT order_id FROM idempotency_keys WHERE key = $1)"
);
/// With what an order's JSON ends after its last member's text, the time of its last change.
const AFTER_TIME: &str = "\"}";

/// An answer that is kept and given again, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header Content-Type.
    pub content_type: String,
    /// The header Location.
    pub location: Option<String>,
    /// The body.
    pub body: String,
}

/// What is kept of a key.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    fingerprint: Vec<u8>,
    /// None while its order is at work.
    answer: Option<Answer>,
}

pub(super) fn lookup(database: Database) -> Lookup<String, Kept> {
    Lookup::new(database, FIND_KEYS, |row| {
        let answer = |status: i32| Answer {
            status: u16::try_from(status).expect("we wrote it"),
            content_type: row.get(3),
            location: row.get(4),
            body: row.get(5),
        };
        let answer = row.get::<_, Option<i32>>(2).map(answer);
        (row.get(0), Kept { fingerprint: row.get(1), answer })
    })
}

impl Answer {
    /// A problem as an answer.
    pub fn problem(problem: &Problem, trace_id: &str) -> Self {
        let status = problem.status().as_u16();
        let mut members = problem.members();
        members["trace_id"] = trace_id.into();
        Self {
            status,
            content_type: "application/problem+json".to_owned(),
            location: None,
            body: members.to_string(),
        }
    }

    /// An order's answer to the one who placed it.
    pub fn order(order: &Order) -> Self {
        Self {
            status: 201,
            content_type: "application/json".to_owned(),
            location: Some(format!("/v1/orders/{}", order.id)),
            body: serde_json::to_string(order)
                .expect("our types have string keys and cannot fail to serialise"),
        }
    }

    /// The answer of an order that is about to be confirmed: its body up to the time when that happens, which the
    /// database knows, and what follows.
    pub(super) fn around_time(mut order: Order) -> (Self, Option<String>) {
        order.status = Status::Confirmed;
        order.updated_at.clear();
        let mut answer = Self::order(&order);
        let rest = answer.body.split_off(answer.body.len() - AFTER_TIME.len());
        (answer, Some(rest))
    }

    /// On the wire.
    pub fn into_response(self) -> Response {
        let header = |text: &str| HeaderValue::from_str(text).expect("we wrote it, in ASCII");
        let mut response = Response::new(body::full(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).expect("we wrote it");
        response.headers_mut().insert(CONTENT_TYPE, header(&self.content_type));
        if let Some(location) = &self.location {
            response.headers_mut().insert(LOCATION, header(location));
        }
        response
    }
}

impl Store {
    /// The answer that a key got. None when the key is new, an error when it has another request or no answer yet.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn answer(&self, key: &str, fingerprint: &[u8]) -> Result<Option<Answer>, Error> {
        let Some(kept) = self.answers.find(key.to_owned()).await? else { return Ok(None) };
        if kept.fingerprint != fingerprint {
            return Err(Error::KeyReused);
        }
        Ok(Some(kept.answer.ok_or(Error::KeyAtWork)?))
    }

    /// Keeps the answer for an order's key unless it has one.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn keep_answer(&self, answer: &Answer, id: Uuid) -> Result<(), Error> {
        let Answer { content_type, location, body, .. } = answer;
        let status = i32::from(answer.status);
        self.database.execute(KEEP, &[&id, &status, content_type, location, body]).await?;
        Ok(())
    }

    /// Forgets answers that are older than `age`; a key with unfinished work is kept. Then the keys are free again.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn forget_answers(&self, age: Duration) -> Result<u64, Error> {
        Ok(self.database.execute(FORGET, &[&age.as_secs_f64()]).await?)
    }

    /// The order of a key that exists.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn order_of_key(&self, key: &str) -> Result<Order, Error> {
        let row = self.database.row(ORDER_OF_KEY, &[&key]).await?;
        row.map(|row| order(&row)).ok_or(Error::NoOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Money;

    #[test]
    fn the_parts_of_an_answer_around_the_time_make_up_the_order() {
        let order = Order {
            id: Uuid::nil(),
            customer: "\"}".to_owned(),
            status: Status::Pending,
            lines: Vec::new(),
            total: Money { minor: 1, currency: "EUR".to_owned() },
            created_at: "2026-01-01T00:00:00.000Z".to_owned(),
            updated_at: "2026-01-01T00:00:00.000Z".to_owned(),
        };
        let time = "2026-01-01T00:00:01.234Z";
        let (answer, rest) = Answer::around_time(order.clone());
        let confirmed = Order { status: Status::Confirmed, updated_at: time.to_owned(), ..order };
        let whole = Answer::order(&confirmed);
        assert_eq!(format!("{}{time}{}", answer.body, rest.unwrap()), whole.body);
        assert_eq!((answer.status, answer.location), (whole.status, whole.location));
    }
}
