//! What requests bring: paths, credentials, keys, pages, and the faults of values, collected into one answer.

use std::str;

use hyper::{HeaderMap, Method, StatusCode, header::AUTHORIZATION};

use crate::{Problem, text::is_visible};

/// The most segments of a path.
const MAX_SEGMENTS: usize = 8;
/// What the bearer scheme is called in `Authorization` (RFC 6750, 2.1).
const BEARER: &str = "Bearer ";
/// The longest credential that is looked at, in bytes: what is longer is refused before any work. A cluster's tokens
/// have about one thousand.
const MAX_CREDENTIAL: usize = 8 * 1024;
/// The pages' default size.
const PAGE_SIZE: i64 = 50;
/// The pages' largest size; a larger wish gets this.
const MAX_PAGE_SIZE: i64 = 200;

/// The method by which a route is found: HEAD goes where GET does (RFC 9110, 9.3.2), and our server leaves the body out.
pub fn as_get(method: &Method) -> &Method {
    if *method == Method::HEAD { &Method::GET } else { method }
}

/// A path's segments after the leading slash.
#[derive(Debug, Default)]
pub struct Segments<'a> {
    segments: [&'a str; MAX_SEGMENTS],
    count: usize,
}

impl<'a> Segments<'a> {
    /// All of them.
    pub fn as_slice(&self) -> &[&'a str] {
        &self.segments[..self.count]
    }
}

/// A path's segments. None when it holds anything that would have to be decoded or resolved: no identifier of ours
/// needs it, and two readings of one path are a hole. None too when there are more than a route of ours has.
pub fn segments(path: &str) -> Option<Segments<'_>> {
    let mut all = Segments::default();
    let mut rest = path.strip_prefix('/')?;
    loop {
        let length = rest.bytes().position(|byte| !is_plain(byte)).unwrap_or(rest.len());
        let (segment, more) = rest.split_at(length);
        if matches!(segment, "" | "." | "..") {
            return None;
        }
        *all.segments.get_mut(all.count)? = segment;
        all.count += 1;
        if more.is_empty() {
            return Some(all);
        }
        rest = more.strip_prefix('/')?;
    }
}

/// Is it 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit?
pub fn is_identifier(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-')
}

/// The `Idempotency-Key` header: 400 when it is missing or not 1 to 255 visible ASCII characters.
pub fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let missing = || {
        Problem::new(StatusCode::BAD_REQUEST, "idempotency-key-missing", "An Idempotency-Key is needed")
            .detail("send one header Idempotency-Key of 1 to 255 visible ASCII characters, another for each order")
    };
    let mut values = headers.get_all("idempotency-key").iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(missing()) };
    let valid =
        (1..=255).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    let text = value.to_str().map_err(|_| missing())?;
    if valid { Ok(text.to_owned()) } else { Err(missing()) }
}

/// A request's bearer credential: none when there is no `Authorization`, more than one, another scheme, or too much.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    if value.len() > BEARER.len() + MAX_CREDENTIAL {
        return None;
    }
    let (scheme, credential) = value.to_str().ok()?.split_at_checked(BEARER.len())?;
    // Schemes are compared without case (RFC 9110, 11.1).
    scheme.eq_ignore_ascii_case(BEARER).then_some(credential)
}

/// Which page of a list is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// How many entries at most.
    pub size: i64,
    /// The key of the last entry of the page before.
    pub after: Option<String>,
}

impl Page {
    /// Reads `page_size` and `page_token`, each once at most, from a query for this list; anything else is a fault.
    pub fn from_query(query: Option<&str>, list: List) -> Result<Self, Problem> {
        let (mut size, mut after) = (None, None);
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "page_size" => {
                    let number = digits(value).filter(|size| *size > 0).ok_or_else(|| {
                        Problem::bad_request("page_size is not a whole number above 0")
                    })?;
                    once(&mut size, i64::from(number).min(MAX_PAGE_SIZE), name)?;
                }
                "page_token" => {
                    let key = list.decode(value).ok_or_else(|| {
                        Problem::bad_request("page_token is not one of this list")
                    })?;
                    once(&mut after, key, name)?;
                }
                _ => {
                    return Err(Problem::bad_request(
                        "there are the parameters page_size and page_token",
                    ));
                }
            }
        }
        Ok(Self { size: size.unwrap_or(PAGE_SIZE), after })
    }

    /// Cuts this list that was read with one entry too many; the token of the next page, if there is one.
    pub fn cut<T>(
        &self,
        list: List,
        entries: &mut Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Option<String> {
        let size = usize::try_from(self.size).expect("a page size is small");
        if entries.len() <= size {
            return None;
        }
        entries.truncate(size);
        entries.last().map(|last| list.encode(&key(last)))
    }
}

