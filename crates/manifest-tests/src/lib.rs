//! The Kubernetes manifests as they are rendered, and the policies that they must hold.
//!
//! A policy is a function from the objects to the faults that it finds, so that a test can also show that it finds
//! one.

pub mod connectivity;
pub mod differences;
pub mod manifests;
pub mod policies;
pub mod render;
pub mod table;
pub mod yaml;

pub use manifests::{Manifests, Workload};

/// What a policy finds, a sentence each.
pub type Faults = Vec<String>;
