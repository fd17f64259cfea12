//! Which links are kept, who takes the place of one that is lost, and whom of several a request goes to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;
use meshtone_overlay::dht::body::{Ask, Reply};
use meshtone_overlay::dht::message::Request;
use meshtone_overlay::dht::{Config, Event, Position};
use meshtone_overlay::record::{Kind, ResourceId};

use crate::support::{Lone, descriptor, neighbour};

const NEAR: Duration = Duration::from_millis(10);
const FAR: Duration = Duration::from_millis(200);

/// The node under test with a runtime that closes links as it is told, and neighbours that answer after the time that is theirs.
struct Neighbourhood {
    lone: Lone,
    rtt: BTreeMap<NodeId, Duration>,
    under_way: Vec<(Instant, NodeId, Request, Reply)>,
}

impl Neighbourhood {
    /// Has siblings enough, nearer than the bucket that the tests are about.
    fn new(max_links: usize, rtt: Duration) -> Self {
        let lone = Lone::new(Config { max_links, bucket_links: 4, ..Config::default() });
        let mut neighbourhood = Self { lone, rtt: BTreeMap::new(), under_way: Vec::new() };
        (1..=8).for_each(|number| neighbourhood.link(number, rtt));
        neighbourhood
    }

    /// Links a neighbour, and has it measured.
    fn link(&mut self, number: u8, rtt: Duration) {
        self.rtt.insert(neighbour(number), rtt);
        self.lone.link(neighbour(number));
        self.pass(FAR);
    }

    /// Lets time pass; returns whom this node wants to dial.
    fn pass(&mut self, duration: Duration) -> Vec<NodeId> {
        let mut dialled = Vec::new();
        let end = self.lone.now.instant + duration;
        while self.lone.now.instant < end {
            self.lone.pass(NEAR);
            self.answer();
            for event in self.lone.events() {
                if let Event::Unlink { node } = event {
                    self.lone.unlink(node);
                } else if let Event::Dial { peer } = event {
                    dialled.push(peer.node);
                }
            }
        }
        dialled
    }

    fn answer(&mut self) {
        for (to, request, ask) in self.lone.asked() {
            let reply = if ask == Ask::Clock { Reply::Time(self.lone.now.unix_ms) } else { Reply::Nodes };
            self.under_way.push((self.lone.now.instant + self.rtt[&to] - NEAR, to, request, reply));
        }
        let now = self.lone.now.instant;
        let (due, later) = std::mem::take(&mut self.under_way).into_iter().partition(|(at, ..)| *at <= now);
        self.under_way = later;
        for (_, from, request, reply) in due {
            self.lone.answer(from, &request, &reply);
        }
    }

    fn links(&self) -> Vec<NodeId> {
        self.lone.dht.links().into_iter().map(|peer| peer.node).collect()
    }

    fn linked_far(&self) -> Vec<NodeId> {
        self.links().into_iter().filter(|node| *node >= neighbour(0x80)).collect()
    }
}

#[test]
fn of_equal_links_the_near_ones_are_kept_though_they_came_last() {
    let mut nodes = Neighbourhood::new(12, NEAR);
    (0x80..0x84).for_each(|number| nodes.link(number, FAR));
    (0x90..0x93).for_each(|number| nodes.link(number, NEAR));
    nodes.pass(Duration::from_secs(30));
    let kept = nodes.linked_far();
    assert_eq!(kept.len(), 4, "{kept:?}");
    assert!((0x90..0x93).all(|number| kept.contains(&neighbour(number))), "{kept:?}");
    // The oldest of the far ones has the place that is left.
    assert!(kept.contains(&neighbour(0x80)), "{kept:?}");
}

#[test]
fn no_sibling_is_closed_for_being_far() {
    let mut nodes = Neighbourhood::new(12, FAR);
    (0x80..0x88).for_each(|number| nodes.link(number, NEAR));
    nodes.pass(Duration::from_secs(30));
    let links = nodes.links();
    assert!((1..=8).all(|number| links.contains(&neighbour(number))), "{links:?}");
    assert_eq!(links.len(), 12);
}

#[test]
fn of_equal_contacts_the_nearest_takes_the_place_of_one_that_is_lost() {
    let mut nodes = Neighbourhood::new(16, NEAR);
    for (number, rtt) in [(0x80, FAR), (0x81, FAR), (0x82, NEAR), (0x83, FAR)] {
        nodes.link(number, rtt);
    }
    (0x90..0x93).for_each(|number| nodes.link(number, NEAR));
    // All four are lost, and there is room for one.
    (0x80..0x84).for_each(|number| nodes.lone.unlink(neighbour(number)));
    assert_eq!(nodes.pass(Duration::from_secs(1)), [neighbour(0x82)]);
}