/// A list that is read in pages: its tokens are good for no other.
#[derive(Debug, Clone, Copy)]
pub struct List {
    /// What its tokens begin with: a letter, another for each list, and for each form of their keys.
    pub tag: char,
    /// Is a text one of its keys, in the spelling that tokens are made of?
    pub is_key: fn(&str) -> bool,
}

impl List {
    /// An opaque token: hexadecimal, so that it needs no escaping anywhere.
    fn encode(self, key: &str) -> String {
        key.bytes().fold(self.tag.into(), |token, byte| format!("{token}{byte:02x}"))
    }

    /// The key of a token; none unless it is spelled as it was given.
    fn decode(self, token: &str) -> Option<String> {
        let hex = token.strip_prefix(self.tag)?.as_bytes();
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let bytes = hex.chunks(2).map(|pair| match *pair {
            [high, low] => Some((digit(high)? << 4) | digit(low)?),
            _ => None,
        });
        let key = String::from_utf8(bytes.collect::<Option<_>>()?).ok()?;
        (self.is_key)(&key).then_some(key)
    }
}

/// A whole number in digits alone: Rust's own parser takes a sign.
pub fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Sets a parameter's value, unless it was set before.
fn once<T>(parameter: &mut Option<T>, value: T, name: &str) -> Result<(), Problem> {
    match parameter.replace(value) {
        None => Ok(()),
        Some(_) => Err(Problem::bad_request(format!("the parameter {name} is given twice"))),
    }
}

/// Collects what is wrong with a request's values.
#[derive(Debug, Default)]
pub struct Faults(Vec<(String, String)>);

impl Faults {
    /// A fault of the field at `path` unless the condition holds.
    pub fn check(&mut self, holds: bool, path: impl Into<String>, detail: impl Into<String>) {
        if !holds {
            self.0.push((path.into(), detail.into()));
        }
    }

    /// A fault unless the text has 1 to `limit` characters, and all of it can be seen.
    pub fn check_text(&mut self, text: &str, limit: usize, path: &str) {
        let length = text.chars().count();
        self.check(
            (1..=limit).contains(&length) && is_visible(text),
            path,
            format!(
                "has 1 to {limit} characters, at least one of them visible, and no control or invisible ones"
            ),
        );
    }

