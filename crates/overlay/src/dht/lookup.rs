//! Commands under way: finding the nodes closest to a place, and doing there what the command is for.
//!
//! One request goes recursively towards the place; whoever is closest answers, and names the nodes around it. Those are asked
//! in turn, by name, until the closest ones have all answered: the list that one node gives may lack some or be a lie. What is
//! slow is left aside, another takes its place, and its answer counts if it still comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::body::{Ask, Handed, Offer, Reply};
use super::config::{MAX_OPERATIONS, MAX_SHORTLIST, OPERATION_TIMEOUT, REQUEST_TIMEOUT, SIBLINGS};
use super::doubt::MAX_ASKED;
use super::fetch::Reading;
use super::message::Answer;
use super::relay::RelayKey;
use super::store::Writing;
use super::{Descriptor, Dht, DhtError, Distance, Event, Now, OperationId, Position, Timer};

/// Nodes a search asks at the same time.
const PARALLEL: usize = 3;

/// What a command is for.
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
    /// How many of the closest nodes it is about.
    pub(super) count: usize,
    pub(super) shortlist: BTreeMap<Distance, Candidate>,
    /// First hops of the requests that went towards the place.
    pub(super) paths: BTreeSet<NodeId>,
    /// Requests towards the place that may still be answered in good time.
    pub(super) paths_waiting: usize,
    pub(super) paths_answered: usize,
    pub(super) requests: u32,
    pub(super) hops: u8,
    /// "Not found" was not believed, and is being checked.
    pub(super) doubted: bool,
    /// Its event was emitted; it lives on only for what is still under way.
    pub(super) reported: bool,
}

/// A node that may be among the closest.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) descriptor: Descriptor,
    pub(super) state: State,
    /// Who told of it, and therefore has a link to it.
    informer: Option<NodeId>,
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

/// What became of an answer.
enum Taken {
    Believed,
    AskAgain,
    Lie,
}

/// A request of our own whose answer is awaited.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) purpose: PendingPurpose,
    sent: Instant,
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
    /// An offer of the hand-over to one node.
    Offer(NodeId, Vec<Offer>),
    /// Values handed to one node.
    Hand(NodeId, Vec<Offer>),
}

impl Operation {
    /// Returns the closest candidates that are not out, at most as many as the command is about.
    pub(super) fn closest(&self) -> impl Iterator<Item = &Candidate> {
        self.shortlist
            .values()
            .filter(|candidate| !matches!(candidate.state, State::Failed | State::Slow))
            .take(self.count)
    }

    /// Says whether the closest candidates have all answered and no request towards the place is under way.
    pub(super) fn settled(&self) -> bool {
        self.paths_waiting == 0 && self.closest().all(|candidate| candidate.state == State::Answered)
    }

    pub(super) fn waiting(&self) -> usize {
        self.closest().filter(|candidate| candidate.state == State::Asked).count()
    }

    fn set_state(&mut self, node: NodeId, state: State) {
        if let Some(candidate) = self.shortlist.get_mut(&self.place.distance(node.into())) {
            candidate.state = state;
        }
    }

    /// Takes note of a node that was told of over a link.
    fn hear(&mut self, descriptor: &Descriptor, informer: Option<NodeId>, via: Option<NodeId>) {
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
}

impl Dht {
    /// Looks for the nodes closest to a place. Answered by [`Event::Found`].
    pub fn find(&mut self, now: Now, target: Position) -> OperationId {
        self.start(now, target, SIBLINGS, Purpose::Find, false)
    }

    /// As [`find`](Self::find), but asks node after node from our own links on, and trusts no one's path.
    pub fn find_iteratively(&mut self, now: Now, target: Position) -> OperationId {
        self.start(now, target, SIBLINGS, Purpose::Find, true)
    }

    /// Begins a command.
    pub(super) fn start(
        &mut self,
        now: Now,
        place: Position,
        count: usize,
        purpose: Purpose,
        iterative: bool,
    ) -> OperationId {
        let id = self.new_operation();
        let mut operation = Operation {
            purpose,
            place,
            count,
            shortlist: BTreeMap::new(),
            paths: BTreeSet::new(),
            paths_waiting: 0,
            paths_answered: 0,
            requests: 0,
            hops: 0,
            doubted: false,
            reported: false,
        };
        if self.operations.len() >= MAX_OPERATIONS {
            self.report(now, id, &mut operation, Some(DhtError::Busy));
            return id;
        }
        // For our own place we look for others; everywhere else we may be one of the closest.
        if place != self.position {
            operation.add(&self.me.clone(), None, State::New);
        }
        // Where nobody linked is closer than we are, there is no way to go and our links are the list to begin with.
        let alone = self.table.rank(place, self.position) == 0;
        if iterative || alone {
            for node in self.table.closest(place, SIBLINGS) {
                operation.add(&node, None, State::New);
            }
        }
        self.operations.insert(id, operation);
        self.timers.set(now.instant + OPERATION_TIMEOUT, Timer::Operation(id));
        if !(iterative || alone) {
            self.send_path(now, id);
        }
        self.step(now, id);
        id
    }

