//! Bodies: the aliases that all use, reading one within limits, and answers of the usual kinds.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::BoxBody};
use hyper::{
    StatusCode,
    body::{Body as _, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::Problem;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of every answer.
pub type Body = BoxBody<Bytes, BoxError>;
/// A request as it comes from the wire.
pub type Request = hyper::Request<Incoming>;
/// An answer.
pub type Response = hyper::Response<Body>;

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// An answer of text.
pub fn text(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer of JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let bytes =
        serde_json::to_vec(value).expect("our types have string keys and cannot fail to serialise");
    text(status, "application/json", bytes)
}

/// Reads a request's body: 413 over `limit` bytes, 408 when it takes longer than `within`, 400 when it breaks off.
pub async fn read(request: Request, limit: usize, within: Duration) -> Result<Bytes, Problem> {
    let body = request.into_body();
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large")
            .detail(format!("a body may have {limit} bytes"))
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match timeout(within, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::bad_request("the body broke off")),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The body came too slowly",
        )
        .detail(format!("a body may take {within:?}"))),
    }
}

/// Reads JSON into a type: 400 with what is wrong and where.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-body", "The body is not what it should be")
            .detail(error.to_string())
    })
}