    /// 422 with every fault, if there is one.
    pub fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        let problem = Problem::unprocessable("see errors");
        Err(self.0.into_iter().fold(problem, |problem, (path, detail)| problem.field(path, detail)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn paths_that_need_decoding_are_none() {
        assert_eq!(segments("/v1/items").unwrap().as_slice(), ["v1", "items"]);
        assert_eq!(segments("/1/2/3/4/5/6/7/8").unwrap().as_slice().len(), 8);
        for path in [
            "/v1/%69tems",
            "/v1//items",
            "/v1/../metrics",
            "/v1/items/",
            "//v1",
            "/",
            "v1",
            "/v1/it\u{e9}ms",
            "/a;b",
            "/1/2/3/4/5/6/7/8/9",
        ] {
            assert!(segments(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_credential_is_one_of_the_bearer_scheme_and_not_too_long() {
        let with = |values: &[&str]| {
            let headers: HeaderMap =
                values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect();
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(with(&["Bearer a.b.c"]).as_deref(), Some("a.b.c"));
        assert_eq!(with(&["bearer x"]).as_deref(), Some("x"));
        let long = format!("Bearer {}", "a".repeat(MAX_CREDENTIAL + 1));
        for none in
            [&[][..], &["Basic YTpi"], &["Bearer"], &["x"], &["Bearer a", "Bearer a"], &[&long]]
        {
            assert_eq!(with(none), None, "{none:?}");
        }
    }

    const LIST: List = List { tag: 't', is_key: |key| !key.is_empty() };
    const OTHER: List = List { tag: 'o', ..LIST };

    #[test]
    fn page_tokens_come_back_and_others_are_refused() {
        let page = Page { size: 2, after: None };
        let mut entries = vec!["a", "bé", "c"];
        let token = page.cut(LIST, &mut entries, |entry| (*entry).to_owned()).unwrap();
        assert_eq!(entries, ["a", "bé"]);
        let query = format!("page_size=500&page_token={token}");
        let next = Page::from_query(Some(&query), LIST).unwrap();
        assert_eq!(next, Page { size: 200, after: Some("bé".to_owned()) });
        assert!(Page::from_query(Some(&query), OTHER).is_err());
        for query in [
            &format!("{query}&page_size=1"),
            &format!("{query}&page_token={token}"),
            &format!("page_token={}", token.to_uppercase()),
            "page_token=x",
            "page_token=t6",
            "page_token=t+6",
            "page_token=tff",
            "page_token=t",
            "page_size=0",
            "page_size=-1",
            "page_size=+1",
            "page_size=",
            "limit=3",
        ] {
            assert!(Page::from_query(Some(query), LIST).is_err(), "{query}");
        }
    }

    proptest! {
        /// What is taken as a path's segments gives the same path again: there is no second reading of it.
        #[test]
        fn segments_are_the_path(path in "[/a-z.%_;\\PC]{0,40}") {
            if let Some(segments) = segments(&path) {
                let segments = segments.as_slice();
                prop_assert_eq!(&format!("/{}", segments.join("/")), &path);
                prop_assert!(!segments.contains(&"..") && !segments.contains(&"."));
            }
        }

        #[test]
        fn a_page_token_comes_back_as_the_key_it_was_made_of(key in "\\PC{1,100}") {
            let token = LIST.encode(&key);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            prop_assert_eq!(OTHER.decode(&token), None);
            prop_assert_eq!(LIST.decode(&token), Some(key));
        }

        /// There is one spelling of each token.
        #[test]
        fn a_token_that_is_read_is_the_one_that_was_given(token in "t[0-9a-fA-F+]{0,12}") {
            if let Some(key) = LIST.decode(&token) {
                prop_assert_eq!(LIST.encode(&key), token);
            }
        }

        #[test]
        fn any_query_is_a_page_within_bounds_or_a_400(query in "\\PC{0,60}") {
            match Page::from_query(Some(&query), LIST) {
                Ok(page) => prop_assert!((1..=MAX_PAGE_SIZE).contains(&page.size)),
                Err(problem) => prop_assert_eq!(problem.status(), StatusCode::BAD_REQUEST),
            }
        }

        #[test]
        fn any_authorization_is_a_credential_or_none(value in vec(any::<u8>(), 0..40)) {
            let Ok(value) = hyper::header::HeaderValue::from_bytes(&value) else { return Ok(()) };
            let _never_panics = bearer(&HeaderMap::from_iter([(AUTHORIZATION, value)]));
        }

        #[test]
        fn any_header_is_a_key_of_visible_ascii_or_a_400(value in vec(any::<u8>(), 0..300)) {
            let Ok(value) = hyper::header::HeaderValue::from_bytes(&value) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(hyper::header::HeaderName::from_static("idempotency-key"), value)]);
            match idempotency_key(&headers) {
                Ok(key) => prop_assert!((1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())),
                Err(problem) => prop_assert_eq!(problem.status(), StatusCode::BAD_REQUEST),
            }
        }
    }

    #[test]
    fn idempotency_keys_are_visible_ascii() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("idempotency-key", value.parse().unwrap());
            }
            idempotency_key(&headers).is_ok()
        };
        assert!(with(&["a"]));
        assert!(with(&[&"k".repeat(255)]));
        for wrong in [&[][..], &[""], &["a b"], &["a", "b"], &[&"k".repeat(256)]] {
            assert!(!with(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn identifiers_are_short_and_plain() {
        assert!(is_identifier("BOLT-M8.a_1"));
        for wrong in ["", "-a", ".", "a b", "é", &"a".repeat(65)] {
            assert!(!is_identifier(wrong), "{wrong}");
        }
    }
}
