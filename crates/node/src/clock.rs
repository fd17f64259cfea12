//! The node's clock: the only place of this crate that asks the system for wall time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC; 0 where the system's clock stands before it.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|elapsed| elapsed.as_secs().saturating_mul(1000).saturating_add(u64::from(elapsed.subsec_millis())))
        .unwrap_or(0)
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn unix_s() -> u64 {
    unix_ms() / 1000
}
