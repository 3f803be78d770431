//! The whole: PostgreSQL, the services in the order of their needs, Prometheus; and their end in the reverse order.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hyper::Uri;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    ApiClient, Result,
    api_keys::ApiKeys,
    child::Output,
    ports::{self, Port, Ports},
    postgres::Postgres,
    prometheus::Prometheus,
    service::{self, Running, Service},
    state::State,
};

/// How long all may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a service may drain: more than its own grace.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// What a stack is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the services' programs.
    pub programs: PathBuf,
    /// The folder of PostgreSQL's programs.
    pub postgres: PathBuf,
    /// Prometheus' program; without it none runs.
    pub prometheus: Option<PathBuf>,
    /// The folder of its rules.
    pub rules: Option<PathBuf>,
    /// The state folder.
    pub state: PathBuf,
    /// The ports.
    pub ports: Ports,
    /// Is the state flushed to the disk?
    pub durable: bool,
    /// Where the services' logs go.
    pub output: Output,
    /// Further settings for the services, as environment variables.
    pub environment: BTreeMap<String, String>,
}

impl Settings {
    /// A stack on a state, beside whatever else runs here: on free ports, without Prometheus, nothing flushed to the disk,
    /// logs kept.
    pub fn new(programs: &Path, postgres: &Path, state: &Path) -> Self {
        Self {
            programs: programs.to_owned(),
            postgres: postgres.to_owned(),
            prometheus: None,
            rules: None,
            state: state.to_owned(),
            ports: Ports::any(),
            durable: false,
            output: Output::Kept,
            environment: BTreeMap::new(),
        }
    }
}

/// A running stack. Dropping it kills its processes; [`Stack::stop`] drains them.
#[derive(Debug)]
pub struct Stack {
    settings: Settings,
    api_keys: ApiKeys,
    postgres: Postgres,
    services: BTreeMap<&'static str, Running>,
    /// The public and the admin address of each, also while it does not run.
    urls: BTreeMap<&'static str, [String; 2]>,
    prometheus: Option<Prometheus>,
    prometheus_port: u16,
    state: State,
}

impl Stack {
    /// Starts everything and waits until all services are ready.
    pub async fn start(settings: Settings) -> Result<Self> {
        settings.ports.check_free()?;
        let state = State::open(&settings.state)?;
        let api_keys = ApiKeys::open(state.path())?;
        let postgres = Postgres::start(&settings.postgres, &state, settings.durable).await?;
        let prometheus_port = match settings.ports.prometheus.number {
            0 => ports::free()?,
            number => number,
        };
        let mut stack = Self {
            settings,
            api_keys,
            postgres,
            services: BTreeMap::new(),
            urls: BTreeMap::new(),
            prometheus: None,
            prometheus_port,
            state,
        };
        for service in Service::ALL {
            stack.start_service(service).await?;
        }
        if let Some(program) = &stack.settings.prometheus {
            let targets: Vec<_> = stack
                .services
                .iter()
                .map(|(name, running)| (*name, running.admin_url.as_str()))
                .collect();
            let rules = stack.settings.rules.as_deref();
            stack.prometheus =
                Some(Prometheus::start(program, prometheus_port, &stack.state, &targets, rules)?);
        }
        stack.await_ready().await?;
        Ok(stack)
    }

    /// From now on services are started from this folder, as in an upgrade.
    pub fn use_programs(&mut self, folder: &Path) {
        folder.clone_into(&mut self.settings.programs);
    }

    /// Starts one service, anew after its end.
    pub async fn start_service(&mut self, service: Service) -> Result<()> {
        let environment = self.environment(service);
        let ports = *self.ports_mut(service);
        let running = Running::start(
            service,
            &self.settings.programs,
            ports,
            &environment,
            &self.settings.output,
        )
        .await?;
        // Where it listened once it listens again: the others know that address.
        let urls = [running.url.clone(), running.admin_url.clone()];
        for (port, url) in self.ports_mut(service).iter_mut().zip(&urls) {
            port.number = url.parse::<Uri>()?.port_u16().context("the address has no port")?;
        }
        self.urls.insert(service.name(), urls);
        self.services.insert(service.name(), running);
        Ok(())
    }

    /// Starts another copy of a service beside the stack's own, on free ports.
    pub async fn start_replica(&self, service: Service) -> Result<Running> {
        let any = Port { variable: "", number: 0 };
        Running::start(
            service,
            &self.settings.programs,
            [any, any],
            &self.environment(service),
            &Output::Kept,
        )
        .await
    }

    /// The public address of a service, `http://ADDRESS`.
    pub fn url(&self, service: Service) -> &str {
        &self.urls[service.name()][0]
    }

    /// The admin address of a service, `http://ADDRESS`.
    pub fn admin_url(&self, service: Service) -> &str {
        &self.urls[service.name()][1]
    }

