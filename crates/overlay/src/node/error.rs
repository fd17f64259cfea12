//! Why the overlay could not do what it was asked.

use meshtone_identity::NodeId;

/// Why the overlay could not do what it was asked; each variant says on whose side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Our configuration: parts of it do not fit together.
    #[error("the overlay cannot start: {0}")]
    Config(String),
    /// Our machine: the sockets cannot be opened.
    #[error("cannot listen for links: {0}")]
    Socket(String),
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
    /// Our side: the overlay node was shut down.
    #[error("the overlay node has stopped")]
    Stopped,
}
