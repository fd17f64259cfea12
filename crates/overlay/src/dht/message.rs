//! What peers say to each other, and its encoding.
//!
//! A request is forwarded with its body untouched, an answer byte for byte; only the ends look inside ([`body`]).
//!
//! What a newer program adds at the end of a message or body is passed over, and a message of an unknown type is no offence; what
//! is asked in a way unknown here is answered with [`Failure::NotUnderstood`](super::body::Failure::NotUnderstood), upon which a
//! newer program asks as it did before.
//!
//! [`body`]: super::body

use std::fmt;

use bytes::Bytes;
use meshtone_identity::NodeId;

use super::config::{MAX_MESSAGE, MAX_NODES};
use super::id::MAX_ADDRESS;
use super::{Descriptor, Position};
use crate::record::RecordError;
use crate::record::cbor::{CborError, Decoder, Encoder};

const REQUEST: u64 = 0;
const ANSWER: u64 = 1;
const ACKNOWLEDGE: u64 = 2;
const NEIGHBOURS: u64 = 3;
const ROLE: u64 = 4;
const TEST: u64 = 5;
const DIAL_BACK: u64 = 6;
const DIALLED_BACK: u64 = 7;
const REPORT: u64 = 8;
const VISIT: u64 = 9;
const INTRODUCE: u64 = 10;
const MEET: u64 = 11;

/// Most items in a message or body: twice what any has today, for what newer programs may add.
pub(super) const MAX_ITEMS: usize = 16;

/// One message on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Something is asked, of the node closest to a place or of one node.
    Request(Request),
    /// The answer; it goes back the way its request came.
    Answer(Answer),
    /// A hop has taken charge of a request.
    Acknowledge {
        /// Who asked.
        origin: NodeId,
        /// The request.
        request: u64,
    },
    /// The nodes that the sender counts as its siblings; or, to a newcomer, those it knows near it.
    Neighbours(Vec<Descriptor>),
    /// The sender serves from now on, or no more.
    Role {
        /// Whether it stores and forwards for others.
        serves: bool,
    },
    /// The sender asks to be dialled by somebody who has no link to it.
    Test {
        /// Names the test.
        number: u64,
    },
    /// The sender asks the receiver to dial a neighbour of its own, without making a link.
    DialBack(DialBack),
    /// The answer to that.
    DialledBack {
        /// Names the dial.
        number: u64,
        /// Whether that node was reached; none where it was not dialled.
        reached: Option<bool>,
    },
    /// What came of a test.
    Report {
        /// Names the test.
        number: u64,
        /// Who dialled.
        dialler: NodeId,
        /// Where the receiver was reached; none when it was not.
        reached: Option<Bytes>,
    },
    /// The sender has opened this link to ask something, and closes it soon: it is no part of the mesh. Nodes of the first release
    /// pass over it and take the link for one like all others.
    Visit,
    /// The sender wants a link to a neighbour of the receiver that it cannot dial.
    Introduce {
        /// That neighbour.
        node: NodeId,
    },
    /// That node wants a link, and is where the sender sees its packets come from.
    Meet(Descriptor),
}

/// A dial that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialBack {
    /// Names it.
    pub number: u64,
    /// Whom to dial, and where whoever asks sees its packets come from.
    pub peer: Descriptor,
}

/// A request under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub origin: NodeId,
    /// Its number, random, unique at its origin.
    pub request: u64,
    /// Where it goes.
    pub target: Position,
    /// Whether only the node at the very place may answer, or whoever is closest.
    pub exact: bool,
    /// Links it has crossed.
    pub hops: u8,
    /// What is asked, encoded.
    pub body: Bytes,
}

/// An answer under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who asked.
    pub origin: NodeId,
    /// The request.
    pub request: u64,
    /// Who answers. Not signed: nothing that matters is believed for it.
    pub responder: NodeId,
    /// Links the request had crossed.
    pub hops: u8,
    /// Nodes that the answerer is linked with and itself, closest to the place asked about.
    pub nodes: Vec<Descriptor>,
    /// What is answered, encoded.
    pub body: Bytes,
}

