//! The event package `reg` (RFC 3680): a user's phones are told which of them are registered here.
//!
//! Only one's own address can be watched. The dialogs are the engine's agent's; the documents, the registrar's.

use std::time::{Duration, Instant};

use meshtone_sip::agent::{Body, SubscriptionAnswer, SubscriptionId, SubscriptionState, Termination};
use meshtone_sip::message::{Header, Message, Method};
use meshtone_sip::registrar::Binding;
use meshtone_sip::registrar::reg_info::{EVENT, MEDIA_TYPE, Removal, document, is_news};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Destination, Flow, Locals};

use super::worker::Worker;
use crate::clock::unix_ms;
use crate::transport::LocalView;

/// How long a subscription lasts at most before it is refreshed; RFC 3680 §4.3 suggests a little more than an hour.
const LASTS: Duration = Duration::from_secs(3761);

/// The shortest subscription, seconds: each costs three messages.
const EXPIRES_MIN_S: u32 = 60;

/// Somebody who is told of registrations.
pub(crate) struct Subscriber {
    address: String,
    /// Version of the document told last.
    version: u32,
    /// What that document said.
    known: Vec<Binding>,
}

/// Whether a request subscribes to registrations.
pub(super) fn is_wanted(request: &Message) -> bool {
    let event = request.header(Header::Event).and_then(|event| event.split(';').next()).map(str::trim);
    request.method() == Method::Subscribe && event.is_some_and(|event| event.eq_ignore_ascii_case(EVENT))
}

impl Worker {
    /// Takes a SUBSCRIBE of the user at `caller` to the registrations of `address`.
    pub(super) fn on_reg_subscribe(
        &mut self,
        id: RequestId,
        request: &Message,
        flow: &Flow,
        caller: &str,
        address: String,
    ) {
        if caller != address {
            self.reject(id, 403, "One's own registrations only");
            return;
        }
        if !accepts_documents(request) {
            self.reject_with(id, 406, "Not Acceptable", &[(Header::Accept, MEDIA_TYPE.to_owned())]);
            return;
        }
        if request.expires().ok().flatten().is_some_and(|seconds| (1..EXPIRES_MIN_S).contains(&seconds)) {
            self.reject_with(id, 423, "Interval Too Brief", &[(Header::MinExpires, EXPIRES_MIN_S.to_string())]);
            return;
        }
        let registrations = &self.exchange.registrations;
        if !registrations.watchers.add(&address, self.index, self.answers.clone()) {
            self.reject_with(id, 503, "Too Many Subscriptions", &[(Header::RetryAfter, "600".to_owned())]);
            return;
        }
        // After the entry among the watchers, so that no change falls in between.
        let now_ms = unix_ms();
        let known = registrations.bindings(now_ms, &address);
        let here = LocalView(self.exchange.transports.clone()).sent_by(&Destination::Flow(flow.clone()));
        let answer = SubscriptionAnswer {
            contact: format!("sip:{here};transport={}", flow.transport().uri_param()),
            longest: LASTS,
            state: SubscriptionState::Active,
            body: Some(to_body(&document(now_ms, 0, &address, &[], &known, Removal::Usual))),
        };
        match self.server.accept_subscription(Instant::now(), id, answer) {
            Some(subscription) => {
                self.subscribers.insert(subscription, Subscriber { address, version: 0, known });
            }
            None => self.exchange.registrations.watchers.remove(&address, self.index),
        }
    }

    /// Tells the subscribers of an address what has become of it, if that is news to them.
    pub(super) fn tell_subscribers(&mut self, address: &str, removal: Removal) {
        let now_ms = unix_ms();
        let present = self.exchange.registrations.bindings(now_ms, address);
        // The account itself may be gone, and whoever watches it with it.
        let user = self.exchange.account_of(address);
        let is_over = removal == Removal::Rejected && self.exchange.accounts.find(user).is_none();
        for (subscription, subscriber) in &mut self.subscribers {
            if subscriber.address != address || !(is_over || is_news(&subscriber.known, &present)) {
                continue;
            }
            subscriber.version = subscriber.version.wrapping_add(1);
            let text = document(now_ms, subscriber.version, address, &subscriber.known, &present, removal);
            subscriber.known.clone_from(&present);
            let (state, reason) = if is_over {
                (SubscriptionState::Terminated, Some(Termination::NoResource))
            } else {
                (SubscriptionState::Active, None)
            };
            self.server.notify(Instant::now(), *subscription, state, reason, Some(to_body(&text)));
        }
    }

    /// Tells a subscriber who has just prolonged everything anew (RFC 3680 §4.7): the engine has repeated what it knew.
    pub(super) fn tell_refreshed(&mut self, subscription: SubscriptionId) {
        let Some(subscriber) = self.subscribers.get_mut(&subscription) else { return };
        let now_ms = unix_ms();
        let present = self.exchange.registrations.bindings(now_ms, &subscriber.address);
        subscriber.version = subscriber.version.wrapping_add(1);
        let known = std::mem::replace(&mut subscriber.known, present);
        let text = document(now_ms, subscriber.version, &subscriber.address, &known, &subscriber.known, Removal::Usual);
        self.server.notify(Instant::now(), subscription, SubscriptionState::Active, None, Some(to_body(&text)));
    }

    /// Forgets a subscriber whose subscription is over.
    pub(super) fn forget_subscriber(&mut self, subscription: SubscriptionId) {
        if let Some(subscriber) = self.subscribers.remove(&subscription) {
            self.exchange.registrations.watchers.remove(&subscriber.address, self.index);
        }
    }
}

fn to_body(text: &str) -> Body {
    Body::new(MEDIA_TYPE, text.as_bytes())
}

/// Whether a subscriber takes our documents; without Accept it does (RFC 3680 §4.4).
fn accepts_documents(request: &Message) -> bool {
    let media = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut accepted = request.values(Header::Accept).map(media).peekable();
    accepted.peek().is_none() || accepted.any(|media| matches!(media.as_str(), MEDIA_TYPE | "application/*" | "*/*"))
}