    /// Does what a command needs next.
    pub(super) fn step(&mut self, now: Now, id: OperationId) {
        loop {
            let Some(operation) = self.operations.get(&id) else { return };
            if self.finished(id, operation) {
                return self.finish(now, id);
            }
            let first_path_open = operation.paths_waiting > 0 && operation.paths_answered == 0;
            let next = if first_path_open { None } else { self.next_candidate(operation) };
            if let Some((node, informer)) = next {
                self.ask_node(now, id, node, informer);
                continue;
            }
            let Some(operation) = self.operations.get(&id) else { return };
            if !first_path_open && self.wants_path(operation) && self.send_path(now, id) {
                continue;
            }
            if !first_path_open && self.doubt(now, id) {
                continue;
            }
            let Some(operation) = self.operations.get(&id) else { return };
            if operation.paths_waiting == 0 && operation.waiting() == 0 && !self.may_still_come(id) {
                return self.finish(now, id);
            }
            return;
        }
    }

    fn finished(&self, id: OperationId, operation: &Operation) -> bool {
        match &operation.purpose {
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair => {
                operation.settled() && operation.closest().next().is_some()
            }
            Purpose::Fetch(reading) => self.reading_finished(id, operation, reading),
            Purpose::Store(writing) => {
                let enough = writing.acknowledgements() >= self.config.write_acknowledgements;
                operation.settled() && operation.closest().next().is_some() && (enough || !self.may_still_come(id))
            }
        }
    }

    fn next_candidate(&self, operation: &Operation) -> Option<(NodeId, Option<NodeId>)> {
        let parallel = match &operation.purpose {
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair => PARALLEL,
            Purpose::Store(_) => operation.count,
            Purpose::Fetch(reading) => self.reading_parallel(operation, reading),
        };
        if operation.waiting() >= parallel {
            return None;
        }
        let next = operation.closest().find(|candidate| candidate.state == State::New)?;
        Some((next.descriptor.node, next.informer))
    }

    /// Says whether another request towards the place shall go out over another first hop.
    fn wants_path(&self, operation: &Operation) -> bool {
        if operation.paths.len() >= self.config.paths {
            return false;
        }
        match &operation.purpose {
            Purpose::Fetch(reading) => self.reading_wants_path(operation, reading),
            // One answer is enough where all candidates are asked anyway.
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair | Purpose::Store(_) => {
                operation.paths_answered == 0
                    && operation.paths_waiting == 0
                    && operation.closest().all(|candidate| candidate.descriptor.node == self.me.node)
            }
        }
    }

    /// Says whether a request of this command, late as it may be, can still be answered.
    pub(super) fn may_still_come(&self, id: OperationId) -> bool {
        self.pending.values().any(
            |pending| matches!(&pending.purpose, PendingPurpose::Path(of) | PendingPurpose::Node(of, _) if *of == id),
        )
    }

    /// Sends a request towards the place over a first hop not used before.
    fn send_path(&mut self, now: Now, id: OperationId) -> bool {
        let Some(operation) = self.operations.get_mut(&id) else { return false };
        let asked = |node: NodeId| {
            let candidate = operation.shortlist.get(&operation.place.distance(node.into()));
            candidate.is_some_and(|candidate| matches!(candidate.state, State::Answered | State::Failed))
        };
        let first = self.table.next_hop(operation.place, true, |node| operation.paths.contains(&node) || asked(node));
        let Some(first) = first else { return false };
        operation.paths.insert(first);
        let (place, body) = (operation.place, operation.path_ask().encode());
        let number = self.new_pending(now, PendingPurpose::Path(id));
        if !self.send_request(now, number, place, false, body, Some(first)) {
            self.pending.remove(&number);
            return false;
        }
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.paths_waiting += 1;
            operation.requests += 1;
        }
        true
    }

    pub(super) fn ask_node(&mut self, now: Now, id: OperationId, node: NodeId, informer: Option<NodeId>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.set_state(node, State::Asked);
        if let Purpose::Store(writing) = &mut operation.purpose {
            writing.note_asked(node);
        }
        let ask = operation.node_ask();
        if node == self.me.node {
            return self.ask_ourselves(now, id, ask);
        }
        operation.requests += 1;
        // Whoever told of it has a link to it.
        let first = if self.table.links().contains_key(&node) { Some(node) } else { informer };
        if let (Some(candidate), Some(first)) =
            (operation.shortlist.get_mut(&operation.place.distance(node.into())), first)
        {
            candidate.tried.push(first);
        }
        let number = self.new_pending(now, PendingPurpose::Node(id, node));
        if !self.send_request(now, number, node.into(), true, ask.encode(), first) {
            self.pending.remove(&number);
            if let Some(operation) = self.operations.get_mut(&id) {
                operation.set_state(node, State::Failed);
            }
        }
    }

