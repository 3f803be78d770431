//! One connection, opened anew when it was closed.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Answer;

/// How much of an unexpected answer's body is told.
const TOLD: usize = 200;

/// A connection to an address.
pub(super) struct Connection {
    address: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// One that is not open yet.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, sender: None }
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
        let exchanged = self.send(request).await;
        if exchanged.is_err() {
            self.sender = None;
        }
        exchanged
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<(Answer, Option<String>)> {
        let sender = self.ready().await?;
        let response = sender.send_request(request).await.context("no answer")?;
        let answer = Answer::of(response.status());
        let mut body = response.into_body();
        if let Answer::Other(status) = answer {
            let body = body.collect().await.context("the body broke off")?.to_bytes();
            let body = String::from_utf8_lossy(&body[..body.len().min(TOLD)]).into_owned();
            return Ok((answer, Some(format!("status {status}: {body}"))));
        }
        while let Some(frame) = body.frame().await {
            frame.context("the body broke off")?;
        }
        Ok((answer, None))
    }

    async fn ready(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        let open = match self.sender.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let sender = match open {
            Some(sender) => sender,
            None => connect(self.address).await?,
        };
        Ok(self.sender.insert(sender))
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
