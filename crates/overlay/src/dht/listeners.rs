//! Those who want to be told when something changes at a place of which this node is a replica (`listen`), and telling them.
//!
//! They are told what has changed, not the values: a message of at most two kilobytes, one for each listener and change; and when other
//! nodes than before are replicas, so that they ask those. Requests bear
//! no proof of who asks, so anybody may ask in another's name. Whoever is told what he does not listen to says so, and is told no more: a
//! false question costs its victim one small message, as it has cost the one who asked it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::body::{Ask, MAX_CHANGES, Offer, Reply};
use super::listen::Place;
use super::operation::PendingPurpose;
use super::{Dht, Now, Timer};
use crate::bucket::{Bucket, Rate};
use crate::record::{Kind, ResourceId};

/// For how many seconds a replica tells of changes before it has to be asked again: those who are gone cost little until then.
pub(super) const LIFETIME: u32 = 600;

/// Listeners of one place. There more are told no more, and read now and then.
const MAX_LISTENERS_OF_PLACE: usize = 64;

/// Listeners in all, about 3 MiB of them.
const MAX_LISTENERS: usize = 16_384;

/// Changes of one place are gathered for this long: a dictionary of several home nodes is often written by all of them.
const GATHER: Duration = Duration::from_millis(50);

/// How often listeners of one place are told: some changes at once, then one message a second, of all there were meanwhile.
const TOLD: Rate = (4, Duration::from_secs(1));

/// Places whose changes wait to be told. Beyond that listeners find out when they ask again.
const MAX_CHANGED: usize = 4096;

/// Messages to listeners whose answer is awaited; beyond that the same holds.
const MAX_NOTICES: usize = 2048;

/// All listeners of this node.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    places: BTreeMap<Place, Audience>,
    /// How many were brought by each link.
    of_link: BTreeMap<NodeId, usize>,
    /// What changed, for the ordinary nodes that use the overlay through this one and for the others.
    changed: BTreeMap<(Place, bool), News>,
    asked: u64,
}

/// What there is to tell of a place.
#[derive(Debug, Default)]
struct News {
    changed: BTreeMap<Vec<u8>, Offer>,
    /// Others than before are its replicas.
    moved: bool,
}

/// The listeners of one place.
#[derive(Debug, Default)]
struct Audience {
    listeners: BTreeMap<NodeId, Listener>,
    told: Bucket,
}

#[derive(Debug)]
struct Listener {
    /// The link over which it asked.
    link: NodeId,
    until: Instant,
    /// Since when, in the order of asking.
    since: u64,
}

impl Listeners {
    /// Whether anybody listens at a place.
    pub(super) fn has_any(&self, place: Place) -> bool {
        self.places.contains_key(&place)
    }

    /// Returns the resources after this one at which anybody listens, in their order; some of them more than once.
    pub(super) fn resources_from(&self, after: Option<ResourceId>) -> impl Iterator<Item = ResourceId> {
        let begin = after.map_or(Bound::Unbounded, |after| Bound::Included((after, Kind::ALL[0])));
        let places = self.places.range((begin, Bound::Unbounded));
        places.map(|((resource, _), _)| *resource).filter(move |resource| Some(*resource) != after)
    }

    /// Returns how many listeners there are.
    pub(super) fn count(&self) -> usize {
        self.of_link.values().sum()
    }

