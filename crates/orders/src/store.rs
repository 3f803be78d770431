//! Orders and the answers to their keys in PostgreSQL.

/// The columns of an order, as `order` reads them.
macro_rules! columns {
    () => {
        concat!(
            "id, customer, status, lines, total_minor, currency, ",
            rfc3339!("created_at"),
            ", ",
            rfc3339!("updated_at")
        )
    };
}

/// A time as text.
macro_rules! rfc3339 {
    ($time:literal) => {
        concat!("to_char(", $time, " AT TIME ZONE 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
    };
}

mod answers;

use std::time::Duration;

use service_kit::{
    BoxError, Kit,
    config::DatabaseConfig,
    database::{Database, DatabaseError, Lookup, Migration, Parameters},
    idempotency::Key,
    input::Page,
};
use tokio_postgres::{Row, types::Json};
use tracing::instrument;
use uuid::Uuid;

use self::answers::Kept;
pub use self::answers::{Answer, Known, Place};
use crate::{
    domain::{Money, Order, PricedLine, Status},
    error::Error,
};

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "orders", sql: include_str!("../migrations/0001_orders.sql") },
    Migration {
        version: 2,
        name: "room for answers",
        sql: include_str!("../migrations/0002_room_for_answers.sql"),
    },
    Migration { version: 3, name: "callers", sql: include_str!("../migrations/0003_callers.sql") },
];

/// Commits an order with its key, whose row comes from these rows.
macro_rules! begin {
    ($rows:literal) => {
        concat!(
            "WITH new AS (INSERT INTO idempotency_keys (key, fingerprint, order_id, caller)
                SELECT $1, $2, $3, $9::text ",
            $rows,
            " ON CONFLICT DO NOTHING RETURNING order_id)
            INSERT INTO orders (id, customer, status, lines, total_minor, currency, lease_until)
                SELECT order_id, $4, 'pending', $5, $6, $7, now() + make_interval(secs => $8) FROM new
            RETURNING ",
            rfc3339!("created_at")
        )
    };
}

/// No row: the key was used before, perhaps a moment ago.
const BEGIN: &str = begin!("");
/// Under a caller's own text, beside the row of another caller with the same key. It must still be there when this is
/// committed: were it forgotten meanwhile, this caller might begin under the key itself at the same time.
const BEGIN_BESIDE: &str = begin!(
    "FROM (SELECT FROM idempotency_keys WHERE key = $10 AND caller <> $9 FOR KEY SHARE) AS first"
);
/// No row: the order is not pending any more. Null: its key has an answer already, or is forgotten. Both rows are named
/// by `$1`: a join might be planned, while the tables are small, to read all keys.
const FINISH: &str = concat!(
    "WITH moved AS (UPDATE orders SET status = $2, settled = $2 = 'confirmed', updated_at = now()
        WHERE id = $1 AND status = 'pending' RETURNING id),
    kept AS (UPDATE idempotency_keys
        SET status = $3, content_type = $4, location = $5, body = concat($6::text, ",
    rfc3339!("now()"),
    " || $7::text)
        FROM moved WHERE order_id = $1 AND status IS NULL RETURNING body)
    SELECT body FROM moved LEFT JOIN kept ON true"
);
const CANCEL: &str = "UPDATE orders SET status = 'cancelled', settled = false, updated_at = now(),
        lease_until = now() + make_interval(secs => $2)
    WHERE id = $1 AND status IN ('pending', 'confirmed')";
const SETTLED: &str =
    "UPDATE orders SET settled = true WHERE id = $1 AND status IN ('cancelled', 'rejected')";
const TAKE_UP: &str = concat!(
    "UPDATE orders SET lease_until = now() + make_interval(secs => $1) WHERE id =
        (SELECT id FROM orders WHERE NOT settled AND lease_until < now()
         ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING ",
    columns!()
);
const POSTPONE: &str = "UPDATE orders SET attempts = attempts + 1,
        lease_until = now() + make_interval(secs => power(2, least(attempts, 5)))
    WHERE id = $1 AND NOT settled";
const UNSETTLED: &str =
    "SELECT count(*), coalesce(extract(epoch FROM now() - min(updated_at)), 0)::float8
    FROM orders WHERE NOT settled";
const FIND_ORDERS: &str = concat!("SELECT ", columns!(), " FROM orders WHERE id = ANY($1)");
const ORDERS: &str =
    concat!("SELECT ", columns!(), " FROM orders WHERE id < $1 ORDER BY id DESC LIMIT $2");

/// The state of orders.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    orders: Lookup<Uuid, Order>,
    answers: Lookup<String, Kept>,
    /// Seconds for which one who works on an order has it alone.
    lease: f64,
}

/// What came of finishing an order.
#[derive(Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is at its end. With it its key got this answer, unless it had one already.
    Now(Option<Answer>),
    /// It was not pending any more.
    Elsewhere,
}

