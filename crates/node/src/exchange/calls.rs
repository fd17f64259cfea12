//! The calls in progress, for people who look: a proxy needs no such table to do its work.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meshtone_sip::message::Message;

/// Calls remembered; a busier node shows the first so many and counts on.
const MAX_CALLS: usize = 50_000;
/// A call whose BYE never came by (both phones lost power) is not shown for longer than this.
const LONGEST_MS: u64 = 24 * 3600 * 1000;

/// The calls that this node takes part in.
#[derive(Default)]
pub(crate) struct Calls {
    calls: Mutex<HashMap<String, Call>>,
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) state: CallState,
    pub(crate) since_ms: u64,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    Ringing,
    Established,
}

impl CallState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            CallState::Ringing => "ringing",
            CallState::Established => "established",
        }
    }
}

impl Calls {
    /// An INVITE that may become a call.
    pub(crate) fn begin(&self, now_ms: u64, invite: &Message) {
        let mut calls = self.calls();
        if calls.len() >= MAX_CALLS {
            calls.retain(|_, call| now_ms.saturating_sub(call.since_ms) < LONGEST_MS);
        }
        if calls.len() < MAX_CALLS && !calls.contains_key(invite.call_id()) {
            let address = |name: Result<meshtone_sip::message::NameAddr<'_>, _>| {
                name.map(|name| name.uri.to_owned()).unwrap_or_default()
            };
            let call = Call {
                from: address(invite.from()),
                to: address(invite.to()),
                state: CallState::Ringing,
                since_ms: now_ms,
            };
            calls.insert(invite.call_id().to_owned(), call);
        }
    }

    /// The INVITE's final answer.
    pub(crate) fn answered(&self, now_ms: u64, call_id: &str, status: u16) {
        let mut calls = self.calls();
        if (200..300).contains(&status) {
            if let Some(call) = calls.get_mut(call_id).filter(|call| call.state == CallState::Ringing) {
                call.state = CallState::Established;
                call.since_ms = now_ms;
            }
        } else {
            calls.remove(call_id);
        }
    }

    /// A BYE went by.
    pub(crate) fn end(&self, call_id: &str) {
        self.calls().remove(call_id);
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<(String, Call)> {
        let mut all: Vec<_> = self.calls().iter().map(|(call_id, call)| (call_id.clone(), call.clone())).collect();
        all.sort_by(|left, right| (left.1.since_ms, &left.0).cmp(&(right.1.since_ms, &right.0)));
        all
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
