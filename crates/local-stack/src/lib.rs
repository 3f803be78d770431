//! Starts and stops the whole system on one machine: PostgreSQL, the three services and Prometheus.
//!
//! It serves `nix run` through the program `local-stack`, and the integration tests through this library.

pub mod api_client;
pub mod api_keys;
pub mod child;
pub mod crash;
pub mod http;
pub mod laws;
pub mod measure;
pub mod ports;
pub mod postgres;
pub mod prometheus;
pub mod service;
pub mod soak;
pub mod stack;
pub mod state;

pub use self::{
    api_client::ApiClient,
    service::Service,
    stack::{Settings, Stack},
};

/// What can go wrong: the message says what happened, where, and what to do.
pub type Error = anyhow::Error;
/// A result with that error.
pub type Result<T> = anyhow::Result<T>;
