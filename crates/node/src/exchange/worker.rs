//! A worker: what drives one SIP engine. Everything of one call happens in one worker, behind the lock of its
//! [`Shard`](super::shard::Shard).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use meshtone_media::io::EchoSession;
use meshtone_sip::agent::{AgentEvent, DialogId, SubscriptionId};
use meshtone_sip::message::{Header, Message, Method, ParseError};
use meshtone_sip::proxy::{Routing, Target};
use meshtone_sip::registrar::reg_info::Removal;
use meshtone_sip::server::{Event, RequestId, Server};
use meshtone_sip::transaction::TransactionId;
use meshtone_sip::transport::{Destination, Flow, PeerHost};
use tokio::sync::mpsc;

use super::Exchange;
use super::allowance::Allowance;
use super::anchoring::between::names_a_flow;
use super::anchoring::{Anchoring, Anchors};
use super::counted::{CallKey, CountedCalls};
use super::divert::{Diverted, Origin};
use super::identity::Refusal;
use super::outside::{ByName, Checked, Ways};
use super::overload::{Load, Overload, retry_after_s};
use super::peer::Unvouched;
use super::phone::{OWN_HEADERS_WITHIN, PEER_ANSWERS_WITHIN};
use super::reg_event::Subscriber;
use super::search::Sought;
use super::sips;
use super::trunk::{TrunkInput, TrunkWork};
use super::watch::From;
use crate::clock::Moment;
use crate::transport::Outbox;

/// What a worker is given besides the messages that arrive.
pub(crate) enum Input {
    /// What was sent for this transaction could not be delivered.
    TransportError(TransactionId),
    /// Nothing comes over this flow any more.
    FlowFailed(Flow),
    /// Where a request may go, found by a look-up; `searching` while it goes on.
    Located { id: RequestId, targets: Vec<Target>, searching: bool },
    /// A link to the node of this target was waited for.
    Linked { id: RequestId, target: Box<Target> },
    /// The registrations of this address have changed, for subscribers in this worker.
    Registered { address: String, removal: Removal },
    /// What the DNS says of where a request may go, by this Request-URI.
    ByName { id: RequestId, request: Message, request_uri: String, by_name: ByName },
    /// News for the trunks.
    Trunk(TrunkInput),
    /// Whether people who are said to call, or to have diverted a call, let the nodes speak for them that did.
    Vouched { id: RequestId, request: Message, host: PeerHost, caller: String, vouched: Result<(), Unvouched> },
    /// Where a request may be diverted to.
    Diverted { id: RequestId, branch: Option<usize>, found: Diverted },
    /// What became of what another domain signed of a request from there, of a caller who is let in.
    Met { id: RequestId, request: Message, address: String, met: Result<Option<String>, Refusal> },
    /// What the DNS says of where a request from outside came from.
    Checked { id: RequestId, request: Message, flow: Flow, found: Checked },
}

/// One worker.
pub(crate) struct Worker {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) server: Server,
    pub(crate) index: usize,
    /// When the input came that is being handled.
    pub(crate) now: Moment,
    /// What was asked for since somebody last took it.
    pub(crate) outbox: Outbox,
    /// A sender of this worker's own inbox, for look-ups to answer to.
    pub(crate) answers: mpsc::Sender<Input>,
    pub(crate) overload: Overload,
    pub(crate) echoes: HashMap<DialogId, Echo>,
    /// The requests being forwarded, until their final answer.
    pub(crate) forwarded: HashMap<RequestId, Forwarded>,
    /// Who is told of registrations.
    pub(crate) subscribers: BTreeMap<SubscriptionId, Subscriber>,
    /// What the calls outside that stand count for.
    pub(crate) counted: CountedCalls<RequestId>,
    pub(crate) trunks: TrunkWork,
    /// The branches of calls whose media runs through here.
    pub(crate) anchors: Anchors,
    /// How many workers there are.
    pub(crate) workers: usize,
}

