//! A connection's timer: one of tokio's for as long as the connection lives.
//!
//! hyper asks for a new one with every request, and gives it back as soon as the head is there. Here that is a note of
//! the new time: when the one timer rings too early, it is set anew.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Instant,
};

use hyper::rt::{Sleep, Timer};
use tokio::time;

/// The timer of one connection, of whose sleeps one is waited for at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct Alarm(Arc<Mutex<Option<Pin<Box<time::Sleep>>>>>);

impl Alarm {
    fn lock(&self) -> MutexGuard<'_, Option<Pin<Box<time::Sleep>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timer for Alarm {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until { deadline: deadline.into(), alarm: self.clone() })
    }
}

/// A sleep that hyper waits for.
#[derive(Debug)]
struct Until {
    deadline: time::Instant,
    alarm: Alarm,
}

impl Sleep for Until {}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.alarm.lock();
        let alarm = alarm.get_or_insert_with(|| Box::pin(time::sleep_until(self.deadline)));
        if alarm.deadline() > self.deadline {
            alarm.as_mut().reset(self.deadline);
        }
        loop {
            ready!(alarm.as_mut().poll(context));
            if alarm.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_sleep_ends_at_its_own_time() {
        let (alarm, begin) = (Alarm::default(), time::Instant::now());
        let at = |seconds| alarm.sleep_until((begin + Duration::from_secs(seconds)).into());
        let passed = |sleep: Pin<Box<dyn Sleep>>| async move {
            sleep.await;
            begin.elapsed().as_secs()
        };
        assert!(time::timeout(Duration::from_secs(1), at(10)).await.is_err());
        assert_eq!(passed(at(20)).await, 20);
        assert_eq!(passed(at(15)).await, 20);
        assert_eq!(passed(at(25)).await, 25);
        assert!(time::timeout(Duration::from_secs(1), at(60)).await.is_err());
        assert_eq!(passed(at(30)).await, 30);
    }
}
