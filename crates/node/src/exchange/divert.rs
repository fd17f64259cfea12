//! Diversions: a phone here redirects a request of another node to a user of the served domain who is registered at a third one.
//! This node sends it there itself, says that it did (RFC 8946), and leaves what the caller's node stated of the caller as it is:
//! it could not say that itself of somebody from another domain.
//!
//! A redirection that the caller's own node follows is no diversion: there it is a call like any other (RFC 8946 §7). Nor is it one
//! that a number becomes the user who has it.
//!
//! Nodes of earlier releases believe what one node says, and no chain. Where this node may speak for the caller itself it does so
//! towards them; else they are left out, and where nobody else is found, the redirection goes back to the caller's node, as it did
//! before. What came too far already goes back too.

use std::sync::Arc;
use std::time::Instant;

use meshtone_overlay::record::Kind;
use meshtone_sip::message::{Header, Message};
use meshtone_sip::proxy::Target;
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::PeerHost;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Exchange;
use super::search::Sought;
use super::sips;
use super::worker::{Input, Worker};
use crate::transport::{DIVERTING_VERSION, Proven, host_of, node_of};

/// Where a request came from that may be diverted here.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    host: PeerHost,
    proven: Arc<Proven>,
    caller: String,
    /// Who was called here.
    callee: String,
}

/// What was found for a diversion.
#[derive(Debug)]
pub(crate) struct Diverted {
    targets: Vec<Target>,
    /// Somebody is registered at a node that cannot be sent it.
    left_out: bool,
}

impl Worker {
    /// From here on, phones of `callee` may divert a request that came from the node `host`.
    pub(super) fn may_be_diverted(&mut self, id: RequestId, callee: String, host: &PeerHost, caller: Option<String>) {
        let proven = node_of(host).and_then(|node| self.exchange.transports.proven(node));
        let Some(((caller, proven), forwarded)) = caller.zip(proven).zip(self.forwarded.get_mut(&id)) else { return };
        forwarded.caller = Some(caller.clone());
        forwarded.origin = Some(Origin { host: host.clone(), proven, caller, callee });
    }

    /// Takes what was found for a diversion; `undecided` is the redirected branch, where that was not followed yet.
    pub(super) fn on_diverted(&mut self, id: RequestId, undecided: Option<usize>, found: Diverted) {
        let Some(forwarded) = self.forwarded.get_mut(&id) else { return };
        let Some(branch) = undecided else {
            self.forward_to(id, found.targets, false);
            return;
        };
        let targets = sips::permitted(forwarded.wants_sips, found.targets);
        if targets.is_empty() && found.left_out {
            forwarded.searches = forwarded.searches.saturating_sub(1);
            self.server.pass_on(Instant::now(), id, branch);
        } else {
            let targets = self.anchored(id, targets);
            self.server.follow(Instant::now(), id, branch, targets);
            self.forward_to(id, Vec::new(), false);
        }
    }
}

/// Looks for those to whom `request` was redirected, and for how their nodes can be sent it.
pub(super) async fn divert(
    exchange: Arc<Exchange>,
    origin: Origin,
    request: Message,
    searches: Vec<Sought>,
    (id, undecided): (RequestId, Option<usize>),
    answers: mpsc::Sender<Input>,
) {
    let mut versions = JoinSet::new();
    for mut sought in searches {
        // As it was stated, which is what others verify.
        sought.caller = Some(origin.caller.clone());
        let entries = match exchange.overlay.fetch(Kind::SipRegistration, &sought.address).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::debug!(%error, "overlay look-up");
                continue;
            }
        };
        for node in sought.nodes(&exchange, entries).await {
            let (overlay, sought) = (exchange.overlay.clone(), sought.clone());
            versions.spawn(async move { (overlay.version_of(node).await, host_of(node), sought) });
        }
    }
    let mut found = Diverted { targets: Vec::new(), left_out: false };
    while let Some(Ok((version, host, sought))) = versions.join_next().await {
        let (Ok(version), Some(host)) = (version, host) else { continue };
        match origin.target(&exchange, &request, &sought, host, version) {
            Some(target) => found.targets.push(target),
            None => found.left_out = true,
        }
    }
    let Origin { host, caller, callee, .. } = &origin;
    tracing::info!(%host, %caller, %callee, nodes = found.targets.len(), "a phone diverts a request");
    let _ = answers.send(Input::Diverted { id, branch: undecided, found }).await;
}

impl Origin {
    fn target(
        &self,
        exchange: &Exchange,
        request: &Message,
        sought: &Sought,
        host: PeerHost,
        version: u16,
    ) -> Option<Target> {
        let mut target = sought.target(host);
        if version >= DIVERTING_VERSION {
            let parties = (self.caller.as_str(), self.callee.as_str(), sought.uri.as_str());
            let from = (&self.host, &*self.proven);
            if let Some(words) = exchange.identities.diverted(request, parties, from, exchange.agreed_unix_s()) {
                target.extra.extend(words.into_iter().map(|word| (Header::Identity, word)));
                return Some(target);
            }
        }
        let domain = self.caller.rsplit_once('@').map(|(_, domain)| domain);
        // Signed by this node as it leaves, as any call of its users.
        domain.is_some_and(|domain| domain.eq_ignore_ascii_case(&exchange.domain)).then_some(target)
    }
}
