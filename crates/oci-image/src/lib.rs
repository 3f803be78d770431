//! Builds OCI image layouts whose digest depends on the bytes alone, for several platforms, with what hangs on them.
//!
//! A layer's entries are sorted, with constant times and owners; gzip writes neither name nor time; documents have their
//! keys sorted. So two builds of the same bytes give the same digest, whatever the clock, the umask or the folder. It
//! knows nothing of services.

pub mod image;
pub mod index;
pub mod inputs;
pub mod inspect;
pub mod layer;
pub mod layout;
pub mod provenance;
pub mod referrers;
pub mod sbom;
pub mod verify;

/// What can go wrong: the message says what happened, where, and what to do.
pub type Result<T> = anyhow::Result<T>;
