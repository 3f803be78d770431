//! A value that is costly to make, shared by all who ask for it: one task makes it, at most once in a while, and only when
//! somebody asks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use service_kit::supervise::supervised;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

/// How old what is shown may be, and how often it is made at most.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The latest value.
#[derive(Debug)]
pub struct Snapshot<T> {
    latest: watch::Receiver<Option<Taken<T>>>,
    wanted: Arc<Notify>,
    /// What was taken before this moment is not shown any more.
    expired: Mutex<Instant>,
}

/// A value, and when its making began.
#[derive(Debug)]
struct Taken<T> {
    at: Instant,
    value: Arc<T>,
}

impl<T: Send + Sync + 'static> Snapshot<T> {
    /// Starts the task that makes it by `take`.
    pub fn start<F>(take: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, latest) = watch::channel(None);
        let wanted = Arc::new(Notify::new());
        let (asked, sender, take) = (Arc::clone(&wanted), Arc::new(sender), Arc::new(take));
        tokio::spawn(supervised("snapshot", move || {
            // Who asked before a panic waits still.
            if sender.receiver_count() > 1 {
                asked.notify_one();
            }
            make(Arc::clone(&take), Arc::clone(&sender), Arc::clone(&asked))
        }));
        Self { latest, wanted, expired: Mutex::new(Instant::now()) }
    }

    /// One that is at most a second old, and no older than the latest [`Self::expire`].
    pub async fn get(&self) -> Arc<T> {
        let expired = *self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = Instant::now().checked_sub(MAX_AGE).map_or(expired, |age| age.max(expired));
        let mut latest = self.latest.clone();
        loop {
            if let Some(taken) =
                latest.borrow_and_update().as_ref().filter(|taken| taken.at >= oldest)
            {
                return Arc::clone(&taken.value);
            }
            self.wanted.notify_one();
            latest.changed().await.expect("the task ends after the last receiver");
        }
    }

    /// Has all who ask from now on get what is from now on.
    pub fn expire(&self) {
        *self.expired.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Makes it whenever it is asked for.
async fn make<T, F: Future<Output = T>>(
    take: Arc<impl Fn() -> F>,
    sender: Arc<watch::Sender<Option<Taken<T>>>>,
    asked: Arc<Notify>,
) {
    while !sender.is_closed() {
        asked.notified().await;
        let at = Instant::now();
        let value = Arc::new(take().await);
        // Who asked meanwhile looks at this one first, and asks again if it is too old.
        let _answered = asked.notified().now_or_never();
        sender.send_replace(Some(Taken { at, value }));
        sleep_until(at + MAX_AGE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const TAKES: Duration = Duration::from_millis(100);

    /// A snapshot that says how many were made, and that number.
    fn counted() -> (Snapshot<u32>, Arc<AtomicU32>) {
        let made = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&made);
        let take = move || {
            let count = Arc::clone(&count);
            async move {
                sleep(TAKES).await;
                count.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        (Snapshot::start(take), made)
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_within_a_second_get_the_same_one() {
        let (snapshot, made) = counted();
        let got = join_all((0..500).map(|_| snapshot.get())).await;
        assert!(got.iter().all(|value| **value == 1));
        for _ in 0..8 {
            advance(TAKES).await;
            assert_eq!(*snapshot.get().await, 1);
        }
        advance(MAX_AGE).await;
        assert_eq!(*snapshot.get().await, 2);
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_made_once_a_second_whoever_asks_and_not_at_all_when_nobody_does() {
        let (snapshot, made) = counted();
        let begin = Instant::now();
        while begin.elapsed() < 10 * MAX_AGE {
            snapshot.get().await;
            snapshot.expire();
        }
        assert!(made.load(Ordering::Relaxed) <= 11, "{made:?} in 10 s");
        // One that was asked for before may still come.
        sleep(2 * MAX_AGE).await;
        let before = made.load(Ordering::Relaxed);
        sleep(60 * MAX_AGE).await;
        assert_eq!(made.load(Ordering::Relaxed), before);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_away_while_it_is_made_ends_it_for_nobody() {
        let (snapshot, made) = counted();
        assert!(timeout(TAKES / 2, snapshot.get()).await.is_err());
        assert_eq!(*snapshot.get().await, 1);
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_it_has_expired_a_later_one_is_given() {
        let (snapshot, _) = counted();
        assert_eq!(*snapshot.get().await, 1);
        snapshot.expire();
        assert_eq!(*snapshot.get().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asked_before_a_panic_gets_the_one_after_it() {
        let takes = Arc::new(AtomicU32::new(0));
        let snapshot = Snapshot::start(move || {
            let take = takes.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(TAKES).await;
                assert!(take > 0, "the first one");
                take
            }
        });
        let got = timeout(5 * MAX_AGE, join_all((0..10).map(|_| snapshot.get()))).await.unwrap();
        assert!(got.iter().all(|value| **value == 1));
    }
}
