//! One connection that is kept, with one request at a time.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use local_stack::Result;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

/// How long an answer may take, also from a program under callgrind.
const WITHIN: Duration = Duration::from_secs(60);

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Kept {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Kept {
    /// Connects to a URL, `http://ADDRESS`.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let host = url.strip_prefix("http://").context("the URL is not http://ADDRESS")?.to_owned();
        let address: SocketAddr = host.parse().context("the URL's host is no address")?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, host, connection: tokio::spawn(connection) })
    }

    /// Sends one request and reads its answer whole, which must have that status.
    pub(crate) async fn ask(
        &mut self,
        (method, path): (Method, &str),
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
        expected: StatusCode,
    ) -> Result<Bytes> {
        let mut request = Request::builder().method(&method).uri(path).header(HOST, &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender
            .ready()
            .await
            .with_context(|| format!("{} closed the connection", self.host))?;
        let request = request.body(Full::new(body.into()))?;
        let exchange = async {
            let response = self.sender.send_request(request).await?;
            let status = response.status();
            hyper::Result::Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let answer = timeout(WITHIN, exchange).await;
        let (status, body) =
            answer.with_context(|| format!("{method} {path}: no answer within {WITHIN:?}"))??;
        ensure!(
            status == expected,
            "{method} {path}: {status}\n{}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
