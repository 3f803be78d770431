//! Who may come in at the gateway: programs by an API key, people by a session that a key has begun.

use std::{num::NonZeroU32, sync::Arc};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hyper::{HeaderMap, header::HeaderName};
use prometheus::{IntCounterVec, Opts};
use service_kit::{
    BoxError, Kit, Problem, epoch, input::bearer, metrics::register, watched::Watched,
};

use crate::{
    config::Config,
    keys::{self, Key, Keys, May},
    session::{self, Signer},
};

/// Wrong keys a second that are answered 401; the rest 429. No guess is helped by it: a key has 256 bits.
const WRONG_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("it is not 0");
/// Requests a second whose trace is sampled because a known caller asks for it; each costs spans in all services.
const SAMPLED_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("it is not 0");
/// How a proxy tells by what the client came.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Tells who may come in.
#[derive(Debug)]
pub struct Access {
    keys: Watched<Keys>,
    signer: Watched<Signer>,
    reads_are_open: bool,
    wrong: DefaultDirectRateLimiter,
    sampled: DefaultDirectRateLimiter,
    /// `api_key_requests_total{key,outcome}`.
    requests: IntCounterVec,
}

impl Access {
    /// By the files that the settings name.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn start(config: &Config, kit: &Kit) -> Result<Self, BoxError> {
        let requests = Opts::new("api_key_requests_total", "Requests by key and what it was worth");
        let requests = IntCounterVec::new(requests, &["key", "outcome"]);
        Ok(Self {
            keys: Watched::start("API_KEYS_FILE", &config.api_keys, Keys::parse, kit)?,
            signer: Watched::start("SESSION_KEY_FILE", &config.session_key, Signer::parse, kit)?,
            reads_are_open: config.reads_are_open,
            wrong: RateLimiter::direct(Quota::per_second(WRONG_PER_SECOND)),
            sampled: RateLimiter::direct(Quota::per_second(SAMPLED_PER_SECOND)),
            requests: register(&kit.metrics.registry, requests.expect("the options are valid")),
        })
    }

    /// Lets a program's request in: 401 without a key or with a wrong one, 403 when it does not suffice, 429 when it
    /// comes too often. Its key; none where reading is open and none was shown.
    pub fn admit(&self, headers: &HeaderMap, needed: May) -> Result<Option<Arc<Key>>, Problem> {
        let Some(text) = bearer(headers) else {
            // Another scheme is somebody else's, e.g. an ingress'.
            if self.reads_are_open && needed == May::Read {
                return Ok(None);
            }
            self.count("-", "missing");
            return Err(unauthenticated("this needs an API key: Authorization: Bearer KEY"));
        };
        let Some(key) = self.keys.get().find(text) else {
            self.wrong()?;
            return Err(unauthenticated("the API key is not known"));
        };
        self.spend(&key, needed)?;
        Ok(Some(key))
    }

    /// Lets a form of the dashboard in; the key that began its session.
    pub fn admit_session(&self, headers: &HeaderMap) -> Result<Arc<Key>, Problem> {
        let key = self.session(headers).ok_or_else(|| {
            self.count("-", "missing");
            unauthenticated("sign in on the dashboard; programs use /api/v1 with an API key")
        })?;
        self.spend(&key, May::Write)?;
        Ok(key)
    }

    /// Lets somebody look at the dashboard; the key of who has signed in.
    pub fn admit_look(&self, headers: &HeaderMap) -> Result<Option<Arc<Key>>, Problem> {
        let session = self.session(headers);
        match &session {
            Some(key) if !self.reads_are_open => self.spend(key, May::Read)?,
            Some(_) => {}
            None => drop(self.admit(headers, May::Read)?),
        }
        Ok(session)
    }

    /// May a caller have its trace sampled? With a valid API key or session, `SAMPLED_PER_SECOND` of them: a stranger
    /// could have everything exported. Counts nothing for the key; a wrong one is told so by `admit`.
    pub fn may_ask_for_sampling(&self, headers: &HeaderMap) -> bool {
        self.is_known(headers) && self.sampled.check().is_ok()
    }

    /// Is there a valid API key or session?
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        match bearer(headers) {
            Some(text) => self.keys.get().find(text).is_some(),
            None => self.session(headers).is_some(),
        }
    }

    /// The key that began a request's session.
    fn session(&self, headers: &HeaderMap) -> Option<Arc<Key>> {
        self.signer.get().key(headers, &self.keys.get(), epoch::seconds())
    }

    /// `Set-Cookie` for a new session; none when the key is not known, or may do nothing that needs one; 429 as above.
    pub fn sign_in(&self, headers: &HeaderMap, text: &str) -> Result<Option<String>, Problem> {
        let Some(key) = self.keys.get().find(text) else {
            self.wrong()?;
            return Ok(None);
        };
        let needed = if self.reads_are_open { May::Write } else { May::Read };
        if !key.may(needed) {
            self.count(key.name(), "forbidden");
            return Ok(None);
        }
        self.count(key.name(), "accepted");
        Ok(Some(self.signer.get().begin(&key, epoch::seconds(), is_https(headers))))
    }

    /// Counts a request of a key, if it may.
    fn spend(&self, key: &Key, needed: May) -> Result<(), Problem> {
        if !key.may(needed) {
            self.count(key.name(), "forbidden");
            return Err(Problem::forbidden("this API key may only read"));
        }
        if let Err(wait) = key.spend() {
            self.count(key.name(), "limited");
            return Err(Problem::too_many_requests(
                "this API key has its requests_per_second",
                wait,
            ));
        }
        self.count(key.name(), "accepted");
        Ok(())
    }

    /// Counts a wrong key: 429 when there are too many.
    fn wrong(&self) -> Result<(), Problem> {
        let spent = keys::spend(&self.wrong);
        self.count("-", if spent.is_ok() { "unknown" } else { "limited" });
        spent.map_err(|wait| Problem::too_many_requests("there are too many wrong API keys", wait))
    }

    fn count(&self, key: &str, outcome: &str) {
        self.requests.with_label_values(&[key, outcome]).inc();
    }
}

/// `Set-Cookie` that ends a session.
pub fn sign_out(headers: &HeaderMap) -> String {
    session::end(is_https(headers))
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::unauthenticated("Bearer", detail)
}

/// Did the client come by HTTPS? What it lies about harms itself alone.
fn is_https(headers: &HeaderMap) -> bool {
    headers.get(FORWARDED_PROTO).is_some_and(|proto| proto == "https")
}
