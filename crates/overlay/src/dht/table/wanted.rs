//! Whom to dial: nodes that would be siblings, then those that fill buckets, of which one subnet counts but for a few.

use std::collections::BTreeMap;
use std::time::Instant;

use meshtone_identity::NodeId;

use super::contacts::Contact;
use super::link::farness;
use super::{Dialling, Table, nearest};
use crate::dht::config::{CLIENT_LINKS, DIAL_TIMEOUT, MAX_VISITED, SIBLINGS};
use crate::dht::{Config, Descriptor, Subnet};

impl Table {
    /// Returns the buckets outside the neighbourhood that have fewer links than wished for.
    pub(in crate::dht) fn sparse_buckets(&self, config: &Config) -> Vec<usize> {
        let filled = self.filled(config);
        (0..=self.farthest_sibling).filter(|bucket| filled.count(*bucket) < config.bucket_links).collect()
    }

    /// Returns whom to dial now: nodes that would be siblings, then those that fill buckets; few of them unless this node serves.
    /// They count as dialled.
    pub(in crate::dht) fn wanted(&mut self, now: Instant, config: &Config, serves: bool) -> Vec<Descriptor> {
        let is_overdue = |contact: &Contact| contact.past().dialled.is_some_and(|at| now >= at + DIAL_TIMEOUT);
        let overdue = self.contacts.iter().filter(|(_, contact)| is_overdue(contact));
        for node in overdue.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.failed(now, node);
        }
        let mut dials = self.wanted_siblings(now, config);
        let lasting = self.lasting().count();
        if serves {
            let budget = config.own_links().saturating_sub(lasting + dials.len());
            dials.extend(self.wanted_in_buckets(now, config, budget));
        } else {
            // Any of them will do; those nearest are not the same ones for everybody.
            let under_way = self.contacts.values().filter(|contact| contact.past().dialled.is_some()).count();
            dials.truncate(CLIENT_LINKS.saturating_sub(lasting + under_way));
        }
        let mut dial = |node: NodeId| {
            let contact = self.contacts.get_mut(&node)?;
            contact.past_mut().dialled = Some(now);
            Some(contact.descriptor(node))
        };
        dials.into_iter().filter_map(&mut dial).collect()
    }

    /// Returns when the next contact may be dialled again or counts as failed. Those that might be dialled already were just
    /// looked at, and were not wanted.
    pub(in crate::dht) fn next_dial(&self, now: Instant) -> Option<Instant> {
        let pasts = self.contacts.values().map(Contact::past);
        let times = pasts.filter_map(|past| past.dialled.map_or(past.not_before, |at| Some(at + DIAL_TIMEOUT)));
        times.filter(|at| *at > now).min()
    }

    /// Takes note that a link to a node is wished for to ask it. It is for nothing else, unless the node is a sibling just found.
    pub(in crate::dht) fn dial(&mut self, now: Instant, peer: &Descriptor, serves: bool) -> Dialling {
        if self.links.contains_key(&peer.node) {
            return Dialling::Linked;
        }
        let visits = self.visits();
        let near = self.siblings.len() < SIBLINGS || self.rank(self.own, peer.node.into()) < SIBLINGS;
        self.learn(peer);
        let Some(contact) = self.contacts.get_mut(&peer.node) else { return Dialling::Hopeless };
        if contact.past().dialled.is_some() {
            return Dialling::UnderWay;
        }
        if visits >= MAX_VISITED || contact.past().failures > 0 && !contact.past().is_ready(now) {
            return Dialling::Hopeless;
        }
        let past = contact.past_mut();
        (past.dialled, past.visited) = (Some(now), !(near && serves));
        Dialling::Begun
    }

    /// Takes note that the other end of a link has opened it to ask something, and for nothing else.
    pub(in crate::dht) fn visited_by(&mut self, node: NodeId) {
        let room = self.visits() < MAX_VISITED && !self.siblings.contains(&node);
        if let Some(link) = self.links.get_mut(&node).filter(|_| room) {
            link.visited = true;
        }
    }

    /// Returns how many links there are, or are to be, to ask somebody and for nothing else.
    pub(in crate::dht) fn visits(&self) -> usize {
        let dialled = self.contacts.values().filter(|contact| contact.past().visited).count();
        dialled + self.links.values().filter(|link| link.visited).count()
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
        let known = self
            .contacts
            .iter()
            .filter(|(_, contact)| contact.past().dialled.is_some() || contact.past().is_ready(now));
        let known = known.map(|(node, _)| (self.own.distance((*node).into()), (*node, false)));
        let known = known.filter(|(distance, _)| farthest.is_none_or(|farthest| *distance < farthest));
        let near = nearest(linked.chain(known).collect(), SIBLINGS);
        let wanted = near.into_iter().filter(|(_, linked)| !linked).map(|(node, _)| node);
        let dialled_next = |contact: &Contact| contact.past().dialled.is_none() && !crowded(contact.subnet);
        wanted.filter(|node| self.contacts.get(node).is_some_and(dialled_next)).collect()
    }

    fn wanted_in_buckets(&self, now: Instant, config: &Config, budget: usize) -> Vec<NodeId> {
        if budget == 0 {
            return Vec::new();
        }
        let mut filled = self.filled(config);
        let dialling = self.contacts.iter().filter(|(_, contact)| contact.past().dialled.is_some());
        for (node, contact) in dialling {
            filled.add(self.bucket(*node), contact.subnet, config);
        }
        // Who failed less comes first, then who was here lately, then who was near.
        let mut ready: Vec<((u32, u8, u32), NodeId)> = self
            .contacts
            .iter()
            .map(|(node, contact)| (contact.past(), *node))
            .filter(|(past, node)| past.is_ready(now) && filled.count(self.bucket(*node)) < config.bucket_links)
            .map(|(past, node)| ((past.failures, past.staleness(now), farness(past.rtt)), node))
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

    /// Returns how far the links fill the buckets.
    fn filled(&self, config: &Config) -> Filled {
        let mut filled = Filled::default();
        for (node, link) in self.lasting() {
            filled.add(self.bucket(*node), link.subnet, config);
        }
        filled
    }
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
