//! What can be wrong with a record, and whose fault it is.

use super::cbor::CborError;

/// Why a record was not accepted. Each variant says who is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The sender's fault: the bytes are not a record.
    #[error("the sender's record is malformed: {0}")]
    Malformed(#[from] CborError),
    /// The sender's fault, or a newer version's virtue: no such kind is known here.
    #[error("the sender's record is of kind {0}, which is unknown here")]
    UnknownKind(u64),
    /// The writer's fault: the name does not belong to this place, or is none of this kind.
    #[error("the record's name is wrong: {0}")]
    Name(&'static str),
    /// The writer's fault: the content is not what the kind says.
    #[error("the record's content is wrong: {0}")]
    Content(&'static str),
    /// The writer's fault: larger than its kind allows.
    #[error("the record has {size} bytes, its kind allows {max}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// What the kind allows.
        max: usize,
    },
    /// The writer's fault: it asks to be kept longer than its kind allows, or not at all.
    #[error("the record asks for {seconds} s, its kind allows 1 to {max}")]
    Lifetime {
        /// What it asks.
        seconds: u32,
        /// What the kind allows.
        max: u32,
    },
    /// The writer's clock or ours is wrong: stored further ahead than clocks may differ.
    #[error("the record was stored {ahead_ms} ms ahead of our clock")]
    FromTheFuture {
        /// How far ahead.
        ahead_ms: u64,
    },
    /// The sender's fault: its time is over.
    #[error("the record has expired")]
    Expired,
    /// The sender knows less than we do: a newer value is held.
    #[error("a value stored at {newest_ms} is held, this one is not newer")]
    TooOld {
        /// Storage time of the value held, in unix milliseconds.
        newest_ms: u64,
    },
    /// The sender's fault: a certificate that the record needs did not come with it.
    #[error("the record came without the {0} it needs")]
    MissingCertificate(&'static str),
    /// The writer's fault: a certificate does not verify.
    #[error("the writer's certificate is refused: {0}")]
    Certificate(meshtone_identity::Error),
    /// The writer's fault: it may not write here.
    #[error("the writer may not write this: {0}")]
    NotEntitled(&'static str),
    /// The writer's fault: the authority has taken its certificates back.
    #[error("the writer's certificates were revoked")]
    Revoked,
    /// The writer's or a forger's fault: the signature is not the writer's over this value.
    #[error("the signature is not the writer's")]
    Signature,
    /// Our fault: our own key or certificates cannot write this.
    #[error("this node cannot sign the record: {0}")]
    Signing(String),
}
