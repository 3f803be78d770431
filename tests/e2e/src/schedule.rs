//! Which tests run side by side: those that need nothing in common. Of two that do, the one that is declared first runs
//! first.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What one test at a time may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// The environment staging.
    Staging,
    /// The environment production.
    Production,
    /// The copy of staging whose pods come and go.
    Disruptions,
    /// The copy of staging whose parts fail.
    Failures,
    /// Karpenter, and its nodes.
    Karpenter,
    /// The machine's CPUs: for who puts load on them, or measures times that load would blur.
    Cpus,
}

impl Resource {
    /// All of them: such a test is alone.
    pub const ALL: &[Self] = &[
        Self::Staging,
        Self::Production,
        Self::Disruptions,
        Self::Failures,
        Self::Karpenter,
        Self::Cpus,
    ];
}

tokio::task_local! {
    static TURN: Turn;
}

/// What each test has or waits for, in the order of their declaration; nothing for those that have ended.
#[derive(Debug)]
pub struct Schedule {
    needs: Mutex<Vec<Vec<Resource>>>,
    changed: Condvar,
}

impl Schedule {
    /// A schedule of tests by what they need.
    pub fn new<'a>(needs: impl Iterator<Item = &'a [Resource]>) -> Arc<Self> {
        let needs = needs.map(<[_]>::to_vec).collect();
        Arc::new(Self { needs: Mutex::new(needs), changed: Condvar::new() })
    }

    fn needs(&self) -> MutexGuard<'_, Vec<Vec<Resource>>> {
        self.needs.lock().expect("no holder panics")
    }

    /// Nobody needs to wait for this test any more: it has ended, or does not run at all.
    pub fn end(&self, test: usize) {
        self.needs()[test].clear();
        self.changed.notify_all();
    }

    /// Blocks until no test that is declared before this one needs any of the same.
    pub fn wait(self: &Arc<Self>, test: usize) -> Turn {
        let is_needed = |needs: &mut Vec<Vec<Resource>>| {
            let (before, rest) = needs.split_at(test);
            before.iter().flatten().any(|resource| rest[0].contains(resource))
        };
        let waited = self.changed.wait_while(self.needs(), is_needed);
        drop(waited.expect("no holder panics"));
        Turn { schedule: Arc::clone(self), test }
    }
}

/// A test's turn; it ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    schedule: Arc<Schedule>,
    test: usize,
}

impl Turn {
    /// Runs a test; `release` works in it.
    pub async fn run<T>(self, test: impl Future<Output = T>) -> T {
        TURN.scope(self, test).await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.schedule.end(self.test);
    }
}

/// Lets other tests have a resource from now on that the running one needs no more.
pub fn release(resource: Resource) {
    TURN.with(|Turn { schedule, test }| {
        schedule.needs()[*test].retain(|needed| *needed != resource);
        schedule.changed.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::{Resource::*, *};

    /// Long enough for a thread that need not wait.
    const SOON: Duration = Duration::from_secs(10);
    /// Long enough to see that one does wait; a slow machine makes this pass, never fail.
    const STILL: Duration = Duration::from_millis(50);

    /// Starts tests in threads, the last first; each tells its number when its turn comes.
    fn started(schedule: &Arc<Schedule>, count: usize) -> mpsc::Receiver<(usize, Turn)> {
        let (sender, receiver) = mpsc::channel();
        for test in (0..count).rev() {
            let (schedule, sender) = (Arc::clone(schedule), sender.clone());
            thread::spawn(move || sender.send((test, schedule.wait(test))));
        }
        receiver
    }

    #[test]
    fn what_is_needed_twice_is_given_in_declared_order() {
        let schedule = Schedule::new([&[Staging, Cpus][..], &[Cpus], &[Cpus]].into_iter());
        let turns = started(&schedule, 3);
        for expected in 0..3 {
            let (test, turn) = turns.recv_timeout(SOON).unwrap();
            assert_eq!(test, expected);
            assert!(turns.recv_timeout(STILL).is_err(), "two of them run side by side");
            drop(turn);
        }
    }

    #[test]
    fn those_with_nothing_in_common_run_side_by_side() {
        let schedule =
            Schedule::new([&[Staging][..], &[Staging], &[Karpenter], Resource::ALL].into_iter());
        let turns = started(&schedule, 4);
        let mut running =
            vec![turns.recv_timeout(SOON).unwrap(), turns.recv_timeout(SOON).unwrap()];
        running.sort_by_key(|(test, _)| *test);
        assert_eq!(running.iter().map(|(test, _)| *test).collect::<Vec<_>>(), [0, 2]);
        assert!(turns.recv_timeout(STILL).is_err());
        drop(running.remove(0));
        let (test, turn) = turns.recv_timeout(SOON).unwrap();
        assert_eq!(test, 1);
        drop(turn);
        assert!(turns.recv_timeout(STILL).is_err(), "the last one needs what a test still has");
        drop(running);
        assert_eq!(turns.recv_timeout(SOON).unwrap().0, 3);
    }

    #[test]
    fn nobody_waits_for_what_does_not_run_nor_for_what_was_released() {
        let schedule = Schedule::new([&[Cpus][..], &[Staging, Cpus], &[Cpus]].into_iter());
        schedule.end(0);
        let turn = schedule.wait(1);
        let turns = {
            let (sender, receiver) = mpsc::channel();
            let schedule = Arc::clone(&schedule);
            thread::spawn(move || sender.send(schedule.wait(2)));
            receiver
        };
        assert!(turns.recv_timeout(STILL).is_err());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(turn.run(async {
            release(Cpus);
            assert!(turns.recv_timeout(SOON).is_ok(), "it was released");
        }));
    }
}
