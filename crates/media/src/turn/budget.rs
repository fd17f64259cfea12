//! How much a stranger makes a server send. Pure.
//!
//! Whoever forges the source of a request has the answer sent to somebody else. What an answer needs is a few bytes more than the shortest
//! request (XOR-MAPPED-ADDRESS; in TURN, REALM and NONCE), so that not every answer can be as short as its request. Those that are longer
//! are counted by source.

use std::collections::HashMap;
use std::net::IpAddr;

/// Longer answers to one address in each window: a household of phones behind one NAT, each every 25 seconds, stays far below.
const ANSWERS_PER_WINDOW: u32 = 100;
/// Length of a window.
const WINDOW_MS: u64 = 10_000;
/// Addresses counted in a window. When there are more, further ones get no answer until it ends: phones ask again.
const MAX_SOURCES: usize = 4096;

/// How many answers each source may have.
#[derive(Debug, Default)]
pub struct Budget {
    window: u64,
    answered: HashMap<IpAddr, u32>,
}

impl Budget {
    /// Whether `source` may have one more answer at this time, which is counted then.
    pub fn allows(&mut self, now_ms: u64, source: IpAddr) -> bool {
        let window = now_ms / WINDOW_MS;
        if self.window != window {
            self.window = window;
            self.answered.clear();
        }
        if self.answered.len() >= MAX_SOURCES && !self.answered.contains_key(&source) {
            return false;
        }
        let answered = self.answered.entry(source).or_default();
        *answered = answered.saturating_add(1);
        *answered <= ANSWERS_PER_WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_budget_that_comes_back() {
        let (mut budget, source) = (Budget::default(), IpAddr::from([192, 0, 2, 1]));
        let allowed = (0..ANSWERS_PER_WINDOW * 2).filter(|_| budget.allows(50, source)).count();
        assert_eq!(allowed, usize::try_from(ANSWERS_PER_WINDOW).unwrap_or_default());
        assert!(budget.allows(50, IpAddr::from([192, 0, 2, 2])));
        assert!(budget.allows(50 + WINDOW_MS, source));
    }

    #[test]
    fn the_table_of_sources_is_bounded() {
        let mut budget = Budget::default();
        let most = u32::try_from(MAX_SOURCES).unwrap_or_default();
        assert!((0..most).all(|n| budget.allows(0, IpAddr::from(n.to_be_bytes()))));
        assert!(!budget.allows(0, IpAddr::from([255, 0, 0, 1])));
        assert!(budget.allows(0, IpAddr::from([0, 0, 0, 1])), "a known one still may");
    }
}
