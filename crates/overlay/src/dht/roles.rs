//! Changing the role while running: counting who serves, beginning to serve, handing over and stopping, and what neighbours say of theirs.
//!
//! The role is said in the hello of a link, and anew over it when it changes; links to nodes of a release that does not understand
//! that are made anew by the runtime. Whoever stops hands over first, as far as that takes minutes and not more, and goes on with what
//! is left as an ordinary node.

use std::time::Duration;

use meshtone_identity::NodeId;

use super::config::{CLIENT_LINKS, SIBLINGS};
use super::message::Message;
use super::operation::{Operation, Purpose, State};
use super::presence::NOTED;
use super::role::Step;
use super::{Dht, Event, Now, Position, RoleReason, Timer};
use crate::bucket::Rate;

/// How often a neighbour may change its role: as often as one that starts, finds out, and is told otherwise. Each time what is held
/// is looked through; whoever changes more often is not linked with.
const CHANGES: Rate = (4, Duration::from_secs(60));

/// How long after its first links a node that has stopped to serve waits with what it still holds.
const DRAIN_DELAY: Duration = Duration::from_secs(2);

/// Changes of the links are gathered for this long before the nodes around are looked for.
const COUNT_DELAY: Duration = Duration::from_millis(50);

impl Dht {
    /// Whether this node stores and forwards for others now.
    pub fn serves(&self) -> bool {
        self.role.serves()
    }

    /// Returns why this node serves, or does not.
    pub fn role_reason(&self) -> RoleReason {
        self.role.reason()
    }

    /// Returns about how many others serve, as far as that was looked for.
    pub fn serving_others(&self) -> Option<u64> {
        self.role.others()
    }

    /// Returns which part of the last days this node was there, in hundredths, and of how long a time; none in its first day.
    pub fn presence(&self, unix_ms: u64) -> Option<(u64, Duration)> {
        self.presence.share(unix_ms)
    }

    /// Takes note that others are known, who are about to be dialled. A node that decides on its role by itself, and does not hold
    /// anything it was given before, uses the overlay through them until it knows whether it is needed. To be called before there is
    /// any link.
    pub fn await_others(&mut self, now: Now) {
        if self.storage.resources().next().is_none() {
            self.role.start(now.instant);
            self.look_at_role(now);
        }
    }

    /// Takes note that this machine stood still for so long, as while it slept.
    pub fn handle_absence(&mut self, now: Now, away: Duration) {
        self.role.note_absence(away);
        self.presence.note_absence(now.unix_ms, away);
        self.role.note_habit(self.presence.is_often_away(now.unix_ms));
        self.listen_anew(self.corrected(now));
        self.look_at_role(self.corrected(now));
    }

    /// It is noted that this node is there, for the next run to know.
    pub(super) fn on_presence_due(&mut self, now: Now) {
        self.timers.set(now.instant + NOTED, Timer::Presence);
        let now_ms = self.uncorrected_ms(now);
        self.presence.note(now_ms);
        self.role.note_habit(self.presence.is_often_away(now_ms));
        self.look_at_role(now);
    }

    /// Looks at the role again, and does what follows.
    pub(super) fn look_at_role(&mut self, now: Now) {
        if !self.role.decides() {
            return;
        }
        let replicas = u64::try_from(self.config.replicas).unwrap_or(u64::MAX);
        let (links, chance) = (self.table.lasting().count(), self.randomness.next_u64());
        let step = match self.role.look(now.instant, links, replicas, chance) {
            None if self.role.is_leaving() && self.has_handed_over() => Some(self.role.step_down(now.instant, chance)),
            step => step,
        };
        match step {
            Some(Step::Serve) => self.begin_to_serve(now),
            // What is held is offered to those who hold it next.
            Some(Step::Leave) => self.on_repair_due(now),
            Some(Step::Stop) => self.stop_to_serve(now),
            None => {}
        }
        if let Some(at) = self.role.next_look(now.instant) {
            self.timers.set_by(at, Timer::Role);
        }
    }

    /// Looks soon for the nodes around and elsewhere, and how densely they lie.
    pub(super) fn count_soon(&mut self, now: Now) {
        self.timers.set_by(now.instant + COUNT_DELAY, Timer::Refresh);
    }

