//! Every timer of the engine, by name, and the queue that orders them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Why the engine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimerReason {
    /// Retransmits an INVITE over an unreliable transport (RFC 3261 §17.1.1.2).
    TimerA,
    /// Ends an INVITE that nobody answered, 64*T1 (§17.1.1.2).
    TimerB,
    /// Ends a proxied INVITE that rings for too long (§16.6 item 11, §16.8).
    TimerC,
    /// How long a client absorbs retransmissions of a final response to INVITE other than 2xx (§17.1.1.2).
    TimerD,
    /// Retransmits a request other than INVITE over an unreliable transport (§17.1.2.2).
    TimerE,
    /// Ends a request other than INVITE that nobody answered, 64*T1 (§17.1.2.2).
    TimerF,
    /// Retransmits a final response to INVITE other than 2xx (§17.2.1).
    TimerG,
    /// Ends the wait for the ACK of a response other than 2xx, 64*T1 (§17.2.1).
    TimerH,
    /// How long a server absorbs retransmissions of that ACK, T4 (§17.2.1).
    TimerI,
    /// How long a server answers retransmissions of a request other than INVITE, 64*T1 (§17.2.2).
    TimerJ,
    /// How long a client absorbs retransmissions of a response to a request other than INVITE, T4 (§17.1.2.2).
    TimerK,
    /// How long a server absorbs retransmissions of an INVITE answered by 2xx, 64*T1 (RFC 6026 §7.1).
    TimerL,
    /// How long a client passes on further 2xx of an INVITE, 64*T1 (RFC 6026 §7.2).
    TimerM,
    /// Sends 100 (Trying) for a request that has no answer yet: an INVITE after 200 ms (RFC 3261 §17.2.1), any other when
    /// its client's Timer E has grown to T2 (RFC 4320 §4.1).
    Trying,
    /// Forgets a request other than INVITE whose client has given up by now, 64*T1 after it came (RFC 4320 §4.2).
    ClientGone,
    /// Lets the next targets ring ([`crate::proxy::ForwardPolicy::group_ring`]).
    GroupRing,
    /// Gives up a branch from which nothing at all was heard ([`crate::proxy::Target::answer_within`]).
    AnswerWithin,
    /// Gives up a cancelled branch that never sent its final response, 64*T1 (RFC 3261 §9.1).
    CancelWait,
    /// Retransmits a 2xx that our own agent gave, until its ACK arrives (§13.3.1.4).
    AnswerRetransmit,
    /// Ends a dialog of our own agent whose 2xx was never acknowledged, 64*T1 (§13.3.1.4).
    AckWait,
    /// Retransmits a reliable provisional response of our own agent until its PRACK arrives (RFC 3262 §3).
    ReliableRetransmit,
    /// Fails an INVITE whose reliable provisional response nobody acknowledged, 64*T1 (RFC 3262 §3).
    PrackWait,
    /// Cancels a call of our own agent that rings for too long; forgets one that was answered, 64*T1 (RFC 3261 §13.2.2.4).
    CallWait,
    /// Offers again after both sides offered at once (RFC 3261 §14.1), or gives up a change that is not answered.
    ChangeWait,
    /// Refreshes a session, or ends one that was not refreshed (RFC 4028 §10).
    SessionTimer,
    /// Refreshes a subscription, ends one that was not refreshed, or the wait for a NOTIFY (Timer N, RFC 6665 §4.1.2.4).
    SubscriptionTimer,
}

/// The three values that all others are made of (RFC 3261 table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerSettings {
    /// Estimate of the round trip.
    pub t1: Duration,
    /// Longest pause between retransmissions.
    pub t2: Duration,
    /// How long a message may stay in the network.
    pub t4: Duration,
}

impl TimerSettings {
    /// 64*T1: how long a transaction may wait for the other side.
    pub fn patience(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// How long a client takes until its Timer E has grown to T2: 3.5 s (RFC 4320 §4.1).
    pub(super) fn until_slow(&self) -> Duration {
        let mut pause = self.t1;
        let mut passed = Duration::ZERO;
        while pause < self.t2 && !pause.is_zero() {
            passed += pause;
            pause = pause.saturating_mul(2);
        }
        passed
    }

    /// Timer D: at least 32 s over an unreliable transport (§17.1.1.2).
    pub(super) fn timer_d(&self) -> Duration {
        self.patience().max(Duration::from_secs(32))
    }
}

impl Default for TimerSettings {
    fn default() -> Self {
        TimerSettings { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

/// A retransmission that is due, and the pause that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// When to send again.
    pub(crate) at: Instant,
    pause: Duration,
}

impl Backoff {
    /// The first retransmission, T1 after the message itself.
    pub(crate) fn start(now: Instant, settings: &TimerSettings) -> Backoff {
        Backoff { at: now + settings.t1, pause: settings.t1 }
    }

    /// The next one, after twice the pause and at most `longest`.
    pub(crate) fn next(self, now: Instant, longest: Duration) -> Backoff {
        let pause = self.pause.saturating_mul(2).min(longest);
        Backoff { at: now + pause, pause }
    }

    /// A pause that is at its longest from now on.
    pub(crate) fn steady(self, pause: Duration) -> Backoff {
        Backoff { at: self.at, pause }
    }
}

/// The earlier of two timers.
pub(crate) fn earlier(
    a: Option<(Instant, TimerReason)>,
    b: Option<(Instant, TimerReason)>,
) -> Option<(Instant, TimerReason)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Orders the next timer of many machines, one entry each; equal instants go by key, so that runs repeat exactly.
///
/// The owner of a machine keeps the instant it is `armed` for, which spares a second table here.
#[derive(Debug)]
pub(crate) struct TimerQueue<K> {
    entries: BTreeMap<(Instant, K), TimerReason>,
}

impl<K: Ord + Copy> TimerQueue<K> {
    pub(crate) fn new() -> Self {
        TimerQueue { entries: BTreeMap::new() }
    }

    /// Replaces the entry of `key`, armed so far for `armed`, by `next`.
    pub(crate) fn rearm(&mut self, key: K, armed: &mut Option<Instant>, next: Option<(Instant, TimerReason)>) {
        let at = next.map(|(at, _)| at);
        if *armed != at
            && let Some(old) = armed.take()
        {
            self.entries.remove(&(old, key));
        }
        if let Some((at, reason)) = next {
            self.entries.insert((at, key), reason);
        }
        *armed = at;
    }

    /// The earliest entry.
    pub(crate) fn next(&self) -> Option<(Instant, TimerReason)> {
        self.entries.first_key_value().map(|((at, _), reason)| (*at, *reason))
    }

    /// Takes out the earliest entry when it is due; its owner must forget that it is armed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let entry = self.entries.first_entry()?;
        let (at, key) = *entry.key();
        (at <= now).then(|| {
            entry.remove();
            key
        })
    }
}
