//! What was written and read in a run, and the checker that judges it. Knows neither the simulator nor the DHT, so that runs over
//! real links are judged by the same rules.
//!
//! The model: an entry is what one writer holds at one name; its writes are numbered in the order in which the writer began them.
//!
//! - A read is never *older* than a write that was acknowledged within its component of the network before it began.
//! - A read shows nothing that its writer did not write there, and nothing that the writer had not yet begun to write.
//! - In the end, when the network is whole and has settled, everybody reads the last acknowledged write, or one begun after it.
//!
//! A write whose acknowledgement never came may take effect at any later time, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Names what one writer holds at one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The name, by its number.
    pub record: usize,
    /// The node that writes.
    pub writer: usize,
}

/// Number of a write or read in its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(usize);

#[derive(Debug)]
struct Write {
    entry: Entry,
    /// 1 for the first write of the entry.
    sequence: u64,
    exists: bool,
    began: Duration,
    acknowledged: Option<Duration>,
}

#[derive(Debug)]
struct Read {
    node: usize,
    record: usize,
    began: Duration,
    ended: Duration,
    /// What was shown of each writer.
    found: BTreeMap<usize, u64>,
}

/// What is wrong with a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When the read began that shows it.
    pub at: Duration,
    /// The node that read.
    pub node: usize,
    /// What was read.
    pub entry: Entry,
    /// The write that was shown; none when there was nothing.
    pub shown: Option<u64>,
    /// What should have been.
    pub rule: Rule,
}

/// The rule that a history breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// This write, or one after it, should have been shown: it was acknowledged before the read began.
    NotOlderThan {
        /// Its number.
        sequence: u64,
    },
    /// No such write had begun when the read ended.
    NeverWritten,
}

/// A component of the network: how it was cut, and since when.
#[derive(Debug, Clone)]
struct Cut {
    since: Duration,
    /// The side that each node is on; nodes not named are on side 0.
    sides: BTreeMap<usize, usize>,
    /// Nodes whose side was no whole one when it was cut: others may turn up there.
    meeting: BTreeSet<usize>,
}

/// Everything that happened, in the order in which it began.
#[derive(Debug)]
pub struct History {
    /// After a partition has ended, what one side knows reaches the other within this.
    settling: Duration,
    writes: Vec<Write>,
    last: BTreeMap<Entry, u64>,
    reads: Vec<Read>,
    reading: BTreeMap<CallId, (usize, usize, Duration)>,
    calls: usize,
    writing: BTreeMap<CallId, usize>,
    cuts: Vec<Cut>,
    /// When a node became part of the network.
    joined: BTreeMap<usize, Duration>,
}

impl History {
    /// Begins a history. `settling` is how long the network may take after a partition has ended until it counts as one.
    pub fn new(settling: Duration) -> Self {
        let whole = Cut { since: Duration::ZERO, sides: BTreeMap::new(), meeting: BTreeSet::new() };
        Self {
            settling,
            writes: Vec::new(),
            last: BTreeMap::new(),
            reads: Vec::new(),
            reading: BTreeMap::new(),
            calls: 0,
            writing: BTreeMap::new(),
            cuts: vec![whole],
            joined: BTreeMap::new(),
        }
    }

    /// The network is cut into these sides from now on; nodes not named are on side 0, so an empty map makes it whole. `meeting`
    /// are nodes that others may yet reach, which were apart when this cut began or shortly before: they owe nothing until they have
    /// settled.
    pub fn cut(&mut self, now: Duration, sides: BTreeMap<usize, usize>, meeting: BTreeSet<usize>) {
        self.cuts.push(Cut { since: now, sides, meeting });
    }

    /// A node counts as part of the network from now on. Those never mentioned were part of it from the beginning.
    pub fn joined(&mut self, now: Duration, node: usize) {
        self.joined.insert(node, now);
    }

    /// A node begins a write, or a removal. Returns its number within the entry as well.
    pub fn write_began(&mut self, now: Duration, entry: Entry, exists: bool) -> (CallId, u64) {
        let last = self.last.entry(entry).or_default();
        *last += 1;
        let sequence = *last;
        let id = self.next_call();
        self.writing.insert(id, self.writes.len());
        self.writes.push(Write { entry, sequence, exists, began: now, acknowledged: None });
        (id, sequence)
    }