    /// The text of the API key, which may write.
    pub fn api_key(&self) -> &str {
        self.api_keys.key()
    }

    /// A client of the gateway, with that key.
    pub fn api_client(&self) -> ApiClient {
        ApiClient::new(self.url(Service::Gateway), self.api_key())
    }

    /// The address of Prometheus.
    pub fn prometheus_url(&self) -> String {
        format!("http://{}", ports::loopback(self.prometheus_port))
    }

    /// The connection string of a role.
    pub fn database_url(&self, role: &str) -> String {
        self.postgres.url(role)
    }

    /// Sends a signal to a service and waits for its end.
    pub async fn end(&mut self, service: Service, signal: Signal) -> Result<ExitStatus> {
        let mut running =
            self.services.remove(service.name()).context("the service does not run")?;
        running.child.stop(signal, DRAIN_WITHIN).await
    }

    /// The private PostgreSQL.
    pub fn postgres(&mut self) -> &mut Postgres {
        &mut self.postgres
    }

    /// A running service.
    pub fn running(&mut self, service: Service) -> Option<&mut Running> {
        self.services.get_mut(service.name())
    }

    /// The process ids of all parts.
    pub fn process_ids(&mut self) -> Vec<u32> {
        let services =
            self.services.values().filter_map(|running| running.child.id()).collect::<Vec<_>>();
        let prometheus = self.prometheus.as_mut().and_then(|prometheus| prometheus.child().id());
        services.into_iter().chain(prometheus).chain(self.postgres.child().id()).collect()
    }

    /// Waits until all services say that they are ready.
    pub async fn await_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        for running in self.services.values() {
            running.await_ready(READY_WITHIN.saturating_sub(start.elapsed())).await?;
        }
        Ok(())
    }

    /// Waits until a part ends by itself, which none should: the error tells which, and its last lines.
    pub async fn watch(&mut self) -> anyhow::Error {
        loop {
            let services = self.services.values_mut().map(|running| &mut running.child);
            let prometheus = self.prometheus.as_mut().map(Prometheus::child);
            for child in services.chain(prometheus).chain([self.postgres.child()]) {
                if let Some(status) = child.ended() {
                    return anyhow::anyhow!(
                        "{} ended ({status}); it printed:\n{}",
                        child.name(),
                        child.tail()
                    );
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Drains the services from the outside in, then stops Prometheus and PostgreSQL. The first failure is returned
    /// after all were stopped.
    pub async fn stop(mut self) -> Result<()> {
        let mut result = Ok(());
        for service in Service::ALL.into_iter().rev() {
            if let Some(mut running) = self.services.remove(service.name()) {
                let ended = running.child.stop(Signal::TERM, DRAIN_WITHIN).await;
                let ended = ended.and_then(|status| {
                    ensure!(
                        status.success(),
                        "{} ended with {status}:\n{}",
                        service.name(),
                        running.child.tail()
                    );
                    Ok(())
                });
                result = result.and(ended);
            }
        }
        if let Some(mut prometheus) = self.prometheus.take() {
            result = result.and(prometheus.stop().await);
        }
        result.and(self.postgres.stop().await)
    }

    fn ports_mut(&mut self, service: Service) -> &mut [Port; 2] {
        match service {
            Service::Gateway => &mut self.settings.ports.gateway,
            Service::Orders => &mut self.settings.ports.orders,
            Service::Inventory => &mut self.settings.ports.inventory,
        }
    }

    /// What a service is told; the addresses are those that its upstreams reported.
    fn environment(&self, service: Service) -> Vec<(String, String)> {
        let mut environment = service::LOCAL.map(|(name, value)| (name, value.to_owned())).to_vec();
        match service {
            Service::Inventory => {
                environment.push(("DATABASE_URL", self.postgres.url("inventory")));
                environment.push(("DEMO_CATALOGUE", "on".to_owned()));
            }
            Service::Orders => {
                environment.push(("DATABASE_URL", self.postgres.url("orders")));
                environment.push(("INVENTORY_URL", self.url(Service::Inventory).to_owned()));
            }
            Service::Gateway => {
                environment.extend(self.api_keys.environment());
                environment.push(("ORDERS_URL", self.url(Service::Orders).to_owned()));
                environment.push(("ORDERS_ADMIN_URL", self.admin_url(Service::Orders).to_owned()));
                environment.push(("INVENTORY_URL", self.url(Service::Inventory).to_owned()));
                environment
                    .push(("INVENTORY_ADMIN_URL", self.admin_url(Service::Inventory).to_owned()));
                if self.settings.prometheus.is_some() {
                    environment.push(("PROMETHEUS_URL", self.prometheus_url()));
                }
            }
        }
        let own = environment.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.settings.environment.clone()).collect()
    }
}
