//! Reservations in PostgreSQL.
//!
//! Locks are taken in one order: the reservation's row, then the items' rows by SKU. So confirm, release and the sweeper
//! race for the row, exactly one wins, and no two transactions wait for each other.

use tokio_postgres::Transaction;
use tracing::instrument;
use uuid::Uuid;

use super::Store;
use crate::{
    domain::{Line, Reservation, ReservationInput, Shortage, Status},
    error::Error,
};

/// What a move does to an item's row, with `l` the reservation's lines.
const TAKE_OFF_SHELF: &str = "on_hand = on_hand - l.quantity, reserved = reserved - l.quantity";
const GIVE_BACK: &str = "reserved = reserved - l.quantity";
const NOTHING: &str = "reserved = reserved";
const PUT_BACK_ON_SHELF: &str = "on_hand = on_hand + l.quantity";

impl Store {
    /// Holds stock for an order, all lines or none; true when it is new. The same again changes nothing, and one that
    /// expired is held anew.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn reserve(
        &self,
        order_id: Uuid,
        input: &ReservationInput,
    ) -> Result<(Reservation, bool), Error> {
        let mut client = self.database.get().await?;
        let transaction = client.transaction().await?;
        let mut lines = input.lines.clone();
        lines.sort_by(|left, right| left.sku.cmp(&right.sku));
        let ttl = f64::from(input.ttl_seconds);
        let insert = "INSERT INTO reservations (order_id, status, expires_at)
            VALUES ($1, 'reserved', now() + make_interval(secs => $2)) ON CONFLICT DO NOTHING";
        let is_new = transaction.execute(insert, &[&order_id, &ttl]).await? == 1;
        if !is_new {
            let current = locked(&transaction, order_id).await?.ok_or(Error::NoReservation)?;
            match current.status {
                Status::Reserved | Status::Confirmed if current.lines == lines => {
                    return Ok((current, false));
                }
                Status::Reserved | Status::Confirmed => return Err(Error::OtherLines),
                Status::Expired => {
                    let again = "UPDATE reservations SET status = 'reserved',
                        expires_at = now() + make_interval(secs => $2) WHERE order_id = $1";
                    transaction.execute(again, &[&order_id, &ttl]).await?;
                    transaction
                        .execute("DELETE FROM reservation_lines WHERE order_id = $1", &[&order_id])
                        .await?;
                }
                closed => return Err(Error::Closed(closed)),
            }
        }
        hold(&transaction, order_id, &lines).await?;
        transaction.commit().await?;
        Ok((Reservation { order_id, status: Status::Reserved, lines }, is_new))
    }

    /// Takes the held stock off the shelf.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn confirm(&self, order_id: Uuid) -> Result<Reservation, Error> {
        self.close(order_id, Status::Reserved, Status::Confirmed, TAKE_OFF_SHELF).await
    }

    /// Gives held stock back. Unknown orders are closed too: a reservation that comes late must not hold stock.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn release(&self, order_id: Uuid) -> Result<Reservation, Error> {
        let client = self.database.get().await?;
        let tombstone =
            "INSERT INTO reservations (order_id, status, expires_at) VALUES ($1, 'released', now())
            ON CONFLICT DO NOTHING";
        client.execute(tombstone, &[&order_id]).await?;
        drop(client);
        match self.close(order_id, Status::Reserved, Status::Released, GIVE_BACK).await {
            // Its stock is back already; but it must not be held anew.
            Err(Error::Closed(Status::Expired)) => {
                self.close(order_id, Status::Expired, Status::Released, NOTHING).await
            }
            result => result,
        }
    }

    /// Puts a confirmed reservation's stock back on the shelf.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn put_back(&self, order_id: Uuid) -> Result<Reservation, Error> {
        self.close(order_id, Status::Confirmed, Status::Returned, PUT_BACK_ON_SHELF).await
    }

    /// Gives back the stock of one reservation whose time is over; false when there is none.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn expire_one(&self) -> Result<bool, Error> {
        let mut client = self.database.get().await?;
        let transaction = client.transaction().await?;
        let due =
            "SELECT order_id FROM reservations WHERE status = 'reserved' AND expires_at < now()
            ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED";
        let Some(row) = transaction.query_opt(due, &[]).await? else { return Ok(false) };
        move_stock(&transaction, row.get(0), Status::Expired, GIVE_BACK).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Moves a reservation from one state to the next; already there, nothing happens.
    async fn close(
        &self,
        order_id: Uuid,
        from: Status,
        to: Status,
        change: &str,
    ) -> Result<Reservation, Error> {
        let mut client = self.database.get().await?;
        let transaction = client.transaction().await?;
        let mut reservation = locked(&transaction, order_id).await?.ok_or(Error::NoReservation)?;
        if reservation.status == to {
            return Ok(reservation);
        }
        if reservation.status != from {
            return Err(Error::Closed(reservation.status));
        }
        move_stock(&transaction, order_id, to, change).await?;
        transaction.commit().await?;
        reservation.status = to;
        Ok(reservation)
    }
}

