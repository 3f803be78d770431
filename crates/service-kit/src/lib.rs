//! What the three services share. It knows no domain type.
//!
//! A service's `main` reads its configuration and calls [`main()`], which brings up telemetry, the admin listener (a
//! thread and runtime of its own), the public listener with its limits, and drains them all in the end.

pub mod admin;
pub mod app;
pub mod body;
pub mod client;
mod command;
pub mod conditional;
pub mod config;
pub mod database;
pub mod deadline;
pub mod epoch;
pub mod faults;
mod head;
pub mod health;
mod host;
pub mod idempotency;
pub mod input;
mod log;
pub mod metrics;
pub mod pages;
pub mod problem;
pub mod run;
mod scope;
pub mod server;
mod shares;
pub mod supervise;
pub mod telemetry;
mod text;
mod tls;
pub mod watched;
pub mod workload;

pub use self::{
    app::App,
    body::{Body, BoxError, Request, Response},
    command::main,
    config::{Env, KitConfig},
    problem::Problem,
    run::{Identity, Kit, StartError},
};
