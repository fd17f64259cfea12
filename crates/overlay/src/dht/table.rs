//! The routing table: links there are, nodes known without one, and which links are worth having.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::config::{
    CLIENT_LINKS, DIAL_TIMEOUT, HOP_TIMEOUT, MAX_CONTACTS, MAX_CONTACTS_PER_SUBNET, MAX_DIAL_FAILURES, REDIAL, SIBLINGS,
};
use super::{Config, Descriptor, Distance, Position, Subnet};
use crate::bucket::Bucket;

/// Round trip assumed of a link before it was measured.
const ASSUMED_RTT: Duration = Duration::from_millis(100);

/// A link that lasted this long was no accident: the back-off of its node starts anew.
const LASTING: Duration = Duration::from_secs(60);

/// A newcomer's first link is not closed for this long: it needs it to find others.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// Whoever had a link to us within this time is fresh: most nodes that were there then still are.
const FRESH: Duration = Duration::from_secs(600);

/// Contacts that a bucket keeps when there are too many in all: its replacement cache. Without it a neighbourhood full of hearsay,
/// or of made-up nodes, would drive out those that fill the far buckets.
const REPLACEMENTS: usize = 8;

/// A link that is up.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) descriptor: Descriptor,
    /// Where its packets come from, as the link layer sees it.
    subnet: Option<Subnet>,
    pub(super) up: Instant,
    pub(super) rtt: Duration,
    /// The round trip was measured, and is not what was assumed.
    measured: bool,
    /// Signatures that it may still have checked.
    pub(super) checks: Bucket,
    /// It let a request time out and has said nothing since.
    pub(super) suspect: bool,
    /// It counts us among its siblings.
    pub(super) needs_us: bool,
    /// Dials that failed before it came up.
    failures: u32,
    /// There is no room for it: it is closed by us, and its node is not to blame.
    pub(super) turned_away: bool,
    /// How often that happened to its node before.
    times_away: u32,
}

/// A linked node that only uses the overlay.
#[derive(Debug)]
struct Client {
    up: Instant,
    /// Signatures that it may still have checked.
    checks: Bucket,
}

/// A node known, with no link to it.
#[derive(Debug)]
struct Contact {
    descriptor: Descriptor,
    /// Where it is said to be.
    subnet: Option<Subnet>,
    failures: u32,
    dialled: Option<Instant>,
    /// The dial under way is a probe.
    probed: bool,
    not_before: Option<Instant>,
    /// When its last link ended, if it had any; the rest is hearsay.
    seen: Option<Instant>,
    /// Round trip of that link.
    rtt: Duration,
    /// How often in a row there was no room for it.
    times_away: u32,
}

/// Reads the subnet out of a node's address, which is opaque here.
pub type SubnetOf = fn(&[u8]) -> Option<Subnet>;

/// Links and contacts of one node.
#[derive(Debug)]
pub(super) struct Table {
    own: Position,
    subnet_of: SubnetOf,
    links: BTreeMap<NodeId, Link>,
    /// Linked nodes that only use the overlay: nothing is routed to them or stored there, and nobody is told of them.
    clients: BTreeMap<NodeId, Client>,
    contacts: BTreeMap<NodeId, Contact>,
    /// The linked nodes closest to this one, and the farthest bucket that they lie in: asked for with every record that a change of
    /// the links may move, changed only by those.
    siblings: BTreeSet<NodeId>,
    farthest_sibling: usize,
}

impl Link {
    /// Returns how long the peer may take to acknowledge a request before the next one is tried.
    pub(super) fn soft_timeout(&self) -> Duration {
        (self.rtt * 2).clamp(HOP_TIMEOUT.0, HOP_TIMEOUT.1)
    }

    /// It let a request time out: it is passed over until it speaks again, and given more time then. Or a link slower than was
    /// assumed would never be measured.
    pub(super) fn overdue(&mut self) {
        self.suspect = true;
        self.rtt = (self.rtt * 2).min(HOP_TIMEOUT.1);
    }

    /// Returns the round trip in doublings of a millisecond: what differs by less counts as equally near.
    fn farness(&self) -> u32 {
        farness(self.rtt)
    }

