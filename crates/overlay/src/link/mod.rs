//! Links: encrypted connections between nodes, dialled by public key. The only place that knows iroh.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `table` | `Links`: the links that are up, dialling, accepting, the table's rules |
//! | `handshake` | the way from a QUIC connection to a link: hellos, tie-break, admission |
//! | `session` | what runs while a link is up: messages, liveness, streams |
//! | `rules` | which of two links to one node stays; pure |
//! | [`hello`] | who is at the other end; pure |
//! | `frame` | messages on the link's own stream; pure |
//! | [`address`] | [`PeerAddress`] and its encoding |
//! | [`stream`] | the byte streams that a link carries |
//! | [`enrol`] | the one request and reply by which a new node gets its certificates |
//! | `pace` | how fast those are answered, for each source; pure |
//! | [`relay`] | the relays that nodes run for those that nobody can dial |
//! | `endpoint` | sockets and QUIC settings |
//! | [`changes`] | changes of this machine's network |
//!
//! A link is one QUIC connection (RFC 9000) with ALPN `meshtone/1`. Its first stream begins with a hello in both
//! directions; nothing else is believed, or told to anybody, until both have verified each other's certificates. No
//! third party is ever asked: no DNS, and no relay but those of the overlay's own nodes.

pub mod address;
pub mod changes;
pub(crate) mod endpoint;
pub mod enrol;
pub(crate) mod frame;
pub(crate) mod handshake;
pub mod hello;
pub(crate) mod limits;
pub(crate) mod pace;
pub mod relay;
pub(crate) mod rules;
pub(crate) mod session;
pub mod stream;
pub(crate) mod table;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::{LinkKey, NodeId};

pub use address::PeerAddress;
pub(crate) use address::subnet_of;
pub use stream::{IncomingStream, Neighbour, Protocol, RecvStream, SendStream};
pub use table::Network;
pub(crate) use table::{LinkConfig, LinkInput, Links};

/// The application protocol of links (RFC 7301).
pub const ALPN: &[u8] = b"meshtone/1";

/// The application protocol of enrolment.
pub const JOIN_ALPN: &[u8] = b"meshtone-join/1";

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
    /// The relay, by its node's link key, where there is one in between.
    pub relay: Option<LinkKey>,
    /// Both sides were introduced to each other: one at least could not be dialled.
    pub introduced: bool,
    /// Round trip, in milliseconds.
    pub rtt_ms: f64,
    /// The domains that node may speak for.
    pub domains: Vec<String>,
    /// Since when, in unix milliseconds.
    pub since_ms: u64,
}

/// How well packets travel on a link, as QUIC knows it of what this side sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkQuality {
    /// The time there and back.
    pub round_trip: Duration,
    /// Packets sent on the present path.
    pub sent: u64,
    /// How many of them were lost.
    pub lost: u64,
}

/// Takes the datagrams that neighbours send: from whom, and what. It is called in a task of that link, and must not block: while it
/// works, further datagrams of the link wait, and the oldest are lost.
pub type DatagramHandler = Arc<dyn Fn(NodeId, Bytes) + Send + Sync>;

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

/// Why there is no link. Each variant says on whose side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Ours: sockets or keys.
    #[error("this node cannot open links: {0}")]
    Local(String),
    /// Ours: shut down.
    #[error("this node is shutting down")]
    Stopped,
    /// Ours: as many links, dials or streams as there may be.
    #[error("this node has too many {0} already")]
    Busy(&'static str),
    /// The network, or the peer is not running.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// The network or the peer: too slow.
    #[error("no answer in time")]
    Timeout,
    /// The peer hung up on us and says why.
    #[error("the peer closed the link: {0}")]
    ClosedByPeer(code::Code),
    /// The peer is not who it should be, or not one of us.
    #[error("the peer was refused: {0}")]
    Peer(#[from] hello::HelloError),
    /// The peer broke the rules of the link.
    #[error("the peer misbehaves: {0}")]
    Misbehaved(&'static str),
    /// There is no link to that node.
    #[error("there is no link to it")]
    NoLink,
}

/// Application error codes by which connections and streams are closed (RFC 9000 §20.2). They go over the wire.
pub mod code {
    use std::fmt;

    /// Why a connection or a stream was closed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Code(pub u64);

    /// In order, such as at shutdown.
    pub const GOODBYE: u32 = 0;
    /// The stream was broken off by its user.
    pub const ABORTED: u32 = 1;
    /// No version of the link protocol that both speak.
    pub const VERSION: u32 = 2;
    /// Of another overlay.
    pub const OTHER_OVERLAY: u32 = 3;
    /// A certificate that does not verify, or is not that of the link's key.
    pub const CERTIFICATE: u32 = 4;
    /// Not a message that belongs there.
    pub const MALFORMED: u32 = 5;
    /// There is another link between the same two nodes, and that one stays.
    pub const DUPLICATE: u32 = 6;
    /// Too many links or streams.
    pub const BUSY: u32 = 7;
    /// Nothing was heard for too long.
    pub const SILENT: u32 = 8;
    /// Nobody here speaks that protocol.
    pub const PROTOCOL: u32 = 9;
    /// The link is not wanted any more; others are closer.
    pub const UNWANTED: u32 = 10;

    /// The authority has taken the other side's certificates back.
    pub const REVOKED: u32 = 11;

    impl fmt::Display for Code {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let words = match u32::try_from(self.0) {
                Ok(GOODBYE) => "it shuts down",
                Ok(ABORTED) => "it broke off",
                Ok(VERSION) => "it speaks no version of the link protocol that we speak",
                Ok(OTHER_OVERLAY) => "it belongs to another overlay",
                Ok(CERTIFICATE) => "it refuses our certificates",
                Ok(MALFORMED) => "it could not read what we sent",
                Ok(DUPLICATE) => "it has another link to us",
                Ok(BUSY) => "it has no room for more",
                Ok(SILENT) => "it heard nothing from us",
                Ok(PROTOCOL) => "it does not speak that protocol",
                Ok(REVOKED) => "it has heard that the authority revoked this node",
                Ok(UNWANTED) => "it needs no link to us",
                Ok(_) | Err(_) => return write!(f, "for reason {}", self.0),
            };
            f.write_str(words)
        }
    }
}
