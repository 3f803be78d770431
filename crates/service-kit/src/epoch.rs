//! The time as clocks tell it, since the Unix epoch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time that it is.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time that it is, in whole seconds.
pub fn seconds() -> u64 {
    now().as_secs()
}
