//! The open connections of a listener: how many there may be, whose they are, and which one goes when there is no room.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use prometheus::{
    IntCounterVec, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};

use super::{
    Limits,
    connection::{Connection, Patience, Phase},
    refusal::Refusals,
};
use crate::{
    metrics::register,
    shares::{self, FairShares},
};

/// Between two looks for a connection that may go, while all have a request at work.
const LOOK: Duration = Duration::from_millis(20);

/// The open connections of one listener.
#[derive(Debug)]
pub struct Connections {
    pub(super) limits: Limits,
    shares: Option<Arc<FairShares>>,
    room: Arc<Semaphore>,
    open: Mutex<Open>,
    /// `http_connections_closed_total{reason}`: to make room, or beyond a client's share.
    closed: IntCounterVec,
    pub(super) refusals: Refusals,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: BTreeMap<u64, One>,
}

#[derive(Debug)]
struct One {
    connection: Arc<Connection>,
    client: IpAddr,
    /// Empty until it is spawned.
    task: Arc<OnceLock<AbortHandle>>,
}

impl One {
    /// Ends it, if its connection may be closed.
    fn close(&self, may_be_closed: impl Fn(&Connection) -> bool) -> bool {
        let Some(task) = self.task.get() else { return false };
        let is_closed = may_be_closed(&self.connection);
        if is_closed {
            task.abort();
        }
        is_closed
    }
}

/// Takes a connection off the list at its end.
struct Leaving {
    connections: Arc<Connections>,
    number: u64,
    _room: OwnedSemaphorePermit,
}

impl Connections {
    /// None yet, within these limits.
    pub fn new(limits: Limits) -> Arc<Self> {
        Self::with_shares(limits, None)
    }

    /// The same, of which each client has its share.
    pub(crate) fn with_shares(limits: Limits, shares: Option<Arc<FairShares>>) -> Arc<Self> {
        let counter = |name, help, label| {
            IntCounterVec::new(Opts::new(name, help), &[label]).expect("the options are valid")
        };
        let closed = counter(
            "http_connections_closed_total",
            "Connections closed to make room for others, or beyond their client's share",
            "reason",
        );
        for reason in ["room", "share"] {
            closed.with_label_values(&[reason]); // so that a rate sees the first one too
        }
        let malformed = counter(
            "http_requests_malformed_total",
            "Requests that are no HTTP, or whose head is too large to be read",
            "status",
        );
        for status in ["400", "414", "431"] {
            malformed.with_label_values(&[status]);
        }
        Arc::new(Self {
            limits,
            shares,
            room: Arc::new(Semaphore::new(limits.connections)),
            open: Mutex::default(),
            closed,
            refusals: Refusals(malformed),
        })
    }

    /// Shows them in these metrics.
    pub(crate) fn register(self: &Arc<Self>, registry: &Registry) {
        register(registry, self.closed.clone());
        register(registry, self.refusals.0.clone());
        registry.register(Box::new(Shown::new(Arc::clone(self)))).expect("registered once");
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { head: self.limits.header, idle: self.limits.idle }
    }

    /// Room for a connection from this address. Where there is none the connection that is worth least is closed, as soon
    /// as one has no request at work. None when the client has its share of connections, all at work.
    pub(super) async fn room_for(&self, peer: IpAddr) -> Option<OwnedSemaphorePermit> {
        if !self.is_within_share(peer) {
            return None;
        }
        let acquire = || Arc::clone(&self.room).acquire_owned();
        while self.room.available_permits() == 0 {
            let closed = self.close_least(|_| true);
            if closed {
                self.count_closed("room");
            }
            if let Ok(room) = timeout(LOOK, acquire()).await {
                return Some(room.expect("the semaphore is never closed"));
            }
        }
        Some(acquire().await.expect("the semaphore is never closed"))
    }

    /// Has the client at this address less than its share? Otherwise its own connection that is worth least makes room.
    fn is_within_share(&self, peer: IpAddr) -> bool {
        let Some(shares) = self.shares.as_ref() else {
            return true;
        };
        if shares.is_proxy(peer) {
            return true;
        }
        let client = shares::client(peer);
        let held = self.lock().by_number.values().filter(|one| one.client == client).count();
        if held < shares::share_of(self.limits.connections) {
            return true;
        }
        self.count_closed("share");
        self.close_least(|one| one.client == client)
    }

    /// Closes the connection that is worth least among some; false when each has a request at work. Those that have
    /// brought no request go first where they are many; where they are few, new ones would close each other.
    fn close_least(&self, is_meant: impl Fn(&One) -> bool) -> bool {
        let open = self.lock();
        let meant = || open.by_number.values().filter(|one| is_meant(one));
        let silent = meant().filter(|one| !one.connection.has_asked()).count();
        let are_many = silent > shares::share_of(self.limits.connections);
        let worth = |one: &One| {
            let worth = one.task.get().and_then(|_| one.connection.worth())?;
            Some((are_many && one.connection.has_asked(), worth))
        };
        loop {
            let idle = meant().filter_map(|one| Some((worth(one)?, one)));
            let Some((_, least)) = idle.min_by_key(|(worth, _)| *worth) else { return false };
            if least.close(Connection::close) {
                return true;
            } // else a request has just come on it
        }
    }

    /// Closes all whose peers wait for nothing.
    pub(super) fn close_idle(&self) {
        for one in self.lock().by_number.values() {
            one.close(Connection::close_idle);
        }
    }

    /// Serves a connection in a task of its own, and lists it until its end.
    pub(super) fn spawn(
        self: &Arc<Self>,
        peer: IpAddr,
        connection: Arc<Connection>,
        room: OwnedSemaphorePermit,
        serve: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = Arc::default();
        let one = One { connection, client: shares::client(peer), task: Arc::clone(&task) };
        let leaving =
            Leaving { connections: Arc::clone(self), number: self.list(one), _room: room };
        let serving = tokio::spawn(async move {
            let _leaving = leaving;
            serve.await;
        });
        let _the_first = task.set(serving.abort_handle());
    }

    fn list(&self, one: One) -> u64 {
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, one);
        number
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.lock().by_number.len()
    }

    fn count_closed(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.connections.lock().by_number.remove(&self.number);
    }
}

/// `http_connections{state}`, counted when it is scraped.
struct Shown {
    connections: Arc<Connections>,
    by_state: IntGaugeVec,
}

impl Shown {
    fn new(connections: Arc<Connections>) -> Self {
        let opts = Opts::new("http_connections", "Open connections by what they are doing");
        let by_state = IntGaugeVec::new(opts, &["state"]).expect("the options are valid");
        Self { connections, by_state }
    }
}

impl Collector for Shown {
    fn desc(&self) -> Vec<&Desc> {
        self.by_state.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let open = self.connections.lock();
        for (phase, state) in Phase::ALL {
            let count = open.by_number.values().filter(|one| one.connection.is(phase)).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.by_state.with_label_values(&[state]).set(count);
        }
        self.by_state.collect()
    }
}
