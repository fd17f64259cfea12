//! The node's commands to our own agent.

use std::time::Instant;

use super::{RequestId, Server};
use crate::agent::{
    Acceptance, AgentError, AgentRequestId, Body, DialogId, OutgoingCall, OutgoingRequest, OutgoingSubscription,
    Reliability, Replaced, SubscriptionAnswer, SubscriptionId, SubscriptionState, Termination,
};
use crate::message::{Header, Message, Method};

impl Server {
    /// Answers an INVITE here: 200 with this contact URI and body (content type, bytes), retransmitted until its ACK.
    ///
    /// When the INVITE cannot be accepted (it is over, asks for extensions, has no Contact), it is refused and
    /// [`Event::DialogEnded`] follows at once.
    pub fn accept(&mut self, now: Instant, id: RequestId, contact: &str, body: (&str, &[u8])) -> DialogId {
        let body = (!body.1.is_empty()).then(|| Body::new(body.0, body.1));
        self.accept_with(now, id, &Acceptance { body, ..Acceptance::new(contact) })
    }

    /// The same with all options. An INVITE that rang keeps the dialog it rang with.
    pub fn accept_with(&mut self, now: Instant, id: RequestId, answer: &Acceptance) -> DialogId {
        self.answer_call(now, id, |agent, stack, asked| agent.accept(stack, asked, answer))
    }

    /// Rings: a provisional response (180, 183 …) with a contact and perhaps a description, acknowledged by PRACK as `wish`
    /// and the caller will have it. Begins an early dialog; [`Server::accept_with`] or [`Server::reject`] ends the ringing.
    pub fn ring(
        &mut self,
        now: Instant,
        id: RequestId,
        status: u16,
        answer: &Acceptance,
        wish: Reliability,
    ) -> DialogId {
        self.answer_call(now, id, |agent, stack, asked| agent.ring(stack, asked, status, answer, wish))
    }

    /// Sends the caller elsewhere: 302 with these contacts (RFC 3261 §8.3).
    pub fn redirect(&mut self, now: Instant, id: RequestId, contacts: &[String]) {
        let fields: Vec<(Header, String)> =
            contacts.iter().map(|contact| (Header::Contact, format!("<{contact}>"))).collect();
        self.reject(now, id, 302, "", &fields);
    }

    /// Ends a dialog or call of our own agent in the way its state asks for: BYE, CANCEL, or 480 to an INVITE that rings. A
    /// dialog that is not acknowledged yet ends as soon as it is (RFC 3261 §15).
    pub fn hang_up(&mut self, now: Instant, dialog: DialogId) {
        self.with_agent(now, |agent, stack| agent.hang_up(stack, dialog));
        self.settle(now);
    }

    /// The same, and says why: the value of Reason (RFC 3326) in the BYE or CANCEL.
    pub fn hang_up_because(&mut self, now: Instant, dialog: DialogId, reason: &str) {
        self.with_agent(now, |agent, stack| {
            agent.give_reason(dialog, reason);
            agent.hang_up(stack, dialog);
        });
        self.settle(now);
    }

    /// Calls somebody: [`crate::agent::AgentEvent::Progress`], then `Answered` or `Failed`.
    pub fn place_call(&mut self, now: Instant, call: OutgoingCall) -> DialogId {
        let dialog = self.with_agent(now, |agent, stack| agent.place_call(stack, call));
        self.settle(now);
        dialog
    }

    /// Answers an offer of the other side's that came in a 2xx, or in a reliable provisional response, to our INVITE.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotNow`] when none awaits an answer.
    pub fn acknowledge(&mut self, now: Instant, dialog: DialogId, body: Option<&Body>) -> Result<(), AgentError> {
        let done = self.with_agent(now, |agent, stack| agent.acknowledge(stack, dialog, body));
        self.settle(now);
        done
    }

    /// Sends a re-INVITE: [`crate::agent::AgentEvent::Changed`] or `ChangeFailed` follows. When the other side had the same
    /// idea (491), it is tried again by itself.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotNow`] while an offer or a change of either side is open, or the dialog is not confirmed.
    pub fn reinvite(&mut self, now: Instant, dialog: DialogId, body: Option<Body>) -> Result<(), AgentError> {
        let done = self.with_agent(now, |agent, stack| agent.change(stack, dialog, Method::Invite, body));
        self.settle(now);
        done
    }

    /// Sends UPDATE (RFC 3311), also before the call is answered.
    ///
    /// # Errors
    ///
    /// As [`Server::reinvite`].
    pub fn update(&mut self, now: Instant, dialog: DialogId, body: Option<Body>) -> Result<(), AgentError> {
        let done = self.with_agent(now, |agent, stack| agent.change(stack, dialog, Method::Update, body));
        self.settle(now);
        done
    }

    /// Takes a request of a dialog whose phone has proved to have moved ([`crate::agent::AgentEvent::Moved`]), and further ones
    /// from its new address; a target refresh (re-INVITE, UPDATE) makes our own requests go there too.
    pub fn admit(&mut self, now: Instant, id: RequestId) {
        let Some(open) = self.requests.get(&id.0).filter(|open| !open.context.is_answered()) else { return };
        let Some((dialog, _)) = self.agent.find_moved(&open.request, &open.flow) else {
            // It ended meanwhile.
            self.reject(now, id, 481, "", &[]);
            return;
        };
        let Some(open) = self.close(id.0) else { return };
        self.agent.admit(dialog, &open.flow);
        if !self.is_for_agent(now, id.0, &open.flow, &open.request) {
            self.answer_at_once(now, id.0, &open.request, 481, &[]);
        }
        self.settle(now);
    }

