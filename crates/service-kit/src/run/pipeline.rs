//! What happens to each request of the public listener, in order: head, probe, route, trace, admission, permit, handler,
//! answer.

use std::{
    any::Any,
    future::{poll_fn, ready},
    net::IpAddr,
    ops::DerefMut,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use futures_util::future::Either;
use hyper::Method;
use tokio::{
    sync::oneshot,
    task::futures::TaskLocalFuture,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{Instrument, Span, field, info_span, instrument::Instrumented};

use super::{
    Kit,
    flight::{Flight, Flights},
};
use crate::{
    App, Problem, Request, Response, deadline::Deadline, faults::Dropped, head, host, pages::Pages,
    scope, scope::Scope, server::Peer, telemetry::Trace,
};

/// Why [`scope::with`] finds one.
const SCOPE: &str = "a request's work runs in its scope";

/// Everything that a request passes.
pub(super) struct Pipeline<A> {
    app: Arc<A>,
    pages: Pages,
    kit: Kit,
    flights: Arc<Flights>,
}

/// What a request is answered.
type Answer = Result<Response, Dropped>;

/// A route with its template, or why there is none.
type Routed<A> = Result<(<A as App>::Route, &'static str), Problem>;

impl<A: App> Pipeline<A> {
    /// For an app.
    pub(super) fn new(app: Arc<A>, pages: Pages, kit: &Kit, flights: Arc<Flights>) -> Arc<Self> {
        Arc::new(Self { app, pages, kit: kit.clone(), flights })
    }

    /// Answers a request. What is more than a probe is in a box: hyper moves the future of every answer.
    pub(super) fn answer(
        self: Arc<Self>,
        mut request: Request,
        peer: Peer,
    ) -> impl Future<Output = Answer> + Send + use<A> {
        let understood = head::check::<A, _>(&request).and_then(|()| host::settle(&mut request));
        match self.pages.probe(request.method(), request.uri().path()) {
            Some(mut response) if understood.is_ok() => {
                self.flights.close_if_draining(&mut response);
                Either::Left(ready(Ok(response)))
            }
            _ => Either::Right(self.traced(request, understood, peer)),
        }
    }

    /// Answers a request that is no probe: from here on one object has it, which counts, logs and traces it.
    fn traced(
        self: Arc<Self>,
        mut request: Request,
        understood: Result<(), Problem>,
        peer: Peer,
    ) -> TaskLocalFuture<Scope, Instrumented<Pin<Box<impl Future<Output = Answer> + Send + use<A>>>>>
    {
        let begin = Instant::now();
        let routed = self.app.route(request.method(), request.uri().path());
        let template = routed.as_ref().map_or("unmatched", |(_, template)| *template);
        let trace = self.trace(&request, template);
        let client = self.flights.client(peer.address.ip(), request.headers());
        let limit = self.kit.config.request_timeout;
        let least = || self.app.least_deadline(request.headers());
        let deadline = Deadline::of(request.headers(), begin, least, limit);
        let kind = (label(request.method()), template);
        let mut flight = Flight::new(&self.flights, kind, begin, trace);
        let scope = Scope {
            deadline: Some(deadline),
            trace: flight.trace.clone(),
            peer: Some(peer.header),
        };
        let span = flight.span.clone();
        let work = async move {
            let (own, asked) = (&mut flight, &mut request);
            let route = caught(pin!(self.admitted(own, understood, routed, client, asked))).await;
            let route = match route {
                Ok(route) => route,
                Err(problem) => return Ok(flight.answer(Err(problem))),
            };
            if self.pages.faults.is_on() {
                match Box::pin(self.spoiled(flight.route, deadline)).await {
                    Ok(None) => {}
                    Ok(Some(problem)) => return Ok(flight.answer(Err(problem))),
                    Err(dropped) => {
                        flight.forget();
                        return Err(dropped);
                    }
                }
            }
            if matches!(*request.method(), Method::GET | Method::HEAD) {
                // It ends with its connection, since hyper drops it when the client goes away, and at its deadline.
                match timeout_at(deadline.at, self.called(route, request)).await {
                    Ok(result) => Ok(flight.answer(result)),
                    Err(_) => Ok(flight.answer(Err(too_late(deadline)))),
                }
            } else {
                let answer = self.written(flight, deadline, route, request);
                answer.await.map_err(|_| Dropped) // the runtime ends
            }
        };
        scope.run(Box::pin(work).instrument(span))
    }

    /// The trace of a request, and its span.
    fn trace(&self, request: &Request, template: &str) -> (Trace, Span) {
        let may_ask = || self.app.may_ask_for_sampling(request.headers());
        let span = || span(label(request.method()), template);
        Trace::of(request.headers(), self.kit.config.trace_ratio, may_ask, span)
    }

    /// Its route, if who asks may come in and there is room for one more request.
    async fn admitted(
        &self,
        flight: &mut Flight,
        understood: Result<(), Problem>,
        routed: Routed<A>,
        client: Option<IpAddr>,
        request: &mut Request,
    ) -> Result<A::Route, Problem> {
        understood?;
        let route = routed.as_ref().ok().map(|(route, _)| route);
        // Before there is a permit: who waits to be known takes nobody's room.
        self.app.admit(route, request).await?;
        let (route, _) = routed?;
        flight.take_permit(client)?;
        // Also a write is not begun: it may have waited to be let in.
        let deadline = scope::deadline().expect(SCOPE);
        if deadline.is_over() { Err(too_late(deadline)) } else { Ok(route) }
    }

    /// The answer that a fault on purpose gives in place of the handler's, if one does.
    async fn spoiled(
        &self,
        template: &str,
        deadline: Deadline,
    ) -> Result<Option<Problem>, Dropped> {
        let fault = timeout_at(deadline.at, self.pages.faults.suffer(template));
        fault.await.unwrap_or_else(|_| Ok(Some(too_late(deadline))))
    }

    /// A write has a task of its own, in which it comes to its end whoever waits for it.
    fn written(
        &self,
        flight: Flight,
        deadline: Deadline,
        route: A::Route,
        request: Request,
    ) -> oneshot::Receiver<Response> {
        let (sender, answer) = oneshot::channel();
        let scope = scope::with(Scope::clone).expect(SCOPE);
        let work = Box::pin(write(flight, deadline, self.called(route, request), sender));
        self.kit.tasks.spawn(scope.run(work).instrument(Span::current()));
        answer
    }

    /// The handler's work, in a box: all that waits for it would have room for it, and it would be copied with each.
    fn called(
        &self,
        route: A::Route,
        request: Request,
    ) -> impl Future<Output = Result<Response, Problem>> + Unpin + Send + use<A> {
        caught(Box::pin(Arc::clone(&self.app).call(route, request)))
    }
}

/// Carries a write out to its end, and gives its answer when it is there or its time is over.
async fn write(
    mut flight: Flight,
    deadline: Deadline,
    mut work: impl Future<Output = Result<Response, Problem>> + Unpin,
    mut answer: oneshot::Sender<Response>,
) {
    tokio::select! {
        biased;
        result = &mut work => {
            let response = flight.answer(result);
            // Its client may just have left: then the answer goes nowhere, as one that is lost on the way.
            let _unless_it_left = answer.send(response);
            return;
        }
        () = answer.closed() => flight.leave(),
        () = sleep_until(deadline.at) => {
            let response = flight.answer(Err(too_late(deadline)));
            let _unless_it_left = answer.send(response);
        }
    }
    flight.end(&work.await);
}

/// The result of work; 500 when it panics, which ends nothing else.
fn caught<T, F: Future<Output = Result<T, Problem>>>(
    mut work: Pin<impl DerefMut<Target = F>>,
) -> impl Future<Output = F::Output> {
    poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Problem {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Problem::internal(format!("a panic: {}", text.unwrap_or("without a message")))
}

/// The span of a request.
fn span(method: &str, template: &str) -> Span {
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
}

/// The caller's time is over, or else ours.
fn too_late(Deadline { within, is_callers, .. }: Deadline) -> Problem {
    if is_callers {
        Problem::deadline_exceeded()
    } else {
        Problem::unavailable(format!("the request was not done within {within:?}"))
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
    use std::{
        io,
        net::Ipv4Addr,
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use hyper::StatusCode;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::{advance, pause, resume, timeout},
    };

    use super::*;
    use crate::{
        Env, KitConfig, body, identity,
        log::Log,
        run::requests::Requests,
        server::{Bound, Connections, Limits},
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

        async fn admit(&self, _: Option<&()>, _: &mut Request) -> Result<(), Problem> {
            pause();
            advance(Duration::from_secs(2)).await;
            resume();
            Ok(())
        }

        async fn call(self: Arc<Self>, (): (), request: Request) -> Result<Response, Problem> {
            assert!(!request.headers().contains_key("panic"), "a surprise");
            self.was_called.store(true, Ordering::Relaxed);
            Ok(body::text(StatusCode::OK, body::JSON, ""))
        }
    }

    /// An answer to a request with this head.
    async fn answer(app: &Arc<Slow>, head: &str) -> String {
        let identity = identity!("slow", "for tests");
        let kit = Kit::new(identity, KitConfig::read(&mut Env::new(&|_| None)));
        let requests = Requests::new(&kit.metrics, &kit.config, Log::start(io::sink()).unwrap());
        let flights = Flights::new(&kit, None, requests);
        let pipeline = Pipeline::new(Arc::clone(app), kit.pages(identity), &kit, flights);
        let bound = Bound::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let mut stream = TcpStream::connect(bound.local_addr()).await.unwrap();
        let time = Duration::from_secs(30);
        let limits = Limits { connections: 1, header: time, idle: time, write: time };
        let handler = move |request, peer| Arc::clone(&pipeline).answer(request, peer);
        tokio::spawn(bound.run(Connections::new(limits), handler, std::future::pending()));
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
    #[tokio::test]
    async fn a_panic_is_answered_500_and_the_next_request_as_ever() {
        let app = Arc::new(Slow::default());
        for method in ["GET", "PUT"] {
            let head = |more: &str| {
                format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n")
            };
            let failed = answer(&app, &head("panic: yes\r\n")).await;
            assert!(failed.starts_with("HTTP/1.1 500 "), "{failed}");
            assert!(failed.contains("application/problem+json") && !failed.contains("surprise"));
            assert!(answer(&app, &head("")).await.starts_with("HTTP/1.1 200 "));
        }
    }

    #[tokio::test]
    async fn every_answer_carries_its_trace() {
        let app = Arc::new(Slow::default());
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let head = format!(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-00\r\n\r\n"
        );
        let told = answer(&app, &head).await;
        assert!(told.contains(&format!("\r\nx-trace-id: {trace}\r\n")), "{told}");
        let new = answer(&app, "GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
        assert!(new.starts_with("HTTP/1.1 400 ") && new.contains("\r\nx-trace-id: "), "{new}");
    }
}
