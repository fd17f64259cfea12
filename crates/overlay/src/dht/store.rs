//! Writing: the value goes to all replicas at once, and counts as written when enough have acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::NodeId;

use super::body::Handed;
use super::message::{Refusal, RefusalReason};
use super::operation::{Operation, Purpose, State};
use super::publish::Published;
use super::{Dht, DhtError, Entry, Event, Now, OperationId, StoreReceipt};
use crate::record::value::{MAX_AHEAD, Record, next_storage_time};
use crate::record::{Kind, RecordError, ResourceId, writer};

/// A write under way.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) record: Record,
    /// Storage time of the value that each replica was last asked to hold.
    asked: BTreeMap<NodeId, u64>,
    acknowledged: BTreeSet<NodeId>,
    refused: BTreeMap<NodeId, Refusal>,
    /// One who has too much to do to take it now.
    busy: Option<NodeId>,
    /// When this node wrote what replicas hold in its place, if they do.
    beaten_by_ms: Option<u64>,
    /// The newest of what others have written there since this value was dated, by key; each verified.
    newer: BTreeMap<Vec<u8>, Record>,
    /// The value was dated anew, after one that was already there.
    redated: bool,
    /// This node has written something else there since.
    overtaken: bool,
    /// Whether anybody waits for the event.
    announced: bool,
}

impl Writing {
    /// Returns how many replicas have acknowledged the value so far.
    pub(super) fn acknowledgements(&self) -> usize {
        self.acknowledged.len()
    }

    /// Says whether this writes a value of that kind there, and somebody waits for the event.
    pub(super) fn is_announced_of(&self, resource: ResourceId, kind: Kind) -> bool {
        self.announced && self.record.value.kind == kind && self.record.value.resource() == resource
    }

    /// Notes that a node is asked to hold the value as it is now.
    pub(super) fn note_asked(&mut self, node: NodeId) {
        self.asked.insert(node, self.record.value.storage_ms);
    }

    /// Notes that a node has too much to do to take the value now.
    pub(super) fn note_busy(&mut self, node: NodeId) {
        self.busy = Some(node);
    }

    /// Says whether a node was asked to hold a value that has been dated anew since.
    pub(super) fn is_stale(&self, node: NodeId) -> bool {
        self.asked.get(&node).is_some_and(|asked| *asked != self.record.value.storage_ms)
    }
}

impl Dht {
    /// Writes a value once. Answered by [`Event::Stored`].
    ///
    /// # Errors
    /// When this node cannot write it.
    pub fn store(
        &mut self,
        now: Now,
        kind: Kind,
        name: &str,
        content: Bytes,
        lifetime: Duration,
    ) -> Result<OperationId, RecordError> {
        let now = self.corrected(now);
        let record = self.dated(now, kind, name, Some(content), lifetime)?;
        Ok(self.write_by(now, record, true, false))
    }

