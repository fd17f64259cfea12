//! Keeps the home nodes of a domain together over the overlay: finds them, stays linked with them, and has the accounts replicated.

use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::{Kind, LinkEvent, Overlay, Protocol};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::Accounts;
use super::sync;
use crate::homes::{self, Shared};

/// Home nodes that are looked for, and dialled if there is no link, this often.
const SEARCH_EVERY: Duration = Duration::from_secs(30);

/// The first search, and the first one after a link came up: the overlay can answer once a link has settled.
const FIRST_SEARCH: Duration = Duration::from_secs(1);

/// A node dials this many of its fellow home nodes; the next ones in the order of ids, so that the domain stays one
/// piece however many there are.
const MAX_PEERS: usize = 32;

/// Looks after the replication until the overlay stops. To end it earlier, drop the future.
pub async fn run(overlay: Overlay, accounts: Accounts) {
    let stagger = stagger(overlay.node_id());
    let domain = accounts.domain().to_owned();
    let shared = Shared { protocol: Protocol::Accounts, name: "the accounts", domain: domain.clone() };
    let session = move |peer, role, read, write| sync::run(accounts.clone(), peer, role, stagger, read, write);
    tokio::join!(homes::keep(overlay.clone(), shared, session), stay_linked(&overlay, &domain, stagger));
}

/// Searches for the home nodes, and dials those that are not linked.
async fn stay_linked(overlay: &Overlay, domain: &str, stagger: f64) {
    let mut events = overlay.subscribe();
    let mut search_at = Instant::now();
    let mut pause = FIRST_SEARCH;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(LinkEvent::Up { .. }) => search_at = search_at.min(Instant::now() + FIRST_SEARCH),
                Ok(LinkEvent::Down { .. }) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            () = sleep_until(search_at) => {
                search(overlay, domain).await;
                // Often at first, when the overlay may not have formed yet.
                search_at = Instant::now() + pause;
                pause = (pause * 2).min(SEARCH_EVERY.mul_f64(0.75 + 0.5 * stagger));
            }
        }
    }
}

/// Asks the overlay for the domain's home nodes and dials those that are not linked.
async fn search(overlay: &Overlay, domain: &str) {
    let found = match overlay.fetch(Kind::Certificate, domain).await {
        Ok(found) => found,
        Err(error) => return tracing::debug!(%error, domain, "the domain's home nodes were not found"),
    };
    let linked: Vec<NodeId> = overlay.links().into_iter().map(|link| link.node).collect();
    let homes = found.into_iter().map(|entry| entry.writer).collect();
    for node in successors(overlay.node_id(), homes) {
        if linked.contains(&node) {
            continue;
        }
        if let Err(error) = overlay.connect(node).await {
            tracing::debug!(peer = %node, %error, "a home node cannot be reached");
        }
    }
}

/// The nodes that come after ours in the ring of ids, [`MAX_PEERS`] at most.
fn successors(ours: NodeId, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    nodes.sort_unstable();
    nodes.dedup();
    nodes.retain(|node| *node != ours);
    let split = nodes.partition_point(|node| *node < ours);
    nodes.rotate_left(split);
    nodes.truncate(MAX_PEERS);
    nodes
}

/// A number from 0 to 1 that differs from node to node: spreads periodic work without asking for randomness.
fn stagger(node: NodeId) -> f64 {
    let [first, ..] = node.as_bytes();
    f64::from(*first) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: impl IntoIterator<Item = u8>) -> Vec<NodeId> {
        numbers.into_iter().map(|number| NodeId::from_bytes([number; 32])).collect()
    }

    #[test]
    fn a_node_dials_those_after_it_first_and_never_itself() {
        assert_eq!(successors(NodeId::from_bytes([5; 32]), ids([1, 9, 5, 7, 9, 3])), ids([7, 9, 1, 3]));
        assert!(successors(NodeId::from_bytes([5; 32]), ids([5])).is_empty());
    }

    #[test]
    fn a_node_dials_a_bounded_number_of_others() {
        let nodes = successors(NodeId::from_bytes([250; 32]), ids(0..=255));
        assert_eq!(nodes.len(), MAX_PEERS);
        assert_eq!(nodes.first(), ids([251]).first());
    }
}
