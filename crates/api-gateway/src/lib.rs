//! api-gateway: the only way in. The dashboard, the API passed on to orders and inventory, and what the whole looks like.

pub mod accept;
pub mod access;
pub mod config;
pub mod dashboard;
pub mod html;
pub mod inbound;
pub mod keys;
pub mod measured;
pub mod routes;
pub mod session;
pub mod snapshot;
pub mod system;
pub mod topology;
pub mod upstream;

use service_kit::{Identity, Kit, StartError, identity};

pub use self::{config::Config, routes::Gateway};

/// Which program this is; the gateway shows its own build beside the others'.
pub const IDENTITY: Identity = identity!(
    "api-gateway",
    "the only way in: the dashboard, and the API passed on to orders and inventory"
);

/// Starts what the gateway is made of.
///
/// # Errors
/// When a file with keys or tokens cannot be used.
pub fn start(config: Config, kit: &Kit) -> Result<Gateway, StartError> {
    Ok(Gateway::new(config, kit)?)
}
