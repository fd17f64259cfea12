//! Listening: hearing of what changes at a place, soon and without asking again and again. RFC 6940 has nothing like it; OpenDHT has.
//!
//! A listener reads the place, and asks as many of its replicas as it reads from to tell it when what they hold changes
//! (`listeners`). Whoever is told of something new reads again: what is told is a hint, what is shown was read and verified like
//! everything else, so whoever tells lies causes a read, and not many of those. All of it is done again at half of the time
//! for which the replicas have promised, and soon when one of them is lost or tells that others are replicas now: so what was not told,
//! since a replica was new, dead or lied, is found by then. Where not all of them promise, as nodes of earlier releases cannot, the place is read every minute.
//!
//! An ordinary node, to which nothing can be routed, asks its neighbours, who listen in its place and tell it over the link there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::body::{Ask, MAX_CHANGES, Offer, Reply};
use super::config::MAX_VALUES_READ;
use super::listeners::LIFETIME;
use super::operation::{Operation, PendingPurpose, State};
use super::{Dht, DhtError, Entry, Event, Now, Timer};
use crate::record::value::Record;
use crate::record::{Kind, ResourceId};

/// Where values of one kind are: there a node writes one, and others listen.
pub(super) type Place = (ResourceId, Kind);

/// Places this node listens at for itself: a read of each every five minutes is three a second.
const MAX_LISTENED: usize = 1024;

/// The same with those for ordinary nodes that use the overlay through it.
const MAX_LISTENED_IN_ALL: usize = 4096;

/// How often a place is read where not all who were asked have promised to tell.
const POLL: Duration = Duration::from_secs(60);

/// How long several replicas that tell of one change are waited for.
const GATHER: Duration = Duration::from_millis(50);

/// Pause after a read that found nothing of what was told, or no other replicas, doubling up to the other: liars cause no more reads
/// than these.
const FALSE_ALARM: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

/// Pause after a read that failed, doubling up to [`POLL`].
const RETRY: Duration = Duration::from_secs(5);

/// After the loss of a replica, the place is read again within this time, not by all listeners at once.
const SPREAD_MS: u64 = 3000;

/// A place this node listens at.
#[derive(Debug)]
pub(super) struct Listening {
    /// Its name, where this node listens for itself and not only for others.
    name: Option<String>,
    /// The newest verified value of each key, removals included.
    known: BTreeMap<Vec<u8>, Record>,
    /// What was told last.
    told: Option<Vec<Entry>>,
    is_reading: bool,
    /// What the read under way was begun for.
    reads_for: BTreeMap<Vec<u8>, Offer>,
    /// When replicas are asked again.
    renew_at: Instant,
    /// What was said to be new since the last read began, by key; a read is due for it when there is any.
    prompts: BTreeMap<Vec<u8>, Offer>,
    /// When that read is due.
    prompted_at: Instant,
    /// When replicas are to be asked again since others are said to be replicas now, and whether the read under way is for that.
    moved_at: Option<Instant>,
    reads_moved: bool,
    /// When the first of the values known ends.
    expires_at: Option<Instant>,
    /// Of what is said to be new, and of what are said to be other replicas.
    alarms: Alarms,
    moves: Alarms,
    failures: u32,
    asked: BTreeSet<NodeId>,
    promised: BTreeSet<NodeId>,
}

/// How much to believe those who say that something is to be read.
#[derive(Debug)]
struct Alarms {
    /// Not before this is anything read because somebody says so.
    calm_until: Instant,
    in_vain: u32,
}

impl Alarms {
    fn new(now: Instant) -> Self {
        Self { calm_until: now, in_vain: 0 }
    }

    /// A read that somebody wanted is over.
    fn note(&mut self, now: Instant, in_vain: bool) {
        if in_vain {
            let pause = FALSE_ALARM.0.saturating_mul(1 << self.in_vain.min(8)).min(FALSE_ALARM.1);
            self.calm_until = now + pause;
            self.in_vain = self.in_vain.saturating_add(1);
        } else {
            *self = Self::new(now);
        }
    }
}

