//! When a worker has more to do than it can: new requests are sent away with 503 and Retry-After (RFC 3261 §21.5.4) while
//! that is still cheap, before the queue fills, so that calls in progress are carried first.
//!
//! The decision only; [`super::worker`] measures and carries it out.

use std::time::Duration;

use crate::transport::dispatch::ARRIVED_MAX;

/// A message that waited so long tells of a worker that is behind: a caller notices a few of these on end.
const AGE_MAX: Duration = Duration::from_millis(100);

/// A queue shorter than this is no overload, however old its messages: the machine may have paused.
const WAITING_MIN: usize = 256;

/// A queue longer than this is, however young: the rest of the room is for what is established.
const WAITING_MAX: usize = ARRIVED_MAX / 2;

/// What Retry-After says at least, in seconds, and how much is added by chance so that not all return at once.
const RETRY_AFTER_S: u32 = 2;
const RETRY_SPREAD_S: u32 = 5;

/// How far behind is who brings messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    /// How many messages wait.
    pub(crate) waiting: usize,
    /// How long the one at hand has waited.
    pub(crate) age: Duration,
}

/// Whether a worker sheds load.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    sheds: bool,
}

impl Overload {
    /// Judges the load at each message: whether it is to be shed if it opens something. Shedding goes on until the queue
    /// is well below where it began, so that it does not flicker. A message whose load was not measured fares like the others.
    pub(crate) fn sheds(&mut self, load: Option<Load>) -> bool {
        let Some(load) = load else { return self.sheds };
        let begins = load.waiting >= WAITING_MAX || (load.waiting >= WAITING_MIN && load.age >= AGE_MAX);
        let goes_on = load.waiting >= WAITING_MIN / 2 && load.age >= AGE_MAX / 2;
        self.sheds = begins || (self.sheds && goes_on);
        self.sheds
    }
}

/// After how many seconds to ask again; `spread` is any number that differs from caller to caller.
pub(crate) fn retry_after_s(load: Load, spread: u32) -> u32 {
    let fullness = u32::try_from(load.waiting / WAITING_MIN).unwrap_or(u32::MAX).min(RETRY_SPREAD_S);
    RETRY_AFTER_S + fullness + spread % RETRY_SPREAD_S
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(waiting: usize, age_ms: u64) -> Option<Load> {
        Some(load(waiting, age_ms))
    }

    fn load(waiting: usize, age_ms: u64) -> Load {
        Load { waiting, age: Duration::from_millis(age_ms) }
    }

    #[test]
    fn neither_a_pause_nor_a_burst_is_overload() {
        let mut overload = Overload::default();
        assert!(!overload.sheds(some(10, 3000)), "the machine was asleep");
        assert!(!overload.sheds(some(2000, 20)), "much came at once, and is worked off quickly");
    }

    #[test]
    fn a_worker_behind_sheds_until_it_has_caught_up() {
        let mut overload = Overload::default();
        assert!(overload.sheds(some(300, 120)));
        assert!(overload.sheds(some(200, 80)), "not before it is well below");
        assert!(!overload.sheds(some(200, 20)));
        assert!(!overload.sheds(some(200, 80)), "and then not again at once");
    }

    #[test]
    fn the_second_half_of_the_queue_is_never_for_new_requests() {
        assert!(Overload::default().sheds(some(ARRIVED_MAX / 2, 0)));
    }

    #[test]
    fn the_fuller_the_queue_the_later_they_return_and_not_all_at_once() {
        assert!(retry_after_s(load(300, 120), 0) < retry_after_s(load(4000, 120), 0));
        assert_ne!(retry_after_s(load(300, 120), 0), retry_after_s(load(300, 120), 1));
        assert!(retry_after_s(load(usize::MAX, 0), u32::MAX) <= 12);
    }
}
