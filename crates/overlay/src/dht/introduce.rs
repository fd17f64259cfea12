//! Introductions: how a node is reached that cannot be dialled where it says it is.
//!
//! A node names a few of those that it has links to, its *super-nodes*, beside its addresses (three levels: an identity leads to a
//! node, a node to its super-nodes, those to addresses). Whoever wants a link to it asks them, over links made for that where there
//! are none. A super-node tells each of the two where it sees the other's packets come from, and both dial: whoever is not behind a box is
//! dialled by the other, and two boxes that map alike for all see each other's packets go out before they come in (RFC 5128 §3.3). Two
//! that choose a port for each destination stay apart.
//!
//! Nobody is made to dial whom others please: where this node asked itself, it dials once for each that it asked; else only a lasting
//! neighbour that serves has a say, so often, and only one host is dialled, as in tests of the reach (`reach`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::message::Message;
use super::table::Dialling;
use super::{Descriptor, Dht, Event, Now};
use crate::bucket::{Bucket, Rate};
use crate::record::via::MAX_SUPER_NODES;

/// How long an introduction may take: a dial of the super-node, and the way to both.
const INTRODUCTION_TIME: Duration = Duration::from_secs(8);

/// Introductions that this node waits for: calls to so many nodes begin in those seconds.
const MAX_WANTED: usize = 256;

/// How often one neighbour is introduced: a node whose users call others at eight new nodes at once, and then at one a second.
const ASKED_BY_ONE: Rate = (8, Duration::from_secs(1));

/// How often this node introduces in all: two messages each.
const ASKED_BY_ALL: Rate = (128, Duration::from_millis(20));

/// Dials that one neighbour may ask for in the name of others: as many who call users here, a bit at once.
const DIALS_OF_ONE: Rate = (8, Duration::from_secs(1));

/// Dials for others in all.
const DIALS_OF_ALL: Rate = (16, Duration::from_millis(500));

/// What this node has to do with introductions.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    /// Nodes that this one wants to be introduced to.
    wanted: BTreeMap<NodeId, Wanted>,
    asked: Bucket,
    dials: Bucket,
}

#[derive(Debug)]
struct Wanted {
    /// Super-nodes that there is no link to yet.
    unasked: BTreeSet<NodeId>,
    /// Those that were asked and have not answered.
    asked: BTreeSet<NodeId>,
    until: Instant,
}

/// What a neighbour may still ask for.
#[derive(Debug, Default)]
pub(super) struct Courtesies {
    introductions: Bucket,
    dials: Bucket,
}

impl Dht {
    /// Asks these super-nodes of a node to introduce this one. What comes of it is an [`Event::Meet`], where it is anything.
    pub fn introduce(&mut self, now: Now, node: NodeId, through: Vec<Descriptor>) {
        let wanted = &mut self.introductions.wanted;
        wanted.retain(|_, wanted| now.instant < wanted.until);
        let full = wanted.len() >= MAX_WANTED && !wanted.contains_key(&node);
        if full || node == self.me.node || self.table.is_linked(node) {
            return;
        }
        let until = now.instant + INTRODUCTION_TIME;
        let new = || Wanted { unasked: BTreeSet::new(), asked: BTreeSet::new(), until };
        wanted.entry(node).or_insert_with(new).until = until;
        for peer in through.into_iter().take(MAX_SUPER_NODES) {
            if peer.node != self.me.node && peer.node != node {
                self.ask_super_node(now, node, peer);
            }
        }
    }

    fn ask_super_node(&mut self, now: Now, node: NodeId, peer: Descriptor) {
        let linked = self.table.is_linked(peer.node);
        let dialling = if linked { Dialling::Linked } else { self.table.dial(now.instant, &peer, self.role.serves()) };
        let Some(wanted) = self.introductions.wanted.get_mut(&node) else { return };
        if wanted.unasked.len() + wanted.asked.len() >= MAX_SUPER_NODES {
            return;
        }
        match dialling {
            Dialling::Linked => {
                wanted.asked.insert(peer.node);
                self.send(peer.node, &Message::Introduce { node });
            }
            Dialling::Begun => {
                wanted.unasked.insert(peer.node);
                self.emit(Event::Dial { peer });
            }
            Dialling::UnderWay => {
                wanted.unasked.insert(peer.node);
            }
            Dialling::Hopeless => {}
        }
    }

    /// There is a link to a node that may be a super-node to be asked.
    pub(super) fn ask_for_introductions(&mut self, now: Now, super_node: NodeId) {
        let wanted = self.introductions.wanted.iter_mut().filter(|(_, wanted)| now.instant < wanted.until);
        let through_it = wanted.filter_map(|(node, wanted)| {
            let is_meant = wanted.unasked.remove(&super_node);
            is_meant.then(|| {
                wanted.asked.insert(super_node);
                *node
            })
        });
        for node in through_it.collect::<Vec<_>>() {
            self.send(super_node, &Message::Introduce { node });
        }
    }

    /// Somebody wants to be introduced to a neighbour of this node.
    pub(super) fn on_introduce(&mut self, now: Now, from: NodeId, node: NodeId) {
        let (Some(asker), Some(peer)) = (self.table.linked(from), self.table.linked(node)) else { return };
        let by_one = |courtesies: &mut Courtesies| courtesies.introductions.take(now.instant, 1, ASKED_BY_ONE);
        let allowed = from != node && self.table.courtesies(from).is_some_and(by_one);
        if allowed && self.introductions.asked.take(now.instant, 1, ASKED_BY_ALL) {
            self.send(node, &Message::Meet(asker));
            self.send(from, &Message::Meet(peer));
        }
    }

    /// A neighbour tells where somebody is who wants a link, or with whom this node wants one.
    pub(super) fn on_meet(&mut self, now: Now, from: NodeId, peer: Descriptor) {
        if peer.node == self.me.node || peer.node == from || self.table.is_linked(peer.node) {
            return;
        }
        let wanted = self.introductions.wanted.get_mut(&peer.node).filter(|wanted| now.instant < wanted.until);
        let is_wanted = wanted.is_some_and(|wanted| wanted.asked.remove(&from));
        if is_wanted || self.may_dial_for(now.instant, from) {
            self.emit(Event::Meet { peer, through: from });
        }
    }

    /// Whether to dial somebody because a neighbour says that he wants a link.
    fn may_dial_for(&mut self, now: Instant, from: NodeId) -> bool {
        let lasts = self.table.links().get(&from).is_some_and(|link| !link.visited);
        let by_one = |courtesies: &mut Courtesies| courtesies.dials.take(now, 1, DIALS_OF_ONE);
        lasts && self.table.courtesies(from).is_some_and(by_one) && self.introductions.dials.take(now, 1, DIALS_OF_ALL)
    }
}
