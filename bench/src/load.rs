//! A load of HTTP requests: closed (so many connections, each sends when it was answered) or open (sent at times that
//! are fixed in advance, whatever the answers do).
//!
//! It runs on one thread of its own. In an open loop latency counts from the time at which a request was due: one that
//! had to wait for a connection has waited, so a server that stalls cannot hide the requests that came meanwhile.

mod connection;
mod outcome;
mod schedule;

use std::{
    convert::Infallible,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use rustix::process::setpriority_process;
use tokio::{
    runtime,
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};

use self::{connection::Connection, schedule::BEAT};
pub use self::{
    outcome::{Answer, Class, Latencies, Load, Outcome},
    schedule::{Phase, Schedule},
};
use crate::{
    hindrance::Turns,
    process::{Cores, Place},
};

/// From the first connection to the first request that is due.
const LEAD: Duration = Duration::from_millis(100);
/// How long answers may take after the last request was sent; what is not answered then has failed.
const GRACE: Duration = Duration::from_secs(10);
/// The nice value of an open loop's threads where nothing is bound to a core.
const PRECEDENCE: i32 = -10;
/// After a failure in a closed loop: it must not spin.
const PAUSE: Duration = Duration::from_millis(10);

/// Who is loaded, with what, and from where.
#[derive(Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Makes the request of that number; they count from 0.
    pub request: Arc<dyn Fn(u64) -> Request<Full<Bytes>> + Send + Sync>,
    /// Where the load runs; without it where its caller does.
    pub place: Option<(Cores, Place)>,
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Target").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Keeps so many connections busy for so long. What was answered in that time counts.
pub async fn closed(target: &Target, connections: usize, time: Duration) -> Result<Load> {
    on_thread(target, Schedule::default(), connections, move |state, ended| {
        for _ in 0..connections {
            tokio::spawn(Arc::clone(&state).keep_busy(time, ended.clone()));
        }
        time
    })
    .await
}

/// Sends by a schedule, on `connections` connections, and up to `most` when all are busy.
pub async fn open(
    target: &Target,
    schedule: &Schedule,
    connections: usize,
    most: usize,
) -> Result<Load> {
    on_thread(target, schedule.clone(), most, move |state, ended| {
        // A load that is bound to cores shares them with the upstream: before that one it would wait for itself.
        if matches!(state.target.place, Some((_, Place::Anywhere))) {
            take_precedence();
        }
        for _ in 0..connections {
            state.grow(&ended);
        }
        let lasts = state.schedule.lasts();
        tokio::spawn(async move {
            state.schedule.pace(state.start, &state.due).await;
            // Each connection takes one that is none, and ends.
            state.due.add_permits(state.most);
        });
        lasts
    })
    .await
}

/// What is to be told of open loops.
pub fn pacing() -> String {
    let precedence = if thread::spawn(take_precedence).join().is_ok_and(|is_taken| is_taken) {
        format!("where nothing is bound to a core, the load's threads have nice {PRECEDENCE}")
    } else {
        "the load's threads have the nice value of all the rest: who ran this may not lower it"
            .to_owned()
    };
    format!("open loops: beats of at least {BEAT:?}; {precedence}")
}

/// Lets the calling thread, and those that it starts, have a core before others: a load that has to wait for one is as late
/// as what it measures. Tells whether it may: that is reserved for root.
fn take_precedence() -> bool {
    setpriority_process(None, PRECEDENCE).is_ok()
}

/// Runs a load on a thread of its own, until all its tasks have ended or their time is over.
async fn on_thread(
    target: &Target,
    schedule: Schedule,
    most: usize,
    begin: impl FnOnce(Arc<State>, mpsc::Sender<Infallible>) -> Duration + Send + 'static,
) -> Result<Load> {
    let (send, receive) = oneshot::channel();
    let target = target.clone();
    thread::Builder::new().name("load".to_owned()).spawn(move || {
        let _nobody_waits_any_more = send.send(run(target, schedule, most, begin));
    })?;
    receive.await.context("the load panicked")?
}

fn run(
    target: Target,
    schedule: Schedule,
    most: usize,
    begin: impl FnOnce(Arc<State>, mpsc::Sender<Infallible>) -> Duration,
) -> Result<Load> {
    if let Some((cores, place)) = &target.place {
        cores.go(*place)?;
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let state = State::new(target, schedule, most);
    let window = runtime.block_on(async {
        let (ended, mut all_ended) = mpsc::channel(1);
        let window = begin(Arc::clone(&state), ended);
        let _ends_or_is_cut = timeout(LEAD + window + GRACE, all_ended.recv()).await;
        window
    });
    drop(runtime);
    let turns = Turns::of_this_thread().ok().filter(|turns| turns.count > 0);
    let took = state.start.elapsed();
    let outcomes = std::mem::take(&mut *state.outcomes.lock().expect("no holder panics"));
    let sent = state.next.load(Relaxed).min(state.schedule.count().unwrap_or(u64::MAX));
    let due = state.schedule.count().unwrap_or(sent);
    Ok(Load {
        unanswered: due - outcomes.len() as u64,
        outcomes,
        window,
        fault: state.fault.lock().expect("no holder panics").take(),
        busy: turns.map(|turns| turns.ran.as_secs_f64() / took.as_secs_f64()),
        waited: turns.and_then(Turns::mean_wait),
    })
}

/// What all connections share.
struct State {
    target: Target,
    schedule: Schedule,
    most: usize,
    start: Instant,
    /// The number of the next request.
    next: AtomicU64,
    /// Requests that are due and that no connection has taken.
    due: Semaphore,
    /// Connections that wait for one.
    idle: AtomicUsize,
    /// Connections in all.
    connections: AtomicUsize,
    outcomes: Mutex<Vec<Outcome>>,
    /// What the first went wrong by.
    fault: Mutex<Option<String>>,
}

impl State {
    fn new(target: Target, schedule: Schedule, most: usize) -> Arc<Self> {
        let expected = schedule.count().unwrap_or(1 << 16);
        Arc::new(Self {
            target,
            schedule,
            most,
            start: Instant::now() + LEAD,
            next: AtomicU64::new(0),
            due: Semaphore::new(0),
            idle: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            outcomes: Mutex::new(Vec::with_capacity(usize::try_from(expected).unwrap_or(0))),
            fault: Mutex::default(),
        })
    }

    /// A connection of a closed loop.
    async fn keep_busy(self: Arc<Self>, time: Duration, _ended: mpsc::Sender<Infallible>) {
        let mut connection = Connection::new(self.target.address);
        connection.open_in_advance().await;
        sleep(self.start.saturating_duration_since(Instant::now())).await;
        loop {
            let sent = self.start.elapsed();
            let number = self.next.fetch_add(1, Relaxed);
            let answer = self.exchange(&mut connection, number).await;
            let now = self.start.elapsed();
            self.outcomes.lock().expect("no holder panics").push(Outcome {
                due: sent,
                took: now.saturating_sub(sent),
                answer,
            });
            if now >= time {
                return;
            }
            if answer == Answer::Failed {
                sleep(PAUSE).await;
            }
        }
    }

    /// One more connection of an open loop, unless there are as many as may be.
    fn grow(self: &Arc<Self>, ended: &mpsc::Sender<Infallible>) {
        if self.connections.load(Relaxed) < self.most {
            self.connections.fetch_add(1, Relaxed);
            tokio::spawn(Arc::clone(self).send_when_due(ended.clone()));
        }
    }

    /// A connection of an open loop: takes the next request that is due.
    async fn send_when_due(self: Arc<Self>, ended: mpsc::Sender<Infallible>) {
        let mut connection = Connection::new(self.target.address);
        loop {
            connection.open_in_advance().await;
            self.idle.fetch_add(1, Relaxed);
            self.due.acquire().await.expect("it is never closed").forget();
            let was_last = self.idle.fetch_sub(1, Relaxed) == 1;
            let number = self.next.fetch_add(1, Relaxed);
            let Some(due) = self.schedule.due(number) else { return };
            if was_last {
                self.grow(&ended);
            }
            let answer = self.exchange(&mut connection, number).await;
            let took = self.start.elapsed().saturating_sub(due);
            self.outcomes.lock().expect("no holder panics").push(Outcome { due, took, answer });
        }
    }

    async fn exchange(&self, connection: &mut Connection, number: u64) -> Answer {
        let request = (self.target.request)(number);
        match connection.exchange(request).await {
            Ok((answer, None)) => answer,
            Ok((answer, Some(fault))) => {
                self.remember(fault);
                answer
            }
            Err(error) => {
                self.remember(format!("{error:#}"));
                Answer::Failed
            }
        }
    }

    /// Keeps the first fault, for messages.
    fn remember(&self, fault: String) {
        self.fault.lock().expect("no holder panics").get_or_insert(fault);
    }
}

#[cfg(test)]
mod tests;
