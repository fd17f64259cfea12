//! What arrives: requests, ACK and CANCEL on their way to the node, to our agent, or straight on.

use std::time::Instant;

use super::{Event, RequestId, Server};
use crate::agent::{AgentEvent, tell_reason};
use crate::message::{Essentials, Header, Message, Method, ParseError, Uri, Via};
use crate::proxy::flow_token::Forged;
use crate::proxy::outgoing::Leg;
use crate::proxy::route::{Routed, is_routed, route};
use crate::proxy::{Routing, branch, outgoing, via};
use crate::transaction::{Arrival, TransactionId};
use crate::transport::{Destination, Flow, Transmit};

/// What Retry-After says when there is no room, in seconds: a transaction lasts 32 s at most, most of them far less.
const RETRY_AFTER: &str = "5";

/// Most copies of one request that are forwarded at a time, having come by different ways: a proxy before us that hears nothing
/// tries a second one. Beyond are those of addresses that fork at each other, in numbers that grow with each round; they get
/// what phones answer to the second copy already (482, RFC 3261 §8.2.2.2).
const WAYS_MAX: u8 = 2;

impl Server {
    pub(super) fn handle_request(&mut self, now: Instant, flow: Flow, message: Message) {
        let read = match message.read_essentials() {
            Ok(read) => read,
            Err(error) => {
                self.refuse_unread(&flow, &message, &error);
                return;
            }
        };
        let request = via::stamp(&message, &read.via, &flow).unwrap_or_else(|| message.clone());
        if request.method() == Method::Ack {
            self.handle_ack(now, &flow, &request);
        } else if request.method() == Method::Cancel {
            self.handle_cancel(now, &flow, &request, &read.via);
        } else {
            self.handle_new(now, flow, request, &read);
        }
    }

    /// Answers what cannot be handled, without any state. An ACK is never answered (RFC 3261 §17.1.1.3).
    pub(super) fn refuse_unread(&mut self, flow: &Flow, request: &Message, error: &ParseError) {
        let Ok(top) = request.top_via() else { return };
        if request.is_answerable() {
            let stamped = via::stamp(request, &top, flow);
            let request = stamped.as_ref().unwrap_or(request);
            self.refuse_statelessly(flow, request, error.status(), error.reason(), &[]);
        }
    }

    pub(super) fn refuse_statelessly(
        &mut self,
        flow: &Flow,
        request: &Message,
        status: u16,
        reason: &str,
        extra: &[(Header, String)],
    ) {
        let Ok(via) = request.top_via() else { return };
        let destination = Destination::Flow(via::reply_flow(flow, &via));
        let message = self.make_response(request, status, reason, extra);
        self.transmits.push_back(Transmit { destination, message, origin: None });
    }

    /// Takes a request other than ACK and CANCEL, of which this was read.
    fn handle_new(&mut self, now: Instant, flow: Flow, request: Message, read: &Essentials<'_>) {
        let Some(id) = self.arrive(now, &flow, &request, &read.via) else { return };
        // What reaches a dialog of our own has arrived, however often it came by. Only a NOTIFY may do so without a To tag.
        let may_be_within = read.to_tag.is_some() || request.method() == Method::Notify;
        if may_be_within && self.is_for_agent(now, id, &flow, &request) {
            return;
        }
        let moved = read.to_tag.and_then(|_| self.agent.find_moved(&request, &flow));
        if let Some((dialog, peer)) = moved {
            self.open(now, id, request.clone(), flow.clone(), None);
            let moved = AgentEvent::Moved { id: RequestId(id), dialog, peer, request, flow };
            self.events.push_back(Event::Agent(moved));
            return;
        }
        let mut request = request;
        let mut routing = Routing::Initial;
        if is_routed(&request, read.request_uri.as_ref()) {
            match route(&request, &flow, self.locals.as_ref(), &self.tokens) {
                Ok(routed) => {
                    routing = routed.routing;
                    if let Some(changed) = routed.changed {
                        request = changed;
                    }
                }
                Err(Forged) => {
                    // Somebody made up a flow token (RFC 5626 §5.3).
                    self.answer_at_once(now, id, &request, 403, &[]);
                    return;
                }
            }
        }
        let way = read.was_forwarded.then(|| branch::loop_hash(&request, self.locals.as_ref()));
        let may_have_been_here = read.was_forwarded || read.via.branch().is_some_and(branch::is_ours);
        let is_loop = may_have_been_here && branch::is_loop(&request, self.locals.as_ref());
        if is_loop || self.is_crowded(way) {
            self.answer_at_once(now, id, &request, 482, &[]);
            return;
        }
        if matches!(routing, Routing::Initial) && read.to_tag.is_some() && self.is_for_lost_dialog(&request) {
            self.answer_at_once(now, id, &request, 481, &[]);
            return;
        }
        self.open(now, id, request.clone(), flow.clone(), None);
        self.enter(id, way);
        if flow.transport().is_reliable() && request.method() == Method::Invite {
            self.send_trying(now, id);
        }
        self.events.push_back(Event::Request { id: RequestId(id), request, flow, routing });
    }

