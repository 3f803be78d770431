//! The real programs against a real PostgreSQL. Needs `STOCKYARD_BIN_DIR` and `STOCKYARD_POSTGRES_DIR`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod api_keys;
mod attacks;
mod backup;
mod bad_input;
mod certificates;
mod collector;
mod crash;
mod database;
mod identity;
mod issuer;
mod keys;
mod lifecycle;
mod limits;
mod lists;
mod measure;
mod memory;
mod model_orders;
mod model_stock;
mod orders;
mod overload;
mod races;
mod reported;
mod statements;
mod support;
mod telemetry;
mod upgrade;
mod upstreams;
mod viewers;
