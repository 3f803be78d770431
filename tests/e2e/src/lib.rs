//! The end-to-end tests: the overlays on a running Kubernetes, as README deploys them.
//!
//! They run against the cluster of `KUBECONFIG` by kubectl alone, so the same tests serve a cluster of tests/cluster
//! and one of the user's. The load comes from pods that run the same program.

pub mod ask;
pub mod cluster;
pub mod collector;
pub mod evidence;
pub mod generator;
pub mod load;
pub mod plane;
pub mod pod;
pub mod reach;
pub mod schedule;
pub mod system;
pub mod tests;
pub mod token;

/// What can go wrong: the message says what happened, where, and what to do.
pub type Result<T> = anyhow::Result<T>;
