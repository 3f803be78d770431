//! What a service is to the kit: routes, and an answer for each.

use std::{sync::Arc, time::Duration};

use hyper::{HeaderMap, Method};

use crate::{Problem, Request, Response};

/// A service's own part.
pub trait App: Send + Sync + 'static {
    /// A recognised route with what its path says.
    type Route: Send + 'static;

    /// Do requests come in from outside here? Then heads have tighter limits, so that what is added on the way fits.
    const IS_EDGE: bool = false;

    /// Recognises a route: with its template for metrics and spans (`/v1/items/{sku}`, never the raw path), or as the
    /// problem 404 or 405.
    fn route(&self, method: &Method, path: &str) -> Result<(Self::Route, &'static str), Problem>;

    /// Who may come in: asked of every request before anything is done for it, also where the path or the method is not
    /// known (`route` is then none). It may take headers from the request, or add some for [`App::call`], or read content
    /// that it does not want to wait for with a permit.
    fn admit(
        &self,
        route: Option<&Self::Route>,
        request: &mut Request,
    ) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Is a request's trace sampled because its `traceparent` asks for it? Asked only when it does. Without a grant, or a
    /// `traceparent`, `TRACE_RATIO` rules. The default is for services whose callers are known.
    fn may_ask_for_sampling(&self, _headers: &HeaderMap) -> bool {
        true
    }

    /// The shortest deadline that a caller may set: a shorter one counts as this. Asked only when there is one. The default
    /// is for services whose callers are known.
    fn least_deadline(&self, _headers: &HeaderMap) -> Duration {
        Duration::ZERO
    }

    /// Answers. Requests other than GET run to their end even when the client goes away.
    fn call(
        self: Arc<Self>,
        route: Self::Route,
        request: Request,
    ) -> impl Future<Output = Result<Response, Problem>> + Send;
}