impl Listening {
    fn new(now: Instant) -> Self {
        Self {
            name: None,
            known: BTreeMap::new(),
            told: None,
            is_reading: false,
            reads_for: BTreeMap::new(),
            renew_at: now,
            prompts: BTreeMap::new(),
            prompted_at: now,
            moved_at: None,
            reads_moved: false,
            expires_at: None,
            alarms: Alarms::new(now),
            moves: Alarms::new(now),
            failures: 0,
            asked: BTreeSet::new(),
            promised: BTreeSet::new(),
        }
    }

    fn due(&self) -> Instant {
        let prompted_at = (!self.prompts.is_empty()).then_some(self.prompted_at);
        [prompted_at, self.moved_at, self.expires_at].into_iter().flatten().fold(self.renew_at, Instant::min)
    }

    fn is_news(&self, offer: &Offer) -> bool {
        self.known.get(&offer.key).is_none_or(|Record { value, .. }| {
            offer.storage_ms > value.storage_ms
                || offer.storage_ms == value.storage_ms && offer.digest != value.digest()
        })
    }

    /// Takes what was read. Returns what of it is new.
    fn merge<'a>(&mut self, now: Now, read: impl Iterator<Item = &'a Record>) -> Vec<Offer> {
        let mut news = Vec::new();
        for record in read {
            let value = &record.value;
            if self.known.get(&value.key).is_none_or(|known| value.supersedes(&known.value)) {
                news.push(Offer::of(value));
                self.known.insert(value.key.clone(), record.clone());
            }
        }
        while self.known.len() > MAX_VALUES_READ
            && let Some(oldest) = self.known.iter().min_by_key(|(_, record)| record.value.storage_ms)
        {
            let oldest = oldest.0.clone();
            self.known.remove(&oldest);
        }
        self.expire(now);
        news
    }

    /// Forgets what has ended. A removal is kept until then as well, or what it removed could be shown again.
    fn expire(&mut self, now: Now) {
        self.known.retain(|_, record| !record.value.remaining(now.unix_ms).is_zero());
        let shown = self.known.values().filter(|record| record.value.exists);
        self.expires_at = shown.map(|record| now.instant + record.value.remaining(now.unix_ms)).min();
    }
}

impl Dht {
    /// Listens at this name: what stands there, and each change of it, is told by [`Event::Changed`], until
    /// [`unlisten`](Self::unlisten).
    ///
    /// # Errors
    /// [`DhtError::Busy`] when this node listens at as many places as it may.
    pub fn listen(&mut self, now: Now, kind: Kind, name: &str) -> Result<(), DhtError> {
        let now = self.corrected(now);
        let place = (ResourceId::of_name(name), kind);
        let own = self.listening.values().filter(|listening| listening.name.is_some()).count();
        if own >= MAX_LISTENED || !self.begin_to_listen(now, place) {
            return Err(DhtError::Busy);
        }
        if let Some(listening) = self.listening.get_mut(&place) {
            listening.name = Some(name.to_owned());
            // Who asks now has been told nothing yet.
            listening.told = None;
        }
        self.listen_at(place, now.instant);
        Ok(())
    }

    /// Listens no more at this name. Replicas that tell something once more are told so.
    pub fn unlisten(&mut self, kind: Kind, name: &str) {
        let place = (ResourceId::of_name(name), kind);
        let for_others = self.listeners.has_any(place);
        if let Some(listening) = self.listening.get_mut(&place) {
            listening.name = None;
            if !for_others {
                self.listening.remove(&place);
            }
        }
    }

    /// Begins to listen for an ordinary node. False where there is no room.
    pub(super) fn begin_to_listen(&mut self, now: Now, place: Place) -> bool {
        if !self.listening.contains_key(&place) {
            if self.listening.len() >= MAX_LISTENED_IN_ALL {
                return false;
            }
            self.listening.insert(place, Listening::new(now.instant));
            self.listen_at(place, now.instant);
        }
        true
    }

