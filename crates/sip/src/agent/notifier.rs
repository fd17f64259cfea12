//! Subscriptions with us (RFC 6665 §4.2), those of a REFER that we accepted among them (RFC 3515 §2.4.4).

use std::time::{Duration, Instant};

use super::called::{Asked, Refusal};
use super::dialog::Dialog;
use super::request::{Outcome, Purpose};
use super::session::{Phase, Session};
use super::subscriber::SUBSCRIPTIONS_MAX;
use super::subscription_state::Event;
use super::{
    ALLOW, Agent, AgentEvent, Answer, Body, DialogId, Stack, SubscriptionAnswer, SubscriptionId, SubscriptionState,
    Termination, TimerKey, Verdict, key,
};
use crate::message::{Builder, Header, Message, Method, reason_phrase};
use crate::transaction::TimerReason;

/// How long the subscription of a REFER lasts at most: a call rings for 3 minutes.
const REFER_LASTS: Duration = Duration::from_secs(300);

/// A subscription with us.
#[derive(Debug)]
pub(super) struct Serving {
    dialog: DialogId,
    /// Value of Event in our NOTIFYs.
    event: String,
    longest: Duration,
    until: Instant,
    state: SubscriptionState,
    /// Why it is over; the next NOTIFY is the last.
    ended: Option<Termination>,
    /// The state told last.
    body: Option<Body>,
    notifying: Notifying,
    armed: Option<Instant>,
}

/// One NOTIFY at a time is under way, so that they cannot overtake each other; newer states replace one that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notifying {
    Idle,
    Sent {
        is_last: bool,
    },
    /// Sent, and there is news since.
    Outdated,
}

impl Agent {
    /// Accepts a SUBSCRIBE, and tells the state at once (RFC 6665 §4.2.1.2).
    pub(crate) fn accept_subscription(
        &mut self,
        stack: &mut Stack<'_>,
        asked: &Asked<'_>,
        answer: SubscriptionAnswer,
    ) -> Result<SubscriptionId, Refusal> {
        let request = asked.request;
        let Some(event) = request.header(Header::Event).filter(|_| request.method() == Method::Subscribe) else {
            return Err(Refusal::plain(489));
        };
        let wanted = request
            .expires()
            .ok()
            .flatten()
            .map_or(answer.longest, |seconds| Duration::from_secs(seconds.into()).min(answer.longest));
        let fields = vec![(Header::Expires, wanted.as_secs().to_string())];
        // What else the subscriber said of the event was for us (RFC 6665 §8.2.1).
        let (event, longest) = (Event::read(event).value(), answer.longest);
        let id = self.begin_serving(stack, asked, &answer.contact, event, longest, wanted)?;
        self.answer_asked(stack, asked, 200, &answer.contact, &fields);
        let ended = wanted.is_zero().then_some(Termination::Timeout);
        self.tell_state(id, answer.state, ended, answer.body);
        Ok(id)
    }

    /// Accepts a REFER (202), and tells that it is being tried.
    pub(crate) fn accept_refer(
        &mut self,
        stack: &mut Stack<'_>,
        asked: &Asked<'_>,
        contact: &str,
    ) -> Result<SubscriptionId, Refusal> {
        if asked.request.method() != Method::Refer {
            return Err(Refusal::plain(405));
        }
        let number = asked.request.cseq().map_or(0, |cseq| cseq.number);
        // Only further REFERs of a dialog need a name (RFC 3515 §2.4.6), and not all phones know it.
        let session = asked.dialog.and_then(|dialog| self.sessions.get_mut(&dialog));
        let is_further = session.is_some_and(|session| std::mem::replace(&mut session.was_referred, true));
        let event = if is_further { format!("refer;id={number}") } else { "refer".to_owned() };
        let id = self.begin_serving(stack, asked, contact, event, REFER_LASTS, REFER_LASTS)?;
        self.answer_asked(stack, asked, 202, contact, &[]);
        self.tell_refer(id, 100);
        Ok(id)
    }

    /// Tells how a REFER goes on; a final status ends the subscription.
    pub(crate) fn tell_refer(&mut self, id: SubscriptionId, status: u16) {
        let line = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
        let body = Body::new("message/sipfrag;version=2.0", line.as_bytes());
        let ended = (status >= 200).then_some(Termination::NoResource);
        self.tell_state(id, SubscriptionState::Active, ended, Some(body));
    }

