//! The services on one PostgreSQL, and beside their databases one for pgbench that has both their tables.

use std::{
    collections::BTreeMap, net::SocketAddr, path::PathBuf, process::Stdio, sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use local_stack::{Service, Settings, Stack, child::Output, laws::Databases, postgres::connect};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};
use tokio_postgres::Client;

use crate::{
    config::Config,
    load::Target,
    pgbench::Pgbench,
    process::{Cores, Peaks, Place},
    progress,
    rows::Sample,
    run::Bench,
    statements::{self, stock},
};

/// pgbench's database, and the role that owns it.
const PGBENCH: &str = "pgbench";
/// How many numbers a run of pgbench may use of `turn` for each client.
const TURNS: u64 = 1_000_000;
/// How many orders a load may have.
const ORDERS: u64 = 100_000_000;
/// How long what is under way at the end may take; a lease is over within it.
const REST_WITHIN: Duration = Duration::from_secs(60);
/// How many breaches of the law are told.
const TOLD: usize = 5;

/// A script of pgbench.
#[derive(Debug, Clone, Copy)]
pub(super) enum Script {
    /// Reads an item.
    Item,
    /// Places an order.
    Order,
}

/// Everything that runs.
#[derive(Debug)]
pub(super) struct System {
    stack: Stack,
    /// The server's own role.
    admin: Client,
    /// The roles of the databases, which own the tables.
    owners: Vec<Client>,
    programs: PathBuf,
    scripts: PathBuf,
    cores: Cores,
    /// Runs of pgbench, and loads of orders, so far: none may use what another did.
    runs: u64,
}

impl System {
    /// Starts it, with the state on the disk as in production.
    pub(super) async fn start(bench: &Bench<'_>) -> Result<Self> {
        let config = bench.config;
        progress("what PostgreSQL is asked for");
        let scripts = statements::watch(&config.programs, &config.postgres).await?;
        if !scripts.is_as_committed() {
            progress(
                "bench/statements/order.sql is not what the services ask for: `bench statements --out bench` renews it; what they ask for now is measured",
            );
        }
        let folder = bench.folder.join("statements");
        scripts.write(&folder)?;
        let stack = Stack::start(settings(bench)).await?;
        let admin = connect(&stack.database_url("postgres")).await?;
        let create = format!("CREATE ROLE {PGBENCH} LOGIN");
        admin.batch_execute(&create).await?;
        admin.batch_execute(&format!("CREATE DATABASE {PGBENCH} OWNER {PGBENCH}")).await?;
        let mut owners = Vec::new();
        for database in ["inventory", "orders", PGBENCH] {
            owners.push(connect(&stack.database_url(database)).await?);
        }
        let system = Self {
            stack,
            admin,
            owners,
            programs: config.postgres.clone(),
            scripts: folder,
            cores: bench.cores.clone(),
            runs: 0,
        };
        system.copy_tables("inventory").await?;
        system.copy_tables("orders").await?;
        for database in [0, 2] {
            stock::fill(&system.owners[database]).await?;
        }
        Ok(system)
    }

