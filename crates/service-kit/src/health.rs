//! Liveness and readiness.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

/// Beats while the public runtime makes progress.
///
/// A task on that runtime beats; the admin listener, on a thread of its own, looks how long ago that was. A frozen or
/// deadlocked runtime stops beating.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    start: Instant,
    last_millis: Arc<AtomicU64>,
    stall: Duration,
}

impl Heartbeat {
    /// A heartbeat that counts as stalled after `stall`.
    pub fn new(stall: Duration) -> Self {
        Self { start: Instant::now(), last_millis: Arc::new(AtomicU64::new(0)), stall }
    }

    /// Beats forever, on the runtime that is watched.
    pub async fn beat(self) {
        let mut ticks = interval(self.stall.max(Duration::from_millis(40)) / 4);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_millis.store(now, Ordering::Relaxed);
        }
    }

    /// How long ago the last beat was, if that is too long.
    pub fn stalled(&self) -> Option<Duration> {
        let last = Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
        let silence = self.start.elapsed().saturating_sub(last);
        (silence > self.stall).then_some(silence)
    }
}

/// Ready once no part is missing, and not draining.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    missing: Arc<Mutex<BTreeMap<&'static str, String>>>,
    draining: Arc<AtomicBool>,
}

impl Readiness {
    /// Holds readiness back until the latch is dropped.
    pub fn latch(&self, part: &'static str) -> Latch {
        let latch = Latch { part, readiness: self.clone() };
        latch.blocked("not initialised yet");
        latch
    }

    /// From now on not ready, for good.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Has it been told to drain?
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Why it is not ready; empty when it is.
    pub fn reasons(&self) -> Vec<String> {
        let missing = self.missing.lock().expect("no holder of this lock panics");
        let mut reasons: Vec<_> =
            missing.iter().map(|(part, reason)| format!("{part}: {reason}")).collect();
        if self.is_draining() {
            reasons.push("draining".to_owned());
        }
        reasons
    }
}

/// Held by a part that is not initialised yet. A worker that may panic shares it with the one who starts it again:
/// dropped by a panic, it would say that the part is ready.
#[derive(Debug)]
pub struct Latch {
    part: &'static str,
    readiness: Readiness,
}

impl Latch {
    /// Tells what the part waits for.
    pub fn blocked(&self, reason: impl Into<String>) {
        let mut missing = self.readiness.missing.lock().expect("no holder of this lock panics");
        missing.insert(self.part, reason.into());
    }

    /// The part is initialised.
    pub fn release(&self) {
        self.readiness.missing.lock().expect("no holder of this lock panics").remove(self.part);
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_every_latch_is_dropped() {
        let readiness = Readiness::default();
        let listener = readiness.latch("listener");
        let store = readiness.latch("store");
        store.blocked("the database is away");
        assert_eq!(
            readiness.reasons(),
            ["listener: not initialised yet", "store: the database is away"]
        );
        drop(listener);
        drop(store);
        assert!(readiness.reasons().is_empty());
        readiness.drain();
        assert_eq!(readiness.reasons(), ["draining"]);
    }

    #[test]
    fn a_blocked_runtime_stalls_the_heartbeat_and_recovers() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let heartbeat = Heartbeat::new(Duration::from_millis(200));
        runtime.spawn(heartbeat.clone().beat());
        let (release, wait) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move { wait.recv() });
        let until = |stalled: bool| {
            let start = Instant::now();
            while heartbeat.stalled().is_some() != stalled {
                assert!(start.elapsed() < Duration::from_secs(20));
                std::thread::yield_now();
            }
        };
        until(true);
        release.send(()).unwrap();
        until(false);
    }
}