    /// Takes in a listener that asked over a link. Where there is no room, the link that brought most loses one; false when
    /// that is this one.
    fn add(&mut self, now: Instant, place: Place, node: NodeId, link: NodeId) -> bool {
        let until = now + Duration::from_secs(LIFETIME.into());
        self.asked += 1;
        let here = self.places.get_mut(&place).map(|audience| &mut audience.listeners);
        if let Some(known) = here.and_then(|listeners| listeners.get_mut(&node)) {
            if link != node {
                known.until = until;
                return true;
            }
            // Asked over its own link it counts for that from now on.
            self.remove(place, node);
        }
        if self.count() >= MAX_LISTENERS {
            self.expire(now);
        }
        let of_place = self.places.get(&place).map_or(0, |audience| audience.listeners.len());
        if of_place >= MAX_LISTENERS_OF_PLACE && !self.make_room_at(place, link)
            || self.count() >= MAX_LISTENERS && !self.make_room(link)
        {
            return false;
        }
        let listener = Listener { link, until, since: self.asked };
        self.places.entry(place).or_default().listeners.insert(node, listener);
        *self.of_link.entry(link).or_default() += 1;
        true
    }

    fn make_room_at(&mut self, place: Place, link: NodeId) -> bool {
        let Some(audience) = self.places.get(&place) else { return true };
        let mut brought: BTreeMap<NodeId, usize> = BTreeMap::new();
        for listener in audience.listeners.values() {
            *brought.entry(listener.link).or_default() += 1;
        }
        let Some(most) = takes_most(&brought, link) else { return false };
        let of_most = audience.listeners.iter().filter(|(_, listener)| listener.link == most);
        let oldest = of_most.min_by_key(|(_, listener)| listener.since).map(|(node, _)| *node);
        oldest.is_some_and(|node| self.remove(place, node))
    }

    fn make_room(&mut self, link: NodeId) -> bool {
        let Some(most) = takes_most(&self.of_link, link) else { return false };
        let all = self.places.iter().flat_map(|(place, audience)| {
            audience.listeners.iter().map(move |(node, listener)| (*place, *node, listener))
        });
        let oldest = all.filter(|(.., listener)| listener.link == most).min_by_key(|(.., listener)| listener.since);
        oldest.map(|(place, node, _)| (place, node)).is_some_and(|(place, node)| self.remove(place, node))
    }

    fn remove(&mut self, place: Place, node: NodeId) -> bool {
        let Some(audience) = self.places.get_mut(&place) else { return false };
        let Some(listener) = audience.listeners.remove(&node) else { return false };
        if audience.listeners.is_empty() {
            self.places.remove(&place);
        }
        if let Some(count) = self.of_link.get_mut(&listener.link) {
            *count -= 1;
            if *count == 0 {
                self.of_link.remove(&listener.link);
            }
        }
        true
    }

    /// Forgets those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let all = self.places.iter().flat_map(|(place, audience)| {
            audience.listeners.iter().map(move |(node, listener)| (*place, *node, listener.until))
        });
        let over: Vec<_> = all.filter(|(.., until)| *until <= now).collect();
        for (place, node, _) in over {
            self.remove(place, node);
        }
    }
}

/// Returns the link that has brought most, if that is more than this one would have with one more.
fn takes_most(brought: &BTreeMap<NodeId, usize>, link: NodeId) -> Option<NodeId> {
    let own = brought.get(&link).copied().unwrap_or_default();
    let (most, count) = brought.iter().max_by_key(|(_, count)| **count)?;
    (*count > own + 1).then_some(*most)
}

impl Dht {
    /// Returns how many listeners this node tells of changes.
    pub fn listeners(&self) -> usize {
        self.listeners.count()
    }

    /// A node asks to be told of changes; `from` is the link that brought the question.
    pub(super) fn reply_to_listener(&mut self, now: Now, from: NodeId, node: NodeId, place: Place) -> Reply {
        let (resource, kind) = place;
        let is_client = self.table.is_client(from) && from == node;
        let mine = self.role.serves() && (is_client || self.responsible(resource.into()));
        let has_room = mine && (!is_client || self.begin_to_listen(now, place));
        let promised = has_room && self.listeners.add(now.instant, place, node, from);
        let held = self.storage.at(resource).filter(|((of, _), _)| *of == kind).map(|(_, held)| held.offer(resource));
        Reply::Listening { promised, held: held.take(MAX_CHANGES).collect() }
    }

