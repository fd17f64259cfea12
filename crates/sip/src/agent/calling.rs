//! Calls that we place (RFC 3261 §13.2): forking, CANCEL, reliable provisional responses, the ACK.

use std::time::Instant;

use super::login::Login;
use super::negotiation::{Negotiation, has_description};
use super::request::{Draft, Outcome, Purpose, credentials_of};
use super::session::{Phase, Session};
use super::session_timer::{Agreed, MIN_SE, Refresher, SessionTimer};
use super::{Agent, AgentEvent, DialogId, OutgoingCall, Reliability, SUPPORTED, Stack, TimerKey, allow};
use crate::agent::dialog::Dialog;
use crate::message::{Header, Message};
use crate::transaction::{TimerReason, TransactionId};

/// Most dialogs of one call; an address has at most ten contacts at each of a few nodes. A 2xx beyond is left alone: its
/// sender ends what nobody acknowledges.
const FORKS_MAX: usize = 16;

/// A call of ours, until nothing more can come of its INVITE.
#[derive(Debug)]
pub(super) struct Attempt {
    order: OutgoingCall,
    transaction: TransactionId,
    state: AttemptState,
    ring_until: Instant,
    /// Whether there was a provisional response: CANCEL must wait for one (RFC 3261 §9.1).
    heard: bool,
    /// Its dialogs, early or not.
    dialogs: Vec<DialogId>,
    /// To tags of the 2xx that were taken.
    answered: Vec<String>,
    /// What our CANCEL gives as Reason (RFC 3326).
    pub(super) end_reason: Option<String>,
    armed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum AttemptState {
    /// It rings, until then.
    Calling { until: Instant },
    /// It shall be cancelled, and then have failed with this status.
    Cancelling { until: Instant, status: u16 },
    /// It was answered, or cancelled too late: further 2xx may come until then.
    Answered { until: Instant, is_wanted: bool },
}

impl AttemptState {
    fn until(self) -> Instant {
        match self {
            AttemptState::Calling { until }
            | AttemptState::Cancelling { until, .. }
            | AttemptState::Answered { until, .. } => until,
        }
    }
}

impl Agent {
    pub(crate) fn place_call(&mut self, stack: &mut Stack<'_>, order: OutgoingCall) -> DialogId {
        let call = self.fresh_id();
        let request = write_invite(stack, &order);
        let login = order.credentials.clone().map(Login::new);
        let sent = self
            .has_room()
            .then(|| self.transmit(stack, Purpose::Call(call), &order.destination, &request, login))
            .flatten();
        let Some(transaction) = sent else {
            stack.tell(AgentEvent::Failed { dialog: call, status: 503, response: None });
            return call;
        };
        let patience = order.answer_within.unwrap_or(order.ring_for).min(order.ring_for);
        let attempt = Attempt {
            transaction,
            state: AttemptState::Calling { until: stack.now + patience },
            ring_until: stack.now + order.ring_for,
            order,
            heard: false,
            dialogs: Vec::new(),
            answered: Vec::new(),
            end_reason: None,
            armed: None,
        };
        self.attempts.insert(call, attempt);
        self.rearm_attempt(call);
        call
    }

    pub(super) fn is_calling(&self, call: DialogId) -> bool {
        self.attempts.get(&call).is_some_and(|attempt| matches!(attempt.state, AttemptState::Calling { .. }))
    }

    /// The INVITE was sent again, with credentials or another interval.
    pub(super) fn rebind_call(&mut self, stack: &mut Stack<'_>, call: DialogId, transaction: TransactionId) {
        let Some(attempt) = self.attempts.get_mut(&call) else { return };
        (attempt.transaction, attempt.heard) = (transaction, false);
        for dialog in std::mem::take(&mut attempt.dialogs) {
            self.end_session(stack, dialog, dialog != call);
        }
    }

    /// Cancels a call that rings; false when it rings no more.
    pub(super) fn cancel_call(&mut self, stack: &mut Stack<'_>, call: DialogId, status: u16) -> bool {
        let Some(attempt) = self.attempts.get_mut(&call) else { return false };
        match attempt.state {
            AttemptState::Calling { .. } => {
                let until = stack.now + self.settings.patience();
                attempt.state = AttemptState::Cancelling { until, status };
                if attempt.heard {
                    stack.layer.cancel(stack.now, attempt.transaction, attempt.end_reason.as_deref());
                }
                self.rearm_attempt(call);
                true
            }
            AttemptState::Cancelling { .. } => true,
            AttemptState::Answered { .. } => false,
        }
    }

