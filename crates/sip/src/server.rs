//! The one machine that a worker drives: transactions, proxy and agent behind a single `handle_*` / `poll_*` face.
//!
//! Messages go in with the time and the flow they came from; what to send, what happened and when to wake up next
//! are polled out. Every [`Event::Request`] wants exactly one answer: [`Server::respond`], [`Server::reject`],
//! [`Server::forward`] or [`Server::accept`]. An answer to a request that is over meanwhile does nothing.

use std::time::{Duration, Instant};

use crate::agent::DialogId;
use crate::message::{Header, Message, ParseError};
use crate::proxy::{Routing, Target};
use crate::transaction::{TimerReason, TransactionId};
use crate::transport::{Flow, Locals, Randomness, Transmit};

/// Number of a request that awaits, or has got, the node's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) TransactionId);

/// What a [`Server`] is told once.
#[derive(Clone)]
pub struct ServerConfig {
    /// Estimate of the round trip, 500 ms (RFC 3261 §17.1.1.1).
    pub t1: Duration,
    /// Longest pause between retransmissions, 4 s (§17.1.2.2).
    pub t2: Duration,
    /// How long a message may stay in the network, 5 s (§17.1.2.2).
    pub t4: Duration,
    /// How long a proxied INVITE may ring; more than 3 minutes (§16.6 item 11).
    pub timer_c: Duration,
    /// Key of flow tokens, branches and tags. The same for all workers of a node, and kept over a restart so that
    /// dialogs outlive it.
    pub flow_token_key: [u8; 32],
    /// What the Server header field says; empty for none.
    pub server_name: String,
    /// Most transactions at a time; further requests get 503.
    pub max_transactions: usize,
}

impl ServerConfig {
    /// The values of RFC 3261, room for 100,000 transactions, no name.
    pub fn new(flow_token_key: [u8; 32]) -> ServerConfig {
        ServerConfig {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(185),
            flow_token_key,
            server_name: String::new(),
            max_transactions: 100_000,
        }
    }
}

/// What a [`Server`] has to say to its node.
#[derive(Debug, Clone)]
pub enum Event {
    /// A new request (never ACK or CANCEL); answer it.
    Request {
        /// To answer with.
        id: RequestId,
        /// The request; our own Routes are popped, `received` and `rport` are noted in its top Via.
        request: Message,
        /// Where it came from.
        flow: Flow,
        /// What its Route header field said.
        routing: Routing,
    },
    /// An INVITE within a dialog of our own agent; answer it with [`Server::respond`] or [`Server::reject`].
    Reinvite {
        /// To answer with.
        id: RequestId,
        /// The dialog.
        dialog: DialogId,
        /// The request.
        request: Message,
    },
    /// The ACK of an accepted INVITE arrived.
    DialogEstablished {
        /// The dialog.
        dialog: DialogId,
    },
    /// A dialog of our own agent is over, whoever ended it.
    DialogEnded {
        /// The dialog.
        dialog: DialogId,
    },
    /// Every branch of a request forwarded with `more` has failed: forward it to further targets, or end it by
    /// [`Server::forward`] with no target and `more` false.
    TargetsExhausted {
        /// The request.
        id: RequestId,
        /// The best status so far.
        status: u16,
    },
    /// The caller cancelled a request that the node has not answered, or not given targets for; 487 is sent already.
    Cancelled {
        /// The request.
        id: RequestId,
    },
    /// A forwarded request has got its final response, which went upstream.
    Finished {
        /// The request.
        id: RequestId,
        /// Status of that response.
        status: u16,
    },
}

/// Transactions, proxy core and agent of one worker.
pub struct Server {
    config: ServerConfig,
    locals: Box<dyn Locals>,
    randomness: Box<dyn Randomness>,
}

impl Server {
    /// A server without any state yet.
    pub fn new(config: ServerConfig, locals: Box<dyn Locals>, randomness: Box<dyn Randomness>) -> Server {
        Server { config, locals, randomness }
    }

    /// Takes a message that arrived over `flow`.
    pub fn handle_message(&mut self, now: Instant, flow: Flow, message: Message) {
        let _ = (now, flow, message);
        todo!()
    }

    /// Answers a message that could not be read, when enough of it could (`partial`) to do so safely.
    pub fn handle_bad_message(&mut self, now: Instant, flow: Flow, error: &ParseError, partial: Option<Message>) {
        let _ = (now, flow, error, partial);
        todo!()
    }

    /// Takes the news that a [`Transmit`] of this origin could not be sent.
    pub fn handle_transport_error(&mut self, now: Instant, origin: TransactionId) {
        let _ = (now, origin);
        todo!()
    }

    /// Lets all timers due at `now` fire.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// When [`Server::handle_timeout`] wants to be called next, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        todo!()
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        todo!()
    }

    /// The next thing to tell the node.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// Answers a request with a response of the node's own; a To tag is added when it has none.
    pub fn respond(&mut self, now: Instant, id: RequestId, response: Message) {
        let _ = (now, id, response);
        todo!()
    }

    /// Answers a request with a response made of a status, a reason and further header fields.
    pub fn reject(&mut self, now: Instant, id: RequestId, status: u16, reason: &str, extra: &[(Header, String)]) {
        let _ = (now, id, status, reason, extra);
        todo!()
    }

    /// Forwards a request to all of `targets` at once (RFC 3261 §16.6). With `more`, no final failure goes upstream
    /// yet: further targets may follow by another call.
    pub fn forward(&mut self, now: Instant, id: RequestId, targets: Vec<Target>, more: bool) {
        let _ = (now, id, targets, more);
        todo!()
    }

    /// Answers an INVITE here: 200 with this contact URI and body (content type, bytes), retransmitted until its ACK.
    /// When the INVITE cannot be accepted any more, [`Event::DialogEnded`] follows at once.
    pub fn accept(&mut self, now: Instant, id: RequestId, contact: &str, body: (&str, &[u8])) -> DialogId {
        let _ = (now, id, contact, body);
        todo!()
    }

    /// Ends a dialog of our own agent by BYE.
    pub fn hang_up(&mut self, now: Instant, dialog: DialogId) {
        let _ = (now, dialog);
        todo!()
    }
}
