//! The Gateway Dashboard: a page rendered here, without JavaScript and without any outside resource; text for curl.

use std::fmt::Write;

use hyper::{
    StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, VARY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use serde_json::Value;
use service_kit::{Response, body};

use crate::{
    html::{entries, escape, money, number, string},
    topology::Part,
};

/// Nothing but our own style sheet is loaded, nothing frames us, nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Seconds between two reloads of the page.
const REFRESH: u32 = 5;

/// What the dashboard shows.
#[derive(Debug)]
pub struct View {
    /// Every part.
    pub parts: Vec<Part>,
    /// The latest orders as orders lists them; none when it does not answer.
    pub orders: Option<Value>,
    /// The items as inventory lists them; none when it does not answer.
    pub items: Option<Value>,
}

impl View {
    /// The page for a browser.
    pub fn html(&self) -> Response {
        let mut response =
            page(body::text(StatusCode::OK, "text/html; charset=utf-8", self.page()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }

    /// The same for a terminal.
    pub fn text(&self) -> Response {
        page(body::text(StatusCode::OK, "text/plain; charset=utf-8", self.lines()))
    }

    fn lines(&self) -> String {
        let mut text = "Stockyard: Gateway Dashboard\n\n".to_owned();
        for part in &self.parts {
            let latency =
                part.latency_ms.map_or_else(|| "-".to_owned(), |latency| format!("{latency} ms"));
            let (name, state, build, reasons) =
                (part.name, state(part).1, build(part), part.reasons.join("; "));
            let _ = writeln!(text, "{name:<12} {state:<11} {latency:<9} {build}  {reasons}");
        }
        text.push_str("\nLatest orders\n");
        if self.orders.is_none() {
            text.push_str("  orders does not answer\n");
        }
        for order in entries(self.orders.as_ref(), "orders") {
            let (id, status) = (string(order, "id"), string(order, "status"));
            let _ = writeln!(text, "  {id}  {status:<9}  {}", money(&order["total"]));
        }
        text.push_str("\nStock               on hand   reserved  available\n");
        if self.items.is_none() {
            text.push_str("  inventory does not answer\n");
        }
        for item in entries(self.items.as_ref(), "items") {
            let (on_hand, reserved, available) =
                (number(item, "on_hand"), number(item, "reserved"), number(item, "available"));
            let sku = string(item, "sku");
            let _ = writeln!(text, "  {sku:<14} {on_hand:>10} {reserved:>10} {available:>10}");
        }
        text
    }

    fn page(&self) -> String {
        let parts: String = self.parts.iter().map(part).collect();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Stockyard: Gateway Dashboard</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <meta http-equiv=\"refresh\" content=\"{REFRESH}\"><link rel=\"stylesheet\" href=\"/assets/style.css\"></head>\
             <body><header><h1>Gateway Dashboard</h1><p>Stockyard. Reloads every {REFRESH} seconds. \
             As JSON: <a href=\"/api/v1/topology\">topology</a>, <a href=\"/api/v1/orders\">orders</a>, \
             <a href=\"/api/v1/items\">items</a>, <a href=\"/openapi.json\">OpenAPI</a>.</p></header><main>\n\
             <div class=\"parts\">{parts}</div>\n\
             <section><h2>Latest orders</h2>{}</section>\n\
             <section><h2>Stock</h2>{}</section></main></body></html>\n",
            orders(self.orders.as_ref()),
            items(self.items.as_ref()),
        )
    }
}

/// What both forms have: neither is kept, and which one comes is the Accept header's choice.
fn page(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn part(part: &Part) -> String {
    let (class, state) = state(part);
    let latency = part
        .latency_ms
        .map_or_else(String::new, |latency| format!("<p>answered in {latency} ms</p>"));
    let reasons: String =
        part.reasons.iter().map(|reason| format!("<p>{}</p>", escape(reason))).collect();
    let (name, build) = (escape(part.name), escape(&build(part)));
    format!(
        "<article><h2>{name}</h2><p class=\"{class}\">{state}</p>{reasons}{latency}<p>{build}</p></article>\n"
    )
}

fn state(part: &Part) -> (&'static str, &'static str) {
    match (part.latency_ms, part.healthy, part.ready) {
        (None, ..) => ("bad", "away"),
        (_, false, _) => ("bad", "not healthy"),
        (_, true, false) => ("pending", "not ready"),
        (_, true, true) => ("good", "ready"),
    }
}

fn build(part: &Part) -> String {
    let Some(build) = &part.build else { return "build not known".to_owned() };
    let text =
        format!("version {}, revision {}", string(build, "version"), string(build, "revision"));
    match build["faults"].as_array().map_or(0, Vec::len) {
        0 => text,
        1 => format!("{text}; a fault on purpose"),
        count => format!("{text}; {count} faults on purpose"),
    }
}

fn orders(list: Option<&Value>) -> String {
    if list.is_none() {
        return "<p class=\"bad\">orders does not answer.</p>".to_owned();
    }
    let rows: String = entries(list, "orders").map(order).collect();
    if rows.is_empty() {
        return "<p>No order yet.</p>".to_owned();
    }
    let heads = [("Order", ""), ("Status", ""), ("Lines", ""), ("Total", "number"), ("Placed", "")];
    table(&heads, &rows)
}

fn order(order: &Value) -> String {
    let line = |line: &Value| {
        format!("{} &times; {}", number(line, "quantity"), escape(string(line, "sku")))
    };
    let lines: Vec<_> = entries(Some(order), "lines").map(line).collect();
    let [id, status, placed] =
        ["id", "status", "created_at"].map(|name| escape(string(order, name)));
    let (lines, total) = (lines.join(", "), escape(&money(&order["total"])));
    format!(
        "<tr><td><code>{id}</code></td><td class=\"{status}\">{status}</td><td>{lines}</td>\
         <td class=\"number\">{total}</td><td>{placed}</td></tr>\n"
    )
}

fn items(list: Option<&Value>) -> String {
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
    table(&heads, &rows) + more
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
fn table(heads: &[(&str, &str)], rows: &str) -> String {
    let heads: String = heads
        .iter()
        .map(|(name, class)| format!("<th scope=\"col\" class=\"{class}\">{name}</th>"))
        .collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOSTILE: &str = "\"><script>alert('x')</script>";

    fn view(text: &str) -> View {
        let price = json!({"minor": 5, "currency": text});
        let items = json!({"items": [{"sku": text, "name": text, "unit_price": price, "on_hand": text, "reserved": 1, "available": 2}]});
        let lines = json!([{"sku": text, "quantity": text}]);
        let orders = json!({"orders": [{"id": text, "status": text, "lines": lines, "total": price, "created_at": text}]});
        let part = Part {
            name: "orders",
            healthy: true,
            ready: false,
            reasons: vec![text.to_owned()],
            latency_ms: Some(1.0),
            build: Some(json!({"version": text, "revision": text})),
        };
        View { parts: vec![part], orders: Some(orders), items: Some(items) }
    }

    #[test]
    fn whatever_a_service_says_is_escaped() {
        let page = view(HOSTILE).page();
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"), "{page}");
        assert!(!page.contains("<script") && !page.contains(HOSTILE), "{page}");
    }

    #[test]
    fn a_part_that_is_away_is_told_and_the_rest_is_shown() {
        let mut view = view("EUR");
        view.orders = None;
        for text in [view.page(), view.lines()] {
            assert!(text.contains("orders does not answer"), "{text}");
            assert!(text.contains("EUR"), "{text}");
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_nothing_runs() {
        let view = view("EUR");
        let page = view.page();
        assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
        assert!(!page.contains("style=") && !page.contains("<style"), "{page}");
        let policy = view.html().headers()[CONTENT_SECURITY_POLICY].clone();
        assert!(policy.to_str().unwrap().starts_with("default-src 'none'"));
    }
}
