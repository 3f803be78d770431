//! The law of orders and stock, held against what the databases say: for every item, received + returned = on hand +
//! confirmed out, and 0 <= reserved <= on hand; every order is there once, and its stock is where its status says.

use std::collections::HashMap;

use serde_json::Value;
use tokio_postgres::{Client, types::Json};
use uuid::Uuid;

use crate::{Result, Stack, postgres::connect};

/// Connections to both services' databases, each as the service's own role.
#[derive(Debug)]
pub struct Databases {
    /// orders' database.
    pub orders: Client,
    /// inventory's database.
    pub inventory: Client,
}

/// Orders by status.
pub type Counts = HashMap<String, u64>;

/// One order's or reservation's status and lines, as `sku=quantity` in the order of the SKUs.
type Entries = HashMap<Uuid, (String, Vec<String>)>;

impl Databases {
    /// Connects to both.
    pub async fn connect(stack: &Stack) -> Result<Self> {
        Self::open(&stack.database_url("orders"), &stack.database_url("inventory")).await
    }

    /// Connects to both, each by a connection string.
    pub async fn open(orders: &str, inventory: &str) -> Result<Self> {
        Ok(Self { orders: connect(orders).await?, inventory: connect(inventory).await? })
    }

    /// Is nothing under way: no order unsettled, no stock held?
    pub async fn at_rest(&self) -> Result<bool> {
        let unsettled = "SELECT NOT EXISTS (SELECT FROM orders WHERE NOT settled)";
        let held = "SELECT NOT EXISTS (SELECT FROM reservations WHERE status = 'reserved')";
        Ok(self.orders.query_one(unsettled, &[]).await?.get(0)
            && self.inventory.query_one(held, &[]).await?.get(0))
    }

    /// Everything that breaks the law; call it at rest. And how many orders there are of each status.
    pub async fn breaches(&self) -> Result<(Vec<String>, Counts)> {
        let mut breaches = self.item_breaches().await?;
        let (orders, reservations) = (self.order_entries().await?, self.reservations().await?);
        let mut counts = Counts::new();
        for (id, (status, lines)) in &orders {
            *counts.entry(status.clone()).or_default() += 1;
            let reservation = reservations.get(id).map(|(status, lines)| (status.as_str(), lines));
            let fits = match (status.as_str(), reservation) {
                ("confirmed", Some(("confirmed", held))) => held == lines,
                ("rejected" | "cancelled", Some(("released" | "returned", _))) => true,
                _ => false,
            };
            if !fits {
                breaches.push(format!("order {id} is {status} but its stock is {reservation:?}"));
            }
        }
        for (id, (status, _)) in &reservations {
            if !orders.contains_key(id) {
                breaches.push(format!("there is {status} stock for the order {id}, which is lost"));
            }
        }
        let doubled = "SELECT count(*) FROM (SELECT FROM idempotency_keys k FULL JOIN orders o ON o.id = k.order_id
            WHERE k.key IS NULL OR o.id IS NULL) AS alone";
        let alone: i64 = self.orders.query_one(doubled, &[]).await?.get(0);
        if alone > 0 {
            breaches.push(format!("{alone} keys have no order or orders no key"));
        }
        Ok((breaches, counts))
    }

    /// Each item's sums, in one statement: one snapshot.
    async fn item_breaches(&self) -> Result<Vec<String>> {
        let sql = "WITH lines AS (SELECT sku, status, quantity FROM reservation_lines JOIN reservations USING (order_id))
            SELECT sku, on_hand, reserved,
                coalesce((SELECT sum(quantity) FROM receipts r WHERE r.sku = i.sku), 0)::bigint AS received,
                coalesce((SELECT sum(quantity) FROM lines l WHERE l.sku = i.sku AND status = 'confirmed'), 0)::bigint AS gone,
                coalesce((SELECT sum(quantity) FROM lines l WHERE l.sku = i.sku AND status = 'reserved'), 0)::bigint AS held
            FROM items i";
        let rows = self.inventory.query(sql, &[]).await?;
        let breach = |row: &tokio_postgres::Row| {
            let number = |column: &str| row.get::<_, i64>(column);
            let (on_hand, reserved, held) = (number("on_hand"), number("reserved"), number("held"));
            let (received, gone) = (number("received"), number("gone"));
            let sku: &str = row.get("sku");
            let holds =
                received == on_hand + gone && reserved == held && (0..=on_hand).contains(&reserved);
            (!holds).then(|| {
                format!("{sku}: received {received}, on hand {on_hand}, gone {gone}, reserved {reserved}, held {held}")
            })
        };
        Ok(rows.iter().filter_map(breach).collect())
    }

    async fn order_entries(&self) -> Result<Entries> {
        let rows = self.orders.query("SELECT id, status, lines FROM orders", &[]).await?;
        let entry = |row: &tokio_postgres::Row| {
            let Json(lines) = row.get::<_, Json<Vec<Value>>>("lines");
            let mut lines: Vec<_> = lines
                .iter()
                .map(|line| {
                    format!("{}={}", line["sku"].as_str().unwrap_or_default(), line["quantity"])
                })
                .collect();
            lines.sort();
            (row.get("id"), (row.get("status"), lines))
        };
        Ok(rows.iter().map(entry).collect())
    }

    async fn reservations(&self) -> Result<Entries> {
        let sql = "SELECT order_id, status,
                array(SELECT sku || '=' || quantity FROM reservation_lines l WHERE l.order_id = r.order_id) AS lines
            FROM reservations r";
        let rows = self.inventory.query(sql, &[]).await?;
        let entry = |row: &tokio_postgres::Row| {
            let mut lines: Vec<String> = row.get("lines");
            lines.sort();
            (row.get("order_id"), (row.get("status"), lines))
        };
        Ok(rows.iter().map(entry).collect())
    }
}
