//! Orders, their lines, prices and states. It does no input or output and knows no HTTP.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use service_kit::{
    Problem,
    input::{Faults, is_identifier},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::Error;

/// The largest quantity of a line.
pub const MAX_QUANTITY: i64 = 1_000_000;
/// The most lines of an order.
pub const MAX_LINES: usize = 100;

/// The largest amount in minor units: up to 2^53 - 1 whole numbers are exact to whoever reads JSON's as binary64, as
/// JavaScript and jq do (RFC 8259, 6).
pub const MAX_AMOUNT: i64 = (1 << 53) - 1;

/// An amount in the minor unit of a currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Minor units, e.g. cents.
    pub minor: i64,
    /// ISO 4217.
    pub currency: String,
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

/// The body that places an order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderInput {
    /// Who orders.
    pub customer: String,
    /// What is ordered.
    pub lines: Vec<Line>,
}

impl OrderInput {
    /// 422 with every fault.
    pub fn validate(&self) -> Result<(), Problem> {
        let mut faults = Faults::default();
        faults.check_text(&self.customer, 200, "customer");
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

    /// What makes two requests the same: SHA-256 of the values, not of their spelling.
    pub fn fingerprint(&self) -> Vec<u8> {
        let canonical = serde_json::to_vec(self)
            .expect("our types have string keys and cannot fail to serialise");
        Sha256::digest(canonical).to_vec()
    }
}

/// A line with the price that held when the order was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricedLine {
    /// Which item.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// What one costs.
    pub unit_price: Money,
}

/// The sum of the lines, all in one currency.
pub fn total(lines: &[PricedLine]) -> Result<Money, Error> {
    let currency = lines.first().map_or("", |line| &line.unit_price.currency);
    if lines.iter().any(|line| line.unit_price.currency != currency) {
        return Err(Error::MixedCurrencies);
    }
    let minor = lines.iter().try_fold(0_i64, |sum, line| {
        let price = line.unit_price.minor.checked_mul(line.quantity)?;
        sum.checked_add(price).filter(|sum| *sum <= MAX_AMOUNT)
    });
    Ok(Money { minor: minor.ok_or(Error::TotalTooLarge)?, currency: currency.to_owned() })
}

/// Where an order is. Legal moves: pending to any other, confirmed to cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Accepted; stock is not certain yet.
    Pending,
    /// The stock is taken.
    Confirmed,
    /// There was not enough.
    Rejected,
    /// The customer withdrew it.
    Cancelled,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Confirmed, Self::Rejected, Self::Cancelled];

    /// As the database names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// From the database's name, which its CHECK holds to these four.
    pub fn from_name(name: &str) -> Self {
        match name {
            "pending" => Self::Pending,
            "confirmed" => Self::Confirmed,
            "rejected" => Self::Rejected,
            _ => Self::Cancelled,
        }
    }
}

/// A page of orders, the newest first.
#[derive(Debug, Serialize)]
pub struct OrderPage {
    /// The orders.
    pub orders: Vec<Order>,
    /// Asks for the next page, if there is one.
    pub next_page_token: Option<String>,
}

/// An order.
#[derive(Debug, Clone, Serialize)]
pub struct Order {
    /// Its id, ordered by time.
    pub id: Uuid,
    /// Who orders.
    pub customer: String,
    /// Where it is.
    pub status: Status,
    /// What is ordered.
    pub lines: Vec<PricedLine>,
    /// What it costs.
    pub total: Money,
    /// When it was placed, RFC 3339.
    pub created_at: String,
    /// When its status changed last, RFC 3339. It stands last: an answer is put together around it.
    pub updated_at: String,
}

