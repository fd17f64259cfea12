//! What one dialog carries: the session that an INVITE made, and the subscriptions beside it (RFC 5057).

use std::time::Instant;

use super::change::Change;
use super::dialog::Dialog;
use super::negotiation::Negotiation;
use super::reliable::{Due, ReliableResponses};
use super::session_timer::{Agreed, SessionTimer, lists};
use super::{Agent, Body, DialogId, Stack, SubscriptionId, TimerKey, key};
use crate::message::{Header, Message, Method};
use crate::server::Event;
use crate::short::Short;
use crate::transaction::{Backoff, TimerReason, TransactionId, earlier};

/// A dialog and its uses.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) dialog: Dialog,
    pub(super) phase: Phase,
    /// Whether we sent the INVITE, and so own the Call-ID (RFC 3261 §14.1).
    pub(super) is_caller: bool,
    pub(super) negotiation: Negotiation,
    pub(super) change: Change,
    /// A request of the other side's that may change the session and awaits the node's answer.
    pub(super) incoming: Option<Incoming>,
    pub(super) unacknowledged: Option<Unacknowledged>,
    /// The last ACK that we sent, for when the 2xx repeats.
    pub(super) acknowledged: Option<(u32, Message)>,
    /// RSeq of the last reliable provisional response that we took; 0 for none.
    pub(super) last_rseq: u32,
    pub(super) timer: Option<SessionTimer>,
    /// What we last described.
    pub(super) description: Option<Body>,
    /// Whether the other side's Allow names UPDATE.
    pub(super) peer_updates: bool,
    /// Whether the other side follows when we change who we are (RFC 4916).
    pub(super) peer_follows_identity: bool,
    pub(super) handles: Vec<Method>,
    pub(super) subscriptions: Vec<SubscriptionId>,
    /// Whether the other side has sent REFER: further ones are told apart by their number (RFC 3515 §2.4.6).
    pub(super) was_referred: bool,
    /// BYE waits for the ACK (RFC 3261 §15).
    pub(super) hang_up_wanted: bool,
    /// What our BYE gives as Reason (RFC 3326).
    pub(super) end_reason: Option<String>,
    pub(super) armed: Option<Instant>,
}

/// Where the INVITE's session stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// We ring.
    Ringing(Box<Ringing>),
    /// The other side rings. With an offer in a reliable response, the PRACK (RSeq, CSeq) waits for the node's answer.
    Calling { prack: Option<(u32, u32)> },
    /// The other side's 2xx to our INVITE of this number brought an offer; the ACK waits for the node's answer.
    AnswerWanted { cseq: u32, credentials: Vec<(Header, String)>, until: Instant },
    /// It stands.
    Confirmed,
    /// There is none (any more): subscriptions keep the dialog.
    Over,
}

/// An INVITE that has no final response yet.
#[derive(Debug)]
pub(super) struct Ringing {
    pub(super) server: TransactionId,
    pub(super) reliable: ReliableResponses,
    /// The 2xx that waits for a PRACK, with what it agrees on.
    pub(super) held: Option<Message>,
    pub(super) agreed: Option<Agreed>,
    pub(super) replaces: Option<DialogId>,
}

/// An INVITE, UPDATE or PRACK within the dialog that awaits the node's answer.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) server: TransactionId,
    pub(super) agreed: Option<Agreed>,
    pub(super) has_offer: bool,
}

/// A 2xx that waits for its ACK (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct Unacknowledged {
    pub(super) server: TransactionId,
    pub(super) response: Message,
    pub(super) cseq: u32,
    pub(super) retransmit: Backoff,
    pub(super) until: Instant,
}

impl Session {
    pub(super) fn new(dialog: Dialog, phase: Phase, is_caller: bool, handles: Vec<Method>) -> Session {
        Session {
            dialog,
            phase,
            is_caller,
            negotiation: Negotiation::NEW,
            change: Change::None,
            incoming: None,
            unacknowledged: None,
            acknowledged: None,
            last_rseq: 0,
            timer: None,
            description: None,
            peer_updates: false,
            peer_follows_identity: false,
            handles,
            subscriptions: Vec::new(),
            was_referred: false,
            hang_up_wanted: false,
            end_reason: None,
            armed: None,
        }
    }

    pub(super) fn key(&self) -> Short {
        key(&self.dialog.call_id, &self.dialog.local_tag, self.dialog.remote_tag.as_deref())
    }

    pub(super) fn is_useless(&self) -> bool {
        matches!(self.phase, Phase::Over) && self.subscriptions.is_empty()
    }

    pub(super) fn is_confirmed(&self) -> bool {
        match self.phase {
            Phase::Confirmed => true,
            Phase::Ringing(_) | Phase::Calling { .. } | Phase::AnswerWanted { .. } | Phase::Over => false,
        }
    }

    /// Reads what the other side can do.
    pub(super) fn learn(&mut self, message: &Message) {
        if message.header(Header::Allow).is_some() {
            self.peer_updates = message.values(Header::Allow).any(|method| method == "UPDATE");
        }
        if message.header(Header::Supported).is_some() {
            self.peer_follows_identity = lists(message, Header::Supported, "from-change");
        }
    }

    fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        let answer = self.unacknowledged.as_ref().and_then(|answer| {
            earlier(
                Some((answer.until, TimerReason::AckWait)),
                Some((answer.retransmit.at, TimerReason::AnswerRetransmit)),
            )
        });
        let phase = match &self.phase {
            Phase::Ringing(ringing) => ringing.reliable.poll_timeout(),
            Phase::AnswerWanted { until, .. } => Some((*until, TimerReason::AckWait)),
            Phase::Calling { .. } | Phase::Confirmed | Phase::Over => None,
        };
        let timer = self.timer.filter(|_| self.is_confirmed()).map(|timer| {
            let at = timer.refresh_at().map_or(timer.until(), |at| at.min(timer.until()));
            (at, TimerReason::SessionTimer)
        });
        let change = self.change.poll_timeout().map(|at| (at, TimerReason::ChangeWait));
        earlier(earlier(answer, phase), earlier(timer, change))
    }
}

impl Agent {
    pub(super) fn rearm_session(&mut self, id: DialogId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            let next = session.poll_timeout();
            self.timers.rearm(TimerKey::Session(id), &mut session.armed, next);
        }
    }

    pub(super) fn handle_session_timeout(&mut self, stack: &mut Stack<'_>, id: DialogId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.armed = None;
        let mut hang_up = false;
        if let Some(answer) = &mut session.unacknowledged {
            if answer.until <= stack.now {
                session.unacknowledged = None;
                hang_up = true;
            } else if answer.retransmit.at <= stack.now {
                answer.retransmit = answer.retransmit.next(stack.now, self.settings.t2);
                stack.layer.respond(stack.now, answer.server, answer.response.clone());
            }
        }
        match &mut session.phase {
            Phase::Ringing(ringing) => match ringing.reliable.handle_timeout(stack.now, &self.settings) {
                Some(Due::Repeat(response)) => {
                    stack.layer.respond(stack.now, ringing.server, response);
                }
                Some(Due::GiveUp) => stack.answers.push((ringing.server, super::Answer::Status(504, Vec::new()))),
                None => {}
            },
            Phase::AnswerWanted { until, .. } => hang_up |= *until <= stack.now,
            Phase::Calling { .. } | Phase::Confirmed | Phase::Over => {}
        }
        let timer = session.timer.filter(|_| session.is_confirmed());
        hang_up |= timer.is_some_and(|timer| timer.until() <= stack.now);
        if hang_up {
            self.hang_up(stack, id);
            return;
        }
        if timer.and_then(|timer| timer.refresh_at()).is_some_and(|at| at <= stack.now) {
            self.refresh_session(stack, id);
        }
        self.handle_change_timeout(stack, id);
        self.rearm_session(id);
    }

    /// Keeps the Reason (RFC 3326) that the BYE or CANCEL about to be sent will give.
    pub(crate) fn give_reason(&mut self, id: DialogId, reason: &str) {
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.end_reason = Some(reason.to_owned());
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.end_reason = Some(reason.to_owned());
        }
    }

    /// Ends a call of ours, or a session, in whatever way its state asks for (RFC 3261 §15).
    pub(crate) fn hang_up(&mut self, stack: &mut Stack<'_>, id: DialogId) {
        if self.attempts.contains_key(&id) && self.cancel_call(stack, id, 487) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match &session.phase {
            Phase::Ringing(ringing) => stack.answers.push((ringing.server, super::Answer::Status(480, Vec::new()))),
            Phase::AnswerWanted { .. } => {
                self.send_ack(stack, id, None);
                self.send_bye(stack, id);
            }
            Phase::Confirmed if session.unacknowledged.is_some() => session.hang_up_wanted = true,
            Phase::Calling { .. } | Phase::Confirmed => self.send_bye(stack, id),
            Phase::Over => {}
        }
    }

    /// Sends BYE and ends the session.
    pub(super) fn send_bye(&mut self, stack: &mut Stack<'_>, id: DialogId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            let reason: Vec<_> = session.end_reason.iter().map(|reason| (Header::Reason, reason.clone())).collect();
            let bye = session.dialog.request(stack, "BYE", &reason, None);
            self.send_in_dialog_as(stack, id, super::request::Purpose::Bye, &bye);
        }
        self.end_session(stack, id, true);
    }

    /// Ends a session without a word to the other side; an INVITE of its within that is still open gets 487.
    pub(super) fn end_session(&mut self, stack: &mut Stack<'_>, id: DialogId, tell: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if matches!(session.phase, Phase::Over) {
            return;
        }
        session.phase = Phase::Over;
        session.timer = None;
        session.unacknowledged = None;
        if let Some(incoming) = session.incoming.take() {
            stack.answers.push((incoming.server, super::Answer::Status(487, Vec::new())));
        }
        let change = std::mem::replace(&mut session.change, Change::None);
        if let Some(transaction) = change.transaction() {
            self.pending.remove(&transaction);
            stack.layer.abandon(transaction);
        }
        if tell {
            stack.events.push_back(Event::DialogEnded { dialog: id });
        }
        self.rearm_session(id);
        self.sweep(id);
    }
}
