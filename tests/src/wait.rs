//! Waiting for a condition instead of a time.

use std::time::{Duration, Instant};

/// The first pause between two looks; it doubles up to [`SLOWEST_POLL`], since a look may cost a process.
const FIRST_POLL: Duration = Duration::from_millis(10);
const SLOWEST_POLL: Duration = Duration::from_millis(200);

/// Looks until `condition` holds; fails the test, naming `what`, once `deadline` has passed.
#[track_caller]
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(deadline, what, || condition().then_some(()));
}

/// Looks until `probe` yields a value and returns it; fails the test, naming `what`, once `deadline` has passed.
#[track_caller]
pub fn eventually_some<T>(deadline: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = FIRST_POLL;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < deadline, "gave up after {deadline:?} waiting for {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(SLOWEST_POLL);
    }
}
