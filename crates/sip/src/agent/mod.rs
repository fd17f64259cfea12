//! A minimal user agent server and its dialogs (RFC 3261 §12, §13.3, §15), for services inside the node.
//!
//! It keeps dialogs, repeats a 2xx until its ACK and judges requests within a dialog. Which calls to accept, and
//! all media, are the node's business; it never calls anybody.

mod command;
mod dialog;
mod event;

use std::collections::HashMap;
use std::time::Instant;

use crate::message::{Message, Method};
use crate::transaction::{Backoff, TimerQueue, TimerReason, TimerSettings, TransactionId, earlier};
use crate::transport::Flow;
pub use command::{
    Acceptance, AgentError, Body, Credentials, OutgoingCall, OutgoingRequest, OutgoingSubscription, Reliability, Secret,
};
pub(crate) use dialog::Dialog;
pub use event::{AgentEvent, SubscriptionState, Termination};

/// Methods that the agent understands, as Allow says them.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO";

/// Most dialogs at a time: each is a call with media, which costs far more than this table.
const DIALOGS_MAX: usize = 10_000;

/// Number of a dialog of our own agent, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(pub(crate) u64);

/// Number of a request of our own agent that makes no dialog, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentRequestId(pub(crate) u64);

/// Number of a subscription, ours or with us, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) u64);

/// A 2xx that waits for its ACK (RFC 3261 §13.3.1.4).
#[derive(Debug)]
struct Unacknowledged {
    server: TransactionId,
    response: Message,
    cseq: u32,
    retransmit: Backoff,
    until: Instant,
}

#[derive(Debug)]
struct Call {
    dialog: Dialog,
    unacknowledged: Option<Unacknowledged>,
    /// Whether an INVITE of the other side still waits for our final response.
    reinvite: Option<TransactionId>,
    /// BYE must wait for the ACK (RFC 3261 §15).
    hang_up_wanted: bool,
    armed: Option<Instant>,
}

/// What an in-dialog request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer with this status; the dialog goes on.
    Answer(u16),
    /// Answer 500 with Retry-After: another INVITE is still open (RFC 3261 §14.2).
    Busy,
    /// Answer 200; the dialog is over, and so is the INVITE within it that was still open.
    End(DialogId, Option<TransactionId>),
    /// Let the node answer.
    Reinvite(DialogId),
}

/// What the passing of time, or an ACK, asks for.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this 2xx again.
    Repeat(TransactionId, Message),
    /// An answer of the node's to an INVITE was acknowledged by this ACK.
    Acknowledged(DialogId, Message),
    /// Send BYE and end the dialog.
    HangUp(DialogId),
}

/// All dialogs of one worker.
pub(crate) struct Agent {
    settings: TimerSettings,
    last_id: u64,
    calls: HashMap<DialogId, Call>,
    /// By Call-ID and our own tag.
    keys: HashMap<String, DialogId>,
    timers: TimerQueue<DialogId>,
}

impl Agent {
    pub(crate) fn new(settings: TimerSettings) -> Agent {
        Agent { settings, last_id: 0, calls: HashMap::new(), keys: HashMap::new(), timers: TimerQueue::new() }
    }

