//! Calls to and from plain SIP domains: users of the overlay are looked for there first, everybody else by DNS (RFC 3263).
//!
//! Whoever calls out has authenticated; who calls in from outside proves nothing, so nothing is asserted of him
//! (RFC 3325 §5): phones show such a caller as what he says he is, unless his domain signs who he is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshtone_identity::foreign;
use meshtone_overlay::record::Kind;
use meshtone_sip::message::{Header, Message, Method, Uri};
use meshtone_sip::proxy::Target;
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Destination, Flow};
use tokio::sync::mpsc;

use super::Exchange;
use super::allowance::Allowance;
use super::attestation;
use super::callee::Callee;
use super::contacts::Phones;
use super::identity::Refusal;
use super::identity::abroad::Abroad;
use super::phone::OWN_HEADERS;
use super::policy::Admission;
use super::race::{Found, race};
use super::search::{Sought, locate_all};
use super::worker::{Input, Worker};
use crate::clock::unix_ms;
use crate::location::dns::{Host, LocateError, Server, Wanted};
use crate::transport::policy::may_send;

/// How long the overlay alone is listened to; a look-up takes far less unless nodes have just died.
const OVERLAY_FIRST: Duration = Duration::from_millis(500);
/// An INVITE that a server says nothing about within this goes to the next server of its domain; a live one answers 100
/// at once.
const SERVER_ANSWERS_WITHIN: Duration = Duration::from_secs(4);

/// The servers that a request may go to, one after the other (RFC 3263 §4.3).
#[derive(Debug)]
pub(crate) struct Ways {
    request_uri: String,
    is_invite: bool,
    /// What is signed of the caller.
    signed: Vec<(Header, String)>,
    left: VecDeque<Server>,
    trying: Option<Server>,
}

/// What the DNS says of a request from outside.
#[derive(Debug)]
pub(crate) struct Checked {
    address: String,
    is_from_there: bool,
}

/// What became of a search by name.
#[derive(Debug)]
pub(crate) enum ByName {
    /// These servers, best first.
    Servers(Vec<Server>),
    /// There are none.
    Failed(LocateError),
    /// There are, but nothing is sent to such addresses.
    Forbidden,
}

impl Worker {
    /// Calls somebody at a domain that is not served here.
    pub(super) fn call_elsewhere(&mut self, id: RequestId, request: &Message, caller: &str, address: String) {
        let Ok(wanted) = Wanted::read(request.request_uri()) else {
            self.reject(id, 480, "No way to that address");
            return;
        };
        let outbound = &self.exchange.outside.outbound;
        let host = Uri::parse(request.request_uri()).map_or("", |uri| uri.host);
        // `maddr` must not lead around the list.
        let is_callable = outbound.permits(host) && outbound.permits(&wanted.host.text());
        let Ok(allowance) = self.outside_allowance(id, request, caller) else { return };
        self.begin_forwarding(id, request, Vec::new(), true);
        let sought = Sought::of(address, Some(caller), request);
        if let Some(forwarded) = self.forwarded.get_mut(&id) {
            forwarded.allowance = allowance;
            forwarded.sought.push(sought.clone());
        }
        let call = ElsewhereCall { wanted, is_callable, sought };
        tokio::spawn(search(self.exchange.clone(), call, request.clone(), id, self.answers.clone()));
    }

    /// Sends a request to a SIP URI of the configuration's, whose addresses nobody doubts.
    pub(super) fn call_configured(&mut self, id: RequestId, request: &Message, uri: &str) {
        self.begin_forwarding(id, request, Vec::new(), true);
        let (exchange, answers) = (self.exchange.clone(), self.answers.clone());
        let (uri, request) = (uri.to_owned(), request.clone());
        tokio::spawn(async move {
            let by_name = match Wanted::read(&uri) {
                Ok(wanted) => by_name(&exchange, &wanted, true).await,
                Err(error) => ByName::Failed(error),
            };
            let _ = answers.send(Input::ByName { id, request, request_uri: uri, by_name }).await;
        });
    }

