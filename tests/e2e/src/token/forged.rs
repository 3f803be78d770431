//! Tokens that nobody may take: each is an attack on whoever verifies tokens, or a token that counts for nothing.

use std::time::UNIX_EPOCH;

use anyhow::Context;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::hmac;
use serde_json::{Value, json};

use super::{Parts, SigningKey, decoded, encoded, with};
use crate::Result;

/// What is wrong with a token, and the token.
pub type Forged = (String, String);

/// What can be made of a good token and the published key that verifies it, without the private one.
pub fn by_anybody(token: &str, key: &Value) -> Result<Vec<Forged>> {
    let parts = Parts::of(token)?;
    let mut forged = malformed(token, parts);
    forged.extend(changed(parts)?);
    forged.extend(unsigned(parts)?);
    forged.extend(keyed_with_the_public_key(parts, key)?);
    forged.extend(signed_by_another(parts)?);
    Ok(forged)
}

fn named(name: &str, token: impl Into<String>) -> Forged {
    (name.to_owned(), token.into())
}

/// No tokens at all, and such that are hard to read.
fn malformed(token: &str, parts: Parts<'_>) -> Vec<Forged> {
    let Parts { header, claims, signature } = parts;
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let deep = part(&"[".repeat(3000));
    let wide = part(&format!("{{{}\"sub\":\"\"}}", "\"sub\":\"x\",".repeat(300)));
    vec![
        named("nothing", ""),
        named("a word", "token"),
        named("dots", ".."),
        named("many dots", ".".repeat(2000)),
        named("another alphabet", "%%%.%%%.%%%"),
        named("two parts", format!("{header}.{claims}")),
        named("four parts", format!("{token}.{signature}")),
        named("five parts", format!("{token}.{claims}.{signature}")),
        named("padding", format!("{token}=")),
        named("a header that is no JSON", format!("{}.{claims}.{signature}", part("{"))),
        named("a header without a member", format!("{}.{claims}.{signature}", part("{}"))),
        named("a deep header", format!("{deep}.{claims}.{signature}")),
        named("claims that are no JSON", format!("{header}.{}.{signature}", part("x"))),
        named("deep claims", format!("{header}.{deep}.{signature}")),
        named("a member that is there again and again", format!("{header}.{wide}.{signature}")),
        named("9 KiB", "A".repeat(9 * 1024)),
        named("9 KiB of claims", format!("{header}.{}.{signature}", "A".repeat(9 * 1024))),
    ]
}

/// A part is another one, and the signature does not fit it any more.
fn changed(parts: Parts<'_>) -> Result<Vec<Forged>> {
    let Parts { header, claims, signature } = parts;
    let content = decoded(claims)?;
    let later = content["exp"].as_u64().context("it has no end")? + 3600;
    let bytes = URL_SAFE_NO_PAD.decode(signature)?;
    let mut flipped = bytes.clone();
    *flipped.last_mut().context("it has no signature")? ^= 1;
    let claims_are = |name: &str, member: Value| {
        format!("{header}.{}.{signature}", encoded(&with(&content, name, member)))
    };
    let signature_is =
        |bytes: &[u8]| format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(bytes));
    Ok(vec![
        named("a later end", claims_are("exp", later.into())),
        named(
            "another account",
            claims_are("sub", "system:serviceaccount:staging:inventory-sa".into()),
        ),
        named("one bit of the signature", signature_is(&flipped)),
        named("half the signature", signature_is(&bytes[..bytes.len() / 2])),
        named("a signature of zeros", signature_is(&vec![0; bytes.len()])),
        named("a longer signature", signature_is(&[&bytes[..], &[0]].concat())),
        named("no signature", signature_is(&[])),
    ])
}

/// The header says that there is no signature.
fn unsigned(parts: Parts<'_>) -> Result<Vec<Forged>> {
    let header = decoded(parts.header)?;
    let mut forged = Vec::new();
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let header = encoded(&with(&header, "alg", algorithm));
        for signature in ["", parts.signature] {
            let name = format!("alg {algorithm:?}, {} of signature", signature.len());
            forged.push((name, format!("{header}.{}.{signature}", parts.claims)));
        }
    }
    Ok(forged)
}

