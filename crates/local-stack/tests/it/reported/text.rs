//! R14: names hold nothing that cannot be seen or that turns the text around it, and take every script; a currency is
//! one of ISO 4217's.

use serde_json::json;

use super::Row;

/// Names of which nothing is seen, or not all.
const INVISIBLE: [&str; 34] = [
    " ",
    "   ",
    "\u{a0}\u{3000}",
    "\u{200b}",
    "ad\u{200b}a",
    "\u{202e}ada",
    "ada\u{202c}",
    "\u{2066}ada\u{2069}",
    "\u{feff}",
    "ada\u{feff}",
    "ad\u{ad}a",
    "\u{200e}ada",
    "\u{200f}ada",
    "\u{61c}ada",
    "ada\u{2060}",
    "ada\u{2028}",
    "ada\u{2029}",
    "ad\u{34f}a",
    "\u{3164}",
    "\u{115f}\u{1160}",
    "\u{ffa0}",
    "\u{2800}",
    "ad\u{200d}a",
    "ad\u{200c}a",
    "\u{200d}ada",
    "ada\u{fe0f}",
    "ada\u{e0100}",
    "ada\u{e0061}\u{e007f}",
    "\u{fff9}ada\u{fffb}",
    "\u{1d173}ada",
    "ada\u{85}",
    "ada\u{ffff}",
    "\u{1f600}\u{200d}",
    "\u{1f600}\u{200d}\u{200d}\u{1f600}",
];

/// Names in several scripts, and emoji.
const VISIBLE: [&str; 24] = [
    "ada",
    "Ada O'Neill-Smith, Jr.",
    "Vis \u{e0} bois 40\u{202f}mm",
    "Gr\u{fc}n & S\u{f6}hne",
    "e\u{301}",
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
    "\u{645}\u{631}\u{62d}\u{628}\u{627}",
    "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
    "\u{915}\u{94d}\u{200d}\u{937}",
    "\u{dc1}\u{dca}\u{200d}\u{dbb}\u{dd3}",
    "\u{5c71}\u{7530}\u{3000}\u{592a}\u{90ce}",
    "\u{845b}\u{e0100}\u{57ce}",
    "\u{ae40}\u{bbfc}\u{c218}",
    "\u{e2a}\u{e27}\u{e31}\u{e2a}\u{e14}\u{e35}",
    "\u{1820}\u{180b}\u{1821}",
    "\u{1f600}",
    "\u{2764}\u{fe0f}",
    "\u{2764}\u{fe0f}\u{200d}\u{1f525}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "\u{1f9d1}\u{1f3fd}\u{200d}\u{1f680}",
    "\u{1f3f4}\u{200d}\u{2620}\u{fe0f}",
    "1\u{fe0f}\u{20e3}",
    "\u{1f1e9}\u{1f1ea}",
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for text in INVISIBLE {
        rows.push(item(text, 422).contains("\"field\":\"name\""));
        rows.push(order(text, 422).contains("\"field\":\"customer\""));
    }
    for text in VISIBLE {
        rows.push(item(text, 201));
        rows.push(order(text, 201));
    }
    for currency in ["EUR", "USD", "JPY", "KWD", "CHF", "ZWG", "XCG", "XOF", "CLF"] {
        rows.push(price(currency, 201));
    }
    for currency in ["ZZZ", "eur", "EURO", "", "XXX", "XTS", "XAU", "DEM", "HRK", "BGN", "\u{20ac}"]
    {
        rows.push(price(currency, 422).contains("\"field\":\"unit_price.currency\""));
    }
    rows
}

/// An item of that name.
fn item(name: &str, status: u16) -> Row {
    put(name, "EUR", status)
}

/// An item with a price in that currency.
fn price(currency: &str, status: u16) -> Row {
    put("priced", currency, status)
}

fn put(name: &str, currency: &str, status: u16) -> Row {
    let body = json!({"name": name, "unit_price": {"minor": 1, "currency": currency}});
    let target = format!("/api/v1/items/TEXT-{}", uuid::Uuid::new_v4().simple());
    Row::write("R14", "PUT", &target, &body.to_string(), status)
}

/// An order of that customer.
fn order(customer: &str, status: u16) -> Row {
    let body = json!({"customer": customer, "lines": [{"sku": "NUT-M8", "quantity": 1}]});
    Row::write("R14", "POST", "/api/v1/orders", &body.to_string(), status)
}
