//! orders: places orders, each once, against inventory's stock, whatever is killed in between.

pub mod config;
pub mod domain;
pub mod error;
pub mod inventory;
pub mod placing;
pub mod routes;
pub mod store;
pub mod worker;

use std::sync::Arc;

use service_kit::{
    Identity, Kit, StartError,
    client::Client,
    identity,
    workload::{self, Verifier},
};

pub use self::{config::Config, routes::Orders};

/// Which program this is.
pub const IDENTITY: Identity =
    identity!("orders", "places orders, each once, against inventory's stock");

/// Starts what orders is made of.
///
/// # Errors
/// When the database's settings cannot be used, or what the cluster gives for identity is missing.
pub fn start(config: Config, kit: &Kit) -> Result<Orders, StartError> {
    let store = store::Store::connect(&config.database, config.lease, kit)?;
    let token = workload::token("INVENTORY_TOKEN_FILE", &config.inventory_token, kit)?;
    let client = Client::new("inventory", inventory::RESPONSE, &kit.metrics).with_token(token);
    let inventory = inventory::Inventory::new(config.inventory, client);
    let placing = Arc::new(placing::Placing::new(store, inventory, kit));
    let (interval, ttl) = (config.resume_interval, config.idempotency_ttl);
    let unsettled = worker::Unsettled::new(&kit.metrics.registry);
    let shared = || (Arc::clone(&placing), kit.shutdown.clone());
    let (resumed, shutdown) = shared();
    kit.supervise("resume", move || {
        worker::resume(Arc::clone(&resumed), interval, shutdown.clone())
    });
    let (forgotten, shutdown) = shared();
    kit.supervise("forget", move || worker::forget(Arc::clone(&forgotten), ttl, shutdown.clone()));
    let (measured, shutdown) = shared();
    kit.supervise("measure", move || {
        worker::measure(Arc::clone(&measured), unsettled.clone(), shutdown.clone())
    });
    let callers = Verifier::start(IDENTITY.name, config.callers, kit)?;
    Ok(Orders::new(placing, callers, kit))
}
