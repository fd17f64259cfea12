//! What is inside requests and answers: find, fetch, store, offer.

use crate::record::cbor::{CborError, Decoder, Encoder};
use crate::record::value::Record;
use crate::record::{Kind, RecordError, ResourceId, StoredValue};

use super::Position;
use super::message::{MAX_ITEMS, MessageError, Refusal, RefusalReason};

const FIND: u64 = 0;
const FETCH: u64 = 1;
const STORE: u64 = 2;
const OFFER: u64 = 3;
const PUT: u64 = 4;
const CLOCK: u64 = 5;
const LISTEN: u64 = 6;
const CHANGED: u64 = 7;
const MOVED: u64 = 8;

const FAILED: u64 = 0;
const NODES: u64 = 1;
const VALUES: u64 = 2;
const STORED: u64 = 3;
const OFFERED: u64 = 4;
const MERGED: u64 = 5;
const TIME: u64 = 6;
const LISTENING: u64 = 7;
const HEARD: u64 = 8;

/// Most values in one message; the size of a message is the tighter bound for all but removals.
pub const MAX_VALUES: usize = 128;

/// Most values that the answer to a put shows: of the home nodes of one domain, those who wrote last.
pub const MAX_NEWER: usize = 8;

/// Most entries in one offer: 256 of at most 128 bytes are half a message.
pub const MAX_OFFERS: usize = 256;

/// Most changes that one message tells of: as many values as a name has of any kind.
pub const MAX_CHANGES: usize = 16;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Which nodes are closest to this place?
    Find(Position),
    /// Which values of this kind are held at this resource?
    Fetch {
        /// The resource.
        resource: ResourceId,
        /// The kind.
        kind: Kind,
    },
    /// Hold these values.
    Store(Vec<Handed>),
    /// Which of these values are missing or older there?
    Offer(Vec<Offer>),
    /// Hold this value, and show what is newer. Nodes of the first release do not understand it and are asked to store.
    Put(Box<Handed>),
    /// What time is it there?
    Clock,
    /// Tell the asker from now on when a value of this kind changes at this resource.
    Listen {
        /// The resource.
        resource: ResourceId,
        /// The kind.
        kind: Kind,
        /// For how long, in seconds.
        lifetime_s: u32,
    },
    /// These values, all of one kind at one resource, have changed. At most [`MAX_CHANGES`].
    Changed(Vec<Offer>),
    /// Other nodes than before hold what belongs to this place: whoever listens there may have to ask them.
    Moved {
        /// The resource.
        resource: ResourceId,
        /// The kind.
        kind: Kind,
    },
}

/// A value with how long it is still to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// Seconds left, at most its lifetime.
    pub remaining_s: u32,
    /// The value and its certificates.
    pub record: Record,
}

/// Tells of a value without showing it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// The resource.
    pub resource: ResourceId,
    /// The kind.
    pub kind: Kind,
    /// The key within a dictionary.
    pub key: Vec<u8>,
    /// When it was written.
    pub storage_ms: u64,
    /// SHA-256 of the value.
    pub digest: [u8; 32],
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The request did not get to where it was sent.
    Failed(Failure),
    /// Only the list of nodes.
    Nodes,
    /// The values held, removals included.
    Values(Vec<Record>),
    /// For each value whether it is held now.
    Stored(Vec<Result<(), Refusal>>),
    /// For each entry what the receiver has, and the values of which it has a newer one.
    Offered {
        /// In the order of the offer.
        states: Vec<OfferState>,
        /// The newer ones.
        newer: Vec<Handed>,
    },
    /// Whether a value that was put is held now, and what others have written there since it was dated: the newest, at most
    /// [`MAX_NEWER`].
    Merged {
        /// Whether it is held.
        result: Result<(), Refusal>,
        /// What is newer.
        newer: Vec<Handed>,
    },
    /// What the answerer's clock shows, uncorrected, in unix milliseconds.
    Time(u64),
    /// Whether the asker will be told of changes, and what is held there now, at most [`MAX_CHANGES`].
    Listening {
        /// Whether it will.
        promised: bool,
        /// What is held.
        held: Vec<Offer>,
    },
    /// Whether what was told is of any interest.
    Heard {
        /// Whether it is.
        wanted: bool,
    },
}

