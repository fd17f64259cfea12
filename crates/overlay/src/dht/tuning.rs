//! How often closer nodes are looked for and what is held is compared, by the churn that is seen (RFC 7363 §6).
//!
//! The size of the overlay follows from how close the siblings lie, the failure rate from the links lost lately, the join rate from
//! the age of the links there are. Where nothing happens one looks seldom; at the first change, as often as without any of this.
//! Estimates are not shared among nodes, unlike in §6.5: the bounds are so close that a wrong one costs little, and a liar's would
//! be one more thing to doubt.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::{Dht, Now, Timer};

/// The longest period is this many times the configured one: what no change of the links tells of, such as a replica that lost what
/// it held, is mended after eight minutes at the latest.
const MAX_STRETCH: u32 = 8;

/// Periods are not stretched for this long after a link came or went: changes seldom come alone, and after a partition the two
/// sides have yet to compare what they hold.
const QUIET: Duration = Duration::from_secs(600);

/// After a node was heard that had been lost, reads ask widely for so long: when two halves of a network meet, it takes about a second until
/// whoever should hold a value holds what the other side wrote, and longer where dials have to wait.
const MEETING: Duration = Duration::from_secs(10);

/// Least length of the history of losses; a quarter of the links where that is more (§6.3).
const MIN_HISTORY: usize = 4;

/// What was seen of the churn.
#[derive(Debug)]
pub(super) struct Churn {
    /// When links were lost, the latest last; first of all when this node began to watch.
    losses: VecDeque<Instant>,
    changed: Instant,
    /// When a node was last heard again that had been lost.
    met: Option<Instant>,
}

impl Churn {
    /// Begins to watch.
    pub(super) fn new(now: Instant) -> Self {
        Self { losses: VecDeque::from([now]), changed: now, met: None }
    }

    /// A link came up.
    pub(super) fn on_gain(&mut self, now: Instant) {
        self.changed = now;
    }

    /// Whether the halves of a network may be meeting again.
    pub(super) fn is_meeting(&self, now: Instant) -> bool {
        self.met.is_some_and(|at| now < at + MEETING)
    }

    /// A link was lost, and so many are left.
    pub(super) fn on_loss(&mut self, now: Instant, links: usize) {
        self.changed = now;
        self.losses.push_back(now);
        while self.losses.len() > MIN_HISTORY.max(links / 4) {
            self.losses.pop_front();
        }
    }

    /// Returns the period that the churn asks for: never shorter than the configured one, at most eight times that. `ages` are those
    /// of the links, `nodes` is about how many nodes there are.
    fn period(&self, now: Instant, configured: Duration, mut ages: Vec<Duration>, nodes: u64) -> Duration {
        ages.sort_unstable();
        let quiet = now.saturating_duration_since(self.changed) >= QUIET;
        let (Some(first), Some(median), true) = (self.losses.front(), ages.get(ages.len() / 2), quiet) else {
            return configured;
        };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        // The time in which half of the nodes fail is 1 / (2 U), where U = k / (M Tk). The present counts as a loss, or none would
        // ever be expected (§6.3, §6.6).
        let watched = now.saturating_duration_since(*first);
        let until_half_fail =
            watched.saturating_mul(number(ages.len())) / number(self.losses.len()).saturating_mul(2).max(1);
        // The time in which as many join as there are is N / L, where L = N / the median age (§6.4, §6.6).
        let until_doubled = *median;
        let rounds = (nodes.max(2).ilog2() + 1).pow(2);
        (until_half_fail.min(until_doubled) / rounds).clamp(configured, configured.saturating_mul(MAX_STRETCH))
    }
}

impl Dht {
    /// Returns the configured period, stretched where the neighbourhood is quiet.
    pub(super) fn tuned(&self, now: Now, configured: Duration) -> Duration {
        let ages = self.table.links().values().map(|link| now.instant.saturating_duration_since(link.up)).collect();
        self.churn.period(now.instant, configured, ages, self.table.estimated_nodes())
    }

    /// A node is linked with or answers. If it was lost before, the halves of a network may be meeting.
    pub(super) fn note_meeting(&mut self, now: Now, node: NodeId) {
        if self.table.is_lost(node) {
            self.churn.met = Some(now.instant);
        }
    }

    /// The links have changed: what was put off is done as soon as it would be without tuning, at a random time within the period.
    pub(super) fn end_quiet(&mut self, now: Now) {
        for (timer, period) in [(Timer::Refresh, self.config.refresh), (Timer::Repair, self.config.repair)] {
            // The jitter of a period that was not stretched.
            let latest = now.instant + period + period / 4;
            if self.timers.is_set_after(timer, latest) {
                let period_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
                let delay = Duration::from_millis(self.randomness.next_u64() % period_ms);
                self.timers.set_by(now.instant + delay, timer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "virtual time has to begin somewhere; nothing reads it as a clock")]

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);

    /// The period, in minutes, of a node that was linked with all of its neighbours since it began, and lost one at each of these
    /// minutes.
    fn period(links: usize, nodes: u64, losses: &[u32], now: u32) -> f64 {
        let begin = Instant::now();
        let mut churn = Churn::new(begin);
        for at in losses {
            churn.on_loss(begin + MINUTE * *at, links);
        }
        churn.period(begin + MINUTE * now, MINUTE, vec![MINUTE * now; links], nodes).as_secs_f64() / 60.0
    }

    #[test]
    fn a_quiet_neighbourhood_is_looked_at_ever_more_seldom_up_to_a_bound() {
        let periods = [5, 30, 60, 120, 24 * 60].map(|now| period(12, 12, &[], now));
        assert_eq!(periods, [1.0, 30.0 / 16.0, 60.0 / 16.0, 120.0 / 16.0, 8.0]);
    }

    #[test]
    fn the_first_change_after_a_quiet_time_ends_it_for_ten_minutes() {
        assert_eq!([1, 9, 11].map(|after| period(12, 12, &[600], 600 + after)), [1.0, 1.0, 8.0]);
    }

    #[test]
    fn the_larger_the_overlay_and_the_more_is_lost_the_shorter_is_the_period() {
        let now = 600;
        assert!(period(60, 10_000, &[], now) < period(60, 100, &[], now));
        let often: Vec<u32> = (0..58).map(|loss| loss * 10).collect();
        assert!(period(60, 100, &often, now) < period(60, 100, &[], now));
    }

    #[test]
    fn many_young_links_mean_that_many_join() {
        let begin = Instant::now();
        let churn = Churn::new(begin);
        let ages = [vec![DAY; 5], vec![MINUTE * 11; 6]].concat();
        assert_eq!(churn.period(begin + DAY, MINUTE, ages, 12), MINUTE);
    }
}
