//! Server transaction of every method but INVITE (RFC 3261 §17.2.2): Trying, Proceeding, Completed.

use std::time::Instant;

use bytes::Bytes;

use super::ServerStep;
use super::derived::again;
use super::timer::{TimerReason, TimerSettings};
use crate::message::Message;

/// State of a server transaction other than INVITE.
#[derive(Debug)]
pub enum OtherServer {
    /// No response yet.
    Trying,
    /// A provisional response was sent.
    Proceeding {
        /// That response, for retransmissions of the request.
        provisional: Bytes,
    },
    /// The final response was sent.
    Completed {
        /// That response, for retransmissions of the request.
        response: Bytes,
        /// Timer J.
        until: Instant,
    },
    /// Over.
    Terminated,
}

impl OtherServer {
    /// Whether a final response was sent.
    pub fn is_answered(&self) -> bool {
        match self {
            OtherServer::Trying | OtherServer::Proceeding { .. } => false,
            OtherServer::Completed { .. } | OtherServer::Terminated => true,
        }
    }

    /// Takes a retransmission of the request.
    pub fn handle_request(&mut self) -> ServerStep {
        match self {
            OtherServer::Proceeding { provisional } => ServerStep::transmit(again(provisional)),
            OtherServer::Completed { response, .. } => ServerStep::transmit(again(response)),
            OtherServer::Trying | OtherServer::Terminated => ServerStep::default(),
        }
    }

    /// Sends a response; one that comes after the final one is dropped.
    pub fn respond(&mut self, now: Instant, settings: &TimerSettings, response: Message, reliable: bool) -> ServerStep {
        match self {
            OtherServer::Trying | OtherServer::Proceeding { .. } => {
                *self = if response.status() < 200 {
                    OtherServer::Proceeding { provisional: response.bytes().clone() }
                } else if reliable {
                    // Timer J is zero over a reliable transport.
                    OtherServer::Terminated
                } else {
                    OtherServer::Completed { response: response.bytes().clone(), until: now + settings.patience() }
                };
                ServerStep::transmit(Some(response))
            }
            OtherServer::Completed { .. } | OtherServer::Terminated => ServerStep::default(),
        }
    }

    /// Lets the timers due at `now` fire.
    pub fn handle_timeout(&mut self, now: Instant) -> ServerStep {
        match self {
            OtherServer::Completed { until, .. } if *until <= now => *self = OtherServer::Terminated,
            OtherServer::Trying
            | OtherServer::Proceeding { .. }
            | OtherServer::Completed { .. }
            | OtherServer::Terminated => {}
        }
        ServerStep::default()
    }

    /// The next timer.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        match self {
            OtherServer::Completed { until, .. } => Some((*until, TimerReason::TimerJ)),
            OtherServer::Trying | OtherServer::Proceeding { .. } | OtherServer::Terminated => None,
        }
    }
}
