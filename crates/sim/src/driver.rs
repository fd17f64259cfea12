//! The seam between the network and the cores that run on it.

use std::time::Instant;

use bytes::Bytes;
use meshtone_overlay::dht::Now;

/// What happens to a core on a simulated node. Nodes are known by their number in the network.
#[derive(Debug, Clone)]
pub enum Input {
    /// A message came over the link to a node.
    Message {
        /// That node.
        from: usize,
        /// The message.
        bytes: Bytes,
    },
    /// A link came up; both ends are told.
    LinkUp {
        /// The other end.
        peer: usize,
        /// What the other end said of itself.
        hello: Bytes,
    },
    /// A link is gone.
    LinkDown {
        /// The other end.
        peer: usize,
        /// Nothing was heard of it any more.
        silent: bool,
    },
    /// A dial came to nothing.
    DialFailed {
        /// Who was dialled.
        peer: usize,
    },
    /// Whether a node could be dialled that was to be, without making a link.
    Probed {
        /// Who was dialled.
        peer: usize,
        /// Whether it could be.
        reached: bool,
    },
    /// The time that was asked for has come.
    Timeout,
}

/// What a core wants done.
#[derive(Debug, Clone)]
pub enum Action<E> {
    /// Send a message over the link to a node.
    Send {
        /// That node.
        to: usize,
        /// The message.
        bytes: Bytes,
    },
    /// Open a link to a node.
    Dial {
        /// That node.
        to: usize,
    },
    /// Dial a node to see whether that is possible, and make no link of it.
    Probe {
        /// That node.
        to: usize,
    },
    /// Dial a node that is told to dial this one at the same time.
    Meet {
        /// That node.
        to: usize,
    },
    /// Close the link to a node.
    Close {
        /// That node.
        to: usize,
    },
    /// Tell the test.
    Tell(E),
}

/// A pure core with what maps it to the network.
pub trait Driver {
    /// What it tells the test.
    type Event;

    /// Returns what it says of itself when a link opens.
    fn hello(&self) -> Bytes;

    /// Takes an input.
    fn handle(&mut self, now: Now, input: Input);

    /// Returns the next thing it wants done.
    fn poll_action(&mut self) -> Option<Action<Self::Event>>;

    /// Returns when it wants to be woken.
    fn poll_timeout(&self) -> Option<Instant>;
}
