//! Calls in: a provider calls the Contact that we registered, and a rule says whom the number means. His phones are rung as for any
//! call, by a call of the node's own to itself.

use std::time::Instant;

use meshtone_sip::agent::{Body, OutgoingCall, OutgoingRequest};
use meshtone_sip::message::{Header, Message, Method, NameAddr, Uri};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Destination, Flow};

use super::TrunkState;
use super::digits::is_number;
use super::outbound::{TrunkCall, shown};
use super::plan::Candidate;
use crate::exchange::attestation::Origination;
use crate::exchange::bridge::NearCall;
use crate::exchange::callee::Callee;
use crate::exchange::contacts::Phones;
use crate::exchange::identity::asserted_address;
use crate::exchange::shown::{ANONYMOUS_FROM, is_private};
use crate::exchange::sips;
use crate::exchange::watch::From;
use crate::exchange::worker::Worker;

/// Whom a provider called, where the Request-URI is our Contact (RFC 7315 §4.2).
const CALLED_PARTY: &str = "P-Called-Party-ID";

impl Worker {
    /// Takes what comes in by a trunk; false if it is a stranger's.
    pub(in crate::exchange) fn on_trunk_request(&mut self, id: RequestId, request: &Message, flow: &Flow) -> bool {
        let exchange = self.exchange.clone();
        let Some(source) = flow.remote().map(|remote| remote.ip()) else { return false };
        let Some(trunk) = exchange.trunks.of_request(request, source).and_then(|index| exchange.trunks.get(index))
        else {
            return false;
        };
        let method = request.method();
        if method == Method::Invite {
            self.call_in(id, request, flow, trunk);
        } else if method == Method::Options {
            self.answer_options(id, request);
        } else if method == Method::Message && trunk.settings.messages {
            self.send_text_in(id, request, trunk);
        } else {
            self.reject_with(id, 405, "Method Not Allowed", &[(Header::Allow, "INVITE, OPTIONS".to_owned())]);
        }
        true
    }

    fn call_in(&mut self, id: RequestId, request: &Message, flow: &Flow, trunk: &TrunkState) {
        let settings = &trunk.settings;
        let Some(callee) = called(request, trunk).map(str::to_owned) else {
            self.reject(id, 404, "No such number here");
            return;
        };
        let Ok(line) = trunk.lines.take(None, settings.max_calls, settings.max_calls_per_user) else {
            tracing::warn!(trunk = %settings.name, "a call in was refused: all lines are in use");
            self.reject(id, 486, "All lines are in use");
            return;
        };
        tracing::info!(trunk = %settings.name, %callee, "a call in");
        let is_secure = sips::is_sips(request.request_uri());
        let contact = self.own_contact(&trunk.contact_user, flow, is_secure);
        let call =
            NearCall { id, invite: request.clone(), contact, messages: settings.messages, media: None, tag: None };
        let bridge = self.trunks.bridges.begin(call);
        self.trunks.calls.insert(bridge, TrunkCall { shown: None, line: Some(line), out: None, carried: None });

        let scheme = if is_secure { "sips" } else { "sip" };
        let uri = format!("{scheme}:{}", self.exchange.address_of(&callee));
        let (from, mut headers) = self.caller_of(request, trunk);
        headers.extend(self.origin_of(trunk, &headers).fields());
        let host = &self.exchange.own_host;
        let contact = format!("sip:trunk@{host};transport=peer");
        let mut order = OutgoingCall::new(&uri, Destination::Peer(host.clone()), &from, &format!("<{uri}>"), &contact);
        let call_id = self.own_call_id();
        self.exchange.watches.begin(self.index, self.now.unix_ms, request, From::Flow(flow), None);
        self.exchange.watches.belongs(self.index, request.call_id(), &call_id);
        order.call_id = Some(call_id);
        order.headers = headers;
        self.trunks.bridges.call(&mut self.server, Instant::now(), bridge, order, Some(settings.max_duration));
        self.on_bridge_events();
    }

    /// A call of the node's own, or a text: rings the user's phones, wherever they are registered.
    pub(in crate::exchange) fn on_own_request(&mut self, id: RequestId, request: &Message) {
        if self.begin_anchored(id, request) {
            return;
        }
        let Callee::User { address } = self.callee(request) else {
            self.reject(id, 404, "No such user here");
            return;
        };
        let caller = asserted_address(request);
        if !self.may_ring_for(id, request, &address, caller.as_deref(), true) {
            return;
        }
        let Phones { targets, spare } = self.local_phones(&address, caller.as_deref(), request);
        let origin = Origination::read(request);
        self.locate_elsewhere(id, request, caller, address, targets, origin);
        self.keep_spare(id, spare);
    }

