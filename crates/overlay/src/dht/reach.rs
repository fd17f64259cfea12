//! Whether others reach this node: tested by those who have no link to it.
//!
//! That a neighbour is heard says nothing, since the link to it is what opened the way through a NAT. So a node asks a few neighbours,
//! chosen at random, to have it dialled; each asks one of its own neighbours, which dials without making a link, if it neither has a
//! link to that node nor had one lately. Several words of different nodes make a result, so that one liar makes none.
//!
//! Nobody is made to dial whom he pleases for others: who is tested is dialled where the neighbour asked sees its packets come from,
//! only a neighbour that serves can ask for a dial, each only so often, and of all there is one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_identity::NodeId;

use super::message::{DialBack, Message};
use super::{Descriptor, Dht, Event, Now, Timer};
use crate::bucket::{Bucket, Rate};

/// Neighbours that are asked for one test: two of five may be silent, of an earlier release or without anybody to ask.
const ASKED: usize = 5;

/// Words that make a result, and more than half of them have to agree: one liar never decides.
const MIN_REPORTS: usize = 3;

/// How long a test takes at most: three dials, one after the other, and what is said before and after.
const TEST_TIME: Duration = Duration::from_secs(20);

/// The first test comes when a node has found its neighbours.
const FIRST_TEST: Duration = Duration::from_secs(120);

/// How often it is tested while something may come of it: two results within the shortest probation.
const TEST_PERIOD: Duration = Duration::from_secs(270);

/// How often when the last results agree: five dials of others in twenty minutes.
const SETTLED_TEST_PERIOD: Duration = Duration::from_secs(1200);

/// Nodes that a neighbour asks to dial, one after the other: most have no link to the node in question.
const MAX_TRIES: usize = 3;

/// How long one of them has for it: [`DIAL_BACK_TIMEOUT`], and the way there and back.
const TRY_TIME: Duration = Duration::from_secs(5);

/// How long a dial for others may take: a QUIC handshake, with its first two retransmissions.
pub const DIAL_BACK_TIMEOUT: Duration = Duration::from_secs(3);

/// Tests that a node has others carry out at once: it may have 128 links, each of which is tested every five minutes at most.
const MAX_ERRANDS: usize = 16;

/// How often one neighbour may be tested: twice as often as one that does as it should.
const TESTS: Rate = (3, Duration::from_secs(120));

/// How often one neighbour may ask for dials. Where everybody is tested by five others every five minutes, each dials once in a minute.
const DIALS_OF_ONE: Rate = (4, Duration::from_secs(30));

/// How often this node dials for others in all: a handshake in five seconds is nothing, and where one node in twelve serves, those do
/// it for all the others.
const DIALS_OF_ALL: Rate = (8, Duration::from_secs(5));

/// What this node has to do with tests.
#[derive(Debug, Default)]
pub(super) struct Reach {
    test: Option<Test>,
    last: Option<Tested>,
    /// Tests that neighbours asked for, by who is tested.
    errands: BTreeMap<NodeId, Errand>,
    dial: Option<Dial>,
    dials: Bucket,
}

/// What neighbours may still ask for.
#[derive(Debug, Default)]
pub(super) struct Favours {
    tests: Bucket,
    dials: Bucket,
}

/// A test of this node.
#[derive(Debug)]
struct Test {
    number: u64,
    asked: BTreeSet<NodeId>,
    /// Who was heard, what each says who dialled, and whether it got through.
    reports: BTreeMap<NodeId, (NodeId, bool)>,
    /// Where those dialled that got through.
    address: Bytes,
}

/// What the last test of this node brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// When it ended.
    pub at: Instant,
    /// Nodes that dialled this one.
    pub dialled: usize,
    /// How many of them got through.
    pub reached: usize,
    /// Where this node was dialled, as neighbours see it; empty when nobody got through.
    pub address: Bytes,
}

/// A test of a neighbour that this node has carried out.
#[derive(Debug)]
struct Errand {
    /// The neighbour's number of the test, and that under which it is dialled.
    test: u64,
    number: u64,
    dialler: NodeId,
    tried: BTreeSet<NodeId>,
}

/// A dial of this node for others.
#[derive(Debug)]
struct Dial {
    peer: NodeId,
    asker: NodeId,
    number: u64,
    until: Instant,
}

