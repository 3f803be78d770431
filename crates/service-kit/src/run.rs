//! A service from its start to its end.

use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    Method, StatusCode,
    header::{CONNECTION, HeaderValue},
};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, field, info_span};

use crate::{
    App, BoxError, KitConfig, Problem, Request, Response,
    admin::Admin,
    deadline,
    faults::{Dropped, Faults},
    health::{Heartbeat, Readiness},
    metrics::Metrics,
    pages::Pages,
    server::{Bound, Drain, Limits},
    telemetry,
    workload::Mode,
};

/// Which service, version and source revision this is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The service's name.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The source revision, as far as the build knows it.
    pub revision: &'static str,
}

/// The [`Identity`] of the crate that calls this: its name and what it is for. Nix tells the source revision in
/// `STOCKYARD_REVISION` when it builds.
#[macro_export]
macro_rules! identity {
    ($name:literal, $about:literal) => {
        $crate::Identity {
            name: $name,
            about: $about,
            version: env!("CARGO_PKG_VERSION"),
            revision: match option_env!("STOCKYARD_REVISION") {
                Some(revision) => revision,
                None => "unknown",
            },
        }
    };
}

/// What the kit gives to a service.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The common settings.
    pub config: KitConfig,
    /// Metrics, and the registry for the service's own.
    pub metrics: Metrics,
    /// Readiness; a part that is not initialised holds a latch.
    pub readiness: Readiness,
    /// Faults on purpose.
    pub faults: Faults,
    /// Tasks that the shutdown waits for.
    pub tasks: TaskTracker,
    /// Cancelled when the drain begins: workers stop.
    pub shutdown: CancellationToken,
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("cannot listen on {0} ({1}): set {2} to another address")]
    Bind(SocketAddr, #[source] io::Error, &'static str),
    /// Anything else.
    #[error("{0}")]
    Other(BoxError),
}

impl From<BoxError> for StartError {
    fn from(error: BoxError) -> Self {
        Self::Other(error)
    }
}

/// Runs a service to its end: 0 drained, 1 failed.
#[expect(clippy::print_stderr, reason = "before the log is set up there is nowhere else")]
pub(crate) fn run<A: App>(
    identity: Identity,
    config: KitConfig,
    start: impl FnOnce(&Kit) -> Result<A, StartError>,
) -> ExitCode {
    let served = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::Other(error.into()))
        .and_then(|runtime| {
            let code = runtime.block_on(serve(identity, config, start));
            // Blocking work that hangs may not hold up the exit.
            runtime.shutdown_timeout(Duration::from_millis(100));
            code
        });
    served.unwrap_or_else(|error| {
        eprintln!("{}: {error}", identity.name);
        ExitCode::FAILURE
    })
}