/// Why a request did not get where it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody on the way has a link to that node.
    Unreachable,
    /// A hop has too many requests under way, or the receiver more to check for that link than it takes on.
    Busy,
    /// It crossed too many links.
    TooManyHops,
    /// The receiver does not understand the body.
    NotUnderstood,
    /// A failure that only newer programs know, by its code.
    Other(u64),
}

/// What a receiver has of an offered value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferState {
    /// The same.
    Same,
    /// None or an older one.
    Wanted,
    /// A newer one.
    Newer,
    /// It will not hold this.
    Refused,
}

impl Offer {
    /// Returns what tells of this value.
    pub fn of(value: &StoredValue) -> Self {
        Self {
            resource: value.resource(),
            kind: value.kind,
            key: value.key.clone(),
            storage_ms: value.storage_ms,
            digest: value.digest(),
        }
    }
}

impl Ask {
    /// Returns the encoded body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::Find(place) => {
                out.array(2).unsigned(FIND).bytes(&place.0);
            }
            Self::Fetch { resource, kind } => {
                out.array(3).unsigned(FETCH).bytes(resource.as_bytes()).unsigned(kind.number());
            }
            Self::Store(values) => {
                out.array(2).unsigned(STORE);
                encode_handed(values, &mut out);
            }
            Self::Offer(offers) => {
                out.array(2).unsigned(OFFER);
                encode_offers(offers, &mut out);
            }
            Self::Put(handed) => {
                out.array(2).unsigned(PUT);
                encode_handed(std::slice::from_ref(&**handed), &mut out);
            }
            Self::Clock => {
                out.array(1).unsigned(CLOCK);
            }
            Self::Listen { resource, kind, lifetime_s } => {
                out.array(4).unsigned(LISTEN).bytes(resource.as_bytes()).unsigned(kind.number());
                out.unsigned((*lifetime_s).into());
            }
            Self::Changed(offers) => {
                out.array(2).unsigned(CHANGED);
                encode_offers(offers, &mut out);
            }
            Self::Moved { resource, kind } => {
                out.array(3).unsigned(MOVED).bytes(resource.as_bytes()).unsigned(kind.number());
            }
        }
        out.finish()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`MessageError`], the origin's fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut input = Decoder::new(bytes);
        let items = input.array(MAX_ITEMS)?;
        let (ask, read) = match (input.unsigned()?, items) {
            (FIND, 2..) => (Self::Find(Position(input.fixed()?)), 2),
            (FETCH, 3..) => {
                let resource = ResourceId::from_bytes(input.fixed()?);
                (Self::Fetch { resource, kind: decode_kind(&mut input)? }, 3)
            }
            (STORE, 2..) => (Self::Store(decode_handed(&mut input)?), 2),
            (OFFER, 2..) => (Self::Offer(decode_offers(&mut input, MAX_OFFERS)?), 2),
            (PUT, 2..) => (Self::Put(Box::new(decode_one(decode_handed(&mut input)?)?)), 2),
            (CLOCK, 1..) => (Self::Clock, 1),
            (LISTEN, 4..) => {
                let resource = ResourceId::from_bytes(input.fixed()?);
                (Self::Listen { resource, kind: decode_kind(&mut input)?, lifetime_s: input.narrow()? }, 4)
            }
            (CHANGED, 2..) => (Self::Changed(decode_offers(&mut input, MAX_CHANGES)?), 2),
            (MOVED, 3..) => {
                let resource = ResourceId::from_bytes(input.fixed()?);
                (Self::Moved { resource, kind: decode_kind(&mut input)? }, 3)
            }
            (FIND | FETCH | STORE | OFFER | PUT | LISTEN | CHANGED | MOVED, _) => {
                return Err(CborError("too few items").into());
            }
            (other, _) => return Err(MessageError::UnknownType(other)),
        };
        input.skip_rest(items, read)?;
        input.finish()?;
        Ok(ask)
    }

    /// Returns how many values a body wants to be held, or places to be listened at, without reading them. What cannot be read carries
    /// none: it is refused by whoever it is for.
    pub(super) fn values_carried(bytes: &[u8]) -> usize {
        let mut input = Decoder::new(bytes);
        match input.array(MAX_ITEMS).and_then(|_| input.unsigned()) {
            Ok(STORE | PUT) => input.array(MAX_VALUES).unwrap_or_default(),
            Ok(LISTEN) => 1,
            Ok(_) | Err(_) => 0,
        }
    }

    /// Returns the place that the list of nodes in the answer shall be about, if one place is meant.
    pub fn place(&self) -> Option<Position> {
        match self {
            Self::Find(place) => Some(*place),
            Self::Fetch { resource, .. } => Some((*resource).into()),
            Self::Store(values) => values.first().map(|value| value.record.value.resource().into()),
            Self::Put(handed) => Some(handed.record.value.resource().into()),
            Self::Offer(_) | Self::Clock | Self::Listen { .. } | Self::Changed(_) | Self::Moved { .. } => None,
        }
    }
}

