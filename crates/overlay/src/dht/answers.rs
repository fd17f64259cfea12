//! What becomes of the requests that commands have sent: answers, their content, failures, and lateness.

use std::time::Duration;

use meshtone_identity::NodeId;

use super::body::{Failure, Reply};
use super::config::MAX_PLAIN;
use super::message::{Answer, MessageError};
use super::operation::{Operation, Pending, PendingPurpose, Purpose, State};
use super::relay::RelayKey;
use super::{Descriptor, Dht, Now, OperationId, Position};

/// What became of an answer.
enum Taken {
    Believed,
    AskAgain,
    Lie,
}

impl Dht {
    /// Takes the answer to a request of our own.
    pub(super) fn on_own_answer(&mut self, now: Now, from: NodeId, answer: Answer) {
        let Some(pending) = self.pending.remove(&answer.request) else { return };
        let took = now.instant.saturating_duration_since(pending.sent);
        self.request_time = (self.request_time * 7 + took.min(Duration::from_secs(2))) / 8;
        self.note_meeting(now, answer.responder);
        for node in &answer.nodes {
            if self.table.learn(node) {
                self.mend_links_soon(now);
            }
        }
        let reply = match Reply::decode(&answer.body) {
            Ok(Reply::Failed(Failure::NotUnderstood)) => return self.on_not_understood(now, pending),
            Ok(Reply::Failed(Failure::Busy)) => return self.on_pending_busy(now, pending),
            Ok(Reply::Failed(_)) => return self.on_pending_failed(now, pending),
            Ok(reply) => reply,
            Err(error) => {
                // Only the peer at the link is known for who it is; in the name of others anything may be said.
                if from == answer.responder && !matches!(error, MessageError::UnknownType(_)) {
                    self.misbehaved(from, error);
                }
                return self.on_pending_failed(now, pending);
            }
        };
        match pending.purpose {
            PendingPurpose::Listen(place, node) if node == answer.responder => {
                self.on_promised(now, place, node, reply)
            }
            PendingPurpose::Notice(place, node) if node == answer.responder => self.on_heard(place, node, &reply),
            PendingPurpose::Path(id) => {
                self.usual_time.note(took);
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
            PendingPurpose::Visit(id, node, way) if node == answer.responder && node == from => {
                if !pending.slow {
                    self.go_on(id, way);
                }
                self.note_heard(id, way, &answer.nodes);
                // Whoever we are linked with for long can ask those it names in our name. Links to others are soon closed.
                let lasts = self.table.links().get(&node).is_some_and(|link| !link.visited);
                let heard = if lasts { answer.nodes.as_slice() } else { &[] };
                self.take_reply(now, id, node, Some(from), heard, reply);
                self.note_sure(id, node);
                self.step(now, id);
            }
            // Somebody answers in another's name.
            PendingPurpose::Node(..)
            | PendingPurpose::Visit(..)
            | PendingPurpose::Listen(..)
            | PendingPurpose::Notice(..) => self.on_pending_failed(now, pending),
            PendingPurpose::Offer(node, offers) => self.on_offer_answered(now, node, &offers, reply),
            PendingPurpose::Hand(node, handed) => self.on_handed(now, node, &handed, &reply),
            // Each neighbour has a word for itself alone.
            PendingPurpose::Clock(node) => {
                if let Reply::Time(unix_ms) = reply
                    && from == node
                {
                    self.on_clock_told(now, node, unix_ms, took);
                }
            }
        }
    }

    pub(super) fn take_reply(
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
        let stored = matches!(reply, Reply::Stored(_) | Reply::Merged { .. });
        let asked_to_store = matches!(operation.purpose, Purpose::Store(_)) && !operation.finding;
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
        let stored = |done| if done { Taken::Believed } else { Taken::AskAgain };
        let taken = match (&mut operation.purpose, reply) {
            (Purpose::Fetch(reading), Reply::Values(records)) => {
                if self.take_values(now, reading, node, records) {
                    Taken::Believed
                } else {
                    Taken::Lie
                }
            }
            (Purpose::Store(writing), Reply::Stored(results)) => stored(self.take_stored(now, writing, node, &results)),
            (Purpose::Store(writing), Reply::Merged { result, newer }) => {
                self.take_newer(now, writing, newer);
                stored(self.take_stored(now, writing, node, &[result]))
            }
            (_, _) => Taken::Believed,
        };
        if let Purpose::Store(writing) = &operation.purpose {
            // Dated anew: those who hold it as it was are asked again as well.
            for candidate in operation.shortlist.values_mut() {
                if candidate.state == State::Answered && writing.is_stale(candidate.descriptor.node) {
                    candidate.state = State::New;
                }
            }
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

    /// A node of an earlier release: it is asked in its own way, from now on.
    fn on_not_understood(&mut self, now: Now, pending: Pending) {
        let PendingPurpose::Node(id, node) = pending.purpose else { return self.on_pending_failed(now, pending) };
        let is_write = |operation: &Operation| matches!(operation.purpose, Purpose::Store(_));
        if !self.operations.get(&id).is_some_and(is_write) || self.plain.contains(&node) {
            return self.on_pending_failed(now, pending);
        }
        if self.plain.len() >= MAX_PLAIN {
            self.plain.clear();
        }
        self.plain.insert(node);
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.set_state(node, State::New);
        }
        self.step(now, id);
    }

    /// Whoever was asked, or a hop on the way, has too much to do. That is no absence: it counts as one that is late.
    fn on_pending_busy(&mut self, now: Now, pending: Pending) {
        let PendingPurpose::Node(id, node) = pending.purpose else { return self.on_pending_failed(now, pending) };
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.pass_over(node, State::Slow);
            if let Purpose::Store(writing) = &mut operation.purpose {
                writing.note_busy(node);
            }
        }
        self.step(now, id);
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
                    operation.troubled = true;
                    operation.pass_over(node, State::Failed);
                }
                self.step(now, id);
            }
            PendingPurpose::Visit(id, _, way) => {
                if !pending.slow {
                    self.go_on(id, way);
                }
                self.note_missed(id);
                self.step(now, id);
            }
            // The repair comes round again.
            PendingPurpose::Offer(..) | PendingPurpose::Hand(..) => {}
            // It is asked again when its turn comes.
            PendingPurpose::Clock(_) | PendingPurpose::Listen(..) => {}
            // It finds out when it asks again.
            PendingPurpose::Notice(..) => {}
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
                    operation.pass_over(node, State::Slow);
                }
                id
            }
            PendingPurpose::Visit(id, _, way) => {
                self.go_on(id, way);
                self.note_missed(id);
                id
            }
            PendingPurpose::Offer(..)
            | PendingPurpose::Hand(..)
            | PendingPurpose::Clock(_)
            | PendingPurpose::Listen(..)
            | PendingPurpose::Notice(..) => return,
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
}