    /// Whether enough copies of a request are forwarded already. `way` names what one that a proxy sent is about, and is `None` for
    /// one that comes from its client itself: requests of one name would all be routed alike, as copies of one that was
    /// forked on its way here.
    fn is_crowded(&self, way: Option<u64>) -> bool {
        way.and_then(|way| self.ways.get(&way)).is_some_and(|copies| *copies >= WAYS_MAX)
    }

    /// Counts a request among the copies of its like, until it is over ([`Server::close`]).
    fn enter(&mut self, id: TransactionId, way: Option<u64>) {
        if let (Some(way), Some(open)) = (way, self.requests.get_mut(&id)) {
            open.way = Some(way);
            *self.ways.entry(way).or_default() += 1;
        }
    }

    /// Finds or opens the transaction of a request; `None` when there is nothing more to do for it.
    fn arrive(&mut self, now: Instant, flow: &Flow, request: &Message, via: &Via<'_>) -> Option<TransactionId> {
        let reply = via::reply_flow(flow, via);
        match self.layer.take_request(now, reply, request, via) {
            Arrival::New(id) => return Some(id),
            Arrival::Repeated => {}
            Arrival::Full => {
                let later = [(Header::RetryAfter, RETRY_AFTER.to_owned())];
                self.refuse_statelessly(flow, request, 503, "", &later);
            }
            Arrival::Unreadable => self.refuse_statelessly(flow, request, 400, "", &[]),
        }
        None
    }

    /// Whether a request with a To tag belongs to a dialog with this node itself that does not exist (any more).
    fn is_for_lost_dialog(&self, request: &Message) -> bool {
        // Some phones leave the old To tag in when they register again.
        request.method() != Method::Register
            && Uri::parse(request.request_uri()).is_ok_and(|uri| self.locals.is_local(uri.host, uri.port))
    }

    fn handle_ack(&mut self, now: Instant, flow: &Flow, ack: &Message) {
        if self.layer.handle_ack(now, ack) {
            return;
        }
        if self.with_agent(now, |agent, stack| agent.handle_ack(stack, ack, flow)) {
            return;
        }
        // The ACK of a 2xx travels end to end, without any state on the way (RFC 3261 §16.11). Whatever nothing vouches
        // for is dropped: an ACK cannot be answered.
        let Ok(Routed { changed, routing: Routing::Dialog(target) }) =
            route(ack, flow, self.locals.as_ref(), &self.tokens)
        else {
            return;
        };
        let request = changed.as_ref().unwrap_or(ack);
        let Some(hops) = outgoing::next_max_forwards(request) else { return };
        let branch = branch::stateless(ack, self.locals.as_ref());
        let leg = Leg { upstream: flow, branch: branch.as_str(), max_forwards: hops, max_breadth: None, history: &[] };
        let message = outgoing::copy_for(request, &target, &leg, self.locals.as_ref(), &self.tokens);
        self.transmits.push_back(Transmit { destination: target.destination, message, origin: None });
    }

    fn handle_cancel(&mut self, now: Instant, flow: &Flow, cancel: &Message, via: &Via<'_>) {
        let Some(invite) = self.layer.find_cancelled(cancel) else {
            self.refuse_statelessly(flow, cancel, 481, "", &[]);
            return;
        };
        let Some(id) = self.arrive(now, flow, cancel, via) else { return };
        self.answer_at_once(now, id, cancel, 200, &[]);
        let rings = self.requests.get(&invite).filter(|open| !open.context.is_answered());
        if let Some(dialog) = rings.and_then(|open| open.dialog) {
            self.with_agent(now, |_, stack| tell_reason(stack, dialog, cancel));
        }
        let mut actions = std::mem::take(&mut self.spare_actions);
        if let Some(open) = self.requests.get_mut(&invite)
            && open.request.method() == Method::Invite
            && !open.context.is_answered()
        {
            if open.context.awaits_targets() {
                self.events.push_back(Event::Cancelled { id: RequestId(invite) });
            }
            let reasons: Vec<&str> = cancel.fields(Header::Reason).collect();
            open.cancel_reason = (!reasons.is_empty()).then(|| reasons.join(", "));
            open.context.handle_cancel(now, &mut actions);
        }
        self.carry_out(now, invite, actions);
    }

    /// Answers 503 with Retry-After.
    pub(super) fn refuse_for_load(&mut self, flow: &Flow, request: &Message, retry_after_s: u32) {
        let stamped = request.top_via().ok().and_then(|top| via::stamp(request, &top, flow));
        let request = stamped.as_ref().unwrap_or(request);
        self.refuse_statelessly(flow, request, 503, "", &[(Header::RetryAfter, retry_after_s.to_string())]);
    }
}