    fn ask_ourselves(&mut self, now: Now, id: OperationId, ask: Ask) {
        let nodes = ask.place().map(|place| self.table.closest(place, SIBLINGS)).unwrap_or_default();
        let reply = self.reply(now, ask);
        self.take_reply(now, id, self.me.node, None, &nodes, reply);
        self.note_sure(id, self.me.node);
    }

    pub(super) fn new_pending(&mut self, now: Now, purpose: PendingPurpose) -> u64 {
        let number = self.randomness.next_u64();
        self.pending.insert(number, Pending { purpose, sent: now.instant, slow: false });
        let patience = (self.request_time * 3).clamp(REQUEST_TIMEOUT.0, REQUEST_TIMEOUT.1);
        self.timers.set(now.instant + patience, Timer::Slow { request: number });
        number
    }

    /// Takes the answer to a request of our own.
    pub(super) fn on_own_answer(&mut self, now: Now, from: NodeId, answer: Answer) {
        let Some(pending) = self.pending.remove(&answer.request) else { return };
        let took = now.instant.saturating_duration_since(pending.sent);
        self.request_time = (self.request_time * 7 + took.min(Duration::from_secs(2))) / 8;
        for node in &answer.nodes {
            if self.table.learn(node) {
                self.mend_links_soon(now);
            }
        }
        let reply = match Reply::decode(&answer.body) {
            Ok(Reply::Failed(_)) => return self.on_pending_failed(now, pending),
            Ok(reply) => reply,
            Err(error) => {
                // Only the peer at the link is known for who it is; in the name of others anything may be said.
                if from == answer.responder {
                    self.misbehaved(from, error);
                }
                return self.on_pending_failed(now, pending);
            }
        };
        match pending.purpose {
            PendingPurpose::Path(id) => {
                if let Some(operation) = self.operations.get_mut(&id) {
                    operation.paths_answered += 1;
                    operation.hops = operation.hops.max(answer.hops);
                    if !pending.slow {
                        operation.paths_waiting = operation.paths_waiting.saturating_sub(1);
                    }
                }
                self.take_reply(now, id, answer.responder, Some(from), &answer.nodes, reply);
                self.step(now, id);
            }
            PendingPurpose::Node(id, node) if node == answer.responder => {
                self.take_reply(now, id, node, Some(from), &answer.nodes, reply);
                if from == node {
                    self.note_sure(id, node);
                }
                self.step(now, id);
            }
            // Somebody answers in another's name.
            PendingPurpose::Node(..) => self.on_pending_failed(now, pending),
            PendingPurpose::Offer(node, offers) => self.on_offer_answered(now, node, &offers, reply),
            PendingPurpose::Hand(node, handed) => self.on_handed(node, &handed, &reply),
        }
    }

