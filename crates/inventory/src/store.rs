//! Items and receipts in PostgreSQL. Reservations are in `store/reservations.rs`.

mod reservations;

use std::iter;

use service_kit::{
    BoxError, Kit,
    config::DatabaseConfig,
    database::{Database, DatabaseError, Lookup, Migration, Parameters},
    idempotency::Key,
    input::Page,
};
use tokio_postgres::{Row, types::ToSql};
use tracing::instrument;

use crate::{
    domain::{Item, ItemInput, Money},
    error::Error,
};

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "stock", sql: include_str!("../migrations/0001_stock.sql") },
    Migration { version: 2, name: "moves", sql: include_str!("../migrations/0002_moves.sql") },
    Migration { version: 3, name: "callers", sql: include_str!("../migrations/0003_callers.sql") },
];

/// The columns of an item, as `item` reads them.
macro_rules! columns {
    () => {
        "sku, name, unit_price_minor, currency, on_hand, reserved"
    };
}

const FIND_ITEMS: &str = concat!("SELECT ", columns!(), " FROM items WHERE sku = ANY($1)");
const ITEMS: &str =
    concat!("SELECT ", columns!(), " FROM items WHERE sku > $1 ORDER BY sku LIMIT $2");
const PUT_ITEM: &str = concat!(
    "INSERT INTO items (sku, name, unit_price_minor, currency) VALUES ($1, $2, $3, $4)
    ON CONFLICT (sku) DO UPDATE SET name = $2, unit_price_minor = $3, currency = $4
    RETURNING ",
    columns!(),
    ", xmax = 0 AS is_new"
);
/// No row: there is one.
const INSERT_ITEM: &str = concat!(
    "INSERT INTO items (sku, name, unit_price_minor, currency) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING RETURNING ",
    columns!()
);
/// No row: it is not as it was any more.
const UPDATE_ITEM: &str = concat!(
    "UPDATE items SET name = $2, unit_price_minor = $3, currency = $4
    WHERE sku = $1 AND (name, unit_price_minor, currency, on_hand, reserved) = ($5, $6, $7, $8, $9)
    RETURNING ",
    columns!()
);
/// No row: the key was used before, or there is no such item.
const RECEIVE: &str = concat!(
    "WITH receipt AS (INSERT INTO receipts (idempotency_key, sku, quantity, caller)
        SELECT $1, sku, $3, $4 FROM items WHERE sku = $2 ON CONFLICT DO NOTHING RETURNING sku AS received, quantity)
    UPDATE items SET on_hand = on_hand + receipt.quantity FROM receipt WHERE sku = received
    RETURNING ",
    columns!()
);
/// With the item, the receipt that answers a key: the one under the caller's own text, else that under the key's when its
/// caller is this one or not known. Last, whether the key was used by anybody.
const RECEIVED: &str = concat!(
    "SELECT ",
    columns!(),
    ", (SELECT r.sku = $2 AND r.quantity = $3 FROM receipts r
        WHERE r.idempotency_key = $5
        OR r.idempotency_key = $1 AND coalesce(r.caller = $4, true)
        ORDER BY r.idempotency_key = $1 LIMIT 1),
    EXISTS (SELECT FROM receipts WHERE idempotency_key = $1)
    FROM items WHERE sku = $2"
);
const SUMS: &str = "SELECT coalesce(sum(on_hand), 0)::bigint, coalesce(sum(reserved), 0)::bigint,
    (SELECT count(*) FROM reservations WHERE status = 'reserved'),
    (SELECT greatest(extract(epoch FROM now() - min(expires_at)), 0)::float8
        FROM reservations WHERE status = 'reserved') FROM items";
const FILL: &str = "WITH new AS (INSERT INTO items (sku, name, unit_price_minor, currency, on_hand)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[])
        RETURNING sku, on_hand)
    INSERT INTO receipts (idempotency_key, sku, quantity) SELECT 'first-stock-' || sku, sku, on_hand FROM new";

