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

use service_kit::{Kit, StartError, client::Client};

pub use self::{config::Config, routes::Orders};

/// Starts what orders is made of.
///
/// # Errors
/// When the database's settings cannot be used.
pub fn start(config: Config, kit: &Kit) -> Result<Orders, StartError> {
    let store = store::Store::connect(&config.database, kit)?;
    let inventory = inventory::Inventory::new(config.inventory, Client::new(inventory::RESPONSE));
    let placing = Arc::new(placing::Placing::new(store, inventory, kit));
    kit.tasks.spawn(worker::resume(Arc::clone(&placing), kit.shutdown.clone()));
    Ok(Orders::new(placing, kit))
}