    /// Takes a new state, told by [`Agent::notify_due`]; the last one with a reason why the subscription is over.
    pub(crate) fn tell_state(
        &mut self,
        id: SubscriptionId,
        state: SubscriptionState,
        ended: Option<Termination>,
        body: Option<Body>,
    ) {
        let Some(serving) = self.serving.get_mut(&id) else { return };
        if serving.ended.is_some() {
            return;
        }
        serving.state = state;
        serving.body = body;
        serving.ended = match state {
            SubscriptionState::Terminated => Some(ended.unwrap_or(Termination::NoResource)),
            SubscriptionState::Pending | SubscriptionState::Active => ended,
        };
        if !self.due.contains(&id) {
            self.due.push(id);
        }
    }

    fn begin_serving(
        &mut self,
        stack: &mut Stack<'_>,
        asked: &Asked<'_>,
        contact: &str,
        event: String,
        longest: Duration,
        lasts: Duration,
    ) -> Result<SubscriptionId, Refusal> {
        if !self.has_room() || self.serving.len() >= super::DIALOGS_MAX {
            return Err(Refusal { status: 503, extra: vec![(Header::RetryAfter, "60".to_owned())] });
        }
        let dialog = match asked.dialog {
            Some(dialog) => dialog,
            None => {
                let remote = asked.request.from_tag();
                if self.keys.contains_key(key(asked.request.call_id(), asked.tag, remote).as_str()) {
                    return Err(Refusal::plain(482));
                }
                let dialog = Dialog::called(asked.request, asked.flow.clone(), asked.tag.to_owned(), contact)
                    .map_err(|error| Refusal::plain(error.status()))?;
                let dialog_id = self.fresh_id();
                self.insert(dialog_id, Session::new(dialog, Phase::Over, false, Vec::new()));
                dialog_id
            }
        };
        let id = SubscriptionId(self.fresh_id().0);
        let session = self.sessions.get_mut(&dialog).ok_or_else(|| Refusal::plain(481))?;
        if session.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(Refusal::plain(486));
        }
        session.subscriptions.push(id);
        let serving = Serving {
            dialog,
            event,
            longest,
            until: stack.now + lasts,
            state: SubscriptionState::Active,
            ended: None,
            body: None,
            notifying: Notifying::Idle,
            armed: None,
        };
        self.serving.insert(id, serving);
        self.rearm_serving(id);
        Ok(id)
    }

    fn answer_asked(
        &self,
        stack: &mut Stack<'_>,
        asked: &Asked<'_>,
        status: u16,
        contact: &str,
        fields: &[(Header, String)],
    ) {
        let mut builder = Builder::response(asked.request, status, "").to_tag(asked.tag);
        for route in asked.request.fields(Header::RecordRoute) {
            builder = builder.header(Header::RecordRoute, route);
        }
        let known = asked.dialog.and_then(|dialog| self.sessions.get(&dialog));
        let contact = known.map_or_else(|| format!("<{contact}>"), |session| session.dialog.contact.clone());
        builder = builder.header(Header::Contact, &contact).header(Header::Allow, ALLOW);
        for (header, value) in fields {
            builder = builder.header(*header, value);
        }
        stack.answers.push((asked.server, Answer::Whole(builder.finish())));
    }

    /// Refreshes or ends a subscription with us (RFC 6665 §4.2.1.4).
    pub(super) fn handle_resubscribe(
        &mut self,
        stack: &mut Stack<'_>,
        dialog: DialogId,
        subscribe: &Message,
    ) -> Verdict {
        let wanted = subscribe.header(Header::Event).map(Event::read);
        let found = self.sessions.get(&dialog).and_then(|session| {
            session.subscriptions.iter().copied().find(|id| {
                self.serving
                    .get(id)
                    .is_some_and(|serving| serving.ended.is_none() && Some(Event::read(&serving.event)) == wanted)
            })
        });
        let Some(id) = found else { return Verdict::Answer(481, Vec::new()) };
        let Some(serving) = self.serving.get_mut(&id) else { return Verdict::Answer(481, Vec::new()) };
        let lasts = subscribe
            .expires()
            .ok()
            .flatten()
            .map_or(serving.longest, |seconds| Duration::from_secs(seconds.into()).min(serving.longest));
        serving.until = stack.now + lasts;
        if lasts.is_zero() {
            serving.ended = Some(Termination::Timeout);
        } else {
            stack.tell(AgentEvent::SubscriptionRefreshed { subscription: id, expires: lasts });
        }
        serving.notifying = match serving.notifying {
            // Told after the answer to this request.
            Notifying::Idle => Notifying::Idle,
            Notifying::Sent { .. } | Notifying::Outdated => Notifying::Outdated,
        };
        if serving.notifying == Notifying::Idle {
            self.due.push(id);
        }
        self.rearm_serving(id);
        let contact = self.sessions.get(&dialog).map(|session| session.dialog.contact.clone()).unwrap_or_default();
        let fields = vec![(Header::Contact, contact), (Header::Expires, lasts.as_secs().to_string())];
        Verdict::Answer(200, fields)
    }

    /// Tells what the answer to a SUBSCRIBE had to precede.
    pub(crate) fn notify_due(&mut self, stack: &mut Stack<'_>) {
        for id in std::mem::take(&mut self.due) {
            self.notify(stack, id);
        }
    }

    fn notify(&mut self, stack: &mut Stack<'_>, id: SubscriptionId) {
        let Some(serving) = self.serving.get_mut(&id) else { return };
        if serving.notifying != Notifying::Idle {
            serving.notifying = Notifying::Outdated;
            return;
        }
        let Some(session) = self.sessions.get_mut(&serving.dialog) else { return };
        let left = serving.until.saturating_duration_since(stack.now).as_secs();
        let state = match (&serving.ended, serving.state) {
            (Some(reason), _) => format!("terminated;reason={}", reason.token()),
            (None, SubscriptionState::Pending) => format!("pending;expires={left}"),
            (None, SubscriptionState::Active | SubscriptionState::Terminated) => format!("active;expires={left}"),
        };
        let fields = vec![
            (Header::Contact, session.dialog.contact.clone()),
            (Header::Event, serving.event.clone()),
            (Header::SubscriptionState, state),
        ];
        let request = session.dialog.request(stack, "NOTIFY", &fields, serving.body.as_ref());
        serving.notifying = Notifying::Sent { is_last: serving.ended.is_some() };
        let dialog = serving.dialog;
        self.send_in_dialog_as(stack, dialog, Purpose::Notify(id), &request);
        self.rearm_serving(id);
    }

    pub(super) fn conclude_notify(&mut self, stack: &mut Stack<'_>, id: SubscriptionId, outcome: &Outcome<'_>) {
        let Some(serving) = self.serving.get_mut(&id) else { return };
        let sent = std::mem::replace(&mut serving.notifying, Notifying::Idle);
        let is_last = sent == Notifying::Sent { is_last: true };
        // Whatever is wrong, a subscriber that cannot be told is none (RFC 6665 §4.2.2).
        if is_last || outcome.status >= 300 {
            let reason = match serving.ended.take() {
                Some(reason) if is_last => reason,
                Some(_) | None => Termination::Failed(outcome.status),
            };
            self.end_serving(stack, id, reason);
        } else if sent == Notifying::Outdated {
            self.notify(stack, id);
        }
    }

    fn end_serving(&mut self, stack: &mut Stack<'_>, id: SubscriptionId, reason: Termination) {
        let Some(mut serving) = self.serving.remove(&id) else { return };
        self.timers.rearm(TimerKey::Serving(id), &mut serving.armed, None);
        self.release(Some(serving.dialog), id);
        stack.tell(AgentEvent::SubscriptionEnded { subscription: id, reason, retry_after: None });
    }

    pub(super) fn handle_serving_timeout(&mut self, stack: &mut Stack<'_>, id: SubscriptionId) {
        let Some(serving) = self.serving.get_mut(&id) else { return };
        serving.armed = None;
        if serving.ended.is_none() && serving.until <= stack.now {
            serving.ended = Some(Termination::Timeout);
            self.notify(stack, id);
        }
        self.rearm_serving(id);
    }

    fn rearm_serving(&mut self, id: SubscriptionId) {
        if let Some(serving) = self.serving.get_mut(&id) {
            let next = serving.ended.is_none().then_some((serving.until, TimerReason::SubscriptionTimer));
            self.timers.rearm(TimerKey::Serving(id), &mut serving.armed, next);
        }
    }
}
