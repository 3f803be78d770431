//! A connection that several reads use at the same time.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_postgres::Object;

use super::lent::Lent;

/// For how long others may join those who read on a connection. It bounds how many wait behind a statement that takes
/// long, and how long the connection is kept from those who wait for one.
const JOIN_WITHIN: Duration = Duration::from_millis(5);
/// How many read on a connection at the same time; with more of them another connection is used too.
const READERS: usize = 16;

/// Where the next one who reads finds the connection that others read on.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Weak<Connection>>>);

/// A connection, and since when it is used.
#[derive(Debug)]
struct Connection {
    lent: Lent,
    since: Instant,
    /// Did somebody go who had not waited for his rows?
    given_up: AtomicBool,
}

/// One who reads on a connection.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Option<Arc<Connection>>,
}

impl Shared {
    /// Joins those who read, if there are any to be joined.
    pub(super) fn join(&self) -> Option<Reader> {
        let connection = self.lock().upgrade()?;
        // This one is counted already.
        let joined = Arc::strong_count(&connection) <= READERS
            && connection.since.elapsed() < JOIN_WITHIN
            && !connection.lent.is_closed();
        let reader = Reader { connection: Some(connection) };
        if joined {
            return Some(reader);
        }
        reader.give_back();
        None
    }

    /// The first one who reads on a connection from the pool.
    pub(super) fn open(&self, connection: Object) -> Reader {
        let connection = Connection {
            lent: Lent::new(connection),
            since: Instant::now(),
            given_up: AtomicBool::new(false),
        };
        let connection = Arc::new(connection);
        *self.lock() = Arc::downgrade(&connection);
        Reader { connection: Some(connection) }
    }

    fn lock(&self) -> MutexGuard<'_, Weak<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The rows have come.
    pub(super) fn give_back(mut self) {
        let last = self.connection.take().and_then(Arc::into_inner);
        if let Some(connection) = last.filter(|last| !last.given_up.load(Ordering::Relaxed)) {
            connection.lent.give_back();
        }
    }
}

impl std::ops::Deref for Reader {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.connection.as_ref().expect("it is taken at the end only").lent
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.given_up.store(true, Ordering::Relaxed);
        }
    }
}
