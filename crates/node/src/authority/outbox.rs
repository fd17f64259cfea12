//! Mails that wait to be sent, and when each is tried again: a machine without time of its own. Times are unix milliseconds.
//!
//! A mail server that cannot be reached keeps all of them waiting, one that says of a mail that it will be taken later (as greylisting
//! does) keeps that one waiting. What has not been sent when it would be of no use any more is dropped.

use std::collections::VecDeque;

/// Mails that wait at most: what may be asked for within the hour that a code is good.
const MAX_WAITING: usize = 200;

/// First pause after a failure, doubled up to the longest: five minutes are what greylisting asks for.
const FIRST_PAUSE_MS: u64 = 2_000;
const LONGEST_PAUSE_MS: u64 = 300_000;

/// Mails that wait; `T` is the mail.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    waiting: VecDeque<Waiting<T>>,
    /// The server is left alone until then.
    quiet_until_ms: u64,
    pause_ms: u64,
}

/// A mail on its way.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) mail: T,
    due_ms: u64,
    end_ms: u64,
    pause_ms: u64,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// Send this, and say what came of it.
    Send(Waiting<T>),
    /// Nothing before this time.
    At(u64),
    /// Nothing at all.
    Nothing,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Outbox { waiting: VecDeque::new(), quiet_until_ms: 0, pause_ms: FIRST_PAUSE_MS }
    }
}

impl<T> Outbox<T> {
    /// Takes a mail that is of use until `end_ms`; false when too many wait already.
    pub(super) fn push(&mut self, mail: T, now_ms: u64, end_ms: u64) -> bool {
        self.drop_late(now_ms);
        let has_room = self.waiting.len() < MAX_WAITING;
        if has_room {
            self.waiting.push_back(Waiting { mail, due_ms: now_ms, end_ms, pause_ms: FIRST_PAUSE_MS });
        }
        has_room
    }

    /// What to do now.
    pub(super) fn next(&mut self, now_ms: u64) -> Next<T> {
        self.drop_late(now_ms);
        let Some(due_ms) = self.waiting.iter().map(|waiting| waiting.due_ms).min() else { return Next::Nothing };
        let due_ms = due_ms.max(self.quiet_until_ms);
        if due_ms > now_ms {
            return Next::At(due_ms);
        }
        let ripe = self.waiting.iter().position(|waiting| waiting.due_ms <= now_ms);
        ripe.and_then(|place| self.waiting.remove(place)).map_or(Next::Nothing, Next::Send)
    }

    /// The server works.
    pub(super) fn on_success(&mut self) {
        (self.quiet_until_ms, self.pause_ms) = (0, FIRST_PAUSE_MS);
    }

    /// The server does not work: this mail comes first once it does. Returns when it is tried again.
    pub(super) fn on_server_failed(&mut self, mail: Option<Waiting<T>>, now_ms: u64) -> u64 {
        self.quiet_until_ms = now_ms.saturating_add(self.pause_ms);
        self.pause_ms = (self.pause_ms * 2).min(LONGEST_PAUSE_MS);
        if let Some(mail) = mail {
            self.waiting.push_front(mail);
        }
        self.quiet_until_ms
    }

    /// The server will take this mail later.
    pub(super) fn on_deferred(&mut self, mut mail: Waiting<T>, now_ms: u64) {
        mail.due_ms = now_ms.saturating_add(mail.pause_ms);
        mail.pause_ms = (mail.pause_ms * 2).min(LONGEST_PAUSE_MS);
        self.waiting.push_back(mail);
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn drop_late(&mut self, now_ms: u64) {
        self.waiting.retain(|waiting| waiting.end_ms > now_ms);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn sent<T: std::fmt::Debug>(next: Next<T>) -> Waiting<T> {
        match next {
            Next::Send(waiting) => waiting,
            Next::At(_) | Next::Nothing => panic!("{next:?}"),
        }
    }

    #[test]
    fn mails_leave_in_the_order_in_which_they_came() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(1, 0, HOUR_MS) && outbox.push(2, 0, HOUR_MS));
        assert_eq!((sent(outbox.next(0)).mail, sent(outbox.next(0)).mail), (1, 2));
        assert!(matches!(outbox.next(0), Next::Nothing));
    }

    #[test]
    fn a_server_that_is_down_is_tried_again_less_and_less_often() {
        let mut outbox = Outbox::default();
        outbox.push(1, 0, 100 * HOUR_MS);
        outbox.push(2, 0, 100 * HOUR_MS);
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..10 {
            let mail = sent(outbox.next(now));
            assert_eq!(mail.mail, 1, "the order stays");
            let again = outbox.on_server_failed(Some(mail), now);
            assert!(matches!(outbox.next(now), Next::At(at) if at == again));
            pauses.push(again - now);
            now = again;
        }
        assert_eq!((pauses[0], pauses[1], pauses[9]), (FIRST_PAUSE_MS, 2 * FIRST_PAUSE_MS, LONGEST_PAUSE_MS));
        outbox.on_success();
        assert_eq!((sent(outbox.next(now)).mail, sent(outbox.next(now)).mail), (1, 2));
    }

    #[test]
    fn a_mail_that_is_deferred_holds_no_other_up() {
        let mut outbox = Outbox::default();
        outbox.push(1, 0, HOUR_MS);
        let mail = sent(outbox.next(0));
        outbox.on_deferred(mail, 0);
        outbox.push(2, 0, HOUR_MS);
        assert_eq!(sent(outbox.next(0)).mail, 2);
        assert!(matches!(outbox.next(0), Next::At(FIRST_PAUSE_MS)));
        assert_eq!(sent(outbox.next(FIRST_PAUSE_MS)).mail, 1);
    }

    #[test]
    fn what_is_too_late_is_dropped_and_too_many_are_refused() {
        let mut outbox = Outbox::default();
        for number in 0..MAX_WAITING {
            assert!(outbox.push(number, 0, HOUR_MS));
        }
        assert!(!outbox.push(0, 0, HOUR_MS));
        assert!(outbox.push(0, HOUR_MS, 2 * HOUR_MS), "all others are of no use any more");
        assert_eq!(outbox.waiting(), 1);
    }
}