    /// Something has changed here.
    pub(super) fn on_change(&mut self, now: Now, resource: ResourceId, slot: &(Kind, Vec<u8>)) {
        let Some(offer) = self.storage.get(resource, slot).map(|held| held.offer(resource)) else { return };
        let place = (resource, slot.0);
        self.on_told(now, place, std::slice::from_ref(&offer));
        self.tell_later(now, place, false, vec![offer]);
    }

    /// Something is new, or said to be, to the ordinary nodes that this one listens for: they read themselves.
    pub(super) fn tell_clients(&mut self, now: Now, place: Place, news: Vec<Offer>) {
        self.tell_later(now, place, true, news);
    }

    fn tell_later(&mut self, now: Now, place: Place, clients: bool, news: Vec<Offer>) {
        if news.is_empty() {
            return;
        }
        let Some(waiting) = self.news_of(now, place, clients).map(|news| &mut news.changed) else { return };
        for offer in news {
            if waiting.len() < MAX_CHANGES || waiting.contains_key(&offer.key) {
                waiting.insert(offer.key.clone(), offer);
            }
        }
    }

    /// Others than before are the replicas of what belongs there. Ordinary nodes ask none of them themselves.
    pub(super) fn tell_moved(&mut self, now: Now, resource: ResourceId) {
        for kind in Kind::ALL {
            if let Some(news) = self.news_of(now, (resource, kind), false) {
                news.moved = true;
            }
        }
    }

    /// Returns what waits to be told of a place, if anybody listens there.
    fn news_of(&mut self, now: Now, place: Place, clients: bool) -> Option<&mut News> {
        let Listeners { places, changed, .. } = &mut self.listeners;
        let full = changed.len() >= MAX_CHANGED && !changed.contains_key(&(place, clients));
        if full || !places.contains_key(&place) {
            return None;
        }
        self.timers.set_by(now.instant + GATHER, Timer::Tell);
        Some(changed.entry((place, clients)).or_default())
    }

    /// Tells listeners what has changed.
    pub(super) fn on_tell_due(&mut self, now: Now) {
        let under_way = self.pending.values().filter(|pending| matches!(pending.purpose, PendingPurpose::Notice(..)));
        let mut room = MAX_NOTICES.saturating_sub(under_way.count());
        let changed = std::mem::take(&mut self.listeners.changed);
        for ((place, clients), news) in changed {
            let Some(audience) = self.listeners.places.get_mut(&place) else { continue };
            if !audience.told.take(now.instant, 1, TOLD) {
                self.listeners.changed.insert((place, clients), news);
                self.timers.set_by(now.instant + TOLD.1, Timer::Tell);
                continue;
            }
            let listeners = audience.listeners.iter().filter(|(_, listener)| listener.until > now.instant);
            let nodes: Vec<NodeId> =
                listeners.map(|(node, _)| *node).filter(|node| self.table.is_client(*node) == clients).collect();
            let moved = news.moved.then_some(Ask::Moved { resource: place.0, kind: place.1 });
            let changed = (!news.changed.is_empty()).then(|| Ask::Changed(news.changed.into_values().collect()));
            for ask in moved.into_iter().chain(changed) {
                let body = ask.encode();
                for node in nodes.iter().take(room) {
                    self.send_notice(now, place, *node, body.clone());
                }
                room = room.saturating_sub(nodes.len());
            }
        }
    }

    fn send_notice(&mut self, now: Now, place: Place, node: NodeId, body: Vec<u8>) {
        let number = self.new_pending(now, PendingPurpose::Notice(place, node));
        if !self.send_request(now, number, node.into(), true, body, Some(node)) {
            self.pending.remove(&number);
        }
    }

    /// A node that was told says whether it listens.
    pub(super) fn on_heard(&mut self, place: Place, node: NodeId, reply: &Reply) {
        if *reply == (Reply::Heard { wanted: false }) {
            self.listeners.remove(place, node);
        }
    }
}
