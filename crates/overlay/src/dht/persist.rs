//! What of the storage outlives the process: changes for a store to write, and taking it all back at the next start.
//!
//! Beside the values there are [dates](super::dates) that this node ran ahead of its clock with, and how it was [there](super::presence).
//! Removals are values like any other and are kept as such, or what they removed could come back. What lies in the store is read
//! again with the checks that need no key: readers verify signatures anyway, and thousands of them would delay the start.

use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::NodeId;

use super::body::Handed;
use super::storage::{Held, Slot};
use super::{Dht, Now, dates, presence};
use crate::record::cbor::{Decoder, Encoder};
use crate::record::validator::check_form;
use crate::record::value::Record;
use crate::record::{Kind, RecordError, ResourceId};

/// One change for the store. Keys and values are opaque to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersistChange {
    /// Write this value, in the place of the one with this key.
    Put {
        /// Names the value.
        key: Bytes,
        /// The value with its certificates and when it ends.
        value: Bytes,
    },
    /// Forget the value with this key.
    Remove {
        /// Names the value.
        key: Bytes,
    },
}

impl Dht {
    /// Returns the next change for the store, if [`Config::persist`](super::Config::persist) is set. Whoever must not lose what it
    /// acknowledged drains and commits before it sends what [`poll_transmit`](Self::poll_transmit) returns.
    pub fn poll_persist(&mut self) -> Option<PersistChange> {
        if let Some(key) = self.unreadable.pop() {
            return Some(PersistChange::Remove { key });
        }
        if self.presence.pop_change() {
            return Some(PersistChange::Put { key: presence::encode_key(), value: self.presence.encode() });
        }
        if let Some(place) = self.dates.pop_change() {
            let key = dates::encode_key(place);
            return Some(match self.dates.last(place) {
                Some(date) => PersistChange::Put { key, value: dates::encode_date(date) },
                None => PersistChange::Remove { key },
            });
        }
        let (resource, slot) = self.storage.pop_change()?;
        let key = encode_key(resource, &slot);
        Some(match self.storage.get(resource, &slot) {
            Some(held) => PersistChange::Put { key, value: encode_held(held, self.clock.correction_ms()) },
            None => PersistChange::Remove { key },
        })
    }

    /// Takes back what the store holds of an earlier run, before the first link is up. What has expired or is damaged is not
    /// taken, and the store is told to forget it. Returns how many values were taken.
    pub fn restore(&mut self, now: Now, entries: impl IntoIterator<Item = (Bytes, Bytes)>) -> usize {
        let mut taken = 0;
        for (key, value) in entries {
            if self.restore_one(now, &key, &value).is_ok() {
                taken += 1;
            } else if !self.presence.restore(now.unix_ms, &key, &value) && !self.dates.restore(now, &key, &value) {
                self.unreadable.push(key);
            }
        }
        if taken > 0 {
            self.role.resume();
        }
        self.role.note_habit(self.presence.is_often_away(now.unix_ms));
        // The store has all of that already.
        self.storage.settle_changes();
        self.set_expiry_timer();
        taken
    }

    /// Forgets what a node wrote of its own, which is none any longer.
    pub fn forget_writer(&mut self, node: NodeId) {
        self.storage.forget_writer(node);
    }

    fn restore_one(&mut self, now: Now, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        let (resource, slot) = decode_key(key)?;
        let (expires_ms, record) = decode_held(value)?;
        let remaining = Duration::from_millis(expires_ms.saturating_sub(now.unix_ms));
        if remaining.is_zero() {
            return Err(RecordError::Expired);
        }
        if (record.value.kind, &record.value.key) != (slot.0, &slot.1) {
            return Err(RecordError::Content("it is another value's"));
        }
        check_form(now.unix_ms, resource, &record.value)?;
        let remaining_s = u32::try_from(remaining.as_secs()).unwrap_or(u32::MAX).max(1);
        self.storage
            .put(now, &self.config, resource, Handed { remaining_s, record })
            .map_err(|_| RecordError::Content("there is no room for it"))
    }
}

fn encode_key(resource: ResourceId, slot: &Slot) -> Bytes {
    Encoder::new().array(3).bytes(resource.as_bytes()).unsigned(slot.0.number()).bytes(&slot.1).finish().into()
}

fn decode_key(bytes: &[u8]) -> Result<(ResourceId, Slot), RecordError> {
    let mut input = Decoder::new(bytes);
    input.array_of(3)?;
    let resource = ResourceId::from_bytes(input.fixed()?);
    let number = input.unsigned()?;
    let kind = Kind::from_number(number).ok_or(RecordError::UnknownKind(number))?;
    let key = input.bytes(32)?.to_vec();
    input.finish()?;
    Ok((resource, (kind, key)))
}

/// The end is written down by our own clock: at the next start no neighbour has told yet how far that is off.
fn encode_held(held: &Held, correction_ms: i64) -> Bytes {
    let mut out = Encoder::new();
    out.array(2).unsigned(held.expires_ms.saturating_add_signed(correction_ms.saturating_neg()));
    held.record.encode_into(&mut out);
    out.finish().into()
}

fn decode_held(bytes: &[u8]) -> Result<(u64, Record), RecordError> {
    let mut input = Decoder::new(bytes);
    input.array_of(2)?;
    let expires_ms = input.unsigned()?;
    let record = Record::decode_from(&mut input)?;
    input.finish()?;
    Ok((expires_ms, record))
}