    /// Takes what the search by name has found.
    pub(super) fn on_by_name(&mut self, id: RequestId, request: &Message, request_uri: String, by_name: ByName) {
        let Some(forwarded) = self.forwarded.get_mut(&id) else { return };
        match by_name {
            ByName::Servers(servers) => {
                let is_invite = request.method() == Method::Invite;
                let signed = self.exchange.signed_abroad(request, &request_uri);
                forwarded.ways = Some(Ways { request_uri, is_invite, signed, left: servers.into(), trying: None });
                forwarded.searches = 0;
                self.try_next_way(id);
            }
            ByName::Failed(error) => {
                tracing::debug!(%error, "nobody found by name");
                self.forward_to(id, Vec::new(), false);
            }
            ByName::Forbidden => {
                self.reject(id, 403, "Nothing is sent to such an address");
                self.forget(id, 403);
            }
        }
    }

    /// A server failed with this status: goes on to the next one, if that is what the status asks for (RFC 3263 §4.3).
    pub(super) fn on_way_failed(&mut self, id: RequestId, status: u16) -> bool {
        let Some(ways) = self.forwarded.get_mut(&id).and_then(|forwarded| forwarded.ways.as_mut()) else {
            return false;
        };
        let Some(server) = ways.trying.take() else { return false };
        if !matches!(status, 408 | 503) {
            self.exchange.dns.answered(server);
            return false;
        }
        self.exchange.dns.failed(server);
        self.try_next_way(id)
    }

    /// A request is over: a server that gave the last word is alive.
    pub(super) fn on_way_ended(&mut self, ways: Option<Ways>, status: u16) {
        if let Some(server) = ways.and_then(|ways| ways.trying).filter(|_| !matches!(status, 408 | 480 | 487 | 503)) {
            self.exchange.dns.answered(server);
        }
    }

    /// Calls whose end nobody told count no longer.
    pub(super) fn forget_lost_calls(&mut self) {
        self.counted.forget_lost(unix_ms());
    }

    fn try_next_way(&mut self, id: RequestId) -> bool {
        let Some(forwarded) = self.forwarded.get_mut(&id) else { return false };
        let Some(ways) = forwarded.ways.as_mut() else { return false };
        let (server, listener) = loop {
            let Some(server) = ways.left.pop_front() else { return false };
            if let Some(listener) = self.exchange.transports.listener_facing(server.address.ip()) {
                break (server, listener);
            }
        };
        ways.trying = Some(server);
        let is_last = ways.left.is_empty();
        let destination = Destination::Address { transport: server.transport, addr: server.address, listener };
        let signed = ways.signed.clone();
        let target = Target {
            remove: OWN_HEADERS.iter().copied().chain(signed.iter().map(|(header, _)| *header)).collect(),
            extra: signed,
            answer_within: (ways.is_invite && !is_last).then_some(SERVER_ANSWERS_WITHIN),
            ..Target::new(ways.request_uri.clone(), destination)
        };
        forwarded.tried = true;
        forwarded.exhausted = None;
        let targets = self.anchored(id, vec![target]);
        self.server.forward(Instant::now(), id, targets, true);
        true
    }

    /// One more call of this account outside, or a refusal on its way. Only INVITE makes calls.
    pub(super) fn outside_allowance(
        &mut self,
        id: RequestId,
        request: &Message,
        caller: &str,
    ) -> Result<Option<Allowance>, ()> {
        if request.method() != Method::Invite {
            return Ok(None);
        }
        let most = self.exchange.outside.max_calls_per_user;
        match self.exchange.allowances.take(unix_ms(), caller, most) {
            Some(allowance) => Ok(Some(allowance)),
            None => {
                tracing::warn!(%caller, most, "a further call outside was refused: is the password stolen?");
                self.reject(id, 403, "Too many calls of this account at once");
                Err(())
            }
        }
    }

