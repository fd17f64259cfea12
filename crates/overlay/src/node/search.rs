//! What a node that has no link at all knows about it, for people; and that the machine slept or stood still. Pure.

use std::time::Duration;

use crate::dht::Now;

/// A step of a clock between two looks that only sleep explains: looks are a fraction of a second apart, and peers take
/// links for dead after six seconds.
const ASLEEP: Duration = Duration::from_secs(5);

/// A search for anybody of the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Since when there is no link, in unix milliseconds.
    pub since_ms: u64,
    /// How often a peer was dialled in vain since then.
    pub attempts: u32,
    /// Why there is no link, as far as it is known.
    pub reason: String,
}

/// Whether we are searching.
#[derive(Debug)]
pub(super) struct Searching {
    search: Option<Search>,
}

impl Searching {
    pub(super) fn new(now: Now, knows_peers: bool) -> Self {
        let reason = if knows_peers { "no answer yet" } else { "no other node is known" };
        Self { search: Some(begun(now, reason)) }
    }

    /// Returns the search that goes on.
    pub(super) fn get(&self) -> Option<&Search> {
        self.search.as_ref()
    }

    /// There is a link.
    pub(super) fn on_up(&mut self) {
        self.search = None;
    }

    /// A link is gone, `left` are left.
    pub(super) fn on_down(&mut self, now: Now, left: usize) {
        if left == 0 && self.search.is_none() {
            self.search = Some(begun(now, "the last link was lost"));
        }
    }

    /// A dial came to nothing.
    pub(super) fn on_failed(&mut self, reason: &str) {
        if let Some(search) = &mut self.search {
            search.attempts = search.attempts.saturating_add(1);
            reason.clone_into(&mut search.reason);
        }
    }
}

fn begun(now: Now, reason: &str) -> Search {
    Search { since_ms: now.unix_ms, attempts: 0, reason: reason.to_owned() }
}

/// Notices that the machine slept: then one clock or both jump. The monotonic one stands still during sleep on some
/// systems, and the other one is set by hand now and then; trying everybody once more after that harms nobody.
#[derive(Debug)]
pub(super) struct Wakefulness {
    last: Now,
}

impl Wakefulness {
    pub(super) fn new(now: Now) -> Self {
        Self { last: now }
    }

    /// Looks at the clocks; returns for how long nothing happened when that was too long.
    pub(super) fn look(&mut self, now: Now) -> Option<Duration> {
        let passed = now.instant.saturating_duration_since(self.last.instant);
        let by_day = Duration::from_millis(now.unix_ms.saturating_sub(self.last.unix_ms));
        self.last = now;
        let longest = passed.max(by_day);
        (longest > ASLEEP).then_some(longest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

    use std::time::Instant;

    use super::*;

    fn start() -> Now {
        Now { instant: Instant::now(), unix_ms: 1_000_000 }
    }

    fn after(now: Now, monotonic_s: u64, of_day_s: u64) -> Now {
        Now { instant: now.instant + Duration::from_secs(monotonic_s), unix_ms: now.unix_ms + of_day_s * 1000 }
    }

    #[test]
    fn a_search_counts_its_attempts_and_knows_why_the_last_one_failed() {
        let mut searching = Searching::new(start(), true);
        searching.on_failed("no answer in time");
        searching.on_failed("it belongs to another overlay");
        let search = searching.get().unwrap();
        assert_eq!((search.attempts, search.since_ms), (2, start().unix_ms));
        assert_eq!(search.reason, "it belongs to another overlay");
    }

    #[test]
    fn a_search_ends_with_the_first_link_and_begins_with_the_loss_of_the_last() {
        let now = start();
        let mut searching = Searching::new(now, false);
        assert_eq!(searching.get().unwrap().reason, "no other node is known");
        searching.on_up();
        assert_eq!(searching.get(), None);
        searching.on_failed("no answer in time");
        assert_eq!(searching.get(), None, "others are linked");
        searching.on_down(now, 1);
        assert_eq!(searching.get(), None);
        searching.on_down(after(now, 9, 9), 0);
        assert_eq!(searching.get().unwrap().since_ms, now.unix_ms + 9000);
    }

    #[test]
    fn sleep_is_noticed_whether_or_not_the_monotonic_clock_stood_still() {
        let now = start();
        let mut wakefulness = Wakefulness::new(now);
        assert_eq!(wakefulness.look(after(now, 1, 1)), None);
        assert_eq!(wakefulness.look(after(now, 1, 3601)), Some(Duration::from_secs(3600)));
        assert_eq!(wakefulness.look(after(now, 101, 3701)), Some(Duration::from_secs(100)));
        assert_eq!(wakefulness.look(after(now, 102, 3702)), None);
    }

    #[test]
    fn a_clock_set_back_is_no_sleep() {
        let now = start();
        let mut wakefulness = Wakefulness::new(after(now, 0, 7200));
        assert_eq!(wakefulness.look(after(now, 1, 0)), None);
    }
}
