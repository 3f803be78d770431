//! The manifests, rendered by kustomize (`STOCKYARD_KUSTOMIZE`, else from the `PATH`), against the policies.

#![allow(clippy::unwrap_used, reason = "a test")]

mod combinations;
mod connectivity;
mod mutations;
mod overlays;
