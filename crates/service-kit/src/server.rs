//! A listener with limits and a drain that ends in time.

mod alarm;
mod connection;
mod connections;
mod refusal;
mod wire;

use std::{
    future::ready,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{TryFutureExt, future::Either};
use hyper::{
    body::{Body as _, Incoming},
    header::{CONNECTION, EXPECT, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use rustix::{io::Errno, net::sockopt};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout_at},
};

pub(crate) use self::connection::Connection;
pub use self::connections::Connections;
use self::{alarm::Alarm, wire::Wire};
use crate::{Request, Response, body::Content, faults::Dropped, scope};

/// What a connection reads ahead and has still to send, in bytes: with the frames of our bodies 32 KiB at most, which a
/// connection keeps until it is closed. It is the longest head of a request too; a longer one is answered 431.
const BUFFER_BYTES: usize = 24 * 1024;
/// What the kernel takes of a connection that is not read by its peer, in bytes: without a bound it is 4 MB, of the pod's
/// memory.
const SEND_BYTES: u32 = 64 * 1024;
/// So much content of a request that was not read hyper has read already, as a rule: then the connection can go on.
const UNREAD_BYTES: u64 = 4 * 1024;
/// How long a head that is under way may take once the listener stops.
const LAST_HEADS: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted; the kernel bounds it by `net.core.somaxconn`. What comes at once beyond it is
/// dropped, and tries again after a second; `TcpListener::bind` has 128.
const BACKLOG: u32 = 4096;
/// The pause after a failed accept: out of descriptors, the loop must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What bounds a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections; for a further one the one is closed that has waited for longest.
    pub connections: usize,
    /// For the first request of a connection, and to read a request's head.
    pub header: Duration,
    /// For the next request.
    pub idle: Duration,
    /// For a peer to take what it was sent.
    pub write: Duration,
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The same without the port as a header's value, made once for all its requests.
    pub header: HeaderValue,
}

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Every request was answered.
    Complete,
    /// The grace was over before that many connections had ended.
    Cut(usize),
}

/// A listener that is bound and does not accept yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds; port 0 takes any free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves with `handler` until `shutdown` says until when requests in flight may take, then drains.
    pub async fn run<H, F>(
        self,
        connections: Arc<Connections>,
        handler: H,
        shutdown: impl Future<Output = Instant>,
    ) -> Drain
    where
        H: Fn(Request, Peer) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Response, Dropped>> + Send + 'static,
    {
        let graceful = GracefulShutdown::new();
        let mut shutdown = pin!(shutdown);
        let deadline = loop {
            let (stream, address, room) = tokio::select! {
                biased;
                deadline = &mut shutdown => break deadline,
                next = self.next(&connections) => next,
            };
            bound_writes(&stream, connections.limits.write);
            let connection = Arc::new(Connection::new(connections.patience()));
            let service = serve(&connections, &connection, stream, address, handler.clone());
            let service = graceful.watch(service);
            connections.spawn(address.ip(), connection, room, async move {
                if let Err(error) = service.await {
                    tracing::debug!(%error, "a connection ended early");
                }
            });
        };
        drop(self.listener);
        let mut drained = pin!(graceful.shutdown());
        let heads = timeout_at(deadline.min(Instant::now() + LAST_HEADS), &mut drained);
        if heads.await.is_ok() {
            return Drain::Complete;
        }
        connections.close_idle();
        match timeout_at(deadline, drained).await {
            Ok(()) => Drain::Complete,
            Err(_) => Drain::Cut(connections.count()),
        }
    }

    /// The next connection that there is room for.
    async fn next(
        &self,
        connections: &Connections,
    ) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let (stream, peer) = self.accept().await;
            if let Some(room) = connections.room_for(peer.ip()).await {
                return (stream, peer, room);
            }
        }
    }

    /// Accepts a connection; never fails, since one peer's fault is not the listener's.
    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let _only_slower_without = stream.set_nodelay(true);
                    return (stream, peer);
                }
                Err(error) if peers_fault(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Speaks HTTP on a connection.
fn serve<H, F>(
    connections: &Connections,
    connection: &Arc<Connection>,
    stream: TcpStream,
    address: SocketAddr,
    handler: H,
) -> http1::Connection<
    TokioIo<Wire>,
    impl hyper::service::Service<
        hyper::Request<Incoming>,
        Response = Response,
        Error = Dropped,
        Future: Send,
    > + Send
    + use<H, F>,
>
where
    H: Fn(Request, Peer) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response, Dropped>> + Send + 'static,
{
    let peer = Peer::new(address);
    let own = Arc::clone(connection);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let has_content = !request.body().is_end_stream();
        let is_late = has_content && comes_late(&request);
        let is_open = own.work(has_content);
        let request = request.map(|body| Content::new(body, &own));
        if !is_open {
            return Either::Left(ready(Err(Dropped)));
        }
        let answer = handler(request, peer.clone());
        let own = Arc::clone(&own);
        Either::Right(answer.map_ok(move |mut answer| {
            if is_late && own.is_unread() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            own.answer();
            answer
        }))
    });
    let idle = connections.limits.idle;
    let wire = Wire::new(stream, Arc::clone(connection), connections.refusals.clone());
    // http1 and not auto: auto leaves a silent peer alone. No writev: an answer of ours is small, and one piece of memory
    // costs the kernel and hyper less than two.
    http1::Builder::new()
        .timer(Alarm::new(Arc::clone(connection), idle)) // it knows the time-outs; without one hyper has none
        .header_read_timeout(idle)
        .max_buf_size(BUFFER_BYTES)
        .writev(false)
        .serve_connection(TokioIo::new(wire), service)
}

