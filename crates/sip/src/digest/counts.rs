//! The nonce counts that were used (RFC 7616 §3.4.5): what a nonce proves of itself is its age, not that it is first used.
//!
//! The table is split by nonce, so that workers that judge different phones at the same time seldom wait for each other. A nonce
//! has its place in one part only, so within it no count is taken twice, whichever worker asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::nonce::Stamp;

/// Parts of the table: several times as many as a machine has processors, so that two workers rarely meet in one.
pub(super) const PARTS: usize = 64;

/// The highest count of each nonce that was answered rightly.
pub(super) struct NonceCounts {
    parts: [Mutex<Part>; PARTS],
    /// Nonces remembered in each part, at most.
    max_in_part: usize,
}

#[derive(Default)]
struct Part {
    /// Oldest first.
    highest: BTreeMap<Stamp, u32>,
    /// The youngest nonce that was forgotten: nothing up to here is first used any more.
    forgotten: Option<Stamp>,
}

impl NonceCounts {
    /// A table for about `max_nonces`.
    pub(super) fn new(max_nonces: usize) -> NonceCounts {
        let parts = std::array::from_fn(|_| Mutex::new(Part::default()));
        NonceCounts { parts, max_in_part: max_nonces.div_ceil(PARTS).max(1) }
    }

    /// Notes that a nonce was used with this count; false if it was with this or a higher one, or may have been.
    ///
    /// Nonces issued before `oldest_ms` count no longer and make room.
    pub(super) fn take(&self, stamp: Stamp, count: u32, oldest_ms: u64) -> bool {
        // The remainder is smaller than the number of parts, so there is one.
        let index = usize::try_from(stamp.counter % PARTS as u64).unwrap_or(0);
        let Some(part) = self.parts.get(index) else { return false };
        lock(part).take(stamp, count, oldest_ms, self.max_in_part)
    }

    /// How many nonces are remembered.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).highest.len()).sum()
    }
}

impl Part {
    fn take(&mut self, stamp: Stamp, count: u32, oldest_ms: u64, max: usize) -> bool {
        self.forget(|oldest| oldest.issued_ms < oldest_ms);
        if let Some(highest) = self.highest.get_mut(&stamp) {
            let is_next = count > *highest;
            *highest = count.max(*highest);
            return is_next;
        }
        if self.highest.len() >= max {
            let mut first = true;
            self.forget(|_| std::mem::take(&mut first));
        }
        if self.forgotten.is_some_and(|forgotten| stamp <= forgotten) {
            return false;
        }
        self.highest.insert(stamp, count);
        true
    }

    /// Forgets nonces from the oldest on, as long as the condition holds.
    fn forget(&mut self, mut condition: impl FnMut(&Stamp) -> bool) {
        while let Some(oldest) = self.highest.first_entry() {
            if !condition(oldest.key()) {
                break;
            }
            self.forgotten = self.forgotten.max(Some(*oldest.key()));
            oldest.remove();
        }
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
