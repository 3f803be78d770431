//! A circuit breaker: after failures in a row an upstream gets no requests for a while, then one to try.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use prometheus::{IntCounter, IntGauge};
use tokio::time::Instant;

/// So many failures in a row open it.
const FAILURES: u32 = 5;
/// The first time it is open for so long; each failed trial doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Counts failures in a row, and refuses while it is open.
#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<State>,
    /// 0 closed, 1 half open, 2 open.
    shown: IntGauge,
    opened: IntCounter,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Counts the changes of phase: a request that was admitted in an earlier one changes nothing any more.
    generation: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration },
    HalfOpen { pause: Duration },
}

/// The right to send one request. Dropped without a record, as when a caller goes away, it is evidence of nothing.
#[derive(Debug)]
pub(super) struct Permit {
    breaker: Arc<Breaker>,
    generation: u64,
    /// Does this request decide whether the breaker closes?
    pub(super) is_trial: bool,
    is_recorded: bool,
}

impl Breaker {
    /// Closed, shown by these metrics.
    pub(super) fn new(shown: IntGauge, opened: IntCounter) -> Arc<Self> {
        let state = State { phase: Phase::Closed { failures: 0 }, generation: 0 };
        Arc::new(Self { state: Mutex::new(state), shown, opened })
    }

    /// The right to send, or how long it stays refused.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Permit, Duration> {
        let mut state = self.lock();
        let is_trial = match state.phase {
            Phase::Closed { .. } => false,
            Phase::Open { until, pause } => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(left);
                }
                self.enter(&mut state, Phase::HalfOpen { pause });
                true
            }
            Phase::HalfOpen { pause } => return Err(pause),
        };
        let generation = state.generation;
        Ok(Permit { breaker: Arc::clone(self), generation, is_trial, is_recorded: false })
    }

    fn enter(&self, state: &mut State, phase: Phase) {
        *state = State { phase, generation: state.generation + 1 };
        self.shown.set(match phase {
            Phase::Closed { .. } => 0,
            Phase::HalfOpen { .. } => 1,
            Phase::Open { .. } => 2,
        });
    }

    fn open(&self, state: &mut State, pause: Duration) {
        self.enter(state, Phase::Open { until: Instant::now() + pause, pause });
        self.opened.inc();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl Permit {
    /// Records how the request went.
    pub(super) fn record(mut self, success: bool) {
        self.is_recorded = true;
        let breaker = Arc::clone(&self.breaker);
        let mut state = breaker.lock();
        if state.generation != self.generation {
            return;
        }
        match (state.phase, success) {
            (Phase::Closed { .. }, true) => state.phase = Phase::Closed { failures: 0 },
            (Phase::Closed { failures }, false) if failures + 1 < FAILURES => {
                state.phase = Phase::Closed { failures: failures + 1 };
            }
            (Phase::Closed { .. }, false) => breaker.open(&mut state, FIRST_PAUSE),
            (Phase::HalfOpen { .. }, true) => {
                breaker.enter(&mut state, Phase::Closed { failures: 0 });
            }
            (Phase::HalfOpen { pause }, false) => {
                breaker.open(&mut state, LONGEST_PAUSE.min(pause * 2));
            }
            (Phase::Open { .. }, _) => {} // nothing is admitted while it is open
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_recorded {
            return;
        }
        let mut state = self.breaker.lock();
        if let (Phase::HalfOpen { pause }, true) =
            (state.phase, state.generation == self.generation)
        {
            // The trial ended without evidence: the next request is the trial.
            self.breaker.enter(&mut state, Phase::Open { until: Instant::now(), pause });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn breaker() -> Arc<Breaker> {
        let shown = IntGauge::new("state", "help").unwrap();
        Breaker::new(shown, IntCounter::new("opened", "help").unwrap())
    }

    fn fail(breaker: &Arc<Breaker>, times: u32) {
        for _ in 0..times {
            breaker.admit().unwrap().record(false);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let breaker = breaker();
        fail(&breaker, FAILURES - 1);
        breaker.admit().unwrap().record(true);
        fail(&breaker, FAILURES - 1);
        assert!(breaker.admit().is_ok());
        fail(&breaker, 1);
        assert_eq!(breaker.admit().unwrap_err(), FIRST_PAUSE);
        assert_eq!((breaker.shown.get(), breaker.opened.get()), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_pause_one_request_tries_and_its_success_closes() {
        let breaker = breaker();
        fail(&breaker, FAILURES);
        advance(FIRST_PAUSE).await;
        let trial = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "one trial at a time");
        assert_eq!(breaker.shown.get(), 1);
        trial.record(true);
        assert!(breaker.admit().is_ok());
        assert_eq!(breaker.shown.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_trial_doubles_the_pause_up_to_a_bound() {
        let breaker = breaker();
        fail(&breaker, FAILURES);
        let mut pause = FIRST_PAUSE;
        for _ in 0..10 {
            advance(pause).await;
            breaker.admit().unwrap().record(false);
            pause = LONGEST_PAUSE.min(pause * 2);
            assert_eq!(breaker.admit().unwrap_err(), pause);
        }
        assert_eq!(pause, LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_whose_caller_goes_away_makes_room_for_the_next() {
        let breaker = breaker();
        fail(&breaker, FAILURES);
        advance(FIRST_PAUSE).await;
        drop(breaker.admit().unwrap());
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_from_before_the_opening_changes_nothing_after_it() {
        let breaker = breaker();
        let [success, failure, gone] = [(); 3].map(|()| breaker.admit().unwrap());
        fail(&breaker, FAILURES);
        advance(FIRST_PAUSE).await;
        let trial = breaker.admit().unwrap();
        success.record(true);
        assert!(breaker.admit().is_err(), "closed by a request from before the opening");
        failure.record(false);
        drop(gone);
        assert!(breaker.admit().is_err(), "the trial is still in flight");
        assert_eq!(breaker.shown.get(), 1);
        trial.record(true);
        assert!(breaker.admit().is_ok());
        assert_eq!(breaker.opened.get(), 1);
    }
}