    /// How well the caller is known whom a provider brings: not at all, or as it says where it is believed.
    fn origin_of(&self, trunk: &TrunkState, headers: &[(Header, String)]) -> Origination {
        let is_asserted = headers.iter().any(|(header, _)| *header == Header::PAssertedIdentity);
        self.exchange.originations.of_trunk(&trunk.settings.name, is_asserted)
    }

    /// From, and P-Asserted-Identity where the provider is believed: a number that may be called back from here, but never one that
    /// passes for a user's.
    fn caller_of(&self, request: &Message, trunk: &TrunkState) -> (String, Vec<(Header, String)>) {
        let asserted = request.header(Header::PAssertedIdentity).filter(|_| trunk.settings.trust_identity);
        let asserted = asserted.and_then(|value| NameAddr::parse(value).ok()).filter(|_| !is_private(request));
        let from = request.from().ok();
        let Some(shown) = asserted.or(from) else { return (ANONYMOUS_FROM.to_owned(), Vec::new()) };
        let user = Uri::parse(shown.uri).ok().and_then(|uri| Some(uri.user_unescaped()?.into_owned()));
        let user = user.or_else(|| shown.uri.strip_prefix("tel:").map(str::to_owned)).unwrap_or_default();
        let user = user.split(';').next().unwrap_or_default();
        if !is_number(user) {
            return (ANONYMOUS_FROM.to_owned(), Vec::new());
        }
        let display = shown.display.filter(|name| !name.contains(['"', '\\']) && !name.chars().any(char::is_control));
        let display = display.map(|name| format!("\"{name}\" ")).unwrap_or_default();
        if self.exchange.accounts.find(user).is_some() {
            return (format!("{display}<sip:{user}@{}>", trunk.settings.host()), Vec::new());
        }
        let address = format!("sip:{user}@{}", self.exchange.domain);
        let headers = asserted.map(|_| (Header::PAssertedIdentity, format!("<{address}>")));
        (format!("{display}<{address}>"), headers.into_iter().collect())
    }

    /// Sends a text out; what becomes of it is told to its sender.
    pub(super) fn send_text_out(&mut self, id: RequestId, request: &Message, user: &str, candidates: &[Candidate]) {
        let exchange = self.exchange.clone();
        let usable = candidates.iter().find_map(|candidate| {
            let trunk = exchange.trunks.get(candidate.trunk).filter(|trunk| trunk.settings.messages)?;
            Some((candidate, trunk))
        });
        let Some((candidate, trunk)) = usable else {
            self.reject(id, 405, "No texts over this trunk");
            return;
        };
        let server = trunk.last_server();
        let Some(destination) = server.and_then(|server| self.way_to(server)) else {
            self.reject(id, 480, "The provider cannot be reached");
            return;
        };
        let settings = &trunk.settings;
        let to = format!("<{}>", settings.address_of(&candidate.number));
        let (from, headers) = shown(settings, user, is_private(request));
        let mut order = OutgoingRequest::new("MESSAGE", &settings.uri_of(&candidate.number), destination, &from, &to);
        (order.headers, order.credentials) = (headers, trunk.credentials());
        self.pass_text(id, request, order);
    }

    fn send_text_in(&mut self, id: RequestId, request: &Message, trunk: &TrunkState) {
        let Some(callee) = called(request, trunk) else {
            self.reject(id, 404, "No such number here");
            return;
        };
        let uri = format!("sip:{}", self.exchange.address_of(callee));
        let (from, mut headers) = self.caller_of(request, trunk);
        headers.extend(self.origin_of(trunk, &headers).fields());
        let destination = Destination::Peer(self.exchange.own_host.clone());
        let mut order = OutgoingRequest::new("MESSAGE", &uri, destination, &from, &format!("<{uri}>"));
        order.headers = headers;
        self.pass_text(id, request, order);
    }

    fn pass_text(&mut self, id: RequestId, request: &Message, mut order: OutgoingRequest) {
        let kind = request.header(Header::ContentType).unwrap_or("text/plain");
        order.body = Some(Body::new(kind, request.body()));
        order.call_id = Some(self.own_call_id());
        let sent = self.server.send_request(Instant::now(), order);
        self.trunks.bridges.pass(sent, id);
    }
}

/// The user whom a provider calls: by the first number that a rule names, else the default.
fn called<'a>(request: &Message, trunk: &'a TrunkState) -> Option<&'a str> {
    let party = request.header_named(CALLED_PARTY).and_then(|value| NameAddr::parse(value).ok());
    let to = request.to().ok();
    let uris = [party.map(|party| party.uri), Some(request.request_uri()), to.map(|to| to.uri)];
    let users = uris.into_iter().flatten().filter_map(|uri| {
        let user = match Uri::parse(uri).ok()?.user_unescaped() {
            Some(user) => user.into_owned(),
            None => uri.strip_prefix("tel:")?.to_owned(),
        };
        Some(user.split(';').next()?.to_owned())
    });
    trunk.settings.callee(users)
}
