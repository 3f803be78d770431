//! Errors as a client sees them: problem details by RFC 9457, with what only the log may know kept apart.

use std::time::Duration;

use hyper::{
    StatusCode,
    header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Map, Value, json};

use crate::{Response, body, body::BoxError};

/// The type of [`Problem::deadline_exceeded`].
const DEADLINE_EXCEEDED: &str = "deadline-exceeded";

/// An error to be answered. The status is 4xx or 5xx.
#[derive(Debug)]
pub struct Problem(Box<Parts>); // boxed: every Result of a handler carries its size

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: Option<String>,
    fields: Vec<Value>,
    extensions: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    source: Option<BoxError>,
}

impl Problem {
    /// A problem of the type `/problems/SLUG`.
    pub fn new(status: StatusCode, slug: &'static str, title: &'static str) -> Self {
        debug_assert!(status.is_client_error() || status.is_server_error(), "{status} is no error");
        Self(Box::new(Parts {
            status,
            slug,
            title,
            detail: None,
            fields: Vec::new(),
            extensions: Map::new(),
            headers: Vec::new(),
            source: None,
        }))
    }

    /// What is wrong with this request.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// What is wrong with one field, given by its path, e.g. `lines[0].quantity`.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.fields.push(json!({"field": path.into(), "detail": detail.into()}));
        self
    }

    /// A further member of the answer.
    #[must_use]
    pub fn extension(mut self, name: &str, value: Value) -> Self {
        self.0.extensions.insert(name.to_owned(), value);
        self
    }

    /// A header of the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The cause, for the log only.
    #[must_use]
    pub fn source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// 401 with a challenge (RFC 6750, 3).
    pub fn unauthenticated(challenge: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "It is not known who asks")
            .detail(detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 403: it is known who asks, and that does not suffice.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Who asks may not do that").detail(detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing").detail(detail)
    }

    /// 405 with the methods that are allowed.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The method is not allowed here",
        )
        .detail(format!("allowed: {allow}"))
        .header(ALLOW, HeaderValue::from_static(allow))
    }

    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request is malformed").detail(detail)
    }

    /// 431: the limits are ARCHITECTURE.md's.
    pub(crate) fn head_too_large() -> Self {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::new(status, "head-too-large", "The request's head is too large")
            .detail("send fewer or shorter header fields, or a shorter target")
    }

    /// 422: well-formed, but its values cannot be.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-values",
            "The request's values are not valid",
        )
        .detail(detail)
    }

    /// 409.
    pub fn conflict(slug: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, slug, title).detail(detail)
    }

    /// 429 that asks to come again after a time.
    pub fn too_many_requests(detail: impl Into<String>, time: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "That is too often")
            .detail(detail)
            .header(RETRY_AFTER, whole_seconds(time))
    }

    /// 503 with `Retry-After: 1`.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::unavailable_for(detail, Duration::from_secs(1))
    }

    /// 503 that asks to come again after a time.
    pub fn unavailable_for(detail: impl Into<String>, time: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The service cannot answer now")
            .detail(detail)
            .header(RETRY_AFTER, whole_seconds(time))
    }

    /// 504: the one who asked waits no longer.
    pub fn deadline_exceeded() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, DEADLINE_EXCEEDED, "The caller's time was over")
    }

    /// Is it the caller's own deadline that passed?
    pub(crate) fn is_deadline_exceeded(&self) -> bool {
        self.0.slug == DEADLINE_EXCEEDED
    }

    /// 500 with a fixed text; the cause goes to the log.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here")
            .source(source)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The cause, for the log.
    pub fn cause(&self) -> Option<&BoxError> {
        self.0.source.as_ref()
    }

    /// The members of the answer, without a trace id.
    pub fn members(&self) -> Value {
        let mut members = self.0.extensions.clone();
        members.insert("type".to_owned(), format!("/problems/{}", self.0.slug).into());
        members.insert("title".to_owned(), self.0.title.into());
        members.insert("status".to_owned(), self.0.status.as_u16().into());
        if let Some(detail) = &self.0.detail {
            members.insert("detail".to_owned(), detail.clone().into());
        }
        if !self.0.fields.is_empty() {
            members.insert("errors".to_owned(), self.0.fields.clone().into());
        }
        Value::Object(members)
    }

    /// The answer's body.
    pub(crate) fn bytes(&self, trace_id: &str) -> Vec<u8> {
        let mut members = self.members();
        members["trace_id"] = trace_id.into();
        body::json_bytes(&members)
    }

    /// The answer, with the trace id under which the log tells more.
    pub fn into_response(self, trace_id: &str) -> Response {
        const TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
        let mut response = body::text(self.0.status, TYPE, self.bytes(trace_id));
        response
            .headers_mut()
            .extend(self.0.headers.into_iter().map(|(name, value)| (Some(name), value)));
        response
    }
}

/// A time rounded up to seconds, and at least one.
fn whole_seconds(time: Duration) -> HeaderValue {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    HeaderValue::from(seconds.max(1))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::header::CONTENT_TYPE;

    use super::*;

    #[tokio::test]
    async fn an_internal_error_never_shows_its_cause() {
        let response = Problem::internal("password=hunter2").into_response("abc");
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let members: Value = serde_json::from_slice(&bytes).unwrap();
        let expected = json!({"type": "/problems/internal", "title": "Something went wrong here", "status": 500, "trace_id": "abc"});
        assert_eq!(members, expected);
    }

    #[test]
    fn field_errors_and_extensions_are_members() {
        let problem = Problem::unprocessable("see errors")
            .field("lines[0].quantity", "is 0")
            .extension("limit", json!(5));
        assert_eq!(
            problem.members()["errors"],
            json!([{"field": "lines[0].quantity", "detail": "is 0"}])
        );
        assert_eq!(problem.members()["limit"], 5);
    }
}
