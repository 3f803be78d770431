//! Bodies: the types that all use, reading one within limits, and answers of the usual kinds.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited, combinators::BoxBody};
use hyper::{
    StatusCode,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout_at;

use crate::{Problem, client::Answer, deadline::CallTime, server::Connection};

/// The type of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The type of plain text.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The largest frame of a body of ours in bytes. A connection copies what it sends, and keeps the room for the most that
/// it ever held: with whole bodies of 100 KB that would be 100 MB for 1000 connections.
const FRAME_BYTES: usize = 4 * 1024;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request as it comes from the wire.
pub type Request = hyper::Request<Content>;
/// An answer.
pub type Response = hyper::Response<Body>;

/// A request's content, as it comes. Its connection is told when it was read to its end.
#[derive(Debug)]
pub struct Content {
    incoming: Incoming,
    /// None once it is at its end.
    connection: Option<Arc<Connection>>,
}

impl Content {
    pub(crate) fn new(incoming: Incoming, connection: &Arc<Connection>) -> Self {
        let connection = (!incoming.is_end_stream()).then(|| Arc::clone(connection));
        Self { incoming, connection }
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(context);
        if let Some(connection) = &self.connection {
            connection.reads(frame.is_pending());
        }
        let frame = ready!(frame);
        // Who knows how much there is to come does not ask whether more comes.
        if frame.is_none() || self.incoming.is_end_stream() {
            if let Some(connection) = self.connection.take() {
                connection.content_ends();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The body of every answer, and of every request to another service.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    /// What is left of one piece.
    Whole(Bytes),
    /// What is left of several.
    Pieces(VecDeque<Bytes>),
    /// What comes piece by piece.
    Stream(BoxBody<Bytes, BoxError>),
    /// What another service answers, as it comes.
    Answer(Answer),
}

impl Body {
    /// A body that comes piece by piece.
    pub fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Sync + 'static,
    {
        Self(Kind::Stream(body.map_err(Into::into).boxed()))
    }

    /// A body of these pieces, one after the other: what several bodies share is not copied.
    pub fn pieces(pieces: impl Into<VecDeque<Bytes>>) -> Self {
        Self(Kind::Pieces(pieces.into()))
    }
}

impl Default for Body {
    /// Nothing.
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl From<Bytes> for Body {
    fn from(whole: Bytes) -> Self {
        Self(Kind::Whole(whole))
    }
}

impl From<Answer> for Body {
    fn from(answer: Answer) -> Self {
        Self(Kind::Answer(answer))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(frame(bytes).map(Ok)),
            Kind::Pieces(pieces) => loop {
                let Some(first) = pieces.front_mut() else { return Poll::Ready(None) };
                match frame(first) {
                    Some(frame) => return Poll::Ready(Some(Ok(frame))),
                    None => pieces.pop_front(),
                };
            },
            Kind::Stream(body) => Pin::new(body).poll_frame(context),
            Kind::Answer(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Pieces(pieces) => pieces.iter().all(Bytes::is_empty),
            Kind::Stream(body) => body.is_end_stream(),
            Kind::Answer(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Pieces(pieces) => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Kind::Stream(body) => body.size_hint(),
            Kind::Answer(body) => body.size_hint(),
        }
    }
}

/// Takes the next frame off what is left.
fn frame(bytes: &mut Bytes) -> Option<Frame<Bytes>> {
    let length = bytes.len().min(FRAME_BYTES);
    (length > 0).then(|| Frame::data(bytes.split_to(length)))
}

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    bytes.into().into()
}

/// An answer of text.
pub fn text(status: StatusCode, content_type: HeaderValue, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// An answer of JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    text(status, JSON, json_bytes(value))
}

/// A value as JSON.
pub(crate) fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our types have string keys and cannot fail to serialise")
}

/// Reads a request's body: 413 over `limit` bytes, 408 when it takes longer than `within` or than the request may, 504 when
/// its caller's deadline passes, 400 when it breaks off.
pub async fn read(request: &mut Request, limit: usize, within: Duration) -> Result<Bytes, Problem> {
    let body = request.body_mut();
    let time = CallTime::of(within);
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large")
            .detail(format!("a body may have {limit} bytes"))
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match timeout_at(time.end, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::bad_request("the body broke off")),
        Err(_) if time.is_cut => Err(Problem::deadline_exceeded()),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The body came too slowly",
        )
        .detail(format!("a body may take {:?}", time.within))),
    }
}

/// Reads JSON into a type: 400 with what is wrong and where.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-body", "The body is not what it should be")
            .detail(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_body_comes_in_small_frames_and_whole() {
        let text: Bytes = (0..=u8::MAX).cycle().take(3 * FRAME_BYTES + 1).collect();
        let parts = [text.slice(..5), Bytes::new(), text.slice(5..)];
        for mut body in [full(text.clone()), Body::pieces(parts)] {
            assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
            let mut got = Vec::new();
            while let Some(frame) = body.frame().await {
                assert!(!body.is_end_stream() || got.len() + FRAME_BYTES >= text.len());
                let frame = frame.unwrap().into_data().unwrap();
                assert!((1..=FRAME_BYTES).contains(&frame.len()));
                got.extend_from_slice(&frame);
            }
            assert!(body.is_end_stream());
            assert_eq!(got, text);
        }
        assert!(Body::default().is_end_stream() && Body::pieces([Bytes::new()]).is_end_stream());
    }
}