    /// A look-up has found the nodes around a place.
    pub(super) fn note_density(&mut self, now: Now, operation: &Operation) {
        let candidates = operation.shortlist.values().filter(|candidate| candidate.descriptor.node != self.me.node);
        let (there, others): (Vec<_>, Vec<_>) = candidates.partition(|candidate| candidate.state.is_there());
        // Where time was over before all were asked, few say nothing.
        let cut_short = there.len() < SIBLINGS && others.iter().any(|candidate| candidate.state == State::New);
        if self.role.decides() && !there.is_empty() && !cut_short {
            let around: Vec<NodeId> = there.iter().take(SIBLINGS).map(|candidate| candidate.descriptor.node).collect();
            self.role.note_estimate(estimate(operation.place, &around));
            self.look_at_role(now);
        }
    }

    fn begin_to_serve(&mut self, now: Now) {
        self.tell_role(now, true);
        self.shedding = false;
        self.refreshes = 0;
        self.told.clear();
        self.count_soon(now);
        self.mend_links_soon(now);
    }

    fn stop_to_serve(&mut self, now: Now) {
        self.tell_role(now, false);
        self.shedding = true;
        self.told.clear();
        // What is still here has to go, and what went is not needed here.
        self.timers.set_by(now.instant + DRAIN_DELAY, Timer::Repair);
    }

    fn tell_role(&mut self, now: Now, serves: bool) {
        self.role_changed = true;
        let linked: Vec<NodeId> = self.table.links().keys().copied().chain(self.table.clients()).collect();
        for node in linked {
            self.send(node, &Message::Role { serves });
        }
        self.emit(Event::Role { serves });
        self.listen_anew(now);
    }

    /// The hello of a new link may have been written before the role changed.
    pub(super) fn confirm_role(&mut self, node: NodeId) {
        if self.role_changed {
            self.send(node, &Message::Role { serves: self.role.serves() });
        }
    }

    /// A neighbour tells its role.
    pub(super) fn on_role(&mut self, now: Now, from: NodeId, serves: bool) {
        if serves != self.table.is_client(from) {
            // Its hello may have said so before it was true, and what it was offered then it has refused.
            let early = serves && self.table.lasting().any(|(node, _)| *node == from);
            if early && self.table.rare(from).is_some_and(|rare| rare.roles.take(now.instant, 1, CHANGES)) {
                self.hand_to_newcomer(now, from);
            }
            return;
        }
        if serves && self.restricted.contains(&from) {
            return self.emit(Event::Unlink { node: from });
        }
        let Some(peer) = self.table.linked(from) else { return };
        let allowed = self.table.rare(from).is_some_and(|rare| rare.roles.take(now.instant, 1, CHANGES));
        if !allowed {
            return self.emit(Event::Unlink { node: from });
        }
        let allowance = self.table.allowance(from).map(std::mem::take);
        self.on_link_down(now, from);
        if serves {
            self.on_link_up(now, peer);
        } else {
            self.on_client_up(now, peer);
        }
        if let (Some(kept), Some(allowance)) = (allowance, self.table.allowance(from)) {
            *allowance = kept;
        }
    }

    /// When everything a node held that serves no more has gone, it keeps the links that it needs and closes the others.
    pub(super) fn shed_links(&mut self) {
        if !self.shedding || self.role.serves() || self.storage.resources().next().is_some() {
            return;
        }
        self.shedding = false;
        let mut links: Vec<(u32, NodeId)> =
            self.table.links().iter().map(|(node, link)| (link.farness(), *node)).collect();
        links.sort_unstable();
        for (_, node) in links.into_iter().skip(CLIENT_LINKS) {
            self.table.turn_away(node);
            self.emit(Event::Unlink { node });
        }
    }

    /// Whether whoever should hold what this node holds has confirmed that it does.
    fn has_handed_over(&self) -> bool {
        let looking = self.operations.values().any(|operation| matches!(operation.purpose, Purpose::Repair));
        !looking && self.hand_over.is_done()
    }
}

/// Estimates how many nodes there are besides this one, of those closest to a place, closest first: where they are fewer than were
/// asked for, there are no more; else all lie as densely as these.
fn estimate(place: Position, around: &[NodeId]) -> u64 {
    let count = u64::try_from(around.len()).unwrap_or(u64::MAX);
    match around.get(SIBLINGS - 1) {
        None => count,
        Some(farthest) => {
            let span = u128::from(place.distance((*farthest).into()).leading()) + 1;
            // Of k points the k-th lies as far as k-1 are expected to (the k-th itself is no accident).
            let within = u128::try_from(SIBLINGS - 1).unwrap_or_default();
            u64::try_from((within << 64) / span).unwrap_or(u64::MAX).max(count)
        }
    }
}
