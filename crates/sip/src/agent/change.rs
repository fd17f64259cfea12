//! Our own re-INVITE and UPDATE (RFC 3261 §14.1, RFC 3311), the refresh of a session among them (RFC 4028 §10), and glare.

use std::time::{Duration, Instant};

use super::negotiation::{has_description, is_description};
use super::request::{Outcome, Purpose, credentials_of};
use super::session::{Phase, Session};
use super::session_timer::{Agreed, Refresher, SessionTimer};
use super::{Agent, AgentError, AgentEvent, Body, DialogId, SUPPORTED, Stack, allow};
use crate::message::{Header, Message, Method};
use crate::transaction::TransactionId;

/// Most times that one change is tried against glare.
const TRIES_MAX: u8 = 5;

/// How long a re-INVITE may go without a final response; people may have to agree to a change.
const PATIENCE: Duration = Duration::from_secs(180);

/// Our own change of a session.
#[derive(Debug)]
pub(super) enum Change {
    /// None is under way.
    None,
    /// It was sent; given up at `until`.
    Sent { transaction: TransactionId, plan: Plan, until: Instant },
    /// Both sides changed at once; it is sent again at `at`.
    Glare { plan: Plan, at: Instant },
    /// Done; the 2xx of the re-INVITE may repeat.
    Answered { transaction: TransactionId },
}

/// What a change shall say.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    method: Method,
    body: Option<Body>,
    is_refresh: bool,
    tries: u8,
}

impl Plan {
    fn offers(&self) -> bool {
        self.body.as_ref().is_some_and(|body| is_description(&body.content_type))
    }
}

impl Change {
    pub(super) fn transaction(&self) -> Option<TransactionId> {
        match self {
            Change::Sent { transaction, .. } | Change::Answered { transaction } => Some(*transaction),
            Change::None | Change::Glare { .. } => None,
        }
    }

    pub(super) fn rebind(&mut self, new: TransactionId) {
        match self {
            Change::Sent { transaction, .. } | Change::Answered { transaction } => *transaction = new,
            Change::None | Change::Glare { .. } => {}
        }
    }

    /// Whether an INVITE of ours awaits its final response.
    pub(super) fn is_inviting(&self) -> bool {
        match self {
            Change::Sent { plan, .. } => plan.method == Method::Invite,
            Change::None | Change::Glare { .. } | Change::Answered { .. } => false,
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Change::None | Change::Answered { .. } => true,
            Change::Sent { .. } | Change::Glare { .. } => false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Change::Sent { until, .. } => Some(*until),
            Change::Glare { at, .. } => Some(*at),
            Change::None | Change::Answered { .. } => None,
        }
    }
}

impl Session {
    /// Whether a change by this method may be sent now.
    fn may_change(&self, plan: &Plan) -> bool {
        let may_offer = self.negotiation.is_quiet() && self.incoming.is_none();
        let phase_fits = match &self.phase {
            Phase::Confirmed => plan.method == Method::Update || self.unacknowledged.is_none(),
            // Before the call stands, UPDATE alone changes it (RFC 3311 §5.1).
            Phase::Ringing(_) | Phase::Calling { prack: None } => plan.method == Method::Update,
            Phase::Calling { prack: Some(_) } | Phase::AnswerWanted { .. } | Phase::Over => false,
        };
        phase_fits && (may_offer || (plan.method == Method::Update && !plan.offers()))
    }
}

impl Agent {
    /// Sends a re-INVITE or UPDATE with this body.
    pub(crate) fn change(
        &mut self,
        stack: &mut Stack<'_>,
        id: DialogId,
        method: Method,
        body: Option<Body>,
    ) -> Result<(), AgentError> {
        let session = self.sessions.get(&id).ok_or(AgentError::NoSuchDialog)?;
        let plan = Plan { method, body, is_refresh: false, tries: 0 };
        if !session.change.is_idle() || !session.may_change(&plan) {
            return Err(AgentError::NotNow);
        }
        self.send_change(stack, id, plan);
        Ok(())
    }

    /// Changes who we say we are in the requests of a dialog, the next change of the session first (RFC 4916 §4.3).
    pub(crate) fn identify(&mut self, id: DialogId, from: &str) -> Result<(), AgentError> {
        let session = self.sessions.get_mut(&id).ok_or(AgentError::NoSuchDialog)?;
        if !session.peer_follows_identity {
            return Err(AgentError::NotSupported);
        }
        session.dialog.identify(from);
        Ok(())
    }

