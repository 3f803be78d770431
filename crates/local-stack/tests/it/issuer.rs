//! An API server as far as identity goes: it publishes an issuer's name and keys over TLS to whoever shows its token.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use service_kit::workload::testing::{Signer, claims};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::certificates::certificates;

/// The issuer's name, which is not its address.
const NAME: &str = "https://issuer.test";
/// The namespace of whom it tells.
pub(crate) const NAMESPACE: &str = "staging";
/// The token that a service shows it.
const OWN_TOKEN: &str = "for-the-api-server";

/// A running one, and the folder that a service finds it by.
pub(crate) struct Issuer {
    folder: TempDir,
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// What it does with a connection.
#[derive(Clone, Copy)]
enum Mode {
    Answers,
    /// It is closed at once.
    Away,
    /// It is held, and nothing is said.
    Hangs,
}

struct Shared {
    mode: Mutex<Mode>,
    published: Mutex<Vec<Value>>,
    looks: AtomicUsize,
}

impl Issuer {
    /// Starts with these keys published.
    pub(crate) async fn start(signers: &[&Signer]) -> Self {
        let folder = TempDir::new().unwrap();
        let [authority, certificate, key] = certificates();
        for (name, text) in
            [("ca.crt", authority.as_str()), ("token", OWN_TOKEN), ("namespace", NAMESPACE)]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Answers),
            published: Mutex::default(),
            looks: AtomicUsize::new(0),
        });
        let address = listener.local_addr().unwrap();
        let server = serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&shared));
        let issuer = Self { folder, address, shared, server: tokio::spawn(server) };
        issuer.publish(signers);
        issuer
    }

    /// Is away from now on. It keeps its port: another test could take it.
    pub(crate) fn stop(&self) {
        *self.shared.mode.lock().unwrap() = Mode::Away;
    }

    /// Takes connections from now on, and answers nothing.
    pub(crate) fn hang(&self) {
        *self.shared.mode.lock().unwrap() = Mode::Hangs;
    }

    /// Answers again.
    pub(crate) fn start_again(&self) {
        *self.shared.mode.lock().unwrap() = Mode::Answers;
    }

    /// Publishes these keys and no others.
    pub(crate) fn publish(&self, signers: &[&Signer]) {
        let keys = signers.iter().map(|signer| signer.jwk()).collect();
        *self.shared.published.lock().unwrap() = keys;
    }

    /// Publishes more than anybody reads.
    pub(crate) fn publish_too_much(&self) {
        self.shared.published.lock().unwrap().push(json!({"kty": "x".repeat(300 * 1024)}));
    }

    /// How often the keys were looked at.
    pub(crate) fn looks(&self) -> usize {
        self.shared.looks.load(Ordering::Relaxed)
    }

    /// The settings of services that ask it who calls, and have such tokens.
    pub(crate) fn settings(&self, refresh: &str) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.path(name).display().to_string();
        vec![
            ("IDENTITY", "kubernetes".to_owned()),
            ("IDENTITY_DIR", path("")),
            ("IDENTITY_URL", format!("https://localhost:{}", self.address.port())),
            ("IDENTITY_REFRESH", refresh.to_owned()),
            ("ORDERS_TOKEN_FILE", path("orders")),
            ("INVENTORY_TOKEN_FILE", path("inventory")),
        ]
    }

    /// Writes a service's token for another as the kubelet would: whole at once.
    pub(crate) fn write_token(&self, file: &str, token: &str) {
        let new = self.path(&format!("{file}.new"));
        fs::write(&new, token).unwrap();
        fs::rename(new, self.path(file)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    // Its connections end with it.
    let (mut connections, mut held) = (JoinSet::new(), Vec::new());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mode = *shared.mode.lock().unwrap();
        match mode {
            Mode::Away => {}
            Mode::Hangs => held.push(stream),
            Mode::Answers => {
                connections.spawn(exchange(stream, tls.clone(), Arc::clone(&shared)));
            }
        }
    }
}

async fn exchange(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(|request| {
        let answer = answer(&shared, &request);
        async { Ok::<_, Infallible>(answer) }
    });
    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let text = |value: &Value| Response::new(Full::new(Bytes::from(value.to_string())));
    let shown = request.headers().get("authorization").map(|value| value.to_str().unwrap());
    if shown != Some(&format!("Bearer {OWN_TOKEN}")) {
        let mut refused = text(&json!("who are you?"));
        *refused.status_mut() = hyper::StatusCode::UNAUTHORIZED;
        return refused;
    }
    match request.uri().path() {
        "/.well-known/openid-configuration" => {
            // On a managed cluster this address is the outside's.
            text(&json!({"issuer": NAME, "jwks_uri": "https://192.0.2.1/openid/v1/jwks"}))
        }
        "/openid/v1/jwks" => {
            shared.looks.fetch_add(1, Ordering::Relaxed);
            text(&json!({"keys": *shared.published.lock().unwrap()}))
        }
        path => panic!("asked for {path}"),
    }
}

/// What a token of an account says, for a service, from now on for an hour.
pub(crate) fn claims_of(account: &str, service: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let subject = format!("system:serviceaccount:{NAMESPACE}:{account}");
    claims(NAME, &format!("stockyard-{service}"), &subject, now)
}

/// A time relative to now, in seconds since the Unix epoch.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(now.as_secs()).unwrap() + seconds
}
