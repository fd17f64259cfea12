//! Who gets how much of a way that is shared: as much as he wants while there is enough for all, and otherwise nobody more than the
//! others, but what some leave is shared by the rest (max-min fairness). Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What was wanted is looked at this often: short beside what a jitter buffer holds, so that who is held back notices at once.
pub const WINDOW: Duration = Duration::from_millis(100);
/// Windows in a second.
const PER_SECOND: u64 = 10;

/// One who shares.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    wanted: u64,
    got: u64,
}

/// The way that is shared, by numbers of those who do.
#[derive(Debug)]
pub struct Fair {
    /// Bytes of a window, in all and for one.
    in_all: u64,
    of_one: u64,
    ends: Option<Instant>,
    wishes: HashMap<u64, Wish>,
    got_in_all: u64,
    /// What each may have in this window, after what was wanted in the last one.
    level: u64,
    /// Bytes that were held back since the start.
    held_back: u64,
}

impl Fair {
    /// A way of so many bits a second, of which one may have so many at most.
    pub fn new(bits_in_all: u64, bits_of_one: u64) -> Fair {
        let window = |bits: u64| (bits / 8 / PER_SECOND).max(1);
        let (in_all, of_one) = (window(bits_in_all), window(bits_of_one));
        Fair { in_all, of_one, ends: None, wishes: HashMap::new(), got_in_all: 0, level: of_one, held_back: 0 }
    }

    /// Whether `who` may have so many bytes now, which are taken then.
    pub fn take(&mut self, now: Instant, who: u64, len: usize) -> bool {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let got = self.want(now, who, len);
        let fits = got.saturating_add(len) <= self.level && self.got_in_all.saturating_add(len) <= self.in_all;
        if fits {
            self.give(who, len);
        } else {
            self.held_back = self.held_back.saturating_add(len);
        }
        fits
    }

    /// How many of so many bytes `who` may have now, which are taken then. For what waits instead of being lost: the rest is asked for again
    /// when the window is over.
    pub fn take_some(&mut self, now: Instant, who: u64, len: usize) -> usize {
        let wanted = u64::try_from(len).unwrap_or(u64::MAX);
        let got = self.want(now, who, wanted);
        let left = self.level.saturating_sub(got).min(self.in_all.saturating_sub(self.got_in_all));
        let taken = wanted.min(left);
        self.give(who, taken);
        usize::try_from(taken).unwrap_or(len)
    }

    /// Bytes that were held back since the start.
    pub fn held_back(&self) -> u64 {
        self.held_back
    }

    /// Notes that so many bytes are wanted; returns how many were had in this window.
    fn want(&mut self, now: Instant, who: u64, len: u64) -> u64 {
        if self.ends.is_none_or(|ends| now >= ends) {
            self.next_window(now);
        }
        let wish = self.wishes.entry(who).or_default();
        wish.wanted = wish.wanted.saturating_add(len);
        wish.got
    }

    fn give(&mut self, who: u64, len: u64) {
        self.wishes.entry(who).or_default().got += len;
        self.got_in_all += len;
    }

    fn next_window(&mut self, now: Instant) {
        let is_next = self.ends.is_some_and(|ends| now < ends + WINDOW);
        // What was wanted before a pause says nothing of now.
        self.level = if is_next { self.level_after() } else { self.of_one };
        self.wishes.clear();
        self.got_in_all = 0;
        self.ends = Some(now + WINDOW);
    }

    /// The most that each may have so that all together have no more than there is.
    fn level_after(&self) -> u64 {
        let mut wanted: Vec<u64> = self.wishes.values().map(|wish| wish.wanted.min(self.of_one)).collect();
        wanted.sort_unstable();
        let (mut left, mut sharers) = (self.in_all, u64::try_from(wanted.len()).unwrap_or(u64::MAX));
        for wish in wanted {
            let share = left / sharers.max(1);
            if wish > share {
                return share;
            }
            left -= wish;
            sharers -= 1;
        }
        self.of_one
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the start of a test's own time")]
mod tests {
    use super::*;

    const MEGABIT: u64 = 1_000_000;

    /// Lets each want so many packets of a thousand bytes a second, evenly, and returns what each got in the last second of three.
    fn play(fair: &mut Fair, wanted: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut got = vec![0; wanted.len()];
        for ms in 0..3000 {
            let now = start + Duration::from_millis(ms);
            for (who, (wanted, got)) in (0..).zip(wanted.iter().zip(&mut got)) {
                let (before, until) = (wanted * ms / 1000, wanted * (ms + 1) / 1000);
                for _ in before..until {
                    if fair.take(now, who, 1000) && ms >= 2000 {
                        *got += 1;
                    }
                }
            }
        }
        got
    }

    #[test]
    fn who_is_alone_gets_as_much_as_one_may_have() {
        for (wanted, got) in [(1500, 1500), (5000, 2000)] {
            let mut fair = Fair::new(80 * MEGABIT, 16 * MEGABIT);
            assert_eq!(play(&mut fair, &[wanted]), [got], "16 Mbit/s are 2000 such packets");
        }
    }

    #[test]
    fn where_too_much_is_wanted_a_call_goes_on_and_the_greedy_share_the_rest() {
        let mut fair = Fair::new(8 * MEGABIT, 8 * MEGABIT);
        // A thousand packets a second in all; one call wants fifty.
        let got = play(&mut fair, &[50, 3000, 3000]);
        assert_eq!(got.first(), Some(&50));
        for greedy in got.iter().skip(1) {
            assert!((450..=475).contains(greedy), "{got:?}");
        }
    }

    #[test]
    fn what_waits_gets_a_part_and_the_rest_later() {
        let mut fair = Fair::new(8 * MEGABIT, 8 * MEGABIT);
        let start = Instant::now();
        // 100,000 bytes a window.
        assert_eq!(fair.take_some(start, 1, 70_000), 70_000);
        assert_eq!(fair.take_some(start, 1, 70_000), 30_000);
        assert_eq!(fair.take_some(start, 2, 1000), 0);
        // In the next one both have their share: 50,000 at most for whoever wants more.
        let next = start + WINDOW;
        assert_eq!(fair.take_some(next, 2, 1000), 1000);
        assert_eq!(fair.take_some(next, 1, 1_000_000), 99_000);
        assert_eq!(fair.held_back(), 0);
    }
}
