//! Items, money, reservations, and what their values may be. It does no input or output and knows no HTTP.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use service_kit::{Problem, input::Faults, input::is_identifier};
use uuid::Uuid;

use crate::currency::is_currency;

/// The largest price in minor units: with the largest quantities a total stays within 64 bits.
pub const MAX_PRICE: i64 = 1_000_000_000;
/// The largest quantity of a line or receipt.
pub const MAX_QUANTITY: i64 = 1_000_000;
/// The most lines of a reservation.
pub const MAX_LINES: usize = 100;
/// The longest that stock may be held, in seconds.
pub const MAX_TTL: i32 = 3600;

/// An amount in the minor unit of a currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units, e.g. cents.
    pub minor: i64,
    /// ISO 4217.
    pub currency: String,
}

/// An item and its stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The stock keeping unit: the item's name among machines.
    pub sku: String,
    /// The item's name among people.
    pub name: String,
    /// What one costs.
    pub unit_price: Money,
    /// On the shelf.
    pub on_hand: i64,
    /// Of these, held for orders.
    pub reserved: i64,
    /// Of these, free.
    pub available: i64,
}

/// The body that makes or changes an item.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemInput {
    /// The item's name among people.
    pub name: String,
    /// What one costs.
    pub unit_price: Money,
}

impl ItemInput {
    /// 422 with every fault.
    pub fn validate(&self) -> Result<(), Problem> {
        let mut faults = Faults::default();
        faults.check_text(&self.name, 200, "name");
        let price = &self.unit_price;
        faults.check(
            (0..=MAX_PRICE).contains(&price.minor),
            "unit_price.minor",
            format!("is from 0 to {MAX_PRICE}"),
        );
        faults.check(
            is_currency(&price.currency),
            "unit_price.currency",
            "is the code of a currency of today by ISO 4217, e.g. EUR",
        );
        faults.finish()
    }
}

/// The body of a receipt: stock arrives.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptInput {
    /// How many.
    pub quantity: i64,
}

impl ReceiptInput {
    /// 422 with every fault.
    pub fn validate(&self) -> Result<(), Problem> {
        let mut faults = Faults::default();
        faults.check(
            (1..=MAX_QUANTITY).contains(&self.quantity),
            "quantity",
            format!("is from 1 to {MAX_QUANTITY}"),
        );
        faults.finish()
    }
}

/// So many of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Which item.
    pub sku: String,
    /// How many.
    pub quantity: i64,
}

/// The body that reserves stock.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationInput {
    /// What is held; all of it or nothing.
    pub lines: Vec<Line>,
    /// For how long, in seconds.
    pub ttl_seconds: i32,
}

impl ReservationInput {
    /// 422 with every fault.
    pub fn validate(&self) -> Result<(), Problem> {
        let mut faults = Faults::default();
        faults.check(
            (1..=MAX_TTL).contains(&self.ttl_seconds),
            "ttl_seconds",
            format!("is from 1 to {MAX_TTL}"),
        );
        faults.check(
            (1..=MAX_LINES).contains(&self.lines.len()),
            "lines",
            format!("are 1 to {MAX_LINES}"),
        );
        let mut seen = HashSet::new();
        for (index, line) in self.lines.iter().enumerate() {
            faults.check(
                is_identifier(&line.sku),
                format!("lines[{index}].sku"),
                "is 1 to 64 letters, digits, . _ -",
            );
            faults.check(seen.insert(&line.sku), format!("lines[{index}].sku"), "stands twice");
            let quantity = (1..=MAX_QUANTITY).contains(&line.quantity);
            faults.check(
                quantity,
                format!("lines[{index}].quantity"),
                format!("is from 1 to {MAX_QUANTITY}"),
            );
        }
        faults.finish()
    }
}

/// What became of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Held until it expires.
    Reserved,
    /// Taken off the shelf.
    Confirmed,
    /// Given back before it was confirmed.
    Released,
    /// Put back after it was confirmed.
    Returned,
    /// Given back because its time was over.
    Expired,
}

impl Status {
    /// As the database names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Returned => "returned",
            Self::Expired => "expired",
        }
    }

    /// From the database's name, which its CHECK holds to these five.
    pub fn from_name(name: &str) -> Self {
        match name {
            "reserved" => Self::Reserved,
            "confirmed" => Self::Confirmed,
            "released" => Self::Released,
            "returned" => Self::Returned,
            _ => Self::Expired,
        }
    }
}

/// What is held for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reservation {
    /// For which order.
    pub order_id: Uuid,
    /// What became of it.
    pub status: Status,
    /// What is held, in the order of the SKUs.
    pub lines: Vec<Line>,
}

/// What a line lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shortage {
    /// Which item.
    pub sku: String,
    /// How many were wanted.
    pub requested: i64,
    /// How many there were.
    pub available: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_and_lines_have_bounds() {
        let line = |sku: &str, quantity| Line { sku: sku.to_owned(), quantity };
        let valid = |lines| ReservationInput { lines, ttl_seconds: 60 }.validate().is_ok();
        assert!(valid(vec![line("a", 1), line("b", MAX_QUANTITY)]));
        for wrong in [
            vec![],
            vec![line("a", 0)],
            vec![line("a", -1)],
            vec![line("a", MAX_QUANTITY + 1)],
            vec![line("a", 1), line("a", 1)],
            vec![line("a/b", 1)],
        ] {
            assert!(!valid(wrong.clone()), "{wrong:?}");
        }
        assert!(!valid((0..=MAX_LINES).map(|number| line(&number.to_string(), 1)).collect()));
    }

    #[test]
    fn prices_are_never_negative_and_name_a_currency() {
        let valid = |minor, currency: &str| {
            let unit_price = Money { minor, currency: currency.to_owned() };
            ItemInput { name: "a".to_owned(), unit_price }.validate().is_ok()
        };
        assert!(valid(0, "EUR"));
        assert!(!valid(-1, "EUR"));
        assert!(!valid(1, "eur"));
        assert!(!valid(1, "EURO"));
        assert!(!valid(1, "ZZZ"));
    }
}