    pub(super) fn handle_call_progress(
        &mut self,
        stack: &mut Stack<'_>,
        call: DialogId,
        request: &Message,
        response: &Message,
    ) {
        let Some(attempt) = self.attempts.get_mut(&call) else { return };
        let is_first = !std::mem::replace(&mut attempt.heard, true);
        match attempt.state {
            AttemptState::Calling { .. } => attempt.state = AttemptState::Calling { until: attempt.ring_until },
            AttemptState::Cancelling { .. } => {
                if is_first {
                    stack.layer.cancel(stack.now, attempt.transaction, attempt.end_reason.as_deref());
                }
                return;
            }
            AttemptState::Answered { .. } => return,
        }
        self.rearm_attempt(call);
        if response.status() == 100 {
            return;
        }
        let dialog = self.early_dialog(call, request, response);
        if let Some(dialog) = dialog
            && !self.take_reliable(stack, dialog, response)
        {
            return;
        }
        let (dialog, status) = (dialog.unwrap_or(call), response.status());
        stack.tell(AgentEvent::Progress { call, dialog, status, response: response.clone() });
    }

    /// Finds or makes the early dialog of a provisional response; none without To tag and Contact.
    fn early_dialog(&mut self, call: DialogId, request: &Message, response: &Message) -> Option<DialogId> {
        if let Some(known) = self.find_by_response(response) {
            return Some(known);
        }
        response.header(Header::Contact)?;
        if self.has_room() { self.begin_dialog(call, request, response) } else { None }
    }

    fn begin_dialog(&mut self, call: DialogId, request: &Message, response: &Message) -> Option<DialogId> {
        response.to_tag()?;
        if self.attempts.get(&call)?.dialogs.len() >= FORKS_MAX {
            return None;
        }
        let id = if self.sessions.contains_key(&call) { self.fresh_id() } else { call };
        let attempt = self.attempts.get_mut(&call)?;
        let order = &attempt.order;
        let dialog =
            Dialog::calling(request, response, order.destination.clone(), &order.sources, &order.contact).ok()?;
        let mut session = Session::new(dialog, Phase::Calling { prack: None }, true, order.handles.clone());
        if has_description(request) {
            session.negotiation.sent();
            session.description = order.body.clone();
        }
        attempt.dialogs.push(id);
        self.insert(id, session);
        Some(id)
    }

    pub(super) fn conclude_call(&mut self, stack: &mut Stack<'_>, call: DialogId, outcome: &Outcome<'_>) {
        match outcome.response {
            Some(response) if outcome.status < 300 => self.handle_call_answer(stack, call, outcome, response),
            response => {
                let status = match self.attempts.get(&call).map(|attempt| attempt.state) {
                    Some(AttemptState::Cancelling { status, .. }) if response.is_none() => status,
                    Some(_) => outcome.status,
                    None => return,
                };
                self.fail_call(stack, call, status, response);
            }
        }
    }

    fn fail_call(&mut self, stack: &mut Stack<'_>, call: DialogId, status: u16, response: Option<&Message>) {
        for dialog in self.drop_attempt(stack, call) {
            self.end_session(stack, dialog, dialog != call);
        }
        stack.tell(AgentEvent::Failed { dialog: call, status, response: response.cloned() });
    }

    fn handle_call_answer(&mut self, stack: &mut Stack<'_>, call: DialogId, outcome: &Outcome<'_>, response: &Message) {
        let known = self.find_by_response(response);
        let Ok(number) = outcome.request.cseq().map(|cseq| cseq.number) else { return };
        if known.is_some_and(|id| self.repeat_ack(stack, id, number)) {
            return;
        }
        let tag = response.to_tag().unwrap_or_default().to_owned();
        let Some(attempt) = self.attempts.get_mut(&call) else { return };
        let until = stack.now + self.settings.patience();
        let is_repeated = attempt.answered.contains(&tag);
        let (is_first, is_cancelled, wanted) = match attempt.state {
            AttemptState::Calling { .. } => (true, None, true),
            AttemptState::Cancelling { status, .. } => (true, Some(status), false),
            AttemptState::Answered { is_wanted, .. } => (false, None, is_wanted && attempt.order.keep_forks),
        };
        if is_first {
            attempt.state = AttemptState::Answered { until, is_wanted: is_cancelled.is_none() };
        }
        if attempt.answered.len() < FORKS_MAX && !is_repeated {
            attempt.answered.push(tag);
        }
        let keep_forks = attempt.order.keep_forks && is_cancelled.is_none();
        let wanted = wanted && !is_repeated;
        self.rearm_attempt(call);
        let was_told = known.is_some();
        let Some(id) = known.or_else(|| self.begin_dialog(call, outcome.request, response)) else {
            // It names no Contact, or the like: there is no way to talk to it.
            if wanted && is_first {
                self.fail_call(stack, call, 502, Some(response));
            }
            return;
        };
        let wants_answer = self.confirm(stack, id, outcome, response, number);
        if is_first && !keep_forks {
            self.drop_forks(stack, call, id);
        }
        if wanted {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.dialog.login = outcome.login.and_then(Login::for_dialog);
            }
            stack.tell(AgentEvent::Answered { call, dialog: id, response: response.clone(), wants_answer });
            return;
        }
        // Too late, or from another branch: acknowledged, then ended (RFC 3261 §13.2.2.4, §9.1).
        self.send_ack(stack, id, None);
        if let Some(session) = self.sessions.get_mut(&id) {
            let bye = session.dialog.request(stack, "BYE", &[], None);
            self.send_in_dialog_as(stack, id, Purpose::Bye, &bye);
        }
        self.end_session(stack, id, was_told && id != call);
        if let Some(status) = is_cancelled {
            stack.tell(AgentEvent::Failed { dialog: call, status, response: None });
        }
    }

