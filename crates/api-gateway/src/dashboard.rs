//! The Gateway Dashboard: a page rendered here that needs no JavaScript and nothing from elsewhere; text for curl.

mod charts;
pub mod forms;
mod parts;
mod tables;

use std::fmt::Write;

use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, VARY,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use serde_json::Value;
use service_kit::{
    Body, Response,
    body::{self, TEXT},
};

use self::forms::Outcome;
use crate::{
    html::{entries, money, number, string},
    keys::{Key, May},
    measured::Measured,
    topology::Part,
};

/// Nothing but our own files is loaded, nothing frames us, forms go to us alone.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// What every page begins with.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Stockyard: Gateway Dashboard</title>\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
    <link rel=\"stylesheet\" href=\"/assets/style.css\">";
/// Seconds between two reloads of the page where no script runs.
const REFRESH: u32 = 15;

/// What the dashboard shows.
#[derive(Debug)]
pub struct View {
    /// Every part.
    pub parts: Vec<Part>,
    /// The latest orders as orders lists them; none when it does not answer.
    pub orders: Option<Value>,
    /// The items as inventory lists them; none when it does not answer.
    pub items: Option<Value>,
    /// What Prometheus has measured; none when there is none or it does not answer.
    pub measured: Option<Measured>,
    /// Is there a Prometheus to ask?
    pub has_prometheus: bool,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

/// A view as it is sent: rendered once, and shared by all whom it is sent to.
#[derive(Debug)]
pub struct Dashboard {
    /// The page up to what depends on who looks.
    top: Bytes,
    /// The form that places an order, without its key.
    items: String,
    /// The latest orders, for who may only read, and for who may write.
    orders: [Bytes; 2],
    /// The rest of the page.
    rest: Bytes,
    /// All of it for a terminal.
    text: Bytes,
}

impl Dashboard {
    /// The page for a browser of who has signed in with this key, with what became of a form that was just sent.
    pub fn html(&self, session: Option<&Key>, outcome: Option<Outcome>) -> Response {
        let may_write = session.is_some_and(|key| key.may(May::Write));
        let form = if may_write { tables::place(&self.items) } else { String::new() };
        let own = told(outcome) + &forms::session(session.map(Key::name)) + &form;
        let orders = &self.orders[usize::from(may_write)];
        let pieces = [self.top.clone(), own.into(), orders.clone(), self.rest.clone()];
        html(StatusCode::OK, Body::pieces(pieces))
    }

    /// The same for a terminal.
    pub fn text(&self) -> Response {
        page(body::text(StatusCode::OK, TEXT, self.text.clone()))
    }
}

impl View {
    /// Renders it: sections with an id and `data-live` are renewed by live.js; the form is not, somebody may be filling it
    /// in.
    pub fn render(&self) -> Dashboard {
        let cards: String = self
            .parts
            .iter()
            .map(|part| parts::part(part, self.measured.as_ref(), self.now))
            .collect();
        let top = format!(
            "{HEAD}<noscript><meta http-equiv=\"refresh\" content=\"{REFRESH};url=/\"></noscript>\
             <script src=\"/assets/live.js\" defer></script></head>\
             <body><header><h1>Gateway Dashboard</h1><p>Stockyard. As JSON: <a href=\"/api/v1/topology\">topology</a>, \
             <a href=\"/api/v1/orders\">orders</a>, <a href=\"/api/v1/items\">items</a>, \
             <a href=\"/openapi.json\">OpenAPI</a>.</p><ul id=\"states\" data-live>{states}</ul></header><main>\n\
             <section id=\"orders\"><h2>Orders</h2>",
            states = self.parts.iter().map(parts::summary).collect::<String>(),
        );
        let orders = [false, true].map(|may_write| {
            let orders = tables::orders(self.orders.as_ref(), may_write);
            format!("<div id=\"latest\" data-live>{orders}</div></section>\n").into()
        });
        let rest = format!(
            "<section id=\"stock\" data-live><h2>Stock</h2>{items}</section>\n\
             <div id=\"parts\" class=\"parts\" data-live>{missing}{cards}</div></main></body></html>\n",
            items = tables::items(self.items.as_ref()),
            missing = self.missing(),
        );
        let items = tables::options(self.items.as_ref());
        Dashboard { top: top.into(), items, orders, rest: rest.into(), text: self.lines().into() }
    }

