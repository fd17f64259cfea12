//! The node's clock: the only place of this crate that asks the system for wall time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A moment, by both clocks: looked at once for everything that one message causes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// For what lasts.
    pub(crate) instant: Instant,
    /// For what is told or kept; milliseconds as of [`unix_ms`].
    pub(crate) unix_ms: u64,
}

impl Moment {
    /// This moment.
    pub(crate) fn now() -> Moment {
        Moment { instant: Instant::now(), unix_ms: unix_ms() }
    }
}

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
