//! What this node dated ahead of its clock: the next value of that place has to be dated later, even when nothing else tells of the
//! last one any more, as of a removal. All other dates follow from the clock.
//!
//! The dates outlive the process, where there is a store, and are in it before anything leaves that bears them: a node that starts again
//! has not heard yet how far its clock is off, and goes by another time of day than before.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Now;
use super::clock::MAX_CORRECTION_MS;
use super::listen::Place;
use crate::record::cbor::{CborError, Decoder, Encoder};
use crate::record::{Kind, ResourceId};

/// A date is remembered until the clock has passed it by this much: that is how far corrections may set the clock back.
const KEPT_MS: u64 = MAX_CORRECTION_MS;

/// Dates remembered: no more than a home node that lost its clock writes within the minutes that it may be behind. Beyond that the
/// earliest is forgotten, and two values might be dated alike.
const MAX_AHEAD: usize = 16_384;

/// The dates ahead of the clock.
#[derive(Debug)]
pub(super) struct Dates {
    ahead: BTreeMap<Place, u64>,
    /// The same in the order of time.
    order: BTreeSet<(u64, Place)>,
    /// Places of which the store has not been told yet, where there is one.
    changed: Option<BTreeSet<Place>>,
}

impl Dates {
    /// Makes an empty list; `persist` says whether changes are to be told to a store.
    pub(super) fn new(persist: bool) -> Self {
        Self { ahead: BTreeMap::new(), order: BTreeSet::new(), changed: persist.then(BTreeSet::new) }
    }

    /// Returns the date that was ahead.
    pub(super) fn last(&self, place: Place) -> Option<u64> {
        self.ahead.get(&place).copied()
    }

    /// Returns a place whose date has changed since the store was last told.
    pub(super) fn pop_change(&mut self) -> Option<Place> {
        self.changed.as_mut()?.pop_first()
    }

    /// Takes note of the date that a value is given, if it is ahead of the clock.
    pub(super) fn note(&mut self, now: Now, place: Place, storage_ms: u64) {
        if storage_ms > now.unix_ms {
            self.keep(now, place, storage_ms);
        }
    }

    fn keep(&mut self, now: Now, place: Place, storage_ms: u64) {
        if let Some(before) = self.ahead.insert(place, storage_ms) {
            self.order.remove(&(before, place));
        }
        self.order.insert((storage_ms, place));
        self.note_change(place);
        while let Some((date, place)) = self.order.first().copied()
            && (date.saturating_add(KEPT_MS) < now.unix_ms || self.order.len() > MAX_AHEAD)
        {
            self.order.pop_first();
            self.ahead.remove(&place);
            self.note_change(place);
        }
    }

    fn note_change(&mut self, place: Place) {
        if let Some(changed) = &mut self.changed {
            changed.insert(place);
        }
    }

    /// Takes back what an earlier run noted; false when that is no date, or long past.
    pub(super) fn restore(&mut self, now: Now, key: &[u8], value: &[u8]) -> bool {
        let Ok((place, date)) = decode_key(key).and_then(|place| Ok((place, decode_date(value)?))) else {
            return false;
        };
        self.keep(now, place, date);
        if let Some(changed) = &mut self.changed {
            changed.remove(&place);
        }
        self.last(place) == Some(date)
    }
}

/// Returns the key in the store: shorter than that of any value held, which has three parts.
pub(super) fn encode_key((resource, kind): Place) -> Bytes {
    Encoder::new().array(2).bytes(resource.as_bytes()).unsigned(kind.number()).finish().into()
}

/// Returns what the store keeps of a date.
pub(super) fn encode_date(storage_ms: u64) -> Bytes {
    Encoder::new().array(1).unsigned(storage_ms).finish().into()
}

fn decode_key(bytes: &[u8]) -> Result<Place, CborError> {
    let mut input = Decoder::new(bytes);
    input.array_of(2)?;
    let resource = ResourceId::from_bytes(input.fixed()?);
    let kind = Kind::from_number(input.unsigned()?).ok_or(CborError("a kind that is unknown here"))?;
    input.finish()?;
    Ok((resource, kind))
}

fn decode_date(bytes: &[u8]) -> Result<u64, CborError> {
    let mut input = Decoder::new(bytes);
    input.array_of(1)?;
    let date = input.unsigned()?;
    input.finish()?;
    Ok(date)
}
