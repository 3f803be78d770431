//! What is measured: a stack with any number of replicas of each service, and the CPU seconds of an order on it.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use local_stack::{
    Result, Service, Settings, Stack,
    api_keys::ApiKeys,
    child::Output,
    ports::Port,
    postgres::connect,
    service::{self, Running},
    state,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{config::Config, hindrance::context_switches, kept::Kept, process, statements::stock};

/// Clients that place orders at a time, where nothing else is said.
pub(crate) const CLIENTS: u32 = 8;
/// Connections to the database of each replica at most, as in the cluster.
const POOL: &str = "7";

/// The running system.
#[derive(Debug)]
pub(crate) struct System {
    /// The first replica of each service, and the database.
    pub(crate) stack: Stack,
    /// The folder of its state.
    pub(crate) folder: TempDir,
    programs: PathBuf,
    replicas: Vec<Replica>,
}

/// A further replica of each service: the gateway calls these orders, and they this inventory.
#[derive(Debug)]
struct Replica {
    inventory: Running,
    orders: Running,
    gateway: Running,
}

/// What one order costs: CPU milliseconds of all processes, user and system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    /// All replicas of the gateway.
    pub(crate) gateway: f64,
    /// All replicas of orders.
    pub(crate) orders: f64,
    /// All replicas of inventory.
    pub(crate) inventory: f64,
    /// PostgreSQL's processes.
    pub(crate) postgres: f64,
    /// And how often threads took turns on the machine's cores for it, the clients' too.
    pub(crate) switches: u64,
}

impl Cost {
    /// The whole.
    pub(crate) fn sum(self) -> f64 {
        self.gateway + self.orders + self.inventory + self.postgres
    }

    /// The head of a table's columns for [`Cost::cells`].
    pub(crate) const HEAD: [&str; 5] = ["gateway", "orders", "inventory", "PostgreSQL", "sum"];

    /// The figures of a table's row.
    pub(crate) fn cells(self) -> [String; 5] {
        [self.gateway, self.orders, self.inventory, self.postgres, self.sum()]
            .map(|milliseconds| format!("{milliseconds:.2}"))
    }
}

impl System {
    /// Starts one replica of each, with further settings, on a state in `folder`, and fills the stock.
    pub(crate) async fn start(
        config: &Config,
        folder: TempDir,
        durable: bool,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let environment = [("DATABASE_POOL", POOL)].iter().chain(environment);
        let stack = Stack::start(Settings {
            durable,
            output: Output::Filed(logs(&folder)?),
            environment: environment
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Settings::new(&config.programs, &config.postgres, folder.path())
        })
        .await?;
        stock::fill(&connect(&stack.database_url("inventory")).await?).await?;
        Ok(Self { stack, folder, programs: config.programs.clone(), replicas: Vec::new() })
    }

    /// Starts one more replica of each service.
    pub(crate) async fn add_replicas(&mut self) -> Result<()> {
        let database = |role: &str| ("DATABASE_URL", self.stack.database_url(role));
        let inventory = self.replica(Service::Inventory, &[database("inventory")]).await?;
        let of_orders = [database("orders"), ("INVENTORY_URL", inventory.url.clone())];
        let orders = self.replica(Service::Orders, &of_orders).await?;
        let upstreams =
            [("ORDERS_URL", orders.url.clone()), ("INVENTORY_URL", inventory.url.clone())];
        let gateway = self.gateway(&upstreams).await?;
        self.replicas.push(Replica { inventory, orders, gateway });
        Ok(())
    }

    /// Starts one more gateway, with settings of its own.
    pub(crate) async fn gateway(&self, settings: &[(&str, String)]) -> Result<Running> {
        let keys = ApiKeys::open(self.folder.path())?.environment();
        self.replica(Service::Gateway, &[&keys[..], settings].concat()).await
    }

    async fn replica(&self, service: Service, settings: &[(&str, String)]) -> Result<Running> {
        let any = Port { variable: "", number: 0 };
        let pool = ("DATABASE_POOL", POOL);
        let common = service::LOCAL.into_iter().chain([pool]);
        let own = settings.iter().map(|(name, value)| (*name, value.as_str()));
        let all = common.chain(own).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let all: Vec<_> = all.collect();
        let output = Output::Filed(logs(&self.folder)?);
        Running::start(service, &self.programs, [any, any], &all, &output).await
    }

    /// The gateways, `http://ADDRESS`.
    pub(crate) fn gateways(&self) -> Vec<String> {
        let further = self.replicas.iter().map(|replica| replica.gateway.url.clone());
        [self.stack.url(Service::Gateway).to_owned()].into_iter().chain(further).collect()
    }

    /// [`Self::place_by`] of [`CLIENTS`].
    pub(crate) async fn place(&mut self, orders: u32, lines: u32) -> Result<Cost> {
        self.place_by(CLIENTS, orders, lines).await
    }

