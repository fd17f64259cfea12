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
    /// Sends 100 (Trying) for an INVITE that has no answer yet, 200 ms (RFC 3261 §17.2.1).
    Trying,
    /// Gives up a branch from which nothing at all was heard ([`crate::proxy::Target::answer_within`]).
    AnswerWithin,
    /// Gives up a cancelled branch that never sent its final response, 64*T1 (RFC 3261 §9.1).
    CancelWait,
    /// Retransmits a 2xx that our own agent gave, until its ACK arrives (§13.3.1.4).
    AnswerRetransmit,
    /// Ends a dialog of our own agent whose 2xx was never acknowledged, 64*T1 (§13.3.1.4).
    AckWait,
}