/// The header has the public key taken for a secret that both sides have (HS256).
fn keyed_with_the_public_key(parts: Parts<'_>, key: &Value) -> Result<Vec<Forged>> {
    let header = encoded(&with(&decoded(parts.header)?, "alg", "HS256"));
    let signed = format!("{header}.{}", parts.claims);
    let (der, pem) = (subject_public_key_info(key)?, pem(key)?);
    let raw = number(key, if key["kty"] == "RSA" { "n" } else { "x" })?;
    let secrets = [
        ("its PEM", pem.clone().into_bytes()),
        ("its PEM without the last line's end", pem.trim_end().as_bytes().to_vec()),
        ("its DER", der),
        ("its number", raw),
        ("its JSON", key.to_string().into_bytes()),
        ("nothing", Vec::new()),
    ];
    let forged = secrets.map(|(name, secret)| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        (format!("HS256 with {name}"), format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)))
    });
    Ok(forged.into())
}

/// A signature that holds, by a key that is not the cluster's.
fn signed_by_another(parts: Parts<'_>) -> Result<Vec<Forged>> {
    let key = SigningKey::generate()?;
    let (header, claims) = (decoded(parts.header)?, decoded(parts.claims)?);
    let header = with(&header, "alg", key.algorithm());
    let public = key.public().context("it has a public half")?;
    let somewhere = "https://keys.example.com/keys.json";
    let headers = [
        ("another key, of the right name", header.clone()),
        ("another key, of another name", with(&header, "kid", "e2e")),
        ("another key, with its public half", with(&with(&header, "kid", "e2e"), "jwk", public)),
        ("another key, with where it is", with(&with(&header, "kid", "e2e"), "jku", somewhere)),
    ];
    let mut forged = Vec::new();
    for (name, header) in headers {
        forged.push(named(name, key.sign(&header, &claims)?));
    }
    Ok(forged)
}

/// A good token signed again as it was, for the control, and such as no API server gives though the signature holds.
pub fn by_the_cluster(token: &str, key: &SigningKey) -> Result<(String, Vec<Forged>)> {
    let parts = Parts::of(token)?;
    let (header, claims) = (decoded(parts.header)?, decoded(parts.claims)?);
    let now = UNIX_EPOCH.elapsed()?.as_secs();
    let mut other = Vec::new();
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().and_then(|claims| claims.remove(name));
        claims
    };
    for (name, claims) in [
        ("its time is over", with(&claims, "exp", now - 60)),
        ("its time has not come", with(&claims, "nbf", now + 60)),
        ("it has no end", without("exp")),
        ("it has no beginning", without("nbf")),
        ("its end is a word", with(&claims, "exp", "never")),
        ("it is of nobody", without("iss")),
        ("it is of another issuer", with(&claims, "iss", "https://issuer.example.com")),
        ("it is for nobody", with(&claims, "aud", json!([]))),
        ("it names no audience", without("aud")),
        ("it names no account", without("sub")),
    ] {
        other.push(named(name, key.sign(&header, &claims)?));
    }
    for (name, header) in [
        ("its header has another algorithm", with(&header, "alg", "RS512")),
        ("its header must be understood and is not", with(&header, "crit", json!(["e2e"]))),
    ] {
        other.push(named(name, key.sign(&header, &claims)?));
    }
    Ok((key.sign(&header, &claims)?, other))
}

/// A member of a published key that is a number or a coordinate.
fn number(key: &Value, name: &str) -> Result<Vec<u8>> {
    let text = key[name].as_str().with_context(|| format!("the key has no {name}: {key}"))?;
    Ok(URL_SAFE_NO_PAD.decode(text)?)
}

