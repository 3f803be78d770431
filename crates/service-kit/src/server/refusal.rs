//! What cannot be parsed: hyper answers it with a status and no body, and no handler sees it. Here it gets a body as every
//! other error has (RFC 9457), is counted, and is logged.

use std::str;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use prometheus::IntCounterVec;

use crate::{Problem, telemetry};

/// Counts refusals: `http_requests_malformed_total{status}`.
#[derive(Debug, Clone)]
pub(super) struct Refusals(pub(super) IntCounterVec);

impl Refusals {
    /// What is to be sent in place of these bytes, which hyper wrote by itself; none when they are no refusal.
    pub(super) fn instead_of(&self, bytes: &[u8]) -> Option<Bytes> {
        let (begin, status) = refusal(bytes)?;
        let trace_id = telemetry::new_trace_id();
        self.0.with_label_values(&[status.as_str()]).inc();
        tracing::info!(status = status.as_u16(), trace_id, "a request is malformed");
        let body = problem(status).bytes(&trace_id);
        let head = &bytes[begin..bytes.len() - END.len()];
        let mut instead = BytesMut::from(&bytes[..begin]);
        for line in head.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii_end();
            if !line.starts_with(b"content-length:") {
                instead.put_slice(line);
                instead.put_slice(b"\r\n");
            }
        }
        let more = format!(
            "content-type: application/problem+json\r\n{}: {trace_id}\r\ncontent-length: {}\r\n\r\n",
            telemetry::TRACE_ID,
            body.len()
        );
        instead.put_slice(more.as_bytes());
        instead.put_slice(&body);
        Some(instead.freeze())
    }
}

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

/// Where a refusal of hyper's begins in what it wrote, and its status. It is the last that hyper writes on a connection,
/// says so, and has no type: every error of ours has one.
fn refusal(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    if !bytes.ends_with(END) {
        return None;
    }
    let begin = bytes.windows(10).rposition(|part| part == b"HTTP/1.1 4")?;
    let head = str::from_utf8(&bytes[begin..]).ok()?;
    let has = |line: &str| head.contains(line);
    let is_refusal = has("\r\nconnection: close\r\n")
        && has("\r\ncontent-length: 0\r\n")
        && !has("\r\ncontent-type:");
    let status = StatusCode::from_bytes(head.get(9..12)?.as_bytes()).ok()?;
    is_refusal.then_some((begin, status))
}

fn problem(status: StatusCode) -> Problem {
    if status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE {
        Problem::head_too_large()
    } else {
        Problem::bad_request("the request is not of the form that RFC 9112 has")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypers_own_refusal_is_one() {
        let refused = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
            content-length: 0\r\ndate: Tue, 01 Dec 2026 00:00:00 GMT\r\n\r\n";
        let status =
            |text: &str| refusal(text.as_bytes()).map(|(at, status)| (at, status.as_u16()));
        assert_eq!(status(refused), Some((0, 431)));
        assert_eq!(status(&format!("end of an answer{refused}")), Some((16, 431)));
        for other in [
            refused.replace("431", "200"),
            refused.replace("content-length: 0", "content-length: 9"),
            refused.replace("date:", "content-type: text/plain\r\ndate:"),
            refused.replace("connection: close\r\n", ""),
            format!("{refused}more"),
            String::new(),
        ] {
            assert_eq!(status(&other), None, "{other}");
        }
    }
}
