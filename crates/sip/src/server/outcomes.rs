//! What becomes of forwarded requests: responses, time-outs and errors on their way upstream.

use std::time::Instant;

use super::{Event, RequestId, Server};
use crate::message::{Header, Message, Method};
use crate::proxy::best::Outcome;
use crate::proxy::branches::CancelReason;
use crate::proxy::context::Action;
use crate::proxy::{session_timer, via};
use crate::transaction::{LayerEvent, Owner, TransactionId};
use crate::transport::{Destination, Transmit};

/// Stands for a response that lost the Vias it should have brought back.
const BAD_GATEWAY: u16 = 502;

impl Server {
    /// Takes a response; one that is not for us, or answers nothing, is dropped (RFC 3261 §18.1.2, RFC 6026 §7.3).
    pub(super) fn handle_response(&mut self, now: Instant, response: Message) {
        let Ok(read) = response.read_essentials() else { return };
        if self.locals.is_local(read.via.host, read.via.port)
            && let Some(key) = self.layer.key_of_response(&response, &read.via)
        {
            self.layer.handle_response(now, key, response);
        }
    }

    /// Handles what the transactions have to say, until they have no more.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(event) = self.layer.poll_event() {
            match event {
                LayerEvent::Response { owner: Owner::Branch { request, index }, response, .. } => {
                    self.handle_branch_response(now, request, index, response);
                }
                LayerEvent::Timeout { owner: Owner::Branch { request, index }, .. } => {
                    self.handle_branch_failure(now, request, index, 408);
                }
                // As if it had answered 503 (RFC 3261 §16.9).
                LayerEvent::TransportError { owner: Owner::Branch { request, index }, .. } => {
                    self.handle_branch_failure(now, request, index, 503);
                }
                LayerEvent::TryingDue { id } => self.send_trying(now, id),
                LayerEvent::Response { id, owner: Owner::Agent, response } => {
                    self.handle_agent_response(now, id, &response);
                }
                LayerEvent::Timeout { id, owner: Owner::Agent } => self.handle_agent_failure(now, id, 408),
                LayerEvent::TransportError { id, owner: Owner::Agent } => self.handle_agent_failure(now, id, 503),
                LayerEvent::Response { owner: Owner::Nobody, .. }
                | LayerEvent::Timeout { owner: Owner::Nobody, .. }
                | LayerEvent::TransportError { owner: Owner::Nobody, .. } => {}
            }
        }
        self.settle_agent(now);
    }

    fn handle_branch_response(&mut self, now: Instant, id: TransactionId, index: usize, response: Message) {
        if response.values(Header::Via).nth(1).is_none() {
            // Without a Via of whoever asked us it must not be forwarded (§16.7 item 3).
            if response.status() >= 200 {
                self.handle_branch_failure(now, id, index, BAD_GATEWAY);
            }
            return;
        }
        let mut response = response.without_first_value(Header::Via);
        if let Some(asked) = self.requests.get(&id).and_then(|open| open.session_timer)
            && let Some(completed) = session_timer::completed(&response, asked)
        {
            response = completed;
        }
        let mut actions = std::mem::take(&mut self.spare_actions);
        match self.requests.get_mut(&id) {
            Some(open) => open.context.handle_response(now, index, response, &mut actions),
            // All branches are done; a 2xx of another phone behind one of them may still come (RFC 6026 §8.1).
            None if self.layer.is_accepted(id) && (200..300).contains(&response.status()) => {
                self.layer.respond(now, id, response);
            }
            None => {}
        }
        self.carry_out(now, id, actions);
    }

    pub(super) fn handle_branch_failure(&mut self, now: Instant, id: TransactionId, index: usize, status: u16) {
        let mut actions = std::mem::take(&mut self.spare_actions);
        if let Some(open) = self.requests.get_mut(&id) {
            open.context.handle_failure(index, status, &mut actions);
        }
        self.carry_out(now, id, actions);
    }

    /// Does what a response context decided, then forgets a request that is over.
    pub(super) fn carry_out(&mut self, now: Instant, id: TransactionId, mut actions: Vec<Action>) {
        while !actions.is_empty() {
            let mut further = Vec::new();
            for action in actions.drain(..) {
                self.carry_out_one(now, id, action, &mut further);
            }
            if !further.is_empty() {
                actions = further;
            }
        }
        self.spare_actions = actions;
        let Some(open) = self.requests.get_mut(&id) else { return };
        if open.context.is_over() {
            self.close(id);
            return;
        }
        let next = open.context.poll_timeout();
        if self.request_timers.rearm(id, &mut open.armed, next) {
            self.settle_request_timers();
        }
    }

    fn carry_out_one(&mut self, now: Instant, id: TransactionId, action: Action, further: &mut Vec<Action>) {
        match action {
            Action::Start(planned) => self.start_branch(now, id, planned, further),
            Action::Forward(response) => self.send_upstream(now, id, response),
            Action::Finish(outcome) => self.finish(now, id, outcome),
            Action::Cancel(client, reason) => {
                let reason = self.reason_of_cancel(id, reason);
                self.layer.cancel(now, client, reason.as_deref());
            }
            Action::Abandon(client) => self.layer.abandon(client),
            Action::Redirected(branch, contacts) => {
                if let Some(open) = self.requests.get(&id) {
                    let request = open.request.clone();
                    self.events.push_back(Event::Redirected { id: RequestId(id), branch, request, contacts });
                }
            }
            Action::Exhausted(status) => {
                self.events.push_back(Event::TargetsExhausted { id: RequestId(id), status });
            }
        }
    }

    /// Sends a failure upstream. Nothing but INVITE is ever answered 408 (RFC 4320 §4.2): when the time is over, the client
    /// knows by itself; before, somebody was found to be unreachable.
    fn finish(&mut self, now: Instant, id: TransactionId, outcome: Outcome) {
        let is_mute = outcome.status() == 408
            && self.requests.get(&id).is_some_and(|open| open.request.method() != Method::Invite);
        match outcome {
            _ if is_mute => match self.requests.get(&id) {
                Some(open) if open.client_gone > now => self.finish_locally(now, id, 480),
                Some(_) | None => self.events.push_back(Event::Finished { id: RequestId(id), status: 408 }),
            },
            Outcome::Received(response) => self.send_upstream(now, id, *response),
            Outcome::Local(status) => self.finish_locally(now, id, status),
        }
    }

    /// The Reason header field (RFC 3326) of a CANCEL.
    fn reason_of_cancel(&self, id: TransactionId, reason: CancelReason) -> Option<String> {
        match reason {
            CancelReason::ByCaller => self.requests.get(&id)?.cancel_reason.clone(),
            CancelReason::Elsewhere => Some("SIP;cause=200;text=\"Call completed elsewhere\"".to_owned()),
            CancelReason::Refused(status) => Some(format!("SIP;cause={status};text=\"Call refused elsewhere\"")),
            CancelReason::NoAnswer => Some("SIP;cause=408;text=\"No answer in time\"".to_owned()),
        }
    }

    fn finish_locally(&mut self, now: Instant, id: TransactionId, status: u16) {
        let Some(open) = self.requests.get(&id) else { return };
        let response = self.make_response(&open.request, status, "", &[]);
        if let Some(dialog) = open.dialog {
            self.tell_agent_of_answer(now, dialog, id, &response);
        }
        self.send_upstream(now, id, response);
    }

    fn send_upstream(&mut self, now: Instant, id: TransactionId, response: Message) {
        let Some(open) = self.requests.get_mut(&id) else { return };
        open.is_trying = true;
        let status = response.status();
        let is_first_final = status >= 200 && self.layer.awaits_answer(id);
        if is_first_final && open.is_forwarded {
            self.events.push_back(Event::Finished { id: RequestId(id), status });
        }
        let is_late_success = (200..300).contains(&status)
            && response.method() == Method::Invite
            && !self.layer.awaits_answer(id)
            && !self.layer.is_accepted(id);
        if !is_late_success {
            self.layer.respond_to(now, id, &open.request, response);
        } else if let Ok(via) = response.top_via() {
            // A failure went upstream before; the 2xx goes there without state (RFC 3261 §16.7 item 9).
            let destination = Destination::Flow(via::reply_flow(&open.flow, &via));
            self.transmits.push_back(Transmit { destination, message: response, origin: None });
        }
    }
}
