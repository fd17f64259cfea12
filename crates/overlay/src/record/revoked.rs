//! The nodes that are none any longer, as far as this node has heard: they get no link, and what they wrote is not believed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use meshtone_identity::{NodeId, Revocation};

/// Most statements kept: all of them are told to a node that comes, in a message of 113 KiB then. The authority makes no more.
pub const MAX_REVOKED: usize = 1024;

/// What the overlay's authority said of nodes. Whoever puts a statement in has verified it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Revoked(Arc<RwLock<BTreeMap<NodeId, Revocation>>>);

impl Revoked {
    /// Takes up a statement that was verified; whether it is news.
    pub fn insert(&self, revocation: Revocation) -> bool {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = all.len() < MAX_REVOKED && !all.contains_key(&revocation.node());
        if is_news {
            all.insert(revocation.node(), revocation);
        }
        is_news
    }

    /// Returns whether this node is none any longer.
    pub fn contains(&self, node: &NodeId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(node)
    }

    /// Returns all statements, by node.
    pub fn all(&self) -> Vec<Revocation> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Forgets those of certificates that have run out by now (unix seconds).
    pub fn forget_ended(&self, now: u64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, revocation| revocation.ends() >= now);
    }
}
