//! How many signatures one link may make this node check (threat 29). A check costs some hundred microseconds of a processor, what
//! asks for it costs its sender nothing: without a bound one peer keeps a small machine from everything else. What is held already
//! is not checked again, and costs nothing of the budget.

use std::time::{Duration, Instant};

/// Checks that a link has in hand: what a neighbour hands over at once when this node joins or somebody dies, for some thousand users.
/// It is half a second of a small machine's processor.
const BURST: u32 = 4096;

/// After this one more is in hand: a thousand a second, more than a home node announces when all its phones come back, and a tenth
/// of a processor. What is beyond it is refused before any signature is looked at, and comes again with the next repair or retry.
const REFILL: Duration = Duration::from_millis(1);

/// What a link may still have checked.
#[derive(Debug)]
pub(super) struct Budget {
    used: u32,
    /// Up to when what was used has been given back.
    since: Instant,
}

impl Budget {
    /// Makes the budget of a new link.
    pub(super) fn new(now: Instant) -> Self {
        Self { used: 0, since: now }
    }

    /// Takes as many checks as are wanted, or none when there are not as many in hand.
    pub(super) fn take(&mut self, now: Instant, wanted: usize) -> bool {
        let passed_ms = now.saturating_duration_since(self.since).as_millis() / REFILL.as_millis();
        self.used = self.used.saturating_sub(u32::try_from(passed_ms).unwrap_or(u32::MAX));
        self.since = now;
        let used = u32::try_from(wanted).unwrap_or(u32::MAX).saturating_add(self.used);
        let allowed = used <= BURST;
        if allowed {
            self.used = used;
        }
        allowed
    }
}
