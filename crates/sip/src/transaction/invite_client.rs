//! INVITE client transaction (RFC 3261 §17.1.1, RFC 6026 §7.2): Calling, Proceeding, Completed, Accepted.

use std::time::Instant;

use bytes::Bytes;

use super::derived::{ack, again};
use super::timer::{Backoff, TimerReason, TimerSettings, earlier};
use super::{ClientEvent, ClientStep};
use crate::message::Message;

/// State of an INVITE client transaction. The request is kept as bytes until a final response makes it useless.
#[derive(Debug)]
pub enum InviteClient {
    /// Sent, nothing heard.
    Calling {
        /// The INVITE.
        request: Bytes,
        /// Timer A; none over a reliable transport.
        retransmit: Option<Backoff>,
        /// Timer B.
        timeout: Instant,
    },
    /// A provisional response was heard; no timer runs here.
    Proceeding {
        /// The INVITE.
        request: Bytes,
    },
    /// A final response other than 2xx was heard and acknowledged.
    Completed {
        /// The ACK, for retransmissions of the response.
        ack: Bytes,
        /// Timer D.
        until: Instant,
    },
    /// A 2xx was heard; more of them may come, from other branches behind a fork.
    Accepted {
        /// Timer M.
        until: Instant,
    },
    /// Over.
    Terminated,
}

impl InviteClient {
    /// The state after `request` was sent.
    pub fn new(now: Instant, settings: &TimerSettings, request: &Message, reliable: bool) -> InviteClient {
        InviteClient::Calling {
            request: request.bytes().clone(),
            retransmit: (!reliable).then(|| Backoff::start(now, settings)),
            timeout: now + settings.patience(),
        }
    }

    /// Whether nothing is left but to absorb what is repeated.
    pub fn has_ended(&self) -> bool {
        match self {
            InviteClient::Calling { .. } | InviteClient::Proceeding { .. } => false,
            InviteClient::Completed { .. } | InviteClient::Accepted { .. } | InviteClient::Terminated => true,
        }
    }

    /// The INVITE, while it may still be cancelled or repeated.
    pub fn request(&self) -> Option<&Bytes> {
        match self {
            InviteClient::Calling { request, .. } | InviteClient::Proceeding { request } => Some(request),
            InviteClient::Completed { .. } | InviteClient::Accepted { .. } | InviteClient::Terminated => None,
        }
    }

    /// Takes a response of this transaction.
    pub fn handle_response(
        &mut self,
        now: Instant,
        settings: &TimerSettings,
        response: &Message,
        reliable: bool,
    ) -> ClientStep {
        match self {
            InviteClient::Calling { request, .. } | InviteClient::Proceeding { request } => match response.status() {
                100..200 => {
                    *self = InviteClient::Proceeding { request: std::mem::take(request) };
                    ClientStep::event(ClientEvent::Response)
                }
                200..300 => {
                    *self = InviteClient::Accepted { until: now + settings.patience() };
                    ClientStep::event(ClientEvent::Response)
                }
                _ => {
                    let ack = again(request).and_then(|request| ack(&request, response));
                    *self = match &ack {
                        Some(ack) if !reliable => {
                            InviteClient::Completed { ack: ack.bytes().clone(), until: now + settings.timer_d() }
                        }
                        // Timer D is zero over a reliable transport.
                        _ => InviteClient::Terminated,
                    };
                    ClientStep { transmit: ack, event: Some(ClientEvent::Response) }
                }
            },
            InviteClient::Completed { ack, .. } => match response.status() {
                300.. => ClientStep::transmit(again(ack)),
                _ => ClientStep::default(),
            },
            InviteClient::Accepted { .. } => match response.status() {
                200..300 => ClientStep::event(ClientEvent::Response),
                _ => ClientStep::default(),
            },
            InviteClient::Terminated => ClientStep::default(),
        }
    }

    /// Lets the timers due at `now` fire.
    pub fn handle_timeout(&mut self, now: Instant, settings: &TimerSettings) -> ClientStep {
        match self {
            InviteClient::Calling { timeout, .. } if *timeout <= now => {
                *self = InviteClient::Terminated;
                ClientStep::event(ClientEvent::Timeout)
            }
            InviteClient::Calling { request, retransmit: Some(retransmit), .. } if retransmit.at <= now => {
                // Timer A doubles without a limit; Timer B ends it.
                *retransmit = retransmit.next(now, settings.patience());
                ClientStep::transmit(again(request))
            }
            InviteClient::Completed { until, .. } | InviteClient::Accepted { until } if *until <= now => {
                *self = InviteClient::Terminated;
                ClientStep::default()
            }
            InviteClient::Calling { .. }
            | InviteClient::Proceeding { .. }
            | InviteClient::Completed { .. }
            | InviteClient::Accepted { .. }
            | InviteClient::Terminated => ClientStep::default(),
        }
    }

    /// Takes the news that the last message could not be sent.
    pub fn handle_transport_error(&mut self) -> ClientStep {
        let waited = self.request().is_some();
        *self = InviteClient::Terminated;
        if waited { ClientStep::event(ClientEvent::TransportError) } else { ClientStep::default() }
    }

    /// The next timer.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        match self {
            InviteClient::Calling { retransmit, timeout, .. } => {
                earlier(Some((*timeout, TimerReason::TimerB)), retransmit.map(|timer| (timer.at, TimerReason::TimerA)))
            }
            InviteClient::Completed { until, .. } => Some((*until, TimerReason::TimerD)),
            InviteClient::Accepted { until } => Some((*until, TimerReason::TimerM)),
            InviteClient::Proceeding { .. } | InviteClient::Terminated => None,
        }
    }
}
