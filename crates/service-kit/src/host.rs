//! Which host a request is for (RFC 9112, 3.2 and 3.3).
//!
//! Who reads a request otherwise than its sender, or than the proxy between them, gives one host's answer as another's.

use std::{net::Ipv6Addr, str};

use hyper::{
    Method, Version,
    header::{HOST, HeaderValue},
    http::uri::{Authority, Scheme},
};

use crate::Problem;

/// 400 unless the request names its host: by one valid `Host`, without which only HTTP/1.0 does. Where the target names
/// one too, that one counts, and becomes the header.
pub(crate) fn settle<B>(request: &mut hyper::Request<B>) -> Result<(), Problem> {
    let mut values = request.headers().get_all(HOST).iter();
    let is_valid = match (values.next(), values.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => request.version() < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    };
    if !is_valid {
        return Err(Problem::bad_request(
            "send one header Host with a host's name or address, and a port if need be",
        ));
    }
    let Some(authority) = request.uri().authority() else { return Ok(()) };
    let is_known = match request.uri().scheme() {
        Some(scheme) => *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS,
        None => request.method() == Method::CONNECT,
    };
    if !is_known || !is_host(authority.as_str().as_bytes()) {
        return Err(Problem::bad_request("the request's target is no URI of HTTP"));
    }
    let host = HeaderValue::from_str(Authority::as_str(authority));
    request.headers_mut().insert(HOST, host.expect("an authority is ASCII"));
    Ok(())
}

/// Is it `uri-host [ ":" port ]`? A host that is empty is none of HTTP's (RFC 9110, 4.2.1).
fn is_host(text: &[u8]) -> bool {
    if let Some(literal) = text.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
        return is_address(&literal[..end]) && is_port(&literal[end + 1..]);
    }
    let end = name_length(text);
    end > 0 && is_port(&text[end..])
}

/// `[ ":" port ]`, which may be without a digit.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// The length of the `reg-name` that a text begins with, of which an IPv4 address is one.
fn name_length(text: &[u8]) -> usize {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        length += rest.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(rest.len());
        match &text[length..] {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                length += 3;
            }
            _ => return length,
        }
    }
}

/// `IPv6address` or `IPvFuture`.
fn is_address(text: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(text) else { return false };
    if let Some(future) = text.strip_prefix(['v', 'V']) {
        return future.split_once('.').is_some_and(|(version, address)| {
            !version.is_empty()
                && version.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !address.is_empty()
                && address.bytes().all(|byte| byte == b':' || PLAIN[usize::from(byte)])
        });
    }
    text.parse::<Ipv6Addr>().is_ok()
}

/// The bytes of `unreserved` and `sub-delims` (RFC 3986, 2), in a table: every request is asked.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=');
        byte += 1;
    }
    plain
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is valid by the grammar is an authority to the `http` crate too, without a user.
        #[test]
        fn any_bytes_are_a_host_or_none(text in "[\\[\\]a-zA-Z0-9:.%@/ _~!,-]{0,30}") {
            if is_host(text.as_bytes()) {
                prop_assert!(!text.contains(['@', '/', ' ']) && !text.starts_with(':'));
                // It takes neither IPvFuture nor a port without a digit.
                if !text.starts_with("[v") && !text.starts_with("[V") && !text.ends_with(':') && !text.contains('%') {
                    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>().is_ok());
                    if port != Some(false) {
                        prop_assert!(text.parse::<Authority>().is_ok(), "{}", text);
                    }
                }
            }
        }
    }

    #[test]
    fn a_target_that_names_a_host_counts() {
        let mut request = hyper::Request::new(());
        *request.uri_mut() = "http://a:1/x".parse().unwrap();
        request.headers_mut().insert(HOST, HeaderValue::from_static("b"));
        settle(&mut request).unwrap();
        assert_eq!(request.headers()[HOST], "a:1");
    }
}