    /// Makes a dialog stand by a 2xx; true when the ACK waits for the node's answer to an offer in it.
    fn confirm(
        &mut self,
        stack: &mut Stack<'_>,
        id: DialogId,
        outcome: &Outcome<'_>,
        response: &Message,
        number: u32,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        session.dialog.confirm(response);
        session.learn(response);
        if has_description(response) && !(session.negotiation == Negotiation::Quiet { agreed: true }) {
            session.negotiation.received();
        }
        session.timer = Agreed::read(response)
            .map(|agreed| SessionTimer::start(stack.now, agreed, agreed.refresher == Refresher::Uac));
        let wants_answer = matches!(session.negotiation, Negotiation::OfferReceived { .. });
        session.phase = Phase::AnswerWanted {
            cseq: number,
            credentials: credentials_of(outcome.request),
            until: stack.now + self.settings.patience(),
        };
        if !wants_answer {
            // An offer without an answer is void: the other side broke the rule, and hears of no further one.
            session.negotiation.refused();
            self.send_ack(stack, id, None);
        }
        self.rearm_session(id);
        wants_answer
    }

    /// Ends the early dialogs of the other branches: one has answered.
    fn drop_forks(&mut self, stack: &mut Stack<'_>, call: DialogId, kept: DialogId) {
        let Some(attempt) = self.attempts.get_mut(&call) else { return };
        let (rest, others): (Vec<DialogId>, Vec<DialogId>) = attempt.dialogs.iter().partition(|id| **id == kept);
        attempt.dialogs = rest;
        for id in others {
            self.end_session(stack, id, id != call);
        }
    }

    /// Forgets a call's INVITE; gives its dialogs that are still early.
    fn drop_attempt(&mut self, stack: &mut Stack<'_>, call: DialogId) -> Vec<DialogId> {
        let Some(mut attempt) = self.attempts.remove(&call) else { return Vec::new() };
        self.timers.rearm(TimerKey::Attempt(call), &mut attempt.armed, None);
        if self.pending.remove(&attempt.transaction).is_some() {
            stack.layer.abandon(attempt.transaction);
        }
        let is_early =
            |id: &DialogId| self.sessions.get(id).is_some_and(|session| matches!(session.phase, Phase::Calling { .. }));
        attempt.dialogs.retain(is_early);
        attempt.dialogs
    }

    pub(super) fn handle_attempt_timeout(&mut self, stack: &mut Stack<'_>, call: DialogId) {
        let Some(attempt) = self.attempts.get_mut(&call) else { return };
        attempt.armed = None;
        match attempt.state {
            AttemptState::Calling { .. } if attempt.heard => {
                self.cancel_call(stack, call, 408);
            }
            AttemptState::Calling { .. } => self.fail_call(stack, call, 408, None),
            AttemptState::Cancelling { status, .. } => self.fail_call(stack, call, status, None),
            AttemptState::Answered { .. } => {
                for dialog in self.drop_attempt(stack, call) {
                    self.end_session(stack, dialog, true);
                }
            }
        }
    }

    fn rearm_attempt(&mut self, call: DialogId) {
        if let Some(attempt) = self.attempts.get_mut(&call) {
            let next = Some((attempt.state.until(), TimerReason::CallWait));
            self.timers.rearm(TimerKey::Attempt(call), &mut attempt.armed, next);
        }
    }
}

fn write_invite(stack: &mut Stack<'_>, order: &OutgoingCall) -> Message {
    let mut own = vec![(Header::Contact, format!("<{}>", order.contact)), (Header::Allow, allow(&order.handles))];
    let supported = match order.reliable {
        Reliability::Off => SUPPORTED.replace("100rel, ", ""),
        Reliability::Supported | Reliability::Required => SUPPORTED.to_owned(),
    };
    own.push((Header::Supported, supported));
    if order.reliable == Reliability::Required {
        own.push((Header::Require, "100rel".to_owned()));
    }
    if let Some(wish) = order.session_timer {
        let seconds = u32::try_from(wish.as_secs()).unwrap_or(u32::MAX).max(MIN_SE);
        own.push((Header::SessionExpires, seconds.to_string()));
        own.push((Header::MinSe, MIN_SE.to_string()));
    }
    let draft = Draft {
        method: "INVITE",
        uri: &order.uri,
        destination: &order.destination,
        from: &order.from,
        to: &order.to,
        call_id: order.call_id.as_deref(),
        cseq: 1,
        own,
        headers: &order.headers,
        body: order.body.as_ref(),
    };
    draft.write(stack)
}
