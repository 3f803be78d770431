//! The dashboard's forms: signing in and out, placing and cancelling, from our own page only.

use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION, ORIGIN, SET_COOKIE},
};
use serde_json::{Value, json};
use service_kit::{
    Problem, Response,
    body::{self, TEXT},
    input::{digits, is_identifier},
};
use uuid::Uuid;

use crate::html::escape;

/// The largest quantity, as orders has it.
const MAX_QUANTITY: i64 = 1_000_000;

/// What the form that places an order says.
#[derive(Debug, PartialEq, Eq)]
pub struct Placement {
    /// The order's idempotency key.
    pub key: Uuid,
    /// Which item.
    pub sku: String,
    /// How many.
    pub quantity: i64,
}

impl Placement {
    /// Reads a form's body: each field once, and no other.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let [key, sku, quantity] = fields(bytes, ["key", "sku", "quantity"])?;
        let key = key.and_then(|key| key.parse().ok());
        let quantity = quantity.and_then(|quantity| digits(quantity.trim())).map(i64::from);
        match (key, sku, quantity) {
            (Some(key), Some(sku), Some(quantity))
                if is_identifier(&sku) && (1..=MAX_QUANTITY).contains(&quantity) =>
            {
                Ok(Self { key, sku, quantity })
            }
            _ => Err(Problem::bad_request(
                "the form needs a key (UUID), a sku and a quantity of 1 to 1000000",
            )),
        }
    }

    /// The order as the API takes it.
    pub fn order(&self) -> Value {
        json!({"customer": "dashboard", "lines": [{"sku": self.sku, "quantity": self.quantity}]})
    }
}

/// The form that signs in; a key is never shown, so there is no `Debug`.
#[derive(Clone)]
pub(crate) struct SignIn {
    /// The API key.
    pub(crate) key: String,
}

impl SignIn {
    /// Reads a form's body: the key, and no other field.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let [key] = fields(bytes, ["key"])?;
        let key = key.ok_or_else(|| Problem::bad_request("the form needs a key"))?;
        Ok(Self { key: key.trim().to_owned() })
    }
}

/// A form's fields: each once at most, and no other.
fn fields<const N: usize>(bytes: &[u8], names: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(bytes) {
        let place = names.iter().position(|known| *known == name);
        let place = place.ok_or_else(|| {
            Problem::bad_request(format!("the form has no other field than {}", names.join(", ")))
        })?;
        if values[place].replace(value.into_owned()).is_some() {
            return Err(Problem::bad_request("a field of the form stands twice"));
        }
    }
    Ok(values)
}

/// 403 unless the browser says that the form came from our own page: no other site may make a visitor order. A browser
/// too old for `Sec-Fetch-Site` sends `Origin`; what sends neither has the API.
pub fn check_same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => match (text(ORIGIN.as_str()), text(HOST.as_str())) {
            (Some(origin), Some(host)) => {
                origin.split_once("://").is_some_and(|(_, from)| from == host)
            }
            _ => false,
        },
    };
    if own {
        Ok(())
    } else {
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross-origin",
            "The form did not come from our page",
        )
        .detail("programs use POST /api/v1/orders"))
    }
}

/// 415 unless it is a form.
pub fn check_is_form(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-a-form", "The body is no form"))
    }
}

/// The form that signs in, or out whom it names.
pub(super) fn session(name: Option<&str>) -> String {
    match name {
        None => "<form class=\"session\" method=\"post\" action=\"/session\">\
             <label>API key <input name=\"key\" type=\"password\" autocomplete=\"off\" required></label>\
             <button>Sign in</button></form>"
            .to_owned(),
        Some(name) => format!(
            "<form class=\"session\" method=\"post\" action=\"/session/end\">\
             <span>Signed in by the API key <b>{}</b></span> <button>Sign out</button></form>",
            escape(name)
        ),
    }
}

