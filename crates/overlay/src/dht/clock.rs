//! How far this node's clock is off, as its neighbours see it.
//!
//! Every neighbour is asked for its time when the link comes up and now and then afterwards; its answer is taken for what its clock
//! showed half a round trip ago. The median of all that, with this node's own word among them, corrects the time of day that comes
//! in, so that storage times and validity are judged by what most of the neighbourhood takes for now. Neighbours are told the
//! *uncorrected* time: corrections never feed on corrections.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::body::Ask;
use super::operation::PendingPurpose;
use super::{Dht, Event, Now};

/// Neighbours are asked again after this: a quartz drifts by less than a tenth of a second meanwhile, and who sets his clock wants
/// to see the warning go.
const PERIOD: Duration = Duration::from_secs(600);

/// Offsets below this correct nothing: clocks that are set agree better, measurements over slow links do not.
const MIN_CORRECTION_MS: u64 = 1000;

/// Clocks are corrected by this much at most. Certificates are judged by the corrected time, too, so that whoever owns most of our
/// links must not be able to bring back those that ended long ago.
pub(super) const MAX_CORRECTION_MS: u64 = 3_600_000;

/// Neighbours that must have told their time before more than [`MAX_CORRECTION_BY_FEW_MS`] is believed: of three it takes all to move
/// the median away from this node's own clock, of two as well, and two liars are soon met.
const MANY: usize = 3;

/// Fewer neighbours correct a clock by this much at most: as far ahead as storing nodes put up with a date, so that two liars
/// gain nothing over dating their own records wrongly.
const MAX_CORRECTION_BY_FEW_MS: u64 = 300_000;

/// Offsets above this are the operator's business: others that do not correct their clock are about to refuse what this node writes.
const WARN_ABOVE_MS: u64 = 30_000;

/// What is known of the neighbours' clocks.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// When each neighbour was asked last, and by how much its clock is ahead of ours, if it has said so. One for each link.
    neighbours: BTreeMap<NodeId, (Instant, Option<i64>)>,
    correction_ms: i64,
    warned: bool,
}

impl Clock {
    /// Returns what is added to the own clock, in milliseconds.
    pub(super) fn correction_ms(&self) -> i64 {
        self.correction_ms
    }

    /// Returns by how much the neighbours' clocks are ahead of ours. Of an even number of words the middle one nearer to none at
    /// all counts, so that one neighbour alone moves nothing.
    fn median_ms(&self) -> i64 {
        let mut offsets: Vec<i64> = self.neighbours.values().filter_map(|(_, offset)| *offset).collect();
        offsets.push(0);
        offsets.sort_unstable();
        let upper = offsets.get(offsets.len() / 2).copied().unwrap_or_default();
        let lower = offsets.get((offsets.len() - 1) / 2).copied().unwrap_or_default();
        if lower.unsigned_abs() < upper.unsigned_abs() { lower } else { upper }
    }

    /// Says how far the clock is off, when that is to be said: once when it is too far, once when it no longer is.
    fn news(&mut self, median_ms: i64) -> Option<Event> {
        let off = median_ms.unsigned_abs() > WARN_ABOVE_MS;
        if off == std::mem::replace(&mut self.warned, off) {
            return None;
        }
        Some(Event::ClockOff { behind_ms: if off { median_ms } else { 0 } })
    }

    fn correct(&mut self, median_ms: i64) {
        let told = self.neighbours.values().filter(|(_, offset)| offset.is_some()).count();
        // What more of them have said before, fewer may go on saying: links come and go.
        let by_few = MAX_CORRECTION_BY_FEW_MS.max(self.correction_ms.unsigned_abs());
        let max = if told < MANY { by_few } else { MAX_CORRECTION_MS };
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let wished = if median_ms.unsigned_abs() < MIN_CORRECTION_MS { 0 } else { median_ms.clamp(-max, max) };
        // It does not follow every measurement, or time would go back by a little again and again.
        if wished.abs_diff(self.correction_ms) >= MIN_CORRECTION_MS || wished == 0 {
            self.correction_ms = wished;
        }
    }
}

impl Dht {
    /// Returns by how many milliseconds this node's clock is behind those of most neighbours; negative when it is ahead.
    pub fn clock_behind_ms(&self) -> i64 {
        self.clock.median_ms()
    }

    /// Returns the clocks that the machine goes by.
    pub(super) fn corrected(&self, now: Now) -> Now {
        Now { unix_ms: now.unix_ms.saturating_add_signed(self.clock.correction_ms), ..now }
    }

    /// Returns the time of day that our own clock shows.
    pub(super) fn uncorrected_ms(&self, now: Now) -> u64 {
        now.unix_ms.saturating_add_signed(self.clock.correction_ms.saturating_neg())
    }

    /// Asks neighbours for their time that have not been asked lately.
    pub(super) fn ask_clocks(&mut self, now: Now) {
        let due = |node: &NodeId| {
            let asked = self.clock.neighbours.get(node);
            asked.is_none_or(|(at, _)| now.instant.saturating_duration_since(*at) >= PERIOD)
        };
        for node in self.table.links().keys().filter(|node| due(node)).copied().collect::<Vec<_>>() {
            self.ask_clock(now, node);
        }
    }

    /// Asks a neighbour for its time.
    pub(super) fn ask_clock(&mut self, now: Now, node: NodeId) {
        let known = self.clock.neighbours.get(&node).and_then(|(_, offset)| *offset);
        self.clock.neighbours.insert(node, (now.instant, known));
        let number = self.new_pending(now, PendingPurpose::Clock(node));
        if !self.send_request(now, number, node.into(), true, Ask::Clock.encode(), Some(node)) {
            self.pending.remove(&number);
        }
    }

    /// A neighbour has told its time, `took` after it was asked.
    pub(super) fn on_clock_told(&mut self, now: Now, node: NodeId, unix_ms: u64, took: Duration) {
        let own_ms = self.uncorrected_ms(now);
        let Some((_, offset)) = self.clock.neighbours.get_mut(&node) else { return };
        let way_back_ms = u64::try_from(took.as_millis() / 2).unwrap_or_default();
        // What does not fit is a lie as good as any other that is far off.
        let ahead = i128::from(unix_ms) + i128::from(way_back_ms) - i128::from(own_ms);
        *offset = Some(i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX }));
        self.judge_clock();
    }

    /// A link is gone, and what it told of its clock.
    pub(super) fn forget_clock(&mut self, node: NodeId) {
        if self.clock.neighbours.remove(&node).is_some() {
            self.judge_clock();
        }
    }

    fn judge_clock(&mut self) {
        let median_ms = self.clock.median_ms();
        self.clock.correct(median_ms);
        if let Some(event) = self.clock.news(median_ms) {
            self.emit(event);
        }
    }
}
