//! Session timers (RFC 4028): who refreshes a session, and when a session that nobody refreshed is over.

use std::time::{Duration, Instant};

use crate::message::{Header, Message};

/// The shortest interval that anybody may ask for (RFC 4028 §4).
pub(crate) const MIN_SE: u32 = 90;

/// The longest pause before expiry in which BYE is sent (RFC 4028 §10).
const MARGIN_MAX: Duration = Duration::from_secs(32);

/// How soon a refresh that could not begin is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(4);

/// Which side of the transaction refreshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refresher {
    /// Whoever sent the request.
    Uac,
    /// Whoever answered it.
    Uas,
}

/// What Session-Expires of a 2xx says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) interval: u32,
    pub(crate) refresher: Refresher,
}

/// The timer of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionTimer {
    /// We refresh at `at`.
    Refreshing { at: Instant, until: Instant, interval: u32 },
    /// The other side refreshes.
    Watching { until: Instant, interval: u32 },
}

impl Agreed {
    /// What a 2xx grants; a refresher must be named, else it is whoever asked (RFC 4028 §7.2).
    pub(crate) fn read(response: &Message) -> Option<Agreed> {
        let (interval, refresher) = session_expires(response)?;
        Some(Agreed { interval: interval.max(MIN_SE), refresher: refresher.unwrap_or(Refresher::Uac) })
    }

    pub(crate) fn value(self) -> String {
        let refresher = match self.refresher {
            Refresher::Uac => "uac",
            Refresher::Uas => "uas",
        };
        format!("{};refresher={refresher}", self.interval)
    }
}

/// What to answer to a request's wish, with our own (seconds); the error asks for a longer interval by 422 (RFC 4028 §9).
pub(crate) fn grant(request: &Message, own_wish: Option<u32>) -> Result<Option<Agreed>, ()> {
    let they_can = lists(request, Header::Supported, "timer") || lists(request, Header::Require, "timer");
    let least = least(request);
    let (interval, refresher) = match session_expires(request) {
        // Who does not know timers cannot be told to ask for more; a proxy asked on his behalf.
        Some((interval, _)) if interval < MIN_SE && they_can => return Err(()),
        Some((interval, refresher)) => (interval.max(MIN_SE), refresher),
        None => match own_wish {
            Some(wish) => (wish.max(least), None),
            None => return Ok(None),
        },
    };
    let refresher = match refresher {
        _ if !they_can => Refresher::Uas,
        Some(refresher) => refresher,
        None => Refresher::Uac,
    };
    Ok(Some(Agreed { interval, refresher }))
}

impl SessionTimer {
    /// The timer after a 2xx that agreed on it.
    pub(crate) fn start(now: Instant, agreed: Agreed, we_refresh: bool) -> SessionTimer {
        let interval = Duration::from_secs(agreed.interval.into());
        let until = now + interval.saturating_sub(MARGIN_MAX.min(interval / 3));
        if we_refresh {
            SessionTimer::Refreshing { at: now + interval / 2, until, interval: agreed.interval }
        } else {
            SessionTimer::Watching { until, interval: agreed.interval }
        }
    }

    pub(crate) fn interval(&self) -> u32 {
        match self {
            SessionTimer::Refreshing { interval, .. } | SessionTimer::Watching { interval, .. } => *interval,
        }
    }

    /// When BYE is due.
    pub(crate) fn until(&self) -> Instant {
        match self {
            SessionTimer::Refreshing { until, .. } | SessionTimer::Watching { until, .. } => *until,
        }
    }

    /// When our refresh is due.
    pub(crate) fn refresh_at(&self) -> Option<Instant> {
        match self {
            SessionTimer::Refreshing { at, .. } => Some(*at),
            SessionTimer::Watching { .. } => None,
        }
    }

    /// A refresh begins, or has to wait: the next attempt comes later.
    pub(crate) fn postpone(&mut self, now: Instant) {
        match self {
            SessionTimer::Refreshing { at, .. } => *at = now + TRY_AGAIN,
            SessionTimer::Watching { .. } => {}
        }
    }
}

/// Session-Expires: seconds and refresher.
fn session_expires(message: &Message) -> Option<(u32, Option<Refresher>)> {
    let value = message.header(Header::SessionExpires)?;
    let (seconds, params) = value.split_once(';').unwrap_or((value, ""));
    let refresher = params.split(';').find_map(|param| {
        let (name, value) = param.split_once('=')?;
        let value = value.trim();
        if !name.trim().eq_ignore_ascii_case("refresher") {
            None
        } else if value.eq_ignore_ascii_case("uac") {
            Some(Refresher::Uac)
        } else if value.eq_ignore_ascii_case("uas") {
            Some(Refresher::Uas)
        } else {
            None
        }
    });
    Some((seconds.trim().parse().ok()?, refresher))
}

/// Min-SE; 90 where there is none (RFC 4028 §5).
pub(crate) fn least(message: &Message) -> u32 {
    let value = message.header(Header::MinSe).and_then(|value| value.split(';').next()?.trim().parse().ok());
    value.unwrap_or(MIN_SE).max(MIN_SE)
}

/// Whether a header that lists tokens lists this one.
pub(crate) fn lists(message: &Message, header: Header, token: &str) -> bool {
    message.values(header).any(|value| value.trim().eq_ignore_ascii_case(token))
}
