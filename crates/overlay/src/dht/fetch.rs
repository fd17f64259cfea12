//! Reading: asking replicas, verifying what they say, merging by newest.

use std::collections::{BTreeMap, BTreeSet};

use meshtone_identity::NodeId;

use super::absence::Absence;
use super::body::{Ask, Handed};
use super::config::MAX_VALUES_READ;
use super::listen::Place;
use super::operation::{Operation, Purpose, State};
use super::{Dht, DhtError, Entry, Event, Fetched, Now, OperationId};
use crate::record::value::Record;
use crate::record::{Kind, RecordError, ResourceId};

/// What a read has found so far.
#[derive(Debug)]
pub(super) struct Reading {
    resource: ResourceId,
    kind: Kind,
    /// The first verified value ends it.
    first: bool,
    /// Twice as many as the replicas are asked, and all of them heard: while the halves of a network meet, those that are closest to
    /// the place by now may not have yet what those of one half hold.
    wide: bool,
    /// Newest verified value of each key, removals included.
    newest: BTreeMap<Vec<u8>, Record>,
    /// Storage times that each replica answered, to mend those that lag behind.
    answers: BTreeMap<NodeId, BTreeMap<Vec<u8>, u64>>,
    /// That there was nothing was confirmed shortly before this read began.
    absent: Option<Absence>,
    /// It is for listening: nobody waits for it.
    listens: bool,
}

impl Reading {
    pub(super) fn ask(&self) -> Ask {
        Ask::Fetch { resource: self.resource, kind: self.kind }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    pub(super) fn ends_with_first(&self) -> bool {
        self.first
    }

    /// Returns the newest value of each key, removals included.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.newest.values()
    }

    /// Says whether what these replicas say needs no check as long as they say that there is nothing: it was confirmed a moment ago, or
    /// is asked for again and again.
    pub(super) fn was_absent(&self, operation: &Operation) -> bool {
        self.newest.is_empty() && (self.listens || self.absent.as_ref().is_some_and(|absence| absence.is_of(operation)))
    }

    /// Takes a verified value, if it is newer than what was found.
    fn merge(&mut self, record: Record) {
        let value = &record.value;
        if self.newest.get(&value.key).is_none_or(|newest| value.supersedes(&newest.value)) {
            self.newest.insert(value.key.clone(), record);
        }
    }

    fn found(&self) -> bool {
        self.newest.values().any(|record| record.value.exists)
    }
}

impl Dht {
    /// Reads all values of the kind at this name: asks several replicas and merges by newest.
    /// Answered by [`Event::Fetched`].
    pub fn fetch(&mut self, now: Now, kind: Kind, name: &str) -> OperationId {
        self.read(now, kind, name, false, false)
    }

    /// As [`fetch`](Self::fetch), but asks node after node from our own links on, and trusts no one's path.
    pub fn fetch_iteratively(&mut self, now: Now, kind: Kind, name: &str) -> OperationId {
        self.read(now, kind, name, false, true)
    }

    /// As [`fetch`](Self::fetch), but ends with the first verified value.
    pub fn fetch_first(&mut self, now: Now, kind: Kind, name: &str) -> OperationId {
        self.read(now, kind, name, true, false)
    }

    fn read(&mut self, now: Now, kind: Kind, name: &str, first: bool, iterative: bool) -> OperationId {
        let now = self.corrected(now);
        let resource = ResourceId::of_name(name);
        let absent = self.absences.get(now.instant, resource, kind);
        let (newest, answers, listens) = (BTreeMap::new(), BTreeMap::new(), false);
        let wide = self.churn.is_meeting(now.instant);
        let reading = Reading { resource, kind, first, wide, newest, answers, absent, listens };
        self.start(now, resource.into(), self.readers_reach(wide), Purpose::Fetch(reading), iterative)
    }

