//! What other nodes had no room for. Until that has been forgotten they are not offered the same again, which would cost both sides
//! a message and the full one a signature check each minute. A newer value in its place is another one, and is offered.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

/// A refusal holds for this long: registrations last as long, so that room is found about as soon as it is made.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// Refusals remembered, about 2 MiB of them. When there are more, the oldest is forgotten and its value offered once more.
const MAX_REFUSALS: usize = 16_384;

/// The refusals of all nodes.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    until: BTreeMap<(NodeId, [u8; 32]), Instant>,
    /// The same in the order of time.
    order: VecDeque<(Instant, NodeId, [u8; 32])>,
}

impl Refusals {
    /// Takes note that a node had no room for the value of this digest.
    pub(super) fn note(&mut self, now: Instant, node: NodeId, digest: [u8; 32]) {
        let until = now + REFUSED_FOR;
        while let Some((at, ..)) = self.order.front()
            && (*at <= now || self.order.len() >= MAX_REFUSALS)
            && let Some((at, node, digest)) = self.order.pop_front()
        {
            // It may have been refused again since.
            if self.until.get(&(node, digest)) == Some(&at) {
                self.until.remove(&(node, digest));
            }
        }
        self.until.insert((node, digest), until);
        self.order.push_back((until, node, digest));
    }

    /// Says whether a node had no room for the value of this digest lately.
    pub(super) fn holds(&self, now: Instant, node: NodeId, digest: &[u8; 32]) -> bool {
        self.until.get(&(node, *digest)).is_some_and(|until| *until > now)
    }
}