impl Order {
    /// A pending order, which the store gives its times.
    pub fn new(customer: String, total: Money, lines: Vec<PricedLine>) -> Self {
        let (created_at, updated_at) = (String::new(), String::new());
        let (id, status) = (Uuid::now_v7(), Status::Pending);
        Self { id, customer, status, lines, total, created_at, updated_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priced(minor: i64, currency: &str, quantity: i64) -> PricedLine {
        let unit_price = Money { minor, currency: currency.to_owned() };
        PricedLine { sku: "a".to_owned(), quantity, unit_price }
    }

    #[test]
    fn a_total_is_exact_and_of_one_currency() {
        let sum = total(&[priced(35, "EUR", 2), priced(12, "EUR", 10)]).unwrap();
        assert_eq!(sum, Money { minor: 190, currency: "EUR".to_owned() });
        assert!(matches!(
            total(&[priced(1, "EUR", 1), priced(1, "USD", 1)]),
            Err(Error::MixedCurrencies)
        ));
        let bound = total(&[priced(MAX_AMOUNT - 1, "EUR", 1), priced(1, "EUR", 1)]);
        assert_eq!(bound.unwrap().minor, 9_007_199_254_740_991);
        for lines in [
            &[priced(MAX_AMOUNT, "EUR", 1), priced(1, "EUR", 1)][..],
            &[priced(1 << 53, "EUR", 1)],
            &[priced(i64::MAX, "EUR", 2)],
        ] {
            assert!(matches!(total(lines), Err(Error::TotalTooLarge)), "{lines:?}");
        }
    }

    #[test]
    fn the_fingerprint_is_of_values_not_of_spelling() {
        let of = |text: &str| serde_json::from_str::<OrderInput>(text).unwrap().fingerprint();
        let first = of(r#"{"customer":"ada","lines":[{"sku":"a","quantity":1}]}"#);
        assert_eq!(first, of(r#"{ "lines": [ {"quantity":1, "sku":"a"} ], "customer": "ada" }"#));
        assert_ne!(first, of(r#"{"customer":"ada","lines":[{"sku":"a","quantity":2}]}"#));
    }

    #[test]
    fn bad_values_are_all_named() {
        let text = r#"{"customer":"","lines":[{"sku":"a","quantity":0},{"sku":"a","quantity":1}]}"#;
        let problem = serde_json::from_str::<OrderInput>(text).unwrap().validate().unwrap_err();
        assert_eq!(problem.members()["errors"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn quantities_lines_and_skus_have_bounds() {
        let line = |sku: &str, quantity| Line { sku: sku.to_owned(), quantity };
        let valid = |lines| OrderInput { customer: "ada".to_owned(), lines }.validate().is_ok();
        assert!(valid(vec![line("A-1", 1), line("b", MAX_QUANTITY)]));
        for wrong in [
            vec![],
            vec![line("a", 0)],
            vec![line("a", -1)],
            vec![line("a", MAX_QUANTITY + 1)],
            vec![line("../b", 1)],
            vec![line("a", 1), line("a", 2)],
        ] {
            assert!(!valid(wrong.clone()), "{wrong:?}");
        }
        assert!(!valid((0..=MAX_LINES).map(|number| line(&number.to_string(), 1)).collect()));
    }

    #[test]
    fn a_body_with_anything_else_in_it_is_refused() {
        let parse = serde_json::from_str::<OrderInput>;
        assert!(parse(r#"{"customer":"ada","lines":[{"sku":"a","quantity":1}]}"#).is_ok());
        for wrong in [
            r#"{"customer":"ada","lines":[{"sku":"a","quantity":1.5}]}"#,
            r#"{"customer":"ada","lines":[{"sku":"a","quantity":"1"}]}"#,
            r#"{"customer":"ada","lines":[{"sku":"a","quantity":1,"unit_price":0}]}"#,
            r#"{"customer":"ada","lines":[],"total":0}"#,
            r#"{"customer":"ada","customer":"bob","lines":[]}"#,
            r#"{"lines":[]}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_status_is_the_same_in_the_database_and_in_json() {
        for status in Status::ALL {
            assert_eq!(Status::from_name(status.name()), status);
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
    }
}