    /// Takes a measurement: the first as it is, later ones smoothed as TCP does (RFC 6298 §2.2, §2.3).
    pub(super) fn measured(&mut self, rtt: Duration) {
        self.rtt = if std::mem::replace(&mut self.measured, true) { (self.rtt * 7 + rtt) / 8 } else { rtt };
    }
}

impl Table {
    pub(super) fn new(own: Position, subnet_of: SubnetOf) -> Self {
        Self {
            own,
            subnet_of,
            links: BTreeMap::new(),
            clients: BTreeMap::new(),
            contacts: BTreeMap::new(),
            siblings: BTreeSet::new(),
            farthest_sibling: 0,
        }
    }

    pub(super) fn links(&self) -> &BTreeMap<NodeId, Link> {
        &self.links
    }

    pub(super) fn link_mut(&mut self, node: NodeId) -> Option<&mut Link> {
        self.links.get_mut(&node)
    }

    /// Returns the descriptors of nodes known without a link, those that answered last first.
    pub(super) fn contacts(&self) -> Vec<Descriptor> {
        let mut contacts: Vec<&Contact> = self.contacts.values().collect();
        contacts.sort_by_key(|contact| contact.failures);
        contacts.into_iter().map(|contact| contact.descriptor.clone()).collect()
    }

    /// Returns up to `count` linked nodes closest to the place, those that are silent left out.
    pub(super) fn closest(&self, place: Position, count: usize) -> Vec<Descriptor> {
        let links = self.links.iter().filter(|(_, link)| !link.suspect);
        let links = links.map(|(node, link)| (place.distance((*node).into()), &link.descriptor));
        nearest(links.collect(), count).into_iter().cloned().collect()
    }

    /// Returns how many linked nodes are closer to the place than `node` is.
    pub(super) fn rank(&self, place: Position, node: Position) -> usize {
        let own = place.distance(node);
        self.links.values().filter(|link| !link.suspect && place.distance(link.descriptor.node.into()) < own).count()
    }

    /// Returns the next hop towards a place: the closest link that is not excluded, silent ones last. Unless `anywhere`, only
    /// links that are closer than this node count, so that no request runs in circles.
    pub(super) fn next_hop(
        &self,
        place: Position,
        anywhere: bool,
        excluded: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let own = place.distance(self.own);
        let links = self.links.iter().filter(|(node, _)| !excluded(**node));
        links
            .map(|(node, link)| (link.suspect, place.distance((*node).into()), *node))
            .filter(|(_, distance, _)| anywhere || *distance < own)
            .min()
            .map(|(_, _, node)| node)
    }

    pub(super) fn link_up(&mut self, now: Instant, peer: Descriptor) {
        let known = self.contacts.remove(&peer.node);
        let (failures, times_away) = known.map_or((0, 0), |contact| (contact.failures, contact.times_away));
        let subnet = (self.subnet_of)(&peer.address);
        let link = Link {
            descriptor: peer,
            subnet,
            up: now,
            rtt: ASSUMED_RTT,
            measured: false,
            checks: Bucket::default(),
            suspect: false,
            needs_us: false,
            failures,
            turned_away: false,
            times_away,
        };
        self.links.insert(link.descriptor.node, link);
        self.look_for_siblings();
    }

    /// A link to a node that only uses the overlay.
    pub(super) fn client_up(&mut self, now: Instant, node: NodeId) {
        self.contacts.remove(&node);
        self.clients.insert(node, Client { up: now, checks: Bucket::default() });
    }

    /// Takes a link away; its node stays known and is dialled again after a while.
    pub(super) fn link_down(&mut self, now: Instant, node: NodeId) -> bool {
        let Some(link) = self.links.remove(&node) else { return false };
        self.look_for_siblings();
        let lasted = now.saturating_duration_since(link.up) >= LASTING;
        let (failures, times_away) = if lasted { (0, 0) } else { (link.failures, link.times_away) };
        self.make_room();
        let known = Contact::new(link.descriptor, link.subnet);
        let contact = Contact { failures, times_away, seen: Some(now), rtt: link.rtt, ..known };
        if link.turned_away {
            // Whoever is wanted and has no room all the same, as one of a crowded subnet, is not dialled again and again.
            let not_before = Some(now + GRACE.saturating_mul(1 << times_away.min(16)).min(REDIAL.1));
            self.contacts.insert(node, Contact { not_before, times_away: times_away.saturating_add(1), ..contact });
        } else {
            self.contacts.insert(node, contact);
            self.failed(now, node);
        }
        true
    }

