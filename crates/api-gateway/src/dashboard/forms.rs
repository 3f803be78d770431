//! The dashboard's forms: placing and cancelling, from our own page only.

use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION, ORIGIN},
};
use serde_json::{Value, json};
use service_kit::{Problem, Response, body, input::is_identifier};
use uuid::Uuid;

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
        let (mut key, mut sku, mut quantity) = (None, None, None);
        for (name, value) in form_urlencoded::parse(bytes) {
            let field = match name.as_ref() {
                "key" => &mut key,
                "sku" => &mut sku,
                "quantity" => &mut quantity,
                _ => return Err(Problem::bad_request("the form has key, sku and quantity")),
            };
            if field.replace(value.into_owned()).is_some() {
                return Err(Problem::bad_request("a field of the form stands twice"));
            }
        }
        let key = key.and_then(|key| key.parse().ok());
        let quantity = quantity.and_then(|quantity| quantity.trim().parse().ok());
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

/// Back to the page, which tells what became of it.
pub fn back(outcome: Outcome) -> Response {
    let mut response =
        body::text(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", outcome.message());
    let location = format!("/?outcome={}#orders", outcome.name());
    let location = HeaderValue::from_str(&location).expect("the names are ASCII");
    response.headers_mut().insert(LOCATION, location);
    response
}

/// What became of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The order is confirmed, or will be.
    Placed,
    /// There was not enough.
    Insufficient,
    /// The order is cancelled.
    Cancelled,
    /// The values were not understood.
    Refused,
    /// A service did not answer.
    Failed,
}

impl Outcome {
    const ALL: [Self; 5] =
        [Self::Placed, Self::Insufficient, Self::Cancelled, Self::Refused, Self::Failed];

    /// By what a service answered.
    pub fn of(status: StatusCode, success: Self) -> Self {
        match status {
            status if status.is_success() => success,
            StatusCode::CONFLICT => Self::Insufficient,
            status if status.is_client_error() => Self::Refused,
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
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// What a person reads.
    pub fn message(self) -> &'static str {
        match self {
            Self::Placed => "The order is placed.",
            Self::Insufficient => "Not done: not enough is in stock, or the order is past that.",
            Self::Cancelled => "The order is cancelled; its stock is back.",
            Self::Refused => "Not done: a value was not understood.",
            Self::Failed => "Not done: a service does not answer. Try again in a moment.",
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
            &format!("key={key}&sku=a"),
            &format!("key={key}&sku=a&quantity=0"),
            &format!("key={key}&sku=a+b&quantity=1"),
            &format!("key={key}&sku=a&sku=b&quantity=1"),
            &format!("key={key}&sku=a&quantity=1&more=1"),
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
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