impl Message {
    /// Returns the encoded message.
    pub fn encode(&self) -> Bytes {
        let mut out = Encoder::new();
        match self {
            Self::Request(request) => {
                out.array(7).unsigned(REQUEST).bytes(request.origin.as_bytes()).unsigned(request.request);
                out.bytes(&request.target.0).boolean(request.exact).unsigned(request.hops.into()).bytes(&request.body);
            }
            Self::Answer(answer) => {
                out.array(7).unsigned(ANSWER).bytes(answer.origin.as_bytes()).unsigned(answer.request);
                out.bytes(answer.responder.as_bytes()).unsigned(answer.hops.into());
                encode_nodes(&answer.nodes, &mut out);
                out.bytes(&answer.body);
            }
            Self::Acknowledge { origin, request } => {
                out.array(3).unsigned(ACKNOWLEDGE).bytes(origin.as_bytes()).unsigned(*request);
            }
            Self::Neighbours(nodes) => {
                out.array(2).unsigned(NEIGHBOURS);
                encode_nodes(nodes, &mut out);
            }
            Self::Role { serves } => {
                out.array(2).unsigned(ROLE).boolean(*serves);
            }
            Self::Test { number } => {
                out.array(2).unsigned(TEST).unsigned(*number);
            }
            Self::DialBack(DialBack { number, peer }) => {
                out.array(4).unsigned(DIAL_BACK).unsigned(*number).bytes(peer.node.as_bytes()).bytes(&peer.address);
            }
            Self::DialledBack { number, reached } => {
                out.array(3).unsigned(DIALLED_BACK).unsigned(*number);
                match reached {
                    Some(reached) => out.boolean(*reached),
                    None => out.null(),
                };
            }
            Self::Report { number, dialler, reached } => {
                out.array(4).unsigned(REPORT).unsigned(*number).bytes(dialler.as_bytes());
                match reached {
                    Some(address) => out.bytes(address),
                    None => out.null(),
                };
            }
            Self::Visit => {
                out.array(1).unsigned(VISIT);
            }
            Self::Introduce { node } => {
                out.array(2).unsigned(INTRODUCE).bytes(node.as_bytes());
            }
            Self::Meet(peer) => {
                out.array(3).unsigned(MEET).bytes(peer.node.as_bytes()).bytes(&peer.address);
            }
        }
        out.finish().into()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`MessageError`], always the peer's fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(MessageError::TooLong(bytes.len()));
        }
        let mut input = Decoder::new(bytes);
        let items = input.array(MAX_ITEMS)?;
        let (message, read) = match (input.unsigned()?, items) {
            (REQUEST, 7..) => {
                let request = Request {
                    origin: NodeId::from_bytes(input.fixed()?),
                    request: input.unsigned()?,
                    target: Position(input.fixed()?),
                    exact: input.boolean()?,
                    hops: input.narrow()?,
                    body: Bytes::copy_from_slice(input.bytes(MAX_MESSAGE)?),
                };
                (Self::Request(request), 7)
            }
            (ANSWER, 7..) => {
                let answer = Answer {
                    origin: NodeId::from_bytes(input.fixed()?),
                    request: input.unsigned()?,
                    responder: NodeId::from_bytes(input.fixed()?),
                    hops: input.narrow()?,
                    nodes: decode_nodes(&mut input)?,
                    body: Bytes::copy_from_slice(input.bytes(MAX_MESSAGE)?),
                };
                (Self::Answer(answer), 7)
            }
            (ACKNOWLEDGE, 3..) => {
                let origin = NodeId::from_bytes(input.fixed()?);
                (Self::Acknowledge { origin, request: input.unsigned()? }, 3)
            }
            (NEIGHBOURS, 2..) => (Self::Neighbours(decode_nodes(&mut input)?), 2),
            (VISIT, _) => (Self::Visit, 1),
            (INTRODUCE, 2..) => (Self::Introduce { node: NodeId::from_bytes(input.fixed()?) }, 2),
            (MEET, 3..) => {
                let node = NodeId::from_bytes(input.fixed()?);
                (Self::Meet(Descriptor { node, address: Bytes::copy_from_slice(input.bytes(MAX_ADDRESS)?) }), 3)
            }
            (ROLE, 2..) => (Self::Role { serves: input.boolean()? }, 2),
            (TEST, 2..) => (Self::Test { number: input.unsigned()? }, 2),
            (DIAL_BACK, 4..) => {
                let (number, node) = (input.unsigned()?, NodeId::from_bytes(input.fixed()?));
                let address = Bytes::copy_from_slice(input.bytes(MAX_ADDRESS)?);
                (Self::DialBack(DialBack { number, peer: Descriptor { node, address } }), 4)
            }
            (DIALLED_BACK, 3..) => {
                let number = input.unsigned()?;
                let reached = if input.null() { None } else { Some(input.boolean()?) };
                (Self::DialledBack { number, reached }, 3)
            }
            (REPORT, 4..) => {
                let (number, dialler) = (input.unsigned()?, NodeId::from_bytes(input.fixed()?));
                let reached = if input.null() { None } else { Some(Bytes::copy_from_slice(input.bytes(MAX_ADDRESS)?)) };
                (Self::Report { number, dialler, reached }, 4)
            }
            (
                REQUEST | ANSWER | ACKNOWLEDGE | NEIGHBOURS | ROLE | TEST | DIAL_BACK | DIALLED_BACK | REPORT
                | INTRODUCE | MEET,
                _,
            ) => {
                return Err(CborError("too few items").into());
            }
            (other, _) => return Err(MessageError::UnknownType(other)),
        };
        input.skip_rest(items, read)?;
        input.finish()?;
        Ok(message)
    }
}

fn encode_nodes(nodes: &[Descriptor], out: &mut Encoder) {
    out.array(nodes.len());
    for node in nodes {
        out.array(2).bytes(node.node.as_bytes()).bytes(&node.address);
    }
}

fn decode_nodes(input: &mut Decoder<'_>) -> Result<Vec<Descriptor>, CborError> {
    let count = input.array(MAX_NODES)?;
    (0..count)
        .map(|_| {
            input.array_of(2)?;
            let node = NodeId::from_bytes(input.fixed()?);
            Ok(Descriptor { node, address: Bytes::copy_from_slice(input.bytes(MAX_ADDRESS)?) })
        })
        .collect()
}

/// What is wrong with a message; always the peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than any message may be.
    #[error("the peer's message has {0} bytes")]
    TooLong(usize),
    /// Not a message.
    #[error("the peer's message is malformed: {0}")]
    Malformed(#[from] CborError),
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
    /// A reason that only newer programs know, by its code.
    Other(u64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.reason {
            RefusalReason::Malformed => "it is malformed",
            RefusalReason::NotEntitled => "its signer may not write it",
            RefusalReason::TooOld => "a newer one is held",
            RefusalReason::FromTheFuture => "it is from the future",
            RefusalReason::Expired => "it has expired",
            RefusalReason::Full => "there is no more room",
            RefusalReason::NotResponsible => "it belongs elsewhere",
            RefusalReason::Other(code) => return write!(f, "for reason {code}, which is unknown here"),
        };
        f.write_str(text)
    }
}