    /// Reads for [listening](super::listen).
    pub(super) fn read_to_listen(&mut self, now: Now, (resource, kind): Place) {
        let (newest, answers, absent) = (BTreeMap::new(), BTreeMap::new(), None);
        let wide = self.churn.is_meeting(now.instant);
        let reading = Reading { resource, kind, first: false, wide, newest, answers, absent, listens: true };
        self.start(now, resource.into(), self.readers_reach(wide), Purpose::Fetch(reading), false);
    }

    /// Returns how many of the closest nodes a read is about.
    fn readers_reach(&self, wide: bool) -> usize {
        if wide { 2 * self.config.replicas } else { self.config.replicas }
    }

    /// Enough was read: a value where the first one is enough, else something from as many replicas as a write overlaps with; and
    /// nothing only when every replica and every path said so.
    pub(super) fn reading_finished(&self, id: OperationId, operation: &Operation, reading: &Reading) -> bool {
        if reading.first && reading.found() {
            return true;
        }
        if !reading.newest.is_empty() && !reading.wide && self.replicas_answered(operation) {
            return true;
        }
        operation.settled()
            && operation.closest().next().is_some()
            && !self.reading_wants_path(operation, reading)
            && !(reading.newest.is_empty() && (self.may_doubt(operation) || self.may_still_come(id)))
    }

    /// Says whether as many replicas have answered as a write overlaps with. On an iterative read's way to the place the closest
    /// nodes known may be none, until the very closest of them have answered.
    fn replicas_answered(&self, operation: &Operation) -> bool {
        let mut closest = operation.closest().take(self.config.read_replicas);
        self.answered(operation) >= self.config.read_replicas
            && (!operation.iterative || closest.all(|candidate| candidate.state == State::Answered))
    }

    pub(super) fn reading_parallel(&self, operation: &Operation, reading: &Reading) -> usize {
        let answered = self.answered(operation);
        if reading.first && reading.newest.is_empty() && operation.paths_answered == 0 {
            return operation.hedged();
        }
        if reading.wide && !reading.first || reading.newest.is_empty() && answered >= self.config.read_replicas {
            return operation.count;
        }
        self.config.read_replicas.saturating_sub(answered).max(1)
    }

    /// Nothing found where it should be, or by fewer than there should be: other ways are tried, for whoever answered may have lied
    /// or not known.
    pub(super) fn reading_wants_path(&self, operation: &Operation, reading: &Reading) -> bool {
        let unanswered = operation.paths_answered == 0 && operation.paths_waiting == 0;
        let absent = reading.newest.is_empty()
            && self.answered(operation) >= self.config.read_replicas
            && !reading.was_absent(operation);
        // Whoever answered may be out of touch himself, with what he held when he was cut off, and know nobody to ask besides.
        let short = !reading.first
            && !operation.iterative
            && operation.settled()
            && self.answered(operation) < self.config.read_replicas;
        let links = self.table.links().keys();
        // Whoever answered by name needs not be asked as a path.
        let another = links.copied().any(|node| {
            let candidate = operation.shortlist.get(&operation.place.distance(node.into()));
            let asked = candidate.is_some_and(|candidate| matches!(candidate.state, State::Answered | State::Failed));
            !asked && !operation.paths.contains(&node)
        });
        another
            && operation.paths.len() < self.config.paths
            && (unanswered && !operation.iterative && !operation.settled() || absent || short)
    }

    /// Takes what a replica holds. False when it is a lie: what does not verify, or is something else, was not asked for.
    pub(super) fn take_values(&mut self, now: Now, reading: &mut Reading, node: NodeId, records: Vec<Record>) -> bool {
        let mut times = BTreeMap::new();
        for record in records.into_iter().take(MAX_VALUES_READ) {
            let value = &record.value;
            if value.kind != reading.kind {
                return false;
            }
            match self.validator.validate(now.unix_ms, reading.resource, value, &record.certificates) {
                Ok(()) => {}
                // Clocks differ a little, and so does what nodes have heard of a writer: not a lie, and no value either.
                Err(RecordError::Expired | RecordError::Revoked) => continue,
                Err(_) => return false,
            }
            self.absences.forget(reading.resource, reading.kind);
            times.insert(value.key.clone(), value.storage_ms);
            if let Some(newest) = reading.newest.get(&value.key) {
                self.note_contradiction(now, newest, &record);
            }
            reading.merge(record);
        }
        reading.answers.insert(node, times);
        true
    }

