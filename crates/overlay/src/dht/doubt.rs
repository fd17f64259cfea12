//! Doubting "not found": paths towards a place converge, and whoever sits where they meet can deny what there is, or answer in the
//! name of others, since answers are not signed.
//!
//! So this node goes there itself (`visit`). Where nodes could not be dialled, the closest are asked again over other first hops, unless
//! they have answered over a link of our own. What is found is signed: one honest way is enough.

use meshtone_identity::NodeId;

use super::operation::{Candidate, Operation, Purpose, State};
use super::visit::Visits;
use super::{Dht, Now, OperationId};

/// How often one node is asked, each time over another link: with three tenths of liars three ways of two hops all fail for one
/// node in eight, and five nodes hold the value.
pub(super) const MAX_ASKED: usize = 4;

impl Dht {
    /// Says whether a read that found nothing can still be checked.
    pub(super) fn may_doubt(&self, operation: &Operation) -> bool {
        let believed = match &operation.purpose {
            Purpose::Fetch(reading) => reading.was_absent(operation),
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair | Purpose::Store(_) => false,
        };
        !believed
            && self.config.paths > 1
            && (!operation.doubted || self.may_visit(operation) || self.next_doubted(operation).is_some())
    }

    /// Checks a read that found nothing. Returns whether there was anything left to do.
    pub(super) fn doubt(&mut self, now: Now, id: OperationId) -> bool {
        let Some(operation) = self.operations.get(&id) else { return false };
        let Purpose::Fetch(reading) = &operation.purpose else { return false };
        // One replica may not have it yet; what the others say is waited for before everybody is asked.
        let asking = !operation.doubted && (operation.waiting() > 0 || operation.paths_waiting > 0);
        if !reading.is_empty() || asking || !self.may_doubt(operation) {
            return false;
        }
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.doubted = true;
        }
        if self.visit(now, id) {
            return true;
        }
        let Some(operation) = self.operations.get(&id) else { return false };
        if operation.visits.as_ref().is_some_and(Visits::waiting) {
            return false;
        }
        let Some((node, via)) = self.next_doubted(operation) else { return false };
        self.ask_node(now, id, node, Some(via));
        true
    }

    /// Takes note that a node itself has answered, and nobody in its name.
    pub(super) fn note_sure(&mut self, id: OperationId, node: NodeId) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if let Some(candidate) = operation.shortlist.get_mut(&operation.place.distance(node.into())) {
            candidate.sure = true;
        }
    }

    /// Picks a node to ask again, and over which link.
    fn next_doubted(&self, operation: &Operation) -> Option<(NodeId, NodeId)> {
        let near = operation.shortlist.values().take(2 * operation.count);
        let doubtful = |candidate: &&Candidate| {
            let over = match candidate.state {
                State::Answered | State::Slow | State::Failed => true,
                State::New | State::Asked => false,
            };
            over && !candidate.sure && candidate.tried.len() < MAX_ASKED
        };
        let mut near = near.filter(doubtful);
        near.find_map(|candidate| {
            let linked = |via: &&NodeId| self.table.links().contains_key(*via);
            let via = candidate.vias.iter().filter(linked).find(|via| !candidate.tried.contains(via))?;
            Some((candidate.descriptor.node, *via))
        })
    }
}
