//! Server transaction of every method but INVITE (RFC 3261 §17.2.2, corrected by RFC 4320): Trying, Proceeding, Completed.

use std::time::Instant;

use bytes::Bytes;

use super::derived::again;
use super::timer::{TimerReason, TimerSettings, earlier};
use super::{ServerEvent, ServerStep};
use crate::message::Message;

/// State of a server transaction other than INVITE.
#[derive(Debug)]
pub enum OtherServer {
    /// No response yet.
    Trying {
        /// When 100 is due, neither before nor after (RFC 4320 §4.1); none once it was.
        trying: Option<Instant>,
        /// When the client gives up: nothing is sent any more (RFC 4320 §4.2).
        until: Instant,
    },
    /// A provisional response was sent.
    Proceeding {
        /// That response, for retransmissions of the request.
        provisional: Bytes,
        /// When the client gives up.
        until: Instant,
    },
    /// The final response was sent. Where it may be asked for again, that is the business of the layer's log, and Timer J too.
    Completed,
    /// Over.
    Terminated,
}

impl OtherServer {
    /// The state after a request arrived.
    pub fn new(now: Instant, settings: &TimerSettings) -> OtherServer {
        OtherServer::Trying { trying: Some(now + settings.until_slow()), until: now + settings.patience() }
    }

    /// Whether a final response was sent.
    pub fn is_answered(&self) -> bool {
        match self {
            OtherServer::Trying { .. } | OtherServer::Proceeding { .. } => false,
            OtherServer::Completed | OtherServer::Terminated => true,
        }
    }

    /// Takes a retransmission of the request.
    pub fn handle_request(&mut self) -> ServerStep {
        match self {
            OtherServer::Proceeding { provisional, .. } => ServerStep::transmit(again(provisional)),
            OtherServer::Trying { .. } | OtherServer::Completed | OtherServer::Terminated => ServerStep::default(),
        }
    }

    /// Takes a response, and says whether it is sent: one that comes after the final one is dropped.
    pub fn respond(&mut self, response: &Message, reliable: bool) -> bool {
        match self {
            OtherServer::Trying { until, .. } | OtherServer::Proceeding { until, .. } => {
                *self = if response.status() < 200 {
                    OtherServer::Proceeding { provisional: response.bytes().clone(), until: *until }
                } else if reliable {
                    // Timer J is zero over a reliable transport.
                    OtherServer::Terminated
                } else {
                    OtherServer::Completed
                };
                true
            }
            OtherServer::Completed | OtherServer::Terminated => false,
        }
    }

    /// Lets the timers due at `now` fire.
    pub fn handle_timeout(&mut self, now: Instant) -> ServerStep {
        match self {
            OtherServer::Trying { until, .. } | OtherServer::Proceeding { until, .. } if *until <= now => {
                *self = OtherServer::Terminated;
            }
            OtherServer::Trying { trying, .. } if trying.is_some_and(|at| at <= now) => {
                *trying = None;
                return ServerStep::event(ServerEvent::TryingDue);
            }
            OtherServer::Trying { .. }
            | OtherServer::Proceeding { .. }
            | OtherServer::Completed
            | OtherServer::Terminated => {}
        }
        ServerStep::default()
    }

    /// The next timer.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        match self {
            OtherServer::Trying { trying, until } => {
                earlier(trying.map(|at| (at, TimerReason::Trying)), Some((*until, TimerReason::ClientGone)))
            }
            OtherServer::Proceeding { until, .. } => Some((*until, TimerReason::ClientGone)),
            OtherServer::Completed | OtherServer::Terminated => None,
        }
    }
}