    pub(super) fn client_down(&mut self, node: NodeId) {
        self.clients.remove(&node);
    }

    /// Returns what a linked node may still have checked, whether it serves or not.
    pub(super) fn checks(&mut self, node: NodeId) -> Option<&mut Bucket> {
        let client = self.clients.get_mut(&node).map(|client| &mut client.checks);
        client.or(self.links.get_mut(&node).map(|link| &mut link.checks))
    }

    pub(super) fn is_client(&self, node: NodeId) -> bool {
        self.clients.contains_key(&node)
    }

    pub(super) fn clients(&self) -> impl ExactSizeIterator<Item = NodeId> {
        self.clients.keys().copied()
    }

    /// Returns the clients to send away when there are more than the bound, the youngest first; they are left in peace for a while,
    /// as long as they are not too many.
    pub(super) fn surplus_clients(&self, now: Instant, config: &Config) -> Vec<NodeId> {
        let mut by_age: Vec<(Instant, NodeId)> = self.clients.iter().map(|(node, client)| (client.up, *node)).collect();
        by_age.sort_unstable();
        let too_many = by_age.len().saturating_sub(config.max_clients + config.max_clients / 4);
        let surplus = by_age.into_iter().skip(config.max_clients).rev().enumerate();
        let due = surplus.filter(|(index, (up, _))| *index < too_many || now >= *up + GRACE);
        due.map(|(_, (_, node))| node).collect()
    }

    /// Takes note that a node could not be reached.
    pub(super) fn failed(&mut self, now: Instant, node: NodeId) {
        let Some(contact) = self.contacts.get_mut(&node) else { return };
        contact.dialled = None;
        // Probing a silent node says nothing new of it, and must not be why it is forgotten.
        if std::mem::take(&mut contact.probed) {
            return;
        }
        contact.failures += 1;
        let back_off = REDIAL.0.saturating_mul(1 << contact.failures.saturating_sub(1).min(16)).min(REDIAL.1);
        contact.not_before = Some(now + back_off);
        if contact.failures > MAX_DIAL_FAILURES {
            self.contacts.remove(&node);
        }
    }

    /// Takes note of a node that a peer told of. Hearsay does not revive one that failed, unless it moved.
    pub(super) fn learn(&mut self, peer: &Descriptor) -> bool {
        if Position::from(peer.node) == self.own
            || self.links.contains_key(&peer.node)
            || self.clients.contains_key(&peer.node)
        {
            return false;
        }
        if let Some(contact) = self.contacts.get_mut(&peer.node) {
            if contact.descriptor.address == peer.address {
                return false;
            }
            contact.descriptor = peer.clone();
            contact.subnet = (self.subnet_of)(&peer.address);
            contact.failures = contact.failures.min(1);
            return true;
        }
        let subnet = (self.subnet_of)(&peer.address);
        let of_subnet = self.contacts.values().filter(|contact| subnet.is_some() && contact.subnet == subnet).count();
        if of_subnet >= MAX_CONTACTS_PER_SUBNET {
            return false;
        }
        self.make_room();
        self.contacts.insert(peer.node, Contact::new(peer.clone(), subnet));
        true
    }

    /// Returns the linked nodes closest to this one.
    pub(super) fn siblings(&self) -> &BTreeSet<NodeId> {
        &self.siblings
    }

    fn look_for_siblings(&mut self) {
        let mut nodes: Vec<NodeId> = self.links.keys().copied().collect();
        nodes.sort_by_key(|node| self.own.distance((*node).into()));
        nodes.truncate(SIBLINGS);
        self.farthest_sibling = nodes.iter().map(|node| self.bucket(*node)).min().unwrap_or(0);
        self.siblings = nodes.into_iter().collect();
    }

