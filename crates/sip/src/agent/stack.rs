//! What the agent works with while it handles one input: the transactions below it, the node above it.

use std::collections::VecDeque;
use std::time::Instant;

use super::AgentEvent;
use crate::message::{Header, Message};
use crate::proxy::branch;
use crate::server::Event;
use crate::transaction::{Owner, TransactionId, TransactionLayer};
use crate::transport::{Destination, Locals, Randomness};

/// A response to a request of the server's table, which only the server can send.
#[derive(Debug)]
pub(crate) enum Answer {
    /// One made of a status and further fields.
    Status(u16, Vec<(Header, String)>),
    /// This one.
    Whole(Message),
}

/// The time, the layers around the agent, and the answers it owes.
pub(crate) struct Stack<'a> {
    pub(crate) now: Instant,
    pub(crate) layer: &'a mut TransactionLayer,
    pub(crate) locals: &'a dyn Locals,
    pub(crate) randomness: &'a mut dyn Randomness,
    pub(crate) events: &'a mut VecDeque<Event>,
    pub(crate) user_agent: &'a str,
    pub(crate) answers: Vec<(TransactionId, Answer)>,
}

impl Stack<'_> {
    /// A whole Via for a request of ours, asking for our address as the other side sees it (RFC 3581).
    pub(crate) fn via(&mut self, destination: &Destination) -> String {
        let branch = branch::fresh(0, self.randomness);
        let transport = destination.transport();
        let rport = if transport.is_reliable() { "" } else { ";rport" };
        format!(
            "SIP/2.0/{} {}{rport};branch={}",
            transport.via_token(),
            self.locals.sent_by(destination),
            branch.as_str()
        )
    }

    /// A tag or Call-ID that nobody guesses: 80 bits (RFC 3261 §19.3 asks for 32).
    pub(crate) fn token(&mut self) -> String {
        let mut bytes = [0; 10];
        self.randomness.fill(&mut bytes);
        data_encoding::HEXLOWER.encode(&bytes)
    }

    /// A number below `limit`, by chance.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        let mut bytes = [0; 4];
        self.randomness.fill(&mut bytes);
        u32::from_be_bytes(bytes) % limit.max(1)
    }

    /// Opens a client transaction of the agent's.
    pub(crate) fn send(&mut self, destination: &Destination, request: &Message) -> Option<TransactionId> {
        self.layer.send_request(self.now, destination.clone(), request.clone(), Owner::Agent)
    }

    pub(crate) fn tell(&mut self, event: AgentEvent) {
        self.events.push_back(Event::Agent(event));
    }
}
