//! Orders and the answers to their keys in PostgreSQL.

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};
use service_kit::{
    BoxError, Kit, Problem, Response, body,
    config::DatabaseConfig,
    database::{Database, DatabaseError, Migration},
    input::Page,
};
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use crate::{
    domain::{Money, Order, PricedLine, Status},
    error::Error,
};

const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "orders", sql: include_str!("../migrations/0001_orders.sql") }];

/// How long one who works on an order has it alone; longer than any request.
const LEASE: &str = "interval '15 seconds'";

const COLUMNS: &str = r#"id, customer, status, lines, total_minor, currency,
    to_char(created_at AT TIME ZONE 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created,
    to_char(updated_at AT TIME ZONE 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS updated"#;

/// The state of orders.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
}

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

/// Was the key free?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The order is in the store now.
    New,
    /// The key was used before, perhaps a moment ago.
    Earlier,
}

impl Store {
    /// The store; the database is reached and migrated in the background.
    pub fn connect(config: &DatabaseConfig, kit: &Kit) -> Result<Self, BoxError> {
        Ok(Self { database: Database::connect(config, MIGRATIONS, kit)? })
    }

    /// The answer that a key got. None when the key is new, an error when it has another request or no answer yet.
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

    /// Commits a new order under its key, with a lease.
    pub async fn begin(
        &self,
        key: &str,
        fingerprint: &[u8],
        id: Uuid,
        customer: &str,
        lines: &[PricedLine],
        total: &Money,
    ) -> Result<Begun, Error> {
        let mut client = self.database.get().await?;
        let transaction = client.transaction().await?;
        let insert = format!(
            "INSERT INTO orders (id, customer, status, lines, total_minor, currency, lease_until)
             VALUES ($1, $2, 'pending', $3, $4, $5, now() + {LEASE})"
        );
        transaction
            .execute(&insert, &[&id, &customer, &Json(lines), &total.minor, &total.currency])
            .await?;
        let insert = "INSERT INTO idempotency_keys (key, fingerprint, order_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        if transaction.execute(insert, &[&key, &fingerprint, &id]).await? == 0 {
            return Ok(Begun::Earlier);
        }
        transaction.commit().await?;
        Ok(Begun::New)
    }

    /// Keeps the answer for an order's key unless it has one.
    pub async fn keep_answer(&self, answer: &Answer, id: Uuid) -> Result<(), Error> {
        let client = self.database.get().await?;
        let update =
            "UPDATE idempotency_keys SET status = $2, content_type = $3, location = $4, body = $5
            WHERE order_id = $1 AND status IS NULL";
        let status = i32::from(answer.status);
        client
            .execute(update, &[&id, &status, &answer.content_type, &answer.location, &answer.body])
            .await?;
        Ok(())
    }

    /// Moves a pending order to its end; false when it is not pending any more.
    pub async fn finish(&self, id: Uuid, status: Status) -> Result<bool, Error> {
        let client = self.database.get().await?;
        let update = "UPDATE orders SET status = $2, settled = true, updated_at = now()
            WHERE id = $1 AND status = 'pending'";
        Ok(client.execute(update, &[&id, &status.name()]).await? == 1)
    }

    /// Marks an order as cancelled, its stock still to be given back; false when it was cancelled before.
    pub async fn cancel(&self, id: Uuid) -> Result<bool, Error> {
        let client = self.database.get().await?;
        let update = format!(
            "UPDATE orders SET status = 'cancelled', settled = false, updated_at = now(), lease_until = now() + {LEASE}
             WHERE id = $1 AND status IN ('pending', 'confirmed')"
        );
        if client.execute(&update, &[&id]).await? == 1 {
            return Ok(true);
        }
        drop(client);
        match self.order(id).await?.status {
            Status::Cancelled => Ok(false),
            status => Err(Error::Illegal(status)),
        }
    }

    /// Nothing is left to do for a cancelled order.
    pub async fn settled(&self, id: Uuid) -> Result<(), Error> {
        let client = self.database.get().await?;
        client
            .execute(
                "UPDATE orders SET settled = true WHERE id = $1 AND status = 'cancelled'",
                &[&id],
            )
            .await?;
        Ok(())
    }

    /// Takes up one order that somebody left unfinished, with a new lease.
    pub async fn take_up(&self) -> Result<Option<Order>, Error> {
        let client = self.database.get().await?;
        let update = format!(
            "UPDATE orders SET lease_until = now() + {LEASE} WHERE id =
                (SELECT id FROM orders WHERE NOT settled AND lease_until < now()
                 ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING {COLUMNS}"
        );
        Ok(client.query_opt(&update, &[]).await?.map(|row| order(&row)))
    }

    /// One order.
    pub async fn order(&self, id: Uuid) -> Result<Order, Error> {
        let client = self.database.get().await?;
        let statement =
            client.prepare_cached(&format!("SELECT {COLUMNS} FROM orders WHERE id = $1")).await?;
        client.query_opt(&statement, &[&id]).await?.map(|row| order(&row)).ok_or(Error::NoOrder)
    }

    /// The order of a key that exists.
    pub async fn order_of_key(&self, key: &str) -> Result<Order, Error> {
        let client = self.database.get().await?;
        let sql = format!(
            "SELECT {COLUMNS} FROM orders WHERE id = (SELECT order_id FROM idempotency_keys WHERE key = $1)"
        );
        client.query_opt(&sql, &[&key]).await?.map(|row| order(&row)).ok_or(Error::NoOrder)
    }

    /// A page of orders, the newest first, with one more than asked for where there is one.
    pub async fn orders(
        &self,
        size: i64,
        after: Option<Uuid>,
    ) -> Result<Vec<Order>, DatabaseError> {
        let client = self.database.get().await?;
        let sql = format!("SELECT {COLUMNS} FROM orders WHERE id < $1 ORDER BY id DESC LIMIT $2");
        let statement = client.prepare_cached(&sql).await?;
        let rows = client.query(&statement, &[&after.unwrap_or(Uuid::max()), &(size + 1)]).await?;
        Ok(rows.iter().map(order).collect())
    }
}

/// The order after which a page begins.
pub fn after(page: &Page) -> Result<Option<Uuid>, Problem> {
    let parse = |token: &String| {
        token.parse().map_err(|_| Problem::bad_request("page_token is not one of ours"))
    };
    page.after.as_ref().map(parse).transpose()
}

fn order(row: &Row) -> Order {
    let Json(lines) = row.get::<_, Json<Vec<PricedLine>>>("lines");
    Order {
        id: row.get("id"),
        customer: row.get("customer"),
        status: Status::from_name(row.get("status")),
        lines,
        total: Money { minor: row.get("total_minor"), currency: row.get("currency") },
        created_at: row.get("created"),
        updated_at: row.get("updated"),
    }
}