impl Reply {
    /// Returns the encoded body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match self {
            Self::Failed(failure) => {
                let code = match failure {
                    Failure::Unreachable => 0,
                    Failure::Busy => 1,
                    Failure::TooManyHops => 2,
                    Failure::NotUnderstood => 3,
                    Failure::Other(code) => *code,
                };
                out.array(2).unsigned(FAILED).unsigned(code);
            }
            Self::Nodes => {
                out.array(1).unsigned(NODES);
            }
            Self::Values(records) => {
                out.array(2).unsigned(VALUES).array(records.len());
                for record in records {
                    record.encode_into(&mut out);
                }
            }
            Self::Stored(results) => {
                out.array(2).unsigned(STORED);
                encode_results(results, &mut out);
            }
            Self::Merged { result, newer } => {
                out.array(3).unsigned(MERGED);
                encode_results(&[*result], &mut out);
                encode_handed(newer, &mut out);
            }
            Self::Offered { states, newer } => {
                out.array(3).unsigned(OFFERED).array(states.len());
                for state in states {
                    out.unsigned(match state {
                        OfferState::Same => 0,
                        OfferState::Wanted => 1,
                        OfferState::Newer => 2,
                        OfferState::Refused => 3,
                    });
                }
                encode_handed(newer, &mut out);
            }
            Self::Time(unix_ms) => {
                out.array(2).unsigned(TIME).unsigned(*unix_ms);
            }
            Self::Listening { promised, held } => {
                out.array(3).unsigned(LISTENING).boolean(*promised);
                encode_offers(held, &mut out);
            }
            Self::Heard { wanted } => {
                out.array(2).unsigned(HEARD).boolean(*wanted);
            }
        }
        out.finish()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`MessageError`], the answerer's fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut input = Decoder::new(bytes);
        let items = input.array(MAX_ITEMS)?;
        let (reply, read) = match (input.unsigned()?, items) {
            (FAILED, 2..) => {
                let failure = match input.unsigned()? {
                    0 => Failure::Unreachable,
                    1 => Failure::Busy,
                    2 => Failure::TooManyHops,
                    3 => Failure::NotUnderstood,
                    other => Failure::Other(other),
                };
                (Self::Failed(failure), 2)
            }
            (NODES, 1..) => (Self::Nodes, 1),
            (VALUES, 2..) => {
                let count = input.array(MAX_VALUES)?;
                let records =
                    (0..count).map(|_| Record::decode_from(&mut input)).collect::<Result<_, RecordError>>()?;
                (Self::Values(records), 2)
            }
            (STORED, 2..) => (Self::Stored(decode_results(&mut input)?), 2),
            (OFFERED, 3..) => {
                let count = input.array(MAX_OFFERS)?;
                let states = (0..count).map(|_| decode_state(&mut input)).collect::<Result<_, CborError>>()?;
                (Self::Offered { states, newer: decode_handed(&mut input)? }, 3)
            }
            (MERGED, 3..) => {
                let result = decode_one(decode_results(&mut input)?)?;
                let mut newer = decode_handed(&mut input)?;
                newer.truncate(MAX_NEWER);
                (Self::Merged { result, newer }, 3)
            }
            (TIME, 2..) => (Self::Time(input.unsigned()?), 2),
            (LISTENING, 3..) => {
                let promised = input.boolean()?;
                (Self::Listening { promised, held: decode_offers(&mut input, MAX_CHANGES)? }, 3)
            }
            (HEARD, 2..) => (Self::Heard { wanted: input.boolean()? }, 2),
            (FAILED | NODES | VALUES | STORED | OFFERED | MERGED | TIME | LISTENING | HEARD, _) => {
                return Err(CborError("too few items").into());
            }
            (other, _) => return Err(MessageError::UnknownType(other)),
        };
        input.skip_rest(items, read)?;
        input.finish()?;
        Ok(reply)
    }
}

