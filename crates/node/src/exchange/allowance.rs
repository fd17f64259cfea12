//! How many calls an account has outside at the moment: a stolen password must not be worth a thousand calls (threat 14).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A call whose end nobody told (both sides lost power) counts no longer than this.
const LONGEST_MS: u64 = 4 * 3600 * 1000;

/// The calls outside of every account.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowances {
    used: Arc<Mutex<HashMap<String, Vec<Use>>>>,
}

#[derive(Debug)]
struct Use {
    number: u64,
    since_ms: u64,
}

/// One call that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Allowance {
    whose: String,
    number: u64,
    since_ms: u64,
    used: Arc<Mutex<HashMap<String, Vec<Use>>>>,
}

impl Allowances {
    /// Counts one more call of `whose`, unless there are `most` already.
    pub(crate) fn take(&self, now_ms: u64, whose: &str, most: usize) -> Option<Allowance> {
        let mut all = lock(&self.used);
        let uses = all.entry(whose.to_owned()).or_default();
        uses.retain(|used| now_ms.saturating_sub(used.since_ms) < LONGEST_MS);
        if uses.len() >= most {
            if uses.is_empty() {
                all.remove(whose);
            }
            return None;
        }
        let number = uses.iter().map(|used| used.number).max().unwrap_or(0) + 1;
        uses.push(Use { number, since_ms: now_ms });
        Some(Allowance { whose: whose.to_owned(), number, since_ms: now_ms, used: self.used.clone() })
    }
}

impl Allowance {
    /// Whether it still counts, its end not having been told.
    pub(crate) fn still_counts(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) < LONGEST_MS
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        let mut all = lock(&self.used);
        if let Some(uses) = all.get_mut(&self.whose) {
            uses.retain(|used| used.number != self.number);
            if uses.is_empty() {
                all.remove(&self.whose);
            }
        }
    }
}

fn lock(used: &Mutex<HashMap<String, Vec<Use>>>) -> MutexGuard<'_, HashMap<String, Vec<Use>>> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_account_has_its_own_and_gets_it_back() {
        let allowances = Allowances::default();
        let first = allowances.take(0, "alice", 2).unwrap();
        let _second = allowances.take(0, "alice", 2).unwrap();
        assert!(allowances.take(0, "alice", 2).is_none());
        assert!(allowances.take(0, "bob", 2).is_some());
        drop(first);
        assert!(allowances.take(0, "alice", 2).is_some());
    }

    #[test]
    fn a_call_without_an_end_stops_counting() {
        let allowances = Allowances::default();
        let _lost = allowances.take(0, "alice", 1).unwrap();
        assert!(allowances.take(LONGEST_MS - 1, "alice", 1).is_none());
        assert!(allowances.take(LONGEST_MS, "alice", 1).is_some());
    }

    #[test]
    fn nothing_stays_behind() {
        let allowances = Allowances::default();
        drop(allowances.take(0, "alice", 1));
        assert!(allowances.take(0, "alice", 0).is_none());
        assert!(allowances.used.lock().unwrap().is_empty());
    }
}