    /// Whether another dialog may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.calls.len() < DIALOGS_MAX
    }

    /// A number for a dialog that is about to begin.
    pub(crate) fn fresh_id(&mut self) -> DialogId {
        self.last_id += 1;
        DialogId(self.last_id)
    }

    /// Begins a dialog whose INVITE was just answered by `response`.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        id: DialogId,
        dialog: Dialog,
        server: TransactionId,
        response: Message,
    ) {
        self.keys.insert(key(&dialog.call_id, &dialog.local_tag), id);
        let call = Call { dialog, unacknowledged: None, reinvite: None, hang_up_wanted: false, armed: None };
        self.calls.insert(id, call);
        self.await_ack(now, id, server, response);
    }

    /// Whether an accepted INVITE of this Call-ID, caller and CSeq came by another way before (RFC 3261 §8.2.2.2).
    pub(crate) fn is_merged(&self, local_tag: &str, request: &Message) -> bool {
        self.keys.contains_key(&key(request.call_id(), local_tag))
    }

    /// Judges a request with a To tag; `None` when it belongs to no dialog of ours.
    pub(crate) fn handle_request(&mut self, id: TransactionId, request: &Message, flow: &Flow) -> Option<Verdict> {
        let dialog_id = self.find(request)?;
        let call = self.calls.get_mut(&dialog_id)?;
        let number = request.cseq().ok()?.number;
        if number <= call.dialog.remote_cseq {
            // Out of order, or a replay of what was dealt with (RFC 3261 §12.2.2).
            return Some(Verdict::Answer(500));
        }
        call.dialog.remote_cseq = number;
        let verdict = match request.method() {
            Method::Bye => {
                let open = self.end(dialog_id);
                Verdict::End(dialog_id, open)
            }
            Method::Invite if call.reinvite.is_some() || call.unacknowledged.is_some() => Verdict::Busy,
            Method::Invite => {
                call.reinvite = Some(id);
                call.dialog.refresh(request, flow);
                Verdict::Reinvite(dialog_id)
            }
            Method::Options | Method::Info => Verdict::Answer(200),
            Method::Other => Verdict::Answer(501),
            Method::Ack
            | Method::Cancel
            | Method::Register
            | Method::Update
            | Method::Prack
            | Method::Subscribe
            | Method::Notify
            | Method::Publish
            | Method::Message
            | Method::Refer => Verdict::Answer(405),
        };
        Some(verdict)
    }

    /// Takes the final response that the node gave to an INVITE within a dialog.
    pub(crate) fn handle_reinvite_answer(
        &mut self,
        now: Instant,
        id: DialogId,
        server: TransactionId,
        response: &Message,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.reinvite = None;
        if (200..300).contains(&response.status()) {
            self.await_ack(now, id, server, response.clone());
        }
    }

    /// Takes an ACK; false when it belongs to no dialog of ours.
    pub(crate) fn handle_ack(&mut self, ack: &Message, actions: &mut Vec<Action>) -> bool {
        let Some(id) = self.find(ack) else { return false };
        let Some(call) = self.calls.get_mut(&id) else { return false };
        let number = ack.cseq().map(|cseq| cseq.number).ok();
        if call.unacknowledged.as_ref().is_some_and(|answer| Some(answer.cseq) == number) {
            call.unacknowledged = None;
            actions.push(Action::Acknowledged(id, ack.clone()));
            if call.hang_up_wanted {
                actions.push(Action::HangUp(id));
            }
            self.rearm(id);
        }
        true
    }

    /// Whether a dialog may send its BYE now; if not, it will be asked for when the ACK is there.
    pub(crate) fn may_hang_up(&mut self, id: DialogId) -> bool {
        let Some(call) = self.calls.get_mut(&id) else { return false };
        call.hang_up_wanted = true;
        call.unacknowledged.is_none()
    }

    /// The dialog of this number.
    pub(crate) fn dialog(&mut self, id: DialogId) -> Option<&mut Dialog> {
        self.calls.get_mut(&id).map(|call| &mut call.dialog)
    }

    /// Forgets a dialog; gives the INVITE within it that was never answered.
    pub(crate) fn end(&mut self, id: DialogId) -> Option<TransactionId> {
        let mut call = self.calls.remove(&id)?;
        self.timers.rearm(id, &mut call.armed, None);
        self.keys.remove(&key(&call.dialog.call_id, &call.dialog.local_tag));
        call.reinvite
    }

    /// Lets all timers due at `now` fire.
    pub(crate) fn handle_timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(id) = self.timers.pop_due(now) {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            call.armed = None;
            if let Some(answer) = &mut call.unacknowledged {
                if answer.until <= now {
                    call.unacknowledged = None;
                    actions.push(Action::HangUp(id));
                } else if answer.retransmit.at <= now {
                    answer.retransmit = answer.retransmit.next(now, self.settings.t2);
                    actions.push(Action::Repeat(answer.server, answer.response.clone()));
                }
            }
            self.rearm(id);
        }
    }

    /// The next timer.
    pub(crate) fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        self.timers.next()
    }

    fn find(&self, request: &Message) -> Option<DialogId> {
        let tag = request.to().ok()?.tag()?;
        let id = *self.keys.get(&key(request.call_id(), tag))?;
        self.calls.get(&id)?.dialog.is_from_peer(request).then_some(id)
    }

    fn await_ack(&mut self, now: Instant, id: DialogId, server: TransactionId, response: Message) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.unacknowledged = Some(Unacknowledged {
            server,
            cseq: response.cseq().map_or(0, |cseq| cseq.number),
            response,
            retransmit: Backoff::start(now, &self.settings),
            until: now + self.settings.patience(),
        });
        self.rearm(id);
    }

    fn rearm(&mut self, id: DialogId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let next = call.unacknowledged.as_ref().and_then(|answer| {
            earlier(
                Some((answer.until, TimerReason::AckWait)),
                Some((answer.retransmit.at, TimerReason::AnswerRetransmit)),
            )
        });
        self.timers.rearm(id, &mut call.armed, next);
    }
}

fn key(call_id: &str, local_tag: &str) -> String {
    format!("{call_id}\n{local_tag}")
}
