//! Requests under way through this node, its own among them: next hops, soft timeouts, the way back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_identity::NodeId;

use super::body::{Failure, Reply};
use super::config::{HOP_TIMEOUT, MAX_HOPS, MAX_NODES, MAX_RELAYS, MAX_RELAYS_PER_LINK, MAX_TRIES, RELAY_LIFETIME};
use super::message::{Answer, Message, Request};
use super::{Dht, Now, Position, Timer};

/// Names a request under way.
pub(super) type RelayKey = (NodeId, u64);

/// A request that this node has passed on, kept until its answer has gone back.
#[derive(Debug)]
pub(super) struct Relay {
    /// The link it came over; none when it is our own.
    from: Option<NodeId>,
    request: Request,
    /// Next hops so far, in order.
    tried: Vec<NodeId>,
    sent: Instant,
    acknowledged: bool,
}

impl Dht {
    /// Sends a request of our own. `first` is the hop to begin with; without it the best link is taken.
    /// Returns false when there is no link to send it over.
    pub(super) fn send_request(
        &mut self,
        now: Now,
        number: u64,
        target: Position,
        exact: bool,
        body: Vec<u8>,
        first: Option<NodeId>,
    ) -> bool {
        let origin = self.me.node;
        let request = Request { origin, request: number, target, exact, hops: 0, body: Bytes::from(body) };
        // An ordinary node is asked over the link to it, or not at all.
        let is_there = |node: &NodeId| {
            self.table.links().contains_key(node) || self.table.is_client(*node) && target == Position::from(*node)
        };
        let first = first.filter(is_there);
        let Some(next) = first.or_else(|| self.pick(&request, None, &[])) else { return false };
        let relay = Relay { from: None, request, tried: Vec::new(), sent: now.instant, acknowledged: false };
        self.relays.insert((origin, number), relay);
        self.timers.set(now.instant + RELAY_LIFETIME, Timer::Relay { origin, request: number });
        self.pass_on(now, (origin, number), next);
        true
    }

    /// Takes a request from a link: answers it, or passes it on and says so at once.
    pub(super) fn on_request(&mut self, now: Now, from: NodeId, mut request: Request) {
        let (origin, number) = (request.origin, request.request);
        let key = (origin, number);
        if origin == self.me.node {
            return;
        }
        if self.relays.contains_key(&key) {
            // A duplicate that came another way: the first one is under way, only the timeout has to be stopped.
            self.send(from, &Message::Acknowledge { origin, request: number });
            return;
        }
        request.hops = request.hops.saturating_add(1);
        if request.exact && request.target == self.position {
            return self.serve(now, from, &request);
        }
        let Some(next) = self.pick(&request, Some(from), &[]) else {
            return self.on_no_next_hop(now, from, &request);
        };
        if request.hops >= MAX_HOPS {
            return self.fail(from, &request, Failure::TooManyHops);
        }
        let of_link = self.relays_of_link.get(&from).copied().unwrap_or_default();
        if self.relays.len() >= MAX_RELAYS
            || of_link >= MAX_RELAYS_PER_LINK
            || !self.may_be_passed_on(now, from, &request)
        {
            return self.fail(from, &request, Failure::Busy);
        }
        *self.relays_of_link.entry(from).or_default() += 1;
        self.send(from, &Message::Acknowledge { origin, request: number });
        let relay = Relay { from: Some(from), request, tried: Vec::new(), sent: now.instant, acknowledged: false };
        self.relays.insert(key, relay);
        self.timers.set(now.instant + RELAY_LIFETIME, Timer::Relay { origin, request: number });
        self.pass_on(now, key, next);
    }

    /// Takes note that a hop has taken charge.
    pub(super) fn on_acknowledge(&mut self, now: Now, from: NodeId, key: RelayKey) {
        let Some(relay) = self.relays.get_mut(&key) else { return };
        if !relay.tried.contains(&from) {
            return;
        }
        relay.acknowledged = true;
        let first_try = (relay.tried.len() == 1).then(|| now.instant.saturating_duration_since(relay.sent));
        self.measured(from, first_try);
    }

    /// Takes an answer: passes it back, or hands it to the command of ours that asked.
    pub(super) fn on_answer(&mut self, now: Now, from: NodeId, bytes: &[u8], answer: Answer) {
        let key = (answer.origin, answer.request);
        let Some(relay) = self.relays.get(&key) else { return };
        if !relay.tried.contains(&from) {
            return;
        }
        let first_try =
            (relay.tried.len() == 1 && !relay.acknowledged).then(|| now.instant.saturating_duration_since(relay.sent));
        let back = relay.from;
        self.measured(from, first_try);
        self.forget_relay(key);
        match back {
            Some(back) => self.send_bytes(back, Bytes::copy_from_slice(bytes)),
            None => self.on_own_answer(now, from, answer),
        }
    }