impl Store {
    /// The store; the database is reached and migrated in the background.
    pub fn connect(config: &DatabaseConfig, lease: Duration, kit: &Kit) -> Result<Self, BoxError> {
        let database = Database::connect(config, MIGRATIONS, kit)?;
        let orders = Lookup::new(database.clone(), FIND_ORDERS, |row| (row.get(0), order(row)));
        let answers = answers::lookup(database.clone());
        Ok(Self { database, orders, answers, lease: lease.as_secs_f64() })
    }

    /// Commits a new order under its key, with a lease, and gives it its time. False when there is another for the key by
    /// now, or the other caller's whom it was to stand beside is gone.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn begin(
        &self,
        key: &Key,
        place: Place,
        fingerprint: &[u8],
        order: &mut Order,
    ) -> Result<bool, Error> {
        let Order { id, customer, lines, total, .. } = &*order;
        let (text, caller, own) = (key.text(), key.caller(), key.callers_own());
        let (lines, minor, currency) = (Json(lines), &total.minor, &total.currency);
        let first: Parameters<'_> =
            &[&text, &fingerprint, id, customer, &lines, minor, currency, &self.lease, &caller];
        let beside: Parameters<'_> = &[
            &own,
            &fingerprint,
            id,
            customer,
            &lines,
            minor,
            currency,
            &self.lease,
            &caller,
            &text,
        ];
        let row = match place {
            Place::First => self.database.row(BEGIN, first).await?,
            Place::Beside => self.database.row(BEGIN_BESIDE, beside).await?,
        };
        let Some(row) = row else { return Ok(false) };
        order.created_at = row.get(0);
        Ok(true)
    }

    /// Confirms a pending order, or rejects it with this answer; a rejected one is not settled. Its key gets the answer in
    /// the same commit, unless it has one: what is told must stay true.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn finish(&self, order: Order, rejection: Option<Answer>) -> Result<Finished, Error> {
        let id = order.id;
        let (status, (mut answer, rest)) = match rejection {
            Some(answer) => (Status::Rejected, (answer, None)),
            None => (Status::Confirmed, Answer::around_time(order)),
        };
        let (name, code) = (status.name(), i32::from(answer.status));
        let Answer { content_type, location, body, .. } = &answer;
        let row = self
            .database
            .row(FINISH, &[&id, &name, &code, content_type, location, body, &rest])
            .await?;
        let Some(row) = row else { return Ok(Finished::Elsewhere) };
        let kept: Option<String> = row.get(0);
        Ok(Finished::Now(kept.map(|body| {
            answer.body = body;
            answer
        })))
    }

    /// Marks an order as cancelled, its stock still to be given back; false when it was cancelled before.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn cancel(&self, id: Uuid) -> Result<bool, Error> {
        if self.database.execute(CANCEL, &[&id, &self.lease]).await? == 1 {
            return Ok(true);
        }
        match self.order(id).await?.status {
            Status::Cancelled => Ok(false),
            status => Err(Error::Illegal(status)),
        }
    }

    /// Nothing is left to do for a cancelled or rejected order.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn settled(&self, id: Uuid) -> Result<(), Error> {
        self.database.execute(SETTLED, &[&id]).await?;
        Ok(())
    }

    /// Takes up one order that somebody left unfinished, with a new lease.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn take_up(&self) -> Result<Option<Order>, Error> {
        Ok(self.database.row(TAKE_UP, &[&self.lease]).await?.map(|row| order(&row)))
    }

    /// Ends a lease after a failed attempt: the next one comes after 1, 2, 4 ... 32 seconds.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn postpone(&self, id: Uuid) -> Result<(), Error> {
        self.database.execute(POSTPONE, &[&id]).await?;
        Ok(())
    }

    /// How many orders something is left to do for, and how many seconds ago the oldest of them changed.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn unsettled(&self) -> Result<(i64, f64), DatabaseError> {
        let row = self.database.one(UNSETTLED, &[]).await?;
        Ok((row.get(0), row.get(1)))
    }

    /// One order.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn order(&self, id: Uuid) -> Result<Order, Error> {
        self.orders.find(id).await?.ok_or(Error::NoOrder)
    }

    /// A page of orders, the newest first, with one more than asked for where there is one.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn orders(
        &self,
        size: i64,
        after: Option<Uuid>,
    ) -> Result<Vec<Order>, DatabaseError> {
        let before = after.unwrap_or(Uuid::max());
        let rows = self.database.rows(ORDERS, &[&before, &(size + 1)]).await?;
        Ok(rows.iter().map(order).collect())
    }
}

/// The order after which a page begins.
pub fn after(page: &Page) -> Option<Uuid> {
    page.after.as_ref().map(|id| id.parse().expect("a key of this list is an id"))
}

fn order(row: &Row) -> Order {
    let Json(lines) = row.get::<_, Json<Vec<PricedLine>>>(3);
    Order {
        id: row.get(0),
        customer: row.get(1),
        status: Status::from_name(row.get(2)),
        lines,
        total: Money { minor: row.get(4), currency: row.get(5) },
        created_at: row.get(6),
        updated_at: row.get(7),
    }
}