#[test]
fn whoever_was_turned_away_takes_the_place_of_one_that_dies_before_hearsay_does() {
    let mut nodes = Neighbourhood::new(16, NEAR);
    (0x80..0x89).for_each(|number| nodes.link(number, NEAR));
    // These would come first by their ids.
    let hearsay = [0x70, 0x71].map(|second| {
        let mut id = [second; 32];
        id[0] = 0x80;
        descriptor(NodeId::from_bytes(id))
    });
    nodes.lone.dht.add_known_peers(nodes.lone.now, &hearsay);
    nodes.pass(Duration::from_secs(30));
    let kept = nodes.linked_far();
    assert_eq!(kept.len(), 8);
    let away = (0x80..0x89).map(neighbour).find(|node| !kept.contains(node)).expect("there is no room for all");
    // Nothing is wished for while the bucket is full.
    assert_eq!(nodes.pass(Duration::from_secs(60)), []);
    kept.iter().take(5).for_each(|node| nodes.lone.unlink(*node));
    assert_eq!(nodes.pass(Duration::from_millis(200)), [away]);
}

#[test]
fn made_up_nodes_nearby_do_not_drive_out_those_that_may_fill_far_buckets() {
    let mut nodes = Neighbourhood::new(16, NEAR);
    (0x80..0x84).for_each(|number| nodes.link(number, NEAR));
    let real: Vec<NodeId> = (0xc0..0xc6).map(neighbour).collect();
    let described: Vec<_> = real.iter().copied().map(descriptor).collect();
    let lone = &mut nodes.lone;
    lone.dht.add_known_peers(lone.now, &described);
    for made_up in 1_u16..=1000 {
        let mut id = [0; 32];
        id[1..3].copy_from_slice(&made_up.to_be_bytes());
        lone.dht.add_known_peers(lone.now, &[descriptor(NodeId::from_bytes(id))]);
    }
    let known: Vec<NodeId> = lone.dht.known_peers().into_iter().map(|peer| peer.node).collect();
    assert!(known.len() <= 512 + 16, "{}", known.len());
    assert!(real.iter().all(|node| known.contains(node)), "those in the far bucket are forgotten");
}

#[test]
fn of_equal_next_hops_the_near_one_is_taken_and_a_better_one_before_any_near_one() {
    let mut neighbourhood = Neighbourhood::new(64, NEAR);
    // Both share four leading bits with the place, the closer one is far; the third shares three.
    for (number, rtt) in [(0xf7, FAR), (0xf0, NEAR), (0xe0, NEAR)] {
        neighbourhood.link(number, rtt);
    }
    let first_hop = |neighbourhood: &mut Neighbourhood| {
        let lone = &mut neighbourhood.lone;
        lone.asked();
        lone.dht.find(lone.now, Position([0xff; 32]));
        lone.drain();
        lone.asked().first().map(|(to, ..)| *to)
    };
    assert_eq!(first_hop(&mut neighbourhood), Some(neighbour(0xf0)));
    neighbourhood.lone.unlink(neighbour(0xf0));
    assert_eq!(first_hop(&mut neighbourhood), Some(neighbour(0xf7)));
}

#[test]
fn of_the_replicas_the_near_ones_are_read_first() {
    let lone = Lone::new(Config::default());
    let mut neighbourhood = Neighbourhood { lone, rtt: BTreeMap::new(), under_way: Vec::new() };
    for number in 1..=8 {
        neighbourhood.link(number, if matches!(number, 3 | 4) { NEAR } else { FAR });
    }
    // Next to the node under test, so that it is a replica itself and its links are the others.
    let mut names = (0..).map(|number| format!("user{number}@example.org"));
    let name = names.find(|name| ResourceId::of_name(name).as_bytes()[0] == 0).unwrap();
    let lone = &mut neighbourhood.lone;
    lone.asked();
    lone.dht.fetch(lone.now, Kind::SipRegistration, &name);
    lone.drain();
    // What is asked by name, and not sent towards the place.
    let asked = lone.asked().into_iter().filter(|(_, request, _)| request.exact);
    let asked: Vec<NodeId> = asked.map(|(to, ..)| to).collect();
    assert_eq!(asked, [neighbour(3), neighbour(4)]);
}
