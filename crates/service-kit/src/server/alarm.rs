//! A connection's timer: one of tokio's for as long as the connection lives.
//!
//! hyper asks for a new one when it begins to wait for a request, and gives it back as soon as the head is there. Here
//! that is a note of the time: when the one timer rings too early, it is set anew. How long may be waited the connection
//! knows: hyper has one time-out for an idle connection and for a head that has begun.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use tokio::time;

use super::connection::Connection;

/// The timer of one connection, of whose sleeps one is waited for at a time.
#[derive(Debug, Clone)]
pub(super) struct Alarm(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: Arc<Connection>,
    /// hyper's only time-out.
    timeout: Duration,
    sleep: Mutex<Option<Pin<Box<time::Sleep>>>>,
}

impl Alarm {
    /// For the connection, of which hyper is told this time-out.
    pub(super) fn new(connection: Arc<Connection>, timeout: Duration) -> Self {
        Self(Arc::new(Shared { connection, timeout, sleep: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pin<Box<time::Sleep>>>> {
        self.0.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timer for Alarm {
    fn now(&self) -> Instant {
        time::Instant::now().into_std()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let now = deadline.checked_sub(self.0.timeout).unwrap_or(deadline);
        self.0.connection.wait(now.into());
        Box::pin(Until(self.clone()))
    }
}

/// A sleep that hyper waits for.
#[derive(Debug)]
struct Until(Alarm);

impl Sleep for Until {}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.0.0.connection.deadline();
        let mut sleep = self.0.lock();
        let sleep = sleep.get_or_insert_with(|| Box::pin(time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::connection::Patience;

    #[tokio::test(start_paused = true)]
    async fn each_sleep_ends_when_the_connection_has_waited_for_too_long() {
        let seconds = Duration::from_secs;
        let patience = Patience { head: seconds(10), idle: seconds(20) };
        let (connection, begin) = (Arc::new(Connection::new(patience)), time::Instant::now());
        let alarm = Alarm::new(Arc::clone(&connection), seconds(1));
        let passed = |sleep: Pin<Box<dyn Sleep>>| async move {
            sleep.await;
            begin.elapsed().as_secs()
        };
        assert!(time::timeout(seconds(1), alarm.sleep(seconds(1))).await.is_err());
        assert_eq!(passed(alarm.sleep(seconds(1))).await, 10);
        connection.work(false);
        connection.answer();
        let idle = alarm.sleep(seconds(1));
        assert!(time::timeout(seconds(5), passed(idle)).await.is_err());
        let idle = alarm.sleep(seconds(1));
        connection.received();
        assert_eq!(passed(idle).await, 15 + 10, "a head had begun after 15 s");
    }
}
