//! What happens to each request of the public listener, in order: host, probe, route, trace, admission, permit, handler,
//! count, log.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::{
    Method, StatusCode,
    header::{CONNECTION, HeaderValue},
};
use prometheus::IntGauge;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span, field, info_span};

use super::{
    Kit,
    requests::{Kind, Requests},
};
use crate::{
    App, Problem, Request, Response, database::chain, deadline, deadline::Deadline,
    faults::Dropped, host, pages::Pages, scope, scope::Scope, server::Peer, telemetry::Trace,
};

/// Why [`scope::with`] finds one.
const SCOPE: &str = "a request's work runs in its scope";

/// The status in metrics and log of a request whose caller did not wait for the answer, as nginx has it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Everything that a request passes.
pub(super) struct Pipeline<A> {
    app: Arc<A>,
    pages: Pages,
    kit: Kit,
    /// Requests that have a permit.
    at_work: AtomicUsize,
    requests: Requests,
}

impl<A: App> Pipeline<A> {
    /// For an app.
    pub(super) fn new(app: Arc<A>, pages: Pages, kit: &Kit, requests: Requests) -> Arc<Self> {
        let limit = i64::try_from(kit.config.max_in_flight).unwrap_or(i64::MAX);
        kit.metrics.in_flight_limit.set(limit);
        Arc::new(Self { app, pages, kit: kit.clone(), at_work: AtomicUsize::new(0), requests })
    }

    /// Answers a request, in a box: each function on its way would have room for it twice, in the future of every
    /// connection.
    pub(super) async fn answer(
        self: Arc<Self>,
        mut request: Box<Request>,
        peer: Peer,
    ) -> Result<Response, Dropped> {
        let host = host::settle(&mut request);
        let mut response = match self.pages.probe(request.method(), request.uri().path()) {
            Some(response) if host.is_ok() => response,
            _ => self.logged(request, host, peer).await?,
        };
        // Lets pooled clients go before the connections are closed: one closed just as the next request is sent would
        // lose it (RFC 9112, 9.6).
        if self.kit.readiness.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// Answers a request that is no probe: it is counted, logged and traced.
    async fn logged(
        &self,
        request: Box<Request>,
        host: Result<(), Problem>,
        peer: Peer,
    ) -> Result<Response, Dropped> {
        let begin = Instant::now();
        let method = label(request.method());
        let routed = self.app.route(request.method(), request.uri().path());
        let template = routed.as_ref().map_or("unmatched", |(_, template)| *template);
        let span = || {
            info_span!(
                target: "service_kit::request",
                "request",
                otel.name = format!("{method} {template}"),
                otel.kind = "server",
                http.request.method = method,
                http.route = template,
                http.response.status_code = field::Empty,
                fault = field::Empty,
            )
        };
        let (trace, span) = Trace::of(request.headers(), self.kit.config.trace_ratio, span);
        let limit = self.kit.config.request_timeout;
        let deadline = Some(Deadline::of(request.headers(), begin, limit));
        let scope = Scope { deadline, trace: trace.clone(), peer: Some(peer.header) };
        let work = pin!(self.admitted(host, routed, template, request));
        let result = scope.run(work.instrument(span.clone())).await?;
        // A caller whose deadline passed had stopped waiting, as a client that went away: no error of this service.
        let is_given_up = match &result {
            Ok(response) => response.extensions().get::<deadline::Exceeded>().is_some(),
            Err(problem) => problem.is_deadline_exceeded(),
        };
        let response = result.unwrap_or_else(|problem| {
            let trace_id = trace.id_text();
            if let Some(cause) = problem.cause() {
                let error = chain(cause.as_ref());
                if problem.status() == StatusCode::INTERNAL_SERVER_ERROR {
                    tracing::error!(trace_id, route = template, error, "a request failed");
                } else {
                    tracing::warn!(trace_id, route = template, error, "a request failed");
                }
            }
            problem.into_response(&trace_id)
        });
        let status = response.status().as_u16();
        span.record("http.response.status_code", status);
        let status = if is_given_up { CLIENT_CLOSED_REQUEST } else { status };
        let kind = Kind { method, route: template, status };
        self.requests.answered(kind, begin.elapsed(), &trace);
        Ok(response)
    }

    /// The handler, if who asks may come in and there is room for one more.
    async fn admitted(
        &self,
        host: Result<(), Problem>,
        routed: Result<(A::Route, &'static str), Problem>,
        template: &'static str,
        request: Box<Request>,
    ) -> Result<Result<Response, Problem>, Dropped> {
        if let Err(problem) = host {
            return Ok(Err(problem));
        }
        let route = routed.as_ref().ok().map(|(route, _)| route);
        // Before there is a permit: who waits to be known takes nobody's room.
        match self.app.admit(route, &request).await.and(routed) {
            Ok((route, _)) => self.permitted(route, template, request).await,
            Err(problem) => Ok(Err(problem)),
        }
    }

    /// The handler, if there is room for one more.
    async fn permitted(
        &self,
        route: A::Route,
        template: &'static str,
        request: Box<Request>,
    ) -> Result<Result<Response, Problem>, Dropped> {
        let Some(_permit) = Permit::take(&self.at_work, &self.kit) else {
            self.kit.metrics.shed.inc();
            return Ok(Err(Problem::unavailable("too many requests are at work")));
        };
        let deadline = scope::deadline().expect(SCOPE);
        // Also a write is not begun: it may have waited to be let in.
        if deadline.is_over() {
            return Ok(Err(too_late(deadline)));
        }
        let work = pin!(async {
            match self.pages.faults.suffer(template).await? {
                Some(fault) => Ok(Err(fault)),
                None => Ok(self.handle(route, request).await),
            }
        });
        timeout_at(deadline.at, work).await.unwrap_or_else(|_| Ok(Err(too_late(deadline))))
    }

    /// The handler. hyper drops it when the client goes away, and so does the deadline; a write must come to its end.
    async fn handle(&self, route: A::Route, request: Box<Request>) -> Result<Response, Problem> {
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let call = Arc::clone(&self.app).call(route, *request);
        if safe {
            return call.await;
        }
        let scope = scope::with(Scope::clone).expect(SCOPE);
        let call = scope.run(call).instrument(Span::current());
        self.kit.tasks.spawn(call).await.unwrap_or_else(|panic| Err(Problem::internal(panic)))
    }
}

/// The caller's time is over, or else ours.
fn too_late(Deadline { within, is_callers, .. }: Deadline) -> Problem {
    if is_callers {
        Problem::deadline_exceeded()
    } else {
        Problem::unavailable(format!("the request was not done within {within:?}"))
    }
}

/// The room for one request.
struct Permit<'a> {
    at_work: &'a AtomicUsize,
    shown: &'a IntGauge,
}

impl<'a> Permit<'a> {
    /// Takes it, if there is some.
    fn take(at_work: &'a AtomicUsize, kit: &'a Kit) -> Option<Self> {
        let one_more = |count| (count < kit.config.max_in_flight).then_some(count + 1);
        at_work.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).ok()?;
        kit.metrics.in_flight.inc();
        Some(Self { at_work, shown: &kit.metrics.in_flight })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.shown.dec();
        self.at_work.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The method as a label: unknown ones would be labels without bound.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::Ipv4Addr, sync::atomic::AtomicBool, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::{advance, pause, resume, timeout},
    };

