//! The keys that a cluster publishes (a JSON Web Key set, RFC 7517), each bound to one algorithm.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

use crate::BoxError;

/// An issuer's keys by their names.
#[derive(Debug)]
pub(super) struct KeySet {
    issuer: String,
    keys: HashMap<String, Key>,
    /// What they were read from: the same again changes nothing.
    text: Vec<u8>,
}

impl KeySet {
    /// Reads a published set; keys of a kind that we do not verify are left out.
    pub(super) fn parse(issuer: String, text: Vec<u8>) -> Result<Self, BoxError> {
        let set: Jwks = serde_json::from_slice(&text)?;
        let keys: HashMap<_, _> = set.keys.into_iter().filter_map(Jwk::key).collect();
        if keys.is_empty() {
            return Err("there is no key of RS256, ES256 or ES384 among the published ones".into());
        }
        Ok(Self { issuer, keys, text })
    }

    /// Whose keys they are.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key of that name.
    pub(super) fn get(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        (&self.issuer, &self.text) == (&other.issuer, &other.text)
    }
}

/// A public key. Its kind decides the algorithm; nobody else does.
#[derive(Debug)]
pub(super) enum Key {
    /// RSA of 2048 to 8192 bits: RS256.
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// A point on P-256 or P-384: ES256 or ES384.
    Ec(&'static str, &'static EcdsaVerificationAlgorithm, Vec<u8>),
}

impl Key {
    /// The algorithm's name (RFC 7518, 3.1).
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(name, ..) => name,
        }
    }

    /// Is it this key's signature of the message?
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Self::Ec(_, algorithm, point) => {
                UnparsedPublicKey::new(*algorithm, point).verify(message, signature)
            }
        }
        .is_ok()
    }
}

/// A set as it is published.
#[derive(Debug, Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// A key as it is published (RFC 7517, 4; RFC 7518, 6).
#[derive(Debug, Deserialize)]
struct Jwk {
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    kty: String,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// The key with its name, if it is one for signatures of a kind that we verify.
    fn key(self) -> Option<(String, Key)> {
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                Key::Rsa(RsaPublicKeyComponents { n: number(self.n)?, e: number(self.e)? })
            }
            ("EC", Some("P-256")) => {
                Key::Ec("ES256", &ECDSA_P256_SHA256_FIXED, point(self.x, self.y, 32)?)
            }
            ("EC", Some("P-384")) => {
                Key::Ec("ES384", &ECDSA_P384_SHA384_FIXED, point(self.x, self.y, 48)?)
            }
            _ => return None,
        };
        let is_for_signatures = self.usage.is_none_or(|usage| usage == "sig");
        let agrees = self.alg.is_none_or(|algorithm| algorithm == key.algorithm());
        (is_for_signatures && agrees).then_some((self.kid?, key))
    }
}

fn number(text: Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

/// The uncompressed form (SEC 1, 2.3.3) of a point whose coordinates have that many bytes.
fn point(x: Option<String>, y: Option<String>, bytes: usize) -> Option<Vec<u8>> {
    let (x, y) = (number(x)?, number(y)?);
    (x.len() == bytes && y.len() == bytes).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::testing::Signer, *};

    fn parse(keys: &[Value]) -> Result<KeySet, BoxError> {
        KeySet::parse("i".to_owned(), json!({"keys": keys}).to_string().into_bytes())
    }

    #[test]
    fn keys_that_are_not_for_these_signatures_are_left_out() {
        let rsa = Signer::rs256("rsa").jwk();
        let with = |name: &str, value: Value| {
            let mut key = rsa.clone();
            key["kid"] = json!("other");
            key[name] = value;
            key
        };
        for other in [
            with("use", json!("enc")),
            with("alg", json!("PS256")),
            with("alg", json!("HS256")),
            with("kty", json!("oct")),
            with("kid", Value::Null),
            with("n", Value::Null),
            with("n", json!("not base64!")),
            json!({"kid": "other", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
            json!({"kid": "other", "kty": "OKP", "crv": "Ed25519", "x": "AA"}),
        ] {
            let set = parse(&[rsa.clone(), other.clone()]).unwrap();
            assert!(set.get("other").is_none() && set.get("rsa").is_some(), "{other}");
            assert!(parse(&[other]).is_err());
        }
    }
}
