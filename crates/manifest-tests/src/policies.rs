//! What every rendering must hold.

pub mod access;
pub mod capacity;
pub mod pods;
pub mod references;

use crate::{Faults, Manifests};

/// A policy.
pub type Policy = fn(&Manifests) -> Faults;

/// Every policy with its name.
pub const ALL: [(&str, Policy); 21] = [
    ("pods are of the restricted profile", pods::restricted),
    ("pods write to their volumes alone and run as nobody of the node", pods::hardened),
    ("containers have requests and limits", pods::resources),
    ("probes differ", pods::probes),
    ("a pod's grace is longer than its drain", pods::drain),
    ("images have a version, never latest", pods::images),
    ("secrets are files", pods::secrets),
    ("accounts are one a part", access::accounts),
    ("tokens are mounted where they are used", access::tokens),
    ("identity cannot be turned off", access::identity),
    ("no wildcard is granted", access::wildcards),
    ("rights are those that are documented", access::rights),
    ("nothing but the namespace is of the cluster", access::scope),
    ("namespaces enforce the restricted profile", access::enforced),
    ("selectors match", references::selectors),
    ("ports are there", references::ports),
    ("configuration, secrets and volumes are there", references::sources),
    ("policies name what is there, and every pod has its own", references::network_policies),
    ("autoscalers, budgets and targets agree", capacity::autoscaling),
    ("the quota holds what the autoscalers may start", capacity::quota),
    ("PostgreSQL has a connection for every pool", capacity::connections),
];

/// The faults that one policy finds.
pub fn find(policy: &str, manifests: &Manifests) -> Faults {
    let (_, check) =
        ALL.iter().find(|(name, _)| *name == policy).expect("the policy has this name");
    check(manifests)
}