/// Is content, if nobody reads it, not yet there when the answer is?
fn comes_late(request: &hyper::Request<Incoming>) -> bool {
    let length = request.body().size_hint().exact();
    length.is_none_or(|length| length > UNREAD_BYTES) || request.headers().contains_key(EXPECT)
}

/// Listens at an address; `[::]` takes IPv4 too, and is `0.0.0.0` where the machine has no IPv6.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match listen_at(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && has_no_ipv6(&error) => {
            listen_at((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        listener => listener,
    }
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let error = Errno::from_io_error(error);
    matches!(error, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// `TcpListener::bind` with room for more that wait, and for both families whatever the machine's default
/// (`net.ipv6.bindv6only`).
fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        sockopt::set_ipv6_v6only(&socket, false)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The address that the request at work came from, as a header's value; none outside of one.
pub fn peer() -> Option<HeaderValue> {
    scope::with(|scope| scope.peer.clone()).flatten()
}

impl Peer {
    fn new(address: SocketAddr) -> Self {
        let header = HeaderValue::try_from(address.ip().to_canonical().to_string());
        Self { address, header: header.expect("an address is ASCII") }
    }
}

fn peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Lets the kernel close a connection whose peer takes nothing for so long (`TCP_USER_TIMEOUT`): hyper has no bound for
/// that, and such peers would use up the connections.
fn bound_writes(stream: &TcpStream, within: Duration) {
    let millis = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = sockopt::set_tcp_user_timeout(stream, millis) {
        tracing::debug!(%error, "cannot bound writes");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn connections_that_come_at_once_all_wait_to_be_accepted() {
        let bound = Bound::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connect = || timeout(Duration::from_secs(20), TcpStream::connect(bound.local_addr()));
        let waiting = join_all((0..200).map(|_| connect())).await;
        let refused = waiting.iter().filter(|one| !matches!(one, Ok(Ok(_)))).count();
        assert_eq!(refused, 0, "is net.core.somaxconn below 200?");
    }

    #[tokio::test]
    async fn the_address_of_no_family_takes_both() {
        let bound = Bound::bind((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = bound.local_addr().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        }
    }

    #[test]
    fn a_machine_without_ipv6_is_told_from_a_port_in_use() {
        for (error, expected) in
            [(Errno::AFNOSUPPORT, true), (Errno::ADDRNOTAVAIL, true), (Errno::ADDRINUSE, false)]
        {
            assert_eq!(has_no_ipv6(&error.into()), expected, "{error}");
        }
    }

    #[test]
    fn a_peer_is_named_by_its_address_alone() {
        for address in ["192.0.2.7:1", "[::ffff:192.0.2.7]:2"] {
            assert_eq!(Peer::new(address.parse().unwrap()).header, "192.0.2.7");
        }
        assert_eq!(Peer::new("[2001:db8::1]:3".parse().unwrap()).header, "2001:db8::1");
    }
}
