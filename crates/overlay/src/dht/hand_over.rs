//! Keeping records where they belong: handing them over when neighbours come and go, and a slow repair that finds what was missed.
//!
//! A record is first offered by its digest; what the other side lacks or has older is then handed to it, and what it has newer comes
//! back. A node that no longer belongs to the replicas forgets a record only once all of them have confirmed that they hold it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use meshtone_identity::NodeId;

use super::body::{Ask, Handed, MAX_OFFERS, MAX_VALUES, Offer, OfferState, Reply};
use super::config::{MAX_BATCH, MAX_HAND_OVERS};
use super::message::RefusalReason;
use super::operation::{Pending, PendingPurpose, Purpose};
use super::storage::size;
use super::{Descriptor, Dht, Now, Position, Timer};
use crate::record::ResourceId;

/// Pause between two places of the repair: a node that holds thousands must not be busy with nothing else.
const REPAIR_PACE: Duration = Duration::from_millis(50);

/// Resources that one part of a walk looks at: well below a millisecond of work.
const WALKED: usize = 256;

/// Pause between two parts of a walk.
const WALK_PACE: Duration = Duration::from_millis(5);

/// Changes of the links that are looked into one by one; more than that is a storm, and the repair does it in one go.
const MAX_WALKS: usize = 64;

/// A change of the links.
#[derive(Debug, Clone, Copy)]
enum Change {
    Come(NodeId),
    Gone(NodeId),
}

/// What is to be handed over, and what may be forgotten.
#[derive(Debug, Default)]
pub(super) struct HandOver {
    /// Resources to be offered, by node.
    offers: BTreeMap<NodeId, BTreeSet<ResourceId>>,
    /// Changes of the links that still move something, and how far what is held was looked through for each.
    walks: VecDeque<(Change, Option<ResourceId>)>,
    /// Places whose replicas the repair still has to look up.
    places: VecDeque<ResourceId>,
    /// Values that belong elsewhere, and which replicas have yet to confirm that they hold them.
    leaving: BTreeMap<Offer, BTreeSet<NodeId>>,
}

impl HandOver {
    /// Whether nothing is left to be offered or confirmed.
    pub(super) fn is_done(&self) -> bool {
        self.offers.is_empty() && self.places.is_empty() && self.leaving.is_empty()
    }
}

impl Dht {
    /// A node has come: it is offered what it should hold.
    pub(super) fn hand_to_newcomer(&mut self, now: Now, node: NodeId) {
        self.walk(now, Change::Come(node));
    }

    /// A node has gone: whoever takes its place as a replica is offered what it held.
    pub(super) fn replace_replica(&mut self, now: Now, gone: NodeId) {
        self.walk(now, Change::Gone(gone));
    }

    /// Looks through what is held or listened for, a part at a time, for what a change of the links moves.
    fn walk(&mut self, now: Now, change: Change) {
        if self.looked_after(None).is_empty() {
            return;
        }
        if self.hand_over.walks.len() >= MAX_WALKS {
            // So much has changed that everything has to be compared anyway.
            self.hand_over.walks.clear();
            self.timers.set_by(now.instant + REPAIR_PACE, Timer::Repair);
            return;
        }
        self.hand_over.walks.push_back((change, None));
        self.on_walk_due(now);
    }

    /// The walk goes on.
    pub(super) fn on_walk_due(&mut self, now: Now) {
        let Some((change, after)) = self.hand_over.walks.pop_front() else { return };
        let part = self.looked_after(after);
        for resource in &part {
            match change {
                Change::Come(node) => self.hand_if_newcomers(now, node, *resource),
                Change::Gone(node) => self.hand_if_replica_was(now, node, *resource),
            }
        }
        if part.len() == WALKED {
            self.hand_over.walks.push_back((change, part.last().copied()));
        }
        if !self.hand_over.walks.is_empty() {
            self.timers.set_by(now.instant + WALK_PACE, Timer::Walk);
        }
    }

    /// Returns the first resources after this one at which something is held or somebody listens, in their order.
    fn looked_after(&self, after: Option<ResourceId>) -> Vec<ResourceId> {
        let held = self.storage.resources_from(after).take(WALKED);
        let both: BTreeSet<ResourceId> = held.chain(self.listeners.resources_from(after).take(WALKED)).collect();
        both.into_iter().take(WALKED).collect()
    }

    fn hand_if_newcomers(&mut self, now: Now, node: NodeId, resource: ResourceId) {
        if self.table.rank(resource.into(), node.into()) < self.config.replicas {
            self.tell_moved(now, resource);
            if self.belongs_here(resource) {
                self.offer_soon(now, node, resource);
            }
        }
    }

