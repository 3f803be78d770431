//! Idempotency keys, which belong to the caller who sent them.

use hyper::{HeaderMap, header::HeaderName};

use crate::{
    Problem,
    input::{idempotency_key, is_identifier},
};

/// By this header the gateway tells the services who calls: the name of the API key, which stays when its secret is
/// rotated. From outside it is believed of nobody.
pub const CALLER: HeaderName = HeaderName::from_static("x-caller");

/// The caller's name; none when there is no such header, more than one, or it holds no identifier.
pub fn caller(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(CALLER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok().filter(|name| is_identifier(name))
}

/// An idempotency key with its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    text: String,
    caller: Option<String>,
}

impl Key {
    /// A request's key: 400 when it has none.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = idempotency_key(headers)?;
        Ok(Self { text, caller: caller(headers).map(str::to_owned) })
    }

    /// The key as it was sent. Its first caller's row is stored under it, where programs from before keys had callers
    /// find it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The caller's name, where it is known.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// What the row of a caller who is not the first is stored under: no text that anybody can send, since it is not all
    /// visible. None where the caller is not known.
    pub fn callers_own(&self) -> Option<String> {
        self.caller.as_ref().map(|caller| format!("{caller}\n{}", self.text))
    }

    /// May a row that is stored under the key's text, with this caller, answer this key? One without a caller may answer
    /// all: it is of a program from before.
    pub fn is_answered_by(&self, caller: Option<&str>) -> bool {
        match (&self.caller, caller) {
            (Some(mine), Some(caller)) => mine == caller,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(callers: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "k".parse().unwrap());
        for caller in callers {
            headers.append(CALLER, caller.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_caller_is_one_identifier() {
        assert_eq!(caller(&headers(&["people.1"])), Some("people.1"));
        for none in [&[][..], &[""], &["a b"], &["é"], &["a", "a"], &["a\tb"], &["-a"]] {
            assert_eq!(caller(&headers(none)), None, "{none:?}");
        }
    }

    #[test]
    fn no_key_that_is_sent_is_a_callers_own_text_and_no_two_callers_share_one() {
        let own = |caller: &str| Key::of(&headers(&[caller])).unwrap().callers_own().unwrap();
        assert_eq!(own("ada"), "ada\nk");
        assert_ne!(own("ada"), own("bob"));
        let mut sent = HeaderMap::new();
        // A header cannot hold it at all; and what else is not visible is no key.
        assert!(hyper::header::HeaderValue::from_str(&own("ada")).is_err());
        sent.insert("idempotency-key", "ada\tk".parse().unwrap());
        assert!(Key::of(&sent).is_err());
    }

    #[test]
    fn a_row_answers_its_caller_and_one_without_a_caller_answers_all() {
        let (ada, nobody) = (Key::of(&headers(&["ada"])).unwrap(), Key::of(&headers(&[])).unwrap());
        assert!(ada.is_answered_by(Some("ada")) && ada.is_answered_by(None));
        assert!(!ada.is_answered_by(Some("bob")));
        assert!(nobody.is_answered_by(Some("bob")) && nobody.is_answered_by(None));
        assert_eq!(nobody.callers_own(), None);
    }
}
