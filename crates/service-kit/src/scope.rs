//! What the work for a request knows of it, wherever it is: the deadline and the trace.

use std::time::Duration;

use tokio::{task::futures::TaskLocalFuture, time::Instant};

use crate::telemetry::Trace;

tokio::task_local! {
    static SCOPE: Scope;
}

/// A request's deadline and trace.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// When it came.
    pub(crate) begin: Instant,
    /// How long it may take.
    pub(crate) within: Duration,
    /// What it is a part of.
    pub(crate) trace: Trace,
}

impl Scope {
    /// Until when it may take.
    pub(crate) fn deadline(&self) -> Instant {
        self.begin + self.within
    }

    /// Runs the work for the request.
    pub(crate) fn run<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        SCOPE.scope(self, work)
    }
}

/// Looks at the request at work; none outside of one.
pub(crate) fn with<T>(look: impl FnOnce(&Scope) -> T) -> Option<T> {
    SCOPE.try_with(look).ok()
}