    fn lines(&self) -> String {
        let mut text = "Stockyard: Gateway Dashboard\n\n".to_owned();
        for part in &self.parts {
            let latency =
                part.latency_ms.map_or_else(|| "-".to_owned(), |latency| format!("{latency} ms"));
            let (name, state, build, reasons) =
                (part.name, parts::state(part).1, parts::build(part), part.reasons.join("; "));
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

    /// What cannot be shown, and why.
    fn missing(&self) -> &'static str {
        match (&self.measured, self.has_prometheus) {
            (Some(_), _) => "",
            (None, true) => {
                "<p class=\"pending\">Prometheus does not answer: no rates, latencies, CPU and memory.</p>"
            }
            (None, false) => {
                "<p class=\"pending\">No Prometheus is set (PROMETHEUS_URL): no rates, latencies, CPU and memory.</p>"
            }
        }
    }
}

/// The page for a browser whose user may not look yet.
pub fn sign_in(outcome: Option<Outcome>) -> Response {
    let page = format!(
        "{HEAD}</head><body><header><h1>Gateway Dashboard</h1></header><main><section id=\"orders\">{}{}</section></main></body></html>\n",
        told(outcome),
        forms::session(None),
    );
    let mut response = html(StatusCode::UNAUTHORIZED, body::full(page));
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// What became of a form, for people.
fn told(outcome: Option<Outcome>) -> String {
    outcome.map_or_else(String::new, |outcome| {
        format!("<p class=\"outcome\" role=\"status\">{}</p>", outcome.message())
    })
}

/// A page of ours, with what it may load and tell.
fn html(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let mut response = page(response);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Forms tell where they come from by it; other sites learn nothing.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// What both forms have: neither is kept, and which one comes is the Accept header's choice.
fn page(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::BodyExt;
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
        View {
            parts: vec![part],
            orders: Some(orders),
            items: Some(items),
            measured: None,
            has_prometheus: false,
            now: 1_000_000,
        }
    }

    /// The page of who has signed in with this key.
    fn page(view: &View, session: Option<&Key>) -> String {
        let body = view.render().html(session, None).into_body();
        let bytes = body.collect().now_or_never().unwrap().unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn whatever_a_service_says_is_escaped() {
        let page = page(&view(HOSTILE), None);
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"), "{page}");
        assert!(!page.contains("<script>") && !page.contains(HOSTILE), "{page}");
    }

    #[test]
    fn a_part_that_is_away_is_told_and_the_rest_is_shown() {
        let mut view = view("EUR");
        view.orders = None;
        for text in [page(&view, None), view.lines()] {
            assert!(text.contains("orders does not answer"), "{text}");
            assert!(text.contains("EUR"), "{text}");
        }
    }

    #[test]
    fn who_has_not_signed_in_is_shown_no_form_that_would_be_refused() {
        let view = view("confirmed");
        let shown = page(&view, None);
        assert!(shown.contains("action=\"/session\""), "{shown}");
        assert!(!shown.contains("action=\"/demo/") && !shown.contains("/session/end"), "{shown}");
        let keys = json!([{"name": "me", "sha256": "1".repeat(64), "may": "write", "requests_per_second": 1}]);
        let key = crate::keys::Keys::parse(&keys.to_string()).unwrap().named("me");
        let shown = page(&view, key.as_deref());
        assert!(
            shown.contains("action=\"/demo/orders\"") && shown.contains("/cancel\""),
            "{shown}"
        );
        assert!(shown.contains("action=\"/session/end\""), "{shown}");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_no_script_stands_in_the_page() {
        let view = view("EUR");
        let page = page(&view, None);
        assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
        assert!(!page.contains("style=") && !page.contains("<style"), "{page}");
        assert_eq!(page.matches("<script").count(), page.matches("<script src=\"/assets/").count());
        let policy = view.render().html(None, None).headers()[CONTENT_SECURITY_POLICY].clone();
        assert!(policy.to_str().unwrap().starts_with("default-src 'none'"));
    }
}
