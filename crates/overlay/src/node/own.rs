//! The records that every node writes of itself: where it is reached, and which domains it is a home of. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{HomeCertificate, LinkKey, NodeId};

use crate::link::PeerAddress;
use crate::record::via::MAX_SUPER_NODES;
use crate::record::{Kind, NodeAddress, RelayPorts, Renewed, Role, Via};

/// As long as so many of the super-nodes named are there, the record stays as it is: one may be gone when it is needed.
const ENOUGH_SUPER_NODES: usize = 2;

/// One of our own records.
#[derive(Debug)]
pub(super) struct OwnRecord {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) content: Bytes,
    pub(super) lifetime: Duration,
}

/// What we say of ourselves.
#[derive(Debug)]
pub(super) struct OwnRecords {
    node: NodeId,
    address: PeerAddress,
    homes: Vec<HomeCertificate>,
    renewed: Renewed,
    version: String,
    /// Who can introduce others to us.
    super_nodes: Vec<NodeId>,
    /// By whose relays we are reached, the nearest first.
    relays: Vec<NodeId>,
    /// The relay that we run.
    own_relay: Option<RelayPorts>,
    /// The port of the TURN server that we run.
    own_turn: Option<u16>,
}

impl OwnRecords {
    pub(super) fn new(
        node: NodeId,
        link_key: LinkKey,
        addrs: &[SocketAddr],
        (homes, renewed): (Vec<HomeCertificate>, Renewed),
        version: String,
    ) -> Self {
        let mut address = PeerAddress { link_key, addrs: Vec::new() };
        address.merge(addrs);
        Self {
            node,
            address,
            homes,
            renewed,
            version,
            super_nodes: Vec::new(),
            relays: Vec::new(),
            own_relay: None,
            own_turn: None,
        }
    }

    /// Returns whom and where to dial to reach us.
    pub(super) fn address(&self) -> &PeerAddress {
        &self.address
    }

    /// Takes note of where we are reached now; `true` when that is new.
    pub(super) fn update(&mut self, addrs: &[SocketAddr]) -> bool {
        let mut fresh = PeerAddress { link_key: self.address.link_key, addrs: Vec::new() };
        fresh.merge(addrs);
        let changed = fresh != self.address;
        self.address = fresh;
        changed
    }

    /// Takes note of who could introduce others to us, the best first; `true` when the address record has to say something else. Those
    /// that are named stay so while two of them are there.
    pub(super) fn update_super_nodes(&mut self, able: &[NodeId]) -> bool {
        let mut named = self.super_nodes.clone();
        named.retain(|node| able.contains(node));
        if named.len() >= able.len().min(ENOUGH_SUPER_NODES) && !named.is_empty() || able.is_empty() {
            return false;
        }
        for node in able {
            if named.len() < MAX_SUPER_NODES && !named.contains(node) {
                named.push(*node);
            }
        }
        let changed = named != self.super_nodes;
        self.super_nodes = named;
        changed
    }

    /// Takes note of the relays that we are connected to and of the one that we run; `true` when the address record has to say
    /// something else.
    pub(super) fn update_relays(&mut self, relays: Vec<NodeId>, own: Option<RelayPorts>) -> bool {
        let before = self.via();
        (self.relays, self.own_relay) = (relays, own);
        before != self.via()
    }

    /// Takes note of the TURN server that we run; `true` when the address record has to say something else.
    pub(super) fn update_turn(&mut self, own: Option<u16>) -> bool {
        let before = self.via();
        self.own_turn = own;
        before != self.via()
    }

    /// By whom we are reached: whoever dials us tries the relays of the first two.
    fn via(&self) -> Via {
        let mut named = self.relays.clone();
        for node in &self.super_nodes {
            if named.len() < MAX_SUPER_NODES && !named.contains(node) {
                named.push(*node);
            }
        }
        // Who is not reached for packets of links is not for those of phones.
        let turn = self.own_turn.filter(|_| self.own_relay.is_some());
        Via { relay: self.own_relay, turn, super_nodes: named }
    }

    /// Returns the records as they have to stand in the overlay.
    pub(super) fn records(&self) -> Vec<OwnRecord> {
        let role = if self.homes.is_empty() { Role::Member } else { Role::Home };
        let address = NodeAddress {
            link_key: self.address.link_key,
            addresses: self.address.addrs.clone(),
            relay: self.via().encode(),
            role,
            version: self.version.clone(),
        };
        let kind = Kind::NodeAddress;
        let lifetime = kind.rules().default_lifetime;
        let mut records = vec![OwnRecord { kind, name: self.node.to_string(), content: address.encode(), lifetime }];
        let renewed = self.renewed.get().map(|(_, homes)| homes);
        records.extend(renewed.as_ref().unwrap_or(&self.homes).iter().map(|home| OwnRecord {
            kind: Kind::Certificate,
            name: home.domain().to_owned(),
            content: Bytes::copy_from_slice(home.der()),
            lifetime: Kind::Certificate.rules().default_lifetime,
        }));
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes<const N: usize>(numbers: [u8; N]) -> Vec<NodeId> {
        numbers.map(|number| NodeId::from_bytes([number; 32])).into()
    }

    #[test]
    fn the_super_nodes_named_change_only_when_too_few_of_them_are_left() {
        let mut own = OwnRecords::new(
            NodeId::from_bytes([0; 32]),
            LinkKey::from_bytes([0; 32]),
            &[],
            Default::default(),
            String::new(),
        );
        let mut named_after = |able: &[NodeId]| own.update_super_nodes(able).then(|| own.super_nodes.clone());
        assert_eq!(named_after(&[]), None);
        assert_eq!(named_after(&nodes([1])), Some(nodes([1])));
        assert_eq!(named_after(&nodes([1, 2, 3, 4, 5])), Some(nodes([1, 2, 3, 4])));
        assert_eq!(named_after(&nodes([9, 8, 2, 4])), None, "two of them are there");
        assert_eq!(named_after(&nodes([9, 8, 4])), Some(nodes([4, 9, 8])));
        assert_eq!(named_after(&[]), None, "nobody could be told");
    }

    #[test]
    fn relays_are_named_before_other_super_nodes() {
        let mut own = OwnRecords::new(
            NodeId::from_bytes([0; 32]),
            LinkKey::from_bytes([0; 32]),
            &[],
            Default::default(),
            String::new(),
        );
        own.update_super_nodes(&nodes([1, 2, 3, 4]));
        assert!(own.update_relays(nodes([9, 2]), None));
        assert_eq!(own.via().super_nodes, nodes([9, 2, 1, 3]));
        assert!(!own.update_relays(nodes([9, 2]), None));
        let ports = RelayPorts { relay: 8443, discovery: 7842 };
        assert!(own.update_relays(nodes([9, 2]), Some(ports)));
        assert_eq!(own.via().relay, Some(ports));
    }

    #[test]
    fn a_turn_server_is_named_as_long_as_the_node_is_reached() {
        let (id, key) = (NodeId::from_bytes([0; 32]), LinkKey::from_bytes([0; 32]));
        let mut own = OwnRecords::new(id, key, &[], Default::default(), String::new());
        assert!(!own.update_turn(Some(3478)), "it is not known to be reached");
        let ports = RelayPorts { relay: 8443, discovery: 7842 };
        assert!(own.update_relays(Vec::new(), Some(ports)));
        assert_eq!(own.via().turn, Some(3478));
        assert!(own.update_turn(None));
        assert!(own.update_relays(Vec::new(), None));
        assert_eq!(own.via(), Via::default());
    }
}
