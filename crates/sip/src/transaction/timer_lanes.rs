//! Orders the next timer of very many machines.
//!
//! Nearly all timers run for one of a few durations, so those of one duration come in the order in which they end. They are
//! put into *lanes*, each in order by itself: adding and taking costs the same however many there are. What fits no lane
//! goes into an ordered map.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::TimerReason;

/// Lanes, at most: the durations of RFC 3261 table 4 that a busy server has at the same time.
const LANES_MAX: usize = 8;

/// Orders the next timer of very many machines, one entry each; of equal instants those set first come first, so that runs repeat
/// exactly.
///
/// The owner of a machine keeps the entry it is [`Armed`] with, which spares a second table here: an entry that its owner does not
/// keep any more is void. [`TimerLanes::settle`] takes void entries out, so that what is next is always true.
#[derive(Debug)]
pub(crate) struct TimerLanes<K> {
    lanes: Vec<VecDeque<Entry<K>>>,
    others: BTreeMap<(Instant, u64), (K, TimerReason)>,
    /// The earliest entry, which is asked for several times with every message.
    first: Option<Entry<K>>,
    last_number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry<K> {
    at: Instant,
    number: u64,
    key: K,
    reason: TimerReason,
}

/// The entry of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Armed {
    at: Instant,
    reason: TimerReason,
    number: u64,
}

impl<K: Copy> TimerLanes<K> {
    pub(crate) fn new() -> Self {
        TimerLanes { lanes: Vec::new(), others: BTreeMap::new(), first: None, last_number: 0 }
    }

    /// Replaces the entry that the machine of `key` is armed with by `next`. True when the first of all entries became void by
    /// that: [`TimerLanes::settle`] has to follow.
    pub(crate) fn rearm(&mut self, key: K, armed: &mut Option<Armed>, next: Option<(Instant, TimerReason)>) -> bool {
        if armed.map(|armed| (armed.at, armed.reason)) == next {
            return false;
        }
        let was_first = armed.is_some_and(|armed| self.first.is_some_and(|first| first.number == armed.number));
        if let Some(armed) = armed {
            self.take_back(armed);
        }
        *armed = next.map(|(at, reason)| {
            self.last_number += 1;
            let number = self.last_number;
            self.insert(Entry { at, number, key, reason });
            Armed { at, reason, number }
        });
        was_first
    }

    /// The earliest entry.
    pub(crate) fn next(&self) -> Option<(Instant, TimerReason)> {
        self.first.map(|entry| (entry.at, entry.reason))
    }

    /// Takes out the earliest entry when it is due; its owner must forget that it is armed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let first = self.first.filter(|first| first.at <= now)?;
        self.remove_first(&first);
        Some(first.key)
    }

    /// Takes void entries out until the first one counts; `armed` tells what the machine of a key is armed with.
    pub(crate) fn settle(&mut self, armed: impl Fn(K) -> Option<Armed>) {
        while let Some(first) = self.first {
            if armed(first.key).is_some_and(|armed| armed.number == first.number) {
                return;
            }
            self.remove_first(&first);
        }
    }

    /// Takes an entry out at once where it is the last of its lane: a request that is answered as it comes leaves no void entry.
    fn take_back(&mut self, armed: &Armed) {
        let is_it = |entry: &Entry<K>| entry.number == armed.number;
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.back().is_some_and(is_it)) {
            lane.pop_back();
            if self.first.is_some_and(|first| first.number == armed.number) {
                self.first = self.find_first();
            }
        }
    }

    fn find_first(&self) -> Option<Entry<K>> {
        let lanes = self.lanes.iter().filter_map(|lane| lane.front()).copied();
        let other = self.others.first_key_value();
        let other = other.map(|(&(at, number), &(key, reason))| Entry { at, number, key, reason });
        lanes.chain(other).min_by_key(|entry| (entry.at, entry.number))
    }

    fn remove_first(&mut self, first: &Entry<K>) {
        let lane = self.lanes.iter_mut().find(|lane| lane.front().is_some_and(|front| front.number == first.number));
        match lane {
            Some(lane) => {
                lane.pop_front();
                // A burst that has passed does not keep its memory.
                if lane.len() * 4 < lane.capacity() && lane.capacity() > 1024 {
                    lane.shrink_to(lane.len() * 2);
                }
            }
            None => {
                self.others.remove(&(first.at, first.number));
            }
        }
        self.first = self.find_first();
    }

    /// Puts an entry into the lane that ends latest before it, so that each lane goes on with one duration.
    fn insert(&mut self, entry: Entry<K>) {
        if self.first.is_none_or(|first| (entry.at, entry.number) < (first.at, first.number)) {
            self.first = Some(entry);
        }
        let end = |lane: &VecDeque<Entry<K>>| lane.back().map(|back| back.at);
        let lanes = self.lanes.len();
        let fitting = self.lanes.iter_mut().filter(|lane| end(lane).is_none_or(|end| end <= entry.at));
        if let Some(lane) = fitting.max_by_key(|lane| end(lane)) {
            lane.push_back(entry);
        } else if lanes < LANES_MAX {
            self.lanes.push(VecDeque::from([entry]));
        } else {
            self.others.insert((entry.at, entry.number), (entry.key, entry.reason));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    #[test]
    fn whatever_is_set_moved_and_taken_back_fires_in_order_and_once() {
        let start = Instant::now();
        let mut queue = TimerLanes::new();
        let mut armed: HashMap<u64, Option<Armed>> = HashMap::new();
        let mut number = 1_u64;
        for step in 0..20_000_u64 {
            // Any sequence will do that has all lengths and repeats keys.
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (number >> 33) % 1000;
            let next = (!(number >> 20).is_multiple_of(5))
                .then(|| (start + Duration::from_millis(step + (number >> 45) % 40_000), TimerReason::TimerJ));
            if queue.rearm(key, armed.entry(key).or_default(), next) {
                queue.settle(|key| armed.get(&key).copied().flatten());
            }
        }
        let wanted = armed.values().flatten().count();
        assert!(wanted > 500);
        let (mut last, mut fired) = (start, 0);
        while let Some((at, _)) = queue.next() {
            let key = queue.pop_due(at).unwrap();
            let entry = armed.get_mut(&key).unwrap().take().unwrap();
            assert_eq!(entry.at, at, "what fires is what was set last");
            assert!(at >= last);
            (last, fired) = (at, fired + 1);
            queue.settle(|key| armed.get(&key).copied().flatten());
        }
        assert_eq!(fired, wanted);
    }

    #[test]
    fn timers_of_one_duration_stay_in_one_lane() {
        let start = Instant::now();
        let mut queue = TimerLanes::new();
        for step in 0..1000_u64 {
            let now = start + Duration::from_millis(step);
            for (key, run_ms) in [(step * 2, 500), (step * 2 + 1, 32_000)] {
                queue.rearm(key, &mut None, Some((now + Duration::from_millis(run_ms), TimerReason::TimerA)));
            }
        }
        assert_eq!((queue.lanes.len(), queue.others.len()), (2, 0));
    }
}
