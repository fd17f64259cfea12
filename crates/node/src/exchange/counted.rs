//! The calls outside that stand, and what each counts for (threat 14).
//!
//! A proxy sees a call begin and end by what passes: it stands from the 2xx to its INVITE until a 2xx to a BYE. No other answer
//! ends the count: 401 and 500 leave the call as it was, and 481 or 408 may be had for the asking, by a wrong tag, a wrong
//! Request-URI or a Route that leads nowhere, while the call goes on. What is not told in that way counts until it is too old
//! (see [`Allowance::still_counts`]).

use std::collections::HashMap;
use std::hash::Hash;

use meshtone_sip::message::Message;

use super::allowance::Allowance;

/// A BYE without any outcome is not waited for longer: twice the life of a transaction.
const ENDING_MS: u64 = 64_000;

/// What both ends say of a call in each of its requests. The callee's tag is not needed: a BYE with a wrong one gets no 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CallKey {
    pub(crate) call_id: String,
    caller_tag: String,
}

impl CallKey {
    /// The call that an INVITE outside of any dialog may become.
    pub(crate) fn of_invite(invite: &Message) -> CallKey {
        let caller_tag = invite.from_tag().unwrap_or_default().to_owned();
        CallKey { call_id: invite.call_id().to_owned(), caller_tag }
    }

    /// The call that a BYE may be of, by whichever end it was sent: the caller's own, and the callee's.
    fn of_bye(bye: &Message) -> [CallKey; 2] {
        let key = |tag: Option<&str>| CallKey {
            call_id: bye.call_id().to_owned(),
            caller_tag: tag.unwrap_or_default().to_owned(),
        };
        let (from, to) = (bye.from().ok(), bye.to().ok());
        [key(from.as_ref().and_then(|from| from.tag())), key(to.as_ref().and_then(|to| to.tag()))]
    }
}

/// All of one worker: every request of a call passes through the same one. Requests are told apart by `Id`.
#[derive(Debug)]
pub(crate) struct CountedCalls<Id> {
    standing: HashMap<CallKey, Vec<Allowance>>,
    /// Cancelled, but not over: a 2xx may have been on its way already.
    cancelled: HashMap<Id, (CallKey, Allowance)>,
    /// The BYEs under way, and since when.
    ending: HashMap<Id, ([CallKey; 2], u64)>,
}

impl<Id> Default for CountedCalls<Id> {
    fn default() -> Self {
        CountedCalls { standing: HashMap::new(), cancelled: HashMap::new(), ending: HashMap::new() }
    }
}

impl<Id: Copy + Eq + Hash> CountedCalls<Id> {
    /// A call stands.
    pub(crate) fn stands(&mut self, call: CallKey, allowance: Option<Allowance>) {
        if let Some(allowance) = allowance {
            self.standing.entry(call).or_default().push(allowance);
        }
    }

    /// An INVITE that was sent on is cancelled: what becomes of it, its final answer says.
    pub(crate) fn cancelled(&mut self, id: Id, call: CallKey, allowance: Allowance) {
        self.cancelled.insert(id, (call, allowance));
    }

    /// A BYE is sent on.
    pub(crate) fn ending(&mut self, now_ms: u64, id: Id, bye: &Message) {
        self.ending.insert(id, (CallKey::of_bye(bye), now_ms));
    }

    /// A request has its final answer. Returns the Call-ID of a call that this ended, for all that one can tell.
    pub(crate) fn finished(&mut self, id: Id, status: u16) -> Option<String> {
        let is_success = (200..300).contains(&status);
        if let Some((call, allowance)) = self.cancelled.remove(&id).filter(|_| is_success) {
            self.stands(call, Some(allowance));
        }
        let ([of_caller, of_callee], _) = self.ending.remove(&id)?;
        if is_success {
            let call = if self.standing.contains_key(&of_caller) { &of_caller } else { &of_callee };
            self.end(call);
        }
        (is_success || matches!(status, 408 | 480 | 481)).then_some(of_caller.call_id)
    }

    /// Calls whose end nobody told count no longer.
    pub(crate) fn forget_lost(&mut self, now_ms: u64) {
        self.standing.retain(|_, counted| {
            counted.retain(|allowance| allowance.still_counts(now_ms));
            !counted.is_empty()
        });
        self.cancelled.retain(|_, (_, allowance)| allowance.still_counts(now_ms));
        self.ending.retain(|_, (_, since_ms)| now_ms.saturating_sub(*since_ms) < ENDING_MS);
    }

