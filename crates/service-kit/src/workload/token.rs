//! A token as it comes in: three parts (JWS compact serialisation, RFC 7515), of which nothing is believed before the
//! signature holds.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};

use super::keys::Key;

/// How far the clocks of the API server and this node may be apart, in seconds.
const LEEWAY: u64 = 30;

/// Why a token counts for nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    /// It is no token at all.
    #[error("it is no token")]
    Malformed,
    /// No published key has that name.
    #[error("no key of this cluster has signed it")]
    UnknownKey,
    /// Its header names another algorithm than the key has.
    #[error("its algorithm is not that of its key")]
    Algorithm,
    /// Its signature is not one of its key.
    #[error("its signature does not hold")]
    Signature,
    /// Another issuer's.
    #[error("it is of another issuer")]
    Issuer,
    /// For somebody else.
    #[error("it is for another audience")]
    Audience,
    /// Its time is over.
    #[error("its time is over")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYetValid,
}

/// What a token says it is signed with.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// Extensions that must be understood (RFC 7515, 4.1.11): none is.
    crit: Option<IgnoredAny>,
}

/// What a token says. All of it must be there, and of the right type.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: u64,
    nbf: u64,
}

/// One or several (RFC 7519, 4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn has(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

/// A token whose parts are taken apart, and not verified.
#[derive(Debug)]
pub(super) struct Token<'a> {
    header: Header,
    /// What the signature is over: header and claims as they were sent.
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub(super) fn parse(text: &'a str) -> Result<Self, Invalid> {
        let (signed, signature) = text.rsplit_once('.').ok_or(Invalid::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Invalid::Malformed)?;
        let header: Header = json(header)?;
        if header.crit.is_some() {
            return Err(Invalid::Malformed);
        }
        Ok(Self { header, signed, claims, signature: decode(signature)? })
    }

    /// The name of the key that it says has signed it.
    pub(super) fn key_id(&self) -> &str {
        &self.header.kid
    }

    /// What it says, once the key's signature holds. The algorithm is the key's; the header must only agree: a token
    /// never chooses how it is verified (RFC 8725, 3.1).
    pub(super) fn verify(&self, key: &Key) -> Result<Verified, Invalid> {
        if self.header.alg != key.algorithm() {
            return Err(Invalid::Algorithm);
        }
        if !key.has_signed(self.signed.as_bytes(), &self.signature) {
            return Err(Invalid::Signature);
        }
        Ok(Verified(json(self.claims)?))
    }
}

/// The claims of a token whose signature holds.
#[derive(Debug)]
pub(super) struct Verified(Claims);

impl Verified {
    /// Its subject and when it holds, if it is from `issuer` and for `audience`.
    pub(super) fn check(self, issuer: &str, audience: &str) -> Result<(String, Time), Invalid> {
        let claims = self.0;
        if claims.iss != issuer {
            return Err(Invalid::Issuer);
        }
        if !claims.aud.has(audience) {
            return Err(Invalid::Audience);
        }
        Ok((claims.sub, Time { not_before: claims.nbf, expires: claims.exp }))
    }
}

/// When a token holds, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) not_before: u64,
    pub(super) expires: u64,
}

impl Time {
    /// Does it hold at `now`?
    pub(super) fn holds(self, now: u64) -> Result<(), Invalid> {
        if now >= self.expires.saturating_add(LEEWAY) {
            return Err(Invalid::Expired);
        }
        if now.saturating_add(LEEWAY) < self.not_before {
            return Err(Invalid::NotYetValid);
        }
        Ok(())
    }
}

fn decode(text: &str) -> Result<Vec<u8>, Invalid> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Invalid::Malformed)
}

