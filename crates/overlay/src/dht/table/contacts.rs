//! Nodes known without a link: what is said of them, how dialling them went, and the replacement cache of each bucket.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
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
    /// Where it is said to be. In no shared buffer: of hundreds of contacts hardly any is ever dialled.
    address: Box<[u8]>,
    pub(super) subnet: Option<Subnet>,
    /// Most contacts are hearsay and have none; there are hundreds of them.
    past: Option<Box<Past>>,
}

/// What is known of a contact not by hearsay: how dialling it went, and its last link.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) failures: u32,
    pub(super) dialled: Option<Instant>,
    /// The dial under way is a probe.
    pub(super) probed: bool,
    /// The dial under way is for a visit.
    pub(super) visited: bool,
    pub(super) not_before: Option<Instant>,
    /// Its last link ended in silence.
    pub(super) lost: bool,
    /// When its last link ended, if it had any.
    pub(super) seen: Option<Instant>,
    /// Round trip of that link.
    pub(super) rtt: Duration,
    /// How often in a row there was no room for it.
    pub(super) times_away: u32,
}

impl Table {
    /// Returns the descriptors of nodes known without a link, those that answered last first.
    pub(in crate::dht) fn contacts(&self) -> Vec<Descriptor> {
        let mut contacts: Vec<(&NodeId, &Contact)> = self.contacts.iter().collect();
        contacts.sort_by_key(|(_, contact)| contact.past().failures);
        contacts.into_iter().map(|(node, contact)| contact.descriptor(*node)).collect()
    }

    /// Takes note that a node could not be reached.
    pub(in crate::dht) fn failed(&mut self, now: Instant, node: NodeId) {
        let Some(contact) = self.contacts.get_mut(&node) else { return };
        let past = contact.past_mut();
        past.dialled = None;
        past.visited = false;
        // Probing a silent node says nothing new of it, and must not be why it is forgotten.
        if std::mem::take(&mut past.probed) {
            return;
        }
        past.failures += 1;
        let back_off = REDIAL.0.saturating_mul(1 << past.failures.saturating_sub(1).min(16)).min(REDIAL.1);
        past.not_before = Some(now + back_off);
        if past.failures > MAX_DIAL_FAILURES {
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
            if *contact.address == *peer.address {
                return false;
            }
            contact.address = peer.address.as_ref().into();
            contact.subnet = (self.subnet_of)(&peer.address);
            if let Some(past) = &mut contact.past {
                past.failures = past.failures.min(1);
            }
            return true;
        }
        let subnet = (self.subnet_of)(&peer.address);
        let of_subnet = self.contacts.values().filter(|contact| subnet.is_some() && contact.subnet == subnet).count();
        if of_subnet >= MAX_CONTACTS_PER_SUBNET {
            return false;
        }
        self.make_room();
        self.contacts.insert(peer.node, Contact::new(&peer.address, subnet));
        true
    }

    /// Returns a node that was lost and may be dialled again, `choice` deciding which: after a partition the other side has to be
    /// found again, even where it is nobody's sibling.
    pub(in crate::dht) fn lost(&mut self, now: Instant, choice: u64) -> Option<Descriptor> {
        let pasts = self.contacts.iter().map(|(node, contact)| (node, contact.past()));
        let lost = pasts.filter(|(_, past)| past.failures > 0 && past.dialled.is_none());
        let lost: Vec<NodeId> = lost.map(|(node, _)| *node).collect();
        let index = usize::try_from(choice).unwrap_or_default().checked_rem(lost.len())?;
        let node = *lost.get(index)?;
        let contact = self.contacts.get_mut(&node)?;
        let past = contact.past_mut();
        past.dialled = Some(now);
        past.probed = true;
        Some(contact.descriptor(node))
    }

    /// The link to a node has ended in silence, and not because there was no room for it.
    pub(in crate::dht) fn note_lost(&mut self, node: NodeId) {
        if let Some(contact) = self.contacts.get_mut(&node).filter(|contact| contact.past().failures > 0) {
            contact.past_mut().lost = true;
        }
    }

    /// Whether the last link to a node has ended in silence.
    pub(in crate::dht) fn is_lost(&self, node: NodeId) -> bool {
        self.contacts.get(&node).is_some_and(|contact| contact.past().lost)
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
        let pasts = self.contacts.iter().map(|(node, contact)| (node, contact.past()));
        let worst = pasts.filter(|(_, past)| past.dialled.is_none()).max_by_key(|(node, past)| {
            (spare(**node), past.failures, past.seen.is_none(), self.own.distance((**node).into()))
        });
        if let Some(node) = worst.map(|(node, _)| *node) {
            self.contacts.remove(&node);
        }
    }
}

impl Contact {
    /// A node of which nothing but this is known.
    pub(super) fn new(address: &[u8], subnet: Option<Subnet>) -> Self {
        Self { address: address.into(), subnet, past: None }
    }

    pub(super) fn descriptor(&self, node: NodeId) -> Descriptor {
        Descriptor { node, address: Bytes::copy_from_slice(&self.address) }
    }

    pub(super) fn past(&self) -> &Past {
        self.past.as_deref().unwrap_or(&Past::NONE)
    }

    pub(super) fn past_mut(&mut self) -> &mut Past {
        self.past.get_or_insert_with(|| Box::new(Past::NONE))
    }
}

impl Past {
    const NONE: Self = Self {
        failures: 0,
        dialled: None,
        probed: false,
        visited: false,
        not_before: None,
        lost: false,
        seen: None,
        rtt: ASSUMED_RTT,
        times_away: 0,
    };

    /// Returns how old what is known of it is: 0 when it had a link lately, 1 when it had one ever, 2 for hearsay.
    pub(super) fn staleness(&self, now: Instant) -> u8 {
        match self.seen {
            Some(seen) if now.saturating_duration_since(seen) < FRESH => 0,
            Some(_) => 1,
            None => 2,
        }
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.dialled.is_none() && self.not_before.is_none_or(|at| now >= at)
    }
}