impl Dht {
    /// Returns what the last test brought of whether others reach this node.
    pub fn last_test(&self) -> Option<&Tested> {
        self.reach.last.as_ref()
    }

    /// Takes note of how a dial for others has ended ([`Event::DialBack`]); `None` when this node could not dial.
    pub fn handle_dialled_back(&mut self, _now: Now, peer: NodeId, reached: Option<bool>) {
        let Some(dial) = self.reach.dial.take_if(|dial| dial.peer == peer) else { return };
        self.send(dial.asker, &Message::DialledBack { number: dial.number, reached });
    }

    pub(super) fn set_first_test(&mut self, now: Now) {
        self.set_jittered(now.instant, FIRST_TEST, Timer::Test);
    }

    /// It is time for a test.
    pub(super) fn on_test_due(&mut self, now: Now) {
        let period = if self.role.is_settled() { SETTLED_TEST_PERIOD } else { TEST_PERIOD };
        self.set_jittered(now.instant, period, Timer::Test);
        if !self.role.wants_tests() {
            return;
        }
        // What comes of it depends on how many serve, so that is looked at as well.
        self.count_soon(now);
        let mut neighbours: Vec<NodeId> = self.table.lasting().map(|(node, _)| *node).collect();
        let mut asked = BTreeSet::new();
        while asked.len() < ASKED && !neighbours.is_empty() {
            let index = self.random_below(neighbours.len());
            asked.insert(neighbours.swap_remove(index));
        }
        if asked.len() < MIN_REPORTS {
            return;
        }
        let number = self.randomness.next_u64();
        for node in &asked {
            self.send(*node, &Message::Test { number });
        }
        self.reach.test = Some(Test { number, asked, reports: BTreeMap::new(), address: Bytes::new() });
        self.timers.set(now.instant + TEST_TIME, Timer::TestEnd { number });
    }

    /// A neighbour tells how a dial of this node went.
    pub(super) fn on_test_report(
        &mut self,
        now: Now,
        from: NodeId,
        number: u64,
        dialler: NodeId,
        reached: Option<Bytes>,
    ) {
        let knows_us = dialler == self.me.node || dialler == from || self.table.is_linked(dialler);
        let Some(test) = self.reach.test.as_mut().filter(|test| test.number == number) else { return };
        // Each neighbour has one word, and so has each of those who dialled.
        if knows_us || !test.asked.contains(&from) || test.reports.values().any(|(other, _)| *other == dialler) {
            return;
        }
        test.reports.entry(from).or_insert((dialler, reached.is_some()));
        if let Some(address) = reached {
            test.address = address;
        }
        if test.reports.len() == test.asked.len() {
            self.end_test(now);
        }
    }

    /// The time of a test is over.
    pub(super) fn on_test_end_due(&mut self, now: Now, number: u64) {
        if self.reach.test.as_ref().is_some_and(|test| test.number == number) {
            self.end_test(now);
        }
    }

    fn end_test(&mut self, now: Now) {
        let Some(test) = self.reach.test.take() else { return };
        let dialled = test.reports.len();
        let reached = test.reports.values().filter(|(_, reached)| *reached).count();
        if let Some(result) = result(dialled, reached) {
            self.role.note_test(result);
            self.reach.last = Some(Tested { at: now.instant, dialled, reached, address: test.address });
        }
        if !self.role.is_settled() {
            self.set_jittered(now.instant, TEST_PERIOD, Timer::Test);
        }
        self.look_at_role(now);
    }

    /// A neighbour wants to know whether others reach it.
    pub(super) fn on_test_wanted(&mut self, now: Now, from: NodeId, number: u64) {
        let allowed = self.table.favours(from).is_some_and(|favours| favours.tests.take(now.instant, 1, TESTS));
        if !allowed || !self.role.serves() || self.reach.errands.len() >= MAX_ERRANDS {
            return;
        }
        let errand = Errand { test: number, number: 0, dialler: from, tried: BTreeSet::new() };
        self.reach.errands.insert(from, errand);
        self.try_next_dialler(now, from);
    }