    pub(super) fn report_read(
        &mut self,
        now: Now,
        id: OperationId,
        operation: &mut Operation,
        error: Option<DhtError>,
    ) {
        let replicas = self.answered(operation);
        self.merge_held(now, operation);
        let Purpose::Fetch(reading) = &operation.purpose else { return };
        let entries = reading.newest.values().filter(|record| record.value.exists).map(Entry::of);
        let fetched =
            Fetched { entries: entries.collect(), replicas, requests: operation.requests, hops: operation.hops };
        let nothing = reading.newest.is_empty();
        if nothing && error.is_none() && operation.doubted {
            let replicas = operation.closest().map(|candidate| candidate.descriptor.node).collect();
            self.absences.confirm(now.instant, reading.resource, reading.kind, replicas);
        }
        let result = match error {
            // What is held here counts in spite of the others' silence.
            Some(DhtError::Timeout { .. }) if !nothing => Ok(fetched),
            Some(error) => Err(error),
            None if replicas == 0 && nothing => Err(DhtError::Timeout { answered: 0, needed: 1 }),
            None => Ok(fetched),
        };
        let place = reading.listens.then_some((reading.resource, reading.kind));
        self.mend_replicas(now, operation);
        match place {
            Some(place) => self.on_listened(now, place, operation, result.is_err()),
            None => self.emit(Event::Fetched { id, result }),
        }
    }

    /// Why a read whose time is over shall not end with "nothing": somebody who may know more has not answered yet, or it would have
    /// ended before.
    pub(super) fn silence(&self, operation: &Operation) -> Option<DhtError> {
        let Purpose::Fetch(reading) = &operation.purpose else { return None };
        let silence = DhtError::Timeout { answered: self.answered(operation), needed: self.config.read_replicas };
        reading.is_empty().then_some(silence)
    }

    /// What this node holds itself counts, though it may not be among the closest: after a partition those closest may still be
    /// without what was written on this side of it, and a writer would read what it wrote before.
    fn merge_held(&mut self, now: Now, operation: &mut Operation) {
        let Purpose::Fetch(reading) = &mut operation.purpose else { return };
        self.storage.expire(now.instant);
        for record in self.storage.values(reading.resource, reading.kind) {
            reading.merge(record);
        }
    }

    /// Gives the newest values to those of the closest that answered without them.
    fn mend_replicas(&mut self, now: Now, operation: &Operation) {
        let Purpose::Fetch(reading) = &operation.purpose else { return };
        let closest = operation.closest().take(self.config.replicas);
        let closest: BTreeSet<NodeId> = closest.map(|candidate| candidate.descriptor.node).collect();
        for (node, times) in &reading.answers {
            if !closest.contains(node) || *node == self.me.node {
                continue;
            }
            let lagging = reading
                .newest
                .iter()
                .filter(|(key, record)| times.get(*key).is_none_or(|time| *time < record.value.storage_ms));
            let handed: Vec<Handed> = lagging
                .map(|(_, record)| {
                    let remaining = record.value.remaining(now.unix_ms).as_secs();
                    Handed { remaining_s: u32::try_from(remaining).unwrap_or(u32::MAX).max(1), record: record.clone() }
                })
                .collect();
            self.hand_values(now, *node, handed);
        }
    }

    /// Returns how many of the closest candidates have answered.
    fn answered(&self, operation: &Operation) -> usize {
        operation.closest().filter(|candidate| candidate.state == State::Answered).count()
    }
}
