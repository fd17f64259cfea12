//! Datagrams that wait to be sent together.
//!
//! Sending one runs the kernel's whole way of a packet, which leaves little of the engine in the processor's nearest caches. So who
//! handles several messages in one go sends what comes of them behind the last one, when it holds no worker's lock either.

use std::net::SocketAddr;

use meshtone_sip::message::Message;

use super::dispatch::Report;

/// What is to be sent once a go is over. It is as long as what one go makes: a few datagrams for each of its messages.
#[derive(Default)]
pub(crate) struct Outbox(Vec<Datagram>);

/// One datagram.
pub(super) struct Datagram {
    pub(super) listener: u16,
    pub(super) remote: SocketAddr,
    pub(super) message: Message,
    pub(super) report: Option<Report>,
}

impl Outbox {
    pub(super) fn push(&mut self, datagram: Datagram) {
        self.0.push(datagram);
    }

    /// Takes over what another one holds, behind its own.
    pub(crate) fn append(&mut self, other: &mut Outbox) {
        self.0.append(&mut other.0);
    }

    /// All of it, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Datagram> {
        self.0.drain(..)
    }
}