    /// One call less; who began several with the same Call-ID and tag has as many to end.
    fn end(&mut self, call: &CallKey) {
        if let Some(counted) = self.standing.get_mut(call) {
            counted.pop();
            if counted.is_empty() {
                self.standing.remove(call);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exchange::allowance::Allowances;

    const MOST: usize = 1;

    fn request(method: &str, from_tag: &str, to_tag: &str) -> Message {
        let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
        let text = format!(
            "{method} sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1\r\n\
             From: <sip:a@b>;tag={from_tag}\r\nTo: <sip:c@d>{to_tag}\r\nCall-ID: one\r\nCSeq: 1 {method}\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(bytes::Bytes::from(text)).unwrap()
    }

    /// One call of alice's that stands, and her allowances, of which there is one.
    fn standing() -> (CountedCalls<u64>, Allowances) {
        let (mut counted, allowances) = (CountedCalls::default(), Allowances::default());
        let call = CallKey::of_invite(&request("INVITE", "caller", ""));
        counted.stands(call, allowances.take(0, "alice", MOST));
        assert!(allowances.take(0, "alice", MOST).is_none());
        (counted, allowances)
    }

    fn is_free(allowances: &Allowances) -> bool {
        allowances.take(0, "alice", MOST).is_some()
    }

    #[test]
    fn a_bye_that_either_end_sent_and_the_other_took_ends_the_count() {
        for (from, to) in [("caller", "callee"), ("callee", "caller")] {
            let (mut counted, allowances) = standing();
            counted.ending(0, 1, &request("BYE", from, to));
            assert!(!is_free(&allowances), "not before it was taken");
            assert_eq!(counted.finished(1, 200).as_deref(), Some("one"));
            assert!(is_free(&allowances));
        }
    }

    #[test]
    fn no_other_answer_and_no_other_tag_ends_the_count() {
        let (mut counted, allowances) = standing();
        for (number, status) in [(1, 481), (2, 401), (3, 500), (4, 408), (5, 503)] {
            counted.ending(0, number, &request("BYE", "caller", "callee"));
            counted.finished(number, status);
            assert!(!is_free(&allowances), "{status}");
        }
        counted.ending(0, 6, &request("BYE", "stranger", "callee"));
        counted.finished(6, 200);
        assert!(!is_free(&allowances), "that was another call");
    }

    #[test]
    fn of_two_calls_with_one_call_id_and_tag_a_bye_ends_one() {
        let allowances = Allowances::default();
        let mut counted = CountedCalls::default();
        for _ in 0..2 {
            let call = CallKey::of_invite(&request("INVITE", "caller", ""));
            counted.stands(call, allowances.take(0, "alice", 2));
        }
        counted.ending(0, 1, &request("BYE", "caller", "callee"));
        counted.finished(1, 200);
        assert!(allowances.take(0, "alice", 2).is_some());
        let _second = allowances.take(0, "alice", 2);
        counted.ending(0, 2, &request("BYE", "caller", "another"));
        counted.finished(2, 200);
        assert!(counted.standing.is_empty());
    }

    #[test]
    fn a_cancel_that_comes_too_late_does_not_hide_the_call() {
        let allowances = Allowances::default();
        let mut counted = CountedCalls::default();
        let call = || CallKey::of_invite(&request("INVITE", "caller", ""));
        counted.cancelled(1, call(), allowances.take(0, "alice", MOST).unwrap());
        counted.finished(1, 487);
        assert!(is_free(&allowances));
        counted.cancelled(2, call(), allowances.take(0, "alice", MOST).unwrap());
        counted.finished(2, 200);
        assert!(!is_free(&allowances));
    }

    #[test]
    fn what_nobody_ends_is_forgotten_in_time() {
        let (mut counted, allowances) = standing();
        counted.ending(0, 1, &request("BYE", "caller", "callee"));
        counted.forget_lost(ENDING_MS);
        assert!(counted.ending.is_empty() && !is_free(&allowances));
        counted.forget_lost(u64::MAX);
        assert!(counted.standing.is_empty() && is_free(&allowances));
    }
}
