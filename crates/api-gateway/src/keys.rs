//! API keys as they are at rest: by name and SHA-256, with what each may do and how often.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use hyper::{Method, header::HeaderValue};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use service_kit::{BoxError, input::is_identifier};
use subtle::{Choice, ConstantTimeEq};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum May {
    /// Look.
    Read,
    /// Look and change.
    Write,
}

impl May {
    /// What a method takes.
    pub fn needed_for(method: &Method) -> Self {
        if matches!(*method, Method::GET | Method::HEAD) { Self::Read } else { Self::Write }
    }
}

/// A key as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    may: May,
    requests_per_second: NonZeroU32,
}

/// A key.
#[derive(Debug)]
pub struct Key {
    name: String,
    /// In hexadecimal digits. The text behind it is random and long, so no slow hash is needed.
    sha256: String,
    may: May,
    limiter: DefaultDirectRateLimiter,
}

impl Key {
    /// Its name, for metrics, sessions and the services.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name on the wire.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.name).expect("an identifier is visible ASCII")
    }

    /// The SHA-256 of its text, in hexadecimal digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Does it suffice for that?
    pub fn may(&self, needed: May) -> bool {
        self.may >= needed
    }

    /// Counts one request; the time to wait when it is one too many.
    pub fn spend(&self) -> Result<(), Duration> {
        spend(&self.limiter)
    }
}

/// Counts one use; the time to wait when it is one too many.
pub(crate) fn spend(limiter: &DefaultDirectRateLimiter) -> Result<(), Duration> {
    limiter.check().map_err(|until| until.wait_time_from(DefaultClock::default().now()))
}

/// All keys.
#[derive(Debug)]
pub struct Keys(Vec<Arc<Key>>);

impl Keys {
    /// Reads the file: a JSON list.
    ///
    /// # Errors
    /// When it is something else, is empty, or a name or hash is none or stands twice.
    pub fn parse(text: &str) -> Result<Self, BoxError> {
        let entries: Vec<Entry> = serde_json::from_str(text)?;
        if entries.is_empty() {
            return Err("there is no key in it".into());
        }
        let mut keys: Vec<Arc<Key>> = Vec::new();
        for Entry { name, sha256, may, requests_per_second } in entries {
            let sha256 = sha256.to_ascii_lowercase();
            let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_identifier(&name) || !is_hash {
                return Err(format!("{name:?} needs a name of letters, digits, '.', '_', '-', and sha256 with 64 hexadecimal digits").into());
            }
            if sha256 == hex(digest(&SHA256, b"").as_ref()) {
                return Err(format!("{name:?} has the hash of nothing: no key was hashed").into());
            }
            if keys.iter().any(|key| key.name == name || key.sha256 == sha256) {
                return Err(format!("{name:?} has the name or the hash of another").into());
            }
            let limiter = RateLimiter::direct(Quota::per_second(requests_per_second));
            keys.push(Arc::new(Key { name, sha256, may, limiter }));
        }
        Ok(Self(keys))
    }

    /// The key with that text. All are compared, each in constant time: how long it takes tells nothing.
    pub fn find(&self, text: &str) -> Option<Arc<Key>> {
        let shown = hex(digest(&SHA256, text.as_bytes()).as_ref());
        let same = |key: &Arc<Key>| key.sha256.as_bytes().ct_eq(shown.as_bytes());
        let compared: Vec<(Choice, &Arc<Key>)> =
            self.0.iter().map(|key| (same(key), key)).collect();
        compared.into_iter().find(|(same, _)| (*same).into()).map(|(_, key)| Arc::clone(key))
    }

    /// The key of that name.
    pub fn named(&self, name: &str) -> Option<Arc<Key>> {
        self.0.iter().find(|key| key.name == name).cloned()
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).expect("four bits are one digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(name: &str, text: &str) -> serde_json::Value {
        let sha256 = hex(digest(&SHA256, text.as_bytes()).as_ref());
        json!({"name": name, "sha256": sha256, "may": "write", "requests_per_second": 2})
    }

    #[test]
    fn a_key_is_found_by_its_text_among_several() {
        let keys = json!([entry("old", "a"), entry("new", "b")]).to_string();
        let keys = Keys::parse(&keys).unwrap();
        assert_eq!(keys.find("a").unwrap().name(), "old");
        assert_eq!(keys.find("b").unwrap().name(), "new");
        for none in ["", "c", "A", keys.named("old").unwrap().sha256()] {
            assert!(keys.find(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_key_has_its_rate_and_no_more() {
        let keys = Keys::parse(&json!([entry("a", "a")]).to_string()).unwrap();
        let key = keys.find("a").unwrap();
        assert!(key.spend().is_ok() && key.spend().is_ok());
        let wait = key.spend().unwrap_err();
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told() {
        let with = |name: &str, value: serde_json::Value| {
            let mut entry = entry("a", "a");
            entry[name] = value;
            json!([entry]).to_string()
        };
        for wrong in [
            "",
            "{}",
            "[]",
            &with("sha256", json!("ab")),
            &with("sha256", json!("g".repeat(64))),
            &json!([entry("a", "")]).to_string(),
            &with("name", json!("a b")),
            &with("may", json!("all")),
            &with("requests_per_second", json!(0)),
            &with("more", json!(1)),
            &json!([entry("a", "a"), entry("a", "b")]).to_string(),
            &json!([entry("a", "a"), entry("b", "a")]).to_string(),
        ] {
            assert!(Keys::parse(wrong).is_err(), "{wrong}");
        }
    }
}
