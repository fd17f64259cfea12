//! Why the overlay could not do what it was asked.

use meshtone_identity::NodeId;

use crate::dht::DhtError;
use crate::link::LinkError;

/// Why the overlay could not do what it was asked; each variant says on whose side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Our configuration: parts of it do not fit together.
    #[error("the overlay cannot start: {0}")]
    Config(String),
    /// Our machine: the sockets cannot be opened.
    #[error("cannot listen for links: {0}")]
    Socket(String),
    /// Our machine: what is kept of the last run cannot be read, or nothing can be kept.
    #[error("the records kept cannot be read: {0}")]
    Records(String),
    /// Our caller: the record is none that may be written by us.
    #[error("the record cannot be written: {0}")]
    Record(String),
    /// The storing nodes refused the record.
    #[error("the record was refused: {0}")]
    Refused(String),
    /// The overlay: no address of this node is known there.
    #[error("no address of node {} is known in the overlay", .0.short())]
    NoAddress(NodeId),
    /// The peer or the network: the node does not answer, or not as itself.
    #[error("node {} is out of reach: {why}", .node.short())]
    Unreachable {
        /// The node.
        node: NodeId,
        /// What happened.
        why: String,
    },
    /// The network: not enough answers in time.
    #[error("the overlay did not answer in time")]
    Timeout,
    /// Our side: too much is under way.
    #[error("this node has too many requests under way")]
    Busy,
    /// Our side: the overlay node was shut down.
    #[error("the overlay node has stopped")]
    Stopped,
}

impl From<DhtError> for Error {
    fn from(error: DhtError) -> Self {
        match error {
            DhtError::Busy => Self::Busy,
            DhtError::Record(error) => Self::Record(error.to_string()),
            DhtError::Timeout { .. } => Self::Timeout,
            DhtError::Beaten { .. } | DhtError::Refused { .. } | DhtError::Overloaded { .. } => {
                Self::Refused(error.to_string())
            }
        }
    }
}

impl Error {
    /// What a failed dial of this node means.
    pub(super) fn unreachable(node: NodeId, error: &LinkError) -> Self {
        match error {
            LinkError::Stopped => Self::Stopped,
            LinkError::Local(_)
            | LinkError::Busy(_)
            | LinkError::Unreachable(_)
            | LinkError::Timeout
            | LinkError::ClosedByPeer(_)
            | LinkError::Peer(_)
            | LinkError::Misbehaved(_)
            | LinkError::NoLink => Self::Unreachable { node, why: error.to_string() },
        }
    }
}
