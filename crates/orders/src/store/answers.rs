//! The answers to idempotency keys, kept and given again.

use std::time::Duration;

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};
use service_kit::{Problem, Response, body};
use tokio_postgres::GenericClient;
use tracing::instrument;
use uuid::Uuid;

use super::{COLUMNS, Store, order};
use crate::{domain::Order, error::Error};

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

    /// Keeps it for an order's key unless that has one.
    pub(super) async fn keep(&self, client: &impl GenericClient, id: Uuid) -> Result<(), Error> {
        let update =
            "UPDATE idempotency_keys SET status = $2, content_type = $3, location = $4, body = $5
            WHERE order_id = $1 AND status IS NULL";
        let status = i32::from(self.status);
        client
            .execute(update, &[&id, &status, &self.content_type, &self.location, &self.body])
            .await?;
        Ok(())
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
        let client = self.database.get().await?;
        let sql = "SELECT fingerprint, status, content_type, location, body FROM idempotency_keys WHERE key = $1";
        let statement = client.prepare_cached(sql).await?;
        let Some(row) = client.query_opt(&statement, &[&key]).await? else { return Ok(None) };
        if row.get::<_, &[u8]>("fingerprint") != fingerprint {
            return Err(Error::KeyReused);
        }
        let status: i32 = row.get::<_, Option<i32>>("status").ok_or(Error::KeyAtWork)?;
        Ok(Some(Answer {
            status: u16::try_from(status).expect("we wrote it"),
            content_type: row.get("content_type"),
            location: row.get("location"),
            body: row.get("body"),
        }))
    }

    /// Keeps the answer for an order's key unless it has one.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn keep_answer(&self, answer: &Answer, id: Uuid) -> Result<(), Error> {
        let client = self.database.get().await?;
        answer.keep(&**client, id).await
    }

    /// Forgets answers that are older than `age`; a key with unfinished work is kept. Then the keys are free again.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn forget_answers(&self, age: Duration) -> Result<u64, Error> {
        let client = self.database.get().await?;
        let delete =
            "DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(secs => $1)
            AND status IS NOT NULL";
        Ok(client.execute(delete, &[&age.as_secs_f64()]).await?)
    }

    /// The order of a key that exists.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn order_of_key(&self, key: &str) -> Result<Order, Error> {
        let client = self.database.get().await?;
        let sql = format!(
            "SELECT {COLUMNS} FROM orders WHERE id = (SELECT order_id FROM idempotency_keys WHERE key = $1)"
        );
        client.query_opt(&sql, &[&key]).await?.map(|row| order(&row)).ok_or(Error::NoOrder)
    }
}
