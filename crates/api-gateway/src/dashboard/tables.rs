//! The tables of orders and stock, with the forms that place and cancel.

use serde_json::Value;
use uuid::Uuid;

use crate::html::{entries, escape, money, number, string};

/// The latest orders; for who may write, those that can be have a button that cancels them.
pub(super) fn orders(list: Option<&Value>, may_write: bool) -> String {
    if list.is_none() {
        return "<p class=\"bad\">orders does not answer.</p>".to_owned();
    }
    let rows: String = entries(list, "orders").map(|entry| order(entry, may_write)).collect();
    if rows.is_empty() {
        return "<p>No order yet.</p>".to_owned();
    }
    let heads = [
        ("Order", ""),
        ("Status", ""),
        ("Lines", ""),
        ("Total", "number"),
        ("Placed", ""),
        ("Action", ""),
    ];
    let count = heads.len() - usize::from(!may_write);
    table("Latest orders", &heads[..count], &rows)
}

fn order(order: &Value, may_write: bool) -> String {
    let line = |line: &Value| {
        format!("{} &times; {}", number(line, "quantity"), escape(string(line, "sku")))
    };
    let lines: Vec<_> = entries(Some(order), "lines").map(line).collect();
    let [id, status, placed] =
        ["id", "status", "created_at"].map(|name| escape(string(order, name)));
    let (lines, total) = (lines.join(", "), escape(&money(&order["total"])));
    let cancel = match status.as_str() {
        _ if !may_write => String::new(),
        "pending" | "confirmed" => format!(
            "<td><form method=\"post\" action=\"/demo/orders/{id}/cancel\">\
             <button aria-label=\"Cancel order {id}\">Cancel</button></form></td>"
        ),
        _ => "<td></td>".to_owned(),
    };
    format!(
        "<tr><td><code>{id}</code></td><td class=\"{status}\">{status}</td><td>{lines}</td>\
         <td class=\"number\">{total}</td><td>{placed}</td>{cancel}</tr>\n"
    )
}

/// The items to choose from in the form that places an order.
pub(super) fn options(items: Option<&Value>) -> String {
    let option = |item: &Value| {
        let (sku, name) = (escape(string(item, "sku")), escape(string(item, "name")));
        format!(
            "<option value=\"{sku}\">{sku}: {name}, {} available</option>",
            number(item, "available")
        )
    };
    entries(items, "items").map(option).collect()
}

/// The form that places an order. Its key makes a second click the same order.
pub(super) fn place(options: &str) -> String {
    let key = Uuid::now_v7();
    format!(
        "<form class=\"place\" method=\"post\" action=\"/demo/orders\"><input type=\"hidden\" name=\"key\" value=\"{key}\">\
         <label>Item <select name=\"sku\" required>{options}</select></label>\
         <label>Quantity <input name=\"quantity\" type=\"number\" min=\"1\" max=\"1000000\" value=\"1\" required></label>\
         <button>Place order</button></form>"
    )
}

/// The items with their stock.
pub(super) fn items(list: Option<&Value>) -> String {
    if list.is_none() {
        return "<p class=\"bad\">inventory does not answer.</p>".to_owned();
    }
    let rows: String = entries(list, "items").map(item).collect();
    if rows.is_empty() {
        return "<p>No item yet.</p>".to_owned();
    }
    let more = list.is_some_and(|list| list["next_page_token"].is_string());
    let more = if more { "<p>The first items by SKU; /api/v1/items has them all.</p>" } else { "" };
    let heads = [
        ("SKU", ""),
        ("Item", ""),
        ("Price", "number"),
        ("On hand", "number"),
        ("Reserved", "number"),
        ("Available", "number"),
    ];
    table("Stock", &heads, &rows) + more
}

fn item(item: &Value) -> String {
    let [on_hand, reserved, available] =
        ["on_hand", "reserved", "available"].map(|name| number(item, name));
    let (sku, name) = (escape(string(item, "sku")), escape(string(item, "name")));
    let price = escape(&money(&item["unit_price"]));
    format!(
        "<tr><td><code>{sku}</code></td><td>{name}</td><td class=\"number\">{price}</td>\
         <td class=\"number\">{on_hand}</td><td class=\"number\">{reserved}</td><td class=\"number\">{available}</td></tr>\n"
    )
}

/// A table, its columns given by name and class, that scrolls by itself where the page is narrow.
fn table(label: &str, heads: &[(&str, &str)], rows: &str) -> String {
    let heads: String = heads
        .iter()
        .map(|(name, class)| format!("<th scope=\"col\" class=\"{class}\">{name}</th>"))
        .collect();
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{label}\" tabindex=\"0\"><table><thead><tr>{heads}</tr></thead>\n\
         <tbody>{rows}</tbody></table></div>"
    )
}
