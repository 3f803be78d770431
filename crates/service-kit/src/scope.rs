//! What the work for a request knows of it, wherever it is: the deadline, the trace, and who asks.

use hyper::header::HeaderValue;
use tokio::task::futures::TaskLocalFuture;

use crate::{deadline::Deadline, telemetry::Trace};

tokio::task_local! {
    static SCOPE: Scope;
}

/// What belongs to a request, or to work in the background.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Until when it may take.
    pub(crate) deadline: Option<Deadline>,
    /// What it is a part of.
    pub(crate) trace: Trace,
    /// The address of who asks.
    pub(crate) peer: Option<HeaderValue>,
}

impl Scope {
    /// Runs the work for it.
    pub(crate) fn run<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        SCOPE.scope(self, work)
    }
}

/// Looks at what the work at hand belongs to; none outside of a request and of work in the background.
pub(crate) fn with<T>(look: impl FnOnce(&Scope) -> T) -> Option<T> {
    SCOPE.try_with(look).ok()
}

/// Until when the work at hand may take.
pub(crate) fn deadline() -> Option<Deadline> {
    with(|scope| scope.deadline).flatten()
}
