//! One connection to another service. No task of its own drives it: whoever waits for the answer does, and so a request
//! needs no wake-up from one task to another.

use std::{
    future::poll_fn,
    io, mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep},
};

use super::pool::{self, Host};
use crate::{Body, BoxError};

/// What a connection reads ahead, and the longest head of an answer, in bytes: what is passed on is held twice, here and by
/// the connection that it is passed to.
const BUFFER_BYTES: usize = 16 * 1024;
/// Between two pieces of an answer.
const BETWEEN_PIECES: Duration = Duration::from_secs(10);

/// A connection that carries one request at a time.
#[derive(Debug)]
pub(super) struct Link {
    sender: http1::SendRequest<Body>,
    /// None once it has come to its end.
    connection: Option<http1::Connection<TokioIo<TcpStream>, Body>>,
    /// Not used any more from then on.
    expires: Instant,
}

/// Why there is no answer; with the request, if nothing of it was sent.
pub(super) type Failure = TrySendError<Request<Body>>;

impl Link {
    /// Begins to speak HTTP.
    pub(super) async fn new(stream: TokioIo<TcpStream>) -> hyper::Result<Box<Self>> {
        let mut http = http1::Builder::new();
        let (sender, connection) =
            http.writev(false).max_buf_size(BUFFER_BYTES).handshake(stream).await?;
        Ok(Box::new(Self { sender, connection: Some(connection), expires: pool::expiry() }))
    }

    /// Has it reached its maximum age?
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        now >= self.expires
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
    ) -> Result<Response<Body>, Failure> {
        // Unconstrained: at the end of its turn the task would be told to look again, by a waker that wakes nobody.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
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
            let mut answer = Answer { body, open: Some((self, Arc::clone(host))), late: None };
            if answer.body.is_end_stream() {
                answer.release();
            }
            answer.into()
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

/// An answer's body. At its end the connection is free for the next request; dropped before, or when a piece does not
/// come in time, it closes the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Incoming,
    open: Option<(Box<Link>, Arc<Host>)>,
    /// Made once a piece is missing.
    late: Option<Pin<Box<Sleep>>>,
}

impl Answer {
    /// The next piece, as far as it has come.
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let piece = Pin::new(&mut self.body).poll_frame(&mut nobody());
        let (true, Some((link, _))) = (piece.is_pending(), &mut self.open) else { return piece };
        link.drive(context);
        Pin::new(&mut self.body).poll_frame(&mut nobody())
    }

    /// Leaves the connection to the next request.
    fn release(&mut self) {
        let Some((mut link, host)) = self.open.take() else { return };
        if !link.sender.is_ready() {
            link.drive(&mut nobody()); // so that it sees that it is free
        }
        if link.sender.is_ready() {
            // Should its peer close it, who drove it last may be woken: for nothing, and once.
            host.put(link);
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
        let Poll::Ready(piece) = this.poll_piece(context) else {
            let late = this.late.get_or_insert_with(|| Box::pin(sleep(BETWEEN_PIECES)));
            ready!(late.as_mut().poll(context));
            this.open = None;
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())));
        };
        this.late = None;
        // Of a chunked body only that no piece follows tells the end.
        if piece.is_none() || this.body.is_end_stream() {
            this.release();
        }
        Poll::Ready(piece.map(|piece| piece.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http_body_util::BodyExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::{coop::consume_budget, yield_now},
        time::{pause, resume, timeout},
    };

    use super::*;
    use crate::client::pool::Pool;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A connection from both ends.
    async fn link(listener: &TcpListener) -> (Box<Link>, TcpStream) {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let link = Link::new(TokioIo::new(stream)).await.unwrap();
        (link, listener.accept().await.unwrap().0)
    }

    async fn listen() -> (TcpListener, Arc<Host>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        (listener, Pool::new().host(&uri))
    }

    /// Takes a request and gives this answer.
    async fn answer(server: &mut TcpStream, answer: &str) {
        assert!(server.read(&mut [0; 1024]).await.unwrap() > 0);
        server.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_has_come_is_given_whatever_is_left_of_the_tasks_turn() {
        let (listener, host) = listen().await;
        for rest in [
            "content-length: 0\r\n\r\n",
            "connection: close\r\ncontent-length: 0\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "connection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            for spent in 0..=128 {
                let (link, mut server) = link(&listener).await;
                let mut sending = pin!(link.send(Request::new(Body::default()), &host));
                let sent = poll_fn(|context| Poll::Ready(sending.as_mut().poll(context))).await;
                assert!(sent.is_pending());
                answer(&mut server, &format!("HTTP/1.1 200 OK\r\n{rest}")).await;
                yield_now().await; // hears of the answer, and begins a turn
                for _ in 0..spent {
                    consume_budget().await;
                }
                let begin = Instant::now();
                timeout(PATIENCE, sending).await.unwrap().unwrap(); // looks once more at its end
                assert!(begin.elapsed() < PATIENCE, "not woken: {rest}, {spent} spent");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_stalls_is_given_up_in_time_with_its_connection() {
        let (listener, host) = listen().await;
        let (link, mut server) = link(&listener).await;
        let stalls = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhal";
        let sending = link.send(Request::new(Body::default()), &host);
        let mut body = tokio::join!(sending, answer(&mut server, stalls)).0.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hal");
        pause(); // time goes on where all wait
        let begin = Instant::now();
        body.frame().await.unwrap().unwrap_err();
        assert_eq!(begin.elapsed().as_secs(), BETWEEN_PIECES.as_secs());
        resume();
        let closed = timeout(PATIENCE, server.read(&mut [0; 1])).await.unwrap();
        assert_eq!(closed.unwrap(), 0);
    }
}