    fn hand_if_replica_was(&mut self, now: Now, gone: NodeId, resource: ResourceId) {
        let place = Position::from(resource);
        let rank = self.table.rank(place, gone.into())
            + usize::from(place.distance(self.position) < place.distance(gone.into()));
        if rank < self.config.replicas {
            self.tell_moved(now, resource);
        }
        if rank < self.config.replicas && self.belongs_here(resource) {
            // This node may be the last of the replicas that are left, or the first of those that are not.
            if let Some(last) = self.replicas_of(place).last().copied() {
                self.offer_soon(now, last, resource);
            }
        }
    }

    /// It is time to offer what has gathered.
    pub(super) fn on_hand_over_due(&mut self, now: Now) {
        // Who is silent keeps nobody else waiting.
        let aside = |pending: &&Pending| match pending.purpose {
            PendingPurpose::Offer(..) | PendingPurpose::Hand(..) => !pending.slow,
            PendingPurpose::Path(_)
            | PendingPurpose::Node(..)
            | PendingPurpose::Visit(..)
            | PendingPurpose::Clock(_)
            | PendingPurpose::Listen(..)
            | PendingPurpose::Notice(..) => false,
        };
        let under_way = self.pending.values().filter(aside).count();
        let mut room = MAX_HAND_OVERS.saturating_sub(under_way);
        while let Some((node, resources)) = self.hand_over.offers.pop_first() {
            if room == 0 {
                self.hand_over.offers.insert(node, resources);
                self.timers.set_by(now.instant + self.config.hand_over_delay, Timer::HandOver);
                break;
            }
            room -= 1;
            let at_all = resources.into_iter().flat_map(|resource| self.offers_at(resource));
            let batch: Vec<Offer> =
                at_all.filter(|offer| !self.refusals.holds(now.instant, node, &offer.digest)).collect();
            for chunk in batch.chunks(MAX_OFFERS) {
                let body = Ask::Offer(chunk.to_vec()).encode();
                self.send_aside(now, node, PendingPurpose::Offer(node, chunk.to_vec()), body);
            }
        }
    }

    /// A node has told what it has of an offer.
    pub(super) fn on_offer_answered(&mut self, now: Now, node: NodeId, offers: &[Offer], reply: Reply) {
        let Reply::Offered { states, newer } = reply else { return };
        let mut wanted = Vec::new();
        for (offer, state) in offers.iter().zip(states) {
            match state {
                OfferState::Same | OfferState::Newer => self.confirmed(node, offer),
                OfferState::Wanted => {
                    if let Some(held) = self.storage.get(offer.resource, &(offer.kind, offer.key.clone())) {
                        wanted.push(held.handed(now.instant));
                    }
                }
                OfferState::Refused => {}
            }
        }
        // Who serves no more has no use for what is newer elsewhere.
        let serves = self.role.serves();
        for handed in newer.into_iter().filter(|_| serves) {
            // Refused when it is not right; then ours stands.
            let _ = self.take(now, handed);
        }
        self.hand_values(now, node, wanted);
    }

    /// Hands values to a node, as many in a message as it takes.
    pub(super) fn hand_values(&mut self, now: Now, node: NodeId, values: Vec<Handed>) {
        let mut batch = Vec::new();
        let mut room = MAX_BATCH;
        for handed in values {
            if self.refusals.holds(now.instant, node, &handed.record.value.digest()) {
                continue;
            }
            let size = size(&handed.record);
            if size > room || batch.len() >= MAX_VALUES {
                self.send_batch(now, node, std::mem::take(&mut batch));
                room = MAX_BATCH;
            }
            room = room.saturating_sub(size);
            batch.push(handed);
        }
        self.send_batch(now, node, batch);
    }

    /// A node has taken what was handed to it, or not.
    pub(super) fn on_handed(&mut self, now: Now, node: NodeId, handed: &[Offer], reply: &Reply) {
        let Reply::Stored(results) = reply else { return };
        for (offer, result) in handed.iter().zip(results) {
            match result {
                Ok(()) => self.confirmed(node, offer),
                Err(refusal) if refusal.reason == RefusalReason::Full => {
                    self.refusals.note(now.instant, node, offer.digest);
                }
                Err(_) => {}
            }
        }
    }

    /// The repair begins: everything is offered to the neighbours who should hold it too. Where this node is the closest, or has no
    /// business, the replicas are looked up, since they need not all be our neighbours.
    pub(super) fn on_repair_due(&mut self, now: Now) {
        self.listeners.expire(now.instant);
        let period = self.tuned(now, self.config.repair);
        self.set_jittered(now.instant, period, Timer::Repair);
        let resources: Vec<ResourceId> = self.storage.resources().collect();
        self.hand_over.leaving.clear();
        self.hand_over.places.clear();
        for resource in resources {
            let place = Position::from(resource);
            let belongs_here = self.belongs_here(resource);
            if belongs_here {
                for node in self.replicas_of(place) {
                    self.offer_soon(now, node, resource);
                }
            }
            if !belongs_here || self.table.rank(place, self.position) == 0 {
                self.hand_over.places.push_back(resource);
            }
        }
        self.timers.set_by(now.instant + REPAIR_PACE, Timer::RepairNext);
        self.shed_links();
    }