    /// Estimates how many nodes there are: all lie as densely as the siblings (RFC 7363 §6.1).
    pub(super) fn estimated_nodes(&self) -> u64 {
        let densely = u64::try_from(self.siblings.len() + 1).unwrap_or(u64::MAX);
        densely.saturating_mul(1 << self.farthest_sibling.min(48))
    }

    /// Whether the nodes around a place are all linked, as siblings. Of the farthest bucket that siblings lie in there may be more
    /// than those, so it does not count.
    pub(super) fn in_neighbourhood(&self, place: Position) -> bool {
        self.links.len() <= SIBLINGS || self.own.distance(place).bucket() > self.farthest_sibling
    }

    /// Returns the buckets outside the neighbourhood that have fewer links than wished for.
    pub(super) fn sparse_buckets(&self, config: &Config) -> Vec<usize> {
        let filled = self.filled(config);
        (0..=self.farthest_sibling).filter(|bucket| filled.count(*bucket) < config.bucket_links).collect()
    }

    /// Returns whom to dial now: nodes that would be siblings, then those that fill buckets. They count as dialled.
    pub(super) fn wanted(&mut self, now: Instant, config: &Config) -> Vec<Descriptor> {
        let overdue =
            self.contacts.iter().filter(|(_, contact)| contact.dialled.is_some_and(|at| now >= at + DIAL_TIMEOUT));
        for node in overdue.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.failed(now, node);
        }
        let mut dials = self.wanted_siblings(now, config);
        if config.serves {
            let budget = config.own_links().saturating_sub(self.links.len() + dials.len());
            dials.extend(self.wanted_in_buckets(now, config, budget));
        } else {
            // Any of them will do; those nearest are not the same ones for everybody.
            let under_way = self.contacts.values().filter(|contact| contact.dialled.is_some()).count();
            dials.truncate(CLIENT_LINKS.saturating_sub(self.links.len() + under_way));
        }
        for node in &dials {
            if let Some(contact) = self.contacts.get_mut(node) {
                contact.dialled = Some(now);
            }
        }
        dials.iter().filter_map(|node| self.contacts.get(node)).map(|contact| contact.descriptor.clone()).collect()
    }

    /// Returns a node that was lost and may be dialled again, `choice` deciding which: after a partition the other side has to be
    /// found again, even where it is nobody's sibling.
    pub(super) fn lost(&mut self, now: Instant, choice: u64) -> Option<Descriptor> {
        let lost = self.contacts.iter().filter(|(_, contact)| contact.failures > 0 && contact.dialled.is_none());
        let lost: Vec<NodeId> = lost.map(|(node, _)| *node).collect();
        let index = usize::try_from(choice).unwrap_or_default().checked_rem(lost.len())?;
        let contact = self.contacts.get_mut(lost.get(index)?)?;
        contact.dialled = Some(now);
        contact.probed = true;
        Some(contact.descriptor.clone())
    }

    /// Takes note that a link is closed for want of room.
    pub(super) fn turn_away(&mut self, node: NodeId) {
        if let Some(link) = self.links.get_mut(&node) {
            link.turned_away = true;
        }
    }

    /// Returns the links to close when there are more than the bound: in the fullest bucket the farthest by round trip, of equally
    /// far ones the youngest, never a sibling on either side while there is any other. Newcomers are left in peace for a while, as long as they are not too many. Links of
    /// a subnet that has more than its share are closed sooner, whatever they are.
    pub(super) fn surplus(&self, now: Instant, config: &Config) -> Vec<NodeId> {
        let mut surplus = self.crowding(config);
        let left = self.links.iter().filter(|(node, _)| !surplus.contains(node));
        let mut left: Vec<(NodeId, &Link)> = left.map(|(node, link)| (*node, link)).collect();
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for (node, _) in &left {
            *counts.entry(self.bucket(*node)).or_default() += 1;
        }
        while left.len() > config.max_links {
            let worst = left.iter().enumerate().max_by_key(|(_, (node, link))| {
                let kept = self.siblings.contains(node) || link.needs_us;
                let crowd = counts.get(&self.bucket(*node)).copied().unwrap_or(0);
                (now >= link.up + GRACE, !kept, !self.siblings.contains(node), crowd, link.farness(), link.up, *node)
            });
            let Some((index, (_, link))) = worst else { break };
            if now < link.up + GRACE && left.len() <= config.max_links + config.max_links / 4 {
                break;
            }
            let (node, _) = left.remove(index);
            if let Some(count) = counts.get_mut(&self.bucket(node)) {
                *count -= 1;
            }
            surplus.push(node);
        }
        surplus
    }

    /// Returns the links of subnets that have more than their share, the youngest first, as far as there are more links than this
    /// node would open by itself: until then nobody is kept out by them.
    fn crowding(&self, config: &Config) -> Vec<NodeId> {
        let mut by_age: Vec<(Instant, NodeId, Subnet)> =
            self.links.iter().filter_map(|(node, link)| Some((link.up, *node, link.subnet?))).collect();
        by_age.sort_unstable();
        let mut of_subnets: BTreeMap<Subnet, usize> = BTreeMap::new();
        by_age.retain(|(_, _, subnet)| {
            let of_subnet = of_subnets.entry(*subnet).or_default();
            *of_subnet += 1;
            *of_subnet > config.max_links_per_subnet
        });
        let too_many = self.links.len().saturating_sub(config.own_links());
        by_age.into_iter().rev().take(too_many).map(|(_, node, _)| node).collect()
    }

    /// Returns when the next contact may be dialled again or counts as failed. Those that might be dialled already were just
    /// looked at, and were not wanted.
    pub(super) fn next_dial(&self, now: Instant) -> Option<Instant> {
        let times = self.contacts.values().filter_map(|contact| match contact.dialled {
            Some(at) => Some(at + DIAL_TIMEOUT),
            None => contact.not_before,
        });
        times.filter(|at| *at > now).min()
    }

    fn wanted_siblings(&self, now: Instant, config: &Config) -> Vec<NodeId> {
        // Its link would be closed at once.
        let crowded = |subnet: Option<Subnet>| {
            let of_subnet = || self.links.values().filter(|link| link.subnet == subnet).count();
            subnet.is_some() && self.links.len() >= config.own_links() && of_subnet() >= config.max_links_per_subnet
        };
        let linked = self.siblings.iter().map(|node| (self.own.distance((*node).into()), (*node, true)));
        // Of hundreds of contacts hardly any is closer than all siblings there are.
        let farthest = linked.clone().map(|(distance, _)| distance).max().filter(|_| self.siblings.len() >= SIBLINGS);
        let known = self.contacts.iter().filter(|(_, contact)| contact.dialled.is_some() || contact.ready(now));
        let known = known.map(|(node, _)| (self.own.distance((*node).into()), (*node, false)));
        let known = known.filter(|(distance, _)| farthest.is_none_or(|farthest| *distance < farthest));
        let near = nearest(linked.chain(known).collect(), SIBLINGS);
        let wanted = near.into_iter().filter(|(_, linked)| !linked).map(|(node, _)| node);
        let dialled_next = |contact: &Contact| contact.dialled.is_none() && !crowded(contact.subnet);
        wanted.filter(|node| self.contacts.get(node).is_some_and(dialled_next)).collect()
    }

    fn wanted_in_buckets(&self, now: Instant, config: &Config, budget: usize) -> Vec<NodeId> {
        if budget == 0 {
            return Vec::new();
        }
        let mut filled = self.filled(config);
        let dialling = self.contacts.iter().filter(|(_, contact)| contact.dialled.is_some());
        for (node, contact) in dialling {
            filled.add(self.bucket(*node), contact.subnet, config);
        }
        // Who failed less comes first, then who was here lately, then who was near.
        let mut ready: Vec<((u32, u8, u32), NodeId)> = self
            .contacts
            .iter()
            .filter(|(node, contact)| contact.ready(now) && filled.count(self.bucket(**node)) < config.bucket_links)
            .map(|(node, contact)| ((contact.failures, contact.staleness(now), farness(contact.rtt)), *node))
            .collect();
        ready.sort_unstable();
        let mut wanted = Vec::new();
        for (_, node) in ready {
            let (bucket, subnet) = (self.bucket(node), self.contacts.get(&node).and_then(|contact| contact.subnet));
            if wanted.len() < budget && filled.count(bucket) < config.bucket_links && filled.add(bucket, subnet, config)
            {
                wanted.push(node);
            }
        }
        wanted
    }

    fn bucket(&self, node: NodeId) -> usize {
        self.own.distance(node.into()).bucket()
    }

    /// Returns how far the links fill the buckets.
    fn filled(&self, config: &Config) -> Filled {
        let mut filled = Filled::default();
        for (node, link) in &self.links {
            filled.add(self.bucket(*node), link.subnet, config);
        }
        filled
    }

    /// Lets a contact go: of the buckets that have more than their replacements the one that failed most, of those the farthest.
    fn make_room(&mut self) {
        if self.contacts.len() < MAX_CONTACTS {
            return;
        }
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for node in self.contacts.keys() {
            *counts.entry(self.bucket(*node)).or_default() += 1;
        }
        let spare = |node: NodeId| counts.get(&self.bucket(node)).is_some_and(|count| *count > REPLACEMENTS);
        let worst = self.contacts.iter().filter(|(_, contact)| contact.dialled.is_none());
        let worst = worst.max_by_key(|(node, contact)| {
            (spare(**node), contact.failures, contact.seen.is_none(), self.own.distance((**node).into()))
        });
        if let Some(node) = worst.map(|(node, _)| *node) {
            self.contacts.remove(&node);
        }
    }
}

