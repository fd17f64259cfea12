//! Linked nodes that only use the overlay (RFC 6940 §3.2.1: clients): nothing is routed to them or stored there.

use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::link::{Allowance, Rare};
use super::{GRACE, Table};
use crate::dht::introduce::Courtesies;
use crate::dht::reach::Favours;
use crate::dht::{Config, Descriptor};

/// How long after a link the boxes on its way may still let packets through: RFC 4787 (REQ-5) asks for five minutes, and some keep to
/// it twice.
const MAPPING_LIFETIME: Duration = Duration::from_secs(600);

/// Nodes remembered that there was a link to lately: as many as there may be links, twice in that time.
const MAX_PARTED: usize = 256;

/// A linked node that only uses the overlay.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) descriptor: Descriptor,
    pub(super) up: Instant,
    pub(super) allowance: Allowance,
}

impl Table {
    /// A link to a node that only uses the overlay.
    pub(in crate::dht) fn client_up(&mut self, now: Instant, peer: Descriptor) {
        self.contacts.remove(&peer.node);
        self.clients.insert(peer.node, Client { descriptor: peer, up: now, allowance: Allowance::default() });
    }

    pub(in crate::dht) fn client_down(&mut self, now: Instant, node: NodeId) {
        if self.clients.remove(&node).is_some() {
            self.note_parted(now, node);
        }
    }

    /// Returns a linked node, whether it serves or not, and where its packets come from.
    pub(in crate::dht) fn linked(&self, node: NodeId) -> Option<Descriptor> {
        let client = self.clients.get(&node).map(|client| &client.descriptor);
        client.or(self.links.get(&node).map(|link| &link.descriptor)).cloned()
    }

    pub(in crate::dht) fn is_linked(&self, node: NodeId) -> bool {
        self.clients.contains_key(&node) || self.links.contains_key(&node)
    }

    /// Whether there is a link to a node, or was one lately.
    pub(in crate::dht) fn was_linked(&self, now: Instant, node: NodeId) -> bool {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < MAPPING_LIFETIME;
        self.is_linked(node) || self.parted.get(&node).is_some_and(lately)
    }

    /// Takes note that a link has ended.
    pub(super) fn note_parted(&mut self, now: Instant, node: NodeId) {
        self.parted.retain(|_, at| now.saturating_duration_since(*at) < MAPPING_LIFETIME);
        if self.parted.len() >= MAX_PARTED
            && let Some(oldest) = self.parted.iter().min_by_key(|(_, at)| **at).map(|(node, _)| *node)
        {
            self.parted.remove(&oldest);
        }
        self.parted.insert(node, now);
    }

    /// Returns what a linked node may still make this one do, whether it serves or not.
    pub(in crate::dht) fn allowance(&mut self, node: NodeId) -> Option<&mut Allowance> {
        let client = self.clients.get_mut(&node).map(|client| &mut client.allowance);
        client.or(self.links.get_mut(&node).map(|link| &mut link.allowance))
    }

    /// Returns what a linked node may still make this one do that is seldom asked for.
    pub(in crate::dht) fn rare(&mut self, node: NodeId) -> Option<&mut Rare> {
        self.allowance(node).map(|allowance| &mut **allowance.rare.get_or_insert_default())
    }

    /// Returns the tests and dials that a linked node may still ask for.
    pub(in crate::dht) fn favours(&mut self, node: NodeId) -> Option<&mut Favours> {
        self.rare(node).map(|rare| &mut rare.favours)
    }

    /// Returns the introductions that a linked node may still ask for.
    pub(in crate::dht) fn courtesies(&mut self, node: NodeId) -> Option<&mut Courtesies> {
        self.rare(node).map(|rare| &mut rare.courtesies)
    }

    pub(in crate::dht) fn is_client(&self, node: NodeId) -> bool {
        self.clients.contains_key(&node)
    }

    pub(in crate::dht) fn clients(&self) -> impl ExactSizeIterator<Item = NodeId> {
        self.clients.keys().copied()
    }

    /// Returns the clients to send away when there are more than the bound, the youngest first; they are left in peace for a while,
    /// as long as they are not too many.
    pub(in crate::dht) fn surplus_clients(&self, now: Instant, config: &Config) -> Vec<NodeId> {
        let mut by_age: Vec<(Instant, NodeId)> = self.clients.iter().map(|(node, client)| (client.up, *node)).collect();
        by_age.sort_unstable();
        let too_many = by_age.len().saturating_sub(config.max_clients + config.max_clients / 4);
        let surplus = by_age.into_iter().skip(config.max_clients).rev().enumerate();
        let due = surplus.filter(|(index, (up, _))| *index < too_many || now >= *up + GRACE);
        due.map(|(_, (_, node))| node).collect()
    }
}