/// Back to the page, which tells what became of it.
pub fn back(outcome: Outcome) -> Response {
    let mut response = body::text(StatusCode::SEE_OTHER, TEXT, outcome.message());
    let location = format!("/?outcome={}#orders", outcome.name());
    let location = HeaderValue::from_str(&location).expect("the names are ASCII");
    response.headers_mut().insert(LOCATION, location);
    response
}

/// The same, with a cookie.
pub fn back_with(outcome: Outcome, cookie: &str) -> Response {
    let mut response = back(outcome);
    let cookie = HeaderValue::from_str(cookie).expect("a cookie of ours is ASCII");
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

/// What became of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The order is confirmed, or will be.
    Placed,
    /// There was not enough.
    Insufficient,
    /// There is no such item.
    UnknownItem,
    /// The order would cost more than an amount can be.
    TotalTooLarge,
    /// The same form is being worked on.
    InProgress,
    /// The same form has placed another order.
    Reused,
    /// There is no such order.
    NoOrder,
    /// The order was rejected before.
    Rejected,
    /// Something else is there meanwhile.
    Conflict,
    /// The order is cancelled.
    Cancelled,
    /// The values were not understood.
    Refused,
    /// A service did not answer.
    Failed,
    /// A session has begun.
    SignedIn,
    /// It has ended.
    SignedOut,
    /// The key begins none.
    RefusedKey,
}

impl Outcome {
    const ALL: [Self; 15] = [
        Self::Placed,
        Self::Insufficient,
        Self::UnknownItem,
        Self::TotalTooLarge,
        Self::InProgress,
        Self::Reused,
        Self::NoOrder,
        Self::Rejected,
        Self::Conflict,
        Self::Cancelled,
        Self::Refused,
        Self::Failed,
        Self::SignedIn,
        Self::SignedOut,
        Self::RefusedKey,
    ];

    /// By what orders answered: a status, and a problem's type.
    pub fn of(status: StatusCode, problem: &str, success: Self) -> Self {
        match (status, problem) {
            (status, _) if status.is_success() => success,
            (_, "insufficient-stock") => Self::Insufficient,
            (_, "unknown-sku") => Self::UnknownItem,
            (_, "total-too-large") => Self::TotalTooLarge,
            (_, "idempotency-key-at-work") => Self::InProgress,
            (_, "idempotency-key-reused") => Self::Reused,
            (_, "illegal-move") => Self::Rejected,
            (StatusCode::NOT_FOUND, _) => Self::NoOrder,
            (StatusCode::CONFLICT, _) => Self::Conflict,
            (status, _) if status.is_client_error() => Self::Refused,
            _ => Self::Failed,
        }
    }

