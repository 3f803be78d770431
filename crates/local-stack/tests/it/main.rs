//! The real programs against a real PostgreSQL. Needs `STOCKYARD_BIN_DIR` and `STOCKYARD_POSTGRES_DIR`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod orders;
mod support;