/// A request under way to whoever it means.
pub(crate) struct Forwarded {
    /// The call that it may become; `None` for anything but INVITE.
    pub(crate) call: Option<CallKey>,
    /// Whether it asks for protected hops only.
    pub(crate) wants_sips: bool,
    /// Somebody is there, but not over protected hops.
    pub(crate) unprotected: bool,
    /// The caller's proven address, where redirections may be followed on his behalf.
    pub(crate) caller: Option<String>,
    /// The node that it came from, where it may be diverted here.
    pub(super) origin: Option<Origin>,
    /// How often the overlay is still being asked for further targets.
    pub(crate) searches: usize,
    /// Whom the overlay was asked for, and may be once more.
    pub(super) sought: Vec<Sought>,
    /// What it said: Request-URIs and where to.
    pub(crate) located: Vec<(String, Destination)>,
    /// It has been sent somewhere.
    pub(crate) tried: bool,
    /// All of these have failed, the best with this status.
    pub(crate) exhausted: Option<u16>,
    /// Other flows to the same phones, for when these have failed.
    pub(crate) spare: Vec<Target>,
    /// The servers of another domain that it may go to.
    pub(crate) ways: Option<Ways>,
    /// What it counts for while it lasts.
    pub(crate) allowance: Option<Allowance>,
    /// How its media may be carried.
    pub(crate) anchoring: Option<Anchoring>,
}

/// A call to the echo service.
pub(crate) struct Echo {
    pub(crate) session: EchoSession,
    /// What carries the sound of a phone that protects it to the session.
    pub(crate) carried: Option<meshtone_media::io::AnchoredCall>,
    /// The description last sent.
    pub(crate) answered: Vec<u8>,
    pub(crate) call_id: String,
    /// The description last sent was an offer, whose answer comes with the ACK.
    pub(crate) offered: bool,
}

impl Worker {
    /// Takes a message that arrived; `load` is how far behind is who brought it.
    pub(crate) fn on_message(&mut self, flow: Flow, message: Message, load: Option<Load>) {
        self.now = Moment::now();
        let now = self.now.instant;
        let sheds = self.overload.sheds(load);
        if !self.exchange.is_admitted(self.now.unix_ms, &flow, &message) {
            // Its source asks too much; that is no reason to keep others waiting.
        } else if sheds {
            let spread = message.call_id().bytes().fold(0, |sum: u32, byte| sum.wrapping_add(byte.into()));
            self.server.shed(now, flow, message, retry_after_s(load.unwrap_or_default(), spread));
        } else {
            self.exchange.metrics.received(self.index, &message);
            self.exchange.watches.received(self.index, self.now.unix_ms, &flow, &message);
            self.server.handle_message(now, flow, message);
        }
        self.drain();
    }

    /// Takes something that is not a message, and what of it could be read.
    pub(crate) fn on_bad(&mut self, flow: Flow, error: &ParseError, partial: Option<Message>) {
        self.now = Moment::now();
        if let (Flow::Udp { remote, .. }, Some(partial)) = (&flow, &partial) {
            self.exchange.guard.received(remote.ip(), partial.bytes().len());
        }
        self.server.handle_bad_message(self.now.instant, flow, error, partial);
        self.drain();
    }

    /// Takes what look-ups, transports and other rooms have to say.
    pub(crate) fn on_input(&mut self, input: Input) {
        self.now = Moment::now();
        match input {
            Input::TransportError(origin) => self.server.handle_transport_error(self.now.instant, origin),
            Input::FlowFailed(flow) => self.server.handle_flow_failed(self.now.instant, &flow),
            Input::Located { id, targets, searching } => self.on_located(id, targets, searching),
            Input::Linked { id, target } => self.forward_to(id, vec![*target], false),
            Input::Registered { address, removal } => self.tell_subscribers(&address, removal),
            Input::ByName { id, request, request_uri, by_name } => self.on_by_name(id, &request, request_uri, by_name),
            Input::Trunk(input) => self.on_trunk_input(input),
            Input::Vouched { id, request, host, caller, vouched } => {
                self.on_vouched(id, &request, &host, caller, vouched);
            }
            Input::Diverted { id, branch, found } => self.on_diverted(id, branch, found),
            Input::Met { id, request, address, met } => self.on_met(id, &request, address, met),
            Input::Checked { id, request, flow, found } => self.on_checked(id, &request, &flow, found),
        }
        self.drain();
    }

