//! Sessions between the home nodes of a domain: one with each for each thing that is the same at all of them, over a stream of the link.
//!
//! Of a pair the node with the smaller id opens the stream. Only who holds a home certificate for the domain, as the link has verified it,
//! gets as far as a session. What is said there is the [`Dialogue`]'s.

mod dialogue;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::{IncomingStream, LinkEvent, Overlay, Protocol, RecvStream, SendStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

pub(crate) use dialogue::{Dialogue, Ended, carry};

/// Links are matched with sessions at least this often: an event may have been missed.
const REVIEW_EVERY: Duration = Duration::from_secs(5);

/// A session that ended is opened again after this long.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Which end of the stream we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We opened it.
    Opener,
    /// The peer opened it.
    Acceptor,
}

/// What all home nodes have alike, and how it is called in the log.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) protocol: Protocol,
    pub(crate) name: &'static str,
    pub(crate) domain: String,
}

/// Looks after the sessions until the overlay stops. To end them earlier, drop the future.
pub(crate) async fn keep<S, F, M>(overlay: Overlay, shared: Shared, session: S)
where
    S: Fn(NodeId, Role, RecvStream, SendStream) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), Ended<M>>> + Send + 'static,
    M: Error + Send + 'static,
{
    let mut events = overlay.subscribe();
    let mut incoming = overlay.accept_streams(shared.protocol);
    let mut sessions = Sessions { overlay, shared, session, open: BTreeMap::new(), running: JoinSet::new() };
    let mut review_at = Instant::now();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(LinkEvent::Up { .. }) | Err(RecvError::Lagged(_)) => review_at = Instant::now(),
                Ok(LinkEvent::Down { .. }) => {}
                Err(RecvError::Closed) => return,
            },
            stream = incoming.recv() => match stream {
                Some(stream) => sessions.accept(stream),
                None => return,
            },
            Some(ended) = sessions.running.join_next_with_id() => {
                let task = match &ended {
                    Ok((task, ())) => *task,
                    Err(error) => error.id(),
                };
                sessions.open.retain(|_, session| session.id() != task);
                review_at = review_at.min(Instant::now() + REOPEN_AFTER);
            }
            () = sleep_until(review_at) => {
                sessions.review();
                review_at = Instant::now() + REVIEW_EVERY;
            }
        }
    }
}

struct Sessions<S> {
    overlay: Overlay,
    shared: Shared,
    session: S,
    /// One a peer.
    open: BTreeMap<NodeId, AbortHandle>,
    running: JoinSet<()>,
}

impl<S, F, M> Sessions<S>
where
    S: Fn(NodeId, Role, RecvStream, SendStream) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), Ended<M>>> + Send + 'static,
    M: Error + Send + 'static,
{
    /// Opens a session with every linked home node with which it is ours to open and none is running.
    fn review(&mut self) {
        for link in self.overlay.links() {
            let is_home = link.domains.contains(&self.shared.domain);
            if !is_home || self.overlay.node_id() >= link.node || self.open.contains_key(&link.node) {
                continue;
            }
            let (overlay, session, name) = (self.overlay.clone(), self.session.clone(), self.shared.name);
            let (peer, protocol) = (link.node, self.shared.protocol);
            let running = self.running.spawn(async move {
                match overlay.open_stream(peer, protocol).await {
                    Ok((send, recv)) => report(peer, name, session(peer, Role::Opener, recv, send).await),
                    Err(error) => tracing::debug!(%peer, %error, "no stream for {name}"),
                }
            });
            self.open.insert(peer, running);
        }
    }

    fn accept(&mut self, stream: IncomingStream) {
        let IncomingStream { from, domains, send, recv, .. } = stream;
        let name = self.shared.name;
        if !domains.contains(&self.shared.domain) {
            tracing::warn!(peer = %from, "refused {name} to a node that is no home node of the domain");
            return send.abort();
        }
        if from >= self.overlay.node_id() {
            tracing::warn!(peer = %from, "refused a stream for {name} that is ours to open");
            return send.abort();
        }
        let session = (self.session)(from, Role::Acceptor, recv, send);
        let running = self.running.spawn(async move { report(from, name, session.await) });
        // The peer opens a new one when its old one is gone, even if we have not noticed.
        if let Some(old) = self.open.insert(from, running) {
            old.abort();
        }
    }
}

fn report<M: Error>(peer: NodeId, name: &str, outcome: Result<(), Ended<M>>) {
    match outcome {
        Ok(()) => tracing::debug!(%peer, "the exchange of {name} ended"),
        Err(error @ (Ended::Peer(_) | Ended::TooLong(..))) => {
            tracing::warn!(%peer, %error, "the exchange of {name} failed");
        }
        Err(error @ (Ended::Stream(_) | Ended::Silent | Ended::Stuck)) => {
            tracing::debug!(%peer, %error, "the exchange of {name} broke off");
        }
    }
}
