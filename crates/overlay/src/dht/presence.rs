//! How a node was there in the last days, over all of its runs: one that is often away uses the overlay and does not serve it (`role`),
//! however long it has been up this time. RFC 6940 leaves it to nodes what they are; that super-nodes should be those that stay was seen by
//! all who measured such overlays.
//!
//! What is known of it is in the store, where there is one: when the node was away, and when it was last there. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::record::cbor::{CborError, Decoder, Encoder};

/// What is looked at: a week, so that a machine that rests at night or at weekends is known as one.
const WINDOW: Duration = Duration::from_secs(7 * 86_400);

/// Nothing is said of a node that is known for less: its first evening is not its habit.
const JUDGED_AFTER: Duration = Duration::from_secs(86_400);

/// A shorter absence is a restart or an update, for which nothing has to be moved twice.
const ABSENCE: Duration = Duration::from_secs(300);

/// Who is there for less than so many parts of a hundred is often away: of five holders of a value, each there for three quarters of
/// the time, two are away at some time of each day, and a write needs three.
const ENOUGH: u64 = 75;

/// Absences remembered, nine a day. When there are more, the first is forgotten, and with it whatever was before its end.
const MAX_ABSENCES: usize = 64;

/// How often it is noted that the node is there: so much of a run is taken for an absence at most when it ends without a word.
pub(super) const NOTED: Duration = Duration::from_secs(120);

/// What is known of a node's runs. All times are of its own clock, in unix milliseconds.
#[derive(Debug)]
pub(super) struct Presence {
    /// Since when anything is known.
    since_ms: u64,
    /// When it was away, from and to, in their order.
    absences: VecDeque<(u64, u64)>,
    /// When it was there last.
    last_ms: u64,
    /// Whether the store has not been told yet, where there is one.
    changed: Option<bool>,
}

impl Presence {
    /// A node of which nothing is known but that it is there now; `persist` says whether there is a store.
    pub(super) fn new(now_ms: u64, persist: bool) -> Self {
        Self { since_ms: now_ms, absences: VecDeque::new(), last_ms: now_ms, changed: persist.then_some(false) }
    }

    /// Whether any of it outlives the process.
    pub(super) fn is_kept(&self) -> bool {
        self.changed.is_some()
    }

    /// The node is there, and was since this was called last.
    pub(super) fn note(&mut self, now_ms: u64) {
        self.last_ms = now_ms;
        self.note_change(now_ms);
    }

    /// The node is there again after so long.
    pub(super) fn note_absence(&mut self, now_ms: u64, away: Duration) {
        let from_ms = now_ms.saturating_sub(millis(away));
        self.last_ms = now_ms;
        if away >= ABSENCE {
            self.absences.push_back((from_ms.max(self.since_ms), now_ms));
        }
        self.note_change(now_ms);
    }

    /// Returns which part of the time it was there, in hundredths, and since when that is known; none before that says anything.
    pub(super) fn share(&self, now_ms: u64) -> Option<(u64, Duration)> {
        let begin_ms = self.since_ms.max(now_ms.saturating_sub(millis(WINDOW)));
        let known_ms = now_ms.saturating_sub(begin_ms);
        if known_ms < millis(JUDGED_AFTER) {
            return None;
        }
        let away = self.absences.iter().map(|(from, to)| to.min(&now_ms).saturating_sub(*from.max(&begin_ms)));
        let away_ms = away.fold(0, u64::saturating_add).min(known_ms);
        Some(((known_ms - away_ms).saturating_mul(100) / known_ms, Duration::from_millis(known_ms)))
    }

    /// Whether it is often away.
    pub(super) fn is_often_away(&self, now_ms: u64) -> bool {
        self.share(now_ms).is_some_and(|(share, _)| share < ENOUGH)
    }

    fn note_change(&mut self, now_ms: u64) {
        let begin_ms = now_ms.saturating_sub(millis(WINDOW));
        while let Some((_, to_ms)) = self.absences.front().copied()
            && (to_ms <= begin_ms || self.absences.len() > MAX_ABSENCES)
        {
            self.absences.pop_front();
            self.since_ms = self.since_ms.max(to_ms);
        }
        if let Some(changed) = &mut self.changed {
            *changed = true;
        }
    }

    /// Returns whether the store has to be told.
    pub(super) fn pop_change(&mut self) -> bool {
        self.changed.as_mut().is_some_and(std::mem::take)
    }

    /// Takes back what an earlier run noted: since then the node was away. False where it is nothing of the kind. A clock that was set
    /// back meanwhile says nothing, and it all begins anew.
    pub(super) fn restore(&mut self, now_ms: u64, key: &[u8], value: &[u8]) -> bool {
        if key != encode_key() {
            return false;
        }
        let Ok(kept) = decode(value) else { return false };
        if kept.last_ms <= now_ms && kept.since_ms <= kept.last_ms {
            let away = Duration::from_millis(now_ms - kept.last_ms);
            *self = Self { changed: self.changed, ..kept };
            self.note_absence(now_ms, away);
        }
        true
    }

    /// Returns what the store keeps of it.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Encoder::new();
        out.array(3).unsigned(self.since_ms).unsigned(self.last_ms).array(self.absences.len());
        for (from_ms, to_ms) in &self.absences {
            out.array(2).unsigned(*from_ms).unsigned(*to_ms);
        }
        out.finish().into()
    }
}

