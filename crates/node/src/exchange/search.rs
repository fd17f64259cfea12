//! Searches in the overlay for the nodes that a user's phones are registered at. What they find is sent to the worker, one search
//! after the other, as [`Input::Located`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;
use meshtone_overlay::node::Entry;
use meshtone_overlay::record::Kind;
use meshtone_sip::message::Message;
use meshtone_sip::proxy::Target;
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Destination, PeerHost};
use tokio::sync::mpsc;

use super::Exchange;
use super::attestation::Origination;
use super::contacts::peer_uri;
use super::phone::{OWN_HEADERS_WITHIN, PEER_ANSWERS_WITHIN, asserted};
use super::shown::shown_as;
use super::worker::{Input, Worker};
use crate::transport::host_of;

/// A registration is announced as soon as its phone has been answered. Who calls at that very moment is not told that nobody is there
/// before this has passed.
const ANNOUNCED_WITHIN: Duration = Duration::from_millis(300);

/// Whom a search is for.
#[derive(Debug, Clone)]
pub(super) struct Sought {
    pub(super) address: String,
    /// The Request-URI at the nodes that know him.
    pub(super) uri: String,
    /// The caller, if he is proven.
    pub(super) caller: Option<String>,
    /// Where the request came in, if not from a user of this node.
    pub(super) origin: Option<Origination>,
}

impl Worker {
    /// Forwards a request to `targets`, and to the nodes that a search in the overlay names; where nobody else is there, nothing is
    /// to be found.
    pub(super) fn locate_elsewhere(
        &mut self,
        id: RequestId,
        request: &Message,
        caller: Option<String>,
        address: String,
        targets: Vec<Target>,
        origin: Option<Origination>,
    ) {
        let is_alone = self.exchange.overlay.is_alone();
        self.begin_forwarding(id, request, targets, !is_alone);
        let sought = Sought { origin, ..Sought::of(address, caller.as_deref(), request) };
        if !is_alone {
            tokio::spawn(locate(self.exchange.clone(), sought.clone(), id, self.answers.clone()));
        }
        if let Some(forwarded) = self.forwarded.get_mut(&id) {
            forwarded.caller = sought.caller.clone();
            forwarded.sought.push(sought);
        }
    }

    /// Takes what a search has found, each node once.
    pub(super) fn on_located(&mut self, id: RequestId, mut targets: Vec<Target>, searching: bool) {
        let Some(forwarded) = self.forwarded.get_mut(&id) else { return };
        targets.retain(|target| {
            let found = (target.uri.clone(), target.destination.clone());
            let is_new = !forwarded.located.contains(&found);
            if is_new {
                forwarded.located.push(found);
            }
            is_new
        });
        self.forward_to(id, targets, searching);
    }

    /// Whether the overlay is asked once more, before a caller is told that nobody is there: he whom he calls may have been moving to
    /// another node when it was asked, as phones do whose node has died, or may just have registered.
    pub(super) fn search_again(&mut self, id: RequestId) -> bool {
        let Some(forwarded) = self.forwarded.get_mut(&id) else { return false };
        let patience = match (forwarded.located.is_empty(), forwarded.tried) {
            // It took its time to find out that they are gone.
            (false, _) => Duration::ZERO,
            (true, false) => ANNOUNCED_WITHIN,
            // His phones here did not answer, and he has none elsewhere.
            (true, true) => return false,
        };
        let sought = std::mem::take(&mut forwarded.sought);
        if sought.is_empty() || self.exchange.overlay.is_alone() {
            return false;
        }
        forwarded.searches += sought.len();
        for sought in sought {
            let (exchange, answers) = (self.exchange.clone(), self.answers.clone());
            tokio::spawn(async move {
                tokio::time::sleep(patience).await;
                locate_all(&exchange, sought, id, answers).await;
            });
        }
        true
    }
}

/// Looks somebody up: what the first replica says is acted on at once, what the others add follows.
pub(super) async fn locate(exchange: Arc<Exchange>, sought: Sought, id: RequestId, answers: mpsc::Sender<Input>) {
    let asked = Instant::now();
    let found = exchange.overlay.fetch_first(Kind::SipRegistration, &sought.address).await;
    exchange.metrics.looked_up(asked.elapsed(), found.is_err());
    if let Ok(entries) = found {
        let targets = sought.at_nodes(&exchange, entries).await;
        if !targets.is_empty() {
            let _ = answers.send(Input::Located { id, targets, searching: true }).await;
        }
    }
    locate_all(&exchange, sought, id, answers).await;
}

/// Asks as many replicas as it takes to miss nothing, and ends the search.
pub(super) async fn locate_all(exchange: &Exchange, sought: Sought, id: RequestId, answers: mpsc::Sender<Input>) {
    let targets = match exchange.overlay.fetch(Kind::SipRegistration, &sought.address).await {
        Ok(entries) => sought.at_nodes(exchange, entries).await,
        Err(error) => {
            tracing::debug!(%error, "overlay look-up");
            Vec::new()
        }
    };
    let _ = answers.send(Input::Located { id, targets, searching: false }).await;
}

impl Sought {
    /// Who is sought by a request for this address; its caller is named as he wants to be shown.
    pub(super) fn of(address: String, caller: Option<&str>, request: &Message) -> Sought {
        let caller = caller.map(|caller| shown_as(request, caller).to_owned());
        Sought { uri: peer_uri(&address, request), address, caller, origin: None }
    }

    /// One target for each other node that says he is registered there, and may say so still: a person may have taken back since
    /// what such an entry proves.
    pub(super) async fn at_nodes(&self, exchange: &Exchange, entries: Vec<Entry>) -> Vec<Target> {
        let nodes = self.nodes(exchange, entries).await;
        nodes.into_iter().filter_map(host_of).map(|host| self.target(host)).collect()
    }

    /// Those nodes.
    pub(super) async fn nodes(&self, exchange: &Exchange, mut entries: Vec<Entry>) -> Vec<NodeId> {
        entries.retain(|entry| entry.writer != exchange.overlay.node_id());
        if entries.iter().any(|entry| entry.delegated) {
            // Where that cannot be asked, the entry is the last that is known.
            if let Ok(standing) = exchange.members.standing(&self.address).await {
                let may_say = |node: &NodeId| standing.as_ref().is_some_and(|standing| standing.names(node));
                entries.retain(|entry| !entry.delegated || may_say(&entry.writer));
            }
        }
        entries.into_iter().map(|entry| entry.writer).collect()
    }

    /// The request at one of them.
    pub(super) fn target(&self, host: PeerHost) -> Target {
        Target {
            remove: OWN_HEADERS_WITHIN.to_vec(),
            extra: self.origin.iter().flat_map(Origination::fields).chain(asserted(self.caller.as_deref())).collect(),
            answer_within: Some(PEER_ANSWERS_WITHIN),
            ..Target::new(&self.uri, Destination::Peer(host))
        }
    }
}