/// Returns a round trip in doublings of a millisecond.
fn farness(rtt: Duration) -> u32 {
    rtt.as_millis().max(1).ilog2()
}

/// How far buckets are filled. Of one subnet only a few count in each, so that whoever has many addresses of one network cannot
/// keep others out.
#[derive(Debug, Default)]
struct Filled {
    counts: BTreeMap<usize, usize>,
    of_subnets: BTreeMap<(usize, Subnet), usize>,
}

impl Filled {
    fn count(&self, bucket: usize) -> usize {
        self.counts.get(&bucket).copied().unwrap_or(0)
    }

    /// Counts a node. False when its subnet has as many in the bucket as count.
    fn add(&mut self, bucket: usize, subnet: Option<Subnet>, config: &Config) -> bool {
        if let Some(subnet) = subnet {
            let of_subnet = self.of_subnets.entry((bucket, subnet)).or_default();
            if *of_subnet >= config.max_bucket_links_per_subnet {
                return false;
            }
            *of_subnet += 1;
        }
        *self.counts.entry(bucket).or_default() += 1;
        true
    }
}

/// Returns the nearest of all, nearest first. There are hundreds, asked for at every change and with every request, and few are
/// wanted: only these are sorted.
fn nearest<T>(mut all: Vec<(Distance, T)>, count: usize) -> Vec<T> {
    if all.len() > count {
        all.select_nth_unstable_by_key(count, |(distance, _)| *distance);
        all.truncate(count);
    }
    all.sort_unstable_by_key(|(distance, _)| *distance);
    all.into_iter().map(|(_, item)| item).collect()
}

impl Contact {
    fn new(descriptor: Descriptor, subnet: Option<Subnet>) -> Self {
        Self {
            descriptor,
            subnet,
            failures: 0,
            dialled: None,
            probed: false,
            not_before: None,
            seen: None,
            rtt: ASSUMED_RTT,
            times_away: 0,
        }
    }

    /// Returns how old what is known of it is: 0 when it had a link lately, 1 when it had one ever, 2 for hearsay.
    fn staleness(&self, now: Instant) -> u8 {
        match self.seen {
            Some(seen) if now.saturating_duration_since(seen) < FRESH => 0,
            Some(_) => 1,
            None => 2,
        }
    }

    fn ready(&self, now: Instant) -> bool {
        self.dialled.is_none() && self.not_before.is_none_or(|at| now >= at)
    }
}
