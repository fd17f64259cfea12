//! The queue of timers: in order of time, then of setting.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Timer;

/// All timers set. One that is no longer needed fires all the same and finds nothing to do.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Instant, u64), Entry>,
    /// Those of which only one is ever set.
    single: BTreeMap<Timer, Instant>,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    timer: Timer,
    single: bool,
}

impl Timers {
    /// Sets a timer.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.push(at, Entry { timer, single: false });
    }

    /// Sets a timer of which there is only one, unless it is set for an earlier time.
    pub(super) fn set_by(&mut self, at: Instant, timer: Timer) {
        if self.single.get(&timer).is_none_or(|set| at < *set) {
            self.single.insert(timer, at);
            self.push(at, Entry { timer, single: true });
        }
    }

    /// Says whether a timer of which there is only one is set for later than this.
    pub(super) fn is_set_after(&self, timer: Timer, at: Instant) -> bool {
        self.single.get(&timer).is_some_and(|set| *set > at)
    }

    /// Returns the next timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= now
        {
            let ((at, _), Entry { timer, single }) = entry.remove_entry();
            if !single {
                return Some(timer);
            }
            if self.single.get(&timer) == Some(&at) {
                self.single.remove(&timer);
                return Some(timer);
            }
        }
        None
    }

    /// Returns when the next timer is due, and which.
    pub(super) fn next(&self) -> Option<(Instant, Timer)> {
        self.queue.first_key_value().map(|((at, _), entry)| (*at, entry.timer))
    }

    fn push(&mut self, at: Instant, entry: Entry) {
        self.count += 1;
        self.queue.insert((at, self.count), entry);
    }
}
