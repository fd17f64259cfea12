//! Client transaction of every method but INVITE (RFC 3261 §17.1.2): Trying, Proceeding, Completed.

use std::time::Instant;

use bytes::Bytes;

use super::derived::again;
use super::timer::{Backoff, TimerReason, TimerSettings, earlier};
use super::{ClientEvent, ClientStep};
use crate::message::Message;

/// State of a client transaction other than INVITE.
#[derive(Debug)]
pub enum OtherClient {
    /// Sent, nothing heard.
    Trying(Waiting),
    /// A provisional response was heard; retransmissions go on, T2 apart.
    Proceeding(Waiting),
    /// The final response was heard.
    Completed {
        /// Timer K.
        until: Instant,
    },
    /// Over.
    Terminated,
}

/// What a request waiting for its final response needs.
#[derive(Debug)]
pub struct Waiting {
    request: Bytes,
    /// Timer E; none over a reliable transport.
    retransmit: Option<Backoff>,
    /// Timer F.
    timeout: Instant,
}

impl OtherClient {
    /// The state after `request` was sent.
    pub fn new(now: Instant, settings: &TimerSettings, request: &Message, reliable: bool) -> OtherClient {
        OtherClient::Trying(Waiting {
            request: request.bytes().clone(),
            retransmit: (!reliable).then(|| Backoff::start(now, settings)),
            timeout: now + settings.patience(),
        })
    }

    /// Whether nothing is left but to absorb what is repeated.
    pub fn has_ended(&self) -> bool {
        match self {
            OtherClient::Trying(_) | OtherClient::Proceeding(_) => false,
            OtherClient::Completed { .. } | OtherClient::Terminated => true,
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
            OtherClient::Trying(waiting) | OtherClient::Proceeding(waiting) => {
                if response.status() < 200 {
                    *self = OtherClient::Proceeding(Waiting {
                        request: std::mem::take(&mut waiting.request),
                        retransmit: waiting.retransmit.map(|timer| timer.steady(settings.t2)),
                        timeout: waiting.timeout,
                    });
                } else if reliable {
                    // Timer K is zero over a reliable transport.
                    *self = OtherClient::Terminated;
                } else {
                    *self = OtherClient::Completed { until: now + settings.t4 };
                }
                ClientStep::event(ClientEvent::Response)
            }
            OtherClient::Completed { .. } | OtherClient::Terminated => ClientStep::default(),
        }
    }

    /// Lets the timers due at `now` fire.
    pub fn handle_timeout(&mut self, now: Instant, settings: &TimerSettings) -> ClientStep {
        match self {
            OtherClient::Trying(waiting) | OtherClient::Proceeding(waiting) => {
                if waiting.timeout <= now {
                    *self = OtherClient::Terminated;
                    return ClientStep::event(ClientEvent::Timeout);
                }
                match &mut waiting.retransmit {
                    Some(retransmit) if retransmit.at <= now => {
                        *retransmit = retransmit.next(now, settings.t2);
                        ClientStep::transmit(again(&waiting.request))
                    }
                    Some(_) | None => ClientStep::default(),
                }
            }
            OtherClient::Completed { until } => {
                if *until <= now {
                    *self = OtherClient::Terminated;
                }
                ClientStep::default()
            }
            OtherClient::Terminated => ClientStep::default(),
        }
    }

    /// Takes the news that the last message could not be sent.
    pub fn handle_transport_error(&mut self) -> ClientStep {
        let waited = match self {
            OtherClient::Trying(_) | OtherClient::Proceeding(_) => true,
            OtherClient::Completed { .. } | OtherClient::Terminated => false,
        };
        *self = OtherClient::Terminated;
        if waited { ClientStep::event(ClientEvent::TransportError) } else { ClientStep::default() }
    }

    /// The next timer.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        match self {
            OtherClient::Trying(waiting) | OtherClient::Proceeding(waiting) => earlier(
                Some((waiting.timeout, TimerReason::TimerF)),
                waiting.retransmit.map(|timer| (timer.at, TimerReason::TimerE)),
            ),
            OtherClient::Completed { until } => Some((*until, TimerReason::TimerK)),
            OtherClient::Terminated => None,
        }
    }
}
