//! The routing table: links there are, nodes known without one, and which links are worth having.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `link` | a link, and its measured round trip |
//! | `contacts` | nodes known without a link: the replacement cache |
//! | `clients` | linked nodes that only use the overlay |
//! | `wanted` | whom to dial, as siblings or to fill buckets |
//! | `surplus` | which links to close |

mod clients;
mod contacts;
mod link;
mod surplus;
mod wanted;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use self::clients::Client;
use self::contacts::Contact;
use self::link::{ASSUMED_RTT, Allowance, Link};
pub(super) use self::surplus::VISIT_LASTS;
use super::config::{REDIAL, SIBLINGS};
use super::{Descriptor, Distance, Position, Subnet};

/// A link that lasted this long was no accident: the back-off of its node starts anew.
const LASTING: Duration = Duration::from_secs(60);

/// A newcomer's first link is not closed for this long: it needs it to find others.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// What came of the wish for a link to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialling {
    /// There is one.
    Linked,
    /// It is to be dialled.
    Begun,
    /// It is being dialled.
    UnderWay,
    /// It could not be reached a moment ago, or may not be dialled.
    Hopeless,
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
    /// Nodes that there was a link to lately, and when it ended.
    parted: BTreeMap<NodeId, Instant>,
    /// The linked nodes closest to this one, and the farthest bucket that they lie in: asked for with every record that a change of
    /// the links may move, changed only by those.
    siblings: BTreeSet<NodeId>,
    farthest_sibling: usize,
}

impl Table {
    pub(super) fn new(own: Position, subnet_of: SubnetOf) -> Self {
        Self {
            own,
            subnet_of,
            links: BTreeMap::new(),
            clients: BTreeMap::new(),
            contacts: BTreeMap::new(),
            parted: BTreeMap::new(),
            siblings: BTreeSet::new(),
            farthest_sibling: 0,
        }
    }

    pub(super) fn links(&self) -> &BTreeMap<NodeId, Link> {
        &self.links
    }

    /// Returns the links of the mesh: all but those that were opened for a visit.
    pub(super) fn lasting(&self) -> impl Iterator<Item = (&NodeId, &Link)> {
        self.links.iter().filter(|(_, link)| !link.visited)
    }

    pub(super) fn link_mut(&mut self, node: NodeId) -> Option<&mut Link> {
        self.links.get_mut(&node)
    }

    /// Returns up to `count` linked nodes closest to the place, those that are silent left out.
    pub(super) fn closest(&self, place: Position, count: usize) -> Vec<Descriptor> {
        let links = self.lasting().filter(|(_, link)| !link.suspect);
        let links = links.map(|(node, link)| (place.distance((*node).into()), &link.descriptor));
        nearest(links.collect(), count).into_iter().cloned().collect()
    }

    /// Returns how many linked nodes are closer to the place than `node` is. Visitors do not count: they are gone in a moment, and
    /// nothing is stored with them.
    pub(super) fn rank(&self, place: Position, node: Position) -> usize {
        let own = place.distance(node);
        self.lasting().filter(|(_, link)| !link.suspect && place.distance(link.descriptor.node.into()) < own).count()
    }

    /// Returns the next hop towards a place: of the links that are not excluded, silent ones last, the one that shares most leading
    /// bits with it. Of those that share as many the near one is taken, until the place lies within the neighbourhood: there the
    /// closest is. Unless `anywhere`, only links that are closer than this node count, so that no request runs in circles.
    pub(super) fn next_hop(
        &self,
        place: Position,
        anywhere: bool,
        excluded: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let own = place.distance(self.own);
        let arriving = self.in_neighbourhood(place);
        let links = self.lasting().map(|(node, link)| (place.distance((*node).into()), *node, link));
        let onwards = links.filter(|(distance, node, _)| !excluded(*node) && (anywhere || *distance < own));
        let next = onwards.min_by_key(|(distance, _, link)| {
            let equals = (!arriving).then(|| (Reverse(distance.bucket()), link.farness()));
            (link.suspect, equals, *distance)
        });
        next.map(|(_, node, _)| node)
    }

    /// Returns how far a node is in doublings of a millisecond: nothing is nearer than this node itself, nobody farther than those
    /// without a link.
    pub(super) fn farness(&self, node: NodeId) -> u32 {
        if Position::from(node) == self.own {
            return 0;
        }
        self.links.get(&node).map_or(u32::MAX, Link::farness)
    }

    pub(super) fn link_up(&mut self, now: Instant, peer: Descriptor) {
        let known = self.contacts.remove(&peer.node);
        let (failures, times_away, visited) = known.map_or((0, 0, false), |contact| {
            (contact.past().failures, contact.past().times_away, contact.past().visited)
        });
        let subnet = (self.subnet_of)(&peer.address);
        let link = Link {
            descriptor: peer,
            subnet,
            up: now,
            rtt: ASSUMED_RTT,
            measured: false,
            allowance: Allowance::default(),
            suspect: false,
            needs_us: false,
            failures,
            turned_away: false,
            times_away,
            visited,
        };
        self.links.insert(link.descriptor.node, link);
        self.look_for_siblings();
    }

    /// Takes a link away; its node stays known and is dialled again after a while.
    pub(super) fn link_down(&mut self, now: Instant, node: NodeId) -> bool {
        let Some(link) = self.links.remove(&node) else { return false };
        self.look_for_siblings();
        self.note_parted(now, node);
        let lasted = now.saturating_duration_since(link.up) >= LASTING;
        let (failures, times_away) = if lasted { (0, 0) } else { (link.failures, link.times_away) };
        self.make_room();
        let mut contact = Contact::new(&link.descriptor.address, link.subnet);
        let past = contact.past_mut();
        (past.failures, past.times_away, past.seen, past.rtt) = (failures, times_away, Some(now), link.rtt);
        if link.turned_away {
            // Whoever is wanted and has no room all the same, as one of a crowded subnet, is not dialled again and again.
            past.not_before = Some(now + GRACE.saturating_mul(1 << times_away.min(16)).min(REDIAL.1));
            past.times_away = times_away.saturating_add(1);
        }
        self.contacts.insert(node, contact);
        if !link.turned_away && !link.visited {
            self.failed(now, node);
        }
        true
    }

    /// Returns the linked nodes closest to this one.
    pub(super) fn siblings(&self) -> &BTreeSet<NodeId> {
        &self.siblings
    }

    fn look_for_siblings(&mut self) {
        let mut nodes: Vec<NodeId> = self.lasting().map(|(node, _)| *node).collect();
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

    fn bucket(&self, node: NodeId) -> usize {
        self.own.distance(node.into()).bucket()
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
