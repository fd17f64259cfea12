//! Requests from other nodes. They rang here because the overlay says that somebody is registered here, so only
//! the phones registered here are tried: a request never wanders on.

use meshtone_sip::message::{Header, Message, Method};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Flow, PeerHost};

use super::callee::Callee;
use super::contacts::Phones;
use super::identity::{self, asserted_address};
use super::worker::Worker;
use crate::transport::{Proven, node_of};

impl Worker {
    pub(super) fn on_peer_request(&mut self, id: RequestId, request: &Message, host: &PeerHost) {
        let Some(proven) = node_of(host).and_then(|node| self.exchange.transports.proven(node)) else {
            self.reject(id, 403, "That node has not said who it is");
            return;
        };
        let Some(caller) = self.proven_caller(request, &proven) else {
            self.reject(id, 403, "That node may not speak for the caller");
            return;
        };
        if let Err(refusal) = identity::verify(request, caller.as_deref(), host, &proven, self.exchange.agreed_unix_s())
        {
            tracing::warn!(%host, refusal.status, refusal.reason, "a request of another node was refused");
            self.reject(id, refusal.status, refusal.reason);
            return;
        }
        if self.forward_to_temporary(id, request, caller.as_deref(), true) {
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
    /// certificate says so, and the link proved the certificate.
    ///
    /// A home node of this very domain may also bring somebody of whom it asserts nothing, `Some(None)`: a caller from a
    /// plain SIP domain, whom its policy let in.
    fn proven_caller(&self, request: &Message, peer: &Proven) -> Option<Option<String>> {
        let speaks_for = |domain: &str| peer.domains.iter().any(|proven| proven.eq_ignore_ascii_case(domain));
        if request.header(Header::PAssertedIdentity).is_none() {
            return speaks_for(&self.exchange.domain).then_some(None);
        }
        let address = asserted_address(request)?;
        let (_, domain) = address.rsplit_once('@')?;
        speaks_for(domain).then_some(Some(address))
    }
}
