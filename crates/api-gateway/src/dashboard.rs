//! The Gateway Dashboard: a page rendered here, without JavaScript and without any outside resource; text for curl.

use std::fmt::Write;

use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderName, HeaderValue},
};
use serde_json::Value;
use service_kit::{Response, body};

use crate::topology::Part;

/// Nothing but our own style sheet is loaded, nothing frames us, nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
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
    /// Is there a Prometheus to ask?
    pub with_prometheus: bool,
}

impl View {
    /// The page for a browser.
    pub fn html(&self) -> Response {
        let mut response = body::text(StatusCode::OK, "text/html; charset=utf-8", self.page());
        let headers = response.headers_mut();
        headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
        headers.insert(
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        );
        headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// The same for a terminal.
    pub fn text(&self) -> Response {
        let mut text = "Stockyard: Gateway Dashboard\n\n".to_owned();
        for part in &self.parts {
            let _ = writeln!(
                text,
                "{:<12} {:<10} {}",
                part.name,
                state(part).1,
                part.reasons.join("; ")
            );
        }
        text.push_str("\nlatest orders\n");
        for order in entries(self.orders.as_ref(), "orders") {
            let _ = writeln!(
                text,
                "  {}  {:<9}  {}",
                string(order, "id"),
                string(order, "status"),
                money(&order["total"])
            );
        }
        text.push_str("\nitems (available, reserved, on hand)\n");
        for item in entries(self.items.as_ref(), "items") {
            let (available, reserved, on_hand) =
                (&item["available"], &item["reserved"], &item["on_hand"]);
            let _ = writeln!(
                text,
                "  {:<14} {available:>8} {reserved:>8} {on_hand:>8}",
                string(item, "sku")
            );
        }
        body::text(StatusCode::OK, "text/plain; charset=utf-8", text)
    }

    fn page(&self) -> String {
        let parts: String = self.parts.iter().map(part).collect();
        let latency = if self.with_prometheus {
            "<p>Metrics over time: see Prometheus, which scrapes every part.</p>"
        } else {
            "<p>No latency over time: PROMETHEUS_URL is not set.</p>"
        };
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Stockyard: Gateway Dashboard</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta http-equiv=\"refresh\" content=\"{REFRESH}\"><link rel=\"stylesheet\" href=\"/assets/style.css\"></head>\
             <body><header><h1>Gateway Dashboard</h1><p>Stockyard. Reloads every {REFRESH} seconds.</p></header><main>\
             <div class=\"parts\">{parts}</div>\
             <section><h2>Latest orders</h2>{}</section>\
             <section><h2>Stock</h2>{}</section>\
             <section><h2>Metrics</h2>{latency}</section></main></body></html>\n",
            orders(self.orders.as_ref()),
            items(self.items.as_ref()),
        )
    }
}

fn part(part: &Part) -> String {
    let (class, state) = state(part);
    let build = part.build.as_ref().map_or_else(
        || "build not known".to_owned(),
        |build| {
            format!("version {}, revision {}", string(build, "version"), string(build, "revision"))
        },
    );
    let latency =
        part.latency_ms.map_or_else(|| "no answer".to_owned(), |ms| format!("answered in {ms} ms"));
    let reasons: String =
        part.reasons.iter().map(|reason| format!("<p>{}</p>", escape(reason))).collect();
    format!(
        "<article><h2>{}</h2><p class=\"{class}\">{state}</p>{reasons}<p>{}</p><p>{}</p></article>",
        part.name,
        escape(&latency),
        escape(&build)
    )
}

fn state(part: &Part) -> (&'static str, &'static str) {
    match (part.healthy, part.ready) {
        (true, true) => ("good", "ready"),
        (true, false) => ("pending", "not ready"),
        (false, _) => ("bad", "not healthy"),
    }
}

fn orders(list: Option<&Value>) -> String {
    if list.is_none() {
        return "<p class=\"bad\">orders does not answer.</p>".to_owned();
    }
    let rows: String = entries(list, "orders")
        .map(|order| {
            let status = escape(string(order, "status"));
            let lines: Vec<_> = order["lines"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|line| format!("{} x {}", line["quantity"], escape(string(line, "sku"))))
                .collect();
            format!(
                "<tr><td><code>{}</code></td><td class=\"{status}\">{status}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
                escape(string(order, "id")),
                lines.join(", "),
                escape(&money(&order["total"])),
                escape(string(order, "created_at"))
            )
        })
        .collect();
    if rows.is_empty() {
        return "<p>No order yet.</p>".to_owned();
    }
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>Order</th><th>Status</th><th>Lines</th><th class=\"number\">Total</th>\
         <th>Placed</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn items(list: Option<&Value>) -> String {
    if list.is_none() {
        return "<p class=\"bad\">inventory does not answer.</p>".to_owned();
    }
    let rows: String = entries(list, "items")
        .map(|item| {
            format!(
                "<tr><td><code>{}</code></td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
                 <td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
                escape(string(item, "sku")),
                escape(string(item, "name")),
                escape(&money(&item["unit_price"])),
                item["on_hand"],
                item["reserved"],
                item["available"]
            )
        })
        .collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>SKU</th><th>Item</th><th class=\"number\">Price</th>\
         <th class=\"number\">On hand</th><th class=\"number\">Reserved</th><th class=\"number\">Available</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>"
    )
}

fn entries<'a>(list: Option<&'a Value>, name: &str) -> impl Iterator<Item = &'a Value> {
    list.and_then(|list| list[name].as_array()).into_iter().flatten()
}

fn string<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("unknown")
}

/// Minor units with the currency, as hundredths: every currency of the demo has two digits.
fn money(value: &Value) -> String {
    let minor = value["minor"].as_i64().unwrap_or_default();
    format!("{}.{:02} {}", minor / 100, minor % 100, string(value, "currency"))
}

/// Text that stands in HTML, in attributes too.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(name: &str) -> View {
        let items = json!({"items": [{"sku": "A", "name": name, "unit_price": {"minor": 5, "currency": "EUR"}, "on_hand": 3, "reserved": 1, "available": 2}]});
        View { parts: Vec::new(), orders: None, items: Some(items), with_prometheus: false }
    }

    #[test]
    fn what_people_wrote_is_escaped() {
        let page = view("<script>alert('x')</script>").page();
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn a_part_that_is_away_is_told_and_the_rest_is_shown() {
        let page = view("Rope").page();
        assert!(page.contains("orders does not answer."), "{page}");
        assert!(page.contains("0.05 EUR"), "{page}");
    }
}
