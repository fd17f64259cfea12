//! What comes out of the machine: messages to send, answers of commands, wishes to the link layer, and the timers' names.

use bytes::Bytes;
use meshtone_identity::NodeId;

use super::message::{MessageError, Refusal};
use super::{Descriptor, Evidence};
use crate::record::value::Record;
use crate::record::{Kind, RecordError, ResourceId};

/// Names a command; the event that answers it carries the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// Bytes for the link to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The node at the other end of the link.
    pub to: NodeId,
    /// One message.
    pub bytes: Bytes,
}

/// What a reader gets of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who wrote it.
    pub writer: NodeId,
    /// The content.
    pub value: Bytes,
    /// When it was written, in unix milliseconds by the writer's clock.
    pub stored_ms: u64,
    /// When it ends, in unix milliseconds by the writer's clock.
    pub expires_ms: u64,
    /// The writer's right follows from what a person said, who may have taken it back since.
    pub delegated: bool,
}

impl Entry {
    /// Returns what a reader gets of this value.
    pub(super) fn of(record: &Record) -> Self {
        let value = &record.value;
        let (stored_ms, expires_ms) = (value.storage_ms, value.expires_ms());
        let delegated = record.is_delegated();
        Self { writer: value.signer, value: value.content.clone(), stored_ms, expires_ms, delegated }
    }
}

/// Answer of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Verified values that exist, newest of each writer, in the order of writers' ids. Empty: not found.
    pub entries: Vec<Entry>,
    /// Replicas that answered, this node included.
    pub replicas: usize,
    /// Requests it took.
    pub requests: u32,
    /// Hops of the longest path an answer came from.
    pub hops: u8,
}

/// Answer of a successful write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReceipt {
    /// Storage time of the value, in unix milliseconds.
    pub storage_ms: u64,
    /// Replicas that have acknowledged it so far.
    pub acknowledgements: usize,
    /// What others have written there since, as far as those replicas knew: verified, the newest of each writer.
    pub newer: Vec<Entry>,
}

/// What the machine tells its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A fetch has ended.
    Fetched {
        /// Which.
        id: OperationId,
        /// What it found.
        result: Result<Fetched, DhtError>,
    },
    /// A store, publish or remove has ended; a publish goes on refreshing whatever the result.
    Stored {
        /// Which.
        id: OperationId,
        /// How it went.
        result: Result<StoreReceipt, DhtError>,
    },
    /// A find has ended.
    Found {
        /// Which.
        id: OperationId,
        /// The closest nodes, closest first.
        result: Result<Vec<Descriptor>, DhtError>,
    },
    /// A link to this node is wished for.
    Dial {
        /// Whom to dial.
        peer: Descriptor,
    },
    /// The link to this node is no longer wished for.
    Unlink {
        /// Whose link to close.
        node: NodeId,
    },
    /// This node serves from now on, or no more: links say so from now on. Those that are up were told; where the other side is of
    /// a release that does not understand it, they have to be made anew.
    Role {
        /// Whether it stores and forwards for others.
        serves: bool,
    },
    /// A neighbour wants to know whether this node can dial another one, to which it has no link and had none lately. No link is to
    /// be made of it, and it is over after [`DIAL_BACK_TIMEOUT`](super::DIAL_BACK_TIMEOUT);
    /// [`handle_dialled_back`](super::Dht::handle_dialled_back) tells the end.
    DialBack {
        /// Whom to dial.
        peer: Descriptor,
        /// Who asks.
        asker: NodeId,
    },
    /// What stands where this node [listens](super::Dht::listen), for the first time and whenever that has changed: verified values that
    /// exist, newest of each writer.
    Changed {
        /// The kind.
        kind: Kind,
        /// The name.
        name: String,
        /// The values.
        entries: Vec<Entry>,
    },
    /// A node that this one wants a link to, or that wants one to this one, is said to be there, by a node that both are linked with.
    /// It is dialled there now, as it dials this one; nothing has to be told of the end.
    Meet {
        /// Whom to dial.
        peer: Descriptor,
        /// Who says so.
        through: NodeId,
    },
    /// The neighbourhood is known for the first time since there was a link.
    Joined,
    /// This node's clock is off by more than half a minute, as most neighbours see it, or no longer.
    ClockOff {
        /// By how many milliseconds it is behind; negative when it is ahead, 0 when it is right again.
        behind_ms: i64,
    },
    /// A writer was caught signing two different values of one moment.
    Contradiction {
        /// Both values.
        evidence: Box<Evidence>,
    },
    /// A peer sent what no peer should.
    PeerMisbehaved {
        /// The peer.
        node: NodeId,
        /// What is wrong.
        error: MessageError,
    },
}

