//! Keeps the home nodes of a domain together over the overlay: finds them, stays linked with them, and runs one
//! replication session with each.
//!
//! Of a pair the node with the smaller id opens the stream. Only who holds a home certificate for the domain, as the
//! link has verified it, gets as far as a session.

use std::collections::BTreeMap;
use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::{IncomingStream, Kind, LinkEvent, Overlay, Protocol};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::Accounts;
use super::session::Role;
use super::sync::{self, SyncError};

/// Home nodes that are looked for, and dialled if there is no link, this often.
const SEARCH_EVERY: Duration = Duration::from_secs(30);

/// The first search, and the first one after a link came up: the overlay can answer once a link has settled.
const FIRST_SEARCH: Duration = Duration::from_secs(1);

/// Links are matched with sessions at least this often: an event may have been missed.
const REVIEW_EVERY: Duration = Duration::from_secs(5);

/// A session that ended is opened again after this long.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// A node dials this many of its fellow home nodes; the next ones in the order of ids, so that the domain stays one
/// piece however many there are.
const MAX_PEERS: usize = 32;

/// Looks after the replication until the overlay stops. To end it earlier, drop the future.
pub async fn run(overlay: Overlay, accounts: Accounts) {
    let mut events = overlay.subscribe();
    let mut incoming = overlay.accept_streams(Protocol::Accounts);
    let mut mesh = Mesh {
        stagger: stagger(overlay.node_id()),
        overlay,
        accounts,
        sessions: BTreeMap::new(),
        running: JoinSet::new(),
        search: JoinSet::new(),
    };
    let mut review_at = Instant::now();
    let mut search_at = Instant::now();
    let mut pause = FIRST_SEARCH;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(LinkEvent::Up { .. }) => {
                    review_at = Instant::now();
                    search_at = search_at.min(Instant::now() + FIRST_SEARCH);
                }
                Ok(LinkEvent::Down { .. }) => {}
                Err(RecvError::Lagged(_)) => review_at = Instant::now(),
                Err(RecvError::Closed) => return,
            },
            stream = incoming.recv() => match stream {
                Some(stream) => mesh.accept(stream),
                None => return,
            },
            Some(ended) = mesh.running.join_next_with_id() => {
                let task = match &ended {
                    Ok((task, ())) => *task,
                    Err(error) => error.id(),
                };
                mesh.sessions.retain(|_, session| session.id() != task);
                review_at = review_at.min(Instant::now() + REOPEN_AFTER);
            }
            Some(_) = mesh.search.join_next() => {}
            () = sleep_until(review_at) => {
                mesh.review();
                review_at = Instant::now() + REVIEW_EVERY;
            }
            () = sleep_until(search_at) => {
                mesh.search();
                // Often at first, when the overlay may not have formed yet.
                search_at = Instant::now() + pause;
                pause = (pause * 2).min(SEARCH_EVERY.mul_f64(0.75 + 0.5 * mesh.stagger));
            }
        }
    }
}

struct Mesh {
    overlay: Overlay,
    accounts: Accounts,
    /// One session a peer.
    sessions: BTreeMap<NodeId, AbortHandle>,
    running: JoinSet<()>,
    /// The search under way, if one is.
    search: JoinSet<()>,
    stagger: f64,
}

impl Mesh {
    /// Opens a session with every linked home node with which it is ours to open and none is running.
    fn review(&mut self) {
        for link in self.overlay.links() {
            let is_home = link.domains.iter().any(|domain| domain == self.accounts.domain());
            if !is_home || self.overlay.node_id() >= link.node || self.sessions.contains_key(&link.node) {
                continue;
            }
            let (overlay, accounts, stagger) = (self.overlay.clone(), self.accounts.clone(), self.stagger);
            let session = self.running.spawn(async move {
                match overlay.open_stream(link.node, Protocol::Accounts).await {
                    Ok((send, recv)) => {
                        report(link.node, sync::run(accounts, link.node, Role::Opener, stagger, recv, send).await);
                    }
                    Err(error) => tracing::debug!(peer = %link.node, %error, "no stream for the accounts"),
                }
            });
            self.sessions.insert(link.node, session);
        }
    }

    fn accept(&mut self, stream: IncomingStream) {
        let IncomingStream { from, domains, send, recv, .. } = stream;
        if !domains.iter().any(|domain| domain == self.accounts.domain()) {
            tracing::warn!(peer = %from, "refused the accounts to a node that is no home node of the domain");
            return send.abort();
        }
        if from >= self.overlay.node_id() {
            tracing::warn!(peer = %from, "refused a stream for the accounts that is ours to open");
            return send.abort();
        }
        let (accounts, stagger) = (self.accounts.clone(), self.stagger);
        let session = self.running.spawn(async move {
            report(from, sync::run(accounts, from, Role::Acceptor, stagger, recv, send).await);
        });
        // The peer opens a new one when its old one is gone, even if we have not noticed.
        if let Some(old) = self.sessions.insert(from, session) {
            old.abort();
        }
    }

    /// Asks the overlay for the domain's home nodes and dials those that are not linked.
    fn search(&mut self) {
        if !self.search.is_empty() {
            return;
        }
        let (overlay, domain) = (self.overlay.clone(), self.accounts.domain().to_owned());
        self.search.spawn(async move {
            let found = match overlay.fetch(Kind::Certificate, &domain).await {
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
        });
    }
}

fn report(peer: NodeId, outcome: Result<(), SyncError>) {
    match outcome {
        Ok(()) => tracing::debug!(%peer, "the exchange of accounts ended"),
        Err(error @ SyncError::Peer(_)) => tracing::warn!(%peer, %error, "the exchange of accounts failed"),
        Err(error @ (SyncError::Stream(_) | SyncError::Silent | SyncError::Stuck)) => {
            tracing::debug!(%peer, %error, "the exchange of accounts broke off");
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
