//! Statements that were believed lately, so that none is believed for a second call (RFC 8224 §12.1).
//!
//! Two statements say the same where one calls another twice in a second, but no two signatures have the same r (FIPS 186-5 §6.4):
//! that number is what a statement is told by. Not the whole signature, of which anybody can make another valid one.

use std::sync::{Mutex, PoisonError};

use meshtone_identity::id::sha256;

use crate::exchange::generations::Generations;

/// Statements in a generation, of 100 bytes each: 500 calls a second for as long as they are fresh, or 200 diverted ones. With more, the oldest are forgotten
/// early, and could be used twice by the certified node alone that signed them.
const MAX_STATEMENTS: usize = 64 * 1024;

/// What tells a statement from all others.
pub(super) type Nonce = [u8; 32];

/// Statements, with the call that each was for.
pub(super) struct Replays {
    /// For how long one is remembered at least: as long as what is as early as may be stays fresh.
    remembered_s: u64,
    believed: Mutex<Believed>,
}

#[derive(Default)]
struct Believed {
    since_s: u64,
    calls: Generations<Nonce, [u8; 32], MAX_STATEMENTS>,
}

impl Replays {
    pub(super) fn new(remembered_s: u64) -> Self {
        Self { remembered_s, believed: Mutex::default() }
    }

    /// Whether a statement that is fresh at this time is for this call, and was for no other one before.
    pub(super) fn admit(&self, nonce: Nonce, call_id: &str, now_s: u64) -> bool {
        let call = sha256(call_id.as_bytes());
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes them last longer, not shorter.
        if believed.calls.is_full() || now_s.saturating_sub(believed.since_s) > self.remembered_s {
            believed.calls.turn();
            believed.since_s = now_s;
        }
        *believed.calls.entry_or(nonce, || call) == call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const REMEMBERED_S: u64 = 120;

    fn nonce(number: usize) -> Nonce {
        sha256(&number.to_be_bytes())
    }

    #[test]
    fn a_statement_is_good_for_one_call_however_often_that_is_sent() {
        let replays = Replays::new(REMEMBERED_S);
        for later_s in [0, 0, 30, REMEMBERED_S] {
            assert!(replays.admit(nonce(1), "one", NOW + later_s));
            assert!(!replays.admit(nonce(1), "other", NOW + later_s), "after {later_s} s");
        }
        assert!(replays.admit(nonce(2), "other", NOW));
    }

    #[test]
    fn what_is_not_fresh_any_more_is_forgotten_and_the_rest_is_bounded() {
        let replays = Replays::new(REMEMBERED_S);
        assert!(replays.admit(nonce(0), "one", NOW));
        for number in 1..=2 * MAX_STATEMENTS {
            assert!(replays.admit(nonce(number), "many", NOW));
        }
        let believed = replays.believed.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(believed.calls.lens().iter().all(|len| *len <= MAX_STATEMENTS));
        drop(believed);
        assert!(replays.admit(nonce(0), "other", NOW), "it is forgotten");
    }
}
