//! INVITE server transaction (RFC 3261 §17.2.1, RFC 6026 §7.1): Proceeding, Completed, Confirmed, Accepted.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::derived::again;
use super::timer::{Backoff, TimerReason, TimerSettings, earlier};
use super::{ServerEvent, ServerStep};
use crate::message::Message;

/// How soon an INVITE wants a provisional response (RFC 3261 §17.2.1).
const TRYING_WITHIN: Duration = Duration::from_millis(200);

/// State of an INVITE server transaction.
#[derive(Debug)]
pub enum InviteServer {
    /// No final response yet.
    Proceeding {
        /// The last provisional response, for retransmissions of the INVITE.
        provisional: Option<Bytes>,
        /// When 100 is due; none once there was any response.
        trying: Option<Instant>,
    },
    /// A final response other than 2xx was sent; its ACK is awaited.
    Completed {
        /// The response.
        response: Bytes,
        /// Timer G; none over a reliable transport, or for an INVITE that had no provisional response.
        retransmit: Option<Backoff>,
        /// Timer H.
        timeout: Instant,
    },
    /// The ACK arrived; further ones are absorbed.
    Confirmed {
        /// Timer I.
        until: Instant,
    },
    /// A 2xx was sent. Its retransmission is the business of whoever made it, end to end.
    Accepted {
        /// Timer L.
        until: Instant,
    },
    /// Over.
    Terminated,
}

impl InviteServer {
    /// The state after an INVITE arrived.
    pub fn new(now: Instant) -> InviteServer {
        InviteServer::Proceeding { provisional: None, trying: Some(now + TRYING_WITHIN) }
    }

    /// Whether a final response was sent.
    pub fn is_answered(&self) -> bool {
        match self {
            InviteServer::Proceeding { .. } => false,
            InviteServer::Completed { .. }
            | InviteServer::Confirmed { .. }
            | InviteServer::Accepted { .. }
            | InviteServer::Terminated => true,
        }
    }

    /// Whether nothing is left but to absorb what is repeated.
    pub fn has_ended(&self) -> bool {
        match self {
            InviteServer::Proceeding { .. } | InviteServer::Completed { .. } => false,
            InviteServer::Confirmed { .. } | InviteServer::Accepted { .. } | InviteServer::Terminated => true,
        }
    }

    /// Takes a retransmission of the INVITE.
    pub fn handle_request(&mut self) -> ServerStep {
        match self {
            InviteServer::Proceeding { provisional, .. } => ServerStep::transmit(provisional.as_ref().and_then(again)),
            InviteServer::Completed { response, .. } => ServerStep::transmit(again(response)),
            InviteServer::Confirmed { .. } | InviteServer::Accepted { .. } | InviteServer::Terminated => {
                ServerStep::default()
            }
        }
    }

    /// Takes an ACK that matches this transaction.
    pub fn handle_ack(&mut self, now: Instant, settings: &TimerSettings, reliable: bool) -> ServerStep {
        match self {
            InviteServer::Completed { .. } => {
                // Timer I is zero over a reliable transport.
                *self = if reliable {
                    InviteServer::Terminated
                } else {
                    InviteServer::Confirmed { until: now + settings.t4 }
                };
                ServerStep::default()
            }
            // Phones that reuse the branch of the INVITE for the ACK of its 2xx end up here.
            InviteServer::Accepted { .. } => ServerStep::event(ServerEvent::Ack),
            InviteServer::Proceeding { .. } | InviteServer::Confirmed { .. } | InviteServer::Terminated => {
                ServerStep::default()
            }
        }
    }

    /// Takes a response, and says whether it is sent: one that comes too late is dropped.
    ///
    /// Deviation from RFC 3261 §17.2.1: Timer G does not run when there was no provisional response. The client still
    /// repeats its INVITE then, and gets the failure again each time; but whoever forged a source address cannot make
    /// us send more than he did (threat: reflected challenges).
    pub fn respond(&mut self, now: Instant, settings: &TimerSettings, response: &Message, reliable: bool) -> bool {
        match self {
            InviteServer::Proceeding { provisional, .. } => {
                let client_is_quiet = provisional.is_some();
                *self = match response.status() {
                    ..200 => InviteServer::Proceeding { provisional: Some(response.bytes().clone()), trying: None },
                    200..300 => InviteServer::Accepted { until: now + settings.patience() },
                    300.. => InviteServer::Completed {
                        response: response.bytes().clone(),
                        retransmit: (client_is_quiet && !reliable).then(|| Backoff::start(now, settings)),
                        timeout: now + settings.patience(),
                    },
                };
                true
            }
            InviteServer::Accepted { .. } => (200..300).contains(&response.status()),
            InviteServer::Completed { .. } | InviteServer::Confirmed { .. } | InviteServer::Terminated => false,
        }
    }

    /// Lets the timers due at `now` fire.
    pub fn handle_timeout(&mut self, now: Instant, settings: &TimerSettings) -> ServerStep {
        match self {
            InviteServer::Proceeding { trying, .. } => match trying {
                Some(at) if *at <= now => {
                    *trying = None;
                    ServerStep::event(ServerEvent::TryingDue)
                }
                Some(_) | None => ServerStep::default(),
            },
            InviteServer::Completed { response, retransmit, timeout } => {
                if *timeout <= now {
                    *self = InviteServer::Terminated;
                    return ServerStep::event(ServerEvent::NoAck);
                }
                match retransmit {
                    Some(timer) if timer.at <= now => {
                        *timer = timer.next(now, settings.t2);
                        ServerStep::transmit(again(response))
                    }
                    Some(_) | None => ServerStep::default(),
                }
            }
            InviteServer::Confirmed { until } | InviteServer::Accepted { until } => {
                if *until <= now {
                    *self = InviteServer::Terminated;
                }
                ServerStep::default()
            }
            InviteServer::Terminated => ServerStep::default(),
        }
    }

    /// The next timer.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        match self {
            InviteServer::Proceeding { trying, .. } => trying.map(|at| (at, TimerReason::Trying)),
            InviteServer::Completed { retransmit, timeout, .. } => {
                earlier(Some((*timeout, TimerReason::TimerH)), retransmit.map(|timer| (timer.at, TimerReason::TimerG)))
            }
            InviteServer::Confirmed { until } => Some((*until, TimerReason::TimerI)),
            InviteServer::Accepted { until } => Some((*until, TimerReason::TimerL)),
            InviteServer::Terminated => None,
        }
    }
}