fn json<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Invalid> {
    serde_json::from_slice(&decode(text)?).map_err(|_| Invalid::Malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{
            keys::KeySet,
            testing::{Signer, claims, compact, confused},
        },
        *,
    };

    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
    const NOW: u64 = 2_000_000_000;

    fn good() -> Value {
        claims(ISSUER, "stockyard-orders", "system:serviceaccount:staging:gateway-sa", NOW)
    }

    /// Verifies as a service does, against the keys of both signers.
    fn verified(signers: &[&Signer], token: &str) -> Result<String, Invalid> {
        let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
        let set = json!({"keys": keys}).to_string().into_bytes();
        let keys = KeySet::parse(ISSUER.to_owned(), set).unwrap();
        let token = Token::parse(token)?;
        let key = keys.get(token.key_id()).ok_or(Invalid::UnknownKey)?;
        let (subject, time) = token.verify(key)?.check(keys.issuer(), "stockyard-orders")?;
        time.holds(NOW)?;
        Ok(subject)
    }

    #[test]
    fn a_token_of_a_published_key_tells_its_subject() {
        for signer in [Signer::es256("a"), Signer::es384("a"), Signer::rs256("a")] {
            let subject = verified(&[&signer], &signer.token(&good())).unwrap();
            assert_eq!(subject, "system:serviceaccount:staging:gateway-sa");
        }
    }

    #[test]
    fn each_claim_must_be_there_with_its_type_and_hold() {
        let signer = Signer::es256("a");
        for (name, value, expected) in [
            ("iss", json!("https://elsewhere"), Invalid::Issuer),
            ("aud", json!(["stockyard-inventory"]), Invalid::Audience),
            ("aud", json!([]), Invalid::Audience),
            ("aud", json!("stockyard-order"), Invalid::Audience),
            ("exp", json!(NOW - LEEWAY), Invalid::Expired),
            ("nbf", json!(NOW + LEEWAY + 1), Invalid::NotYetValid),
            ("exp", json!((NOW + 60).to_string()), Invalid::Malformed),
            ("exp", json!(1e10), Invalid::Malformed),
            ("exp", json!(-1), Invalid::Malformed),
            ("nbf", json!("soon"), Invalid::Malformed),
            ("sub", json!(["system:serviceaccount:staging:gateway-sa"]), Invalid::Malformed),
            ("iss", Value::Null, Invalid::Malformed),
            ("aud", Value::Null, Invalid::Malformed),
            ("sub", Value::Null, Invalid::Malformed),
            ("exp", Value::Null, Invalid::Malformed),
            ("nbf", Value::Null, Invalid::Malformed),
        ] {
            let mut claims = good();
            claims[name] = value;
            let verified = verified(&[&signer], &signer.token(&claims));
            assert_eq!(verified, Err(expected), "{claims}");
        }
    }

    #[test]
    fn a_token_never_chooses_how_it_is_verified() {
        let (rsa, ec) = (Signer::rs256("rsa"), Signer::es256("ec"));
        let both = [&rsa, &ec];
        let none = |header: Value| compact(&header, &good(), |_| Vec::new());
        for (token, expected) in [
            (confused("rsa", &rsa.jwk(), &good()), Invalid::Algorithm),
            (none(json!({"alg": "none", "kid": "rsa"})), Invalid::Algorithm),
            (none(json!({"alg": "RS256", "kid": "rsa"})), Invalid::Signature),
            (none(json!({"alg": "none"})), Invalid::Malformed),
            (rsa.sign(&json!({"alg": "RS256", "kid": "ec"}), &good()), Invalid::Algorithm),
            (rsa.sign(&json!({"alg": "ES256", "kid": "ec"}), &good()), Invalid::Signature),
            (ec.sign(&json!({"alg": "ES256", "kid": "rsa"}), &good()), Invalid::Algorithm),
            (ec.sign(&json!({"alg": "ES256", "kid": "no"}), &good()), Invalid::UnknownKey),
            (Signer::es256("ec").token(&good()), Invalid::Signature),
            (
                ec.sign(&json!({"alg": "ES256", "kid": "ec", "crit": ["b64"]}), &good()),
                Invalid::Malformed,
            ),
        ] {
            assert_eq!(verified(&both, &token), Err(expected), "{token}");
        }
    }

    #[test]
    fn a_byte_changed_anywhere_makes_it_invalid() {
        let signer = Signer::es256("a");
        let token = signer.token(&good());
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(verified(&[&signer], &changed).is_err(), "byte {at}");
        }
        for changed in
            [format!("{token}="), format!("{token}.x"), format!(" {token}"), token[1..].to_owned()]
        {
            assert!(verified(&[&signer], &changed).is_err(), "{changed}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_token(text in "[A-Za-z0-9._-]{0,200}|\\PC{0,60}") {
            proptest::prop_assert!(Token::parse(&text).is_err() || text.matches('.').count() >= 2);
        }
    }
}
