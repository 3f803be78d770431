//! One connection to another service. No task of its own drives it: whoever waits for the answer does, and so a request
//! needs no wake-up from one task to another.

use std::{
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::pool::Host;
use crate::{Body, BoxError};

/// A connection that carries one request at a time.
#[derive(Debug)]
pub(super) struct Link {
    sender: http1::SendRequest<Body>,
    /// None once it has come to its end.
    connection: Option<http1::Connection<TokioIo<TcpStream>, Body>>,
}

/// Why there is no answer; with the request, if nothing of it was sent.
pub(super) type Failure = TrySendError<Request<Body>>;

impl Link {
    /// Begins to speak HTTP.
    pub(super) async fn new(stream: TokioIo<TcpStream>) -> hyper::Result<Box<Self>> {
        let (sender, connection) = http1::Builder::new().writev(false).handshake(stream).await?;
        Ok(Box::new(Self { sender, connection: Some(connection) }))
    }

    /// Has its peer left it open?
    pub(super) fn is_open(&mut self) -> bool {
        self.drive(&mut nobody());
        self.connection.is_some()
    }

    /// Sends a request and waits for the answer's head. Dropped before, it closes the connection.
    pub(super) async fn send(
        mut self: Box<Self>,
        request: Request<Body>,
        host: &Arc<Host>,
    ) -> Result<Response<Answer>, Failure> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let mut is_sent = false;
        let answer = poll_fn(|context| {
            // What drives the connection brings the answer too. Only who drives it in vain must be woken by it: what is
            // told to it next would wake this task again.
            if mem::replace(&mut is_sent, true) {
                self.drive(&mut nobody());
                let answer = answer.as_mut().poll(&mut nobody());
                if answer.is_ready() {
                    return answer;
                }
            }
            self.drive(context);
            answer.as_mut().poll(&mut nobody())
        })
        .await?;
        Ok(answer.map(|body| {
            let mut answer = Answer { body, open: Some((self, Arc::clone(host))) };
            answer.close_at_end();
            answer
        }))
    }

    /// Sends and receives what it can. At its end the answer, or its body, is told of it.
    fn drive(&mut self, context: &mut Context<'_>) {
        let connection = self.connection.as_mut();
        if connection.is_some_and(|connection| Pin::new(connection).poll(context).is_ready()) {
            self.connection = None;
        }
    }
}

/// The context of who need not be woken.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// An answer's body. At its end the connection is free for the next request; dropped before, it closes the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Incoming,
    open: Option<(Box<Link>, Arc<Host>)>,
}

impl Answer {
    fn close_at_end(&mut self) {
        if !self.body.is_end_stream() {
            return;
        }
        if let Some((mut link, host)) = self.open.take() {
            if !link.sender.is_ready() {
                link.drive(&mut nobody()); // so that it sees that it is free
            }
            if link.sender.is_ready() {
                host.put(link);
            }
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.body).poll_frame(&mut nobody());
        if let (true, Some((link, _))) = (frame.is_pending(), &mut this.open) {
            link.drive(context);
            frame = Pin::new(&mut this.body).poll_frame(&mut nobody());
        }
        this.close_at_end();
        frame.map_err(BoxError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
