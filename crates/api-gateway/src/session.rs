//! Sessions of the dashboard: a cookie that any replica verifies, and none keeps.
//!
//! It names an API key and its own end, authenticated by HMAC-SHA-256 (RFC 2104) over both and the key's hash: with the
//! key it ends too. What is not kept cannot be taken back: after signing out the cookie is gone from the browser alone.

use std::{str, sync::Arc};

use hyper::{
    HeaderMap,
    header::{COOKIE, HeaderValue},
};
use ring::hmac;
use service_kit::BoxError;
use subtle::ConstantTimeEq;

use crate::keys::{Key, Keys, hex};

/// The cookie's name.
const NAME: &str = "stockyard_session";
/// How long a session lasts, in seconds.
const LIFETIME: u64 = 8 * 3600;
/// What the cookie is bound to: our own pages, and no script.
const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Strict";

/// Signs and verifies.
#[derive(Debug)]
pub struct Signer(hmac::Key);

impl Signer {
    /// Reads the file with the secret.
    ///
    /// # Errors
    /// When it is too short.
    pub fn parse(text: &str) -> Result<Self, BoxError> {
        let secret = text.trim();
        if secret.len() < 32 {
            return Err("a session's secret has at least 32 characters".into());
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
    }

    /// `Set-Cookie` for a new session at `now`, in seconds since the Unix epoch; over HTTPS for HTTPS alone.
    pub fn begin(&self, key: &Key, now: u64, is_https: bool) -> String {
        let value = self.value(key, now + LIFETIME);
        format!("{NAME}={value}; Max-Age={LIFETIME}; {ATTRIBUTES}{}", secure(is_https))
    }

    /// The key whose session a request belongs to, if it does to one that lasts at `now`.
    pub fn key(&self, headers: &HeaderMap, keys: &Keys, now: u64) -> Option<Arc<Key>> {
        let value = cookie(headers)?;
        let (named, _) = value.rsplit_once('.')?;
        let (name, end) = named.rsplit_once('.')?;
        let end = end.parse().ok().filter(|end| *end > now)?;
        let key = keys.named(name)?;
        bool::from(self.value(&key, end).as_bytes().ct_eq(value.as_bytes())).then_some(key)
    }

    fn value(&self, key: &Key, end: u64) -> String {
        let named = format!("{}.{end}", key.name());
        let tag = hmac::sign(&self.0, format!("session\n{named}\n{}", key.sha256()).as_bytes());
        format!("{named}.{}", hex(tag.as_ref()))
    }
}

/// `Set-Cookie` that takes the session away.
pub fn end(is_https: bool) -> String {
    format!("{NAME}=; Max-Age=0; {ATTRIBUTES}{}", secure(is_https))
}

fn secure(is_https: bool) -> &'static str {
    if is_https { "; Secure" } else { "" }
}

/// The cookie's value; none when there is none, or several. Pairs are read as bytes, each by itself: those of other
/// applications on the same host may hold anything.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let mut values =
        pairs.filter_map(|pair| pair.strip_prefix(NAME.as_bytes())?.strip_prefix(b"="));
    let first = values.next()?;
    values.next().is_none().then_some(str::from_utf8(first).ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_000_000;

    fn keys(sha256: &str) -> Keys {
        let key = json!([{"name": "a.b", "sha256": sha256.repeat(64), "may": "write", "requests_per_second": 1}]);
        Keys::parse(&key.to_string()).unwrap()
    }

    fn signer(secret: &str) -> Signer {
        Signer::parse(&secret.repeat(32)).unwrap()
    }

    fn sent_back(set_cookie: &str) -> HeaderMap {
        let pair = set_cookie.split(';').next().unwrap();
        HeaderMap::from_iter([(COOKIE, format!("x=1; {pair}").parse().unwrap())])
    }

    #[test]
    fn a_session_is_its_keys_until_its_end() {
        let (signer, keys) = (signer("s"), keys("1"));
        let begun = signer.begin(&keys.named("a.b").unwrap(), NOW, false);
        let headers = sent_back(&begun);
        assert_eq!(signer.key(&headers, &keys, NOW).unwrap().name(), "a.b");
        assert!(signer.key(&headers, &keys, NOW + LIFETIME - 1).is_some());
        assert!(signer.key(&headers, &keys, NOW + LIFETIME).is_none());
        assert!(signer.key(&sent_back(&end(false)), &keys, NOW).is_none());
    }

    #[test]
    fn no_script_and_no_other_site_gets_the_cookie() {
        let keys = keys("1");
        let key = keys.named("a.b").unwrap();
        let begun = |is_https| signer("s").begin(&key, NOW, is_https);
        assert!(begun(false).ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{}", begun(false));
        assert!(begun(true).ends_with("; SameSite=Strict; Secure"), "{}", begun(true));
    }

    #[test]
    fn a_session_of_another_secret_another_key_or_another_end_is_none() {
        let keys_now = keys("1");
        let begun = signer("s").begin(&keys_now.named("a.b").unwrap(), NOW, false);
        let headers = sent_back(&begun);
        assert!(signer("t").key(&headers, &keys_now, NOW).is_none());
        assert!(signer("s").key(&headers, &keys("2"), NOW).is_none(), "the key was replaced");
        let later = begun.replace(&(NOW + LIFETIME).to_string(), &(NOW + LIFETIME + 1).to_string());
        assert!(signer("s").key(&sent_back(&later), &keys_now, NOW).is_none());
        let twice =
            HeaderMap::from_iter([(COOKIE, format!("{NAME}=a; {NAME}=b").parse().unwrap())]);
        assert!(signer("s").key(&twice, &keys_now, NOW).is_none());
    }

    proptest::proptest! {
        #[test]
        fn a_made_up_cookie_is_no_session(value in "[ -~]{0,120}") {
            let headers = HeaderMap::from_iter([(COOKIE, format!("{NAME}={value}").parse().unwrap())]);
            proptest::prop_assert!(signer("s").key(&headers, &keys("1"), NOW).is_none());
        }

        #[test]
        fn other_applications_cookies_end_no_session(other in "[^;\x00-\x1f\x7f]{0,40}") {
            proptest::prop_assume!(!other.trim().starts_with(NAME));
            let keys = keys("1");
            let begun = signer("s").begin(&keys.named("a.b").unwrap(), NOW, false);
            let own = begun.split(';').next().unwrap();
            for line in [format!("{other}; {own}"), format!("{own};{other}")] {
                let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
                let headers = HeaderMap::from_iter([(COOKIE, line)]);
                proptest::prop_assert!(signer("s").key(&headers, &keys, NOW).is_some());
            }
        }
    }
}