    /// As [`store`](Self::store), but finds the replicas by asking node after node from our own links on, and trusts no one's path.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub fn store_iteratively(
        &mut self,
        now: Now,
        kind: Kind,
        name: &str,
        content: Bytes,
        lifetime: Duration,
    ) -> Result<OperationId, RecordError> {
        let now = self.corrected(now);
        let record = self.dated(now, kind, name, Some(content), lifetime)?;
        Ok(self.write_by(now, record, true, true))
    }

    /// Signs a value, or a removal, dated later than what this node wrote there before. `now` is corrected already.
    pub(super) fn dated(
        &self,
        now: Now,
        kind: Kind,
        name: &str,
        content: Option<Bytes>,
        lifetime: Duration,
    ) -> Result<Record, RecordError> {
        let storage_ms = next_storage_time(now.unix_ms, self.last_dated((ResourceId::of_name(name), kind)));
        writer::write(&*self.writer, kind, name, content, lifetime, storage_ms)
    }

    /// Returns the storage time of what this node wrote last in a place, as far as it knows: two values must never be dated alike.
    pub(super) fn last_dated(&self, slot: (ResourceId, Kind)) -> Option<u64> {
        let here = self.operations.values().filter(|operation| operation.place == slot.0.into());
        let under_way = here.filter_map(|operation| match &operation.purpose {
            Purpose::Store(writing) => Some(&writing.record.value),
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair | Purpose::Fetch(_) => None,
        });
        let dated = under_way.filter(|value| value.kind == slot.1).map(|value| value.storage_ms);
        let published = self.published.get(&slot).map(Published::storage_ms);
        let held = self.storage.at(slot.0).map(|(_, held)| &held.record.value);
        let held =
            held.filter(|value| value.kind == slot.1 && value.signer == self.me.node).map(|value| value.storage_ms);
        let ahead = self.dates.last(slot);
        dated.chain(held).chain(published).chain(ahead).max()
    }

    /// Sends a signed value to its replicas.
    pub(super) fn write(&mut self, now: Now, record: Record, announced: bool) -> OperationId {
        self.write_by(now, record, announced, false)
    }

    fn write_by(&mut self, now: Now, record: Record, announced: bool, iterative: bool) -> OperationId {
        let place = record.value.resource().into();
        let slot = (record.value.kind, record.value.resource());
        self.absences.forget(slot.1, slot.0);
        self.dates.note(now, (slot.1, slot.0), record.value.storage_ms);
        for operation in self.operations.values_mut() {
            if let Purpose::Store(writing) = &mut operation.purpose
                && (writing.record.value.kind, writing.record.value.resource()) == slot
            {
                writing.overtaken = true;
            }
        }
        let writing = Writing {
            record,
            asked: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            refused: BTreeMap::new(),
            busy: None,
            beaten_by_ms: None,
            newer: BTreeMap::new(),
            redated: false,
            overtaken: false,
            announced,
        };
        self.start(now, place, self.config.replicas, Purpose::Store(Box::new(writing)), iterative)
    }

    /// Takes a replica's answer. False when it has to be asked again, since the value was dated anew meanwhile.
    pub(super) fn take_stored(
        &mut self,
        now: Now,
        writing: &mut Writing,
        node: NodeId,
        results: &[Result<(), Refusal>],
    ) -> bool {
        if writing.is_stale(node) {
            return false;
        }
        let refusal = match results.first() {
            Some(Ok(())) => {
                writing.acknowledged.insert(node);
                writing.refused.remove(&node);
                return true;
            }
            Some(Err(refusal)) => *refusal,
            None => Refusal { reason: RefusalReason::Malformed, newest_ms: 0 },
        };
        // To be dated after what has overtaken it would bring back what that replaced.
        if refusal.reason == RefusalReason::TooOld && writing.overtaken {
            writing.beaten_by_ms = Some(refusal.newest_ms);
            return true;
        }
        writing.refused.insert(node, refusal);
        !(refusal.reason == RefusalReason::TooOld && self.redate(now, writing, refusal.newest_ms))
    }

    /// Takes what a replica holds that others wrote since: what is true counts, whoever says it. It is kept here as well, where
    /// this node is a replica itself.
    pub(super) fn take_newer(&mut self, now: Now, writing: &mut Writing, newer: Vec<Handed>) {
        let written = &writing.record.value;
        for handed in newer {
            let (value, key) = (&handed.record.value, handed.record.value.key.clone());
            let known = writing.newer.get(&key).is_some_and(|known| !value.supersedes(&known.value));
            let resource = written.resource();
            if known || value.kind != written.kind || key == written.key || value.storage_ms < written.storage_ms {
                continue;
            }
            if self.validator.validate(now.unix_ms, resource, value, &handed.record.certificates).is_err() {
                continue;
            }
            writing.newer.insert(key, handed.record.clone());
            // Refused where it is not this node's business.
            let _ = self.take(now, handed);
        }
    }

    /// Our clock went back, or we forgot what we wrote: the value gets a time after the one that is held (RFC 6940 §7). Done once,
    /// and only as far ahead as any storing node accepts, so that a liar cannot lead us into the future.
    fn redate(&mut self, now: Now, writing: &mut Writing, newest_ms: u64) -> bool {
        let max_ahead_ms = u64::try_from(MAX_AHEAD.as_millis()).unwrap_or(u64::MAX);
        // What is dated by somebody else has been beaten by what she said later.
        if writing.record.value.kind.dates_itself() {
            return false;
        }
        if writing.redated || newest_ms >= now.unix_ms.saturating_add(max_ahead_ms) {
            return false;
        }
        let value = &mut writing.record.value;
        let last_ms = self.last_dated((value.resource(), value.kind)).unwrap_or_default();
        value.storage_ms = next_storage_time(now.unix_ms, Some(newest_ms.max(value.storage_ms).max(last_ms)));
        self.dates.note(now, (value.resource(), value.kind), value.storage_ms);
        let Ok(signature) = self.writer.sign(&value.signing_input()) else { return false };
        value.signature = signature;
        writing.redated = true;
        writing.acknowledged.clear();
        writing.refused.clear();
        true
    }

    /// Reports a write as soon as enough replicas have it; the others are still waited for.
    pub(super) fn report_if_acknowledged(&mut self, now: Now, id: OperationId, operation: &mut Operation) {
        let Purpose::Store(writing) = &operation.purpose else { return };
        if !operation.reported && writing.acknowledgements() >= self.config.write_acknowledgements {
            operation.reported = true;
            self.report_written(now, id, operation, None);
        }
    }

    pub(super) fn report_written(
        &mut self,
        now: Now,
        id: OperationId,
        operation: &mut Operation,
        error: Option<DhtError>,
    ) {
        // Those that are silent exist, until their links are given up: their silence makes nobody's copy enough.
        let exist = operation.shortlist.values().filter(|candidate| candidate.state != State::Failed).count();
        let settled = operation.settled();
        let Purpose::Store(writing) = &operation.purpose else { return };
        let acknowledgements = writing.acknowledgements();
        // Where fewer nodes exist than acknowledgements are wished for, all of them are enough.
        let wished = self.config.write_acknowledgements;
        let needed = if settled { wished.min(exist).max(1) } else { wished };
        let refused =
            writing.refused.iter().next().map(|(by, refusal)| DhtError::Refused { by: *by, refusal: *refusal });
        let result = match error {
            Some(error) => Err(error),
            None if acknowledgements >= needed => {
                let newer = writing.newer.values().filter(|record| record.value.exists).map(Entry::of).collect();
                Ok(StoreReceipt { storage_ms: writing.record.value.storage_ms, acknowledgements, newer })
            }
            None => {
                let beaten = writing.beaten_by_ms.map(|newest_ms| DhtError::Beaten { newest_ms });
                let busy = writing.busy.map(|by| DhtError::Overloaded { by });
                Err(beaten.or(refused).or(busy).unwrap_or(DhtError::Timeout { answered: acknowledgements, needed }))
            }
        };
        let (announced, value) = (writing.announced, &writing.record.value);
        if !writing.overtaken {
            self.on_written(now, value.resource(), value.kind, value.storage_ms, result.is_ok());
        }
        if announced {
            self.emit(Event::Stored { id, result });
        }
    }
}
