//! Requests that are carried out only on a representation that their sender knows, or does not know yet (RFC 9110, 13).

use std::hash::{DefaultHasher, Hasher};

use hyper::{
    HeaderMap, StatusCode,
    header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH},
};
use serde::Serialize;

use crate::{
    Problem, Response,
    body::{self, JSON},
};

/// A representation's strong entity tag, of its bytes: another version of a service, and another replica, gives the same
/// one unless it writes the representation otherwise or was compiled with another hash.
#[derive(Debug)]
struct Tag(HeaderValue);

impl Tag {
    fn of(bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        let mut hash = hasher.finish();
        let mut text = *b"\"0123456789abcdef\"";
        for digit in &mut text[1..17] {
            hash = hash.rotate_left(4);
            *digit = DIGITS[(hash & 0xf) as usize];
        }
        Self(HeaderValue::from_bytes(&text).expect("it is ASCII"))
    }
}

/// The answer to a GET of one thing: 200 with its tag, 304 where the client has it, 412 where it wanted another.
pub fn answer(headers: &HeaderMap, thing: &impl Serialize) -> Result<Response, Problem> {
    let bytes = body::json_bytes(thing);
    let tag = Tag::of(&bytes);
    let Matched { is_wanted, is_known } = Matched::of(headers, Some(&tag))?;
    if !is_wanted {
        return Err(precondition_failed());
    }
    let mut response = if is_known {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        body::text(StatusCode::OK, JSON, bytes)
    };
    response.headers_mut().insert(ETAG, tag.0);
    Ok(response)
}

/// Is a write conditional?
pub fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH)
}

/// 412 unless a write may be carried out on what is there now, if anything is.
pub fn check_write(headers: &HeaderMap, current: Option<&impl Serialize>) -> Result<(), Problem> {
    let tag = current.map(|current| Tag::of(&body::json_bytes(current)));
    let Matched { is_wanted, is_known } = Matched::of(headers, tag.as_ref())?;
    if is_wanted && !is_known { Ok(()) } else { Err(precondition_failed()) }
}

/// What both preconditions say of a representation.
struct Matched {
    /// If-Match is missing or names it.
    is_wanted: bool,
    /// If-None-Match names it.
    is_known: bool,
}

impl Matched {
    /// Reads both before either counts: 400 when one is malformed, whatever the other says.
    fn of(headers: &HeaderMap, current: Option<&Tag>) -> Result<Self, Problem> {
        let is_wanted = matches(headers, &IF_MATCH, current)? != Some(false);
        let is_known = matches(headers, &IF_NONE_MATCH, current)? == Some(true);
        Ok(Self { is_wanted, is_known })
    }
}

/// 412.
fn precondition_failed() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition-failed",
        "The precondition does not hold",
    )
    .detail("it is another one than If-Match or If-None-Match wants: read it again")
}

/// Does a field name the tag, or anything that is there? None when the field is missing, 400 when it is malformed.
fn matches(
    headers: &HeaderMap,
    name: &HeaderName,
    current: Option<&Tag>,
) -> Result<Option<bool>, Problem> {
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let is_weak_enough = *name == IF_NONE_MATCH;
    let current_tag = current.map(|tag| tag.0.as_bytes());
    let (mut members, mut is_any, mut is_named) = (0, false, false);
    for line in lines {
        let mut rest = line.as_bytes();
        while let Some((member, after)) = next_member(rest).map_err(|Malformed| {
            Problem::bad_request(format!("{name} is * or a list of quoted entity tags"))
        })? {
            members += 1;
            match member {
                Member::Any => is_any = true,
                Member::Tag { is_weak, tag } => {
                    is_named |= (is_weak_enough || !is_weak) && Some(tag) == current_tag;
                }
            }
            rest = after;
        }
    }
    if is_any && members > 1 {
        return Err(Problem::bad_request(format!("in {name} * stands alone")));
    }
    Ok(Some(if is_any { current.is_some() } else { is_named }))
}