    /// Begins what a node does of itself.
    pub(crate) fn begin(&mut self) {
        self.now = Moment::now();
        self.begin_trunks(self.workers);
        self.drain();
    }

    /// When [`Worker::on_timeout`] wants to be called.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.server.poll_timeout().map(|(at, _)| at).into_iter().chain(self.trunk_timeout()).min()
    }

    /// Lets the timers that are due fire.
    pub(crate) fn on_timeout(&mut self) {
        self.now = Moment::now();
        self.server.handle_timeout(self.now.instant);
        self.on_trunk_timeout(self.now.instant);
        self.drain();
    }

    /// Ends what nobody ended.
    pub(crate) fn on_housekeeping(&mut self) {
        self.now = Moment::now();
        self.end_silent_echoes();
        self.trunks.bridges.end_silent(&mut self.server, Instant::now());
        self.on_bridge_events();
        self.forget_lost_calls();
        self.exchange.watches.tidy(self.index, self.now.unix_ms);
        self.drain();
    }

    /// Whether a message is for this node itself: its own agent calls users here as another node would.
    fn is_to_itself(&self, destination: &Destination) -> bool {
        match destination {
            Destination::Peer(host) | Destination::Flow(Flow::Peer { host }) => *host == self.exchange.own_host,
            Destination::Flow(Flow::Udp { .. } | Flow::Stream { .. }) | Destination::Address { .. } => false,
        }
    }

    /// Carries out what the engine asks for, until it asks for nothing.
    fn drain(&mut self) {
        loop {
            let mut idle = true;
            while let Some(transmit) = self.server.poll_transmit() {
                idle = false;
                let (destination, message) = (&transmit.destination, &transmit.message);
                let is_to_itself = self.is_to_itself(destination);
                self.exchange.watches.sent(self.index, self.now.unix_ms, destination, is_to_itself, message);
                if !is_to_itself {
                    self.exchange.metrics.sent(self.index, message);
                }
                if is_to_itself {
                    let flow = Flow::Peer { host: self.exchange.own_host.clone() };
                    self.server.handle_message(self.now.instant, flow, transmit.message);
                } else if self.exchange.may_leave(self.now.unix_ms, &transmit) {
                    let transmit = self.exchange.signed(transmit);
                    self.exchange.transports.send(self.index, transmit, &mut self.outbox);
                }
            }
            while let Some(event) = self.server.poll_event() {
                idle = false;
                self.on_event(event);
            }
            if idle {
                return;
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let bridged = self.trunks.bridges.on_event(&mut self.server, self.now.instant, event);
        self.on_bridge_events();
        let Some(event) = bridged else { return };
        match event {
            Event::Request { id, request, flow, routing } => self.on_request(id, &request, &flow, routing),
            Event::Reinvite { id, dialog, request } => self.on_echo_reinvite(id, dialog, &request),
            Event::Acknowledged { dialog, ack } => self.on_echo_acknowledged(dialog, &ack),
            Event::DialogEnded { dialog } => {
                if let Some(echo) = self.echoes.remove(&dialog) {
                    self.exchange.calls.end(&echo.call_id);
                }
            }
            Event::Agent(AgentEvent::SubscriptionRefreshed { subscription, .. }) => self.tell_refreshed(subscription),
            Event::Agent(AgentEvent::SubscriptionEnded { subscription, .. }) => self.forget_subscriber(subscription),
            Event::Agent(AgentEvent::Moved { id, dialog, peer, request, flow }) => {
                if self.has_moved(id, &peer, &request, &flow) {
                    self.move_echo(dialog, &flow);
                    self.server.admit(self.now.instant, id);
                }
            }
            Event::Agent(AgentEvent::Response { id, status, response, realm }) => {
                self.on_register_response(id, status, response.as_ref(), realm.as_deref());
            }
            // Bridges have had theirs; nothing else here calls anybody.
            Event::Agent(_) => {}
            Event::TargetsExhausted { id, status } => {
                if self.on_way_failed(id, status) {
                    return;
                }
                if let Some(forwarded) = self.forwarded.get_mut(&id) {
                    forwarded.exhausted = Some(status);
                    if self.try_spare_flows(id, status) || self.try_anchored(id, status) {
                        return;
                    }
                    self.settle(id);
                }
            }
            Event::Redirected { id, branch, request, contacts } => {
                self.on_redirected(id, branch, &request, &contacts);
            }
            Event::Cancelled { id } => self.on_cancelled(id),
            Event::Finished { id, status } => {
                if let Some(call_id) = self.counted.finished(id, status) {
                    self.exchange.calls.end(&call_id);
                }
                self.forget(id, status);
            }
        }
    }

    fn on_request(&mut self, id: RequestId, request: &Message, flow: &Flow, routing: Routing) {
        match routing {
            Routing::Dialog(mut target) => {
                if let Some(contact) = self.contact_of_gruu(request, &target.destination) {
                    target.uri = contact;
                }
                // Whom a call is with was found when it began; nothing that is asserted within it is looked at.
                target.remove = OWN_HEADERS_WITHIN.to_vec();
                if matches!(target.destination, Destination::Peer(_)) {
                    target.answer_within = Some(PEER_ANSWERS_WITHIN);
                }
                if sips::is_sips(&target.uri) && !sips::is_protected(target.destination.transport()) {
                    let warning = sips::not_allowed(&self.exchange.domain);
                    self.reject_with(id, 480, "Not reachable over protected hops", &[warning]);
                    return;
                }
                if request.method() == Method::Bye {
                    self.counted.ending(self.now.unix_ms, id, request);
                }
                self.server.forward(self.now.instant, id, vec![target], false);
            }
            Routing::Gone => self.reject(id, 480, "The other side's connection is gone"),
            // It has been read on its way already: nothing that follows could keep what `sips` promises.
            Routing::Initial if sips::is_sips(request.request_uri()) && !sips::is_protected(flow.transport()) => {
                self.reject(id, 416, "SIPS needs a protected transport");
            }
            // Flows are between nodes: a phone that names one would be heard in somebody else's call.
            Routing::Initial if names_a_flow(request) && !is_from_named(request, flow, &self.exchange.own_host) => {
                self.reject(id, 488, "Flows are for the node at the other end of the link");
            }
            Routing::Initial => match flow {
                Flow::Udp { .. } | Flow::Stream { .. } => self.on_phone_request(id, request, flow),
                Flow::Peer { host } if *host == self.exchange.own_host => self.on_own_request(id, request),
                Flow::Peer { host } => self.on_peer_request(id, request, host),
            },
            // A Route that this node did not write: it is nobody's relay.
            Routing::Foreign(_) => self.on_foreign_route(id, request, flow),
        }
    }

    /// Begins to forward a request of its own (not one within a dialog) to `targets`, and to whatever else is found
    /// while `searching`.
    pub(super) fn begin_forwarding(&mut self, id: RequestId, request: &Message, targets: Vec<Target>, searching: bool) {
        let is_invite = request.method() == Method::Invite;
        if is_invite {
            self.exchange.calls.begin(self.now.unix_ms, request);
            self.exchange.watches.begin(self.index, self.now.unix_ms, request, From::Anywhere, None);
        }
        let forwarded = Forwarded {
            call: is_invite.then(|| CallKey::of_invite(request)),
            wants_sips: sips::is_sips(request.request_uri()),
            unprotected: false,
            caller: None,
            origin: None,
            searches: 1,
            sought: Vec::new(),
            located: Vec::new(),
            tried: false,
            exhausted: None,
            spare: Vec::new(),
            ways: None,
            allowance: None,
            anchoring: Anchoring::of(request),
        };
        self.forwarded.insert(id, forwarded);
        self.forward_to(id, targets, searching);
    }

    pub(super) fn forward_to(&mut self, id: RequestId, targets: Vec<Target>, searching: bool) {
        // Answered, or cancelled, while the search was on.
        let Some(forwarded) = self.forwarded.get_mut(&id) else { return };
        if !searching {
            forwarded.searches = forwarded.searches.saturating_sub(1);
        }
        let found = targets.len();
        let targets = sips::permitted(forwarded.wants_sips, targets);
        forwarded.unprotected |= targets.len() < found;
        let targets = if targets.is_empty() { targets } else { self.anchored(id, targets) };
        if let Some(forwarded) = self.forwarded.get_mut(&id).filter(|_| !targets.is_empty()) {
            forwarded.tried = true;
            forwarded.exhausted = None;
            // More may always follow as far as the engine knows: the last word is `settle`'s.
            self.server.forward(self.now.instant, id, targets, true);
        }
        self.settle(id);
    }

    /// Ends a request all of whose targets have failed, once no further one can be found.
    fn settle(&mut self, id: RequestId) {
        let Some(forwarded) = self.forwarded.get(&id) else { return };
        if forwarded.searches > 0 || (forwarded.tried && forwarded.exhausted.is_none()) {
            return;
        }
        if matches!(forwarded.exhausted, None | Some(408 | 480 | 503)) && self.search_again(id) {
            return;
        }
        let Some(forwarded) = self.forwarded.get(&id) else { return };
        match forwarded.exhausted {
            None if forwarded.unprotected => {
                let warning = sips::not_allowed(&self.exchange.domain);
                self.reject_with(id, 480, "Not reachable over protected hops", &[warning]);
                self.forget(id, 480);
            }
            None => self.unavailable(id, "Not registered anywhere"),
            // A phone's word that it cannot take the call as it was is no answer where it could have had it otherwise.
            Some(403 | 415 | 488 | 503 | 606)
                if let Some((status, limit)) = forwarded.anchoring.as_ref().and_then(|known| known.limit.clone()) =>
            {
                let warning = self.exchange.warning(&limit);
                self.reject_with(id, status, &limit, &[warning]);
                self.forget(id, status);
            }
            // Nobody was reached: to the caller that is one thing, whether a node, a link or a phone is down.
            Some(408 | 503) => self.unavailable(id, "Nobody answers there"),
            Some(_) => self.server.forward(self.now.instant, id, Vec::new(), false),
        }
    }

    fn unavailable(&mut self, id: RequestId, reason: &str) {
        self.reject(id, 480, reason);
        self.forget(id, 480);
    }

    /// The caller wants no further targets. Where the request went already, a 2xx may be on its way.
    fn on_cancelled(&mut self, id: RequestId) {
        if let Some(forwarded) = self.forwarded.get_mut(&id).filter(|forwarded| forwarded.tried)
            && let (Some(call), Some(allowance)) = (forwarded.call.clone(), forwarded.allowance.take())
        {
            self.counted.cancelled(id, call, allowance);
        }
        self.forget(id, 487);
    }

    pub(super) fn forget(&mut self, id: RequestId, status: u16) {
        let Some(forwarded) = self.forwarded.remove(&id) else { return };
        self.forget_anchors(id);
        self.on_way_ended(forwarded.ways, status);
        let Some(call) = forwarded.call else { return };
        self.exchange.calls.answered(self.now.unix_ms, &call.call_id, status);
        if (200..300).contains(&status) {
            self.counted.stands(call, forwarded.allowance);
        }
    }

    pub(crate) fn reject(&mut self, id: RequestId, status: u16, reason: &str) {
        self.server.reject(self.now.instant, id, status, reason, &[]);
    }

    /// Asks for credentials, without keeping anything of the request.
    pub(crate) fn challenge(&mut self, id: RequestId, status: u16, reason: &str, challenges: &[(Header, String)]) {
        self.server.challenge(self.now.instant, id, status, reason, challenges);
    }

    pub(crate) fn reject_with(&mut self, id: RequestId, status: u16, reason: &str, extra: &[(Header, String)]) {
        self.server.reject(self.now.instant, id, status, reason, extra);
    }
}

/// Whether a request is from the node that its Via names, or from this node's own agent.
fn is_from_named(request: &Message, flow: &Flow, own: &PeerHost) -> bool {
    match flow {
        Flow::Peer { host } => {
            host == own || request.top_via().is_ok_and(|via| via.host.eq_ignore_ascii_case(&host.to_string()))
        }
        Flow::Udp { .. } | Flow::Stream { .. } => false,
    }
}
