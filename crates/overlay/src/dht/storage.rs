//! What a node holds of the overlay's records: merging, bounds, expiry.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_identity::NodeId;

use super::body::{Handed, Offer};
use super::config::MAX_BATCH;
use super::message::{Refusal, RefusalReason};
use super::rooms::{Owner, Rooms, weight};
use super::{Config, Now, Position};
use crate::record::value::Record;
use crate::record::{Kind, ResourceId};

/// Names a value held at a resource.
pub(super) type Slot = (Kind, Vec<u8>);

/// A value held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: Record,
    pub(super) digest: [u8; 32],
    pub(super) expires: Instant,
    /// The same by the time of day, in unix milliseconds, for what outlives the process.
    pub(super) expires_ms: u64,
}

/// All values held.
#[derive(Debug)]
pub(super) struct Storage {
    resources: BTreeMap<ResourceId, BTreeMap<Slot, Held>>,
    expiry: BTreeSet<(Instant, ResourceId, Slot)>,
    per_writer: BTreeMap<NodeId, usize>,
    rooms: Rooms,
    count: usize,
    /// Certificates held, each once; values share them.
    certificates: BTreeSet<Bytes>,
    /// Values put or removed since the store was last told, where there is a store. Each once, so that it is no larger than what is
    /// held and what left meanwhile.
    changed: Option<BTreeSet<(ResourceId, Slot)>>,
}

impl Held {
    /// Returns what tells of the value.
    pub(super) fn offer(&self, resource: ResourceId) -> Offer {
        let value = &self.record.value;
        let (kind, key) = (value.kind, value.key.clone());
        Offer { resource, kind, key, storage_ms: value.storage_ms, digest: self.digest }
    }

    /// Returns the value as it is handed over, with the time it has left.
    pub(super) fn handed(&self, now: Instant) -> Handed {
        let remaining = self.expires.saturating_duration_since(now).as_secs();
        Handed { remaining_s: u32::try_from(remaining).unwrap_or(u32::MAX).max(1), record: self.record.clone() }
    }
}

impl Storage {
    /// Makes the empty storage of a node at this place; `persist` says whether changes are to be told to a store.
    pub(super) fn new(own: Position, persist: bool) -> Self {
        Self {
            resources: BTreeMap::new(),
            expiry: BTreeSet::new(),
            per_writer: BTreeMap::new(),
            rooms: Rooms::new(own),
            count: 0,
            certificates: BTreeSet::new(),
            changed: persist.then(BTreeSet::new),
        }
    }

    /// Returns a value changed since the store was last told.
    pub(super) fn pop_change(&mut self) -> Option<(ResourceId, Slot)> {
        self.changed.as_mut()?.pop_first()
    }

    /// Forgets what was put: the store has it. What had to make room meanwhile is still to be told.
    pub(super) fn settle_changes(&mut self) {
        if let Some(changed) = &mut self.changed {
            changed.retain(|(resource, slot)| !self.resources.get(resource).is_some_and(|at| at.contains_key(slot)));
        }
    }

    /// Takes a value that was validated. A value held already is taken again without effect.
    ///
    /// A removal is kept at least as long as what it removes, or that could come back from a node that was away.
    pub(super) fn put(
        &mut self,
        now: Now,
        config: &Config,
        resource: ResourceId,
        handed: Handed,
    ) -> Result<(), Refusal> {
        let value = &handed.record.value;
        let slot = (value.kind, value.key.clone());
        let remaining = Duration::from_secs(handed.remaining_s.into()).min(value.remaining(now.unix_ms));
        let mut expires = now.instant + remaining;
        let held = self.resources.get(&resource).and_then(|slots| slots.get(&slot));
        let digest = value.digest();
        match held {
            Some(held) if held.digest == digest => return Ok(()),
            // The same said, handed on by another node: who came first may stay.
            Some(held) if value.kind.dates_itself() && value.content == held.record.value.content => return Ok(()),
            Some(held) if !value.supersedes(&held.record.value) => {
                let newest_ms = held.record.value.storage_ms;
                return Err(Refusal { reason: RefusalReason::TooOld, newest_ms });
            }
            Some(held) => {
                if !value.exists {
                    expires = expires.max(held.expires);
                }
                self.remove(resource, &slot);
            }
            None => self.make_room(config, resource, &handed.record)?,
        }
        self.rooms.add(&handed.record);
        *self.per_writer.entry(value.signer).or_default() += 1;
        self.count += 1;
        self.expiry.insert((expires, resource, slot.clone()));
        self.note_change(resource, &slot);
        let left_ms = u64::try_from(expires.saturating_duration_since(now.instant).as_millis()).unwrap_or(u64::MAX);
        let expires_ms = now.unix_ms.saturating_add(left_ms);
        let mut record = handed.record;
        record.certificates = record.certificates.drain(..).map(|der| self.intern(der)).collect();
        self.resources.entry(resource).or_default().insert(slot, Held { record, digest, expires, expires_ms });
        Ok(())
    }

    /// Returns a value held.
    pub(super) fn get(&self, resource: ResourceId, slot: &Slot) -> Option<&Held> {
        self.resources.get(&resource)?.get(slot)
    }

