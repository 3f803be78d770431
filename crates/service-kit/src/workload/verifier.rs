//! Lets in whom a service knows, by the keys that the cluster publishes.

use std::{
    fs,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use hyper::HeaderMap;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::sleep,
};

use super::{
    Config, Mode, issuer,
    keys::KeySet,
    seen::Seen,
    token::{Invalid, Token},
};
use crate::{BoxError, Kit, Problem, epoch, health::Latch, input::bearer, metrics::register};

/// Between two looks for a key that is not known: whoever sends made-up names causes no more than that.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);
/// Between two tries while the keys are not to be had.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Tells which service account sends a request; with `IDENTITY=off` it lets everybody in.
#[derive(Debug, Clone)]
pub struct Verifier(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    config: Config,
    /// Whom a token must be for.
    audience: String,
    /// What the subject of an account in this namespace begins with.
    accounts: String,
    /// None until the first keys are there.
    known: RwLock<Option<Known>>,
    /// From when on a key that is not known may be looked for. Held during every look, so that no older answer takes
    /// the place of a newer one.
    next_look: Arc<Mutex<Instant>>,
    metrics: Metrics,
}

/// Keys, and the tokens that they have verified: new keys begin anew.
#[derive(Debug)]
struct Known {
    keys: Arc<KeySet>,
    seen: Seen,
}

impl Verifier {
    /// A verifier for the service `name`, whose audience is `stockyard-NAME`. Readiness waits for the first keys.
    ///
    /// # Errors
    /// When the namespace is not told.
    pub fn start(name: &str, config: Config, kit: &Kit) -> Result<Self, BoxError> {
        let metrics = Metrics::new(&kit.metrics.registry);
        if kit.config.identity == Mode::Off {
            return Ok(Self(None));
        }
        let file = format!("{}/namespace", config.folder);
        let namespace = fs::read_to_string(&file).map_err(|error| {
            format!("{file}: {error}: set IDENTITY_DIR, or outside of a cluster IDENTITY=off")
        })?;
        let inner = Arc::new(Inner {
            audience: format!("stockyard-{name}"),
            accounts: format!("system:serviceaccount:{}:", namespace.trim()),
            config,
            known: RwLock::new(None),
            next_look: Arc::new(Mutex::new(Instant::now())),
            metrics,
        });
        let latch = Arc::new(kit.readiness.latch("identity"));
        let (renewed, shutdown) = (Arc::clone(&inner), kit.shutdown.clone());
        kit.supervise("identity", move || {
            let (inner, latch) = (Arc::clone(&renewed), Arc::clone(&latch));
            let shutdown = shutdown.clone();
            async move {
                let _for_ever = shutdown.run_until_cancelled(inner.renew(&latch)).await;
            }
        });
        Ok(Self(Some(inner)))
    }

    /// Lets in the service accounts of this namespace that `allowed` names: 401 for whoever shows no valid token, 403
    /// for another account.
    pub async fn admit(&self, headers: &HeaderMap, allowed: &[&str]) -> Result<(), Problem> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let metrics = &inner.metrics;
        let Some(token) = bearer(headers) else {
            metrics.missing.inc();
            return Err(Problem::unauthenticated(
                "Bearer",
                "a request needs one token: Authorization: Bearer TOKEN",
            ));
        };
        let subject = match inner.subject(token).await {
            Ok(subject) => subject,
            Err(Refusal::NoKeys) => {
                return Err(Problem::unavailable("the cluster's keys are not there yet"));
            }
            Err(Refusal::Invalid(why)) => {
                metrics.invalid.inc();
                let detail = format!("the token is not valid here: {why}");
                return Err(Problem::unauthenticated("Bearer error=\"invalid_token\"", detail));
            }
        };
        let account = subject.strip_prefix(&inner.accounts);
        if account.is_some_and(|account| allowed.contains(&account)) {
            metrics.accepted.inc();
            return Ok(());
        }
        metrics.forbidden.inc();
        Err(Problem::forbidden("the token's service account may not call this route"))
    }
}

