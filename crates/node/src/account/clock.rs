//! A hybrid logical clock: timestamps that follow the wall clock, never run backwards, and put an effect after its
//! cause even where the clocks of two nodes differ (Kulkarni et al., "Logical Physical Clocks", 2014). Pure.

use meshtone_identity::NodeId;

/// How far ahead of our own clock a peer's stamp may be. Clocks of machines that keep time at all differ by less, and
/// a stamp from next year would otherwise win against every change that anybody makes until then.
pub const MAX_AHEAD_MS: u64 = 5 * 60 * 1000;

/// When a change was made, and by whom. Totally ordered: no two changes of honest nodes have equal stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// Tells changes within one millisecond apart.
    pub counter: u32,
    /// The node that made the change.
    pub node: NodeId,
}

/// A peer's stamp lies too far in the future; either its clock is wrong or ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer's clock is {ahead_ms} ms ahead of ours")]
pub struct Ahead {
    /// By how much.
    pub ahead_ms: u64,
}

/// One node's clock.
#[derive(Debug, Clone)]
pub struct Clock {
    node: NodeId,
    last: (u64, u32),
}

impl Clock {
    /// A clock that has not seen anything yet.
    pub fn new(node: NodeId) -> Clock {
        Clock { node, last: (0, 0) }
    }

    /// Stamps a change of our own: later than every stamp given or seen before.
    pub fn tick(&mut self, now_ms: u64) -> Stamp {
        let (wall_ms, counter) = self.last;
        self.last = match counter.checked_add(1) {
            _ if now_ms > wall_ms => (now_ms, 0),
            Some(counter) => (wall_ms, counter),
            None => (wall_ms.saturating_add(1), 0),
        };
        Stamp { wall_ms: self.last.0, counter: self.last.1, node: self.node }
    }

    /// Takes note of a peer's stamp.
    ///
    /// # Errors
    /// [`Ahead`] if it is more than [`MAX_AHEAD_MS`] in the future; the clock is then left as it was.
    pub fn observe(&mut self, now_ms: u64, stamp: &Stamp) -> Result<(), Ahead> {
        let ahead_ms = stamp.wall_ms.saturating_sub(now_ms);
        if ahead_ms > MAX_AHEAD_MS {
            return Err(Ahead { ahead_ms });
        }
        self.resume(stamp);
        Ok(())
    }

    /// Takes note of a stamp that we accepted in an earlier life: after a restart with the clock set back, changes
    /// must still come after what is in the store.
    pub fn resume(&mut self, stamp: &Stamp) {
        self.last = self.last.max((stamp.wall_ms, stamp.counter));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const ALICE: NodeId = NodeId::from_bytes([1; 32]);
    const BOB: NodeId = NodeId::from_bytes([2; 32]);

    #[test]
    fn stamps_grow_while_the_wall_clock_stands_still_or_goes_back() {
        let mut clock = Clock::new(ALICE);
        let stamps: Vec<Stamp> = [1000, 1000, 400, 1001, 1001].into_iter().map(|now| clock.tick(now)).collect();
        assert!(stamps.is_sorted_by(|earlier, later| earlier < later), "{stamps:?}");
        assert_eq!(stamps.last().unwrap().wall_ms, 1001);
    }

    #[test]
    fn an_effect_is_stamped_after_its_cause_though_the_other_clock_is_behind() {
        let (mut fast, mut slow) = (Clock::new(ALICE), Clock::new(BOB));
        let cause = fast.tick(60_000);
        slow.observe(1_000, &cause).unwrap();
        assert!(slow.tick(1_001) > cause);
    }

    #[test]
    fn a_peer_cannot_pull_the_clock_more_than_five_minutes_ahead() {
        let mut clock = Clock::new(ALICE);
        let mut peer = Clock::new(BOB);
        clock.observe(0, &peer.tick(MAX_AHEAD_MS)).unwrap();
        assert_eq!(clock.observe(0, &peer.tick(MAX_AHEAD_MS + 1)), Err(Ahead { ahead_ms: MAX_AHEAD_MS + 1 }));
        assert_eq!(clock.tick(0).wall_ms, MAX_AHEAD_MS);
    }

    #[test]
    fn a_full_counter_moves_the_clock_on() {
        let mut clock = Clock::new(ALICE);
        clock.resume(&Stamp { wall_ms: 10, counter: u32::MAX, node: BOB });
        let stamp = clock.tick(5);
        assert_eq!((stamp.wall_ms, stamp.counter), (11, 0));
    }
}
