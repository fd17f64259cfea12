//! The records that every node writes of itself: where it is reached, and which domains it is a home of. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{HomeCertificate, LinkKey, NodeId};

use crate::link::PeerAddress;
use crate::record::{Kind, NodeAddress, Role};

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
    version: String,
}

impl OwnRecords {
    pub(super) fn new(
        node: NodeId,
        link_key: LinkKey,
        addrs: &[SocketAddr],
        homes: Vec<HomeCertificate>,
        version: String,
    ) -> Self {
        let mut address = PeerAddress { link_key, addrs: Vec::new() };
        address.merge(addrs);
        Self { node, address, homes, version }
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

    /// Returns the records as they have to stand in the overlay.
    pub(super) fn records(&self) -> Vec<OwnRecord> {
        let role = if self.homes.is_empty() { Role::Member } else { Role::Home };
        let address = NodeAddress {
            link_key: self.address.link_key,
            addresses: self.address.addrs.clone(),
            relay: None,
            role,
            version: self.version.clone(),
        };
        let kind = Kind::NodeAddress;
        let lifetime = kind.rules().default_lifetime;
        let mut records = vec![OwnRecord { kind, name: self.node.to_string(), content: address.encode(), lifetime }];
        records.extend(self.homes.iter().map(|home| OwnRecord {
            kind: Kind::Certificate,
            name: home.domain().to_owned(),
            content: Bytes::copy_from_slice(home.der()),
            lifetime: Kind::Certificate.rules().default_lifetime,
        }));
        records
    }
}