    use super::*;
    use crate::{
        Env, KitConfig, body, identity,
        log::Log,
        server::{Bound, Limits},
    };

    /// Takes two seconds to let anybody in.
    #[derive(Default)]
    struct Slow {
        was_called: AtomicBool,
    }

    impl App for Slow {
        type Route = ();

        fn route(&self, _: &Method, _: &str) -> Result<((), &'static str), Problem> {
            Ok(((), "/"))
        }

        async fn admit(&self, _: Option<&()>, _: &Request) -> Result<(), Problem> {
            pause();
            advance(Duration::from_secs(2)).await;
            resume();
            Ok(())
        }

        async fn call(self: Arc<Self>, (): (), _: Request) -> Result<Response, Problem> {
            self.was_called.store(true, Ordering::Relaxed);
            Ok(body::text(StatusCode::OK, body::JSON, ""))
        }
    }

    /// An answer to a request with this head.
    async fn answer(app: &Arc<Slow>, head: &str) -> String {
        let identity = identity!("slow", "for tests");
        let kit = Kit::new(identity, KitConfig::read(&mut Env::new(&|_| None)));
        let requests = Requests::new(&kit.metrics, &kit.config, Log::start(io::sink()).unwrap());
        let pipeline = Pipeline::new(Arc::clone(app), kit.pages(identity), &kit, requests);
        let bound = Bound::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let mut stream = TcpStream::connect(bound.local_addr()).await.unwrap();
        let time = Duration::from_secs(30);
        let limits = Limits { connections: 1, header: time, write: time, grace: time };
        let handler = move |request, peer| Arc::clone(&pipeline).answer(Box::new(request), peer);
        tokio::spawn(bound.run(limits, handler, std::future::pending()));
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(time, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn a_write_whose_time_is_over_before_it_is_let_in_is_not_begun() {
        let post = |millis: u32| {
            format!(
                "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-request-timeout-ms: {millis}\r\n\r\n"
            )
        };
        let app = Arc::new(Slow::default());
        let refused = answer(&app, &post(1000)).await;
        assert!(refused.starts_with("HTTP/1.1 504 "), "{refused}");
        assert!(!app.was_called.load(Ordering::Relaxed));
        let done = answer(&app, &post(3000)).await;
        assert!(done.starts_with("HTTP/1.1 200 "), "{done}");
    }
}
