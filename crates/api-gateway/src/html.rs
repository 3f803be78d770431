//! Values from elsewhere as text in HTML. Whatever is not of the expected type becomes a placeholder, never raw text.

use serde_json::Value;

/// ISO 4217 currencies without a minor unit.
const WITHOUT_MINOR: [&str; 17] = [
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND",
    "VUV", "XAF", "XOF", "XPF",
];
/// ISO 4217 currencies whose minor unit is a thousandth.
const THOUSANDTHS: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];

/// ISO 4217 currencies whose minor unit is a ten-thousandth.
const TEN_THOUSANDTHS: [&str; 2] = ["CLF", "UYW"];

/// Text that stands in HTML, in attributes too.
pub fn escape(text: &str) -> String {
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

/// A list's entries; none when it is no list.
pub fn entries<'a>(list: Option<&'a Value>, name: &str) -> impl Iterator<Item = &'a Value> {
    list.and_then(|list| list[name].as_array()).into_iter().flatten()
}

/// A member's text, not escaped.
pub fn string<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("unknown")
}

/// A member's whole number.
pub fn number(value: &Value, name: &str) -> String {
    value[name].as_i64().map_or_else(|| "?".to_owned(), |number| number.to_string())
}

/// Minor units in the currency's own decimals, with its code; not escaped.
pub fn money(value: &Value) -> String {
    let currency = string(value, "currency");
    let Some(minor) = value["minor"].as_i64() else { return "?".to_owned() };
    let digits = if WITHOUT_MINOR.contains(&currency) {
        return format!("{minor} {currency}");
    } else if THOUSANDTHS.contains(&currency) {
        3
    } else if TEN_THOUSANDTHS.contains(&currency) {
        4
    } else {
        2
    };
    let unit = 10_u64.pow(digits);
    let sign = if minor < 0 { "-" } else { "" };
    let (whole, rest) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
    format!("{sign}{whole}.{rest:0width$} {currency}", width = digits as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_html_would_read_is_escaped() {
        assert_eq!(escape("a<b>&\"c\"'"), "a&lt;b&gt;&amp;&quot;c&quot;&#39;");
        assert_eq!(escape("Schraube grün"), "Schraube grün");
    }

    #[test]
    fn money_has_its_currencys_decimals() {
        for (minor, currency, expected) in [
            (5, "EUR", "0.05 EUR"),
            (123_456, "EUR", "1234.56 EUR"),
            (500, "JPY", "500 JPY"),
            (1500, "KWD", "1.500 KWD"),
            (15_000, "CLF", "1.5000 CLF"),
            (-5, "EUR", "-0.05 EUR"),
        ] {
            assert_eq!(money(&json!({"minor": minor, "currency": currency})), expected);
        }
        assert_eq!(money(&Value::Null), "?");
    }

    #[test]
    fn a_number_is_a_number() {
        assert_eq!(number(&json!({"on_hand": "<b>"}), "on_hand"), "?");
        assert_eq!(number(&json!({"on_hand": 3}), "on_hand"), "3");
    }
}