    /// Lets a request from outside in, if the policy is to; false when it is like any stranger's.
    ///
    /// Only calls and messages to users here: nobody relays through this node. Whether such a user exists makes no
    /// difference to the path that the request takes.
    pub(super) fn admit_stranger(&mut self, id: RequestId, request: &Message, flow: &Flow, callee: &Callee) -> bool {
        let (Callee::User { address } | Callee::Nobody { address }) = callee else { return false };
        let is_welcome_method = matches!(request.method(), Method::Invite | Method::Message);
        if !is_welcome_method {
            return false;
        }
        let Some(domain) = self.foreign_domain(request) else { return false };
        match self.exchange.outside.inbound.of(&domain) {
            Admission::Refused => false,
            Admission::Free => {
                self.meet_stranger(id, request, address.clone());
                true
            }
            Admission::Checked => self.check_stranger(id, request, flow, address.clone(), &domain),
        }
    }

    /// The domain that a caller says he is of, unless that is one of this node's.
    fn foreign_domain(&self, request: &Message) -> Option<String> {
        let from = request.from().ok()?;
        let uri = Uri::parse(from.uri).ok()?;
        let is_sip = uri.is_sip() || uri.is_sips();
        let is_ours = self.is_served(from.uri) || self.account_at(from.uri).is_some();
        (is_sip && !is_ours).then(|| uri.host.to_ascii_lowercase())
    }

    /// Asks the DNS whether the request may come from where it came from.
    fn check_stranger(&mut self, id: RequestId, request: &Message, flow: &Flow, address: String, domain: &str) -> bool {
        let Some(wanted) = Wanted::domain(domain) else { return false };
        let Some(source) = flow.remote().map(|remote| remote.ip().to_canonical()) else { return false };
        let (exchange, answers) = (self.exchange.clone(), self.answers.clone());
        let (request, flow) = (request.clone(), flow.clone());
        tokio::spawn(async move {
            let addresses = exchange.dns.addresses(&wanted).await.unwrap_or_default();
            let is_from_there = addresses.iter().any(|address| address.to_canonical() == source);
            let _ = answers.send(Input::Checked { id, request, flow, found: Checked { address, is_from_there } }).await;
        });
        true
    }

    /// Takes the DNS's word on where a request came from.
    pub(super) fn on_checked(&mut self, id: RequestId, request: &Message, flow: &Flow, found: Checked) {
        let Checked { address, is_from_there } = found;
        if is_from_there {
            self.meet_stranger(id, request, address);
        } else {
            // As any stranger is answered.
            let _ = self.authenticate_caller(id, request, flow);
        }
    }

    /// Finds out who a stranger is who is let in, where his domain signs it and somebody is listed who certifies its keys.
    fn meet_stranger(&mut self, id: RequestId, request: &Message, address: String) {
        let is_listed =
            |domain: &String| self.exchange.outside.callers.iter().any(|listed| listed.domains().contains(domain));
        let Some(abroad) = Abroad::of(request).filter(|abroad| is_listed(&abroad.domain)) else {
            self.ring_for_stranger(id, request, address, None);
            return;
        };
        let (exchange, answers, request) = (self.exchange.clone(), self.answers.clone(), request.clone());
        tokio::spawn(async move {
            let met = meet(&exchange, &abroad, &request, &address).await;
            let _ = answers.send(Input::Met { id, request, address, met }).await;
        });
    }

    /// Takes what was found out.
    pub(super) fn on_met(
        &mut self,
        id: RequestId,
        request: &Message,
        address: String,
        met: Result<Option<String>, Refusal>,
    ) {
        match met {
            Ok(caller) => self.ring_for_stranger(id, request, address, caller),
            Err(refusal) => {
                tracing::warn!(refusal.status, refusal.reason, "a request from another domain was refused");
                self.reject(id, refusal.status, refusal.reason);
            }
        }
    }

