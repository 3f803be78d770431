//! The control plane, where a command is given that ends it, starts it and changes its keys: `E2E_PLANE`, which is
//! tests/cluster/plane beside a cluster of its own.

use std::{env, time::Duration};

use crate::{Result, cluster::command};

/// What a test says that does without.
pub const MISSING: &str = "not shown: E2E_PLANE is not set (tests/README.md)";

/// Is there such a command?
pub fn is_given() -> bool {
    given().is_some()
}

fn given() -> Option<String> {
    env::var("E2E_PLANE").ok().filter(|command| !command.is_empty())
}

/// Does one of: `stop`, `start`, `rotate-keys`, `signing-key`. Gives what it printed.
pub async fn plane(what: &str) -> Result<String> {
    command(&format!("{} {what}", given().unwrap_or_default())).await
}

/// For how long the API server is away, in the test that ends it: `E2E_API_SERVER_AWAY`, in seconds.
pub fn away() -> Duration {
    let seconds = env::var("E2E_API_SERVER_AWAY").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}
