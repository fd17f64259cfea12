//! What NOTIFY says of a subscription: Event, Subscription-State (RFC 6665 §4.1.3, §8.2), and how a REFER goes (RFC 3515 §2.4.5).

use std::time::Duration;

use super::{SubscriptionState, Termination};
use crate::message::{Header, Message};

/// Value of Event: package and `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) package: String,
    pub(super) id: Option<String>,
}

impl Event {
    pub(super) fn read(value: &str) -> Event {
        let mut parts = value.split(';').map(str::trim);
        let package = parts.next().unwrap_or_default().to_owned();
        let id = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("id").then(|| value.trim().to_owned())
        });
        Event { package, id }
    }

    pub(super) fn value(&self) -> String {
        match &self.id {
            Some(id) => format!("{};id={id}", self.package),
            None => self.package.clone(),
        }
    }
}

/// Whether a NOTIFY is about this event. That of a REFER may leave the `id` out (RFC 3515 §2.4.6).
pub(super) fn matches(event: &Event, is_refer: bool, notify: &Message) -> bool {
    let Some(told) = notify.header(Header::Event).map(Event::read) else { return false };
    told.package == event.package && (told.id == event.id || (is_refer && (told.id.is_none() || event.id.is_none())))
}

/// Status in a `message/sipfrag` body (RFC 3420); 0 when it holds none.
pub(super) fn sipfrag_status(notify: &Message) -> u16 {
    let line = notify.body().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let status = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok());
    status.unwrap_or(0)
}

/// What Subscription-State says.
pub(super) struct Told {
    pub(super) state: SubscriptionState,
    pub(super) reason: Termination,
    pub(super) expires: Option<Duration>,
    pub(super) retry_after: Option<Duration>,
}

impl Told {
    pub(super) fn read(notify: &Message) -> Option<Told> {
        let value = notify.header(Header::SubscriptionState)?;
        let mut parts = value.split(';').map(str::trim);
        let state = parts.next()?.to_ascii_lowercase();
        let mut told = Told {
            state: match state.as_str() {
                "terminated" => SubscriptionState::Terminated,
                "pending" => SubscriptionState::Pending,
                // An extension's state counts as active (RFC 6665 §4.1.3).
                _ => SubscriptionState::Active,
            },
            reason: Termination::Other(String::new()),
            expires: None,
            retry_after: None,
        };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            match name.as_str() {
                "reason" => told.reason = Termination::read(value),
                "expires" => told.expires = value.parse().ok().map(Duration::from_secs),
                "retry-after" => told.retry_after = value.parse().ok().map(Duration::from_secs),
                _ => {}
            }
        }
        Some(told)
    }
}

impl Termination {
    fn read(reason: &str) -> Termination {
        match reason.to_ascii_lowercase().as_str() {
            "deactivated" => Termination::Deactivated,
            "probation" => Termination::Probation,
            "rejected" => Termination::Rejected,
            "timeout" => Termination::Timeout,
            "giveup" => Termination::GiveUp,
            "noresource" => Termination::NoResource,
            "invariant" => Termination::Invariant,
            _ => Termination::Other(reason.to_owned()),
        }
    }

    /// The token of Subscription-State.
    pub(super) fn token(&self) -> &str {
        match self {
            Termination::Deactivated => "deactivated",
            Termination::Probation => "probation",
            Termination::Rejected => "rejected",
            Termination::Timeout => "timeout",
            Termination::GiveUp => "giveup",
            Termination::NoResource | Termination::Failed(_) => "noresource",
            Termination::Invariant => "invariant",
            Termination::Other(other) => other,
        }
    }
}
