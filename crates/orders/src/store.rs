//! Orders and the answers to their keys in PostgreSQL.

mod answers;

use std::time::Duration;

use service_kit::{
    BoxError, Kit, Problem,
    config::DatabaseConfig,
    database::{Database, DatabaseError, Migration},
    input::Page,
};
use tokio_postgres::{Row, types::Json};
use tracing::instrument;
use uuid::Uuid;

pub use self::answers::Answer;
use crate::{
    domain::{Money, Order, PricedLine, Status},
    error::Error,
};

const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "orders", sql: include_str!("../migrations/0001_orders.sql") }];

const COLUMNS: &str = r#"id, customer, status, lines, total_minor, currency,
    to_char(created_at AT TIME ZONE 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created,
    to_char(updated_at AT TIME ZONE 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS updated"#;

/// The state of orders.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    /// Seconds for which one who works on an order has it alone.
    lease: f64,
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
    pub fn connect(config: &DatabaseConfig, lease: Duration, kit: &Kit) -> Result<Self, BoxError> {
        let database = Database::connect(config, MIGRATIONS, kit)?;
        Ok(Self { database, lease: lease.as_secs_f64() })
    }

    /// Commits a new order under its key, with a lease.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
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
        let insert =
            "INSERT INTO orders (id, customer, status, lines, total_minor, currency, lease_until)
            VALUES ($1, $2, 'pending', $3, $4, $5, now() + make_interval(secs => $6))";
        let (minor, currency) = (&total.minor, &total.currency);
        transaction
            .execute(insert, &[&id, &customer, &Json(lines), minor, currency, &self.lease])
            .await?;
        let insert = "INSERT INTO idempotency_keys (key, fingerprint, order_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        if transaction.execute(insert, &[&key, &fingerprint, &id]).await? == 0 {
            return Ok(Begun::Earlier);
        }
        transaction.commit().await?;
        Ok(Begun::New)
    }

    /// Moves a pending order to its end, and with a rejection keeps its answer unless the key has one, both or neither:
    /// what is told must stay true. False when the order is not pending any more.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn finish(
        &self,
        id: Uuid,
        status: Status,
        rejection: Option<&Answer>,
    ) -> Result<bool, Error> {
        let mut client = self.database.get().await?;
        let transaction = client.transaction().await?;
        let update = "UPDATE orders SET status = $2, settled = true, updated_at = now()
            WHERE id = $1 AND status = 'pending'";
        let is_moved = transaction.execute(update, &[&id, &status.name()]).await? == 1;
        if let (true, Some(answer)) = (is_moved, rejection) {
            answer.keep(&*transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(is_moved)
    }

    /// Marks an order as cancelled, its stock still to be given back; false when it was cancelled before.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn cancel(&self, id: Uuid) -> Result<bool, Error> {
        let client = self.database.get().await?;
        let update = "UPDATE orders SET status = 'cancelled', settled = false, updated_at = now(),
            lease_until = now() + make_interval(secs => $2)
            WHERE id = $1 AND status IN ('pending', 'confirmed')";
        if client.execute(update, &[&id, &self.lease]).await? == 1 {
            return Ok(true);
        }
        drop(client);
        match self.order(id).await?.status {
            Status::Cancelled => Ok(false),
            status => Err(Error::Illegal(status)),
        }
    }

    /// Nothing is left to do for a cancelled order.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
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
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn take_up(&self) -> Result<Option<Order>, Error> {
        let client = self.database.get().await?;
        let update = format!(
            "UPDATE orders SET lease_until = now() + make_interval(secs => $1) WHERE id =
                (SELECT id FROM orders WHERE NOT settled AND lease_until < now()
                 ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING {COLUMNS}"
        );
        Ok(client.query_opt(&update, &[&self.lease]).await?.map(|row| order(&row)))
    }

    /// Ends a lease after a failed attempt: the next one comes after 1, 2, 4 ... 32 seconds.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn postpone(&self, id: Uuid) -> Result<(), Error> {
        let client = self.database.get().await?;
        let update = "UPDATE orders SET attempts = attempts + 1,
            lease_until = now() + make_interval(secs => power(2, least(attempts, 5)))
            WHERE id = $1 AND NOT settled";
        client.execute(update, &[&id]).await?;
        Ok(())
    }

    /// How many orders something is left to do for, and how many seconds ago the oldest of them changed.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn unsettled(&self) -> Result<(i64, f64), DatabaseError> {
        let client = self.database.get().await?;
        let sql =
            "SELECT count(*), coalesce(extract(epoch FROM now() - min(updated_at)), 0)::float8
            FROM orders WHERE NOT settled";
        let row = client.query_one(sql, &[]).await?;
        Ok((row.get(0), row.get(1)))
    }

    /// One order.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn order(&self, id: Uuid) -> Result<Order, Error> {
        let client = self.database.get().await?;
        let statement =
            client.prepare_cached(&format!("SELECT {COLUMNS} FROM orders WHERE id = $1")).await?;
        client.query_opt(&statement, &[&id]).await?.map(|row| order(&row)).ok_or(Error::NoOrder)
    }

    /// A page of orders, the newest first, with one more than asked for where there is one.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
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
