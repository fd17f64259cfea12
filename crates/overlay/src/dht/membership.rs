//! Being part of the overlay: joining, keeping links to the closest nodes and some in every bucket, closing what is too much.

use std::collections::BTreeSet;
use std::time::Duration;

use meshtone_identity::NodeId;

use super::config::{CLIENT_LINKS, MAX_NODES, PROBE, SIBLINGS};
use super::message::Message;
use super::operation::Purpose;
use super::table::{GRACE, VISIT_LASTS};
use super::{Descriptor, Dht, Event, Now, Position, Timer};

/// Changes of the links are gathered for this long before something is done about them.
const LINKS_DELAY: Duration = Duration::from_millis(50);

/// How long a node that serves no more waits with what it holds, for more than its first link.
const DRAIN_DELAY: Duration = Duration::from_secs(2);

/// Pause between the first refreshes, while the neighbourhood is still being found.
const JOIN_PACE: Duration = Duration::from_secs(1);

/// How many refreshes follow the first link at that pace.
const JOIN_REFRESHES: u32 = 3;

/// Most buckets that one refresh looks into.
const REFRESHED_BUCKETS: usize = 8;

impl Dht {
    pub(super) fn on_link_up(&mut self, now: Now, peer: Descriptor) {
        let node = peer.node;
        if node == self.me.node {
            return;
        }
        let first = self.table.links().is_empty();
        self.note_meeting(now, node);
        self.table.link_up(now.instant, peer);
        self.ask_for_introductions(now, node);
        if self.table.links().get(&node).is_some_and(|link| link.visited) {
            self.send(node, &Message::Visit);
            self.timers.set_by(now.instant + VISIT_LASTS, Timer::Links);
            return self.on_visit_linked(now, node);
        }
        self.churn.on_gain(now.instant);
        self.end_quiet(now);
        if first {
            self.refreshes = 0;
            self.newly_linked = true;
            self.timers.set_by(now.instant + LINKS_DELAY, Timer::Refresh);
        }
        if first && !self.role.serves() && self.storage.resources().next().is_some() {
            // What this node held when it still served has to go to those who do.
            self.timers.set_by(now.instant + DRAIN_DELAY, Timer::Repair);
        }
        // Whoever is new learns at once of nodes near it, in case this link cannot last.
        self.tell_nodes_near(node);
        self.ask_clock(now, node);
        self.hand_to_newcomer(now, node);
        self.on_visit_linked(now, node);
        self.mend_links_soon(now);
    }

    /// Tells a newcomer of nodes near it.
    fn tell_nodes_near(&mut self, node: NodeId) {
        let near = self.table.closest(node.into(), MAX_NODES + 1).into_iter().filter(|peer| peer.node != node);
        let near: Vec<Descriptor> = near.take(MAX_NODES).collect();
        if !near.is_empty() {
            self.send(node, &Message::Neighbours(near));
        }
    }

    /// A node that only uses the overlay: nothing is routed to it, stored there, or told of it.
    pub(super) fn on_client_up(&mut self, now: Now, peer: Descriptor) {
        let node = peer.node;
        self.table.client_up(now.instant, peer);
        if self.role.serves() {
            // It learns at once where else to go, in case there is no place for it here.
            self.tell_nodes_near(node);
        }
        self.mend_links_soon(now);
    }

    pub(super) fn on_link_down(&mut self, now: Now, node: NodeId) {
        self.table.client_down(now.instant, node);
        let turned_away = self.table.links().get(&node).is_some_and(|link| link.turned_away || link.visited);
        if !self.table.link_down(now.instant, node) {
            return;
        }
        if !turned_away {
            self.churn.on_loss(now.instant, self.table.links().len());
            self.end_quiet(now);
        }
        self.forget_clock(node);
        self.reroute(now, node);
        self.replace_replica(now, node);
        self.replace_teller(now, node);
        self.mend_links_soon(now);
    }

    /// A peer has opened its link to ask something, and for nothing else.
    pub(super) fn on_visitor(&mut self, now: Now, node: NodeId) {
        self.table.visited_by(node);
        self.forget_clock(node);
        self.timers.set_by(now.instant + VISIT_LASTS, Timer::Links);
    }

    /// A peer tells its siblings: nodes worth knowing, and whether it needs the link with us.
    pub(super) fn on_neighbours(&mut self, now: Now, from: NodeId, nodes: &[Descriptor]) {
        let needs_us = nodes.iter().any(|node| node.node == self.me.node);
        if let Some(link) = self.table.link_mut(from) {
            link.needs_us = needs_us;
        }
        for node in nodes {
            if self.table.learn(node) {
                self.mend_links_soon(now);
            }
        }
    }

