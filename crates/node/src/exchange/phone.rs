//! Requests from phones: everything a phone asks is authenticated, then routed by whom it means.

use std::time::{Duration, Instant};

use meshtone_sip::message::{Builder, Header, Message, Method};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Flow, Locals};

use super::Authenticated;
use super::callee::{Callee, callee};
use super::contacts::Phones;
use super::reg_event;
use super::shown::{is_anonymous, is_private, wants_what_is_not_there};
use super::worker::Worker;
use crate::transport::LocalView;

/// A node that says nothing at all within this is passed over for the next; a live one answers 100 at once.
pub(super) const PEER_ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What is this node's to read or to say, never to pass on from a phone: its credentials, who it claims to be, and how well that is
/// known (RFC 3261 §22.3, RFC 3325 §5, 3GPP TS 24.229 §5.7.1.25).
pub(super) const OWN_HEADERS: &[Header] = &[
    Header::ProxyAuthorization,
    Header::PAssertedIdentity,
    Header::PPreferredIdentity,
    Header::AttestationInfo,
    Header::OriginationId,
];

/// As [`OWN_HEADERS`], within the overlay: nodes sign for who is called, and verify for who is rung (RFC 8224 §6).
pub(super) const OWN_HEADERS_WITHIN: &[Header] = &[
    Header::ProxyAuthorization,
    Header::PAssertedIdentity,
    Header::PPreferredIdentity,
    Header::AttestationInfo,
    Header::OriginationId,
    Header::Identity,
];

/// What the node itself understands, for OPTIONS and 405 (RFC 3261 §11.2).
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, MESSAGE, UPDATE, PRACK, INFO, \
                                SUBSCRIBE, NOTIFY, REFER, PUBLISH";

impl Worker {
    pub(super) fn on_phone_request(&mut self, id: RequestId, request: &Message, flow: &Flow) {
        if request.method() == Method::Register {
            self.on_register(id, request, flow);
            return;
        }
        if self.on_trunk_request(id, request, flow) {
            return;
        }
        let callee = self.callee(request);
        // A phone or a neighbour's probe asks whether anybody is there: the same answer for everybody.
        if callee == Callee::Node && request.method() == Method::Options {
            self.answer_options(id, request);
            return;
        }
        if self.admit_stranger(id, request, flow, &callee) {
            return;
        }
        let Some(caller) = self.authenticate_caller(id, request, flow) else { return };
        if self.on_report(id, request, &caller) {
            return;
        }
        self.note_call_of(request, flow, &caller, &callee);
        if self.is_emergency(id, request, flow, &caller) || self.forward_to_temporary(id, request, Some(&caller), false)
        {
            return;
        }
        match callee {
            Callee::Echo if request.method() == Method::Invite => self.on_echo_invite(id, request, flow),
            Callee::Echo if request.method() == Method::Options => self.answer_options(id, request),
            Callee::Node | Callee::Echo => {
                self.reject_with(id, 405, "Method Not Allowed", &[(Header::Allow, ALLOW.to_owned())]);
            }
            Callee::User { address } if reg_event::is_wanted(request) => {
                self.on_reg_subscribe(id, request, flow, &caller, address);
            }
            Callee::User { address } => self.forward_to_user(id, request, &caller, address),
            Callee::Elsewhere { address } => self.call_elsewhere(id, request, &caller, address),
            Callee::Nobody { .. } if self.dial_out(id, request, flow, &caller) => {}
            Callee::Nobody { .. } if self.dial_out_elsewhere(id, request, &caller) => {}
            Callee::Nobody { .. } => self.reject(id, 404, "No such user here"),
            Callee::BadScheme => self.reject(id, 416, "Unsupported URI Scheme"),
            Callee::BadUri => self.reject(id, 400, "Bad Request-URI"),
        }
    }

