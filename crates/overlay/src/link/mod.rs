//! Links: encrypted connections between nodes, dialled by public key. The only place that knows iroh.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`stream`] | the byte streams that a link carries |
//! | [`enrol`] | the one request and reply by which a new node gets its certificates |

pub mod enrol;
pub mod stream;

use std::net::SocketAddr;

use meshtone_identity::{LinkKey, NodeId};

pub use stream::{IncomingStream, Protocol, RecvStream, SendStream};

/// Whom to dial, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// The key that the other side has to prove.
    pub link_key: LinkKey,
    /// Where it may be reached; all are tried at once.
    pub addrs: Vec<SocketAddr>,
}

/// How a link's packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Straight to this address.
    Direct(SocketAddr),
    /// Through a relay.
    Relayed,
}

/// A link as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkStatus {
    /// The node at the other end.
    pub node: NodeId,
    /// How its packets travel.
    pub path: Path,
    /// Round trip, in milliseconds.
    pub rtt_ms: f64,
    /// The domains that node may speak for.
    pub domains: Vec<String>,
    /// Since when, in unix milliseconds.
    pub since_ms: u64,
}

/// A link that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Both sides have verified each other.
    Up {
        /// The node at the other end.
        node: NodeId,
        /// The domains it may speak for.
        domains: Vec<String>,
    },
    /// The link is gone; streams on it have ended.
    Down {
        /// The node at the other end.
        node: NodeId,
    },
}

/// Application error codes by which connections and streams are closed. They go over the wire.
pub(crate) mod code {
    /// Closed in order, such as at shutdown.
    pub(crate) const GOODBYE: u32 = 0;
    /// The stream was broken off by its user.
    pub(crate) const ABORTED: u32 = 1;
}
