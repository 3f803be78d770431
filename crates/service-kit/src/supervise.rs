//! Workers: tasks that run as long as the service does. A panic does not end one for good.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Kit;

/// From a panic to the next start.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

impl Kit {
    /// Runs a worker, for which the shutdown waits. If it panics, that is logged under its name, and it is started again
    /// after a second, until the shutdown.
    pub fn supervise<F>(&self, name: &'static str, start: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(until(self.shutdown.clone(), name, start));
    }
}

/// Runs a worker that nobody waits for, in the same way, until it returns.
pub async fn supervised<F: Future<Output = ()>>(name: &'static str, start: impl FnMut() -> F) {
    until(CancellationToken::new(), name, start).await;
}

async fn until<F: Future<Output = ()>>(
    shutdown: CancellationToken,
    name: &'static str,
    mut start: impl FnMut() -> F,
) {
    loop {
        // What a worker shares with others has to be whole at every panic; its own state begins anew.
        let worker = AssertUnwindSafe(async { start().await });
        if worker.catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(worker = name, "worker panicked; restarting it");
        if shutdown.run_until_cancelled(sleep(RESTART_PAUSE)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use tokio::time::Instant;

    use super::*;
    use crate::{Env, KitConfig, identity};

    fn kit() -> Kit {
        Kit::new(identity!("supervised", "for tests"), KitConfig::read(&mut Env::new(&|_| None)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_twice_is_started_again_twice() {
        let (kit, begin) = (kit(), Instant::now());
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        kit.supervise("twice", move || {
            let start = counted.fetch_add(1, Ordering::Relaxed);
            assert!(start > 0, "the first time, before it is a future");
            async move { assert!(start > 1, "the second time") }
        });
        kit.tasks.close();
        kit.tasks.wait().await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        assert_eq!(begin.elapsed(), 2 * RESTART_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_waits_for_no_restart_and_for_a_worker_that_goes_on() {
        let kit = kit();
        kit.shutdown.cancel();
        kit.supervise("panics", || async { panic!("always") });
        kit.tasks.close();
        let begin = Instant::now();
        kit.tasks.wait().await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        kit.supervise("returns", || ready(()));
        kit.tasks.wait().await;
        kit.supervise("goes on", pending);
        tokio::task::yield_now().await;
        assert!(!kit.tasks.is_empty());
    }
}
