//! The answers to idempotency keys, kept and given again.

use std::time::Duration;

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};
use service_kit::{
    Problem, Response, body,
    database::{Database, Lookup},
    idempotency::Key,
};
use tracing::instrument;
use uuid::Uuid;

use super::Store;
use crate::{
    domain::{Order, Status},
    error::Error,
};

const FIND_KEYS: &str =
    "SELECT key, fingerprint, status, content_type, location, body, order_id, caller
    FROM idempotency_keys WHERE key = ANY($1)";
const KEEP: &str =
    "UPDATE idempotency_keys SET status = $2, content_type = $3, location = $4, body = $5
    WHERE order_id = $1 AND status IS NULL";
/// A part of those that are old enough: a statement that takes too long is cancelled with all that it did.
const FORGET: &str = "DELETE FROM idempotency_keys WHERE key = ANY(ARRAY(
        SELECT key FROM idempotency_keys WHERE created_at < now() - make_interval(secs => $1)
            AND status IS NOT NULL ORDER BY created_at LIMIT 1000))
    AND status IS NOT NULL";
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
    order: Uuid,
    /// None: stored by a program that knew no callers, or for nobody who is known.
    caller: Option<String>,
    /// None while its order is at work.
    answer: Option<Answer>,
}

/// What is known of a caller's key and request.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: an order for it is to be stored there.
    New(Place),
    /// This order of it has no answer yet.
    AtWork(Uuid),
    /// Its answer.
    Answered(Answer),
}

impl Known {
    /// The answer, where there must be a request with the key: an error while that is at work.
    pub fn answer(self) -> Result<Answer, Error> {
        match self {
            Self::Answered(answer) => Ok(answer),
            Self::New(_) | Self::AtWork(_) => Err(Error::KeyAtWork),
        }
    }
}

/// Where a caller's key is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Under the key itself: no other caller has used it.
    First,
    /// Under the caller's own text, beside another caller's.
    Beside,
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
        let (order, caller) = (row.get(6), row.get(7));
        (row.get(0), Kept { fingerprint: row.get(1), order, caller, answer })
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
    /// What is known of a caller's key: by the row under the caller's own text, else by the one under the key itself where
    /// that may answer this caller. An error when it has another request.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn known(&self, key: &Key, fingerprint: &[u8]) -> Result<Known, Error> {
        let texts = [Some(key.text().to_owned()), key.callers_own()];
        let mut rows = self.answers.find_all(texts.into_iter().flatten()).await?.into_iter();
        let (first, own) = (rows.next().flatten(), rows.next().flatten());
        let kept = match (own, first) {
            (Some(own), _) => own,
            (None, Some(first)) if key.is_answered_by(first.caller.as_deref()) => first,
            (None, Some(_)) => return Ok(Known::New(Place::Beside)),
            (None, None) => return Ok(Known::New(Place::First)),
        };
        if kept.fingerprint != fingerprint {
            return Err(Error::KeyReused);
        }
        Ok(kept.answer.map_or(Known::AtWork(kept.order), Known::Answered))
    }

    /// Keeps the answer for an order's key unless it has one.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn keep_answer(&self, answer: &Answer, id: Uuid) -> Result<(), Error> {
        let Answer { content_type, location, body, .. } = answer;
        let status = i32::from(answer.status);
        self.database.execute(KEEP, &[&id, &status, content_type, location, body]).await?;
        Ok(())
    }

    /// Forgets up to 1000 answers that are older than `age`; a key with unfinished work is kept. Then the keys are free
    /// again.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn forget_answers(&self, age: Duration) -> Result<u64, Error> {
        Ok(self.database.execute(FORGET, &[&age.as_secs_f64()]).await?)
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
