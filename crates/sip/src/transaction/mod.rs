//! Transactions: a request, its responses and their retransmissions (RFC 3261 §17, corrected by RFC 6026).
//!
//! Four machines, one a file; [`layer::TransactionLayer`] finds the machine that a message belongs to and drives
//! their timers. Nothing here knows what a request is for.

mod timer;

pub use timer::{TimerReason, TimerSettings};

/// Number of a transaction, client or server, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub(crate) u64);
