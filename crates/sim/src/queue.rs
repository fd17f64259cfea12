//! What is to happen, in order of time, then of having been put there.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// A queue of things that happen at their times.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Due<T>>,
    count: u64,
}

struct Due<T> {
    at: Duration,
    number: u64,
    item: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), count: 0 }
    }
}

impl<T> Queue<T> {
    /// Puts a thing there for a time.
    pub(crate) fn push(&mut self, at: Duration, item: T) {
        self.count += 1;
        self.heap.push(Due { at, number: self.count, item });
    }

    /// Returns when the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|due| due.at)
    }

    /// Takes the next thing, and when it happens.
    pub(crate) fn pop(&mut self) -> Option<(Duration, T)> {
        self.heap.pop().map(|due| (due.at, due.item))
    }
}

/// The heap has its greatest on top: that is what comes first.
impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Due<T> {}
