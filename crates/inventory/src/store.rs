//! Items and receipts in PostgreSQL. Reservations are in `store/reservations.rs`.

mod reservations;

use service_kit::{
    BoxError, Kit,
    config::DatabaseConfig,
    database::{Database, DatabaseError, Migration},
    input::Page,
};
use tokio_postgres::Row;
use tracing::instrument;

use crate::{
    domain::{Item, ItemInput, Money},
    error::Error,
};

const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "stock", sql: include_str!("../migrations/0001_stock.sql") }];

const COLUMNS: &str = "sku, name, unit_price_minor, currency, on_hand, reserved";

/// The state of inventory.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
}

/// Sums over all items.
#[derive(Debug, Clone, Copy)]
pub struct Sums {
    /// Units on the shelf.
    pub on_hand: i64,
    /// Of these, held for orders.
    pub reserved: i64,
    /// Reservations that hold them.
    pub open_reservations: i64,
    /// For how many seconds the oldest of them has been due to be given back; 0 when none is.
    pub overdue_seconds: f64,
}

impl Store {
    /// The store; the database is reached and migrated in the background.
    pub fn connect(config: &DatabaseConfig, kit: &Kit) -> Result<Self, BoxError> {
        Ok(Self { database: Database::connect(config, MIGRATIONS, kit)? })
    }

    /// One item.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn item(&self, sku: &str) -> Result<Item, Error> {
        let client = self.database.get().await?;
        let statement =
            client.prepare_cached(&format!("SELECT {COLUMNS} FROM items WHERE sku = $1")).await?;
        let row = client.query_opt(&statement, &[&sku]).await?;
        row.map(|row| item(&row)).ok_or_else(|| Error::NoItem(sku.to_owned()))
    }

    /// A page of items by SKU, with one more than asked for where there is one.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn items(&self, page: &Page) -> Result<Vec<Item>, DatabaseError> {
        let client = self.database.get().await?;
        let sql = format!("SELECT {COLUMNS} FROM items WHERE sku > $1 ORDER BY sku LIMIT $2");
        let statement = client.prepare_cached(&sql).await?;
        let after = page.after.as_deref().unwrap_or_default();
        let rows = client.query(&statement, &[&after, &(page.size + 1)]).await?;
        Ok(rows.iter().map(item).collect())
    }

    /// Makes or changes an item; true when it is new.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn put_item(
        &self,
        sku: &str,
        input: &ItemInput,
    ) -> Result<(Item, bool), DatabaseError> {
        let client = self.database.get().await?;
        let sql = format!(
            "INSERT INTO items (sku, name, unit_price_minor, currency) VALUES ($1, $2, $3, $4)
             ON CONFLICT (sku) DO UPDATE SET name = $2, unit_price_minor = $3, currency = $4
             RETURNING {COLUMNS}, xmax = 0 AS is_new"
        );
        let price = &input.unit_price;
        let row =
            client.query_one(&sql, &[&sku, &input.name, &price.minor, &price.currency]).await?;
        Ok((item(&row), row.get("is_new")))
    }

    /// Stock arrives, once for each key.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn receive(&self, key: &str, sku: &str, quantity: i64) -> Result<Item, Error> {
        let mut client = self.database.get().await?;
        let transaction = client.transaction().await?;
        // The item's row first: a receipt of an unknown item would break the reference, not be an answer.
        let locked = format!("SELECT {COLUMNS} FROM items WHERE sku = $1 FOR UPDATE");
        let current = transaction.query_opt(&locked, &[&sku]).await?;
        let current = item(&current.ok_or_else(|| Error::NoItem(sku.to_owned()))?);
        let insert = "INSERT INTO receipts (idempotency_key, sku, quantity) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        if transaction.execute(insert, &[&key, &sku, &quantity]).await? == 0 {
            let same = "SELECT sku = $2 AND quantity = $3 FROM receipts WHERE idempotency_key = $1";
            let same: bool = transaction.query_one(same, &[&key, &sku, &quantity]).await?.get(0);
            return if same { Ok(current) } else { Err(Error::KeyReused) };
        }
        let update =
            format!("UPDATE items SET on_hand = on_hand + $2 WHERE sku = $1 RETURNING {COLUMNS}");
        let row = transaction.query_one(&update, &[&sku, &quantity]).await?;
        transaction.commit().await?;
        Ok(item(&row))
    }

    /// The sums of all items' stock, how many reservations are open, and how overdue the oldest is.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn sums(&self) -> Result<Sums, DatabaseError> {
        let client = self.database.get().await?;
        let sql = "SELECT coalesce(sum(on_hand), 0)::bigint, coalesce(sum(reserved), 0)::bigint,
            (SELECT count(*) FROM reservations WHERE status = 'reserved'),
            (SELECT greatest(extract(epoch FROM now() - min(expires_at)), 0)::float8
                FROM reservations WHERE status = 'reserved') FROM items";
        let row = client.query_one(sql, &[]).await?;
        Ok(Sums {
            on_hand: row.get(0),
            reserved: row.get(1),
            open_reservations: row.get(2),
            overdue_seconds: row.get(3),
        })
    }

    /// Puts items with their first stock into a store that has none; several replicas may try at once.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn fill_if_empty(&self, items: &[(&str, ItemInput, i64)]) -> Result<(), Error> {
        let mut client = self.database.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute("LOCK TABLE items IN SHARE ROW EXCLUSIVE MODE").await?;
        let row = transaction.query_one("SELECT NOT EXISTS (SELECT FROM items)", &[]).await?;
        if !row.get::<_, bool>(0) {
            return Ok(());
        }
        for (sku, input, quantity) in items {
            let insert = "INSERT INTO items (sku, name, unit_price_minor, currency, on_hand) VALUES ($1, $2, $3, $4, $5)";
            let price = &input.unit_price;
            transaction
                .execute(insert, &[sku, &input.name, &price.minor, &price.currency, quantity])
                .await?;
            let receipt = "INSERT INTO receipts (idempotency_key, sku, quantity) VALUES ('first-stock-' || $1, $1, $2)";
            transaction.execute(receipt, &[sku, quantity]).await?;
        }
        Ok(transaction.commit().await?)
    }
}

fn item(row: &Row) -> Item {
    let (on_hand, reserved) = (row.get("on_hand"), row.get("reserved"));
    Item {
        sku: row.get("sku"),
        name: row.get("name"),
        unit_price: Money { minor: row.get("unit_price_minor"), currency: row.get("currency") },
        on_hand,
        reserved,
        available: on_hand - reserved,
    }
}