/// Returns its key in the store: shorter than those of values and dates, which have three parts and two.
pub(super) fn encode_key() -> Bytes {
    Encoder::new().array(1).text("presence").finish().into()
}

fn decode(bytes: &[u8]) -> Result<Presence, CborError> {
    let mut input = Decoder::new(bytes);
    input.array_of(3)?;
    let (since_ms, last_ms) = (input.unsigned()?, input.unsigned()?);
    let count = input.array(MAX_ABSENCES)?;
    let mut absences = VecDeque::new();
    for _ in 0..count {
        input.array_of(2)?;
        absences.push_back((input.unsigned()?, input.unsigned()?));
    }
    input.finish()?;
    Ok(Presence { since_ms, absences, last_ms, changed: None })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const BEGIN_MS: u64 = 1_800_000_000_000;
    const HOUR: Duration = Duration::from_secs(3600);

    /// A node with a store, that runs and is away in turn.
    struct Node {
        presence: Presence,
        now_ms: u64,
    }

    impl Node {
        fn new() -> Self {
            Self { presence: Presence::new(BEGIN_MS, true), now_ms: BEGIN_MS }
        }

        fn runs(&mut self, duration: Duration) {
            let end = self.now_ms + millis(duration);
            while self.now_ms < end {
                self.now_ms = end.min(self.now_ms + millis(NOTED));
                self.presence.note(self.now_ms);
            }
        }

        /// It is off, and starts again.
        fn is_off(&mut self, duration: Duration) {
            let kept = self.presence.encode();
            self.now_ms += millis(duration);
            self.presence = Presence::new(self.now_ms, true);
            assert!(self.presence.restore(self.now_ms, &encode_key(), &kept));
        }

        fn is_often_away(&self) -> bool {
            self.presence.is_often_away(self.now_ms)
        }

        fn share(&self) -> Option<u64> {
            self.presence.share(self.now_ms).map(|(share, _)| share)
        }
    }

    #[test]
    fn a_machine_that_is_on_for_half_of_each_day_is_often_away_from_its_second_day_on() {
        let mut node = Node::new();
        node.runs(HOUR * 12);
        assert_eq!(node.share(), None);
        node.is_off(HOUR * 12);
        assert_eq!((node.share(), node.is_often_away()), (Some(50), true));
        for _ in 0..20 {
            node.runs(HOUR * 12);
            node.is_off(HOUR * 12);
            assert!(node.is_often_away());
        }
    }

    #[test]
    fn who_stays_from_then_on_is_no_longer_away_within_the_week() {
        let mut node = Node::new();
        node.runs(HOUR * 12);
        node.is_off(HOUR * 12);
        let mut days = 0;
        while node.is_often_away() {
            node.runs(HOUR * 24);
            days += 1;
        }
        assert_eq!(days, 1);
        node.runs(HOUR * 24 * 7);
        assert_eq!(node.share(), Some(100));
    }

    #[test]
    fn restarts_and_one_evening_without_power_are_no_habit() {
        let mut node = Node::new();
        for _ in 0..40 {
            node.runs(HOUR);
            node.is_off(Duration::from_secs(240));
        }
        assert_eq!(node.share(), Some(100));
        node.is_off(HOUR * 5);
        assert!(!node.is_often_away(), "{:?}", node.share());
    }

    #[test]
    fn what_is_kept_is_bounded_and_short_runs_are_forgotten_first() {
        let mut node = Node::new();
        for _ in 0..1000 {
            node.runs(Duration::from_secs(600));
            node.is_off(Duration::from_secs(600));
        }
        assert!(node.presence.absences.len() <= MAX_ABSENCES && node.presence.encode().len() < 1400);
        assert_eq!((node.share().map(|share| share.abs_diff(50) <= 1), node.is_often_away()), (None, false));
        node.runs(HOUR * 24);
        node.is_off(HOUR * 24);
        assert!(node.is_often_away());
    }

    #[test]
    fn a_clock_that_was_set_back_and_what_is_damaged_begin_anew() {
        let mut node = Node::new();
        node.runs(HOUR * 12);
        node.is_off(HOUR * 24);
        assert!(node.is_often_away());
        let kept = node.presence.encode();
        let mut anew = Presence::new(BEGIN_MS, true);
        assert!(anew.restore(BEGIN_MS, &encode_key(), &kept));
        assert_eq!(anew.share(BEGIN_MS + millis(HOUR)), None);
        assert!(!anew.restore(BEGIN_MS, &encode_key(), &kept[..kept.len() - 1]));
        assert!(!anew.restore(BEGIN_MS, b"another key", &kept));
    }

    #[test]
    fn without_a_store_only_sleep_counts() {
        let mut presence = Presence::new(BEGIN_MS, false);
        presence.note(BEGIN_MS + millis(HOUR * 20));
        assert!(!presence.pop_change() && !presence.is_kept());
        presence.note_absence(BEGIN_MS + millis(HOUR * 40), HOUR * 20);
        assert!(presence.is_often_away(BEGIN_MS + millis(HOUR * 40)));
    }
}
