//! inventory: items, their stock, and what is reserved for orders. It never promises more than is there.

pub mod catalogue;
pub mod config;
mod currency;
pub mod domain;
pub mod error;
pub mod routes;
pub mod store;
pub mod worker;

use service_kit::{Identity, Kit, StartError, identity, workload::Verifier};

pub use self::{config::Config, routes::Inventory};

/// Which program this is.
pub const IDENTITY: Identity =
    identity!("inventory", "keeps items, their stock, and what is reserved for orders");

/// Starts what inventory is made of.
///
/// # Errors
/// When the database's settings cannot be used, or what the cluster gives for identity is missing.
pub fn start(config: Config, kit: &Kit) -> Result<Inventory, StartError> {
    let Config { database, callers, demo_catalogue, sweep_interval } = config;
    let store = store::Store::connect(&database, kit)?;
    if demo_catalogue {
        kit.tasks.spawn(catalogue::load(
            store.clone(),
            kit.readiness.latch("demo catalogue"),
            kit.shutdown.clone(),
        ));
    }
    kit.tasks.spawn(worker::sweep(store.clone(), sweep_interval, kit.shutdown.clone()));
    let registry = kit.metrics.registry.clone();
    kit.tasks.spawn(worker::measure(store.clone(), registry, kit.shutdown.clone()));
    let callers = Verifier::start(IDENTITY.name, callers, kit)?;
    Ok(Inventory::new(store, callers, kit))
}