    /// Gives pgbench's database the tables, indexes and triggers of another.
    async fn copy_tables(&self, database: &str) -> Result<()> {
        let mut command = Command::new(self.programs.join("pg_dump"));
        command.args(["--schema-only", "--no-owner", "--exclude-table=schema_migrations"]);
        command.arg(self.stack.database_url(database)).stdin(Stdio::null());
        let output = command.output().await.context("cannot start pg_dump")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "pg_dump failed:\n{}", text(&output.stderr));
        // Newer ones begin and end with commands to psql.
        let sql = text(&output.stdout);
        let sql: Vec<_> = sql.lines().filter(|line| !line.starts_with('\\')).collect();
        // A connection of its own: the dump changes its settings.
        let client = connect(&self.stack.database_url(PGBENCH)).await?;
        Ok(client.batch_execute(&sql.join("\n")).await?)
    }

    /// Lets both sides begin alike: nothing left to vacuum, and all written to the disk.
    pub(super) async fn settle(&self) -> Result<()> {
        for owner in &self.owners {
            owner.batch_execute("VACUUM ANALYZE").await?;
        }
        Ok(self.admin.batch_execute("CHECKPOINT").await?)
    }

    /// inventory, asked for any item.
    pub(super) fn items(&mut self) -> Target {
        let (address, host) = self.address(Service::Inventory);
        let request = move |_| {
            let path = format!("/v1/items/{}", stock::any());
            let request = Request::get(path).header(HOST, host.as_str());
            request.body(Full::default()).expect("all of it is ASCII")
        };
        self.target(address, Arc::new(request))
    }

    /// The gateway, asked to place orders that no other load has.
    pub(super) fn orders(&mut self) -> Target {
        let (address, host) = self.address(Service::Gateway);
        let authorization = format!("Bearer {}", self.stack.api_key());
        let first = self.next_run() * ORDERS;
        let request = move |number| {
            let (key, body) = statements::order(first + number, &stock::any());
            let request = Request::post("/api/v1/orders").header(HOST, host.as_str());
            let request = request.header(AUTHORIZATION, authorization.as_str());
            let request = request.header(CONTENT_TYPE, "application/json");
            let request = request.header("idempotency-key", key);
            request.body(Full::new(Bytes::from(body))).expect("all of it is ASCII")
        };
        self.target(address, Arc::new(request))
    }

    fn address(&self, service: Service) -> (SocketAddr, String) {
        let host = self.stack.url(service).trim_start_matches("http://").to_owned();
        (host.parse().expect("a stack's URL names an address"), host)
    }

    fn target(
        &self,
        address: SocketAddr,
        request: Arc<dyn Fn(u64) -> Request<Full<Bytes>> + Send + Sync>,
    ) -> Target {
        Target { address, request, place: Some((self.cores.clone(), Place::Anywhere)) }
    }

    /// pgbench with so many clients.
    pub(super) fn pgbench(&self, script: Script, clients: usize) -> Pgbench {
        let file = match script {
            Script::Item => "item.sql",
            Script::Order => "order.sql",
        };
        Pgbench {
            program: self.programs.join("pgbench"),
            database: self.stack.database_url(PGBENCH),
            script: self.scripts.join(file),
            clients,
            threads: self.cores.of(Place::Anywhere).len().min(clients),
        }
    }

    /// Runs pgbench for so long.
    pub(super) async fn run(&mut self, pgbench: &Pgbench, time: Duration) -> Result<Sample> {
        let figures = pgbench.run(time, self.next_run() * TURNS).await?;
        Ok(Sample::of(figures.rate))
    }

    fn next_run(&mut self) -> u64 {
        self.runs += 1;
        self.runs
    }

    /// Holds the law of orders and stock against what the services and pgbench have left, once nothing is under way: no
    /// order hangs, none is lost or double. That it holds for pgbench shows that its script does what the services do.
    pub(super) async fn hold_laws(&self) -> Result<()> {
        let url = |role: &str| self.stack.database_url(role);
        for (who, orders, inventory) in
            [("the services", "orders", "inventory"), ("pgbench", PGBENCH, PGBENCH)]
        {
            let databases = Databases::open(&url(orders), &url(inventory)).await?;
            let start = Instant::now();
            while !databases.at_rest().await? {
                ensure!(start.elapsed() < REST_WITHIN, "{who} left orders hanging");
                sleep(Duration::from_millis(200)).await;
            }
            let (breaches, counts) = databases.breaches().await?;
            if !breaches.is_empty() {
                let told = breaches.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>();
                bail!("{who} broke the law {} times: {}", breaches.len(), told.join("; "));
            }
            progress(&format!("the law of orders and stock holds for {who}: {counts:?}"));
        }
        Ok(())
    }

    /// Keeps what the services have held of memory at most.
    pub(super) fn keep_peaks(&mut self, peaks: &Peaks) -> Result<()> {
        for service in Service::ALL {
            peaks.keep(service.name(), self.process(service)?)?;
        }
        Ok(())
    }

    /// The process of a service.
    pub(super) fn process(&mut self, service: Service) -> Result<u32> {
        let running = self.stack.running(service).and_then(|running| running.child.id());
        running.with_context(|| format!("{} has ended", service.name()))
    }

    /// Stops all of it.
    pub(super) async fn stop(self) -> Result<()> {
        self.stack.stop().await
    }
}

/// The stack's settings: everything on, the state on the disk.
fn settings(bench: &Bench<'_>) -> Settings {
    let environment = [
        ("DATABASE_POOL", super::READERS.to_string()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", bench.sink.url()),
        ("TRACE_RATIO", "0.01".to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let Config { programs, postgres, .. } = bench.config;
    Settings {
        durable: true,
        output: Output::Filed(bench.folder.to_owned()),
        environment: BTreeMap::from(environment),
        ..Settings::new(programs, postgres, &bench.folder.join("state"))
    }
}