    /// Places so many orders of so many lines, so many at a time; what one of them cost.
    pub(crate) async fn place_by(&mut self, clients: u32, orders: u32, lines: u32) -> Result<Cost> {
        let clients = self.clients(clients).await?;
        let (before, switches) = (self.used()?, context_switches()?);
        self.load(clients, orders, move || body(lines)).await?;
        let (after, switches) = (self.used()?, context_switches()? - switches);
        let each = |part: usize| (after[part] - before[part]) * 1000.0 / f64::from(orders);
        Ok(Cost {
            gateway: each(0),
            orders: each(1),
            inventory: each(2),
            postgres: each(3),
            switches: switches / u64::from(orders),
        })
    }

    /// Clients that are connected, to one gateway each, to all of them in turn.
    pub(crate) async fn clients(&self, number: u32) -> Result<Vec<Kept>> {
        let gateways = self.gateways();
        let mut clients = Vec::new();
        for gateway in gateways.iter().cycle().take(number as usize) {
            clients.push(Kept::open(gateway).await?);
        }
        Ok(clients)
    }

    /// Clients place so many orders in all with such bodies, each one after the other.
    pub(crate) async fn load(
        &self,
        clients: Vec<Kept>,
        orders: u32,
        body: impl Fn() -> String + Clone + Send + 'static,
    ) -> Result<()> {
        let key = Arc::<str>::from(self.stack.api_key());
        let (mut tasks, all) = (JoinSet::new(), clients.len());
        for (number, client) in clients.into_iter().enumerate() {
            let orders = (number..orders as usize).step_by(all).len();
            tasks.spawn(place(client, Arc::clone(&key), orders, body.clone()));
        }
        while let Some(client) = tasks.join_next().await {
            client.context("a client panicked")??;
        }
        Ok(())
    }

    /// The CPU seconds that the gateways, orders, inventories and PostgreSQL have used so far.
    fn used(&mut self) -> Result<[f64; 4]> {
        let mut used = [0.0; 4];
        for (part, service) in
            [Service::Gateway, Service::Orders, Service::Inventory].iter().enumerate()
        {
            let first = self.stack.running(*service).and_then(|running| running.child.id());
            let further = self.replicas.iter().map(|replica| match service {
                Service::Gateway => replica.gateway.child.id(),
                Service::Orders => replica.orders.child.id(),
                Service::Inventory => replica.inventory.child.id(),
            });
            let processes: Option<Vec<_>> = [first].into_iter().chain(further).collect();
            used[part] = process::cpu_seconds(&processes.context("a service has ended")?)?;
        }
        let postgres = self.stack.postgres().child().id().context("PostgreSQL has ended")?;
        // One of its workers may end while this looks.
        let processes = process::tree(postgres)?.into_iter();
        used[3] = processes.filter_map(|one| process::cpu_seconds(&[one]).ok()).sum();
        Ok(used)
    }

    /// Stops all of it.
    pub(crate) async fn stop(self) -> Result<()> {
        drop(self.replicas);
        self.stack.stop().await
    }
}

/// A state folder for a system.
pub(crate) fn folder() -> Result<TempDir> {
    state::temporary_folder()
}

/// The folder of the services' logs.
fn logs(folder: &TempDir) -> Result<PathBuf> {
    let logs = folder.path().join("logs");
    std::fs::create_dir_all(&logs)?;
    Ok(logs)
}

/// Places so many orders, one after the other.
async fn place(
    mut gateway: Kept,
    key: Arc<str>,
    orders: usize,
    body: impl Fn() -> String,
) -> Result<()> {
    for _ in 0..orders {
        order(&mut gateway, &key, &body()).await?;
    }
    Ok(())
}

/// Places one order, which must be confirmed; the answer.
pub(crate) async fn order(gateway: &mut Kept, api_key: &str, body: &str) -> Result<Value> {
    let key = Uuid::new_v4().to_string();
    let answer = order_again(gateway, api_key, &key, body).await?;
    ensure!(answer["status"] == "confirmed", "an order is not confirmed: {answer}");
    Ok(answer)
}

/// Sends an order's body under a key, the first time or again.
pub(crate) async fn order_again(
    gateway: &mut Kept,
    api_key: &str,
    key: &str,
    body: &str,
) -> Result<Value> {
    let authorization = format!("Bearer {api_key}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", key),
    ];
    let place = (Method::POST, "/api/v1/orders");
    let answer = gateway.ask(place, &headers, body.to_owned(), StatusCode::CREATED).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// An order of so many lines, one piece of an item each, beginning at any item.
pub(crate) fn body(lines: u32) -> String {
    let items = stock::LAST - stock::FIRST + 1;
    let first = fastrand::u32(0..items);
    body_of((0..lines).map(|line| stock::sku(stock::FIRST + (first + line) % items)))
}

/// An order of these items, one piece each.
pub(crate) fn body_of(skus: impl IntoIterator<Item = String>) -> String {
    let lines: Vec<_> = skus.into_iter().map(|sku| json!({"sku": sku, "quantity": 1})).collect();
    json!({"customer": "bench", "lines": lines}).to_string()
}
