//! The times at which requests are due.

use std::{
    iter::{self, Peekable},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore};

/// How often it is looked at what is due. A wake-up for each request would take what is measured a part of its cores.
pub(super) const BEAT: Duration = Duration::from_micros(200);

/// A constant rate for some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// Requests a second.
    pub rate: f64,
    /// For how long.
    pub lasts: Duration,
}

impl Phase {
    fn count(self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rates and times are positive, and their product far below 2^53"
        )]
        let count = (self.rate * self.lasts.as_secs_f64()).round() as u64;
        count
    }
}

/// Phases, one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schedule {
    phases: Vec<Phase>,
}

impl Schedule {
    /// Those phases.
    pub fn new(phases: impl Into<Vec<Phase>>) -> Self {
        Self { phases: phases.into() }
    }

    /// One rate for all the time.
    pub fn constant(rate: f64, lasts: Duration) -> Self {
        Self::new([Phase { rate, lasts }])
    }

    /// How many requests it has; none when there is no phase.
    pub fn count(&self) -> Option<u64> {
        (!self.phases.is_empty()).then(|| self.phases.iter().map(|phase| phase.count()).sum())
    }

    /// How long it lasts.
    pub fn lasts(&self) -> Duration {
        self.phases.iter().map(|phase| phase.lasts).sum()
    }

    /// When the request of that number is due, from the start; none when there is no such one.
    pub fn due(&self, mut number: u64) -> Option<Duration> {
        let mut begin = Duration::ZERO;
        for phase in &self.phases {
            if number < phase.count() {
                #[expect(clippy::cast_precision_loss, reason = "it is far below 2^53")]
                let after = number as f64 / phase.rate;
                return Some(begin + Duration::from_secs_f64(after));
            }
            number -= phase.count();
            begin += phase.lasts;
        }
        None
    }

    /// The times of all its requests, from the start.
    fn dues(&self) -> impl Iterator<Item = Duration> {
        (0..).map_while(|number| self.due(number))
    }

    /// Gives a permit for each request once it is due, about a [`BEAT`] later at most.
    pub(super) async fn pace(&self, start: Instant, permits: &Semaphore) {
        let wakes = Arc::new(Notify::new());
        let (schedule, wake) = (self.clone(), Arc::clone(&wakes));
        // A thread's sleep is exact to some ten microseconds, tokio's timer to a millisecond only.
        thread::spawn(move || schedule.wake(start, &wake));
        let mut dues = self.dues().peekable();
        while dues.peek().is_some() {
            wakes.notified().await;
            permits.add_permits(take_due(&mut dues, start));
        }
    }

    /// Wakes when something is due, but no sooner than a [`BEAT`] after the last time.
    fn wake(&self, start: Instant, wakes: &Notify) {
        let mut dues = self.dues().peekable();
        while let Some(next) = dues.peek() {
            let wait = (start + *next).saturating_duration_since(Instant::now());
            thread::park_timeout(wait.max(BEAT));
            if take_due(&mut dues, start) > 0 {
                wakes.notify_one();
            }
        }
    }
}

/// Takes those that are due by now; how many they are.
fn take_due(dues: &mut Peekable<impl Iterator<Item = Duration>>, start: Instant) -> usize {
    let now = Instant::now();
    iter::from_fn(|| dues.next_if(|due| start + *due <= now)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_fixed_times_phase_by_phase() {
        let second = Duration::from_secs(1);
        let phase = |rate| Phase { rate, lasts: second };
        let schedule = Schedule::new([phase(4.0), phase(2.0)]);
        let due: Vec<_> = (0..).map_while(|number| schedule.due(number)).collect();
        let expected = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5].map(Duration::from_secs_f64);
        assert_eq!(due, expected);
        assert_eq!((schedule.count(), schedule.lasts()), (Some(6), 2 * second));
        assert_eq!((Schedule::default().count(), Schedule::default().due(0)), (None, None));
    }
}