struct Malformed;

enum Member<'a> {
    /// `*`
    Any,
    /// With its quotes.
    Tag { is_weak: bool, tag: &'a [u8] },
}

/// The list's next member, and what follows it; none at its end. An opaque tag may hold commas, and has no escapes.
fn next_member(line: &[u8]) -> Result<Option<(Member<'_>, &[u8])>, Malformed> {
    let begin = line.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','));
    let Some(line) = begin.map(|begin| &line[begin..]) else { return Ok(None) };
    let (member, rest) = if let Some(rest) = line.strip_prefix(b"*") {
        (Member::Any, rest)
    } else {
        let strong = line.strip_prefix(b"W/").unwrap_or(line);
        let opaque = strong.strip_prefix(b"\"").ok_or(Malformed)?;
        let end = opaque.iter().position(|byte| *byte == b'"').ok_or(Malformed)?;
        if opaque[..end].iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err(Malformed);
        }
        let (tag, rest) = strong.split_at(end + 2);
        (Member::Tag { is_weak: strong.len() < line.len(), tag }, rest)
    };
    match rest.trim_ascii_start().first() {
        None | Some(b',') => Ok(Some((member, rest))),
        Some(_) => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matched(lines: &[&str]) -> Result<Option<bool>, u16> {
        let tag = Tag(HeaderValue::from_static("\"a,b\""));
        let headers = lines.iter().map(|line| (IF_NONE_MATCH, line.parse().unwrap())).collect();
        matches(&headers, &IF_NONE_MATCH, Some(&tag)).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn a_list_is_read_by_its_grammar() {
        assert_eq!(matched(&[]), Ok(None));
        for lines in [
            &["*"][..],
            &["\"a,b\""],
            &["W/\"a,b\""],
            &["\"\", \"a,b\""],
            &[",, \"x\" ,\t\"a,b\" ,"],
            &["\"x\"", "\"a,b\""],
        ] {
            assert_eq!(matched(lines), Ok(Some(true)), "{lines:?}");
        }
        for lines in [&[""][..], &["\"a\", \"b\""], &["\"A,B\""], &["\"\""], &[",", " "]] {
            assert_eq!(matched(lines), Ok(Some(false)), "{lines:?}");
        }
        for lines in [
            &["a"][..],
            &["\"a,b"],
            &["w/\"a,b\""],
            &["W/ \"a,b\""],
            &["\"a\" \"b\""],
            &["\"a b\""],
            &["*, \"a,b\""],
            &["*", "*"],
            &["**"],
        ] {
            assert_eq!(matched(lines), Err(400), "{lines:?}");
        }
    }

    #[test]
    fn a_weak_tag_matches_no_write() {
        let tag = Tag::of(b"x");
        let weak = format!("W/{}", tag.0.to_str().unwrap());
        let headers = HeaderMap::from_iter([(IF_MATCH, weak.parse().unwrap())]);
        assert_eq!(matches(&headers, &IF_MATCH, Some(&tag)).unwrap(), Some(false));
    }

    proptest! {
        /// A tag is one of the grammar's, and another one for other bytes.
        #[test]
        fn a_tag_is_of_its_bytes(one: Vec<u8>, other: Vec<u8>) {
            let (tag, again) = (Tag::of(&one), Tag::of(&other));
            prop_assert_eq!(one == other, tag.0 == again.0);
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, tag.0.clone())]);
            prop_assert_eq!(matches(&headers, &IF_NONE_MATCH, Some(&tag)).unwrap(), Some(true));
        }

        #[test]
        fn any_bytes_are_a_list_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(IF_MATCH, value)]);
            match matches(&headers, &IF_MATCH, Some(&Tag::of(b"x"))) {
                Ok(is_matched) => prop_assert!(is_matched.is_some()),
                Err(problem) => prop_assert_eq!(problem.status(), StatusCode::BAD_REQUEST),
            }
        }
    }
}
