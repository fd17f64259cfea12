//! Subscriptions of ours (RFC 6665 §4.1), those that a REFER implies among them (RFC 3515 §2.4.4).

use std::time::{Duration, Instant};

use super::login::Login;
use super::request::{Draft, Outcome, Purpose};
use super::session_timer::lists;
use super::subscription_state::Event;
use super::{
    ALLOW, Agent, AgentError, AgentEvent, DialogId, OutgoingSubscription, Stack, SubscriptionId, Termination, TimerKey,
};
use crate::message::{Header, Message, Method};
use crate::transaction::TimerReason;
use crate::transport::Destination;

/// Most subscriptions within one dialog: a REFER or two beside what made it.
pub(super) const SUBSCRIPTIONS_MAX: usize = 8;

/// Most further notifiers of one subscription: as many as a call has forks.
const FORKS_MAX: u8 = 16;

/// How long before its end a subscription is refreshed at the latest: time for two transactions that fail.
const REFRESH_BEFORE: Duration = Duration::from_secs(64);

/// How long the subscription of a REFER lasts when its NOTIFY does not say: a call rings for 3 minutes.
const REFER_LASTS: Duration = Duration::from_secs(300);

/// A subscription of ours.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) event: Event,
    /// In its own SUBSCRIBE; REFER is never refreshed.
    pub(super) is_refer: bool,
    pub(super) expires: Duration,
    pub(super) dialog: Option<DialogId>,
    /// Of the request that asked for it.
    pub(super) call_id: String,
    pub(super) local_tag: String,
    pub(super) contact: String,
    pub(super) destination: Destination,
    /// That request, which says who we are; its To tag comes with the first NOTIFY.
    pub(super) request: Message,
    pub(super) login: Option<Login>,
    pub(super) headers: Vec<(Header, String)>,
    /// How many further notifiers may come (RFC 6665 §4.4.1), and until when.
    pub(super) forks_left: u8,
    pub(super) forks_until: Instant,
    pub(super) state: WatchState,
    pub(super) armed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum WatchState {
    /// Asked for; the first NOTIFY must come until then (Timer N).
    Asking { until: Instant },
    /// It stands, and is refreshed in time.
    Standing { refresh_at: Option<Instant>, until: Instant },
    /// Ended by us; the last NOTIFY must come until then.
    Ending { until: Instant },
}

impl Agent {
    pub(crate) fn subscribe(&mut self, stack: &mut Stack<'_>, order: OutgoingSubscription) -> SubscriptionId {
        let id = SubscriptionId(self.fresh_id().0);
        let event = Event::read(&order.event);
        let is_refer = event.package == "refer";
        let mut own = vec![(Header::Contact, format!("<{}>", order.contact)), (Header::Allow, ALLOW.to_owned())];
        if !is_refer {
            own.push((Header::Event, order.event.clone()));
            own.push((Header::Expires, order.expires.as_secs().to_string()));
        }
        let draft = Draft {
            method: if is_refer { "REFER" } else { "SUBSCRIBE" },
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
        let request = draft.write(stack);
        let login = order.credentials.clone().map(Login::new);
        let sent = self.has_room()
            && self.watching.len() < super::DIALOGS_MAX
            && self.transmit(stack, Purpose::Subscribe(id), &order.destination, &request, login).is_some();
        if !sent {
            stack.tell(ended(id, Termination::Failed(503), None));
            return id;
        }
        // The request itself may take as long, and once more for a challenge.
        let first_notify_until = stack.now + self.settings.patience() * 2;
        let watching = Watching {
            event,
            is_refer,
            expires: order.expires,
            dialog: None,
            call_id: request.call_id().to_owned(),
            local_tag: request.from_tag().unwrap_or_default().to_owned(),
            contact: order.contact,
            destination: order.destination,
            request,
            login: None,
            headers: order.headers,
            forks_left: if order.keep_forks { FORKS_MAX } else { 0 },
            forks_until: first_notify_until,
            state: WatchState::Asking { until: first_notify_until },
            armed: None,
        };
        self.awaited.insert(format!("{}\n{}", watching.call_id, watching.local_tag), id);
        self.watching.insert(id, watching);
        self.rearm_watching(id);
        id
    }

    /// Sends REFER within a dialog (RFC 3515), and watches what becomes of it.
    pub(crate) fn refer(
        &mut self,
        stack: &mut Stack<'_>,
        dialog: DialogId,
        refer_to: &str,
        headers: &[(Header, String)],
    ) -> Result<SubscriptionId, AgentError> {
        let id = SubscriptionId(self.fresh_id().0);
        let has_room = self.has_room();
        let session = self.sessions.get_mut(&dialog).ok_or(AgentError::NoSuchDialog)?;
        if !session.is_confirmed() {
            return Err(AgentError::NotNow);
        }
        if !has_room || session.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(AgentError::Full);
        }
        let mut fields =
            vec![(Header::Contact, session.dialog.contact.clone()), (Header::ReferTo, format!("<{refer_to}>"))];
        fields.extend(headers.iter().cloned());
        let request = session.dialog.request(stack, "REFER", &fields, None);
        session.subscriptions.push(id);
        let number = session.dialog.local_cseq.to_string();
        let watching = Watching {
            event: Event { package: "refer".to_owned(), id: Some(number) },
            is_refer: true,
            expires: REFER_LASTS,
            dialog: Some(dialog),
            call_id: session.dialog.call_id.clone(),
            local_tag: session.dialog.local_tag.clone(),
            contact: String::new(),
            destination: session.dialog.destination.clone(),
            request: request.clone(),
            login: None,
            headers: Vec::new(),
            forks_left: 0,
            forks_until: stack.now,
            state: WatchState::Asking { until: stack.now + self.settings.patience() * 2 },
            armed: None,
        };
        self.watching.insert(id, watching);
        self.send_in_dialog_as(stack, dialog, Purpose::Subscribe(id), &request);
        self.rearm_watching(id);
        Ok(id)
    }