/// A reservation, its row locked.
async fn locked(
    transaction: &Transaction<'_>,
    order_id: Uuid,
) -> Result<Option<Reservation>, Error> {
    let select = "SELECT status FROM reservations WHERE order_id = $1 FOR UPDATE";
    let Some(row) = transaction.query_opt(select, &[&order_id]).await? else { return Ok(None) };
    let status = Status::from_name(row.get(0));
    let select = "SELECT sku, quantity FROM reservation_lines WHERE order_id = $1 ORDER BY sku";
    let rows = transaction.query(select, &[&order_id]).await?;
    let lines = rows.iter().map(|row| Line { sku: row.get(0), quantity: row.get(1) }).collect();
    Ok(Some(Reservation { order_id, status, lines }))
}

/// Holds the lines' stock or fails with what is missing; the caller's transaction is then dropped, which undoes all.
async fn hold(transaction: &Transaction<'_>, order_id: Uuid, lines: &[Line]) -> Result<(), Error> {
    let skus: Vec<&str> = lines.iter().map(|line| line.sku.as_str()).collect();
    let quantities: Vec<i64> = lines.iter().map(|line| line.quantity).collect();
    let lock =
        "SELECT sku, on_hand - reserved FROM items WHERE sku = ANY($1) ORDER BY sku FOR UPDATE";
    let stock = transaction.query(lock, &[&skus]).await?;
    let available = |sku: &str| {
        stock.iter().find(|row| row.get::<_, &str>(0) == sku).map(|row| row.get::<_, i64>(1))
    };
    let unknown: Vec<_> =
        skus.iter().filter(|sku| available(sku).is_none()).map(ToString::to_string).collect();
    if !unknown.is_empty() {
        return Err(Error::UnknownSkus(unknown));
    }
    // The rule that never oversells: one statement, and the table's CHECK behind it.
    let reserve = "UPDATE items SET reserved = reserved + l.quantity
        FROM unnest($1::text[], $2::bigint[]) AS l (sku, quantity)
        WHERE items.sku = l.sku AND on_hand - reserved >= l.quantity";
    if transaction.execute(reserve, &[&skus, &quantities]).await? != lines.len() as u64 {
        let shortage = |line: &Line| {
            let available = available(&line.sku).expect("unknown items were refused above");
            (available < line.quantity).then(|| Shortage {
                sku: line.sku.clone(),
                requested: line.quantity,
                available,
            })
        };
        return Err(Error::InsufficientStock(lines.iter().filter_map(shortage).collect()));
    }
    let insert = "INSERT INTO reservation_lines (order_id, sku, quantity)
        SELECT $1, sku, quantity FROM unnest($2::text[], $3::bigint[]) AS l (sku, quantity)";
    transaction.execute(insert, &[&order_id, &skus, &quantities]).await?;
    Ok(())
}

/// Changes the items of a reservation whose row is locked, and its status.
async fn move_stock(
    transaction: &Transaction<'_>,
    order_id: Uuid,
    to: Status,
    change: &str,
) -> Result<(), Error> {
    let lock =
        "SELECT 1 FROM items WHERE sku IN (SELECT sku FROM reservation_lines WHERE order_id = $1)
        ORDER BY sku FOR UPDATE";
    transaction.query(lock, &[&order_id]).await?;
    let update = format!(
        "UPDATE items SET {change} FROM reservation_lines AS l WHERE l.order_id = $1 AND items.sku = l.sku"
    );
    transaction.execute(&update, &[&order_id]).await?;
    let status = "UPDATE reservations SET status = $2 WHERE order_id = $1";
    transaction.execute(status, &[&order_id, &to.name()]).await?;
    Ok(())
}