    /// Asks the next node to dial a neighbour that wants to be tested; in the end there is nothing to tell.
    fn try_next_dialler(&mut self, now: Now, tested: NodeId) {
        let Some(errand) = self.reach.errands.get(&tested) else { return };
        let others = self.table.links().iter().filter(|(node, link)| {
            **node != tested && !link.suspect && !errand.tried.contains(*node) && errand.tried.len() < MAX_TRIES
        });
        let others: Vec<NodeId> = others.map(|(node, _)| *node).collect();
        let index = self.random_below(others.len());
        let (Some(dialler), Some(peer)) = (others.get(index).copied(), self.table.linked(tested)) else {
            self.reach.errands.remove(&tested);
            return;
        };
        let number = self.randomness.next_u64();
        if let Some(errand) = self.reach.errands.get_mut(&tested) {
            (errand.number, errand.dialler) = (number, dialler);
            errand.tried.insert(dialler);
        }
        self.timers.set(now.instant + TRY_TIME, Timer::Errand { tested, number });
        self.send(dialler, &Message::DialBack(DialBack { number, peer }));
    }

    /// Who was to dial a neighbour has not said how it went.
    pub(super) fn on_errand_timeout(&mut self, now: Now, tested: NodeId, number: u64) {
        if self.reach.errands.get(&tested).is_some_and(|errand| errand.number == number) {
            self.try_next_dialler(now, tested);
        }
    }

    /// A node that was to dial a neighbour of ours says how it went.
    pub(super) fn on_dialled_back(&mut self, now: Now, from: NodeId, number: u64, reached: Option<bool>) {
        let errands = self.reach.errands.iter();
        let mut errands = errands.filter(|(_, errand)| errand.number == number && errand.dialler == from);
        let Some(tested) = errands.next().map(|(tested, _)| *tested) else { return };
        let Some(reached) = reached else { return self.try_next_dialler(now, tested) };
        let Some(errand) = self.reach.errands.remove(&tested) else { return };
        let address = self.table.linked(tested).filter(|_| reached).map(|peer| peer.address);
        self.send(tested, &Message::Report { number: errand.test, dialler: from, reached: address });
    }

    /// A neighbour asks this node to dial somebody.
    pub(super) fn on_dial_back(&mut self, now: Now, from: NodeId, DialBack { number, peer }: DialBack) {
        if self.may_dial_back(now.instant, from, &peer) {
            let (node, until) = (peer.node, now.instant + TRY_TIME);
            self.reach.dial = Some(Dial { peer: node, asker: from, number, until });
            self.emit(Event::DialBack { peer, asker: from });
        } else {
            self.send(from, &Message::DialledBack { number, reached: None });
        }
    }

    /// Whether to dial a node for a neighbour: for one that serves, if it is no more than it may ask for, and if the way to that node
    /// is not open already because it had to do with us.
    fn may_dial_back(&mut self, now: Instant, from: NodeId, peer: &Descriptor) -> bool {
        let knows_us = peer.node == self.me.node || peer.node == from || self.table.was_linked(now, peer.node);
        let busy = self.reach.dial.as_ref().is_some_and(|dial| now < dial.until);
        if knows_us || busy || !self.table.links().contains_key(&from) {
            return false;
        }
        let allowed = self.table.favours(from).is_some_and(|favours| favours.dials.take(now, 1, DIALS_OF_ONE));
        allowed && self.reach.dials.take(now, 1, DIALS_OF_ALL)
    }

    fn random_below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.randomness.next_u64() % bound).unwrap_or_default()
    }
}

/// Returns whether this node counts as reached, when so many of those who dialled it got through; none where they are too few, or halves.
fn result(dialled: usize, reached: usize) -> Option<bool> {
    (dialled >= MIN_REPORTS && reached * 2 != dialled).then_some(reached * 2 > dialled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_against_all_others_never_decides() {
        for dialled in 0..=ASKED {
            assert_ne!(result(dialled, 1), Some(true), "one of {dialled} says yes");
            assert_ne!(result(dialled, dialled.saturating_sub(1)), Some(false), "one of {dialled} says no");
        }
    }

    #[test]
    fn three_words_that_agree_are_a_result() {
        assert_eq!(
            [result(3, 3), result(3, 0), result(4, 3), result(4, 2)],
            [Some(true), Some(false), Some(true), None]
        );
        assert_eq!([result(0, 0), result(2, 2), result(2, 0)], [None; 3]);
    }
}
