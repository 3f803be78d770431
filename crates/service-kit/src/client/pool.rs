//! Connections to other services, kept for the next request.

use std::{
    collections::VecDeque,
    iter,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak},
    time::Duration,
};

use hyper::{Request, Response, Uri, header::HeaderValue, http::uri::Authority};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tower::Service;

use super::{ClientError, link::Link};
use crate::{Body, supervise::supervised};

/// To connect.
const CONNECT: Duration = Duration::from_secs(1);
/// Between two looks at the idle connections.
const LOOK: Duration = Duration::from_secs(1);
/// About how long a connection is used: behind a Service a new replica gets its share by new connections alone. Idle for so
/// long it is closed too: that is far less than the server's idle timeout (2 min), or the server would close it under us.
const AGE: Duration = Duration::from_secs(10);
/// By what part of it the age of each connection differs at most, so that not all are replaced at once.
const JITTER: f64 = 0.2;
/// A peer that confirms nothing for so long, though asked in between, is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// So many idle connections to a host are kept for that long; more would be `MAX_CONNECTIONS` of a peer that ten replicas
/// ask.
const KEPT: usize = 64;
/// And all others for so long. Closed at once, they would be opened again by the next burst, until no port is left.
const BURST: Duration = Duration::from_secs(2);

/// Connections by host.
#[derive(Debug)]
pub(super) struct Pool {
    connector: HttpConnector,
    hosts: RwLock<Vec<Arc<Host>>>,
    /// Set once the task runs that closes what is idle for too long.
    is_tended: OnceLock<()>,
}

/// The idle connections to a host.
///
/// The one that is idle longest is used next, so that all carry the same share. That keeps all of a burst's connections in
/// use, but not for ever: at its maximum age each is closed, and a new one is opened only by a request that finds none idle.
/// One maximum age after the burst there are as many as requests in flight.
#[derive(Debug)]
pub(super) struct Host {
    uri: Uri,
    header: HeaderValue,
    /// The first one is idle longest.
    idle: Mutex<VecDeque<Idle>>,
}

/// A connection, and since when it is idle.
#[derive(Debug)]
struct Idle {
    link: Box<Link>,
    since: Instant,
}

/// When a connection that is opened now reaches its maximum age.
pub(super) fn expiry() -> Instant {
    Instant::now() + AGE.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

impl Pool {
    /// Without a connection.
    pub(super) fn new() -> Arc<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_keepalive(Some(SILENCE / 2));
        connector.set_keepalive_interval(Some(SILENCE / 2));
        connector.set_tcp_user_timeout(Some(SILENCE));
        Arc::new(Self { connector, hosts: RwLock::default(), is_tended: OnceLock::new() })
    }

    /// Where a request with this URI goes.
    pub(super) fn host(&self, uri: &Uri) -> Arc<Host> {
        let name = Host::name(uri);
        let find =
            |hosts: &[Arc<Host>]| hosts.iter().find(|host| host.header == name).map(Arc::clone);
        let known = find(&self.hosts.read().unwrap_or_else(PoisonError::into_inner));
        known.unwrap_or_else(|| {
            let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
            find(&hosts).unwrap_or_else(|| {
                let host = Arc::new(Host::new(uri));
                hosts.push(Arc::clone(&host));
                host
            })
        })
    }

    /// Sends a request and gives the answer as it comes.
    pub(super) async fn send(
        self: Arc<Self>,
        mut request: Request<Body>,
        host: Arc<Host>,
    ) -> Result<Response<Body>, ClientError> {
        // What was closed while it was idle has got nothing of the request.
        while let Some(link) = host.take() {
            match link.send(request, &host).await {
                Ok(answer) => return Ok(answer),
                Err(mut failure) => match failure.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(failure.into_error().into()),
                },
            }
        }
        let link = self.connect(&host).await?;
        link.send(request, &host).await.map_err(|failure| failure.into_error().into())
    }

    async fn connect(self: &Arc<Self>, host: &Host) -> Result<Box<Link>, ClientError> {
        self.is_tended.get_or_init(|| {
            let pool = Arc::downgrade(self);
            drop(tokio::spawn(supervised("connection pool", move || tend(Weak::clone(&pool)))));
        });
        let stream = self.connector.clone().call(host.uri.clone()).await;
        let stream = stream.map_err(|error| ClientError::Connect(error.into()))?;
        Ok(Link::new(stream).await?)
    }
}

