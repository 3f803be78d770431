//! What is known of an open connection: what it is doing, since when, and when it has waited for too long.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// It waits for a request, or for the rest of its head.
    Waiting,
    /// A request is at work.
    Working,
    /// The next piece of a request's content is waited for.
    Reading,
    /// An answer is under way.
    Answering,
    /// All was said; what its peer still sends is read and thrown away.
    Lingering,
    /// It is being closed to make room.
    Closing,
}

impl Phase {
    pub(super) const ALL: [(Self, &'static str); 6] = [
        (Self::Waiting, "waiting"),
        (Self::Working, "working"),
        (Self::Reading, "reading"),
        (Self::Answering, "answering"),
        (Self::Lingering, "lingering"),
        (Self::Closing, "closing"),
    ];
}

/// How long a connection may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For the first request on it, and for the rest of a head that has begun.
    pub(super) head: Duration,
    /// For the next request.
    pub(super) idle: Duration,
}

/// No head has begun.
const NONE: u64 = 0;
/// A head has begun. Few take longer than one read, and only for those the clock is asked.
const NEW: u64 = 1;

/// A connection's state, shared by all that has to do with it. Times are nanoseconds since it was
/// accepted.
#[derive(Debug)]
pub(crate) struct Connection {
    accepted: Instant,
    patience: Patience,
    phase: AtomicU8,
    /// When it last began to wait for a request.
    waits: AtomicU64,
    /// When the head began that it waits for; [`NONE`] before that, [`NEW`] until somebody asks.
    head: AtomicU64,
    /// Has it brought a request?
    has_asked: AtomicBool,
    /// Is there content of the request that was not read?
    is_unread: AtomicBool,
}

