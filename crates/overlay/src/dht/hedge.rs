//! Reads that end with their first value do not wait for what is late: somebody waits for a phone to ring.
//!
//! A request towards the place that takes longer than such requests do as a rule may have met a node that is silent. Then the nodes
//! nearest to the place that are known are asked as well, a round of a few at a time: the next round begins when one of those asked
//! is late in turn, or has failed, or all have answered with nothing. Every other command is about the very closest nodes, so it
//! passes over nobody who is but a little late.

use std::time::Duration;

use super::Dht;
use super::operation::{Operation, PendingPurpose, Purpose};

/// Nodes that one round asks as long as nobody was found silent.
const ROUND: usize = 3;

/// Requests up to which a read hedges as long as nobody was found silent: in a large overlay one of a hundred is late for so long by
/// nothing but its ways, and is helped no more by asking further nodes.
const CALM: usize = 12;

/// Bounds of how long a request is waited for: below them are those of a local network, which may always be a little late; above
/// them a caller would wait for too long.
const HEDGE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// A visit is waited for as long at least: a handshake and a request within a continent.
const VISIT: Duration = Duration::from_millis(300);

/// Below this time of a local network the usual time would grow again but slowly.
const LEAST: Duration = Duration::from_millis(20);

/// How long requests towards a place take as a rule, smoothed. What waited for somebody silent hardly counts.
#[derive(Debug)]
pub(super) struct UsualTime(Duration);

impl Default for UsualTime {
    /// Two hops within a continent.
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl UsualTime {
    /// Takes note of how long a request towards a place took.
    pub(super) fn note(&mut self, took: Duration) {
        self.0 = ((self.0 * 7 + took.min(self.0 * 2)) / 8).max(LEAST);
    }

    fn of_path(&self) -> Duration {
        self.0.clamp(HEDGE.0, HEDGE.1)
    }

    /// A node that is asked by name is one link away or two.
    fn of_node(&self) -> Duration {
        (self.0 * 3 / 5).clamp(HEDGE.0, HEDGE.1)
    }
}

impl Dht {
    /// A neighbour did not take charge of a request of ours.
    pub(super) fn note_trouble(&mut self, request: u64) {
        let pending = self.pending.get(&request).map(|pending| &pending.purpose);
        if let Some(PendingPurpose::Path(id) | PendingPurpose::Node(id, _)) = pending
            && let Some(operation) = self.operations.get_mut(id)
        {
            operation.troubled = true;
        }
    }

    /// Returns how long a request is waited for where it is hedged.
    pub(super) fn hedge(&self, purpose: &PendingPurpose) -> Option<Duration> {
        let (id, patience) = match purpose {
            PendingPurpose::Path(id) => (id, self.usual_time.of_path()),
            PendingPurpose::Node(id, _) => (id, self.usual_time.of_node()),
            PendingPurpose::Visit(id, ..) => (id, self.usual_time.of_path().max(VISIT)),
            PendingPurpose::Offer(..)
            | PendingPurpose::Hand(..)
            | PendingPurpose::Clock(_)
            | PendingPurpose::Listen(..)
            | PendingPurpose::Notice(..) => return None,
        };
        let operation = self.operations.get(id)?;
        matches!(&operation.purpose, Purpose::Fetch(reading) if reading.ends_with_first()).then_some(patience)
    }
}

impl Operation {
    /// Returns how many nodes a read may have under way beside its path that is late.
    pub(super) fn hedged(&self) -> usize {
        let waiting = self.waiting();
        if waiting == 0 { self.widest().max(1) } else { self.widest().min(waiting + self.round) }
    }

    /// Takes note that one more node of the round is asked.
    pub(super) fn note_hedge(&mut self) {
        let round = if self.waiting() == 0 { self.widest() } else { self.round };
        self.round = round.saturating_sub(1);
    }

    /// Somebody is late or has failed: another round begins.
    pub(super) fn begin_round(&mut self) {
        self.round = self.widest();
    }

    /// Once somebody was found silent, there may be more of them, and a round asks as many as there are replicas.
    fn widest(&self) -> usize {
        if self.troubled {
            return self.count.max(ROUND);
        }
        let asked = usize::try_from(self.requests).unwrap_or(usize::MAX);
        ROUND.min(CALM.saturating_sub(asked))
    }
}
