//! Transactions: a request, its responses and their retransmissions (RFC 3261 §17, corrected by RFC 6026).
//!
//! Four machines, one a file; [`TransactionLayer`] finds the machine that a message belongs to and drives their
//! timers. Of what has been answered and may be asked for again, a log (`completed`) keeps the answers. Nothing here knows what
//! a request is for.
//!
//! A machine answers each input with a *step*: at most one message to send and one event. Steps are returned
//! rather than queued inside the machine, so that a finished transaction stays small: it keeps a deadline and, only
//! where it must repeat itself, the bytes of one message.

mod completed;
mod derived;
mod invite_client;
mod invite_server;
mod key;
mod layer;
mod other_client;
mod other_server;
mod table;
mod timer;
mod timer_lanes;

pub use invite_client::InviteClient;
pub use invite_server::InviteServer;
pub use layer::{Arrival, LayerEvent, Owner, TransactionLayer};
pub use other_client::{OtherClient, Waiting};
pub use other_server::OtherServer;
pub(crate) use table::{Table, TableById};
pub use timer::{Backoff, TimerReason, TimerSettings};
pub(crate) use timer::{TimerQueue, earlier};
pub(crate) use timer_lanes::{Armed, TimerLanes};

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use crate::message::Message;

/// Number of a transaction, client or server, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub(crate) u64);

/// A table by transaction. Their numbers are counted up by ourselves, so nobody can make them collide.
pub(crate) type ById<V> = HashMap<TransactionId, V, BuildHasherDefault<CountHasher>>;

/// The room that a table keeps however little is in it.
const ROOM_KEPT: usize = 1024;

/// Gives back the room of a table that a burst has filled and that is nearly empty again: the next one may be a day away. Each entry
/// moves at most as often as the table halves.
pub(crate) fn give_back<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.capacity() > ROOM_KEPT && table.len() * 8 < table.capacity() {
        table.shrink_to(2 * table.len());
    }
}

/// Spreads numbers that are counted up.
#[derive(Debug, Default)]
pub(crate) struct CountHasher(u64);

impl Hasher for CountHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio: neighbours end up far apart.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// What a client transaction tells its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEvent {
    /// The response just handled is new to the user.
    Response,
    /// Timer B or F fired.
    Timeout,
    /// The request could not be sent.
    TransportError,
}

/// What follows from an input to a client transaction.
#[derive(Debug, Default)]
pub struct ClientStep {
    /// To send where the request went.
    pub transmit: Option<Message>,
    /// To tell the user.
    pub event: Option<ClientEvent>,
}

impl ClientStep {
    fn event(event: ClientEvent) -> ClientStep {
        ClientStep { transmit: None, event: Some(event) }
    }

    fn transmit(transmit: Option<Message>) -> ClientStep {
        ClientStep { transmit, event: None }
    }
}

/// What a server transaction tells its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEvent {
    /// The ACK just handled is for a 2xx, and so the user's business.
    Ack,
    /// There was no response within 200 ms: 100 (Trying) is due.
    TryingDue,
    /// Timer H fired: nobody acknowledged the final response.
    NoAck,
}

/// What follows from an input to a server transaction.
#[derive(Debug, Default)]
pub struct ServerStep {
    /// To send where the request came from.
    pub transmit: Option<Message>,
    /// To tell the user.
    pub event: Option<ServerEvent>,
}

impl ServerStep {
    fn event(event: ServerEvent) -> ServerStep {
        ServerStep { transmit: None, event: Some(event) }
    }

    fn transmit(transmit: Option<Message>) -> ServerStep {
        ServerStep { transmit, event: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_a_burst_has_filled_gives_its_room_back_and_keeps_what_is_left() {
        let mut table: ById<u64> = (0..100_000).map(|number| (TransactionId(number), number)).collect();
        for number in 0..99_990 {
            table.remove(&TransactionId(number));
            give_back(&mut table);
        }
        assert!(table.capacity() <= 2 * ROOM_KEPT, "{}", table.capacity());
        assert!((99_990..100_000).all(|number| table.get(&TransactionId(number)) == Some(&number)));
    }
}
