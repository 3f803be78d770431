//! R13: no amount is larger than what JSON's readers hold exactly, 2^53 - 1 (RFC 8259, 6).

use serde_json::json;

use super::Row;

/// The largest price, in minor units.
const MAX_PRICE: i64 = 1_000_000_000;
/// 2^53 - 1.
const MAX_AMOUNT: i64 = 9_007_199_254_740_991;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut put = |sku: &str, minor: i64| {
        let body = json!({"name": sku, "unit_price": {"minor": minor, "currency": "EUR"}});
        let target = format!("/api/v1/items/{sku}");
        rows.push(Row::write("R13", "PUT", &target, &body.to_string(), 201));
    };
    (0..11).for_each(|number| put(&format!("DEAR-{number}"), 999_999_999));
    (0..10).for_each(|number| put(&format!("DEAREST-{number}"), MAX_PRICE));
    let order = |name: &str, lines: &[(String, i64)], status| {
        let lines: Vec<_> =
            lines.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
        let body = json!({"customer": name, "lines": lines}).to_string();
        Row::write("R13", "POST", "/api/v1/orders", &body, status)
    };
    let dear: Vec<_> = (0..11).map(|number| (format!("DEAR-{number}"), 999_999)).collect();
    rows.push(order("eleven", &dear, 422).contains("\"type\":\"/problems/total-too-large\""));
    // Up to the bound, and one more: there is no stock of them, which is looked at after the total.
    let mut lines: Vec<_> = (0..9).map(|number| (format!("DEAREST-{number}"), 1_000_000)).collect();
    let rest = MAX_AMOUNT - 9 * MAX_PRICE * 1_000_000;
    lines.push(("DEAREST-9".to_owned(), rest / MAX_PRICE));
    let cents = rest % MAX_PRICE;
    // A price of what is missing, and of one more.
    for (sku, minor) in [("CENTS", cents), ("CENTS-MORE", cents + 1)] {
        let body = json!({"name": sku, "unit_price": {"minor": minor, "currency": "EUR"}});
        let target = format!("/api/v1/items/{sku}");
        rows.push(Row::write("R13", "PUT", &target, &body.to_string(), 201));
    }
    let with = |sku: &str| [&lines[..], &[(sku.to_owned(), 1)]].concat();
    rows.push(order("at the bound", &with("CENTS"), 409).contains("/problems/insufficient-stock"));
    rows.push(order("above it", &with("CENTS-MORE"), 422).contains("/problems/total-too-large"));
    rows
}
