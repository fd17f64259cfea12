//! What peers say to each other, and its encoding.

use std::fmt;

use crate::record::RecordError;

/// What is wrong with a message; always the peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than any message may be.
    #[error("the peer's message has {0} bytes")]
    TooLong(usize),
    /// Not a message.
    #[error("the peer's message is malformed: {0}")]
    Malformed(#[from] crate::record::cbor::CborError),
    /// Of a type that is unknown here.
    #[error("the peer's message is of type {0}, which is unknown here")]
    UnknownType(u64),
    /// It carries what is no record.
    #[error("the peer's message carries a bad record: {0}")]
    Record(#[from] RecordError),
}

/// Why a storing node does not store; the code goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// Storage time of the newer value held, for [`RefusalReason::TooOld`]; else 0.
    pub newest_ms: u64,
}

/// The reasons of a [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalReason {
    /// Not what its kind says: name, content, key or size.
    Malformed,
    /// Signature or certificates do not entitle the signer.
    NotEntitled,
    /// A newer value is held.
    TooOld,
    /// Stored too far ahead of the storing node's clock.
    FromTheFuture,
    /// Its time is over.
    Expired,
    /// The storing node or the resource is full.
    Full,
    /// The storing node knows many that are closer.
    NotResponsible,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            RefusalReason::Malformed => "it is malformed",
            RefusalReason::NotEntitled => "its signer may not write it",
            RefusalReason::TooOld => "a newer one is held",
            RefusalReason::FromTheFuture => "it is from the future",
            RefusalReason::Expired => "it has expired",
            RefusalReason::Full => "there is no more room",
            RefusalReason::NotResponsible => "it belongs elsewhere",
        })
    }
}
