//! Linked nodes that only use the overlay (RFC 6940 §3.2.1: clients): nothing is routed to them or stored there.

use std::time::Instant;

use meshtone_identity::NodeId;

use super::link::Allowance;
use super::{GRACE, Table};
use crate::dht::Config;

/// A linked node that only uses the overlay.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) up: Instant,
    pub(super) allowance: Allowance,
}

impl Table {
    /// A link to a node that only uses the overlay.
    pub(in crate::dht) fn client_up(&mut self, now: Instant, node: NodeId) {
        self.contacts.remove(&node);
        self.clients.insert(node, Client { up: now, allowance: Allowance::default() });
    }

    pub(in crate::dht) fn client_down(&mut self, node: NodeId) {
        self.clients.remove(&node);
    }

    /// Returns what a linked node may still make this one do, whether it serves or not.
    pub(in crate::dht) fn allowance(&mut self, node: NodeId) -> Option<&mut Allowance> {
        let client = self.clients.get_mut(&node).map(|client| &mut client.allowance);
        client.or(self.links.get_mut(&node).map(|link| &mut link.allowance))
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
