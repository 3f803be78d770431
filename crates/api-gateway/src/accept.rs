//! Which form of the dashboard a client wants: HTML or plain text, by `Accept` (RFC 9110, 12.5.1).

use hyper::{
    HeaderMap,
    header::{ACCEPT, HeaderValue},
};

/// Thousandths that a range without a weight is worth.
const FULL: u16 = 1000;

/// Is HTML preferred to plain text? Who wants both the same gets HTML only where it is named, as browsers do: a terminal's
/// `*/*` gets text. So does who wants neither: to be told so would help nobody.
pub fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut text) = (Match::default(), Match::default());
    let lines = headers.get_all(ACCEPT).iter().map(HeaderValue::as_bytes);
    for range in lines.flat_map(|line| unquoted_split(line, b',')).filter_map(Range::parse) {
        html.consider(&range, b"text/html");
        text.consider(&range, b"text/plain");
    }
    html.weight > text.weight || (html.weight > 0 && html.weight == text.weight && html.is_named())
}

/// A media range of the header.
struct Range<'a> {
    /// `*/*`, `type/*` or `type/subtype`.
    media: &'a [u8],
    /// Does it name the charset that our texts have?
    has_charset: bool,
    /// In thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    /// None when it is malformed, or has a parameter that nothing of ours has.
    fn parse(member: &'a [u8]) -> Option<Self> {
        let mut parts = unquoted_split(member, b';').map(<[u8]>::trim_ascii);
        let mut range = Self { media: parts.next()?, has_charset: false, weight: FULL };
        for parameter in parts.filter(|part| !part.is_empty()) {
            let equals = parameter.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
            if name.eq_ignore_ascii_case(b"q") {
                range.weight = weight(value)?;
                break;
            }
            let value = value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .unwrap_or(value);
            let is_ours =
                name.eq_ignore_ascii_case(b"charset") && value.eq_ignore_ascii_case(b"utf-8");
            if !is_ours {
                return None;
            }
            range.has_charset = true;
        }
        Some(range)
    }

    /// How closely it names a media type; none when it does not.
    fn precedence(&self, media: &[u8]) -> Option<u8> {
        let level = if self.media.eq_ignore_ascii_case(media) {
            Match::NAMED
        } else if self.media.eq_ignore_ascii_case(b"text/*") {
            2
        } else if self.media == b"*/*" {
            0
        } else {
            return None;
        };
        Some(level + u8::from(self.has_charset))
    }
}

/// What the closest range says of a media type.
#[derive(Default)]
struct Match {
    precedence: u8,
    weight: u16,
}

impl Match {
    const NAMED: u8 = 4;

    fn consider(&mut self, range: &Range, media: &[u8]) {
        match range.precedence(media) {
            Some(precedence) if precedence > self.precedence => {
                *self = Self { precedence, weight: range.weight };
            }
            Some(precedence) if precedence == self.precedence => {
                self.weight = self.weight.max(range.weight);
            }
            _ => {}
        }
    }

    fn is_named(&self) -> bool {
        self.precedence >= Self::NAMED
    }
}

/// `qvalue` in thousandths.
fn weight(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let mut weight = digit(whole)?;
    for place in 0..3 {
        weight = weight * 10 + decimals.get(place).map_or(Some(0), digit)?;
    }
    (weight <= FULL).then_some(weight)
}

/// The parts between separators that are in no quoted string (RFC 9110, 5.6.4).
fn unquoted_split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |byte| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        match byte {
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        *byte == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_weight_has_at_most_three_decimals_and_is_at_most_one() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("0.", Some(0)),
            ("0.5", Some(500)),
            ("0.123", Some(123)),
            ("1.000", Some(1000)),
            ("", None),
            (".5", None),
            ("1.001", None),
            ("0.1234", None),
            ("2", None),
            ("-1", None),
            ("0,5", None),
            ("0.x", None),
        ] {
            assert_eq!(weight(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_in_a_quoted_string_says_nothing(text in "[ -!#-\\[\\]-~]{0,40}") {
            let header = format!("application/x;a=\"{text}\"");
            let headers = HeaderMap::from_iter([(ACCEPT, header.parse().unwrap())]);
            prop_assert!(!prefers_html(&headers));
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let _never_panics = prefers_html(&HeaderMap::from_iter([(ACCEPT, value)]));
        }
    }
}