    /// A write has been acknowledged.
    pub fn write_acknowledged(&mut self, now: Duration, id: CallId) {
        if let Some(write) = self.writing.remove(&id).and_then(|index| self.writes.get_mut(index)) {
            write.acknowledged = Some(now);
        }
    }

    /// A node begins to read a name.
    pub fn read_began(&mut self, now: Duration, node: usize, record: usize) -> CallId {
        let id = self.next_call();
        self.reading.insert(id, (node, record, now));
        id
    }

    /// A read has ended; `found` has the number of the write shown, by writer. A read that failed is not told: it showed nothing.
    pub fn read_ended(&mut self, now: Duration, id: CallId, found: BTreeMap<usize, u64>) {
        if let Some((node, record, began)) = self.reading.remove(&id) {
            self.reads.push(Read { node, record, began, ended: now, found });
        }
    }

    /// Returns how many writes were acknowledged and how many reads ended: a history without any proves nothing.
    pub fn size(&self) -> (usize, usize) {
        (self.writes.iter().filter(|write| write.acknowledged.is_some()).count(), self.reads.len())
    }

    /// Judges the history.
    pub fn violations(&self) -> Vec<Violation> {
        self.reads.iter().flat_map(|read| self.judge(read)).collect()
    }

    fn judge(&self, read: &Read) -> Vec<Violation> {
        let written = self.writes.iter().filter(|write| write.entry.record == read.record);
        let mut writers: BTreeSet<usize> = written.map(|write| write.entry.writer).collect();
        writers.extend(read.found.keys());
        let entries = writers.into_iter().map(|writer| Entry { record: read.record, writer });
        entries.filter_map(|entry| self.judge_entry(read, entry)).collect()
    }

    fn judge_entry(&self, read: &Read, entry: Entry) -> Option<Violation> {
        let shown = read.found.get(&entry.writer).copied();
        let violation = |rule| Some(Violation { at: read.began, node: read.node, entry, shown, rule });
        let of_entry = || self.writes.iter().filter(move |write| write.entry == entry);
        let begun = |sequence: u64, exists: bool| {
            of_entry().any(|write| write.sequence == sequence && write.exists == exists && write.began <= read.ended)
        };
        if let Some(sequence) = shown
            && !begun(sequence, true)
        {
            return violation(Rule::NeverWritten);
        }
        let binding = of_entry().filter(|write| self.binds(write, read)).map(|write| write.sequence).max()?;
        let new_enough = match shown {
            Some(sequence) => sequence >= binding,
            // Nothing is right where a removal may be what took effect last.
            None => of_entry().any(|write| write.sequence >= binding && !write.exists && write.began <= read.ended),
        };
        if new_enough { None } else { violation(Rule::NotOlderThan { sequence: binding }) }
    }

    /// Says whether a read has to know of a write.
    fn binds(&self, write: &Write, read: &Read) -> bool {
        let Some(acknowledged) = write.acknowledged else { return false };
        let part_of_it = |node: usize, at: Duration| self.joined.get(&node).is_none_or(|joined| at >= *joined);
        if acknowledged > read.began
            || !part_of_it(write.entry.writer, write.began)
            || !part_of_it(read.node, read.began)
        {
            return false;
        }
        let Some(cut) = self.cuts.iter().rfind(|cut| cut.since <= read.ended) else { return false };
        let settled = cut.since == Duration::ZERO || read.began >= cut.since + self.settling;
        // Sides that have just met, or are about to, are none.
        if (cut.sides.is_empty() || cut.meeting.contains(&read.node)) && !settled {
            return false;
        }
        // Within one side, for as long as that stands.
        let side = |node: usize| cut.sides.get(&node).copied().unwrap_or_default();
        cut.sides.is_empty() || write.began >= cut.since && side(write.entry.writer) == side(read.node)
    }

