//! Evidence: two values of one writer, both rightly signed, of the same moment, that do not say the same.
//!
//! No honest writer dates two values alike. Either its key is used by two machines, or it tells different nodes different things;
//! both records together prove it to anybody, without a word of ours. Where they are met (by a reader, or by a node that holds one
//! and is given the other) they are kept. Which of the two counts is no question: all nodes choose alike (`supersedes`).

use std::collections::VecDeque;

use super::{Dht, Event, Now};
use crate::record::StoredValue;
use crate::record::value::Record;

/// Contradictions kept, each with two records of some kilobytes. Of more the newest tell as much as all.
const MAX_KEPT: usize = 16;

/// Two records that contradict each other, both verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// When it was found, in unix milliseconds.
    pub found_ms: u64,
    /// The one met first.
    pub first: Record,
    /// The one met second.
    pub second: Record,
}

/// What was found since the start.
#[derive(Debug, Default)]
pub(super) struct Kept {
    contradictions: VecDeque<Evidence>,
}

impl Evidence {
    /// Says whether this is about the same two statements, in whatever order.
    fn is_same(&self, first: &StoredValue, second: &StoredValue) -> bool {
        let both = |a: &StoredValue, b: &StoredValue| *a == self.first.value && *b == self.second.value;
        both(first, second) || both(second, first)
    }
}

/// Says whether two values that were verified cannot both be honest: one writer, one place, one moment, and not the same said. That a
/// value was signed twice is none; signatures of the same differ.
pub(super) fn contradict(first: &StoredValue, second: &StoredValue) -> bool {
    let place = |value: &StoredValue| (value.signer, value.kind, value.storage_ms);
    place(first) == place(second) && first.key == second.key && first.name == second.name && {
        let said = |value: &StoredValue| (value.exists, value.lifetime_s, value.content.clone());
        said(first) != said(second)
    }
}

impl Dht {
    /// Returns the contradictions found since the start, the newest last; of many the last 16.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.evidence.contradictions.iter()
    }

    /// Keeps two verified records, if they contradict each other.
    pub(super) fn note_contradiction(&mut self, now: Now, first: &Record, second: &Record) {
        if !contradict(&first.value, &second.value) {
            return;
        }
        let kept = &mut self.evidence.contradictions;
        if kept.iter().any(|evidence| evidence.is_same(&first.value, &second.value)) {
            return;
        }
        if kept.len() >= MAX_KEPT {
            kept.pop_front();
        }
        let evidence = Evidence { found_ms: now.unix_ms, first: first.clone(), second: second.clone() };
        kept.push_back(evidence.clone());
        self.emit(Event::Contradiction { evidence: Box::new(evidence) });
    }
}
