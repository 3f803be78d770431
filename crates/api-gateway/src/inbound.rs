//! A request's body on its way through: streamed, but neither too large nor too slow.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{LengthLimitError, Limited};
use hyper::{
    StatusCode,
    body::{Body, Frame, SizeHint},
};
use service_kit::{BoxError, Problem};
use tokio::time::{Sleep, sleep};

/// The largest body in bytes, as the services have it.
pub const BODY_BYTES: usize = 64 * 1024;

/// A body with a limit of bytes and of time.
#[derive(Debug)]
pub struct Inbound<B> {
    body: Limited<B>,
    deadline: Pin<Box<Sleep>>,
}

/// The body did not come to its end in time.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
pub struct TooSlow;

impl<B: Body> Inbound<B> {
    /// Begins to read a body; 413 at once when it says that it is too large.
    pub fn new(body: B, within: Duration) -> Result<Self, Problem> {
        if body.size_hint().lower() > BODY_BYTES as u64 {
            return Err(too_large());
        }
        Ok(Self { body: Limited::new(body, BODY_BYTES), deadline: Box::pin(sleep(within)) })
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Inbound<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What was wrong with the body, if it was the body: 413 or 408. The client tells a broken request body as its own
/// failure, with ours among its causes.
pub fn fault(error: &(dyn std::error::Error + 'static)) -> Option<Problem> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return Some(too_large());
        }
        if error.is::<TooSlow>() {
            let title = "The body came too slowly";
            return Some(Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", title));
        }
        cause = error.source();
    }
    None
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large")
        .detail(format!("a body may have {BODY_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_that_says_it_is_too_large_is_refused_at_once() {
        let body = |bytes: usize| Full::new(Bytes::from(vec![0; bytes]));
        let within = Duration::from_secs(1);
        assert_eq!(
            Inbound::new(body(BODY_BYTES + 1), within).unwrap_err().status(),
            StatusCode::PAYLOAD_TOO_LARGE
        );
        let read = Inbound::new(body(BODY_BYTES), within).unwrap().collect().await.unwrap();
        assert_eq!(read.to_bytes().len(), BODY_BYTES);
    }

    #[tokio::test]
    async fn a_body_that_turns_out_too_large_is_cut() {
        let frame = || Ok::<_, BoxError>(Frame::data(Bytes::from(vec![0; BODY_BYTES])));
        let body = StreamBody::new(futures_util::stream::iter([frame(), frame()]));
        let error =
            Inbound::new(body, Duration::from_secs(1)).unwrap().collect().await.unwrap_err();
        assert_eq!(fault(error.as_ref()).unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_body_that_stalls_is_cut() {
        let body =
            StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>());
        let error =
            Inbound::new(body, Duration::from_millis(20)).unwrap().collect().await.unwrap_err();
        assert_eq!(fault(error.as_ref()).unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