    /// Everything is read and asked for anew: this node was away, is somewhere else, or serves no more.
    pub(super) fn listen_anew(&mut self, now: Now) {
        for place in self.listening.keys().copied().collect::<Vec<_>>() {
            self.renew_soon(now, place);
        }
    }

    /// A link is lost: whoever was at its end tells nothing any more.
    pub(super) fn replace_teller(&mut self, now: Now, gone: NodeId) {
        let told_by = self.listening.iter().filter(|(_, listening)| listening.promised.contains(&gone));
        for place in told_by.map(|(place, _)| *place).collect::<Vec<_>>() {
            self.renew_soon(now, place);
        }
    }

    fn renew_soon(&mut self, now: Now, place: Place) {
        let at = now.instant + Duration::from_millis(self.randomness.next_u64() % SPREAD_MS);
        if let Some(listening) = self.listening.get_mut(&place) {
            listening.renew_at = listening.renew_at.min(at);
            self.listen_at(place, at);
        }
    }

    fn listen_at(&mut self, (resource, kind): Place, at: Instant) {
        self.timers.set_by(at, Timer::Listen { resource, kind });
    }

    /// It may be time to read a place again.
    pub(super) fn on_listen_due(&mut self, now: Now, place: Place) {
        let wanted = self.listeners.has_any(place);
        let Some(listening) = self.listening.get_mut(&place) else { return };
        if listening.name.is_none() && !wanted {
            self.listening.remove(&place);
            return;
        }
        let due = listening.due();
        if listening.is_reading {
            return;
        }
        if due > now.instant {
            return self.listen_at(place, due);
        }
        listening.is_reading = true;
        listening.reads_for = std::mem::take(&mut listening.prompts);
        listening.reads_moved = listening.moved_at.take_if(|at| *at <= now.instant).is_some();
        if listening.reads_moved {
            listening.renew_at = now.instant;
        }
        self.read_to_listen(now, place);
    }

    /// Somebody says that there is something new. Returns whether this node listens there at all.
    pub(super) fn on_told(&mut self, now: Now, place: Place, offers: &[Offer]) -> bool {
        let Some(listening) = self.listening.get_mut(&place) else { return false };
        let news: Vec<Offer> = offers.iter().filter(|offer| listening.is_news(offer)).cloned().collect();
        if news.is_empty() {
            return true;
        }
        if listening.prompts.is_empty() {
            listening.prompted_at = listening.alarms.calm_until.max(now.instant + GATHER);
        }
        for offer in &news {
            if listening.prompts.len() < MAX_CHANGES || listening.prompts.contains_key(&offer.key) {
                listening.prompts.insert(offer.key.clone(), offer.clone());
            }
        }
        let due = listening.due();
        self.listen_at(place, due);
        self.tell_clients(now, place, news);
        true
    }

    /// One of the replicas says that there are others now. Returns whether this node listens there at all.
    pub(super) fn on_moved(&mut self, now: Now, place: Place) -> bool {
        let spread = Duration::from_millis(self.randomness.next_u64() % SPREAD_MS);
        let Some(listening) = self.listening.get_mut(&place) else { return false };
        let at = listening.moves.calm_until.max(now.instant + spread);
        let at = *listening.moved_at.get_or_insert(at);
        self.listen_at(place, at);
        true
    }

