//! Our own agent: the node's commands to it, and what it and the rest of the server have to say to each other.

use std::time::Instant;

use super::{Event, RequestId, Server};
use crate::agent::{
    Acceptance, Agent, AgentError, AgentRequestId, Answer, Asked, Body, DialogId, OutgoingCall, OutgoingRequest,
    OutgoingSubscription, Question, Refusal, Reliability, Replaced, Stack, SubscriptionAnswer, SubscriptionId,
    SubscriptionState, Termination, Verdict,
};
use crate::message::{Header, Message, Method};
use crate::transaction::TransactionId;
use crate::transport::Flow;

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

    fn answer_call(
        &mut self,
        now: Instant,
        id: RequestId,
        decide: impl FnOnce(&mut Agent, &mut Stack<'_>, &Asked<'_>) -> Result<DialogId, Refusal>,
    ) -> DialogId {
        let known = self.requests.get(&id.0).and_then(|open| open.dialog);
        let dialog = match self.decide(now, id.0, decide) {
            Ok(dialog) => {
                if let Some(open) = self.requests.get_mut(&id.0) {
                    open.dialog = Some(dialog);
                }
                dialog
            }
            Err(refusal) => {
                self.refuse(now, id.0, &refusal);
                known.unwrap_or_else(|| {
                    let dialog = self.agent.fresh_id();
                    self.events.push_back(Event::DialogEnded { dialog });
                    dialog
                })
            }
        };
        self.carry_answers(now);
        self.settle(now);
        dialog
    }

    fn answer_subscription(
        &mut self,
        now: Instant,
        id: RequestId,
        decide: impl FnOnce(&mut Agent, &mut Stack<'_>, &Asked<'_>) -> Result<SubscriptionId, Refusal>,
    ) -> Option<SubscriptionId> {
        let decided = self.decide(now, id.0, decide);
        if let Err(refusal) = &decided {
            self.refuse(now, id.0, refusal);
        }
        self.carry_answers(now);
        self.with_agent(now, Agent::notify_due);
        self.settle(now);
        decided.ok()
    }

    /// Lets the agent decide on a request that awaits its answer. What it answers waits in `owed`.
    fn decide<R>(
        &mut self,
        now: Instant,
        id: TransactionId,
        decide: impl FnOnce(&mut Agent, &mut Stack<'_>, &Asked<'_>) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let open = self.requests.get(&id).filter(|open| !open.context.is_answered());
        let open = open.ok_or_else(|| Refusal::plain(481))?;
        let (request, flow, dialog, tag) =
            (open.request.clone(), open.flow.clone(), open.dialog, self.to_tag(&open.request));
        let asked = Asked { server: id, request: &request, flow: &flow, tag: &tag, dialog };
        self.run_agent(now, |agent, stack| decide(agent, stack, &asked))
    }

    fn refuse(&mut self, now: Instant, id: TransactionId, refusal: &Refusal) {
        if let Some(open) = self.requests.get(&id) {
            let response = self.make_response(&open.request, refusal.status, "", &refusal.extra);
            self.answer(now, id, response);
        }
    }

    /// Runs the agent, then sends what it answers.
    pub(super) fn with_agent<R>(&mut self, now: Instant, run: impl FnOnce(&mut Agent, &mut Stack<'_>) -> R) -> R {
        let result = self.run_agent(now, run);
        self.carry_answers(now);
        result
    }

    fn run_agent<R>(&mut self, now: Instant, run: impl FnOnce(&mut Agent, &mut Stack<'_>) -> R) -> R {
        let mut stack = Stack {
            now,
            layer: &mut self.layer,
            locals: self.locals.as_ref(),
            randomness: self.randomness.as_mut(),
            events: &mut self.events,
            user_agent: &self.config.server_name,
            answers: Vec::new(),
        };
        let result = run(&mut self.agent, &mut stack);
        let answers = stack.answers;
        self.owed.extend(answers);
        result
    }

    fn carry_answers(&mut self, now: Instant) {
        while let Some((id, answer)) = self.owed.pop_front() {
            match answer {
                Answer::Whole(response) => self.answer(now, id, response),
                Answer::Status(status, extra) => self.refuse(now, id, &Refusal { status, extra }),
            }
        }
    }

    /// Offers a request to the agent; true when it belongs to one of its dialogs, and is dealt with.
    pub(super) fn is_for_agent(&mut self, now: Instant, id: TransactionId, flow: &Flow, request: &Message) -> bool {
        let Some(verdict) = self.run_agent(now, |agent, stack| agent.handle_request(stack, id, request, flow)) else {
            return false;
        };
        match verdict {
            Verdict::Answer(status, extra) => self.answer_at_once(now, id, request, status, &extra),
            Verdict::Ask(dialog, question) => {
                self.open(now, id, request.clone(), flow.clone(), Some(dialog));
                self.events.push_back(question.ask(RequestId(id), dialog, request.clone()));
            }
        }
        self.carry_answers(now);
        self.with_agent(now, Agent::notify_due);
        true
    }

    /// Takes the final answer to a request of one of the agent's dialogs.
    pub(super) fn tell_agent_of_answer(
        &mut self,
        now: Instant,
        dialog: DialogId,
        id: TransactionId,
        response: &Message,
    ) {
        self.run_agent(now, |agent, stack| agent.handle_answer(stack, dialog, id, response));
    }

    /// Takes a response to a request of our own agent.
    pub(super) fn handle_agent_response(&mut self, now: Instant, id: TransactionId, response: &Message) {
        self.with_agent(now, |agent, stack| agent.handle_response(stack, id, response));
    }

    /// Takes the news that a request of our own agent met with silence (408) or could not be sent (503).
    pub(super) fn handle_agent_failure(&mut self, now: Instant, id: TransactionId, status: u16) {
        self.with_agent(now, |agent, stack| agent.handle_failure(stack, id, status));
    }

    /// Sends what the agent owed when an answer of the node's went through it.
    pub(super) fn settle_agent(&mut self, now: Instant) {
        self.carry_answers(now);
    }
}

impl Question {
    fn ask(self, id: RequestId, dialog: DialogId, request: Message) -> Event {
        use crate::agent::AgentEvent;
        match self {
            Question::Change => Event::Reinvite { id, dialog, request },
            Question::Refer(refer_to) => Event::Agent(AgentEvent::Refer { id, dialog, refer_to, request }),
            Question::Other => Event::Agent(AgentEvent::Request { id, dialog, request }),
        }
    }
}
