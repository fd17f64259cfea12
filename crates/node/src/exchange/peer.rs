//! Requests from other nodes. They rang here because the overlay says that somebody is registered here, so only
//! the phones registered here are tried: a request never wanders on.

use meshtone_identity::NodeId;
use meshtone_sip::message::{Header, Message, Method};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Flow, PeerHost};

use super::callee::Callee;
use super::contacts::Phones;
use super::identity::asserted_address;
use super::shown::ANONYMOUS;
use super::worker::{Input, Worker};
use crate::account::name::is_address;
use crate::member::Unknown;
use crate::transport::{Proven, node_of};

/// Whom a node asserts to make a request, and whether it may.
enum Asserted {
    /// It may; nothing may be asserted of a stranger.
    Proven(Option<String>),
    /// Whether it may is for a person with an address of her own to say, and has to be asked.
    Asking { caller: String, node: NodeId },
    /// It may not.
    Refused,
}

impl Worker {
    pub(super) fn on_peer_request(&mut self, id: RequestId, request: &Message, host: &PeerHost) {
        let Some(proven) = node_of(host).and_then(|node| self.exchange.transports.proven(node)) else {
            self.reject(id, 403, "That node has not said who it is");
            return;
        };
        match self.proven_caller(request, &proven, host) {
            Asserted::Proven(caller) => self.on_request_of(id, request, host, &proven, caller),
            Asserted::Refused => self.reject(id, 403, "That node may not speak for the caller"),
            Asserted::Asking { caller, node } => self.ask_for_caller(id, request, host, caller, node),
        }
    }

    /// Asks the overlay whether a person lets the node speak for her.
    fn ask_for_caller(&mut self, id: RequestId, request: &Message, host: &PeerHost, caller: String, node: NodeId) {
        let (members, answers) = (self.exchange.members.clone(), self.answers.clone());
        let (request, host) = (request.clone(), host.clone());
        tokio::spawn(async move {
            let speaks = match members.standing(&caller).await {
                Ok(Some(standing)) => Ok(standing.names(&node)),
                Ok(None) => Ok(false),
                Err(unknown) => Err(unknown),
            };
            let _ = answers.send(Input::Vouched { id, request, host, caller, speaks }).await;
        });
    }

    /// Takes what a caller with an address of her own says of the node that brought her request.
    pub(super) fn on_vouched(
        &mut self,
        id: RequestId,
        request: &Message,
        host: &PeerHost,
        caller: String,
        speaks: Result<bool, Unknown>,
    ) {
        let proven = node_of(host).and_then(|node| self.exchange.transports.proven(node));
        match (speaks, proven) {
            (Ok(true), Some(proven)) => self.on_request_of(id, request, host, &proven, Some(caller)),
            (Ok(_), _) => {
                tracing::warn!(%host, %caller, "a node spoke for a person who does not let it");
                self.reject(id, 403, "That node may not speak for the caller");
            }
            // Not 403: it may well be true.
            (Err(Unknown), _) => self.reject(id, 480, "Who calls cannot be verified now"),
        }
    }

    /// A request whose caller the node may speak for.
    fn on_request_of(
        &mut self,
        id: RequestId,
        request: &Message,
        host: &PeerHost,
        proven: &Proven,
        caller: Option<String>,
    ) {
        let (exchange, now_s) = (&self.exchange, self.exchange.agreed_unix_s());
        if let Err(refusal) = exchange.identities.verify(request, caller.as_deref(), host, proven, now_s) {
            tracing::warn!(%host, refusal.status, refusal.reason, "a request of another node was refused");
            self.reject(id, refusal.status, refusal.reason);
            return;
        }
        if self.forward_to_temporary(id, request, caller.as_deref(), true) {
            return;
        }
        if self.refuses_anonymous(id, request) {
            return;
        }
        match self.callee(request) {
            Callee::User { address } => {
                let Phones { targets, spare } = self.local_phones(&address, caller.as_deref(), request);
                self.begin_forwarding(id, request, targets, false);
                self.keep_spare(id, spare);
            }
            Callee::Nobody { .. } if self.dial_out_for(id, request, host, caller.as_deref()) => {}
            Callee::Node if request.method() == Method::Options => self.answer_options(id, request),
            Callee::Node | Callee::Echo | Callee::Nobody { .. } => self.reject(id, 404, "No such user here"),
            Callee::Elsewhere { .. } => self.reject(id, 404, "That domain is not served here"),
            Callee::BadScheme => self.reject(id, 416, "Unsupported URI Scheme"),
            Callee::BadUri => self.reject(id, 400, "Bad Request-URI"),
        }
    }

    /// Calls out for a user of the domain who is registered at another home node of it.
    fn dial_out_for(&mut self, id: RequestId, request: &Message, host: &PeerHost, caller: Option<&str>) -> bool {
        let flow = Flow::Peer { host: host.clone() };
        caller.is_some_and(|caller| self.is_own_user(caller) && self.dial_out(id, request, &flow, caller))
    }

    /// The caller whom the node at the other end of the link asserts, if that node is a home node of his domain: its
    /// certificate says so, and the link proved the certificate; or if she has an address of her own and lets it speak for her.
    ///
    /// A home node of this very domain may also bring somebody of whom it asserts nothing: a caller from a plain SIP domain,
    /// whom its policy let in.
    fn proven_caller(&self, request: &Message, peer: &Proven, host: &PeerHost) -> Asserted {
        let speaks_for = |domain: &str| peer.domains.iter().any(|proven| proven.eq_ignore_ascii_case(domain));
        if request.header(Header::PAssertedIdentity).is_none() {
            return if speaks_for(&self.exchange.domain) { Asserted::Proven(None) } else { Asserted::Refused };
        }
        let address = asserted_address(request);
        let Some((address, node)) = address.zip(node_of(host)) else { return Asserted::Refused };
        if address == ANONYMOUS {
            // Its node is certified in this overlay, and signs that somebody calls by it who is.
            return Asserted::Proven(Some(address));
        }
        match address.rsplit_once('@') {
            Some((_, domain)) if speaks_for(domain) => Asserted::Proven(Some(address)),
            Some(_) if is_address(&address) => match self.exchange.members.known(&address) {
                Some(Some(standing)) if standing.names(&node) => Asserted::Proven(Some(address)),
                Some(_) => Asserted::Refused,
                None => Asserted::Asking { caller: address, node },
            },
            Some(_) | None => Asserted::Refused,
        }
    }
}