impl Host {
    fn new(uri: &Uri) -> Self {
        let header = HeaderValue::from_str(Self::name(uri));
        let header = header.expect("an authority has visible letters");
        Self { uri: uri.clone(), header, idle: Mutex::default() }
    }

    fn name(uri: &Uri) -> &str {
        uri.authority().map_or("", Authority::as_str)
    }

    /// Its name, as a request tells it.
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Keeps a connection for a later request, unless it has reached its maximum age: its response was read, so nothing is cut.
    pub(super) fn put(&self, link: Box<Link>) {
        let now = Instant::now();
        if !link.is_expired(now) {
            self.idle().push_back(Idle { link, since: now });
        }
    }

    /// The connection that is idle longest, and open as far as it is known.
    fn take(&self) -> Option<Box<Link>> {
        let now = Instant::now();
        let mut idle = self.idle();
        iter::from_fn(|| idle.pop_front()).map(|idle| idle.link).find(|link| !link.is_expired(now))
    }

    /// Closes what has reached its maximum age, what its peer has closed, and what a burst has left.
    fn tend(&self) {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain_mut(|idle| !idle.link.is_expired(now) && idle.link.is_open());
        let others = idle.len().saturating_sub(KEPT);
        let is_over = |idle: &&Idle| now.duration_since(idle.since) >= BURST;
        let over = idle.iter().take(others).take_while(is_over).count();
        idle.drain(..over);
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tends the idle connections for as long as there is the pool.
async fn tend(pool: Weak<Pool>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        for host in &*pool.hosts.read().unwrap_or_else(PoisonError::into_inner) {
            host.tend();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        net::Ipv4Addr,
    };

    use bytes::Bytes;
    use futures_util::future::join_all;
    use http_body_util::BodyExt;
    use hyper::StatusCode;
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::Barrier,
        time::{advance, pause, resume, sleep},
    };

    use crate::{
        Body,
        body::{self, JSON},
        client::Client,
        server::{Bound, Connections, Limits, Peer},
    };

    use super::*;

    /// A server that answers each request with its peer's address and `more` bytes, once so many are there; its URL.
    fn server(more: usize, at_once: usize) -> String {
        let bound = Bound::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let url = format!("http://{}/", bound.local_addr());
        let time = Duration::from_secs(30);
        let limits = Limits { connections: 1000, header: time, idle: time, write: time };
        let all_there = Arc::new(Barrier::new(at_once));
        let handler = move |_, peer: Peer| {
            let all_there = Arc::clone(&all_there);
            async move {
                all_there.wait().await;
                let text = format!("{}{}", peer.address, " ".repeat(more));
                Ok(body::text(StatusCode::OK, JSON, text))
            }
        };
        tokio::spawn(bound.run(Connections::new(limits), handler, std::future::pending()));
        url
    }

    /// What one more request is answered: by `server`, the address of its connection.
    async fn peer(client: &Client, url: &str) -> String {
        let request = Request::get(url).body(Bytes::new()).unwrap();
        let answer = client.send(request).await.unwrap();
        String::from_utf8(answer.into_body().to_vec()).unwrap().trim().to_owned()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_once_its_answer_was_read() {
        let url = server(1 << 19, 1);
        let client = Client::unguarded(Duration::from_secs(5));
        let first = peer(&client, &url).await;
        assert_eq!(peer(&client, &url).await, first);
        let unread = Request::get(&url).body(Body::default()).unwrap();
        drop(client.forward(unread).await.unwrap());
        assert_ne!(peer(&client, &url).await, first);
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_to_be_collected_counts_as_broken() {
        let url = server(1 << 21, 1);
        let client = Client::unguarded(Duration::from_secs(5));
        let request = Request::get(&url).body(Bytes::new()).unwrap();
        let error = client.send(request).await.unwrap_err();
        assert!(matches!(error, ClientError::Broken(_)), "{error:?}");
        let host = client.pool.host(&url.parse().unwrap());
        assert!(host.idle().is_empty(), "its connection is closed");
        let forwarded = Request::get(&url).body(Body::default()).unwrap();
        let body = client.forward(forwarded).await.unwrap().into_body();
        assert!(body.collect().await.unwrap().to_bytes().len() > 1 << 21);
    }

    #[tokio::test]
    async fn requests_at_once_have_a_connection_each() {
        let url = server(0, 2);
        let client = Client::unguarded(Duration::from_secs(5));
        let (one, other) = tokio::join!(peer(&client, &url), peer(&client, &url));
        assert_ne!(one, other);
    }

    #[tokio::test]
    async fn as_many_connections_are_kept_as_requests_were_at_work() {
        const AT_ONCE: usize = 200;
        let url = server(0, AT_ONCE);
        let client = Client::unguarded(Duration::from_secs(30));
        let all = || async {
            let peers = (0..AT_ONCE).map(|_| peer(&client, &url));
            join_all(peers).await.into_iter().collect::<BTreeSet<_>>()
        };
        let first = all().await;
        assert_eq!(first.len(), AT_ONCE);
        assert_eq!(all().await, first);
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_it_was_idle_costs_no_request() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = Client::unguarded(Duration::from_secs(5));
        for name in ["first", "second", "third"] {
            let closing = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n{name:6}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            assert_eq!(tokio::join!(peer(&client, &url), closing).0, name);
            sleep(Duration::from_millis(10)).await; // so that we hear of it
        }
    }

    #[tokio::test]
    async fn a_connection_whose_answer_came_in_chunks_is_used_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = Client::unguarded(Duration::from_secs(5));
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for name in ["1", "2"] {
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let answer = format!("{head}1\r\n{name}\r\n0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let asking = async { (peer(&client, &url).await, peer(&client, &url).await) };
        let (one, other) = tokio::join!(asking, answering).0;
        assert_eq!((one.as_str(), other.as_str()), ("1", "2"));
    }

    #[tokio::test]
    async fn after_a_burst_a_few_connections_are_kept() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let host = Host::new(&format!("http://{address}/").parse().unwrap());
        for _ in 0..KEPT + 10 {
            let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
            host.put(Link::new(stream).await.unwrap());
        }
        host.tend();
        assert_eq!(host.idle().len(), KEPT + 10);
        pause();
        advance(BURST).await;
        host.tend();
        assert_eq!(host.idle().len(), KEPT);
    }

    /// A host, and a connection to it.
    async fn connected() -> (Host, Box<Link>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let host = Host::new(&format!("http://{address}/").parse().unwrap());
        (host, Link::new(stream).await.unwrap())
    }

    #[tokio::test]
    async fn a_connection_of_the_maximum_age_is_neither_taken_nor_kept() {
        let (youngest, oldest) = (AGE.mul_f64(1.0 - JITTER), AGE.mul_f64(1.0 + JITTER));
        let (host, link) = connected().await;
        host.put(link);
        pause();
        advance(youngest / 2).await;
        let link = host.take().unwrap();
        host.put(link);
        advance(oldest).await;
        assert!(host.take().is_none());
        let (host, link) = connected().await;
        advance(oldest).await;
        host.put(link);
        assert!(host.idle().is_empty());
    }

    #[tokio::test]
    async fn connections_have_ages_of_their_own() {
        pause();
        let opened = Instant::now();
        let ages: Vec<_> = (0..100).map(|_| (expiry() - opened).as_millis()).collect();
        assert!(ages.iter().all(|age| (8_000..=12_000).contains(age)), "{ages:?}");
        assert!(ages.iter().collect::<BTreeSet<_>>().len() > 50, "{ages:?}");
    }

    #[tokio::test]
    async fn all_connections_carry_the_same_share() {
        const CONNECTIONS: usize = 8;
        const ROUNDS: usize = 5;
        let url = server(0, 1);
        let client = Client::unguarded(Duration::from_secs(5));
        let host = client.pool.host(&url.parse().unwrap());
        for _ in 0..CONNECTIONS {
            host.put(client.pool.connect(&host).await.unwrap());
        }
        let mut shares = BTreeMap::<_, usize>::new();
        for _ in 0..CONNECTIONS * ROUNDS {
            *shares.entry(peer(&client, &url).await).or_default() += 1;
        }
        assert_eq!(shares.into_values().collect::<Vec<_>>(), [ROUNDS; CONNECTIONS]);
    }

    #[tokio::test]
    async fn what_a_burst_opened_is_closed_although_requests_go_on() {
        let url = server(0, 1);
        let client = Client::unguarded(Duration::from_secs(5));
        let host = client.pool.host(&url.parse().unwrap());
        for _ in 0..KEPT / 2 {
            host.put(client.pool.connect(&host).await.unwrap());
        }
        pause();
        for _ in 0..15 {
            resume();
            peer(&client, &url).await;
            pause();
            advance(Duration::from_secs(1)).await;
        }
        assert!(host.idle().len() <= 1, "{}", host.idle().len());
    }
}
