//! Reservations in PostgreSQL. How stock is moved, and which locks are taken in which order, is in
//! `migrations/0002_moves.sql`: each move is one call of a function there.

use tokio_postgres::Row;
use tracing::instrument;
use uuid::Uuid;

use super::Store;
use crate::{
    domain::{Line, Reservation, ReservationInput, Shortage, Status},
    error::Error,
};

const RESERVE: &str = "SELECT was, is_same, available FROM reserve_stock($1, $2, $3, $4)";
const MOVE: &str = "SELECT was, skus, quantities FROM move_stock($1, $2, $3, $4, $5)";
const CLOSE_UNKNOWN: &str =
    "INSERT INTO reservations (order_id, status, expires_at) VALUES ($1, 'released', now())
    ON CONFLICT DO NOTHING";
const EXPIRE_ONE: &str = "SELECT 1 FROM
    (SELECT order_id FROM reservations WHERE status = 'reserved' AND expires_at < now()
     ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS due,
    move_stock(due.order_id, 'reserved', 'expired', 0, -1)";

/// A move of a reservation, and of the stock of its lines.
struct Move {
    from: Status,
    to: Status,
    /// How many times its quantity a line adds to what is on the shelf,
    shelf: i32,
    /// and to what is held.
    hold: i32,
}

const CONFIRM: Move = Move { from: Status::Reserved, to: Status::Confirmed, shelf: -1, hold: -1 };
const RELEASE: Move = Move { from: Status::Reserved, to: Status::Released, shelf: 0, hold: -1 };
/// Its stock is back already; but it must not be held anew.
const RELEASE_EXPIRED: Move =
    Move { from: Status::Expired, to: Status::Released, shelf: 0, hold: 0 };
const PUT_BACK: Move = Move { from: Status::Confirmed, to: Status::Returned, shelf: 1, hold: 0 };

impl Store {
    /// Holds stock for an order, all lines or none; true when it is new. The same again changes nothing, and one that
    /// expired is held anew.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn reserve(
        &self,
        order_id: Uuid,
        input: ReservationInput,
    ) -> Result<(Reservation, bool), Error> {
        let mut lines = input.lines;
        lines.sort_by(|left, right| left.sku.cmp(&right.sku));
        let skus: Vec<&str> = lines.iter().map(|line| line.sku.as_str()).collect();
        let quantities: Vec<i64> = lines.iter().map(|line| line.quantity).collect();
        let row = self
            .database
            .one(RESERVE, &[&order_id, &skus, &quantities, &input.ttl_seconds])
            .await?;
        let was = row.get::<_, Option<&str>>(0).map(Status::from_name);
        match was {
            None | Some(Status::Expired) => {
                if let Some(available) = row.get::<_, Option<Vec<Option<i64>>>>(2) {
                    return Err(lacking(&lines, &available));
                }
                Ok((Reservation { order_id, status: Status::Reserved, lines }, was.is_none()))
            }
            Some(status @ (Status::Reserved | Status::Confirmed)) => {
                let is_same = row.get::<_, Option<bool>>(1) == Some(true);
                if !is_same {
                    return Err(Error::OtherLines);
                }
                Ok((Reservation { order_id, status, lines }, false))
            }
            Some(closed) => Err(Error::Closed(closed)),
        }
    }

    /// Takes the held stock off the shelf.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn confirm(&self, order_id: Uuid) -> Result<Reservation, Error> {
        self.close(order_id, CONFIRM).await
    }

    /// Gives held stock back. Unknown orders are closed too: a reservation that comes late must not hold stock.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn release(&self, order_id: Uuid) -> Result<Reservation, Error> {
        if self.database.execute(CLOSE_UNKNOWN, &[&order_id]).await? == 1 {
            return Ok(Reservation { order_id, status: Status::Released, lines: Vec::new() });
        }
        match self.close(order_id, RELEASE).await {
            Err(Error::Closed(Status::Expired)) => {
                match self.close(order_id, RELEASE_EXPIRED).await {
                    // It was held anew in between.
                    Err(Error::Closed(Status::Reserved)) => self.close(order_id, RELEASE).await,
                    result => result,
                }
            }
            result => result,
        }
    }

    /// Puts a confirmed reservation's stock back on the shelf.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn put_back(&self, order_id: Uuid) -> Result<Reservation, Error> {
        self.close(order_id, PUT_BACK).await
    }

    /// Gives back the stock of one reservation whose time is over; false when there is none.
    #[instrument(target = "service_kit::sql", skip_all, fields(otel.kind = "client", db.system.name = "postgresql"))]
    pub async fn expire_one(&self) -> Result<bool, Error> {
        Ok(self.database.row(EXPIRE_ONE, &[]).await?.is_some())
    }

    /// Moves a reservation from one state to the next; already there, nothing happens.
    async fn close(&self, order_id: Uuid, step: Move) -> Result<Reservation, Error> {
        let (from, to) = (step.from.name(), step.to.name());
        let row =
            self.database.one(MOVE, &[&order_id, &from, &to, &step.shelf, &step.hold]).await?;
        let was = row.get::<_, Option<&str>>(0).map(Status::from_name);
        match was.ok_or(Error::NoReservation)? {
            was if was == step.from || was == step.to => {
                Ok(Reservation { order_id, status: step.to, lines: lines(&row) })
            }
            was => Err(Error::Closed(was)),
        }
    }
}

/// What is missing of lines that were not held.
fn lacking(lines: &[Line], available: &[Option<i64>]) -> Error {
    let unknown: Vec<_> = lines
        .iter()
        .zip(available)
        .filter(|(_, available)| available.is_none())
        .map(|(line, _)| line.sku.clone())
        .collect();
    if !unknown.is_empty() {
        return Error::UnknownSkus(unknown);
    }
    let shortage = |(line, available): (&Line, &Option<i64>)| {
        let available = available.filter(|available| *available < line.quantity)?;
        Some(Shortage { sku: line.sku.clone(), requested: line.quantity, available })
    };
    Error::InsufficientStock(lines.iter().zip(available).filter_map(shortage).collect())
}

/// The lines that a move gives; a reservation that was closed before it was made has none.
fn lines(row: &Row) -> Vec<Line> {
    let skus: Option<Vec<String>> = row.get(1);
    let quantities: Option<Vec<i64>> = row.get(2);
    let pairs = skus.unwrap_or_default().into_iter().zip(quantities.unwrap_or_default());
    pairs.map(|(sku, quantity)| Line { sku, quantity }).collect()
}