    /// Ends a subscription of ours; the last NOTIFY still comes.
    pub(crate) fn unsubscribe(&mut self, stack: &mut Stack<'_>, id: SubscriptionId) {
        let Some(watching) = self.watching.get_mut(&id) else { return };
        match watching.state {
            WatchState::Standing { .. } if !watching.is_refer => {
                watching.state = WatchState::Ending { until: stack.now + self.settings.patience() };
                self.resubscribe(stack, id, Duration::ZERO);
                self.rearm_watching(id);
            }
            // There is nothing to end by a request: what still comes gets 481, and the notifier gives up.
            WatchState::Standing { .. } | WatchState::Asking { .. } => {
                self.end_watching(stack, id, Termination::Timeout, None);
            }
            WatchState::Ending { .. } => {}
        }
    }

    fn resubscribe(&mut self, stack: &mut Stack<'_>, id: SubscriptionId, expires: Duration) {
        let Some(watching) = self.watching.get(&id) else { return };
        let Some(dialog) = watching.dialog else { return };
        let Some(session) = self.sessions.get_mut(&dialog) else { return };
        let mut fields = vec![
            (Header::Contact, session.dialog.contact.clone()),
            (Header::Event, watching.request.header(Header::Event).unwrap_or_default().to_owned()),
            (Header::Expires, expires.as_secs().to_string()),
        ];
        fields.extend(watching.headers.iter().cloned());
        let request = session.dialog.request(stack, "SUBSCRIBE", &fields, None);
        self.send_in_dialog_as(stack, dialog, Purpose::Subscribe(id), &request);
    }

    /// The first request was sent again, with credentials or a longer time.
    pub(super) fn rebind_subscribe(&mut self, id: SubscriptionId, request: &Message) {
        let Some(watching) = self.watching.get_mut(&id) else { return };
        if watching.dialog.is_none() {
            watching.request = request.clone();
        }
        if let Ok(Some(seconds)) = request.expires() {
            watching.expires = watching.expires.max(Duration::from_secs(seconds.into()));
        }
    }

