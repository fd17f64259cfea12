//! Relays: how packets reach a node that nobody can dial, passed on by nodes that are reached.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `name` | the host names of relays, and the keys in them; pure |
//! | `trust` | what a relay shows (its node certificate) and how that is judged |
//! | `book` | where relays are: the only "DNS" that links ask |
//! | `tunnel` | the way to relays over TCP |
//! | `client` | which relays this node is connected to |
//! | `serve` | the relay inside a node |
//! | `gate` | who may use it, and for how long |
//! | `share` | how much each may send when there is not enough for all; pure |
//! | `discovery` | where nodes learn which address their packets come from |
//!
//! Packets are those of links: encrypted between their two ends, so that a relay sees who speaks to whom and how much, and nothing of
//! what. The protocol is iroh's (WebSocket over TLS), and so is the part of the server that speaks it. Nobody but nodes that the
//! overlay's authority has certified is ever asked, or served.

pub(crate) mod book;
pub mod client;
pub(crate) mod discovery;
pub mod gate;
pub mod name;
pub mod serve;
pub(crate) mod share;
pub(crate) mod trust;
pub mod tunnel;

use std::net::{IpAddr, SocketAddr};

use meshtone_identity::LinkKey;
use meshtone_identity::ticket::RELAY_PORTS;

use crate::dht::Subnet;
use crate::record::{NodeAddress, RelayPorts, Via};

/// A relay, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPlace {
    /// The link key of the node that runs it.
    pub link_key: LinkKey,
    /// The addresses of that node.
    pub hosts: Vec<IpAddr>,
    /// The ports.
    pub ports: RelayPorts,
}

impl RelayPlace {
    /// Returns the relay of a node by what its record says; none where it could only be meant for somebody nearer to it than we are. What
    /// a record says of addresses is anybody's word: whoever writes one must not make others knock at doors inside.
    pub(crate) fn of_record(record: &NodeAddress, via: &Via, own: &[SocketAddr]) -> Option<Self> {
        let ports = via.relay?;
        let is_alone = own.iter().all(|own| own.ip().is_loopback());
        let mut hosts: Vec<IpAddr> = record.addresses.iter().map(|addr| addr.ip().to_canonical()).collect();
        hosts.retain(|host| {
            let is_broadcast = matches!(host, IpAddr::V4(host) if host.is_broadcast() || host.is_link_local());
            !(is_broadcast || host.is_multicast() || host.is_unspecified() || host.is_loopback() && !is_alone)
        });
        put_in_order(&mut hosts);
        (!hosts.is_empty()).then_some(Self { link_key: record.link_key, hosts, ports })
    }
}

/// Returns where a peer may run a relay that has not said so itself: at the port that somebody named, or at those where one is as a rule.
pub(crate) fn guesses(peer: &super::PeerAddress, named: Option<u16>) -> Vec<RelayPlace> {
    let mut hosts: Vec<IpAddr> = peer.addrs.iter().map(SocketAddr::ip).collect();
    put_in_order(&mut hosts);
    if hosts.is_empty() {
        return Vec::new();
    }
    let mut at: Vec<u16> = named.into_iter().chain(RELAY_PORTS).collect();
    at.dedup();
    let place =
        |relay| RelayPlace { link_key: peer.link_key, hosts: hosts.clone(), ports: RelayPorts { relay, discovery: 0 } };
    at.into_iter().map(place).collect()
}

/// Puts those first that lead there from everywhere: who asks for our address by UDP tries one alone.
fn put_in_order(hosts: &mut Vec<IpAddr>) {
    hosts.sort_by_key(|host| (Subnet::of(*host).is_none(), *host));
    hosts.dedup();
}

/// The provider of everything that TLS does here: chosen, not taken from what the process or a feature happens to have.
pub(super) fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::record::Role;

    #[test]
    fn a_record_leads_nobody_to_relays_nearer_than_its_reader() {
        let hosts = |addresses: &[&str], own: &str| {
            let record = NodeAddress {
                link_key: LinkKey::from_bytes([1; 32]),
                addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
                relay: None,
                role: Role::Member,
                version: String::new(),
            };
            let via = Via { relay: Some(RelayPorts { relay: 8443, discovery: 7842 }), ..Via::default() };
            RelayPlace::of_record(&record, &via, &[own.parse().unwrap()]).map(|place| place.hosts.len())
        };
        let all = ["192.0.2.1:6084", "192.0.2.1:45000", "10.0.0.1:6084", "127.0.0.1:6084", "[::1]:6084"];
        assert_eq!(hosts(&all, "198.51.100.1:6084"), Some(2));
        assert_eq!(hosts(&["127.0.0.1:6084"], "127.0.0.1:7000"), Some(1), "all are on one machine");
        for nobody in ["127.0.0.1:22", "169.254.169.254:80", "224.0.0.1:1", "255.255.255.255:1", "0.0.0.0:1"] {
            assert_eq!(hosts(&[nobody], "198.51.100.1:6084"), None, "{nobody}");
        }
    }
}
