//! A command under way: what it is for, whom it has heard of, and how far each of those has been asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use meshtone_identity::NodeId;

use super::body::{Ask, Handed, Offer};
use super::config::MAX_SHORTLIST;
use super::doubt::MAX_ASKED;
use super::fetch::Reading;
use super::listen::Place;
use super::store::Writing;
use super::visit::Visits;
use super::{Descriptor, Distance, OperationId, Position};
use crate::record::value::Record;

#[derive(Debug)]
pub(super) enum Purpose {
    /// To know the closest nodes.
    Find,
    /// To know our own neighbourhood, or a bucket: nobody waits for the answer.
    Refresh {
        /// Whether it is about our own place.
        own: bool,
    },
    /// To hand what is held there to those who should hold it.
    Repair,
    /// To read.
    Fetch(Reading),
    /// To write.
    Store(Box<Writing>),
}

/// A command under way.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) purpose: Purpose,
    pub(super) place: Position,
    /// This node asks hop by hop itself, and sends nothing towards the place.
    pub(super) iterative: bool,
    /// An iterative write that does not know its replicas yet.
    pub(super) finding: bool,
    /// How many of the closest nodes it is about.
    pub(super) count: usize,
    pub(super) shortlist: BTreeMap<Distance, Candidate>,
    /// First hops of the requests that went towards the place.
    pub(super) paths: BTreeSet<NodeId>,
    /// Requests towards the place that may still be answered in good time.
    pub(super) paths_waiting: usize,
    pub(super) paths_answered: usize,
    pub(super) requests: u32,
    /// Nodes that the round of a hedged read may still ask.
    pub(super) round: usize,
    /// Somebody on the way was found silent.
    pub(super) troubled: bool,
    pub(super) hops: u8,
    /// "Not found" was not believed, and is being checked.
    pub(super) doubted: bool,
    /// The nodes around the place are being visited.
    pub(super) visits: Option<Visits>,
    /// Its event was emitted; it lives on only for what is still under way.
    pub(super) reported: bool,
}

/// A node that may be among the closest.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) descriptor: Descriptor,
    pub(super) state: State,
    /// Who told of it, and therefore has a link to it.
    pub(super) informer: Option<NodeId>,
    /// Links over which it was told of.
    pub(super) vias: Vec<NodeId>,
    /// It answered over our own link, so it was itself who spoke.
    pub(super) sure: bool,
    /// First hops over which it was asked.
    pub(super) tried: Vec<NodeId>,
}

/// How far a candidate has been asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not yet.
    New,
    /// Asked, and in good time.
    Asked,
    /// Asked, and late.
    Slow,
    /// It has answered.
    Answered,
    /// It cannot be reached, or lied.
    Failed,
}

/// A request of our own whose answer is awaited.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) purpose: PendingPurpose,
    pub(super) sent: Instant,
    /// It is late; others are asked, and the answer counts if it still comes.
    pub(super) slow: bool,
}

/// What a request of our own belongs to.
#[derive(Debug, Clone)]
pub(super) enum PendingPurpose {
    /// A command's request towards its place.
    Path(OperationId),
    /// A command's request to one node.
    Node(OperationId, NodeId),
    /// A read's visit to a node, and on which of its ways.
    Visit(OperationId, NodeId, usize),
    /// An offer of the hand-over to one node.
    Offer(NodeId, Vec<Offer>),
    /// Values handed to one node.
    Hand(NodeId, Vec<Offer>),
    /// A neighbour's time.
    Clock(NodeId),
    /// That a node shall tell of changes at a place.
    Listen(Place, NodeId),
    /// That a listener shall hear of changes at a place.
    Notice(Place, NodeId),
}

impl State {
    /// Whether the node has answered, or may still: what is made up or gone has failed by the time a command ends.
    pub(super) fn is_there(self) -> bool {
        match self {
            Self::Asked | Self::Slow | Self::Answered => true,
            Self::New | Self::Failed => false,
        }
    }
}

impl Operation {
    /// Returns the closest candidates that are not out, at most as many as the command is about.
    pub(super) fn closest(&self) -> impl Iterator<Item = &Candidate> {
        self.shortlist
            .values()
            .filter(|candidate| !matches!(candidate.state, State::Failed | State::Slow))
            .take(self.count)
    }

    /// The replicas of an iterative write are known: those who have told so are asked to store.
    pub(super) fn begin_storing(&mut self) {
        self.finding = false;
        for candidate in self.shortlist.values_mut().filter(|candidate| candidate.state == State::Answered) {
            candidate.state = State::New;
        }
    }

    /// Says whether the closest candidates have all answered and no request towards the place is under way.
    pub(super) fn settled(&self) -> bool {
        self.paths_waiting == 0 && self.closest().all(|candidate| candidate.state == State::Answered)
    }

    /// Passes over a node that is late, or has failed; a hedged read goes on with another round.
    pub(super) fn pass_over(&mut self, node: NodeId, state: State) {
        self.begin_round();
        self.set_state(node, state);
    }

    pub(super) fn waiting(&self) -> usize {
        self.closest().filter(|candidate| candidate.state == State::Asked).count()
    }

    pub(super) fn set_state(&mut self, node: NodeId, state: State) {
        if let Some(candidate) = self.shortlist.get_mut(&self.place.distance(node.into())) {
            candidate.state = state;
        }
    }

    /// Takes note of a node that was told of over a link.
    pub(super) fn hear(&mut self, descriptor: &Descriptor, informer: Option<NodeId>, via: Option<NodeId>) {
        self.add(descriptor, informer, State::New);
        let candidate = self.shortlist.get_mut(&self.place.distance(descriptor.node.into()));
        if let (Some(candidate), Some(via)) = (candidate, via)
            && candidate.vias.len() < MAX_ASKED
            && !candidate.vias.contains(&via)
        {
            candidate.vias.push(via);
        }
    }

    pub(super) fn add(&mut self, descriptor: &Descriptor, informer: Option<NodeId>, state: State) {
        let distance = self.place.distance(descriptor.node.into());
        let known = self.shortlist.entry(distance);
        let new = || Candidate {
            descriptor: descriptor.clone(),
            state,
            informer,
            vias: Vec::new(),
            sure: false,
            tried: Vec::new(),
        };
        known.or_insert_with(new);
        if self.shortlist.len() > MAX_SHORTLIST {
            self.shortlist.pop_last();
        }
    }

    /// Returns what a read has found, removals included.
    pub(super) fn read(&self) -> Option<impl Iterator<Item = &Record>> {
        match &self.purpose {
            Purpose::Fetch(reading) => Some(reading.records()),
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair | Purpose::Store(_) => None,
        }
    }

    /// Returns what is asked on the way to the place.
    pub(super) fn path_ask(&self) -> Ask {
        match &self.purpose {
            Purpose::Fetch(reading) => reading.ask(),
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair | Purpose::Store(_) => Ask::Find(self.place),
        }
    }

    /// Returns what one node is asked; `plain` when it does not understand a put.
    pub(super) fn node_ask(&self, plain: bool) -> Ask {
        match &self.purpose {
            Purpose::Fetch(reading) => reading.ask(),
            Purpose::Store(_) if self.finding => Ask::Find(self.place),
            Purpose::Store(writing) => {
                let record = writing.record.clone();
                let handed = Handed { remaining_s: record.value.lifetime_s, record };
                if plain { Ask::Store(vec![handed]) } else { Ask::Put(Box::new(handed)) }
            }
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair => Ask::Find(self.place),
        }
    }
}
