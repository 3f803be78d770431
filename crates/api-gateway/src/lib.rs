//! api-gateway: the only way in. The dashboard, the API passed on to orders and inventory, and what the whole looks like.

pub mod config;
pub mod dashboard;
pub mod routes;
pub mod topology;
pub mod upstream;

use service_kit::{Kit, StartError};

pub use self::{config::Config, routes::Gateway};

/// Starts what the gateway is made of.
///
/// # Errors
/// None today; the services share this shape.
pub fn start(config: &Config, kit: &Kit) -> Result<Gateway, StartError> {
    Ok(Gateway::new(config, kit))
}