    /// A request whose Route names a host that is not this node: refused, but not before it is known who asks.
    pub(super) fn on_foreign_route(&mut self, id: RequestId, request: &Message, flow: &Flow) {
        match flow {
            Flow::Peer { .. } => self.reject(id, 403, "This node relays to no other host"),
            Flow::Udp { .. } | Flow::Stream { .. } => {
                if request.method() == Method::Register {
                    self.on_register(id, request, flow);
                } else if self.authenticate_caller(id, request, flow).is_some() {
                    self.reject(id, 403, "This node relays to no other host");
                }
            }
        }
    }

    pub(super) fn callee(&self, request: &Message) -> Callee {
        let locals = LocalView(self.exchange.transports.clone());
        callee(
            request.request_uri(),
            &self.exchange.domain,
            |host, port| locals.is_local(host, port),
            |name| self.exchange.user(name),
        )
    }

    /// The authenticated caller's address, or `None` once a challenge or refusal is on its way.
    pub(super) fn authenticate_caller(&mut self, id: RequestId, request: &Message, flow: &Flow) -> Option<String> {
        let user =
            match self.exchange.authenticate(request, flow, Header::ProxyAuthorization, Header::ProxyAuthenticate) {
                Authenticated::As(user) => user,
                Authenticated::No { challenges } => {
                    self.challenge(id, 407, "Proxy Authentication Required", &challenges);
                    return None;
                }
            };
        if !request.from().is_ok_and(|from| is_anonymous(from.uri) || self.is_own_address(from.uri, &user)) {
            self.reject(id, 403, "From is not the address of these credentials");
            return None;
        }
        if wants_what_is_not_there(request) {
            self.reject(id, 500, "Privacy Not Available");
            return None;
        }
        if !self.exchange.may_serve(&user) {
            self.reject(id, 403, "This node may not speak for that address");
            return None;
        }
        Some(self.exchange.address_of(&user))
    }

    /// Whether a phone that talks to this node itself and speaks from another address than before has proved to be of the same
    /// user, `peer`. If not it was challenged, or told that nothing is known of its call.
    pub(super) fn has_moved(&mut self, id: RequestId, peer: &str, request: &Message, flow: &Flow) -> bool {
        if self.is_served(peer) || self.account_at(peer).is_some() {
            let Some(caller) = self.authenticate_caller(id, request, flow) else { return false };
            if self.is_own_address(peer, self.exchange.account_of(&caller)) {
                return true;
            }
        }
        self.reject(id, 481, "");
        false
    }

    /// Rings the phones registered here at once, and asks the overlay for those registered elsewhere.
    fn forward_to_user(&mut self, id: RequestId, request: &Message, caller: &str, address: String) {
        if self.refuses_anonymous(id, request) || !self.may_ring(id, request, &address, Some(caller)) {
            return;
        }
        let Phones { targets, spare } = self.local_phones(&address, Some(caller), request);
        if !targets.is_empty() && self.wants_one_phone(request) {
            self.begin_forwarding(id, request, targets, false);
        } else {
            self.locate_elsewhere(id, request, Some(caller.to_owned()), address, targets, None);
        }
        self.keep_spare(id, spare);
    }

    /// Turns away who does not want to be shown, where that is the policy (RFC 5079).
    pub(super) fn refuses_anonymous(&mut self, id: RequestId, request: &Message) -> bool {
        let is_refused = self.exchange.callers.refuse_anonymous && is_private(request);
        if is_refused {
            self.reject(id, 433, "Anonymity Disallowed");
        }
        is_refused
    }

    pub(super) fn answer_options(&mut self, id: RequestId, request: &Message) {
        let response = Builder::response(request, 200, "OK")
            .header(Header::Allow, ALLOW)
            .header(Header::Accept, "application/sdp")
            .finish();
        self.server.respond(Instant::now(), id, response);
    }
}

/// Who the caller is, where that is proven (RFC 3325 §9.1).
pub(super) fn asserted(caller: Option<&str>) -> Vec<(Header, String)> {
    caller.map(|caller| (Header::PAssertedIdentity, ["<sip:", caller, ">"].concat())).into_iter().collect()
}