async fn serve<A: App>(
    identity: Identity,
    config: KitConfig,
    start: impl FnOnce(&Kit) -> Result<A, StartError>,
) -> Result<ExitCode, StartError> {
    let signals = Signals::new().map_err(|error| StartError::Other(error.into()))?;
    let metrics = Metrics::new(identity);
    let faults = Faults::new(config.faults, metrics.faults.clone(), runtime::Handle::current());
    let kit = Kit {
        metrics,
        faults,
        readiness: Readiness::default(),
        tasks: TaskTracker::new(),
        shutdown: CancellationToken::new(),
        config,
    };
    let config = &kit.config;
    let telemetry_latch = kit.readiness.latch("telemetry");
    let listener_latch = kit.readiness.latch("listener");
    telemetry::install(identity, config, &runtime::Handle::current())?;
    drop(telemetry_latch);

    let pages = Pages {
        identity,
        environment: config.environment.clone(),
        image_digest: config.image_digest.clone(),
        identity_mode: config.identity,
        heartbeat: Heartbeat::new(config.health_stall),
        readiness: kit.readiness.clone(),
        metrics: kit.metrics.clone(),
        faults: kit.faults.clone(),
    };
    tokio::spawn(pages.heartbeat.clone().beat());
    let admin = Admin::start(config.admin_listen, pages.clone())
        .await
        .map_err(|error| StartError::Bind(config.admin_listen, error, "ADMIN_LISTEN"))?;
    let bound = Bound::bind(config.listen)
        .await
        .map_err(|error| StartError::Bind(config.listen, error, "LISTEN"))?;
    let app = Arc::new(start(&kit)?);
    drop(listener_latch);
    if config.identity == Mode::Off {
        tracing::warn!("IDENTITY=off: services do not ask each other who they are");
    }
    tracing::info!(
        service = identity.name,
        version = identity.version,
        public = %bound.local_addr(),
        admin = %admin.local_addr(),
        "listening"
    );

    let drained = drain(bound, Pipeline::new(app, pages, &kit), signals, &kit).await;
    telemetry::flush().await;
    admin.stop().await;
    tracing::info!(drained, "stopped");
    Ok(if drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves until a signal, then drains; true when every request and task came to its end.
async fn drain<A: App>(
    bound: Bound,
    pipeline: Arc<Pipeline<A>>,
    mut signals: Signals,
    kit: &Kit,
) -> bool {
    let config = &kit.config;
    let limits = Limits {
        connections: config.max_connections,
        header: config.header_timeout,
        write: config.write_timeout,
        grace: config.shutdown_grace,
    };
    let readiness = kit.readiness.clone();
    let handler = move |request, _peer| {
        let (answer, readiness) = (Arc::clone(&pipeline).answer(request), readiness.clone());
        async move {
            let mut response = answer.await?;
            // Lets pooled clients go before the connections are closed: one closed just as the next request is sent
            // would lose it (RFC 9112, 9.6).
            if readiness.is_draining() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    };
    let stopping = async {
        signals.next().await;
        tracing::info!("draining");
        kit.readiness.drain();
        sleep(config.shutdown_delay).await;
        kit.shutdown.cancel();
    };
    let drain = bound.run(limits, handler, stopping).await;
    kit.tasks.close();
    let finished = timeout(config.shutdown_grace, kit.tasks.wait()).await;
    drain == Drain::Complete && finished.is_ok()
}

/// SIGTERM and SIGINT. After the first, a second aborts the process at once.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        self.any().await;
        let mut again = Self::new().expect("the handlers are installed already");
        tokio::spawn(async move {
            again.any().await;
            tracing::warn!("a second signal: stopping at once");
            std::process::exit(1);
        });
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What happens to each request of the public listener, in order: probe, route, span, admission, permit, handler, count, log.
struct Pipeline<A> {
    app: Arc<A>,
    pages: Pages,
    kit: Kit,
    permits: Semaphore,
}

impl<A: App> Pipeline<A> {
    fn new(app: Arc<A>, pages: Pages, kit: &Kit) -> Arc<Self> {
        let permits = Semaphore::new(kit.config.max_in_flight);
        let limit = i64::try_from(kit.config.max_in_flight).unwrap_or(i64::MAX);
        kit.metrics.in_flight_limit.set(limit);
        Arc::new(Self { app, pages, kit: kit.clone(), permits })
    }

    async fn answer(self: Arc<Self>, request: Request) -> Result<Response, Dropped> {
        if let Some(response) = self.pages.probe(request.method(), request.uri().path()) {
            return Ok(response);
        }
        let start = Instant::now();
        let method = label(request.method());
        let routed = self.app.route(request.method(), request.uri().path());
        let template = routed.as_ref().map_or("unmatched", |(_, template)| *template);
        let span = info_span!(
            target: "service_kit::request",
            "request",
            otel.name = format!("{method} {template}"),
            otel.kind = "server",
            http.request.method = method,
            http.route = template,
            http.response.status_code = field::Empty,
            fault = field::Empty,
        );
        telemetry::continue_trace(&span, request.headers());
        let trace_id = telemetry::trace_id(&span);
        let route = routed.as_ref().ok().map(|(route, _)| route);
        // Before there is a permit: who waits to be known takes nobody's room.
        let admitted = self.app.admit(route, &request).instrument(span.clone()).await;
        let result = match admitted.and(routed) {
            Ok((route, _)) => {
                self.permitted(route, template, request).instrument(span.clone()).await?
            }
            Err(problem) => Err(problem),
        };
        let response = result.unwrap_or_else(|problem| {
            if let Some(cause) = problem.cause() {
                let error = crate::database::chain(cause.as_ref());
                if problem.status() == StatusCode::INTERNAL_SERVER_ERROR {
                    tracing::error!(trace_id, route = template, error, "a request failed");
                } else {
                    tracing::warn!(trace_id, route = template, error, "a request failed");
                }
            }
            problem.into_response(&trace_id)
        });
        let (status, duration) = (response.status().as_u16(), start.elapsed());
        span.record("http.response.status_code", status);
        self.kit.metrics.observe(method, template, status, duration);
        let duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(method, route = template, status, duration_ms, trace_id, "request");
        Ok(response)
    }

    /// The handler, if there is room for one more.
    async fn permitted(
        self: &Arc<Self>,
        route: A::Route,
        template: &'static str,
        request: Request,
    ) -> Result<Result<Response, Problem>, Dropped> {
        let Ok(_permit) = self.permits.try_acquire() else {
            self.kit.metrics.shed.inc();
            return Ok(Err(Problem::unavailable("too many requests are at work")));
        };
        let _in_flight = InFlight::new(&self.kit.metrics);
        let limit = self.kit.config.request_timeout;
        let within = deadline::within(request.headers(), limit);
        if within.is_zero() {
            return Ok(Err(Problem::deadline_exceeded()));
        }
        let work = async {
            match self.pages.faults.suffer(template).await? {
                Some(fault) => Ok(Err(fault)),
                None => Ok(deadline::scope(within, self.handle(route, request)).await),
            }
        };
        timeout(within, work).await.unwrap_or_else(|_| {
            Ok(Err(if within < limit {
                Problem::deadline_exceeded()
            } else {
                Problem::unavailable(format!("the request was not done within {within:?}"))
            }))
        })
    }

    /// The handler. hyper drops it when the client goes away, and so does the deadline; a write must come to its end.
    async fn handle(&self, route: A::Route, request: Request) -> Result<Response, Problem> {
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let call = Arc::clone(&self.app).call(route, request);
        if safe {
            return call.await;
        }
        let remaining = deadline::remaining().unwrap_or_default();
        let call = deadline::scope(remaining, call).instrument(Span::current());
        self.kit.tasks.spawn(call).await.unwrap_or_else(|panic| Err(Problem::internal(panic)))
    }
}

/// Counts a request as in flight while it lives.
struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
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
