//! Looking up the nodes that the configuration names.

use std::sync::Arc;
use std::time::Duration;

use meshtone_identity::LinkKey;
use meshtone_overlay::{Overlay, PeerAddress};

use super::peer::Peer;
use super::tried::{Named, Tried};
use crate::location::dns::{Dns, LocateError};

/// Between two look-ups while nobody is found: soon at first, for a network that has just come up, then ever more seldom.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(300));

/// How often it is looked whether the last link was lost, after which names are looked up anew.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Nodes that one domain may name: more than a start needs, and each is dialled again and again.
const MAX_NODES: usize = 16;

/// Addresses of one host.
const MAX_ADDRESSES: usize = 8;

/// Tells the overlay of the nodes that `peer` leads to, anew for as long as there is no link at all.
pub(super) async fn look_up(peer: Peer, dns: Arc<Dns>, overlay: Overlay, tried: Arc<Tried>) {
    // A person finds the flag again by its end better than by 64 digits.
    let name = match &peer {
        Peer::At(key, address) => format!("{}…@{address}", key.short()),
        Peer::Host(key, host, port) => format!("{}…@{host}:{port}", key.short()),
        Peer::Domain(domain) => domain.clone(),
    };
    tried.named(&name, Named::Asked);
    let mut pause = BACK_OFF.0;
    loop {
        match nodes(&peer, &dns).await {
            Ok(found) => {
                tried.named(&name, Named::Nodes(found.len()));
                if overlay.add_peers(found).await.is_err() {
                    return;
                }
            }
            Err(_) => tried.named(&name, Named::NoAnswer),
        }
        if matches!(peer, Peer::At(..)) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACK_OFF.1);
        while overlay.search().is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
            pause = BACK_OFF.0;
        }
    }
}

async fn nodes(peer: &Peer, dns: &Dns) -> Result<Vec<PeerAddress>, LocateError> {
    let named = match peer {
        Peer::At(..) | Peer::Host(..) => vec![peer.clone()],
        Peer::Domain(domain) => {
            let records = dns.texts(&format!("_meshtone.{domain}")).await?;
            records.iter().filter_map(|text| Peer::of_record(text)).take(MAX_NODES).collect()
        }
    };
    let mut nodes = Vec::new();
    for peer in named {
        match peer {
            Peer::At(key, address) => nodes.push(PeerAddress { link_key: key, addrs: vec![address] }),
            Peer::Host(key, host, port) => nodes.extend(of_host(dns, key, &host, port).await?),
            Peer::Domain(_) => {}
        }
    }
    Ok(nodes)
}

async fn of_host(dns: &Dns, link_key: LinkKey, host: &str, port: u16) -> Result<Option<PeerAddress>, LocateError> {
    let addresses = dns.hosts(host).await?;
    let addrs: Vec<_> = addresses.into_iter().take(MAX_ADDRESSES).map(|ip| (ip, port).into()).collect();
    Ok((!addrs.is_empty()).then_some(PeerAddress { link_key, addrs }))
}