    /// The one that a page's query names, if it names one.
    pub fn from_query(query: Option<&str>) -> Option<Self> {
        let named = query?.strip_prefix("outcome=")?;
        Self::ALL.into_iter().find(|outcome| outcome.name() == named)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Insufficient => "insufficient",
            Self::UnknownItem => "unknown-item",
            Self::TotalTooLarge => "total-too-large",
            Self::InProgress => "in-progress",
            Self::Reused => "reused",
            Self::NoOrder => "no-order",
            Self::Rejected => "rejected",
            Self::Conflict => "conflict",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::SignedIn => "signed-in",
            Self::SignedOut => "signed-out",
            Self::RefusedKey => "refused-key",
        }
    }

    /// What a person reads.
    pub fn message(self) -> &'static str {
        match self {
            Self::Placed => "The order is placed.",
            Self::Insufficient => "Not done: not enough is in stock.",
            Self::UnknownItem => "Not done: there is no such item.",
            Self::TotalTooLarge => "Not done: the total is too large. Place several orders.",
            Self::InProgress => "This order is being placed already, and appears here in a moment.",
            Self::Reused => {
                "Not done: this form has placed another order before. Fill it in again."
            }
            Self::NoOrder => "Not done: there is no such order.",
            Self::Rejected => "Not done: the order was rejected, there is nothing to cancel.",
            Self::Conflict => "Not done: something has changed meanwhile. Look again.",
            Self::Cancelled => "The order is cancelled; its stock is back.",
            Self::Refused => "Not done: a value was not understood.",
            Self::Failed => "Not done: a service does not answer. Try again in a moment.",
            Self::SignedIn => "Signed in.",
            Self::SignedOut => "Signed out.",
            Self::RefusedKey => "Not signed in: the key is not known, or may not write.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_our_own_page_may_send_forms() {
        for own in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("origin", "http://gateway:8080"), ("host", "gateway:8080")],
            &[("origin", "https://shop.example"), ("host", "shop.example")],
        ] {
            assert!(check_same_origin(&headers(own)).is_ok(), "{own:?}");
        }
        for other in [
            &[][..],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://a"), ("host", "a")],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "http://evil"), ("host", "gateway")],
            &[("origin", "null"), ("host", "null")],
            &[("host", "gateway")],
        ] {
            let refused = check_same_origin(&headers(other)).unwrap_err();
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{other:?}");
        }
    }

    #[test]
    fn a_form_has_its_three_fields_once_each() {
        let key = Uuid::nil();
        let placement = Placement { key, sku: "A-1".to_owned(), quantity: 2 };
        let parse = |text: &str| Placement::parse(text.as_bytes());
        assert_eq!(parse(&format!("quantity=2&sku=A%2D1&key={key}")).unwrap(), placement);
        for wrong in [
            "",
            "key=1&sku=a&quantity=1",
            &format!("key={key}&sku=a&quantity=x"),
            &format!("key={key}&sku=a&quantity=%2B1"),
            &format!("key={key}&sku=a"),
            &format!("key={key}&sku=a&quantity=0"),
            &format!("key={key}&sku=a+b&quantity=1"),
            &format!("key={key}&sku=a&sku=b&quantity=1"),
            &format!("key={key}&sku=a&quantity=1&more=1"),
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sign_in_has_its_key_once_and_nothing_else() {
        assert_eq!(SignIn::parse(b"key=+abc%0A").unwrap().key, "abc");
        for wrong in ["", "key=a&key=b", "key=a&sku=b", "sku=a"] {
            assert!(SignIn::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_a_placement_within_bounds_or_a_400(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            match Placement::parse(&bytes) {
                Ok(placement) => proptest::prop_assert!((1..=MAX_QUANTITY).contains(&placement.quantity)),
                Err(problem) => proptest::prop_assert_eq!(problem.status(), StatusCode::BAD_REQUEST),
            }
        }
    }

    #[test]
    fn each_refusal_is_told_as_what_it_was() {
        for (status, problem, expected) in [
            (201, "", Outcome::Placed),
            (409, "insufficient-stock", Outcome::Insufficient),
            (409, "idempotency-key-at-work", Outcome::InProgress),
            (409, "illegal-move", Outcome::Rejected),
            (409, "another", Outcome::Conflict),
            (422, "unknown-sku", Outcome::UnknownItem),
            (422, "idempotency-key-reused", Outcome::Reused),
            (422, "total-too-large", Outcome::TotalTooLarge),
            (422, "invalid-values", Outcome::Refused),
            (404, "not-found", Outcome::NoOrder),
            (503, "unavailable", Outcome::Failed),
            (500, "", Outcome::Failed),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Outcome::of(status, problem, Outcome::Placed), expected, "{problem}");
        }
    }

    #[test]
    fn an_outcome_comes_back_by_its_name_and_nothing_else_does() {
        for outcome in Outcome::ALL {
            assert_eq!(
                Outcome::from_query(Some(&format!("outcome={}", outcome.name()))),
                Some(outcome)
            );
        }
        assert_eq!(Outcome::from_query(Some("outcome=<script>")), None);
        assert_eq!(Outcome::from_query(None), None);
    }
}