impl Connection {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            accepted: Instant::now(),
            patience,
            phase: AtomicU8::new(Phase::Waiting as u8),
            waits: AtomicU64::new(0),
            head: AtomicU64::new(NONE),
            has_asked: AtomicBool::new(false),
            is_unread: AtomicBool::new(false),
        }
    }

    fn since_accepted(&self, time: Instant) -> u64 {
        u64::try_from(time.duration_since(self.accepted).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn is(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) == phase as u8
    }

    /// Goes from one phase to the next, unless it is another's by now.
    fn goes(&self, from: Phase, to: Phase) -> bool {
        self.phase.compare_exchange(from as u8, to as u8, Relaxed, Relaxed).is_ok()
    }

    /// Begins to wait for a request.
    pub(super) fn wait(&self, now: Instant) {
        self.goes(Phase::Answering, Phase::Waiting);
        self.head.store(NONE, Relaxed);
        self.waits.store(self.since_accepted(now), Relaxed);
    }

    /// Until when it may wait as it does now.
    pub(super) fn deadline(&self) -> Instant {
        if self.head.load(Relaxed) == NEW {
            self.head.store(self.since_accepted(Instant::now()).max(NEW + 1), Relaxed);
        }
        let (since, patience) = match (self.head.load(Relaxed), self.has_asked()) {
            (NONE, true) => (self.waits.load(Relaxed), self.patience.idle),
            (since, _) => (since, self.patience.head),
        };
        self.accepted + Duration::from_nanos(since) + patience
    }

    /// A request's head is there; false when the connection is being closed. `has_content`: does more belong to it?
    pub(super) fn work(&self, has_content: bool) -> bool {
        self.has_asked.store(true, Relaxed);
        self.is_unread.store(has_content, Relaxed);
        self.goes(Phase::Waiting, Phase::Working)
    }

    /// The next piece of the request's content is waited for, or it came.
    pub(crate) fn reads(&self, is_pending: bool) {
        if is_pending {
            self.goes(Phase::Working, Phase::Reading);
        } else {
            self.goes(Phase::Reading, Phase::Working);
        }
    }

    /// The request's content was read to its end.
    pub(crate) fn content_ends(&self) {
        self.is_unread.store(false, Relaxed);
    }

    pub(super) fn is_unread(&self) -> bool {
        self.is_unread.load(Relaxed)
    }

    /// The answer's head is there.
    pub(super) fn answer(&self) {
        self.reads(false);
        self.goes(Phase::Working, Phase::Answering);
    }

    /// What came cannot be understood; what follows is not read.
    pub(super) fn refuse(&self) {
        self.is_unread.store(true, Relaxed);
        self.goes(Phase::Waiting, Phase::Answering);
    }

    pub(super) fn linger(&self) {
        self.goes(Phase::Answering, Phase::Lingering);
        self.goes(Phase::Waiting, Phase::Lingering);
    }

    /// Something came.
    pub(super) fn received(&self) {
        if self.is(Phase::Waiting) && self.head.load(Relaxed) == NONE {
            self.head.store(NEW, Relaxed);
        }
    }

    /// Is there a request that was not answered to the end?
    pub(super) fn is_busy(&self) -> bool {
        self.is(Phase::Working) || self.is(Phase::Reading) || self.is(Phase::Answering)
    }

    /// Has it brought a request?
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Relaxed)
    }

    /// When it last began to wait for a request.
    pub(super) fn waits_since(&self) -> Instant {
        self.accepted + Duration::from_nanos(self.waits.load(Relaxed))
    }

    /// What is worth least goes first to make room: what waits before what is being answered, then what has waited, or
    /// been answered, for longest. None while a request is at work.
    pub(super) fn worth(&self) -> Option<(bool, Instant)> {
        let is_at_work = self.is(Phase::Working) || self.is(Phase::Closing);
        (!is_at_work).then(|| (self.is(Phase::Answering), self.waits_since()))
    }

    /// Is to be closed to make room; false when a request is at work on it.
    pub(super) fn close(&self) -> bool {
        self.close_idle()
            || self.goes(Phase::Reading, Phase::Closing)
            || self.goes(Phase::Answering, Phase::Closing)
    }

    /// Is to be closed; false when its peer waits for an answer, or for the rest of it.
    pub(super) fn close_idle(&self) -> bool {
        self.goes(Phase::Waiting, Phase::Closing) || self.goes(Phase::Lingering, Phase::Closing)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn connection() -> Connection {
        let seconds = Duration::from_secs;
        Connection::new(Patience { head: seconds(30), idle: seconds(120) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_own_time_and_an_idle_connection_another() {
        let connection = connection();
        let begin = Instant::now();
        let left = || connection.deadline().duration_since(begin).as_secs();
        assert_eq!(left(), 30, "silent from the start");
        advance(Duration::from_secs(10)).await;
        connection.received();
        assert_eq!(left(), 40, "its first head has begun");
        advance(Duration::from_secs(10)).await;
        connection.received();
        assert_eq!(left(), 40, "more of it came");
        assert!(connection.work(false));
        connection.answer();
        connection.wait(Instant::now());
        assert_eq!(left(), 20 + 120, "idle");
        advance(Duration::from_secs(100)).await;
        connection.received();
        assert_eq!(left(), 120 + 30, "the next head has begun");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_longest_goes_first_and_who_is_at_work_stays() {
        let (idle, answered, working, later) =
            (connection(), connection(), connection(), connection());
        for one in [&idle, &answered, &working, &later] {
            assert!(one.work(false));
        }
        for one in [&idle, &answered, &later] {
            one.answer();
        }
        idle.wait(Instant::now());
        advance(Duration::from_secs(1)).await;
        later.wait(Instant::now());
        assert!(idle.worth() < later.worth() && later.worth() < answered.worth());
        assert_eq!(working.worth(), None);
        assert!(!working.close());
        working.reads(true);
        assert!(working.worth().is_some());
        working.reads(false);
        assert!(!working.close());
        assert!(idle.close());
        assert!(!idle.work(false), "it is being closed");
    }
}