    /// Returns the values of a kind at a resource, removals included, newest first and no more than one message takes.
    pub(super) fn values(&self, resource: ResourceId, kind: Kind) -> Vec<Record> {
        let slots = self.resources.get(&resource);
        let mut held: Vec<&Held> =
            slots.into_iter().flatten().filter(|((of, _), _)| *of == kind).map(|(_, held)| held).collect();
        held.sort_by_key(|held| std::cmp::Reverse(held.record.value.storage_ms));
        let mut room = MAX_BATCH;
        let fits = held.into_iter().take_while(|held| {
            let size = size(&held.record);
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        fits.map(|held| held.record.clone()).collect()
    }

    /// Returns everything held at a resource.
    pub(super) fn at(&self, resource: ResourceId) -> impl Iterator<Item = (&Slot, &Held)> {
        self.resources.get(&resource).into_iter().flatten()
    }

    /// Returns the resources at which something is held, in their order.
    pub(super) fn resources(&self) -> impl Iterator<Item = ResourceId> {
        self.resources.keys().copied()
    }

    /// Returns the resources after this one at which something is held, in their order.
    pub(super) fn resources_from(&self, after: Option<ResourceId>) -> impl Iterator<Item = ResourceId> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.resources.range((begin, Bound::Unbounded)).map(|(resource, _)| *resource)
    }

    /// Returns how many values of a kind exist here, removals not counted.
    pub(super) fn count(&self, kind: Kind) -> usize {
        let held = self.resources.values().flatten();
        held.filter(|((of, _), held)| *of == kind && held.record.value.exists).count()
    }

    /// Forgets a value, if it is still the one meant.
    pub(super) fn forget(&mut self, offer: &Offer) {
        let slot = (offer.kind, offer.key.clone());
        if self.get(offer.resource, &slot).is_some_and(|held| held.digest == offer.digest) {
            self.remove(offer.resource, &slot);
        }
    }

    /// Forgets what a node wrote of its own.
    pub(super) fn forget_writer(&mut self, node: NodeId) {
        let written =
            |(_, held): &(&Slot, &Held)| held.record.value.signer == node && !held.record.value.kind.dates_itself();
        let of = |(resource, slots): (&ResourceId, &BTreeMap<Slot, Held>)| {
            slots.iter().filter(written).map(|(slot, _)| (*resource, slot.clone())).collect::<Vec<_>>()
        };
        let all: Vec<(ResourceId, Slot)> = self.resources.iter().flat_map(of).collect();
        all.iter().for_each(|(resource, slot)| self.remove(*resource, slot));
    }

    /// Forgets what has expired, and certificates that nothing needs any more.
    pub(super) fn expire(&mut self, now: Instant) {
        let mut any = false;
        while let Some((at, resource, slot)) = self.expiry.first().cloned()
            && at <= now
        {
            self.remove(resource, &slot);
            any = true;
        }
        if any {
            self.certificates.retain(|der| !der.is_unique());
        }
    }

    /// Returns when the next value expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiry.first().map(|(at, _, _)| *at)
    }

    /// Makes room for a value not held yet: where there is none, whoever takes most of it loses something, unless that is the
    /// value's own owner.
    fn make_room(&mut self, config: &Config, resource: ResourceId, record: &Record) -> Result<(), Refusal> {
        let value = &record.value;
        let full = Refusal { reason: RefusalReason::Full, newest_ms: 0 };
        let here = self.at(resource).filter(|((of, _), _)| *of == value.kind).count();
        let written = self.per_writer.get(&value.signer).copied().unwrap_or_default();
        if here >= value.kind.rules().max_count || written >= config.max_values_per_writer {
            return Err(full);
        }
        let (owner, weight) = (Owner::of(record), weight(value));
        while self.count >= config.max_values || self.rooms.bytes().saturating_add(weight) > config.max_bytes {
            let (at, slot) = self.rooms.makes_room(owner, weight).ok_or(full)?;
            self.remove(at, &slot);
        }
        Ok(())
    }

    fn remove(&mut self, resource: ResourceId, slot: &Slot) {
        let Some(slots) = self.resources.get_mut(&resource) else { return };
        let Some(held) = slots.remove(slot) else { return };
        if slots.is_empty() {
            self.resources.remove(&resource);
        }
        self.expiry.remove(&(held.expires, resource, slot.clone()));
        self.rooms.remove(&held.record);
        self.count = self.count.saturating_sub(1);
        let writer = held.record.value.signer;
        if let Some(count) = self.per_writer.get_mut(&writer) {
            *count -= 1;
            if *count == 0 {
                self.per_writer.remove(&writer);
            }
        }
        self.note_change(resource, slot);
    }

    fn note_change(&mut self, resource: ResourceId, slot: &Slot) {
        if let Some(changed) = &mut self.changed {
            changed.insert((resource, slot.clone()));
        }
    }

    fn intern(&mut self, der: Bytes) -> Bytes {
        if let Some(shared) = self.certificates.get(&der) {
            return shared.clone();
        }
        self.certificates.insert(der.clone());
        der
    }
}

/// Returns about how many bytes a record takes in a message.
pub(super) fn size(record: &Record) -> usize {
    let value = &record.value;
    // Heads, numbers, signer and signature take less than 200.
    200 + value.name.len() + value.content.len() + record.certificates.iter().map(|der| der.len() + 4).sum::<usize>()
}
