//! One branch of a forwarded request, from its first byte to its outcome (RFC 3261 §16.7, §9.1).

use std::time::Instant;

use super::plan::Planned;
use crate::message::Message;
use crate::transaction::{TimerReason, TransactionId, earlier};

/// Why a branch is cancelled; the Reason of its CANCEL (RFC 3326).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelReason {
    /// The caller cancelled: his own reason goes along.
    ByCaller,
    /// Another branch, or this node itself, answered the call.
    Elsewhere,
    /// Another branch, or this node itself, refused it for everybody.
    Refused(u16),
    /// It rang for too long.
    NoAnswer,
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) client: TransactionId,
    /// Whether its outcome stands already, though it may still speak: it was silent, or rang, for too long.
    pub(crate) counted: bool,
    pub(crate) state: BranchState,
    /// Its target, and where else that can be reached.
    pub(crate) planned: Option<Box<Planned>>,
}

#[derive(Debug)]
pub(crate) enum BranchState {
    /// Nothing heard yet.
    Calling { give_up: Option<Instant>, ring_until: Option<Instant>, cancel_wanted: Option<CancelReason> },
    /// A provisional response was heard.
    Proceeding { ring_until: Option<Instant> },
    /// CANCEL was sent; the final response is awaited.
    Cancelled { until: Instant },
    /// It ended with this redirection, and the node is asked whether to follow.
    Redirected(Box<Message>),
    /// Over.
    Ended,
}

impl Branch {
    /// Whether it may still bring something.
    pub(crate) fn is_pending(&self) -> bool {
        match self.state {
            BranchState::Calling { .. }
            | BranchState::Proceeding { .. }
            | BranchState::Cancelled { .. }
            | BranchState::Redirected(_) => !self.counted,
            BranchState::Ended => false,
        }
    }

    /// The next timer.
    pub(crate) fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        match &self.state {
            BranchState::Calling { give_up, ring_until, .. } => earlier(
                give_up.map(|at| (at, TimerReason::AnswerWithin)),
                ring_until.map(|at| (at, TimerReason::TimerC)),
            ),
            BranchState::Proceeding { ring_until } => ring_until.map(|at| (at, TimerReason::TimerC)),
            BranchState::Cancelled { until } => Some((*until, TimerReason::CancelWait)),
            BranchState::Redirected(_) | BranchState::Ended => None,
        }
    }
}
