//! Service accounts' tokens (RFC 7519): as the cluster gives them, and as nobody may take them.

pub mod forged;

use anyhow::{Context, anyhow};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};

use crate::{Result, cluster::kubectl};

/// A token of an account, for ten minutes, as the API server gives it; for the API server itself if nobody is named.
pub async fn of(namespace: &str, account: &str, audience: Option<&str>) -> Result<String> {
    let audience = audience.map(|audience| format!("--audience={audience}")).unwrap_or_default();
    let token =
        kubectl(&format!("create token {account} -n {namespace} {audience} --duration=10m"))
            .await?;
    Ok(token.trim_end().to_owned())
}

/// The keys that the cluster publishes.
pub async fn published_keys() -> Result<Vec<Value>> {
    let set: Value = serde_json::from_str(&kubectl("get --raw /openid/v1/jwks").await?)?;
    set["keys"].as_array().cloned().context("no key set")
}

/// A token's three parts (JWS compact serialisation, RFC 7515).
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes a token apart.
    pub fn of(token: &'a str) -> Result<Self> {
        let mut parts = token.split('.');
        let [header, claims, signature] = std::array::from_fn(|_| parts.next());
        let parts = header.zip(claims).zip(signature);
        let ((header, claims), signature) = parts.context("a token has three parts")?;
        Ok(Self { header, claims, signature })
    }

    /// The name of the key that signed it.
    pub fn key_id(self) -> Result<String> {
        let header = decoded(self.header)?;
        header["kid"].as_str().map(str::to_owned).context("its key has no name")
    }
}

fn decoded(part: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
}

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

/// A value with another member, or with another value for one.
fn with(value: &Value, name: &str, member: impl Into<Value>) -> Value {
    let mut value = value.clone();
    value[name] = member.into();
    value
}

/// A private key that signs tokens.
#[derive(Debug)]
pub enum SigningKey {
    /// RS256.
    Rsa(Box<RsaKeyPair>),
    /// ES256.
    Ec(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// A key of nobody but ours.
    pub fn generate() -> Result<Self> {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .map_err(|_| anyhow!("no key could be made"))?;
        Self::from_pkcs8(key.as_ref())
    }

    /// Reads one from PEM (PKCS #8).
    pub fn from_pem(pem: &str) -> Result<Self> {
        let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        Self::from_pkcs8(&STANDARD.decode(lines)?)
    }

    fn from_pkcs8(key: &[u8]) -> Result<Self> {
        if let Ok(key) = RsaKeyPair::from_pkcs8(key) {
            return Ok(Self::Rsa(Box::new(key)));
        }
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &SystemRandom::new())
            .map(|key| Self::Ec(Box::new(key)))
            .map_err(|error| anyhow!("a key neither of RSA nor of P-256: {error}"))
    }

    /// Its algorithm's name.
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
        }
    }

    /// Its public half as it would be published, if it is one of P-256.
    fn public(&self) -> Option<Value> {
        let Self::Ec(key) = self else { return None };
        let (x, y) = key.public_key().as_ref().get(1..)?.split_at_checked(32)?;
        let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
        Some(json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}))
    }

    /// A token with that header and these claims, and with a signature that holds.
    fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let done = key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature);
                done.map(|()| signature)
            }
            Self::Ec(key) => {
                key.sign(&random, signed.as_bytes()).map(|signature| signature.as_ref().to_vec())
            }
        };
        let signature = signature.map_err(|_| anyhow!("the key does not sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
