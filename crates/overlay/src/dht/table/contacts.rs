//! Nodes known without a link: what is said of them, how dialling them went, and the replacement cache of each bucket.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::Table;
use super::link::ASSUMED_RTT;
use crate::dht::config::{MAX_CONTACTS, MAX_CONTACTS_PER_SUBNET, MAX_DIAL_FAILURES, REDIAL};
use crate::dht::{Descriptor, Position, Subnet};

/// Whoever had a link to us within this time is fresh: most nodes that were there then still are.
const FRESH: Duration = Duration::from_secs(600);

/// Contacts that a bucket keeps when there are too many in all: its replacement cache. Without it a neighbourhood full of hearsay,
/// or of made-up nodes, would drive out those that fill the far buckets.
const REPLACEMENTS: usize = 8;

/// A node known, with no link to it.
#[derive(Debug)]
pub(super) struct Contact {
    pub(super) descriptor: Descriptor,
    /// Where it is said to be.
    pub(super) subnet: Option<Subnet>,
    pub(super) failures: u32,
    pub(super) dialled: Option<Instant>,
    /// The dial under way is a probe.
    pub(super) probed: bool,
    pub(super) not_before: Option<Instant>,
    /// When its last link ended, if it had any; the rest is hearsay.
    pub(super) seen: Option<Instant>,
    /// Round trip of that link.
    pub(super) rtt: Duration,
    /// How often in a row there was no room for it.
    pub(super) times_away: u32,
}

impl Table {
    /// Returns the descriptors of nodes known without a link, those that answered last first.
    pub(in crate::dht) fn contacts(&self) -> Vec<Descriptor> {
        let mut contacts: Vec<&Contact> = self.contacts.values().collect();
        contacts.sort_by_key(|contact| contact.failures);
        contacts.into_iter().map(|contact| contact.descriptor.clone()).collect()
    }

    /// Takes note that a node could not be reached.
    pub(in crate::dht) fn failed(&mut self, now: Instant, node: NodeId) {
        let Some(contact) = self.contacts.get_mut(&node) else { return };
        contact.dialled = None;
        // Probing a silent node says nothing new of it, and must not be why it is forgotten.
        if std::mem::take(&mut contact.probed) {
            return;
        }
        contact.failures += 1;
        let back_off = REDIAL.0.saturating_mul(1 << contact.failures.saturating_sub(1).min(16)).min(REDIAL.1);
        contact.not_before = Some(now + back_off);
        if contact.failures > MAX_DIAL_FAILURES {
            self.contacts.remove(&node);
        }
    }

    /// Takes note of a node that a peer told of. Hearsay does not revive one that failed, unless it moved.
    pub(in crate::dht) fn learn(&mut self, peer: &Descriptor) -> bool {
        if Position::from(peer.node) == self.own
            || self.links.contains_key(&peer.node)
            || self.clients.contains_key(&peer.node)
        {
            return false;
        }
        if let Some(contact) = self.contacts.get_mut(&peer.node) {
            if contact.descriptor.address == peer.address {
                return false;
            }
            contact.descriptor = peer.clone();
            contact.subnet = (self.subnet_of)(&peer.address);
            contact.failures = contact.failures.min(1);
            return true;
        }
        let subnet = (self.subnet_of)(&peer.address);
        let of_subnet = self.contacts.values().filter(|contact| subnet.is_some() && contact.subnet == subnet).count();
        if of_subnet >= MAX_CONTACTS_PER_SUBNET {
            return false;
        }
        self.make_room();
        self.contacts.insert(peer.node, Contact::new(peer.clone(), subnet));
        true
    }

    /// Returns a node that was lost and may be dialled again, `choice` deciding which: after a partition the other side has to be
    /// found again, even where it is nobody's sibling.
    pub(in crate::dht) fn lost(&mut self, now: Instant, choice: u64) -> Option<Descriptor> {
        let lost = self.contacts.iter().filter(|(_, contact)| contact.failures > 0 && contact.dialled.is_none());
        let lost: Vec<NodeId> = lost.map(|(node, _)| *node).collect();
        let index = usize::try_from(choice).unwrap_or_default().checked_rem(lost.len())?;
        let contact = self.contacts.get_mut(lost.get(index)?)?;
        contact.dialled = Some(now);
        contact.probed = true;
        Some(contact.descriptor.clone())
    }

    /// Lets a contact go: of the buckets that have more than their replacements the one that failed most, of those the farthest.
    pub(super) fn make_room(&mut self) {
        if self.contacts.len() < MAX_CONTACTS {
            return;
        }
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for node in self.contacts.keys() {
            *counts.entry(self.bucket(*node)).or_default() += 1;
        }
        let spare = |node: NodeId| counts.get(&self.bucket(node)).is_some_and(|count| *count > REPLACEMENTS);
        let worst = self.contacts.iter().filter(|(_, contact)| contact.dialled.is_none());
        let worst = worst.max_by_key(|(node, contact)| {
            (spare(**node), contact.failures, contact.seen.is_none(), self.own.distance((**node).into()))
        });
        if let Some(node) = worst.map(|(node, _)| *node) {
            self.contacts.remove(&node);
        }
    }
}

impl Contact {
    pub(super) fn new(descriptor: Descriptor, subnet: Option<Subnet>) -> Self {
        Self {
            descriptor,
            subnet,
            failures: 0,
            dialled: None,
            probed: false,
            not_before: None,
            seen: None,
            rtt: ASSUMED_RTT,
            times_away: 0,
        }
    }

    /// Returns how old what is known of it is: 0 when it had a link lately, 1 when it had one ever, 2 for hearsay.
    pub(super) fn staleness(&self, now: Instant) -> u8 {
        match self.seen {
            Some(seen) if now.saturating_duration_since(seen) < FRESH => 0,
            Some(_) => 1,
            None => 2,
        }
    }

    pub(super) fn ready(&self, now: Instant) -> bool {
        self.dialled.is_none() && self.not_before.is_none_or(|at| now >= at)
    }
}