    /// Looks at the links again shortly.
    pub(super) fn mend_links_soon(&mut self, now: Now) {
        self.timers.set_by(now.instant + LINKS_DELAY, Timer::Links);
    }

    /// Dials whom it wants, closes what is too much, tells new siblings.
    pub(super) fn on_links_due(&mut self, now: Now) {
        for peer in self.table.wanted(now.instant, &self.config, self.role.serves()) {
            self.emit(Event::Dial { peer });
        }
        for node in self.table.surplus(now.instant, &self.config) {
            self.table.turn_away(node);
            self.emit(Event::Unlink { node });
        }
        for node in self.table.surplus_clients(now.instant, &self.config) {
            self.emit(Event::Unlink { node });
        }
        let (links, clients) = (self.table.links().len(), self.table.clients().len());
        if links > self.config.max_links || clients > self.config.max_clients {
            self.timers.set_by(now.instant + GRACE, Timer::Links);
        }
        if self.table.visits() > 0 {
            self.timers.set_by(now.instant + VISIT_LASTS, Timer::Links);
        }
        if *self.table.siblings() != self.told {
            self.tell_siblings();
        }
        if let Some(at) = self.table.next_dial(now.instant) {
            self.timers.set_by(at.max(now.instant + LINKS_DELAY), Timer::Links);
        }
    }

    /// Dials one of the nodes that were lost: a partition may have ended.
    pub(super) fn on_probe_due(&mut self, now: Now) {
        self.set_jittered(now.instant, PROBE, Timer::Probe);
        if !self.role.serves() && self.table.lasting().count() >= CLIENT_LINKS {
            return;
        }
        let choice = self.randomness.next_u64();
        if let Some(peer) = self.table.lost(now.instant, choice) {
            self.emit(Event::Dial { peer });
        }
    }

    /// Looks for closer nodes, and for nodes in buckets that have too few.
    pub(super) fn on_refresh_due(&mut self, now: Now) {
        self.refreshes = self.refreshes.saturating_add(1);
        let period = if self.refreshes <= JOIN_REFRESHES { JOIN_PACE } else { self.tuned(now, self.config.refresh) };
        self.set_jittered(now.instant, period, Timer::Refresh);
        if self.table.links().is_empty() {
            return;
        }
        let own = Purpose::Refresh { own: true };
        self.start(now, self.position, SIBLINGS, own, false);
        for bucket in self.table.sparse_buckets(&self.config).into_iter().take(REFRESHED_BUCKETS) {
            let mut noise = [0; 32];
            for chunk in noise.chunks_mut(8) {
                chunk.copy_from_slice(&self.randomness.next_u64().to_be_bytes());
            }
            let place = self.position.in_bucket(bucket, noise);
            self.start(now, place, SIBLINGS, Purpose::Refresh { own: false }, false);
        }
        self.tell_siblings();
        self.ask_clocks(now);
    }

    /// A refresh has ended; the nodes it found are known by now.
    pub(super) fn on_refreshed(&mut self, now: Now, own: bool, closest: &[Descriptor]) {
        if own && !closest.is_empty() && !self.joined {
            self.joined = true;
            self.emit(Event::Joined);
        }
        // What was published before there was anybody to store it has to get to its place now.
        if own && !closest.is_empty() && std::mem::take(&mut self.newly_linked) {
            self.publish_all_soon(now);
            self.listen_anew(now);
        }
        self.mend_links_soon(now);
    }

    /// Tells siblings, and those who no longer are, whom this node counts as such.
    fn tell_siblings(&mut self) {
        if !self.role.serves() {
            return;
        }
        let siblings = self.table.siblings().clone();
        let links = self.table.links();
        let mut nodes: Vec<Descriptor> =
            siblings.iter().filter_map(|node| links.get(node)).map(|link| link.descriptor.clone()).collect();
        nodes.sort_by_key(|node| self.position.distance(Position::from(node.node)));
        let message = Message::Neighbours(nodes).encode();
        let hearers: BTreeSet<NodeId> =
            siblings.union(&self.told).copied().filter(|node| links.contains_key(node)).collect();
        for node in hearers {
            self.send_bytes(node, message.clone());
        }
        self.told = siblings;
    }
}