    /// The hop has not acknowledged: the next best is tried, and the silent one is passed over until it speaks again.
    pub(super) fn on_hop_timeout(&mut self, now: Now, key: RelayKey, tries: usize) {
        let Some(relay) = self.relays.get(&key) else { return };
        if relay.acknowledged || relay.tried.len() != tries {
            return;
        }
        let silent = relay.tried.last().copied();
        if let Some(link) = silent.and_then(|node| self.table.link_mut(node)) {
            link.overdue();
        }
        if key.0 == self.me.node {
            self.note_trouble(key.1);
        }
        self.try_next(now, key);
    }

    /// A link is gone: requests that wait for it go elsewhere at once.
    pub(super) fn reroute(&mut self, now: Now, node: NodeId) {
        let waiting = self.relays.iter().filter(|(_, relay)| relay.tried.last() == Some(&node));
        for key in waiting.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.try_next(now, key);
        }
    }

    /// Forgets a request; the answer, should it still come, has nowhere to go.
    pub(super) fn forget_relay(&mut self, key: RelayKey) {
        let Some(relay) = self.relays.remove(&key) else { return };
        if let Some(from) = relay.from
            && let Some(count) = self.relays_of_link.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                self.relays_of_link.remove(&from);
            }
        }
    }

    /// Answers a request from a link.
    pub(super) fn answer(&mut self, to: NodeId, request: &Request, place: Option<Position>, reply: &Reply) {
        let mut nodes = Vec::new();
        if let Some(place) = place {
            nodes = self.table.closest(place, MAX_NODES - 1);
            if self.role.serves() {
                nodes.push(self.me.clone());
            }
        }
        let (origin, number, hops) = (request.origin, request.request, request.hops);
        let answer =
            Answer { origin, request: number, responder: self.me.node, hops, nodes, body: reply.encode().into() };
        self.send(to, &Message::Answer(answer));
    }

    fn try_next(&mut self, now: Now, key: RelayKey) {
        let Some(relay) = self.relays.get(&key) else { return };
        let silent = relay.tried.last().copied();
        // Whoever had the link to the target itself cannot be got around.
        let hopeless = relay.request.exact && silent.is_some_and(|node| Position::from(node) == relay.request.target);
        let next = if hopeless || relay.tried.len() >= MAX_TRIES {
            None
        } else {
            self.pick(&relay.request, relay.from, &relay.tried)
        };
        if let Some(next) = next {
            return self.pass_on(now, key, next);
        }
        let (from, request) = (relay.from, relay.request.clone());
        let late = silent.is_some_and(|node| self.table.is_linked(node));
        match from {
            // Our own is only late, as long as there is the link: others are asked, and the answer counts if it still comes.
            None if late => self.on_slow(now, request.request),
            None => {
                self.forget_relay(key);
                self.on_own_failure(now, request.request);
            }
            Some(from) => {
                self.forget_relay(key);
                self.on_no_next_hop(now, from, &request);
            }
        }
    }

    fn on_no_next_hop(&mut self, now: Now, from: NodeId, request: &Request) {
        if request.exact {
            self.fail(from, request, Failure::Unreachable);
        } else {
            self.serve(now, from, request);
        }
    }

    fn fail(&mut self, to: NodeId, request: &Request, failure: Failure) {
        self.answer(to, request, None, &Reply::Failed(failure));
    }

    /// Picks the next hop: the target itself where it is linked, else the closest link not yet tried, never back.
    fn pick(&self, request: &Request, from: Option<NodeId>, tried: &[NodeId]) -> Option<NodeId> {
        let target = NodeId::from_bytes(request.target.0);
        let excluded = |node: NodeId| node == request.origin || Some(node) == from || tried.contains(&node);
        if request.exact && self.table.links().contains_key(&target) && !excluded(target) {
            return Some(target);
        }
        // Our own request may begin with a step away from the target; from then on every step comes closer.
        self.table.next_hop(request.target, from.is_none(), excluded)
    }

    fn pass_on(&mut self, now: Now, key: RelayKey, next: NodeId) {
        let Some(relay) = self.relays.get_mut(&key) else { return };
        relay.tried.push(next);
        relay.sent = now.instant;
        relay.acknowledged = false;
        let tries = relay.tried.len();
        let bytes = Message::Request(relay.request.clone()).encode();
        let patience = self.table.links().get(&next).map_or(HOP_TIMEOUT.1, |link| link.soft_timeout());
        self.timers.set(now.instant + patience, Timer::Hop { origin: key.0, request: key.1, tries });
        self.send_bytes(next, bytes);
    }

    fn measured(&mut self, node: NodeId, rtt: Option<Duration>) {
        if let (Some(rtt), Some(link)) = (rtt, self.table.link_mut(node)) {
            link.measured(rtt);
        }
    }
}
