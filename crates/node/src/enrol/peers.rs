//! The peers worth dialling at the next start.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshtone_identity::LinkKey;
use meshtone_overlay::PeerAddress;

use crate::store::cbor::{Octets, to_cbor};
use crate::store::{Setting, Store, StoreError};

/// More peers than a start needs to find the overlay again, some of them gone.
const MAX_PEERS: usize = 64;

/// Stands before the port of a peer's relay, among its addresses: programs of before pass over what is no address.
const RELAY: &str = "relay:";

/// Writes peers as [`Setting::HostCache`] keeps them, with the ports of the relays that some of them run.
pub fn encode_host_cache(peers: &[PeerAddress], relays: &BTreeMap<LinkKey, u16>) -> Vec<u8> {
    let peers: Vec<(Octets<32>, Vec<String>)> = peers
        .iter()
        .take(MAX_PEERS)
        .map(|peer| {
            let relay = relays.get(&peer.link_key).map(|port| format!("{RELAY}{port}"));
            let places = peer.addrs.iter().map(SocketAddr::to_string).chain(relay);
            (Octets(*peer.link_key.as_bytes()), places.collect())
        })
        .collect();
    to_cbor(&peers)
}

/// The peers that were kept. What cannot be read is left out: the overlay is found by the other ones.
///
/// # Errors
/// [`StoreError::Corrupt`] when the store itself cannot be read.
pub fn known_peers(store: &Store) -> Result<Vec<PeerAddress>, StoreError> {
    let read = |(key, addresses): (Octets<32>, Vec<String>)| PeerAddress {
        link_key: LinkKey::from_bytes(key.0),
        addrs: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
    };
    Ok(places(store)?.into_iter().map(read).collect())
}

/// The ports of the relays that those peers run, as far as that was known.
///
/// # Errors
/// Those of [`known_peers`].
pub fn known_relay_ports(store: &Store) -> Result<BTreeMap<LinkKey, u16>, StoreError> {
    let read = |(key, places): (Octets<32>, Vec<String>)| {
        let port = places.iter().find_map(|place| place.strip_prefix(RELAY)?.parse().ok())?;
        Some((LinkKey::from_bytes(key.0), port))
    };
    Ok(places(store)?.into_iter().filter_map(read).collect())
}

fn places(store: &Store) -> Result<Vec<(Octets<32>, Vec<String>)>, StoreError> {
    let bytes = store.setting(Setting::HostCache)?;
    Ok(bytes.and_then(|bytes| ciborium::from_reader(bytes.as_slice()).ok()).unwrap_or_default())
}