    /// Rings a user for somebody who proved nothing, or whose domain says who he is. Other nodes are not told: they could not verify it.
    fn ring_for_stranger(&mut self, id: RequestId, request: &Message, address: String, caller: Option<String>) {
        if !self.may_ring(id, request, &address, caller.as_deref()) {
            return;
        }
        let Phones { targets, spare } = self.local_phones(&address, caller.as_deref(), request);
        let origin = self.exchange.originations.of_strangers();
        self.locate_elsewhere(id, request, None, address, targets, Some(origin));
        self.keep_spare(id, spare);
    }
}

/// Verifies what another domain signed: who calls, or `None` where that cannot be found out.
async fn meet(
    exchange: &Exchange,
    abroad: &Abroad,
    request: &Message,
    callee: &str,
) -> Result<Option<String>, Refusal> {
    let Abroad { domain, place } = abroad;
    let chain = match exchange.certificates.of(place, domain).await {
        Ok(chain) => chain,
        Err(error) => {
            tracing::info!(%domain, %place, %error, "who calls is not verified: there is no certificate");
            return Ok(None);
        }
    };
    let now_s = exchange.agreed_unix_s();
    match foreign::domain_key(&exchange.outside.callers, domain, &chain, now_s) {
        Ok(key) => {
            let caller = exchange.identities.verify_abroad(request, callee, &key, now_s)?;
            tracing::info!(?caller, %domain, attestation = ?attestation::of(request), "another domain says who calls");
            Ok(caller)
        }
        Err(error) => {
            tracing::info!(%domain, %place, %error, "who calls is not verified: its certificate proves nothing");
            Ok(None)
        }
    }
}

/// Looks an address of another domain up, in the overlay and by name at the same time.
async fn search(
    exchange: Arc<Exchange>,
    call: ElsewhereCall,
    request: Message,
    id: RequestId,
    answers: mpsc::Sender<Input>,
) {
    let ElsewhereCall { wanted, is_callable, sought } = call;
    let naming = async {
        if is_callable { by_name(&exchange, &wanted, false).await } else { ByName::Failed(LocateError::NoServer) }
    };
    let in_overlay = async {
        let entries = match &wanted.host {
            Host::Name(_) => {
                exchange.overlay.fetch_first(Kind::SipRegistration, &sought.address).await.unwrap_or_default()
            }
            Host::Address(_) => Vec::new(),
        };
        let targets = sought.at_nodes(&exchange, entries).await;
        (!targets.is_empty()).then_some(targets)
    };
    match race(in_overlay, naming, tokio::time::sleep(OVERLAY_FIRST)).await {
        Found::InOverlay(targets) => {
            let _ = answers.send(Input::Located { id, targets, searching: true }).await;
            locate_all(&exchange, sought, id, answers).await;
        }
        Found::ByName(by_name) => {
            let request_uri = request.request_uri().to_owned();
            let _ = answers.send(Input::ByName { id, request, request_uri, by_name }).await;
        }
    }
}

/// A call to another domain.
struct ElsewhereCall {
    wanted: Wanted,
    /// The policy allows servers found by name.
    is_callable: bool,
    sought: Sought,
}

/// The servers found by name that something may be sent to. What the `configuration` names may be private.
async fn by_name(exchange: &Exchange, wanted: &Wanted, configuration: bool) -> ByName {
    match exchange.dns.locate(wanted).await {
        Ok(mut servers) => {
            let allow_private = configuration || exchange.outside.allow_private_destinations;
            servers.retain(|server| {
                may_send(server.address, None, allow_private)
                    && !exchange.transports.is_own(server.address.ip(), Some(server.address.port()))
            });
            if servers.is_empty() { ByName::Forbidden } else { ByName::Servers(servers) }
        }
        Err(error) => ByName::Failed(error),
    }
}
