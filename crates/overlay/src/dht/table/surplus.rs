//! Which links to close when there are more than the bound, or when one subnet has more than its share.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use super::link::Link;
use super::{GRACE, Table};
use crate::dht::config::OPERATION_TIMEOUT;
use crate::dht::{Config, Subnet};

/// A link that was opened for a visit is closed after this: by then the read is over.
pub(in crate::dht) const VISIT_LASTS: Duration = OPERATION_TIMEOUT;

impl Table {
    /// Takes note that a link is closed for want of room.
    pub(in crate::dht) fn turn_away(&mut self, node: NodeId) {
        if let Some(link) = self.links.get_mut(&node) {
            link.turned_away = true;
        }
    }

    /// Returns the links to close when there are more than the bound: in the fullest bucket the farthest by round trip, of equally
    /// far ones the youngest, never a sibling on either side while there is any other. Newcomers are left in peace for a while, as long as they are not too many. Links of
    /// a subnet that has more than its share are closed sooner, whatever they are; and those opened for a visit, when that is over.
    pub(in crate::dht) fn surplus(&self, now: Instant, config: &Config) -> Vec<NodeId> {
        let mut surplus = self.crowding(config);
        let left = self.lasting().filter(|(node, _)| !surplus.contains(node));
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
        let over = self.links.iter().filter(|(_, link)| link.visited && now >= link.up + VISIT_LASTS);
        surplus.extend(over.map(|(node, _)| *node));
        surplus
    }

    /// Returns the links of subnets that have more than their share, the youngest first, as far as there are more links than this
    /// node would open by itself: until then nobody is kept out by them.
    fn crowding(&self, config: &Config) -> Vec<NodeId> {
        let mut by_age: Vec<(Instant, NodeId, Subnet)> =
            self.lasting().filter_map(|(node, link)| Some((link.up, *node, link.subnet?))).collect();
        by_age.sort_unstable();
        let mut of_subnets: BTreeMap<Subnet, usize> = BTreeMap::new();
        by_age.retain(|(_, _, subnet)| {
            let of_subnet = of_subnets.entry(*subnet).or_default();
            *of_subnet += 1;
            *of_subnet > config.max_links_per_subnet
        });
        let too_many = self.lasting().count().saturating_sub(config.own_links());
        by_age.into_iter().rev().take(too_many).map(|(_, node, _)| node).collect()
    }
}
