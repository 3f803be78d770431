//! A service from its start to its end.

mod flight;
mod pipeline;
mod requests;

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{flight::Flights, pipeline::Pipeline, requests::Requests};
use crate::{
    App, BoxError, KitConfig,
    admin::Admin,
    faults::Faults,
    health::{Heartbeat, Readiness},
    metrics::Metrics,
    pages::Pages,
    server::{Bound, Connections, Drain, Limits},
    shares::FairShares,
    supervise::supervised,
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

impl Kit {
    /// For a service that starts on this runtime.
    pub(crate) fn new(identity: Identity, config: KitConfig) -> Self {
        let metrics = Metrics::new(identity);
        let faults = Faults::new(config.faults, metrics.faults.clone(), runtime::Handle::current());
        Self {
            metrics,
            faults,
            readiness: Readiness::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            config,
        }
    }

    /// The pages that tell of it.
    fn pages(&self, identity: Identity) -> Pages {
        Pages {
            identity,
            environment: self.config.environment.clone(),
            image_digest: self.config.image_digest.clone(),
            identity_mode: self.config.identity,
            heartbeat: Heartbeat::new(self.config.health_stall),
            readiness: self.readiness.clone(),
            metrics: self.metrics.clone(),
            faults: self.faults.clone(),
        }
    }
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
            telemetry::flush_log();
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
    let kit = Kit::new(identity, config);
    let config = &kit.config;
    let telemetry_latch = kit.readiness.latch("telemetry");
    let listener_latch = kit.readiness.latch("listener");
    let log = telemetry::install(identity, config, &runtime::Handle::current())?;
    drop(telemetry_latch);

    let pages = kit.pages(identity);
    let heartbeat = pages.heartbeat.clone();
    tokio::spawn(supervised("heartbeat", move || heartbeat.clone().beat()));
    let admin = Admin::start(config.admin_listen, pages.clone())
        .await
        .map_err(|error| StartError::Bind(config.admin_listen, error, "ADMIN_LISTEN"))?;
    let bound = Bound::bind(config.listen)
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
    // Whoever started the service may wait for this line.
    log.hurry();

    let shares = config.fair_shares.then(|| FairShares::new(config.trusted_proxies.clone()));
    let requests = Requests::new(&kit.metrics, config, log);
    let flights = Flights::new(&kit, shares.clone(), requests);
    let pipeline = Pipeline::new(app, pages, &kit, flights);
    let connections = Connections::with_shares(limits(config), shares);
    connections.register(&kit.metrics.registry);
    let drained = drain(bound, connections, pipeline, signals, &kit).await;
    telemetry::flush().await;
    admin.stop().await;
    tracing::info!(drained, "stopped");
    Ok(if drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn limits(config: &KitConfig) -> Limits {
    Limits {
        connections: config.max_connections,
        header: config.header_timeout,
        idle: config.idle_timeout,
        write: config.write_timeout,
    }
}

/// Serves until a signal, then drains; true when every request and task came to its end before the one deadline that they
/// all have.
async fn drain<A: App>(
    bound: Bound,
    connections: Arc<Connections>,
    pipeline: Arc<Pipeline<A>>,
    mut signals: Signals,
    kit: &Kit,
) -> bool {
    let config = &kit.config;
    let handler = move |request, peer| Arc::clone(&pipeline).answer(request, peer);
    let mut deadline = None;
    let stopping = async {
        signals.next().await;
        tracing::info!("draining");
        kit.readiness.drain();
        sleep(config.shutdown_delay).await;
        kit.shutdown.cancel();
        *deadline.insert(Instant::now() + config.shutdown_grace)
    };
    let drain = bound.run(connections, handler, stopping).await;
    if let Drain::Cut(connections) = drain {
        tracing::warn!(connections, "the grace is over: connections are cut");
    }
    kit.tasks.close();
    let deadline = deadline.expect("the listener stops at that");
    let finished = timeout_at(deadline, kit.tasks.wait()).await;
    if finished.is_err() {
        tracing::warn!(tasks = kit.tasks.len(), "the grace is over: tasks are cut");
    }
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
            telemetry::flush_log();
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