    fn next_call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, node, entry, shown, rule } = self;
        write!(f, "at {at:.3?} node {node} read name {} of writer {}: ", entry.record, entry.writer)?;
        match shown {
            Some(sequence) => write!(f, "write {sequence}")?,
            None => write!(f, "nothing")?,
        }
        match rule {
            Rule::NotOlderThan { sequence } => write!(f, ", though write {sequence} was acknowledged before"),
            Rule::NeverWritten => write!(f, ", which was never written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry { record: 0, writer: 1 };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A history in which write 1 was acknowledged at 2 s, and whatever else the test makes of it.
    fn written() -> History {
        let mut history = History::new(at(60));
        let (id, _) = history.write_began(at(1), ENTRY, true);
        history.write_acknowledged(at(2), id);
        history
    }

    fn read(history: &mut History, began: u64, node: usize, shown: Option<u64>) {
        let id = history.read_began(at(began), node, ENTRY.record);
        history.read_ended(at(began + 1), id, shown.map(|sequence| (ENTRY.writer, sequence)).into_iter().collect());
    }

    fn rules(history: &History) -> Vec<Rule> {
        history.violations().into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn a_read_that_misses_an_acknowledged_write_is_found_out() {
        let mut history = written();
        read(&mut history, 3, 7, None);
        read(&mut history, 3, 7, Some(1));
        assert_eq!(rules(&history), [Rule::NotOlderThan { sequence: 1 }]);
    }

    #[test]
    fn a_read_that_shows_an_older_write_is_found_out() {
        let mut history = written();
        let (id, _) = history.write_began(at(3), ENTRY, true);
        history.write_acknowledged(at(4), id);
        read(&mut history, 5, 7, Some(1));
        assert_eq!(rules(&history), [Rule::NotOlderThan { sequence: 2 }]);
    }

    #[test]
    fn a_read_may_or_may_not_know_of_a_write_under_way() {
        let mut history = written();
        history.write_began(at(3), ENTRY, true);
        read(&mut history, 4, 7, Some(1));
        read(&mut history, 4, 7, Some(2));
        assert_eq!(rules(&history), []);
    }

    #[test]
    fn a_withdrawn_write_that_is_shown_is_found_out() {
        let mut history = written();
        let (id, _) = history.write_began(at(3), ENTRY, false);
        read(&mut history, 3, 7, Some(1));
        read(&mut history, 3, 7, None);
        history.write_acknowledged(at(4), id);
        read(&mut history, 5, 7, Some(1));
        read(&mut history, 5, 7, None);
        assert_eq!(rules(&history), [Rule::NotOlderThan { sequence: 2 }]);
    }

    #[test]
    fn what_nobody_wrote_is_found_out() {
        let mut history = written();
        read(&mut history, 3, 7, Some(2));
        history.write_began(at(5), ENTRY, true);
        assert_eq!(rules(&history), [Rule::NeverWritten]);
    }

    #[test]
    fn sides_owe_each_other_nothing_until_they_have_settled() {
        let mut history = written();
        history.cut(at(10), BTreeMap::from([(1, 1), (7, 2), (8, 1)]), BTreeSet::new());
        let (id, _) = history.write_began(at(11), ENTRY, true);
        history.write_acknowledged(at(12), id);
        read(&mut history, 13, 7, None);
        read(&mut history, 13, 8, Some(2));
        assert_eq!(rules(&history), []);
        read(&mut history, 13, 8, Some(1));
        assert_eq!(rules(&history), [Rule::NotOlderThan { sequence: 2 }]);
        history.cut(at(20), BTreeMap::new(), BTreeSet::new());
        read(&mut history, 30, 7, Some(1));
        assert_eq!(rules(&history).len(), 1);
        read(&mut history, 90, 7, Some(1));
        assert_eq!(rules(&history).len(), 2);
    }

    #[test]
    fn a_side_on_which_others_may_turn_up_owes_nothing_until_it_has_settled() {
        let mut history = History::new(at(60));
        history.cut(at(10), BTreeMap::from([(1, 1), (7, 1), (8, 2)]), BTreeSet::from([1, 7]));
        let (id, _) = history.write_began(at(11), ENTRY, true);
        history.write_acknowledged(at(12), id);
        read(&mut history, 13, 7, None);
        assert_eq!(rules(&history), []);
        read(&mut history, 70, 7, None);
        assert_eq!(rules(&history).len(), 1);
    }

    #[test]
    fn a_newcomer_owes_nothing_before_it_is_part_of_the_network() {
        let mut history = written();
        history.joined(at(10), 7);
        read(&mut history, 9, 7, None);
        assert_eq!(rules(&history), []);
        read(&mut history, 10, 7, None);
        assert_eq!(rules(&history).len(), 1);
    }
}