/// A published key as a file has it.
fn pem(key: &Value) -> Result<String> {
    let text = STANDARD.encode(subject_public_key_info(key)?);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    let lines = lines.join("\n");
    Ok(format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"))
}

/// A published key in the form that most programs take (RFC 5280, 4.1; RFC 3279 and RFC 5480 for the two kinds).
fn subject_public_key_info(key: &Value) -> Result<Vec<u8>> {
    let (algorithm, public) = if key["kty"] == "RSA" {
        // A number whose first bit is set would be below zero.
        let integer = |number: Vec<u8>| der(2, &[&[0], &number[..]].concat());
        let exponent = der(2, &number(key, "e")?);
        let rsa = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];
        (rsa.to_vec(), der(0x30, &[integer(number(key, "n")?), exponent].concat()))
    } else {
        let curve: &[u8] = match key["crv"].as_str() {
            Some("P-256") => &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
            _ => &[0x06, 5, 0x2b, 0x81, 0x04, 0, 0x22], // P-384
        };
        let elliptic = [0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
        let point = [vec![4], number(key, "x")?, number(key, "y")?].concat();
        ([&elliptic, curve].concat(), point)
    };
    let bits = der(3, &[&[0], &public[..]].concat());
    Ok(der(0x30, &[der(0x30, &algorithm), bits].concat()))
}

/// A value of ASN.1 in its distinguished encoding: tag, length, contents of less than 64 KiB.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let [.., high, low] = contents.len().to_be_bytes();
    let length = match (high, low) {
        (0, ..0x80) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag], &length[..], contents].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_key_is_written_as_openssl_writes_it() {
        let elliptic = json!({
            "kty": "EC",
            "crv": "P-256",
            "x": "s4p6VT0gbXDURBibPkLkn073myWCM3ctfGF1QKFvSdI",
            "y": "9seOBevxn8zvX3rl0KCCQ5rUlcTjBMQ7N_LhS3iD3qw",
        });
        assert_eq!(
            pem(&elliptic).unwrap(),
            "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEs4p6VT0gbXDURBibPkLkn073myWC
M3ctfGF1QKFvSdL2x44F6/GfzO9feuXQoIJDmtSVxOMExDs38uFLeIPerA==
-----END PUBLIC KEY-----
"
        );
        let rsa = json!({
            "kty": "RSA",
            "n": "2ssd3lH72FR0epf7hWGAI-v4K40iHc3eFFGqu_R-I86p8euUBhOyxp6tpZlCa-pC63g8HQQp1evbOhzyLNGP7ChQ5UK9KdBKStD05lcZaezVkfbynuP3Csd8sLGm1nwCJuNPsiL9Llx_Lz1t-H_7IyihJaPGzlleYfzSfu_Hl9RkANp6eO1LeaK_xDTgtXwjo8vY8Wt7oL4198Fsl_6AKlW6rcr6iyk0jXFwb0TXlqO5ibS7PoTy4oKmBcKwEjEjf9VzFluhBdchF4ku-QnLbSU7tzRj_BTf1KPxQf7DOUi-3RIi-kWcHia2twrotCj_rLzY39kn3SmvXcUPtDwxAw",
            "e": "AQAB",
        });
        assert_eq!(
            pem(&rsa).unwrap(),
            "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2ssd3lH72FR0epf7hWGA
I+v4K40iHc3eFFGqu/R+I86p8euUBhOyxp6tpZlCa+pC63g8HQQp1evbOhzyLNGP
7ChQ5UK9KdBKStD05lcZaezVkfbynuP3Csd8sLGm1nwCJuNPsiL9Llx/Lz1t+H/7
IyihJaPGzlleYfzSfu/Hl9RkANp6eO1LeaK/xDTgtXwjo8vY8Wt7oL4198Fsl/6A
KlW6rcr6iyk0jXFwb0TXlqO5ibS7PoTy4oKmBcKwEjEjf9VzFluhBdchF4ku+QnL
bSU7tzRj/BTf1KPxQf7DOUi+3RIi+kWcHia2twrotCj/rLzY39kn3SmvXcUPtDwx
AwIDAQAB
-----END PUBLIC KEY-----
"
        );
    }
}
