//! Visiting: going oneself, before "not found" is believed. A path along links is as good as all of its nodes, and the longer it is, the
//! more likely one of them lies. A node that is asked over a link of our own is asked, whatever others do: so from its own links on
//! the asker goes from node to node, over links that it opens to those it has heard of.
//!
//! Liars name other liars, closer ones than honest nodes on the way know. Therefore several ways are gone side by side that have no
//! node in common (S/Kademlia: Baumgart, Mies: "A practicable approach towards secure key-based routing", 2007): a liar spoils the
//! way that it was asked on, and no other. Who cannot be dialled is passed over.
//!
//! Links opened for this are no part of the mesh: nothing is routed over them, nobody is told of them, they neither fill buckets nor
//! have a say about the time of day, and they are closed when the read is over (`table`).

use std::collections::{BTreeMap, BTreeSet};

use meshtone_identity::NodeId;

use super::operation::{Operation, PendingPurpose};
use super::table::Dialling;
use super::{Descriptor, Dht, Distance, Event, Now, OperationId, Position};

/// Nodes that one read visits at most: eight ways of four steps, and as many again that lie, are late or cannot be dialled.
const MAX_VISITS: usize = 64;

/// Nodes that one way keeps in mind, the closest to the place: two answers' worth.
const MAX_HEARD: usize = 16;

/// The visits of one read.
#[derive(Debug, Default)]
pub(super) struct Visits {
    ways: Vec<Way>,
    visited: BTreeSet<NodeId>,
}

/// One way towards the place.
#[derive(Debug)]
struct Way {
    heard: BTreeMap<Distance, Descriptor>,
    /// Visits under way that are not late.
    waiting: usize,
}

impl Visits {
    /// Begins a way at each of these nodes.
    fn from(place: Position, roots: Vec<Descriptor>) -> Self {
        let way = |root: Descriptor| {
            let heard = BTreeMap::from([(place.distance(root.node.into()), root)]);
            Way { heard, waiting: 0 }
        };
        Self { ways: roots.into_iter().map(way).collect(), visited: BTreeSet::new() }
    }

    /// Says whether somebody is visited who is not late.
    pub(super) fn waiting(&self) -> bool {
        self.ways.iter().any(|way| way.waiting > 0)
    }

    /// Returns whom to visit next, and on which way: on one that waits for nobody, the closest of those nearest to the place.
    fn next(&self, nearest: usize) -> Option<(usize, &Descriptor)> {
        let over = self.visited.len() >= MAX_VISITS;
        let idle = self.ways.iter().enumerate().filter(|(_, way)| !over && way.waiting == 0);
        let mut next = idle.filter_map(|(index, way)| {
            let mut near = way.heard.values().take(nearest);
            near.find(|peer| !self.visited.contains(&peer.node)).map(|peer| (index, peer))
        });
        next.next()
    }
}

impl Operation {
    /// Returns whom this read visits next. A way ends where the closest nodes it knows of have been visited; once somebody was late or
    /// failed, with all it knows of.
    fn next_visit(&self) -> Option<(usize, &Descriptor)> {
        self.visits.as_ref()?.next(if self.troubled { MAX_HEARD } else { self.count })
    }

    fn way_mut(&mut self, way: usize) -> Option<&mut Way> {
        self.visits.as_mut()?.ways.get_mut(way)
    }
}

impl Dht {
    /// Says whether a read that found nothing is still visiting nodes, or has some left.
    pub(super) fn may_visit(&self, operation: &Operation) -> bool {
        operation.visits.as_ref().is_none_or(|visits| visits.waiting() || operation.next_visit().is_some())
    }

