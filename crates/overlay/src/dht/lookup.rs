//! Commands: finding the nodes closest to a place, and doing there what the command is for.
//!
//! One request goes recursively towards the place; whoever is closest answers, and names the nodes around it. Those are asked
//! in turn, by name, until the closest ones have all answered: the list that one node gives may lack some or be a lie. What is
//! slow is left aside, another takes its place, and its answer counts if it still comes.

use std::collections::{BTreeMap, BTreeSet};

use meshtone_identity::NodeId;

use super::body::Ask;
use super::config::{MAX_OPERATIONS, OPERATION_TIMEOUT, REQUEST_TIMEOUT, SIBLINGS};
use super::operation::{Operation, Pending, PendingPurpose, Purpose, State};
use super::{Descriptor, Dht, DhtError, Event, Now, OperationId, Position, Timer};

/// Nodes a search asks at the same time.
const PARALLEL: usize = 3;

impl Dht {
    /// Looks for the nodes closest to a place. Answered by [`Event::Found`].
    pub fn find(&mut self, now: Now, target: Position) -> OperationId {
        self.start(self.corrected(now), target, SIBLINGS, Purpose::Find, false)
    }

    /// As [`find`](Self::find), but asks node after node from our own links on, and trusts no one's path.
    pub fn find_iteratively(&mut self, now: Now, target: Position) -> OperationId {
        self.start(self.corrected(now), target, SIBLINGS, Purpose::Find, true)
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
            finding: iterative && matches!(purpose, Purpose::Store(_)),
            iterative,
            purpose,
            place,
            count,
            shortlist: BTreeMap::new(),
            paths: BTreeSet::new(),
            paths_waiting: 0,
            paths_answered: 0,
            requests: 0,
            round: 0,
            troubled: false,
            hops: 0,
            doubted: false,
            visits: None,
            reported: false,
        };
        if self.operations.len() >= MAX_OPERATIONS {
            self.report(now, id, &mut operation, Some(DhtError::Busy));
            return id;
        }
        // For our own place we look for others; everywhere else we may be one of the closest, if we serve.
        let leaves = self.role.is_leaving() && matches!(operation.purpose, Purpose::Repair);
        if place != self.position && self.role.serves() && !leaves {
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
            if operation.finding && operation.settled() && operation.closest().next().is_some() {
                self.operations.entry(id).and_modify(Operation::begin_storing);
                continue;
            }
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
                let settled = !operation.finding && operation.settled();
                settled && operation.closest().next().is_some() && (enough || !self.may_still_come(id))
            }
        }
    }

    fn next_candidate(&self, operation: &Operation) -> Option<(NodeId, Option<NodeId>)> {
        let parallel = match &operation.purpose {
            Purpose::Find | Purpose::Refresh { .. } | Purpose::Repair => PARALLEL,
            Purpose::Store(_) if operation.finding => PARALLEL,
            Purpose::Store(_) => operation.count,
            Purpose::Fetch(reading) => self.reading_parallel(operation, reading),
        };
        if operation.waiting() >= parallel {
            return None;
        }
        let mut new = operation.closest().filter(|candidate| candidate.state == State::New);
        let near_first =
            matches!(&operation.purpose, Purpose::Fetch(reading) if !reading.ends_with_first()) && !operation.iterative;
        let next = if near_first {
            // Whose answers are as good as each other's. Where the first value is enough, it is most likely at the closest.
            new.min_by_key(|candidate| self.table.farness(candidate.descriptor.node))
        } else {
            new.next()
        }?;
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
                !operation.iterative
                    && operation.paths_answered == 0
                    && operation.paths_waiting == 0
                    && operation.closest().all(|candidate| candidate.descriptor.node == self.me.node)
            }
        }
    }

    /// Says whether a request of this command, late as it may be, can still be answered.
    pub(super) fn may_still_come(&self, id: OperationId) -> bool {
        self.pending.values().any(|pending| match &pending.purpose {
            PendingPurpose::Path(of) | PendingPurpose::Node(of, _) | PendingPurpose::Visit(of, ..) => *of == id,
            PendingPurpose::Offer(..)
            | PendingPurpose::Hand(..)
            | PendingPurpose::Clock(_)
            | PendingPurpose::Listen(..)
            | PendingPurpose::Notice(..) => false,
        })
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
        if let Purpose::Store(writing) = &mut operation.purpose
            && !operation.finding
        {
            writing.note_asked(node);
        }
        let ask = operation.node_ask(self.plain.contains(&node));
        if node == self.me.node {
            operation.set_state(node, State::Asked);
            return self.ask_ourselves(now, id, ask);
        }
        operation.requests += 1;
        operation.note_hedge();
        operation.set_state(node, State::Asked);
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
        let usual = || (self.request_time * 3).clamp(REQUEST_TIMEOUT.0, REQUEST_TIMEOUT.1);
        let patience = self.hedge(&purpose).unwrap_or_else(usual);
        self.pending.insert(number, Pending { purpose, sent: now.instant, slow: false });
        self.timers.set(now.instant + patience, Timer::Slow { request: number });
        number
    }

    /// A command's time is over: it ends with what there is.
    pub(super) fn on_operation_timeout(&mut self, now: Now, id: OperationId) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        let silence = self.silence(&operation);
        self.report(now, id, &mut operation, silence);
    }

    pub(super) fn finish(&mut self, now: Now, id: OperationId) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        self.report(now, id, &mut operation, None);
    }

    fn report(&mut self, now: Now, id: OperationId, operation: &mut Operation, error: Option<DhtError>) {
        if std::mem::replace(&mut operation.reported, true) {
            return;
        }
        self.end_visits(id, operation);
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
            Purpose::Refresh { own } => {
                self.note_density(now, operation);
                self.on_refreshed(now, *own, &closest);
            }
            Purpose::Repair => self.on_place_known(now, operation.place, &closest),
            Purpose::Fetch(_) => self.report_read(now, id, operation, error),
            Purpose::Store(_) => self.report_written(now, id, operation, error),
        }
    }
}
