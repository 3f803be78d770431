//! The items that are read and ordered: put into the database, since over HTTP it would take minutes.

use anyhow::Result;
use tokio_postgres::Client;

/// The number of the first item.
pub const FIRST: u32 = 1000;
/// The number of the last one.
pub const LAST: u32 = 1999;
/// How many of each there are: more than any run orders.
const QUANTITY: i64 = 1_000_000;

/// The SKU of an item by its number.
pub fn sku(number: u32) -> String {
    format!("SKU-{number}")
}

/// Any item's SKU.
pub fn any() -> String {
    sku(fastrand::u32(FIRST..=LAST))
}

/// Puts all items and their stock into a database of inventory's tables; each item arrived with a receipt, so the law
/// holds.
pub async fn fill(client: &Client) -> Result<()> {
    let sql = format!(
        "BEGIN;
        INSERT INTO items (sku, name, unit_price_minor, currency, on_hand)
            SELECT 'SKU-' || number, 'Hexagon bolt, steel, ' || number, number, 'EUR', {QUANTITY}
            FROM generate_series({FIRST}, {LAST}) AS number;
        INSERT INTO receipts (idempotency_key, sku, quantity)
            SELECT 'bench-' || sku, sku, on_hand FROM items WHERE sku LIKE 'SKU-%';
        COMMIT;"
    );
    Ok(client.batch_execute(&sql).await?)
}