    /// Visits one node more for a read that found nothing. Returns whether there was anybody left.
    pub(super) fn visit(&mut self, now: Now, id: OperationId) -> bool {
        let Some(operation) = self.operations.get_mut(&id) else { return false };
        if operation.visits.is_none() {
            let roots = self.table.closest(operation.place, self.config.paths);
            operation.visits = Some(Visits::from(operation.place, roots));
        }
        let Some((way, peer)) = operation.next_visit().map(|(way, peer)| (way, peer.clone())) else { return false };
        if let Some(visits) = &mut operation.visits {
            visits.visited.insert(peer.node);
        }
        let dialling = self.table.dial(now.instant, &peer, self.role.serves());
        if dialling == Dialling::Hopeless {
            operation.troubled = true;
            return true;
        }
        if let Some(way) = operation.way_mut(way) {
            way.waiting += 1;
        }
        let number = self.new_pending(now, PendingPurpose::Visit(id, peer.node, way));
        match dialling {
            Dialling::Linked => self.ask_visited(now, number, id, peer.node),
            Dialling::Begun => self.emit(Event::Dial { peer }),
            Dialling::UnderWay | Dialling::Hopeless => {}
        }
        true
    }

    /// Asks a node that there is a link to.
    fn ask_visited(&mut self, now: Now, number: u64, id: OperationId, node: NodeId) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.requests += 1;
        let ask = operation.path_ask().encode();
        if !self.send_request(now, number, node.into(), true, ask, Some(node)) {
            self.on_own_failure(now, number);
        }
    }

    /// A link is up: who wants to visit its node asks it.
    pub(super) fn on_visit_linked(&mut self, now: Now, node: NodeId) {
        for (number, id) in self.visits_without_link(node) {
            self.ask_visited(now, number, id, node);
        }
    }

    /// A node cannot be dialled.
    pub(super) fn on_visit_failed(&mut self, now: Now, node: NodeId) {
        for (number, _) in self.visits_without_link(node) {
            self.on_own_failure(now, number);
        }
    }

    /// Returns the requests that wait for a link to this node, and whose they are.
    fn visits_without_link(&self, node: NodeId) -> Vec<(u64, OperationId)> {
        let visits = self.pending.iter().filter_map(|(number, pending)| match pending.purpose {
            PendingPurpose::Visit(id, of, _) if of == node => Some((*number, id)),
            PendingPurpose::Visit(..)
            | PendingPurpose::Path(_)
            | PendingPurpose::Node(..)
            | PendingPurpose::Offer(..)
            | PendingPurpose::Hand(..)
            | PendingPurpose::Clock(_)
            | PendingPurpose::Listen(..)
            | PendingPurpose::Notice(..) => None,
        });
        visits.filter(|(number, _)| !self.relays.contains_key(&(self.me.node, *number))).collect()
    }

    /// Takes note of whom a node visited on this way has named.
    pub(super) fn note_heard(&mut self, id: OperationId, way: usize, nodes: &[Descriptor]) {
        let me = self.me.node;
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let place = operation.place;
        let Some(way) = operation.way_mut(way) else { return };
        for node in nodes.iter().filter(|node| node.node != me) {
            way.heard.insert(place.distance(node.node.into()), node.clone());
        }
        while way.heard.len() > MAX_HEARD {
            way.heard.pop_last();
        }
    }

    /// A visit has ended, or is late: its way goes on.
    pub(super) fn go_on(&mut self, id: OperationId, way: usize) {
        if let Some(way) = self.operations.get_mut(&id).and_then(|operation| operation.way_mut(way)) {
            way.waiting = way.waiting.saturating_sub(1);
        }
    }

    /// Somebody was late or could not be visited.
    pub(super) fn note_missed(&mut self, id: OperationId) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.troubled = true;
        }
    }

    /// A read is over: whoever is still being dialled for it need not be asked any more.
    pub(super) fn end_visits(&mut self, id: OperationId, operation: &Operation) {
        if operation.visits.is_some() {
            let (me, relays) = (self.me.node, &self.relays);
            let waits = |number: u64| !relays.contains_key(&(me, number));
            self.pending.retain(|number, pending| {
                !matches!(pending.purpose, PendingPurpose::Visit(of, ..) if of == id && waits(*number))
            });
        }
    }
}
