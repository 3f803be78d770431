//! Makes keys and tokens, good and bad, for tests.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};

/// A key pair with a name, as an issuer has it.
#[derive(Debug)]
pub struct Signer {
    id: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Ecdsa(&'static str, Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    /// A new key of ES256.
    pub fn es256(id: &str) -> Self {
        Self::ecdsa(id, "ES256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    /// A new key of ES384.
    pub fn es384(id: &str) -> Self {
        Self::ecdsa(id, "ES384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn ecdsa(id: &str, name: &'static str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("there is randomness");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random);
        let pair = Box::new(pair.expect("it was just made"));
        Self { id: id.to_owned(), pair: Pair::Ecdsa(name, pair) }
    }

    /// A key of RS256, always the same: ring makes none.
    ///
    /// # Panics
    /// Never.
    pub fn rs256(id: &str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(include_bytes!("testing/rsa-for-tests.pk8"));
        Self { id: id.to_owned(), pair: Pair::Rsa(Box::new(pair.expect("the file is a key"))) }
    }

    /// As it is published.
    pub fn jwk(&self) -> Value {
        let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Ecdsa(name, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if *name == "ES256" { "P-256" } else { "P-384" };
                json!({"kid": self.id, "use": "sig", "alg": name, "kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)})
            }
            Pair::Rsa(pair) => {
                let PublicKeyComponents { n, e } =
                    PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kid": self.id, "use": "sig", "alg": "RS256", "kty": "RSA", "n": base64(&n), "e": base64(&e)})
            }
        }
    }

    /// The header of its tokens.
    pub fn header(&self) -> Value {
        let algorithm = match &self.pair {
            Pair::Ecdsa(name, _) => name,
            Pair::Rsa(_) => "RS256",
        };
        json!({"alg": algorithm, "kid": self.id})
    }

    /// A token that says that.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    /// A token with another header than it should have.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        compact(header, claims, |signed| {
            let random = SystemRandom::new();
            match &self.pair {
                Pair::Ecdsa(_, pair) => {
                    pair.sign(&random, signed).expect("there is randomness").as_ref().to_vec()
                }
                Pair::Rsa(pair) => {
                    let mut signature = vec![0; pair.public().modulus_len()];
                    let signed = pair.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature);
                    signed.expect("there is randomness");
                    signature
                }
            }
        })
    }
}

/// A token signed by whoever knows what everybody knows: HMAC with the published key as the secret.
pub fn confused(id: &str, published: &Value, claims: &Value) -> String {
    let header = json!({"alg": "HS256", "kid": id});
    compact(&header, claims, |signed| {
        let secret = published["n"].as_str().unwrap_or_default();
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed).as_ref().to_vec()
    })
}

/// A token's compact form with any signature.
pub fn compact(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// What Kubernetes writes into a token for a service account, valid for an hour from `now`.
pub fn claims(issuer: &str, audience: &str, subject: &str, now: u64) -> Value {
    json!({"iss": issuer, "aud": [audience], "sub": subject, "iat": now, "nbf": now, "exp": now + 3600})
}