    fn take_reply(
        &mut self,
        now: Now,
        id: OperationId,
        node: NodeId,
        via: Option<NodeId>,
        nodes: &[Descriptor],
        reply: Reply,
    ) {
        let informer = via.map(|_| node);
        let Some(operation) = self.operations.get_mut(&id) else { return };
        // An answer on the way to the place may come from a node we had not heard of.
        let own = nodes.iter().find(|descriptor| descriptor.node == node);
        if let Some(descriptor) = own {
            operation.add(descriptor, None, State::Answered);
        }
        for descriptor in nodes {
            if Position::from(descriptor.node) != operation.place || operation.place != self.position {
                operation.hear(descriptor, informer, via);
            }
        }
        let stored = matches!(reply, Reply::Stored(_));
        let asked_to_store = matches!(operation.purpose, Purpose::Store(_));
        // To be found on the way is not yet to hold the value: that node is still to be asked to store it.
        let state = if asked_to_store && !stored { State::New } else { State::Answered };
        let state = match self.take_content(now, id, node, reply) {
            Taken::Believed => state,
            Taken::AskAgain => State::New,
            Taken::Lie => State::Failed,
        };
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.set_state(node, state);
        }
    }

    /// Hands what was answered to the command's own part.
    fn take_content(&mut self, now: Now, id: OperationId, node: NodeId, reply: Reply) -> Taken {
        let Some(mut operation) = self.operations.remove(&id) else { return Taken::Believed };
        let taken = match (&mut operation.purpose, reply) {
            (Purpose::Fetch(reading), Reply::Values(records)) => {
                if self.take_values(now, reading, node, records) {
                    Taken::Believed
                } else {
                    Taken::Lie
                }
            }
            (Purpose::Store(writing), Reply::Stored(results)) => {
                let done = self.take_stored(now, writing, node, &results);
                // Dated anew: those who hold it as it was are asked again as well.
                for candidate in operation.shortlist.values_mut() {
                    if candidate.state == State::Answered && writing.is_stale(candidate.descriptor.node) {
                        candidate.state = State::New;
                    }
                }
                if done { Taken::Believed } else { Taken::AskAgain }
            }
            (_, _) => Taken::Believed,
        };
        if let Purpose::Store(_) = operation.purpose {
            self.report_if_acknowledged(now, id, &mut operation);
        }
        self.operations.insert(id, operation);
        taken
    }

    /// No answer will come to a request of our own.
    pub(super) fn on_own_failure(&mut self, now: Now, request: u64) {
        if let Some(pending) = self.pending.remove(&request) {
            self.on_pending_failed(now, pending);
        }
    }

    fn on_pending_failed(&mut self, now: Now, pending: Pending) {
        match pending.purpose {
            PendingPurpose::Path(id) => {
                if let Some(operation) = self.operations.get_mut(&id)
                    && !pending.slow
                {
                    operation.paths_waiting = operation.paths_waiting.saturating_sub(1);
                }
                self.step(now, id);
            }
            PendingPurpose::Node(id, node) => {
                if let Some(operation) = self.operations.get_mut(&id) {
                    operation.set_state(node, State::Failed);
                }
                self.step(now, id);
            }
            // The repair comes round again.
            PendingPurpose::Offer(..) | PendingPurpose::Hand(..) => {}
        }
    }

    /// A node asked is late: it is left aside and another one takes its turn.
    pub(super) fn on_slow(&mut self, now: Now, request: u64) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        if pending.slow {
            return;
        }
        pending.slow = true;
        let id = match pending.purpose {
            PendingPurpose::Path(id) => {
                if let Some(operation) = self.operations.get_mut(&id) {
                    operation.paths_waiting = operation.paths_waiting.saturating_sub(1);
                }
                id
            }
            PendingPurpose::Node(id, node) => {
                if let Some(operation) = self.operations.get_mut(&id) {
                    operation.set_state(node, State::Slow);
                }
                id
            }
            PendingPurpose::Offer(..) | PendingPurpose::Hand(..) => return,
        };
        self.step(now, id);
    }

    /// A request has been under way for too long to be answered.
    pub(super) fn on_relay_timeout(&mut self, now: Now, key: RelayKey) {
        self.forget_relay(key);
        if key.0 == self.me.node {
            self.on_own_failure(now, key.1);
        }
    }

    /// A command's time is over: it ends with what there is.
    pub(super) fn on_operation_timeout(&mut self, now: Now, id: OperationId) {
        if self.operations.contains_key(&id) {
            self.finish(now, id);
        }
    }

    fn finish(&mut self, now: Now, id: OperationId) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        self.report(now, id, &mut operation, None);
    }

    fn report(&mut self, now: Now, id: OperationId, operation: &mut Operation, error: Option<DhtError>) {
        if std::mem::replace(&mut operation.reported, true) {
            return;
        }
        let closest: Vec<Descriptor> = operation
            .closest()
            .filter(|candidate| candidate.state == State::Answered)
            .map(|candidate| candidate.descriptor.clone())
            .collect();
        match &operation.purpose {
            Purpose::Find => {
                let result = match error {
                    Some(error) => Err(error),
                    None if closest.is_empty() => Err(DhtError::Timeout { answered: 0, needed: 1 }),
                    None => Ok(closest),
                };
                self.emit(Event::Found { id, result });
            }
            Purpose::Refresh { own } => self.on_refreshed(now, *own, &closest),
            Purpose::Repair => self.on_place_known(now, operation.place, &closest),
            Purpose::Fetch(_) => self.report_read(now, id, operation, error),
            Purpose::Store(_) => self.report_written(now, id, operation, error),
        }
    }
}

impl Operation {
    fn path_ask(&self) -> Ask {
        match &self.purpose {
            Purpose::Fetch(reading) => reading.ask(),
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair | Purpose::Store(_) => Ask::Find(self.place),
        }
    }

    fn node_ask(&self) -> Ask {
        match &self.purpose {
            Purpose::Fetch(reading) => reading.ask(),
            Purpose::Store(writing) => {
                let record = writing.record.clone();
                Ask::Store(vec![Handed { remaining_s: record.value.lifetime_s, record }])
            }
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair => Ask::Find(self.place),
        }
    }
}
