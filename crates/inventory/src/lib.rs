//! inventory: items, their stock, and what is reserved for orders. It never promises more than is there.

pub mod catalogue;
pub mod config;
mod currency;
pub mod domain;
pub mod error;
pub mod routes;
pub mod store;
pub mod worker;

use std::sync::Arc;

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
    let shared = || (store.clone(), kit.shutdown.clone());
    if demo_catalogue {
        let latch = Arc::new(kit.readiness.latch("demo catalogue"));
        let (store, shutdown) = shared();
        kit.supervise("demo catalogue", move || {
            catalogue::load(store.clone(), Arc::clone(&latch), shutdown.clone())
        });
    }
    let (swept, shutdown) = shared();
    kit.supervise("sweep", move || worker::sweep(swept.clone(), sweep_interval, shutdown.clone()));
    let stock = worker::Stock::new(&kit.metrics.registry);
    let (measured, shutdown) = shared();
    kit.supervise("measure", move || {
        worker::measure(measured.clone(), stock.clone(), shutdown.clone())
    });
    let callers = Verifier::start(IDENTITY.name, callers, kit)?;
    Ok(Inventory::new(store, callers, kit))
}