    /// A read for listening has ended; `failed` when too few answered, and what is known stays.
    pub(super) fn on_listened(&mut self, now: Now, place: Place, operation: &Operation, failed: bool) {
        let Some(mut listening) = self.listening.remove(&place) else { return };
        listening.is_reading = false;
        let prompted = std::mem::take(&mut listening.reads_for);
        let news = listening.merge(now, operation.read().into_iter().flatten());
        let mut prompts = std::mem::take(&mut listening.prompts);
        prompts.retain(|_, offer| listening.is_news(offer));
        listening.prompts = prompts;
        listening.alarms.note(now.instant, news.is_empty() && !prompted.is_empty());
        listening.prompted_at = listening.prompted_at.max(listening.alarms.calm_until);
        if failed {
            let pause = RETRY.saturating_mul(1 << listening.failures.min(8)).min(POLL);
            listening.renew_at = now.instant + pause;
            listening.failures = listening.failures.saturating_add(1);
        } else {
            listening.failures = 0;
            self.tell(&mut listening, place.1);
            if listening.renew_at <= now.instant {
                self.ask_to_be_told(now, place, operation, &mut listening);
            }
        }
        self.listen_at(place, listening.due().max(now.instant));
        self.listening.insert(place, listening);
        if prompted.is_empty() {
            self.tell_clients(now, place, news);
        }
    }

    fn tell(&mut self, listening: &mut Listening, kind: Kind) {
        let shown = listening.known.values().filter(|record| record.value.exists);
        let entries: Vec<Entry> = shown.map(Entry::of).collect();
        let Some(name) = &listening.name else { return };
        if listening.told.as_ref() != Some(&entries) {
            listening.told = Some(entries.clone());
            let name = name.clone();
            self.emit(Event::Changed { kind, name, entries });
        }
    }

    /// Asks those who were read from to tell of changes; an ordinary node asks its neighbours, the nearest first.
    fn ask_to_be_told(&mut self, now: Now, place: Place, operation: &Operation, listening: &mut Listening) {
        let count = self.config.read_replicas;
        let asked: Vec<(NodeId, Option<NodeId>)> = if self.role.serves() {
            let answered = operation.closest().filter(|candidate| candidate.state == State::Answered);
            answered.take(count).map(|candidate| (candidate.descriptor.node, candidate.informer)).collect()
        } else {
            let mut near: Vec<(u32, NodeId)> =
                self.table.lasting().map(|(node, link)| (link.farness(), *node)).collect();
            near.sort_unstable();
            near.into_iter().take(count).map(|(_, node)| (node, None)).collect()
        };
        listening.renew_at = now.instant + POLL;
        let before = std::mem::replace(&mut listening.asked, asked.iter().map(|(node, _)| *node).collect());
        listening.moves.note(now.instant, std::mem::take(&mut listening.reads_moved) && before == listening.asked);
        // What is stored here itself is known at once.
        listening.promised = asked.iter().map(|(node, _)| *node).filter(|node| *node == self.me.node).collect();
        let (resource, kind) = place;
        let me = self.me.node;
        for (node, informer) in asked.into_iter().filter(|(node, _)| *node != me) {
            let first = if self.table.links().contains_key(&node) { Some(node) } else { informer };
            let number = self.new_pending(now, PendingPurpose::Listen(place, node));
            let body = Ask::Listen { resource, kind, lifetime_s: LIFETIME }.encode();
            if !self.send_request(now, number, node.into(), true, body, first) {
                self.pending.remove(&number);
            }
        }
        self.settle_renewal(now, listening);
    }

    /// Where all have promised, they are asked again at half of their time.
    fn settle_renewal(&mut self, now: Now, listening: &mut Listening) {
        if !listening.asked.is_empty() && listening.promised.len() >= listening.asked.len() {
            let half_ms = u64::from(LIFETIME) * 500;
            let jitter_ms = self.randomness.next_u64() % (half_ms / 4);
            listening.renew_at = now.instant + Duration::from_millis(half_ms - jitter_ms);
        }
    }

    /// One that was asked to tell of changes has answered, and shows what it holds now.
    pub(super) fn on_promised(&mut self, now: Now, place: Place, node: NodeId, reply: Reply) {
        let Reply::Listening { promised, held } = reply else { return };
        let Some(mut listening) = self.listening.remove(&place) else { return };
        if promised && listening.promised.insert(node) {
            self.settle_renewal(now, &mut listening);
        }
        self.listen_at(place, listening.due().max(now.instant));
        self.listening.insert(place, listening);
        self.on_told(now, place, &held);
    }
}