impl RefusalReason {
    const fn code(self) -> u64 {
        match self {
            Self::Malformed => 0,
            Self::NotEntitled => 1,
            Self::TooOld => 2,
            Self::FromTheFuture => 3,
            Self::Expired => 4,
            Self::Full => 5,
            Self::NotResponsible => 6,
            Self::Other(code) => code,
        }
    }
}

fn decode_kind(input: &mut Decoder<'_>) -> Result<Kind, MessageError> {
    let number = input.unsigned()?;
    Kind::from_number(number).ok_or_else(|| RecordError::UnknownKind(number).into())
}

fn encode_offers(offers: &[Offer], out: &mut Encoder) {
    out.array(offers.len());
    for offer in offers {
        out.array(5).bytes(offer.resource.as_bytes()).unsigned(offer.kind.number()).bytes(&offer.key);
        out.unsigned(offer.storage_ms).bytes(&offer.digest);
    }
}

fn decode_offers(input: &mut Decoder<'_>, max: usize) -> Result<Vec<Offer>, MessageError> {
    let count = input.array(max)?;
    (0..count).map(|_| decode_offer(input)).collect()
}

fn decode_offer(input: &mut Decoder<'_>) -> Result<Offer, MessageError> {
    input.array_of(5)?;
    Ok(Offer {
        resource: ResourceId::from_bytes(input.fixed()?),
        kind: decode_kind(input)?,
        key: input.bytes(32)?.to_vec(),
        storage_ms: input.unsigned()?,
        digest: input.fixed()?,
    })
}

fn decode_state(input: &mut Decoder<'_>) -> Result<OfferState, CborError> {
    match input.unsigned()? {
        0 => Ok(OfferState::Same),
        1 => Ok(OfferState::Wanted),
        2 => Ok(OfferState::Newer),
        3 => Ok(OfferState::Refused),
        _ => Err(CborError("unknown state of an offer")),
    }
}

fn encode_results(results: &[Result<(), Refusal>], out: &mut Encoder) {
    out.array(results.len());
    for result in results {
        match result {
            Ok(()) => out.null(),
            Err(refusal) => out.array(2).unsigned(refusal.reason.code()).unsigned(refusal.newest_ms),
        };
    }
}

/// Takes the only item of a list.
fn decode_one<T>(items: Vec<T>) -> Result<T, CborError> {
    let [item] = <[T; 1]>::try_from(items).map_err(|_| CborError("not exactly one item"))?;
    Ok(item)
}

fn decode_results(input: &mut Decoder<'_>) -> Result<Vec<Result<(), Refusal>>, CborError> {
    let count = input.array(MAX_VALUES)?;
    (0..count).map(|_| decode_result(input)).collect()
}

fn decode_result(input: &mut Decoder<'_>) -> Result<Result<(), Refusal>, CborError> {
    if input.null() {
        return Ok(Ok(()));
    }
    input.array_of(2)?;
    let reason = match input.unsigned()? {
        0 => RefusalReason::Malformed,
        1 => RefusalReason::NotEntitled,
        2 => RefusalReason::TooOld,
        3 => RefusalReason::FromTheFuture,
        4 => RefusalReason::Expired,
        5 => RefusalReason::Full,
        6 => RefusalReason::NotResponsible,
        other => RefusalReason::Other(other),
    };
    Ok(Err(Refusal { reason, newest_ms: input.unsigned()? }))
}

fn encode_handed(values: &[Handed], out: &mut Encoder) {
    out.array(values.len());
    for value in values {
        out.array(2).unsigned(value.remaining_s.into());
        value.record.encode_into(out);
    }
}

fn decode_handed(input: &mut Decoder<'_>) -> Result<Vec<Handed>, MessageError> {
    let count = input.array(MAX_VALUES)?;
    (0..count)
        .map(|_| {
            input.array_of(2)?;
            Ok(Handed { remaining_s: input.narrow()?, record: Record::decode_from(input)? })
        })
        .collect()
}
