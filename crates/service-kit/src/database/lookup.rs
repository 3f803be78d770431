//! Rows by their keys: what is asked for at the same time is one statement.
//!
//! A statement costs PostgreSQL, and the way there and back, several times what one more row does. So who asks while a
//! statement is under way waits for its end, and all of them are answered by the next one: the more there is to do, the
//! less each costs. Alone, nobody waits. Each sees what was committed before he asked, since the statement is sent after.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use deadpool_postgres::PoolError;
use tokio::{sync::oneshot, time::timeout};
use tokio_postgres::{Row, types::ToSql};

use super::{Database, DatabaseError};

/// How long others wait for a statement that is under way. One that takes longer waits for something else, and the next
/// is sent beside it.
const PATIENCE: Duration = Duration::from_millis(5);

/// Finds rows by their keys.
#[derive(Debug, Clone)]
pub struct Lookup<K, V>(Arc<Shared<K, V>>);

#[derive(Debug)]
struct Shared<K, V> {
    database: Database,
    sql: &'static str,
    read: fn(&Row) -> (K, V),
    asked: Mutex<Asked<K, V>>,
}

#[derive(Debug)]
struct Asked<K, V> {
    keys: Keys<K, V>,
    /// Is there a task that comes for them?
    is_served: bool,
}

/// Who waits for which key.
type Keys<K, V> = HashMap<K, Vec<oneshot::Sender<Found<V>>>>;
type Found<V> = Result<Option<V>, DatabaseError>;

impl<K, V> Lookup<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + ToSql + 'static,
    V: Clone + Debug + Send + 'static,
{
    /// By a statement that finds the rows with the keys in the array `$1` (it locks and changes nothing), and a function
    /// that takes a row's key and value.
    pub fn new(database: Database, sql: &'static str, read: fn(&Row) -> (K, V)) -> Self {
        let asked = Mutex::new(Asked { keys: HashMap::new(), is_served: false });
        Self(Arc::new(Shared { database, sql, read, asked }))
    }

    /// The value of this key; none when there is no such row.
    pub async fn find(&self, key: K) -> Found<V> {
        Ok(self.find_all([key]).await?.into_iter().next().flatten())
    }

    /// The values of these keys, in their order, by the same statement.
    pub async fn find_all(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<V>>, DatabaseError> {
        let (asked, receivers): (Vec<_>, Vec<_>) = keys
            .into_iter()
            .map(|key| {
                let (sender, receiver) = oneshot::channel();
                ((key, sender), receiver)
            })
            .unzip();
        if self.0.ask(asked) {
            self.0.spawn();
        }
        let mut found = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            // Nobody answers when the runtime ends.
            found.push(receiver.await.unwrap_or_else(|_| Err(PoolError::Closed.into()))?);
        }
        Ok(found)
    }
}

impl<K, V> Shared<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + ToSql + 'static,
    V: Clone + Debug + Send + 'static,
{
    /// True when nobody serves yet.
    fn ask(&self, keys: Vec<(K, oneshot::Sender<Found<V>>)>) -> bool {
        let mut asked = self.lock();
        for (key, sender) in keys {
            asked.keys.entry(key).or_default().push(sender);
        }
        !mem::replace(&mut asked.is_served, true)
    }

    /// In a task of its own: whoever asks may give up at any time, and others wait for the same answer.
    fn spawn(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        tokio::spawn(async move { shared.serve().await });
    }

    /// Answers what is asked for, until nothing is.
    async fn serve(self: Arc<Self>) {
        while let Some(keys) = self.take() {
            let mut answered = pin!(self.answer(keys));
            if timeout(PATIENCE, &mut answered).await.is_err() {
                self.spawn();
                return answered.await;
            }
        }
    }

    /// What is asked for; when that is nothing, nobody serves any more.
    fn take(&self) -> Option<Keys<K, V>> {
        let mut asked = self.lock();
        asked.is_served = !asked.keys.is_empty();
        asked.is_served.then(|| mem::take(&mut asked.keys))
    }

    async fn answer(&self, asked: Keys<K, V>) {
        let keys: Vec<&K> = asked.keys().collect();
        match self.database.rows(self.sql, &[&keys]).await {
            Ok(rows) => {
                let mut found: HashMap<K, V> = rows.iter().map(self.read).collect();
                for (key, senders) in asked {
                    let value = found.remove(&key);
                    tell(senders, || Ok(value.clone()));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for senders in asked.into_values() {
                    tell(senders, || Err(DatabaseError::Lookup(Arc::clone(&error))));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked<K, V>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell<V>(senders: Vec<oneshot::Sender<Found<V>>>, found: impl Fn() -> Found<V>) {
    for sender in senders {
        let _unless_given_up = sender.send(found());
    }
}
