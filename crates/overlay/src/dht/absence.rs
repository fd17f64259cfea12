//! Absences that were confirmed a moment ago. To believe "not found" costs some thirty requests over disjoint paths (`doubt`), and
//! whoever calls somebody who is nowhere calls again.
//!
//! Only that confirmation is remembered, never an answer: every read asks the replicas, so that it is no older than what they have
//! acknowledged, and only where the very same replicas say again that there is nothing is that believed without doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::operation::Operation;
use crate::record::{Kind, ResourceId};

/// A confirmation holds for this long: a caller's second try, and no more, since a liar among the replicas has that long to deny
/// what was written meanwhile.
const HOLDS_FOR: Duration = Duration::from_secs(5);

/// Absences remembered. When there are more, the one that ends first makes room and is confirmed anew.
const MAX_ABSENCES: usize = 1024;

/// What was confirmed to be nowhere.
#[derive(Debug, Default)]
pub(super) struct Absences {
    confirmed: BTreeMap<(ResourceId, Kind), Absence>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Absence {
    replicas: BTreeSet<NodeId>,
    until: Instant,
}

impl Absences {
    /// Every replica said that there is nothing, and all doubts were in vain.
    pub(super) fn confirm(&mut self, now: Instant, resource: ResourceId, kind: Kind, replicas: BTreeSet<NodeId>) {
        self.confirmed.retain(|_, absence| absence.until > now);
        if self.confirmed.len() >= MAX_ABSENCES {
            let first = self.confirmed.iter().min_by_key(|(_, absence)| absence.until).map(|(key, _)| *key);
            first.and_then(|key| self.confirmed.remove(&key));
        }
        self.confirmed.insert((resource, kind), Absence { replicas, until: now + HOLDS_FOR });
    }

    /// There is something, or is about to be.
    pub(super) fn forget(&mut self, resource: ResourceId, kind: Kind) {
        self.confirmed.remove(&(resource, kind));
    }

    /// Returns what a read that begins now may rely on.
    pub(super) fn get(&self, now: Instant, resource: ResourceId, kind: Kind) -> Option<Absence> {
        self.confirmed.get(&(resource, kind)).filter(|absence| absence.until > now).cloned()
    }
}

impl Absence {
    /// Says whether a read is about the very replicas that confirmed the absence.
    pub(super) fn is_of(&self, operation: &Operation) -> bool {
        let closest = || operation.closest().map(|candidate| candidate.descriptor.node);
        closest().count() == self.replicas.len() && closest().all(|node| self.replicas.contains(&node))
    }
}
