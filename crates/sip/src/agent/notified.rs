//! NOTIFY for subscriptions of ours (RFC 6665 §4.1.3, §4.4.1): the first makes the dialog, one of a further notifier another.

use std::time::Duration;

use super::session::{Phase, Session};
use super::subscriber::{WatchState, Watching, standing};
use super::subscription_state::{Told, matches, sipfrag_status};
use super::{Agent, AgentEvent, DialogId, Stack, SubscriptionId, SubscriptionState};
use crate::agent::dialog::Dialog;
use crate::message::Message;
use crate::transport::Flow;

impl Agent {
    /// Takes a NOTIFY that belongs to no dialog yet: it may make that of a subscription of ours, or one beside it with a further
    /// notifier.
    pub(super) fn handle_first_notify(&mut self, stack: &mut Stack<'_>, notify: &Message, flow: &Flow) -> Option<u16> {
        let tag = notify.to_tag()?;
        let id = *self.awaited.get(&format!("{}\n{tag}", notify.call_id()))?;
        let watching = self.watching.get_mut(&id)?;
        let is_first = watching.dialog.is_none();
        if !is_first && (watching.forks_left == 0 || watching.forks_until <= stack.now) {
            return None;
        }
        let mut dialog = Dialog::called(notify, flow.clone(), tag.to_owned(), &watching.contact).ok()?;
        // What the order said of the way there holds for who may come from there, too.
        let destination = std::mem::replace(&mut dialog.destination, watching.destination.clone());
        if !dialog.is_from_peer(notify, flow) || !matches(&watching.event, watching.is_refer, notify) {
            return None;
        }
        dialog.destination = destination;
        dialog.local_cseq = watching.request.cseq().ok()?.number;
        dialog.login = watching.login.clone();
        let id = if is_first { id } else { self.fork(stack, id)? };
        let dialog_id = self.fresh_id();
        let mut session = Session::new(dialog, Phase::Over, true, Vec::new());
        session.subscriptions.push(id);
        self.insert(dialog_id, session);
        let watching = self.watching.get_mut(&id)?;
        watching.dialog = Some(dialog_id);
        if is_first && watching.forks_left == 0 {
            self.awaited.retain(|_, awaited| *awaited != id);
        }
        Some(self.take_notify(stack, id, notify))
    }

    /// Begins to watch a further notifier of a subscription.
    fn fork(&mut self, stack: &mut Stack<'_>, id: SubscriptionId) -> Option<SubscriptionId> {
        if !self.has_room() || self.watching.len() >= super::DIALOGS_MAX {
            return None;
        }
        let fork = SubscriptionId(self.fresh_id().0);
        let watching = self.watching.get_mut(&id)?;
        watching.forks_left -= 1;
        let further = Watching {
            event: watching.event.clone(),
            call_id: watching.call_id.clone(),
            local_tag: watching.local_tag.clone(),
            contact: watching.contact.clone(),
            destination: watching.destination.clone(),
            request: watching.request.clone(),
            login: watching.login.clone(),
            headers: watching.headers.clone(),
            state: WatchState::Asking { until: watching.forks_until },
            armed: None,
            forks_left: 0,
            dialog: None,
            ..*watching
        };
        self.watching.insert(fork, further);
        stack.tell(AgentEvent::Forked { subscription: id, fork });
        Some(fork)
    }

    /// Takes a NOTIFY within a dialog.
    pub(super) fn handle_notify(
        &mut self,
        stack: &mut Stack<'_>,
        dialog: DialogId,
        notify: &Message,
        flow: &Flow,
    ) -> u16 {
        let Some(session) = self.sessions.get_mut(&dialog) else { return 481 };
        let found = session.subscriptions.iter().copied().find(|id| {
            self.watching.get(id).is_some_and(|watching| matches(&watching.event, watching.is_refer, notify))
        });
        let Some(id) = found else { return 481 };
        if matches!(session.phase, Phase::Over) {
            session.dialog.refresh(notify, flow);
        }
        self.take_notify(stack, id, notify)
    }

    fn take_notify(&mut self, stack: &mut Stack<'_>, id: SubscriptionId, notify: &Message) -> u16 {
        let Some(told) = Told::read(notify) else { return 400 };
        let Some(watching) = self.watching.get_mut(&id) else { return 481 };
        if watching.is_refer {
            let status = sipfrag_status(notify);
            stack.tell(AgentEvent::ReferProgress { subscription: id, status, request: notify.clone() });
        } else {
            let event = AgentEvent::Notified { subscription: id, state: told.state, request: notify.clone() };
            stack.tell(event);
        }
        if told.state == SubscriptionState::Terminated {
            self.end_watching(stack, id, told.reason, told.retry_after);
            return 200;
        }
        if !matches!(watching.state, WatchState::Ending { .. }) {
            let longest = watching.expires.max(Duration::from_secs(1));
            let lasts = told.expires.map_or(longest, |expires| expires.min(longest));
            watching.state = match (watching.state, told.expires) {
                // It says nothing new of the time.
                (standing @ WatchState::Standing { .. }, None) => standing,
                _ => standing(stack.now, lasts, watching.is_refer),
            };
        }
        self.rearm_watching(id);
        200
    }
}
