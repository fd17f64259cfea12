//! Session timers as a proxy sees them (RFC 4028 §8): too short ones are refused, missing ones may be asked for, and
//! what came of it is remembered for the transaction alone. No state of a call is kept, so none has to expire.

use super::history::lists;
use crate::message::{Header, Message, Method};

/// No policy may ask for a longer minimum than this makes sense for, and none for a shorter (RFC 4028 §4), in seconds.
pub(crate) const MIN_SE_S: u32 = 90;

/// What the proxy wants of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTimers {
    /// Sessions that are refreshed more often are refused with 422; at least 90 s count.
    pub min_s: u32,
    /// Asks for a session timer of this length where nobody did, in seconds.
    pub insert_s: Option<u32>,
}

impl Default for SessionTimers {
    /// The 90 s of RFC 4028, and no timer of our own.
    fn default() -> SessionTimers {
        SessionTimers { min_s: MIN_SE_S, insert_s: None }
    }
}

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Judged {
    /// Forward it as it is.
    Unchanged,
    /// Forward this in its place.
    Changed(Message),
    /// Answer 422 with this Min-SE.
    TooSmall(u32),
}

/// What must be known when the response comes (RFC 4028 §8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    interval_s: u32,
}

/// Judges a session refresh request.
pub(crate) fn judge(request: &Message, policy: &SessionTimers) -> Judged {
    if !is_refresh(request.method()) {
        return Judged::Unchanged;
    }
    let least = policy.min_s.max(MIN_SE_S);
    let understands = lists(request, Header::Supported, "timer");
    let min_se = request.header(Header::MinSe).and_then(seconds);
    match request.header(Header::SessionExpires) {
        Some(value) => match seconds(value) {
            Some(interval) if interval >= least => Judged::Unchanged,
            Some(_) if understands => Judged::TooSmall(least),
            // A caller that cannot be asked to try again: its interval is made long enough (§8.1).
            Some(_) => {
                let least = min_se.unwrap_or(least).max(least);
                let params = value.split_once(';').map(|(_, params)| format!(";{params}")).unwrap_or_default();
                let longer = format!("{least}{params}");
                let mut editor = request.edit();
                editor.set(Header::MinSe, &least.to_string()).set(Header::SessionExpires, &longer);
                Judged::Changed(editor.finish())
            }
            None => Judged::Unchanged,
        },
        None => match policy.insert_s {
            Some(wanted) => {
                let interval = wanted.max(least).max(min_se.unwrap_or(0));
                Judged::Changed(request.edit().set(Header::SessionExpires, &interval.to_string()).finish())
            }
            None => Judged::Unchanged,
        },
    }
}

/// What to remember of a request as it is forwarded: the timer that its sender could run by himself.
pub(crate) fn asked(request: &Message) -> Option<Asked> {
    if !is_refresh(request.method()) || !lists(request, Header::Supported, "timer") {
        return None;
    }
    let interval_s = request.header(Header::SessionExpires).and_then(seconds)?;
    Some(Asked { interval_s })
}

/// The 2xx in which the callee says nothing of the timer, with the caller as the one who refreshes (§8.2).
pub(crate) fn completed(response: &Message, asked: Asked) -> Option<Message> {
    let is_silent = (200..300).contains(&response.status()) && response.header(Header::SessionExpires).is_none();
    is_silent.then(|| {
        let mut editor = response.edit();
        editor.set(Header::SessionExpires, &format!("{};refresher=uac", asked.interval_s));
        if !lists(response, Header::Require, "timer") {
            editor.append(Header::Require, "timer");
        }
        editor.finish()
    })
}

fn is_refresh(method: Method) -> bool {
    matches!(method, Method::Invite | Method::Update)
}

fn seconds(value: &str) -> Option<u32> {
    value.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::message::Builder;

    const ASKING: SessionTimers = SessionTimers { min_s: 120, insert_s: Some(1800) };

    fn invite(extra: &[(Header, &str)]) -> Message {
        let mut builder = Builder::request("INVITE", "sip:bob@example.org");
        for (header, value) in extra {
            builder = builder.header(*header, value);
        }
        builder.finish()
    }

    fn changed(extra: &[(Header, &str)]) -> Message {
        let Judged::Changed(message) = judge(&invite(extra), &ASKING) else { panic!("nothing changed") };
        message
    }

    #[test]
    fn a_session_too_short_for_the_policy_is_refused_if_the_caller_understands_why() {
        let short = [(Header::SessionExpires, "100"), (Header::Supported, "100rel, timer")];
        assert!(matches!(judge(&invite(&short), &ASKING), Judged::TooSmall(120)));
        let lax = SessionTimers { min_s: 1, insert_s: None };
        assert!(matches!(judge(&invite(&short), &lax), Judged::Unchanged), "never below 90 s");
    }

    #[test]
    fn a_caller_that_knows_no_timers_gets_a_longer_one_instead_of_a_refusal() {
        let longer = changed(&[(Header::SessionExpires, "100;refresher=uas")]);
        assert_eq!(longer.header(Header::SessionExpires), Some("120;refresher=uas"));
        assert_eq!(longer.header(Header::MinSe), Some("120"));
    }

    #[test]
    fn a_timer_is_asked_for_but_never_below_the_minimum_of_the_request() {
        assert_eq!(changed(&[]).header(Header::SessionExpires), Some("1800"));
        assert_eq!(changed(&[(Header::MinSe, "3600")]).header(Header::SessionExpires), Some("3600"));
        assert!(matches!(judge(&invite(&[]), &SessionTimers::default()), Judged::Unchanged));
    }

    #[test]
    fn the_caller_refreshes_alone_when_the_callee_knows_no_timers() {
        let request = invite(&[(Header::SessionExpires, "1800"), (Header::Supported, "timer")]);
        let ok = Builder::response(&request, 200, "").header(Header::Require, "100rel").finish();
        let ok = completed(&ok, asked(&request).unwrap()).unwrap();
        assert_eq!(ok.header(Header::SessionExpires), Some("1800;refresher=uac"));
        assert_eq!(ok.values(Header::Require).collect::<Vec<_>>(), ["100rel", "timer"]);
        assert!(completed(&ok, asked(&request).unwrap()).is_none(), "what the callee said stands");
        assert!(asked(&invite(&[(Header::SessionExpires, "1800")])).is_none(), "nobody could refresh");
    }
}
