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
    queue: Queue<K, V>,
}

/// What is asked for and not under way yet.
#[derive(Debug)]
struct Queue<K, V>(Mutex<Asked<K, V>>);

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
        Self(Arc::new(Shared { database, sql, read, queue: Queue::new() }))
    }

    /// The value of this key; none when there is no such row.
    pub async fn find(&self, key: K) -> Found<V> {
        let (sender, receiver) = oneshot::channel();
        self.ask([(key, sender)]);
        told(receiver).await
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
        self.ask(asked);
        let mut found = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            found.push(told(receiver).await?);
        }
        Ok(found)
    }

    fn ask(&self, keys: impl IntoIterator<Item = (K, oneshot::Sender<Found<V>>)>) {
        if self.0.queue.ask(keys) {
            self.0.spawn();
        }
    }
}

impl<K, V> Shared<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + ToSql + 'static,
    V: Clone + Debug + Send + 'static,
{
    /// In a task of its own: whoever asks may give up at any time, and others wait for the same answer. In a box, since
    /// tokio moves a task eight times.
    fn spawn(self: &Arc<Self>) {
        tokio::spawn(Box::pin(Arc::clone(self).serve()));
    }

    /// Answers what is asked for, until nothing is.
    async fn serve(self: Arc<Self>) {
        let serving = self.queue.serving();
        while let Some(keys) = self.queue.take() {
            let mut answered = pin!(self.answer(keys));
            if timeout(PATIENCE, &mut answered).await.is_err() {
                serving.end();
                self.spawn();
                return answered.await;
            }
        }
        serving.end();
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
}

impl<K: Eq + Hash, V> Queue<K, V> {
    fn new() -> Self {
        Self(Mutex::new(Asked { keys: HashMap::new(), is_served: false }))
    }

    /// True when nobody serves yet.
    fn ask(&self, keys: impl IntoIterator<Item = (K, oneshot::Sender<Found<V>>)>) -> bool {
        let mut asked = self.lock();
        for (key, sender) in keys {
            asked.keys.entry(key).or_default().push(sender);
        }
        !mem::replace(&mut asked.is_served, true)
    }

    /// What is asked for; when that is nothing, nobody serves any more.
    fn take(&self) -> Option<Keys<K, V>> {
        let mut asked = self.lock();
        asked.is_served = !asked.keys.is_empty();
        asked.is_served.then(|| mem::take(&mut asked.keys))
    }

    /// To be held by the task that serves.
    fn serving(&self) -> Serving<'_, K, V> {
        Serving(self)
    }
}

impl<K, V> Queue<K, V> {
    fn lock(&self) -> MutexGuard<'_, Asked<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty of a task to come for what is asked for. Dropped by a panic, it lets the next who asks have it served again; who
/// waits gets an error, by losing the sender.
struct Serving<'a, K, V>(&'a Queue<K, V>);

impl<K, V> Serving<'_, K, V> {
    /// Nothing is asked for, or another task has the duty.
    fn end(self) {
        mem::forget(self);
    }
}

impl<K, V> Drop for Serving<'_, K, V> {
    fn drop(&mut self) {
        let mut asked = self.0.lock();
        asked.is_served = false;
        let abandoned = mem::take(&mut asked.keys);
        drop(asked); // who waits may run at once
        drop(abandoned);
    }
}

/// What was found.
async fn told<V>(receiver: oneshot::Receiver<Found<V>>) -> Found<V> {
    // Nobody answers when the runtime ends, or the task panics.
    receiver.await.unwrap_or_else(|_| Err(PoolError::Closed.into()))
}

fn tell<V>(senders: Vec<oneshot::Sender<Found<V>>>, found: impl Fn() -> Found<V>) {
    for sender in senders {
        let _unless_given_up = sender.send(found());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_to_all_who_wait_and_the_next_who_asks_is_served() {
        let queue = Arc::new(Queue::<&str, u32>::new());
        let ask = |key| {
            let (sender, receiver) = oneshot::channel();
            (queue.ask(vec![(key, sender)]), receiver)
        };
        let (is_to_serve, taken) = ask("a");
        assert!(is_to_serve);
        let served = Arc::clone(&queue);
        let (asked, go_on) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let _serving = served.serving();
            let _taken = served.take().unwrap();
            go_on.await.unwrap();
            panic!("a row is not what it should be");
        });
        tokio::task::yield_now().await;
        let (is_to_serve, waiting) = ask("b");
        assert!(!is_to_serve);
        asked.send(()).unwrap();
        assert!(serving.await.unwrap_err().is_panic());
        assert!(taken.await.is_err());
        assert!(waiting.await.is_err());
        let (is_to_serve, _receiver) = ask("c");
        assert!(is_to_serve);
        let keys = queue.take().unwrap();
        assert_eq!(keys.keys().copied().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn who_has_handed_the_duty_over_takes_it_from_nobody() {
        let queue = Queue::<&str, u32>::new();
        queue.serving().end();
        let (sender, _receiver) = oneshot::channel();
        assert!(queue.ask(vec![("a", sender)]));
        queue.serving().end();
        let (sender, _receiver) = oneshot::channel();
        assert!(!queue.ask(vec![("b", sender)]), "it is served still");
    }
}