    pub(super) fn conclude_subscribe(&mut self, stack: &mut Stack<'_>, id: SubscriptionId, outcome: &Outcome<'_>) {
        let Some(watching) = self.watching.get_mut(&id) else { return };
        let Some(response) = outcome.response.filter(|_| outcome.status < 300) else {
            let is_first = matches!(watching.state, WatchState::Asking { .. });
            let is_ending = matches!(watching.state, WatchState::Ending { .. });
            // A refresh that failed leaves the subscription until its end, unless it is unknown (RFC 6665 §4.1.2.2).
            if is_first || is_ending || outcome.status == 481 {
                let retry = outcome.response.and_then(retry_after);
                self.end_watching(stack, id, Termination::Failed(outcome.status), retry);
            }
            return;
        };
        let login = outcome.login.and_then(Login::for_dialog);
        if let Some(session) = watching.dialog.and_then(|dialog| self.sessions.get_mut(&dialog)) {
            // The first NOTIFY may come before this response.
            session.dialog.login = session.dialog.login.take().or(login);
        } else {
            watching.login = login;
        }
        if watching.is_refer && is_without_subscription(outcome.request, response) {
            // Accepted, and nobody will tell how it goes on (RFC 4488).
            self.end_watching(stack, id, Termination::NoResource, None);
            return;
        }
        if let (WatchState::Standing { .. }, Ok(Some(seconds))) = (watching.state, response.expires()) {
            let lasts = Duration::from_secs(seconds.into()).min(watching.expires.max(Duration::from_secs(1)));
            watching.state = standing(stack.now, lasts, watching.is_refer);
        }
        self.rearm_watching(id);
    }

    pub(super) fn end_watching(
        &mut self,
        stack: &mut Stack<'_>,
        id: SubscriptionId,
        reason: Termination,
        retry_after: Option<Duration>,
    ) {
        let Some(mut watching) = self.watching.remove(&id) else { return };
        self.timers.rearm(TimerKey::Watching(id), &mut watching.armed, None);
        let key = format!("{}\n{}", watching.call_id, watching.local_tag);
        if self.awaited.get(&key) == Some(&id) {
            self.awaited.remove(&key);
        }
        self.release(watching.dialog, id);
        stack.tell(ended(id, reason, retry_after));
    }

    /// Takes a subscription out of its dialog.
    pub(super) fn release(&mut self, dialog: Option<DialogId>, id: SubscriptionId) {
        if let Some(dialog) = dialog
            && let Some(session) = self.sessions.get_mut(&dialog)
        {
            session.subscriptions.retain(|known| *known != id);
            self.sweep(dialog);
        }
    }

    pub(super) fn handle_watching_timeout(&mut self, stack: &mut Stack<'_>, id: SubscriptionId) {
        let Some(watching) = self.watching.get_mut(&id) else { return };
        watching.armed = None;
        match watching.state {
            // Nobody told us anything (Timer N).
            WatchState::Asking { until } if until <= stack.now => {
                self.end_watching(stack, id, Termination::Failed(408), None);
            }
            WatchState::Ending { until } | WatchState::Standing { until, .. } if until <= stack.now => {
                self.end_watching(stack, id, Termination::Timeout, None);
            }
            WatchState::Standing { refresh_at: Some(at), until } if at <= stack.now => {
                watching.state = WatchState::Standing { refresh_at: None, until };
                let expires = watching.expires;
                self.resubscribe(stack, id, expires);
                self.rearm_watching(id);
            }
            WatchState::Asking { .. } | WatchState::Ending { .. } | WatchState::Standing { .. } => {
                self.rearm_watching(id);
            }
        }
    }

    pub(super) fn rearm_watching(&mut self, id: SubscriptionId) {
        if let Some(watching) = self.watching.get_mut(&id) {
            let at = match watching.state {
                WatchState::Asking { until } | WatchState::Ending { until } => until,
                WatchState::Standing { refresh_at, until } => refresh_at.map_or(until, |at| at.min(until)),
            };
            let next = Some((at, TimerReason::SubscriptionTimer));
            self.timers.rearm(TimerKey::Watching(id), &mut watching.armed, next);
        }
    }
}

pub(super) fn standing(now: Instant, lasts: Duration, is_refer: bool) -> WatchState {
    let refresh_at = (!is_refer).then(|| now + lasts.saturating_sub(REFRESH_BEFORE.min(lasts / 2)));
    WatchState::Standing { refresh_at, until: now + lasts }
}

fn ended(subscription: SubscriptionId, reason: Termination, retry_after: Option<Duration>) -> AgentEvent {
    AgentEvent::SubscriptionEnded { subscription, reason, retry_after }
}

/// Whether a REFER was accepted without a subscription (RFC 4488).
fn is_without_subscription(refer: &Message, response: &Message) -> bool {
    refer.method() == Method::Refer && lists(response, Header::ReferSub, "false")
}

fn retry_after(response: &Message) -> Option<Duration> {
    let value = response.header(Header::RetryAfter)?;
    let digits = value.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().map(Duration::from_secs)
}