    /// Refreshes a session: by UPDATE where the other side can, else by a re-INVITE that offers what was agreed.
    pub(super) fn refresh_session(&mut self, stack: &mut Stack<'_>, id: DialogId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let plan = if session.peer_updates {
            Plan { method: Method::Update, body: None, is_refresh: true, tries: 0 }
        } else {
            Plan { method: Method::Invite, body: session.description.clone(), is_refresh: true, tries: 0 }
        };
        if let Some(timer) = &mut session.timer {
            timer.postpone(stack.now);
        }
        if session.change.is_idle() && session.may_change(&plan) {
            self.send_change(stack, id, plan);
        }
    }

    fn send_change(&mut self, stack: &mut Stack<'_>, id: DialogId, plan: Plan) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(old) = session.change.transaction() {
            self.pending.remove(&old);
        }
        let mut headers = vec![
            (Header::Contact, session.dialog.contact.clone()),
            (Header::Allow, allow(&session.handles)),
            (Header::Supported, SUPPORTED.to_owned()),
        ];
        if let Some(timer) = &session.timer {
            let refresher = if timer.refresh_at().is_some() { "uac" } else { "uas" };
            headers.push((Header::SessionExpires, format!("{};refresher={refresher}", timer.interval())));
        }
        let request = session.dialog.request(stack, plan.method.as_str(), &headers, plan.body.as_ref());
        if plan.offers() {
            session.negotiation.sent();
        }
        match self.send_in_dialog_as(stack, id, Purpose::Change(id), &request) {
            Some(transaction) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.change = Change::Sent { transaction, plan, until: stack.now + PATIENCE };
                }
            }
            None => stack.tell(AgentEvent::ChangeFailed { dialog: id, status: 503, response: None }),
        }
        self.rearm_session(id);
    }

    pub(super) fn conclude_change(&mut self, stack: &mut Stack<'_>, id: DialogId, outcome: &Outcome<'_>) {
        let Ok(number) = outcome.request.cseq().map(|cseq| cseq.number) else { return };
        if outcome.request.method() == Method::Invite && outcome.status < 300 && self.repeat_ack(stack, id, number) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Change::Sent { transaction, plan, .. } = std::mem::replace(&mut session.change, Change::None) else {
            return;
        };
        match outcome.response {
            Some(response) if outcome.status < 300 => {
                if plan.method == Method::Invite {
                    session.change = Change::Answered { transaction };
                }
                self.take_change(stack, id, &plan, outcome.request, response);
            }
            Some(_) if outcome.status == 491 && plan.tries < TRIES_MAX => {
                session.negotiation.refused();
                // The owner of the Call-ID waits longer, in units of 10 ms, so that the two do not meet again (§14.1).
                let pause = if session.is_caller { 210 + stack.below(191) } else { stack.below(201) };
                let at = stack.now + Duration::from_millis(u64::from(pause) * 10);
                session.change = Change::Glare { plan: Plan { tries: plan.tries + 1, ..plan }, at };
                self.rearm_session(id);
            }
            response => {
                if plan.offers() {
                    session.negotiation.refused();
                }
                self.rearm_session(id);
                let response = response.cloned();
                let is_lost = matches!(outcome.status, 408 | 481);
                if !plan.is_refresh || is_lost {
                    stack.tell(AgentEvent::ChangeFailed { dialog: id, status: outcome.status, response });
                }
                if is_lost {
                    // The other side knows nothing of the dialog, or is gone (RFC 3261 §12.2.1.2).
                    self.hang_up(stack, id);
                }
            }
        }
    }

    fn take_change(&mut self, stack: &mut Stack<'_>, id: DialogId, plan: &Plan, request: &Message, response: &Message) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.dialog.retarget(response);
        session.learn(response);
        let brings_description = has_description(response);
        let is_offer = brings_description && !plan.offers();
        if plan.offers() {
            if brings_description {
                session.negotiation.received();
                session.description = plan.body.clone();
            } else {
                session.negotiation.refused();
            }
        }
        let wants_answer = is_offer && plan.method == Method::Invite;
        if wants_answer {
            session.negotiation.received();
        }
        session.timer = Agreed::read(response)
            .map(|agreed| SessionTimer::start(stack.now, agreed, agreed.refresher == Refresher::Uac));
        if plan.method == Method::Invite
            && let Ok(cseq) = request.cseq()
        {
            session.phase = Phase::AnswerWanted {
                cseq: cseq.number,
                credentials: credentials_of(request),
                until: stack.now + self.settings.patience(),
            };
            if !wants_answer {
                self.send_ack(stack, id, None);
            }
        }
        self.rearm_session(id);
        if !plan.is_refresh || brings_description {
            stack.tell(AgentEvent::Changed { dialog: id, response: response.clone(), wants_answer });
        }
    }

    pub(super) fn handle_change_timeout(&mut self, stack: &mut Stack<'_>, id: DialogId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.change.poll_timeout().is_none_or(|at| at > stack.now) {
            return;
        }
        match std::mem::replace(&mut session.change, Change::None) {
            Change::Glare { plan, .. } if session.may_change(&plan) => self.send_change(stack, id, plan),
            // The other side's change is still open: it comes first.
            Change::Glare { plan, at } => {
                session.change = Change::Glare { plan, at: at.max(stack.now) + self.settings.t1 };
            }
            Change::Sent { transaction, .. } => {
                session.negotiation.refused();
                self.pending.remove(&transaction);
                stack.layer.abandon(transaction);
                stack.tell(AgentEvent::ChangeFailed { dialog: id, status: 408, response: None });
            }
            Change::None => {}
            answered @ Change::Answered { .. } => session.change = answered,
        }
    }
}
