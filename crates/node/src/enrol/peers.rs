//! The peers worth dialling at the next start.

use std::net::SocketAddr;

use meshtone_identity::LinkKey;
use meshtone_overlay::PeerAddress;

use crate::store::cbor::{Octets, to_cbor};
use crate::store::{Setting, Store, StoreError};

/// More peers than a start needs to find the overlay again, some of them gone.
const MAX_PEERS: usize = 64;

/// Writes peers as [`Setting::HostCache`] keeps them.
pub fn encode_host_cache(peers: &[PeerAddress]) -> Vec<u8> {
    let peers: Vec<(Octets<32>, Vec<String>)> = peers
        .iter()
        .take(MAX_PEERS)
        .map(|peer| (Octets(*peer.link_key.as_bytes()), peer.addrs.iter().map(SocketAddr::to_string).collect()))
        .collect();
    to_cbor(&peers)
}

/// The peers that were kept. What cannot be read is left out: the overlay is found by the other ones.
///
/// # Errors
/// [`StoreError::Corrupt`] when the store itself cannot be read.
pub fn known_peers(store: &Store) -> Result<Vec<PeerAddress>, StoreError> {
    let Some(bytes) = store.setting(Setting::HostCache)? else { return Ok(Vec::new()) };
    let peers: Vec<(Octets<32>, Vec<String>)> = ciborium::from_reader(bytes.as_slice()).unwrap_or_default();
    let read = |(key, addresses): (Octets<32>, Vec<String>)| PeerAddress {
        link_key: LinkKey::from_bytes(key.0),
        addrs: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
    };
    Ok(peers.into_iter().map(read).collect())
}
