//! A connection's bytes, between the socket and hyper, which leaves three things to be done here:
//!
//! - A client that has sent its whole request may say that it sends no more (`shutdown(SHUT_WR)`). hyper takes that for a
//!   client that went away; here it is told only when the answer was given. A reset it is told at once.
//! - Who closes while bytes come in makes the kernel send a reset, and the peer may lose the answer that it has not read
//!   yet. So after an answer that came before its request's end the rest is read and thrown away, for a bounded time
//!   (RFC 9112, 9.6).
//! - hyper refuses what it cannot parse with an empty answer: it gets a body here.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{
    connection::{Connection, Phase},
    refusal::Refusals,
};

/// How long what a peer still sends is read once all was said.
const LINGER: Duration = Duration::from_secs(5);

/// Between two looks whether the answer was given, before the end of the peer's bytes is told.
const LOOK: Duration = Duration::from_millis(50);

/// For content that has come to be taken by its handler, after which more is missing.
const CONTENT: Duration = Duration::from_secs(1);

/// A connection's socket.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    connection: Arc<Connection>,
    refusals: Refusals,
    /// What takes the place of hyper's refusal, as far as it was not sent, and how long hyper's is.
    refusal: Option<(Bytes, usize)>,
    /// When the end of the peer's bytes came, and what wakes hyper to look again, while it is not told yet.
    end: Option<(Instant, Pin<Box<Sleep>>)>,
    lingers: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>, refusals: Refusals) -> Self {
        Self { stream, connection, refusals, refusal: None, end: None, lingers: None }
    }

    /// Sends what takes the place of hyper's refusal.
    fn poll_refuse(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some((bytes, instead_of)) = &mut self.refusal else { return Poll::Ready(Ok(0)) };
        while !bytes.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
            bytes.advance(sent);
        }
        let instead_of = *instead_of;
        self.refusal = None;
        Poll::Ready(Ok(instead_of))
    }

    /// Is the end of the peer's bytes to be told? While its request is at work it is not, unless content is missing:
    /// what has come the handler takes in a moment, if it is all.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (since, look) = self.end.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(LOOK))));
        let since = self.connection.waits_since().max(*since);
        let is_over = !self.connection.is_busy()
            || (self.connection.is_unread() && since.elapsed() >= CONTENT);
        if is_over {
            return Poll::Ready(());
        }
        while look.as_mut().poll(context).is_ready() {
            look.as_mut().reset(Instant::now() + LOOK);
        }
        Poll::Pending
    }

    /// Reads and throws away what comes, until the peer closes or the time is over.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let lingers = self.lingers.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if lingers.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut room = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ended => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.connection.received();
        } else {
            ready!(self.poll_end(context));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // An answer is written while the connection works: what is written while it waits is hyper's own.
        if self.connection.is(Phase::Waiting) {
            if let Some(instead) = self.refusals.instead_of(bytes) {
                self.connection.refuse();
                self.refusal = Some((instead, bytes.len()));
            }
        }
        if self.refusal.is_some() {
            return self.poll_refuse(context);
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // a socket holds nothing back
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingers.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.connection.linger();
        }
        if self.connection.is_unread() {
            ready!(self.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}
