//! S9: the dashboard tells what became of a form, and each refusal as what it was.

use super::Row;

pub(super) fn rows() -> Vec<Row> {
    let form = |target: &str, fields: &str, outcome: &str| {
        let length = fields.len();
        let request = format!(
            "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nsec-fetch-site: same-origin\r\ncookie: {{session}}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{fields}"
        );
        let row = Row::raw("S9", &format!("{target} {fields}"), request, 303);
        row.contains(format!("location: /?outcome={outcome}#orders\r\n"))
    };
    let place = |number: u32, sku: &str, quantity: u32, outcome: &str| {
        let key = uuid::Uuid::from_u128(number.into());
        form("/demo/orders", &format!("key={key}&sku={sku}&quantity={quantity}"), outcome)
    };
    let unknown = uuid::Uuid::nil();
    let mut rows = vec![
        place(1, "NUT-M8", 1, "placed"),
        place(1, "NUT-M8", 1, "placed"),
        place(1, "NUT-M8", 2, "reused"),
        place(2, "NUT-M8", 1_000_000, "insufficient"),
        place(3, "NONE", 1, "unknown-item"),
        form("/demo/orders/{order}/cancel", "", "cancelled"),
        form("/demo/orders/{order}/cancel", "", "cancelled"),
        form("/demo/orders/{rejected}/cancel", "", "rejected"),
        form(&format!("/demo/orders/{unknown}/cancel"), "", "no-order"),
    ];
    for (outcome, told) in [
        ("reused", "this form has placed another order before"),
        ("insufficient", "not enough is in stock.<"),
        ("rejected", "the order was rejected"),
        ("in-progress", "is being placed already"),
    ] {
        let target = format!("/?outcome={outcome}");
        rows.push(Row::read("S9", "GET", &target, &[b"accept: text/html"], 200).contains(told));
    }
    rows
}
