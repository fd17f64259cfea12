//! What this node keeps stored as its owner: refreshed at half life, and sooner when it was not acknowledged.

use std::time::Duration;

use bytes::Bytes;

use super::operation::Purpose;
use super::{Dht, Now, OperationId, Timer};
use crate::record::value::next_storage_time;
use crate::record::{Kind, RecordError, ResourceId, writer};

/// First pause after a write that too few acknowledged; it doubles up to the half life.
const RETRY: Duration = Duration::from_secs(5);

/// Pause between values that are all to be stored again.
const PACE: Duration = Duration::from_millis(5);

/// It is looked this often whether the first writing of a value, whose end somebody waits for, lets it be stored again.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A value that is kept stored.
#[derive(Debug)]
pub(super) struct Published {
    name: String,
    /// None for a removal, which is kept stored until enough replicas have it.
    content: Option<Bytes>,
    lifetime: Duration,
    storage_ms: u64,
    retries: u32,
}

impl Published {
    /// Returns when the value was written last, in unix milliseconds.
    pub(super) fn storage_ms(&self) -> u64 {
        self.storage_ms
    }
}

impl Dht {
    /// Writes a value and keeps it stored: again at half life, and soon again when too few replicas acknowledged, until
    /// [`remove`](Self::remove). Publishing another content replaces it. Answered by one [`Event::Stored`](super::Event::Stored)
    /// for the first round.
    ///
    /// # Errors
    /// When this node cannot write it, or publishes as much as it may.
    pub fn publish(
        &mut self,
        now: Now,
        kind: Kind,
        name: &str,
        content: Bytes,
        lifetime: Duration,
    ) -> Result<OperationId, RecordError> {
        self.keep(self.corrected(now), kind, name, Some(content), lifetime)
    }

    /// Stores a removal in the place of this node's value, and stops publishing it.
    /// Answered by [`Event::Stored`](super::Event::Stored).
    ///
    /// # Errors
    /// When this node cannot write it.
    pub fn remove(&mut self, now: Now, kind: Kind, name: &str) -> Result<OperationId, RecordError> {
        // The removal has to outlive whatever it removes, and we may not know how long that was to live.
        self.keep(self.corrected(now), kind, name, None, kind.rules().max_lifetime)
    }

    fn keep(
        &mut self,
        now: Now,
        kind: Kind,
        name: &str,
        content: Option<Bytes>,
        lifetime: Duration,
    ) -> Result<OperationId, RecordError> {
        let slot = (ResourceId::of_name(name), kind);
        if !self.published.contains_key(&slot) && self.published.len() >= self.config.max_published {
            return Err(RecordError::Signing("it publishes as many values as it may".to_owned()));
        }
        let record = self.dated(now, kind, name, content.clone(), lifetime)?;
        let storage_ms = record.value.storage_ms;
        let published = Published { name: name.to_owned(), content, lifetime, storage_ms, retries: 0 };
        self.published.insert(slot, published);
        self.timers.set_by(now.instant + lifetime / 2, Timer::Publish { resource: slot.0, kind });
        Ok(self.write(now, record, true))
    }

    /// It is time to store a value again.
    pub(super) fn on_publish_due(&mut self, now: Now, resource: ResourceId, kind: Kind) {
        if self.is_awaited(resource, kind) {
            // The same, dated later, would have it refused where it comes second.
            self.timers.set_by(now.instant + LOOK_EVERY, Timer::Publish { resource, kind });
            return;
        }
        let last = self.last_dated((resource, kind));
        let Some(published) = self.published.get_mut(&(resource, kind)) else { return };
        published.storage_ms = next_storage_time(now.unix_ms, last);
        let (content, lifetime) = (published.content.clone(), published.lifetime);
        let record = writer::write(&*self.writer, kind, &published.name, content, lifetime, published.storage_ms);
        self.timers.set_by(now.instant + lifetime / 2, Timer::Publish { resource, kind });
        // A certificate that expired meanwhile keeps us from writing; the owner hears of it at the next change.
        if let Ok(record) = record {
            self.write(now, record, false);
        }
    }

    /// Whether somebody waits to be told how the writing of a value ends.
    fn is_awaited(&self, resource: ResourceId, kind: Kind) -> bool {
        self.operations.values().any(|operation| match &operation.purpose {
            Purpose::Store(writing) => !operation.reported && writing.is_announced_of(resource, kind),
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair | Purpose::Fetch(_) => false,
        })
    }

    /// Stores everything published again, one after the other: the overlay that was to hold it was another one, or none.
    pub(super) fn publish_all_soon(&mut self, now: Now) {
        let mut at = now.instant;
        let slots: Vec<(ResourceId, Kind)> = self.published.keys().copied().collect();
        for (resource, kind) in slots {
            self.timers.set_by(at, Timer::Publish { resource, kind });
            at += PACE;
        }
    }

    /// A write has ended: a removal that is known needs no keeping, and what is not known is written again soon.
    pub(super) fn on_written(&mut self, now: Now, resource: ResourceId, kind: Kind, storage_ms: u64, written: bool) {
        let Some(published) = self.published.get_mut(&(resource, kind)) else { return };
        published.storage_ms = published.storage_ms.max(storage_ms);
        if !written {
            published.retries += 1;
            let pause =
                RETRY.saturating_mul(1 << published.retries.saturating_sub(1).min(10)).min(published.lifetime / 2);
            self.timers.set_by(now.instant + pause, Timer::Publish { resource, kind });
        } else if published.content.is_none() {
            self.published.remove(&(resource, kind));
        } else {
            published.retries = 0;
        }
    }
}