    /// Changes who we say we are in a dialog: value of From without a tag (RFC 4916), as a gateway does that learns who
    /// answered. The next [`Server::update`] or [`Server::reinvite`] tells the other side.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotSupported`] when the other side does not know `from-change`.
    pub fn identify(&mut self, dialog: DialogId, from: &str) -> Result<(), AgentError> {
        self.agent.identify(dialog, from)
    }

    /// Sends a request outside of any dialog: exactly one [`crate::agent::AgentEvent::Response`] tells what became of it.
    pub fn send_request(&mut self, now: Instant, request: OutgoingRequest) -> AgentRequestId {
        let id = self.with_agent(now, |agent, stack| agent.send_request(stack, request));
        self.settle(now);
        id
    }

    /// Sends INFO, MESSAGE, OPTIONS or the like within a dialog; as [`Server::send_request`].
    ///
    /// # Errors
    ///
    /// [`AgentError::NoSuchDialog`], or [`AgentError::Full`].
    pub fn send_in_dialog(
        &mut self,
        now: Instant,
        dialog: DialogId,
        method: Method,
        headers: &[(Header, String)],
        body: Option<&Body>,
    ) -> Result<AgentRequestId, AgentError> {
        let id = self.with_agent(now, |agent, stack| agent.send_in_dialog(stack, dialog, method, headers, body));
        self.settle(now);
        id
    }

    /// Asks the other side of a dialog to contact this URI (REFER, RFC 3515); `ReferProgress` tells how that goes.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotNow`] before the dialog is confirmed.
    pub fn refer(
        &mut self,
        now: Instant,
        dialog: DialogId,
        refer_to: &str,
        headers: &[(Header, String)],
    ) -> Result<SubscriptionId, AgentError> {
        let id = self.with_agent(now, |agent, stack| agent.refer(stack, dialog, refer_to, headers));
        self.settle(now);
        id
    }

    /// A URI for [`Server::refer`] whose caller takes our place in `dialog` (RFC 3891): an attended transfer.
    pub fn refer_to_replacing(&self, dialog: DialogId, uri: &str) -> Option<String> {
        self.agent.refer_to_replacing(dialog, uri)
    }

    /// What Replaces (RFC 3891) names a dialog by towards the other side, and what the other side has it named by towards us.
    pub fn replaces_values(&self, dialog: DialogId) -> Option<(String, String)> {
        self.agent.replaces_values(dialog)
    }

    /// Which dialog of ours an INVITE wants to replace (RFC 3891). Who may do so is for the node to decide.
    pub fn find_replaced(&self, request: &Message) -> Replaced {
        self.agent.find_replaced(request)
    }

    /// Accepts a REFER, within a dialog or not; [`Server::tell_refer`] reports what comes of it. `None`: it was refused.
    pub fn accept_refer(&mut self, now: Instant, id: RequestId, contact: &str) -> Option<SubscriptionId> {
        self.answer_subscription(now, id, |agent, stack, asked| agent.accept_refer(stack, asked, contact))
    }

    /// Reports the status of the call that a REFER asked for; a final one ends the report.
    pub fn tell_refer(&mut self, now: Instant, subscription: SubscriptionId, status: u16) {
        self.with_agent(now, |agent, stack| {
            agent.tell_refer(subscription, status);
            agent.notify_due(stack);
        });
        self.settle(now);
    }

    /// Subscribes (RFC 6665): `Notified` for each state, `SubscriptionEnded` at the end. It is refreshed by itself.
    pub fn subscribe(&mut self, now: Instant, order: OutgoingSubscription) -> SubscriptionId {
        let id = self.with_agent(now, |agent, stack| agent.subscribe(stack, order));
        self.settle(now);
        id
    }

    /// Ends a subscription of ours; its last state still comes.
    pub fn unsubscribe(&mut self, now: Instant, subscription: SubscriptionId) {
        self.with_agent(now, |agent, stack| agent.unsubscribe(stack, subscription));
        self.settle(now);
    }

    /// Accepts a SUBSCRIBE and tells its subscriber the state; later ones by [`Server::notify`]. `None`: it was refused.
    pub fn accept_subscription(
        &mut self,
        now: Instant,
        id: RequestId,
        answer: SubscriptionAnswer,
    ) -> Option<SubscriptionId> {
        self.answer_subscription(now, id, |agent, stack, asked| agent.accept_subscription(stack, asked, answer))
    }

    /// Tells a subscriber a new state; [`SubscriptionState::Terminated`] is the last, with its reason.
    pub fn notify(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        state: SubscriptionState,
        reason: Option<Termination>,
        body: Option<Body>,
    ) {
        self.with_agent(now, |agent, stack| {
            agent.tell_state(subscription, state, reason, body);
            agent.notify_due(stack);
        });
        self.settle(now);
    }

    /// How many dialogs, calls, requests and subscriptions our own agent has.
    pub fn agent_load(&self) -> usize {
        self.agent.len()
    }
}
