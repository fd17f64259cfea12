//! Requests from phones: everything a phone asks is authenticated, then routed by whom it means.

use std::time::{Duration, Instant};

use meshtone_identity::NodeId;
use meshtone_overlay::node::{Entry, Overlay};
use meshtone_overlay::record::Kind;
use meshtone_sip::message::{Builder, Header, Message, Method};
use meshtone_sip::proxy::Target;
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Destination, Flow, Locals};
use tokio::sync::mpsc;

use super::Authenticated;
use super::callee::{Callee, callee};
use super::contacts::{Phones, peer_uri};
use super::reg_event;
use super::worker::{Input, Worker};
use crate::transport::{LocalView, host_of};

/// A node that says nothing at all within this is passed over for the next; a live one answers 100 at once.
pub(super) const PEER_ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What is this node's to read or to say, never to pass on from a phone: its credentials, and who it claims to be
/// (RFC 3261 §22.3, RFC 3325 §5).
pub(super) const OWN_HEADERS: &[Header] =
    &[Header::ProxyAuthorization, Header::PAssertedIdentity, Header::PPreferredIdentity];

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
        if !request.from().is_ok_and(|from| self.is_own_address(from.uri, &user)) {
            self.reject(id, 403, "From is not the address of these credentials");
            return None;
        }
        Some(self.exchange.address_of(&user))
    }

    /// Whether a phone that talks to this node itself and speaks from another address than before has proved to be of the same
    /// user, `peer`. If not it was challenged, or told that nothing is known of its call.
    pub(super) fn has_moved(&mut self, id: RequestId, peer: &str, request: &Message, flow: &Flow) -> bool {
        if self.is_served(peer) {
            let Some(caller) = self.authenticate_caller(id, request, flow) else { return false };
            let user = caller.split('@').next().unwrap_or_default();
            if self.is_own_address(peer, user) {
                return true;
            }
        }
        self.reject(id, 481, "");
        false
    }

    /// Rings the phones registered here at once, and asks the overlay for those registered elsewhere.
    fn forward_to_user(&mut self, id: RequestId, request: &Message, caller: &str, address: String) {
        let Phones { targets, spare } = self.local_phones(&address, Some(caller), request);
        if !targets.is_empty() && self.wants_one_phone(request) {
            self.begin_forwarding(id, request, targets, false);
        } else {
            self.locate_elsewhere(id, request, Some(caller.to_owned()), address, targets);
        }
        self.keep_spare(id, spare);
    }

    /// Starts a look-up in the overlay whose finds follow as [`Input::Located`]; where nobody else is there, nothing is to be found.
    pub(super) fn locate_elsewhere(
        &mut self,
        id: RequestId,
        request: &Message,
        caller: Option<String>,
        address: String,
        targets: Vec<Target>,
    ) {
        let is_alone = self.exchange.overlay.is_alone();
        self.begin_forwarding(id, request, targets, !is_alone);
        if let Some(forwarded) = self.forwarded.get_mut(&id) {
            forwarded.caller = caller.clone();
        }
        if is_alone {
            return;
        }
        let uri = peer_uri(&address, request);
        let search = locate(self.exchange.overlay.clone(), address, uri, caller, id, self.answers.clone());
        tokio::spawn(search);
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
    caller.map(|caller| (Header::PAssertedIdentity, format!("<sip:{caller}>"))).into_iter().collect()
}

/// Looks `address` up: what the first replica says is acted on at once, what the others add follows.
pub(super) async fn locate(
    overlay: Overlay,
    address: String,
    uri: String,
    caller: Option<String>,
    id: RequestId,
    answers: mpsc::Sender<Input>,
) {
    let mut known = vec![overlay.node_id()];
    if let Ok(entries) = overlay.fetch_first(Kind::SipRegistration, &address).await {
        let targets = to_peer_targets(entries, &uri, caller.as_deref(), &mut known);
        if !targets.is_empty() {
            let _ = answers.send(Input::Located { id, targets, searching: true }).await;
        }
    }
    locate_rest(overlay, Sought { address, uri, caller, known }, id, answers).await;
}

/// Whom a search is for.
pub(super) struct Sought {
    pub(super) address: String,
    /// The Request-URI at the nodes that know him.
    pub(super) uri: String,
    /// The caller, if he is proven.
    pub(super) caller: Option<String>,
    /// The nodes that need not be found any more.
    pub(super) known: Vec<NodeId>,
}

/// Reads on to further replicas, for nodes that are not known yet, and ends the search.
pub(super) async fn locate_rest(overlay: Overlay, sought: Sought, id: RequestId, answers: mpsc::Sender<Input>) {
    let Sought { address, uri, caller, mut known } = sought;
    let targets = match overlay.fetch(Kind::SipRegistration, &address).await {
        Ok(entries) => to_peer_targets(entries, &uri, caller.as_deref(), &mut known),
        Err(error) => {
            tracing::debug!(%error, "overlay look-up");
            Vec::new()
        }
    };
    let _ = answers.send(Input::Located { id, targets, searching: false }).await;
}

/// One target a node that says the address is registered there, but for those `known` already.
pub(super) fn to_peer_targets(
    entries: Vec<Entry>,
    uri: &str,
    caller: Option<&str>,
    known: &mut Vec<NodeId>,
) -> Vec<Target> {
    let mut targets = Vec::new();
    for entry in entries {
        if known.contains(&entry.writer) {
            continue;
        }
        known.push(entry.writer);
        let Some(host) = host_of(entry.writer) else { continue };
        targets.push(Target {
            remove: OWN_HEADERS.to_vec(),
            extra: asserted(caller),
            answer_within: Some(PEER_ANSWERS_WITHIN),
            ..Target::new(uri, Destination::Peer(host))
        });
    }
    targets
}