    /// The repair looks up the replicas of the next place.
    pub(super) fn on_repair_next_due(&mut self, now: Now) {
        let Some(resource) = self.hand_over.places.pop_front() else { return };
        if self.storage.at(resource).next().is_some() {
            // One more than there should be, where this node may be one of them and is about to leave.
            let count = self.config.replicas + usize::from(self.role.is_leaving());
            self.start(now, resource.into(), count, Purpose::Repair, false);
        }
        if !self.hand_over.places.is_empty() {
            self.timers.set_by(now.instant + REPAIR_PACE, Timer::RepairNext);
        }
    }

    /// The replicas of a place are known: they are offered what is held here.
    pub(super) fn on_place_known(&mut self, now: Now, place: Position, closest: &[Descriptor]) {
        let resource = ResourceId::from_bytes(place.0);
        for peer in closest {
            self.offer_soon(now, peer.node, resource);
        }
        // Others still count a node that leaves among them.
        let me = self.me.node;
        let others = closest.iter().map(|peer| peer.node).filter(|node| self.role.stays() || *node != me);
        let replicas: BTreeSet<NodeId> = others.take(self.config.replicas).collect();
        // Who serves no more leaves what it holds to as many as there are.
        let enough = if self.role.stays() { self.config.replicas } else { 1 };
        if replicas.len() >= enough && !replicas.contains(&self.me.node) && !self.belongs_here(resource) {
            for offer in self.offers_at(resource) {
                self.hand_over.leaving.insert(offer, replicas.clone());
            }
        }
    }

    /// Whether this node should hold what belongs to a place, as far as it sees; beyond its neighbourhood it does not see enough to
    /// say so. One more than the replicas may, so that small disagreements do not move a record to and fro.
    fn belongs_here(&self, resource: ResourceId) -> bool {
        let place = Position::from(resource);
        self.role.stays()
            && self.table.rank(place, self.position) <= self.config.replicas
            && self.table.in_neighbourhood(place)
    }

    fn offer_soon(&mut self, now: Now, node: NodeId, resource: ResourceId) {
        if node == self.me.node {
            return;
        }
        self.hand_over.offers.entry(node).or_default().insert(resource);
        let delay = self.config.hand_over_delay;
        let jitter = Duration::from_millis(self.randomness.next_u64() % 100);
        self.timers.set_by(now.instant + delay + jitter, Timer::HandOver);
    }

    fn send_batch(&mut self, now: Now, node: NodeId, batch: Vec<Handed>) {
        if batch.is_empty() {
            return;
        }
        let offers = batch.iter().map(|handed| Offer::of(&handed.record.value)).collect();
        let body = Ask::Store(batch).encode();
        self.send_aside(now, node, PendingPurpose::Hand(node, offers), body);
    }

    /// Sends a request that belongs to no command; should it get lost, the repair comes round again.
    fn send_aside(&mut self, now: Now, node: NodeId, purpose: PendingPurpose, body: Vec<u8>) {
        let number = self.new_pending(now, purpose);
        if !self.send_request(now, number, node.into(), true, body, None) {
            self.pending.remove(&number);
        }
    }

    fn offers_at(&self, resource: ResourceId) -> Vec<Offer> {
        self.storage.at(resource).map(|(_, held)| held.offer(resource)).collect()
    }

    /// A node holds a value now. What belongs elsewhere is forgotten once all its replicas do, unless it has changed meanwhile.
    fn confirmed(&mut self, node: NodeId, offer: &Offer) {
        let Some(missing) = self.hand_over.leaving.get_mut(offer) else { return };
        missing.remove(&node);
        if missing.is_empty() {
            self.hand_over.leaving.remove(offer);
            // Who leaves is still asked for it until its neighbours know.
            if !self.role.is_leaving() {
                self.storage.forget(offer);
            }
        }
    }

    /// Returns the nodes that should hold what belongs to a place, as far as this node sees, itself included, closest first.
    fn replicas_of(&self, place: Position) -> Vec<NodeId> {
        let replicas = self.config.replicas;
        let mut nodes: Vec<NodeId> = self.table.closest(place, replicas).into_iter().map(|peer| peer.node).collect();
        let rank = nodes.iter().filter(|node| place.distance((**node).into()) < place.distance(self.position)).count();
        nodes.insert(rank, self.me.node);
        nodes.truncate(replicas);
        nodes
    }
}