/// Why a caller is not known.
enum Refusal {
    NoKeys,
    Invalid(Invalid),
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl Inner {
    /// Whose token it is.
    async fn subject(self: &Arc<Self>, text: &str) -> Result<Box<str>, Refusal> {
        let now = epoch::seconds();
        match self.seen(text, now)? {
            Some(subject) => Ok(subject),
            // Boxed: it is seldom, and every request would carry the room for it.
            None => Box::pin(self.verify(text, now)).await,
        }
    }

    /// Whose token it is that was not verified before.
    async fn verify(self: &Arc<Self>, text: &str, now: u64) -> Result<Box<str>, Refusal> {
        let token = Token::parse(text)?;
        let keys = self.keys_with(token.key_id()).await?;
        let key = keys.get(token.key_id()).ok_or(Invalid::UnknownKey)?;
        let (subject, time) = token.verify(key)?.check(keys.issuer(), &self.audience)?;
        time.holds(now)?;
        if let Some(known) = self.write().as_mut().filter(|known| Arc::ptr_eq(&known.keys, &keys)) {
            known.seen.put(text, &subject, time, now);
        }
        Ok(subject.into())
    }

    /// Whose token it is, if it was verified before.
    fn seen(&self, text: &str, now: u64) -> Result<Option<Box<str>>, Refusal> {
        let known = self.read();
        let known = known.as_ref().ok_or(Refusal::NoKeys)?;
        Ok(known.seen.get(text, now).transpose()?.map(Into::into))
    }

    /// The keys, looked up anew when that one is not among them, by one request at a time and seldom.
    async fn keys_with(self: &Arc<Self>, id: &str) -> Result<Arc<KeySet>, Refusal> {
        let keys = self.keys()?;
        if keys.get(id).is_some() {
            return Ok(keys);
        }
        let next_look = Arc::clone(&self.next_look).lock_owned().await;
        let keys = self.keys()?;
        if keys.get(id).is_some() || Instant::now() < *next_look {
            return Ok(keys);
        }
        // In a task of its own: a caller that goes away would end it without an answer, and it would not count.
        let _ended = tokio::spawn(Arc::clone(self).look(next_look)).await;
        self.keys()
    }

    /// Looks for a key that is not known.
    async fn look(self: Arc<Self>, mut next_look: OwnedMutexGuard<Instant>) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(error, "a key that is not known cannot be looked up");
        }
        *next_look = Instant::now() + UNKNOWN_KEY_PAUSE;
    }

    fn keys(&self) -> Result<Arc<KeySet>, Refusal> {
        self.read().as_ref().map(|known| Arc::clone(&known.keys)).ok_or(Refusal::NoKeys)
    }

    /// Gets the published keys; `next_look` is held. Those that are gone count no more, and neither does what they have verified.
    async fn refresh(&self) -> Result<(), String> {
        let keys = issuer::fetch(&self.config).await.inspect_err(|_| self.metrics.failed.inc());
        let keys = keys.map_err(|error| error.to_string())?;
        self.metrics.refreshed.inc();
        self.replace(keys);
        Ok(())
    }

    /// Takes new keys in the place of those before. The same again leave what they have verified.
    fn replace(&self, keys: KeySet) {
        let mut known = self.write();
        if known.as_ref().is_none_or(|known| *known.keys != keys) {
            *known = Some(Known { keys: Arc::new(keys), seen: Seen::default() });
            tracing::info!("the cluster's keys are new");
        }
    }

    /// Gets the keys, then looks for new ones for ever. Without an answer the known ones go on.
    async fn renew(&self, latch: &Latch) {
        loop {
            let looked = {
                let _alone = self.next_look.lock().await;
                self.refresh().await
            };
            let pause = match looked {
                Ok(()) => {
                    latch.release();
                    self.config.refresh
                }
                Err(error) if self.read().is_none() => {
                    latch.blocked(error);
                    RETRY_PAUSE
                }
                Err(error) => {
                    tracing::warn!(error, "no look at the keys; the known ones go on");
                    self.config.refresh
                }
            };
            sleep(pause).await;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted.
#[derive(Debug)]
struct Metrics {
    /// `identity_requests_total{outcome}`.
    accepted: IntCounter,
    missing: IntCounter,
    invalid: IntCounter,
    forbidden: IntCounter,
    /// `identity_keys_refreshes_total{outcome}`.
    refreshed: IntCounter,
    failed: IntCounter,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["outcome"]);
            register(registry, counter.expect("the options are valid"))
        };
        let requests = counter("identity_requests_total", "Requests by what their token was worth");
        let refreshes = counter("identity_keys_refreshes_total", "Looks at the cluster's keys");
        Self {
            accepted: requests.with_label_values(&["accepted"]),
            missing: requests.with_label_values(&["missing"]),
            invalid: requests.with_label_values(&["invalid"]),
            forbidden: requests.with_label_values(&["forbidden"]),
            refreshed: refreshes.with_label_values(&["success"]),
            failed: refreshes.with_label_values(&["failure"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use hyper::header::AUTHORIZATION;
    use serde_json::json;

    use super::{
        super::{
            authorization,
            testing::{Signer, claims},
        },
        *,
    };

    /// A verifier for orders in staging that knows the signer's key, and asks nobody.
    fn verifier(signer: &Signer) -> Verifier {
        let keys = json!({"keys": [signer.jwk()]}).to_string().into_bytes();
        let keys = Arc::new(KeySet::parse("issuer".to_owned(), keys).unwrap());
        Verifier(Some(Arc::new(Inner {
            config: Config {
                folder: String::new(),
                url: hyper::Uri::from_static("https://localhost"),
                refresh: Duration::MAX,
            },
            audience: "stockyard-orders".to_owned(),
            accounts: "system:serviceaccount:staging:".to_owned(),
            known: RwLock::new(Some(Known { keys, seen: Seen::default() })),
            next_look: Arc::new(Mutex::new(Instant::now() + UNKNOWN_KEY_PAUSE)),
            metrics: Metrics::new(&Registry::new()),
        })))
    }

    /// What a pod of gateway-sa sends: as long as a cluster's.
    fn headers(signer: &Signer) -> HeaderMap {
        let now = epoch::seconds();
        let subject = "system:serviceaccount:staging:gateway-sa";
        let mut claims = claims("issuer", "stockyard-orders", subject, now);
        claims["kubernetes.io"] = json!("x".repeat(400));
        HeaderMap::from_iter([(AUTHORIZATION, authorization(&signer.token(&claims)).unwrap())])
    }

    /// The best of many rounds, so that a busy machine does not count. The bound is for what is deployed (`--release`).
    #[test]
    fn a_token_seen_before_costs_at_most_two_microseconds() {
        const ROUND: u32 = 1000;
        let signer = Signer::rs256("a");
        let (verifier, headers) = (verifier(&signer), headers(&signer));
        let admit = || verifier.admit(&headers, &["gateway-sa"]).now_or_never().unwrap().unwrap();
        let start = Instant::now();
        admit();
        let first = start.elapsed();
        let round = || {
            let start = Instant::now();
            (0..ROUND).for_each(|_| admit());
            start.elapsed() / ROUND
        };
        let best = (0..50).map(|_| round()).min().unwrap();
        println!("a token seen for the first time: {first:?}, and after that: {best:?}");
        let bound = if cfg!(debug_assertions) { 20 } else { 2 };
        assert!(best <= Duration::from_micros(bound), "{best:?}");
    }

    #[test]
    fn no_token_counts_once_its_key_is_gone() {
        let signer = Signer::es256("a");
        let (verifier, headers) = (verifier(&signer), headers(&signer));
        let admit = || verifier.admit(&headers, &["gateway-sa"]).now_or_never().unwrap();
        assert!(admit().is_ok());
        let other = json!({"keys": [Signer::es256("b").jwk()]}).to_string().into_bytes();
        let inner = verifier.0.as_ref().unwrap();
        inner.replace(KeySet::parse("issuer".to_owned(), other).unwrap());
        assert_eq!(admit().unwrap_err().status(), 401);
    }
}