/// The state of inventory.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    items: Lookup<String, Item>,
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
        let database = Database::connect(config, MIGRATIONS, kit)?;
        let read = |row: &Row| (row.get(0), item(row));
        Ok(Self { items: Lookup::new(database.clone(), FIND_ITEMS, read), database })
    }

    /// One item.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn item(&self, sku: &str) -> Result<Item, Error> {
        let item = self.items.find(sku.to_owned()).await?;
        item.ok_or_else(|| Error::NoItem(sku.to_owned()))
    }

    /// A page of items by SKU, with one more than asked for where there is one.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn items(&self, page: &Page) -> Result<Vec<Item>, DatabaseError> {
        let after = page.after.as_deref().unwrap_or_default();
        let rows = self.database.rows(ITEMS, &[&after, &(page.size + 1)]).await?;
        Ok(rows.iter().map(item).collect())
    }

    /// Makes or changes an item; true when it is new.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn put_item(
        &self,
        sku: &str,
        input: &ItemInput,
    ) -> Result<(Item, bool), DatabaseError> {
        let price = &input.unit_price;
        let row = self
            .database
            .one(PUT_ITEM, &[&sku, &input.name, &price.minor, &price.currency])
            .await?;
        Ok((item(&row), row.get("is_new")))
    }

    /// Changes an item that is still this one, or makes it where there is none; none when it is another by now.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn put_item_onto(
        &self,
        sku: &str,
        input: &ItemInput,
        current: Option<&Item>,
    ) -> Result<Option<Item>, DatabaseError> {
        let ItemInput { name, unit_price: Money { minor, currency } } = input;
        let row = match current {
            None => self.database.row(INSERT_ITEM, &[&sku, name, minor, currency]).await?,
            Some(Item { name: old, unit_price: price, on_hand, reserved, .. }) => {
                let old: [&(dyn ToSql + Sync); 5] =
                    [old, &price.minor, &price.currency, on_hand, reserved];
                let new: [&(dyn ToSql + Sync); 4] = [&sku, name, minor, currency];
                self.database.row(UPDATE_ITEM, &[&new[..], &old[..]].concat()).await?
            }
        };
        Ok(row.as_ref().map(item))
    }

    /// Stock arrives, once for each key of a caller.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn receive(&self, key: &Key, sku: &str, quantity: i64) -> Result<Item, Error> {
        let (text, caller, own) = (key.text(), key.caller(), key.callers_own());
        // Receipts stay for good: what was another's once is so for ever.
        for stored in iter::once(text).chain(own.as_deref()) {
            let receipt: Parameters<'_> = &[&stored, &sku, &quantity, &caller];
            if let Some(row) = self.database.row(RECEIVE, receipt).await? {
                return Ok(item(&row));
            }
            let known: Parameters<'_> = &[&text, &sku, &quantity, &caller, &own];
            let Some(row) = self.database.row(RECEIVED, known).await? else { break };
            match (row.get(6), row.get(7)) {
                (Some(true), _) => return Ok(item(&row)),
                (Some(false), _) => return Err(Error::KeyReused),
                (None, true) => {}      // another caller has it
                (None, false) => break, // the item was made only now
            }
        }
        Err(Error::NoItem(sku.to_owned()))
    }

    /// The sums of all items' stock, how many reservations are open, and how overdue the oldest is.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn sums(&self) -> Result<Sums, DatabaseError> {
        let row = self.database.one(SUMS, &[]).await?;
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
        let skus: Vec<_> = items.iter().map(|(sku, _, _)| *sku).collect();
        let names: Vec<_> = items.iter().map(|(_, input, _)| input.name.as_str()).collect();
        let prices: Vec<_> = items.iter().map(|(_, input, _)| input.unit_price.minor).collect();
        let currencies: Vec<_> =
            items.iter().map(|(_, input, _)| input.unit_price.currency.as_str()).collect();
        let quantities: Vec<_> = items.iter().map(|(_, _, quantity)| *quantity).collect();
        transaction.execute(FILL, &[&skus, &names, &prices, &currencies, &quantities]).await?;
        Ok(transaction.commit().await?)
    }
}

fn item(row: &Row) -> Item {
    let (on_hand, reserved) = (row.get(4), row.get(5));
    Item {
        sku: row.get(0),
        name: row.get(1),
        unit_price: Money { minor: row.get(2), currency: row.get(3) },
        on_hand,
        reserved,
        available: on_hand - reserved,
    }
}
