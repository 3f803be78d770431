//! One connection, opened anew when it was closed. No task of its own drives it, as hyper's would: whoever waits for the
//! answer does, so a request wakes the load once. What the load costs, those that are measured on its cores have less.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Waker},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::coop::unconstrained};

use super::Answer;

/// How much of an unexpected answer's body is told.
const TOLD: usize = 200;

/// A connection to an address.
pub(super) struct Connection {
    address: SocketAddr,
    open: Option<Open>,
}

/// What is open.
struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None once it has come to its end.
    connection: Option<Driven>,
}

type Driven = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

impl Connection {
    /// One that is not open yet.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, open: None }
    }

    /// Opens it before there is something to send. A failure shows when there is.
    pub(super) async fn open_in_advance(&mut self) {
        let _told_at_the_next_request = self.ready().await;
    }

    /// Sends a request and reads the whole answer. What is neither 2xx nor 503 is told.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Answer, Option<String>)> {
        let exchanged = self.ready().await?.exchange(request).await;
        if exchanged.is_err() {
            self.open = None;
        }
        exchanged
    }

    /// Closed while nothing was to be sent, it is opened anew.
    async fn ready(&mut self) -> Result<&mut Open> {
        let open = self.open.take().and_then(Open::if_still);
        let open = match open {
            Some(open) => open,
            None => Open::connect(self.address).await?,
        };
        Ok(self.open.insert(open))
    }
}

impl Open {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http1::Builder::new().writev(false).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Some(connection) })
    }

    /// None when its peer has closed it, or it is not free.
    fn if_still(mut self) -> Option<Self> {
        drive(&mut self.connection, &mut nobody());
        (self.connection.is_some() && self.sender.is_ready()).then_some(self)
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Answer, Option<String>)> {
        let Self { sender, connection } = self;
        let response = driven(connection, sender.send_request(request)).await;
        let response = response.context("no answer")?;
        let answer = Answer::of(response.status());
        let mut body = response.into_body();
        if let Answer::Other(status) = answer {
            let body = driven(connection, body.collect()).await.context("the body broke off")?;
            let body = body.to_bytes();
            let body = String::from_utf8_lossy(&body[..body.len().min(TOLD)]).into_owned();
            return Ok((answer, Some(format!("status {status}: {body}"))));
        }
        while let Some(frame) = driven(connection, body.frame()).await {
            frame.context("the body broke off")?;
        }
        Ok((answer, None))
    }
}

/// Waits for what the connection brings, and drives it meanwhile.
async fn driven<T>(connection: &mut Option<Driven>, awaited: impl Future<Output = T>) -> T {
    // Unconstrained: at the end of its turn the task would be told to look again, by a waker that wakes nobody.
    let mut awaited = pin!(unconstrained(awaited));
    poll_fn(|context| {
        let now = awaited.as_mut().poll(&mut nobody());
        if now.is_ready() {
            return now;
        }
        drive(connection, context);
        awaited.as_mut().poll(&mut nobody())
    })
    .await
}

/// Sends and receives what it can. At its end who awaits something of it is told.
fn drive(connection: &mut Option<Driven>, context: &mut Context<'_>) {
    let open = connection.as_mut();
    if open.is_some_and(|open| Pin::new(open).poll(context).is_ready()) {
        *connection = None;
    }
}

/// The context of who need not be woken.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