/// Why a command failed. Each variant says on whose side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DhtError {
    /// Ours: too many commands are under way.
    #[error("this node has too many requests under way")]
    Busy,
    /// Ours: the value cannot be written by this node.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The network's: too few nodes could be reached in time.
    #[error("the overlay did not answer in time: {answered} of {needed} nodes did")]
    Timeout {
        /// How many answered as wished.
        answered: usize,
        /// How many were needed.
        needed: usize,
    },
    /// Ours: this node has written something newer there meanwhile, and that is what is held.
    #[error("a newer record of this node is held, written at {newest_ms}")]
    Beaten {
        /// Its storage time, in unix milliseconds.
        newest_ms: u64,
    },
    /// A storing node's or a hop's: it has too much to do.
    #[error(
        "node {by}, or one on the way to it, has more to do for us than it takes on; it may take the record in a while"
    )]
    Overloaded {
        /// One of those asked.
        by: NodeId,
    },
    /// The storing nodes': they refuse the value.
    #[error("node {by} refuses the record: {refusal}")]
    Refused {
        /// One of those who refused.
        by: NodeId,
        /// Why.
        refusal: Refusal,
    },
}

/// Every timer of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A next hop has not acknowledged a request.
    Hop {
        /// Who asks.
        origin: NodeId,
        /// The request.
        request: u64,
        /// Which try.
        tries: usize,
    },
    /// A request under way is forgotten.
    Relay {
        /// Who asks.
        origin: NodeId,
        /// The request.
        request: u64,
    },
    /// A node asked by a command of ours is slow: another one is asked.
    Slow {
        /// The request.
        request: u64,
    },
    /// A command of ours is over.
    Operation(OperationId),
    /// The first of the values held expires.
    Expiry,
    /// A published value is stored again: at half life, or sooner when it was not acknowledged.
    Publish {
        /// The resource.
        resource: ResourceId,
        /// The kind.
        kind: Kind,
    },
    /// Records are handed over after a change of the neighbourhood.
    HandOver,
    /// What is held is compared with those who should hold it too.
    Repair,
    /// Closer and further nodes are looked for.
    Refresh,
    /// A node that was lost is dialled, whatever its back-off: it may be the other half of a partition.
    Probe,
    /// Nodes worth a link are dialled, links beyond the bound closed.
    Links,
    /// The repair goes on to the next place.
    RepairNext,
    /// What is held is looked through further for what a change of the links moves.
    Walk,
    /// The role is looked at again.
    Role,
    /// It is noted that this node is there.
    Presence,
    /// It is tested whether others reach this node.
    Test,
    /// The time of such a test is over.
    TestEnd {
        /// Which.
        number: u64,
    },
    /// A place that this node listens at may be due to be read.
    Listen {
        /// The resource.
        resource: ResourceId,
        /// The kind.
        kind: Kind,
    },
    /// Listeners are told of what has changed.
    Tell,
    /// Who was to dial a neighbour that is tested has not said how it went.
    Errand {
        /// That neighbour.
        tested: NodeId,
        /// The dial.
        number: u64,
    },
}
