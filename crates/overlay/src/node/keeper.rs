//! Which peers to dial again and when: those that the configuration names, until there are links enough. Pure.
//!
//! The DHT dials the nodes it knows by itself; these are the ones it cannot know yet, after a start or after everybody
//! was gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshtone_identity::LinkKey;

use crate::dht::config::CLIENT_LINKS;
use crate::link::PeerAddress;

/// The first retry comes soon, for a machine that restarts with others; the last ones seldom, for one that is gone.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(300));

/// A link that lasted this long was a success. A peer that has no room takes a link and soon closes it again.
const LASTING: Duration = Duration::from_secs(5);

/// With this many links a node that serves finds the rest by itself.
const ENOUGH_LINKS: usize = 16;

/// Peers kept of a configuration; a host cache holds fewer.
const MAX_KEPT: usize = 64;

/// The peers that the configuration names.
#[derive(Debug)]
pub(super) struct Keeper {
    own: LinkKey,
    enough_links: usize,
    peers: BTreeMap<LinkKey, Kept>,
}

#[derive(Debug)]
struct Kept {
    address: PeerAddress,
    state: State,
    back_off: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { due: Instant },
    Dialling,
    Linked { since: Instant },
}

impl Keeper {
    pub(super) fn new(now: Instant, own: LinkKey, bootstrap: &[PeerAddress], serves: bool) -> Self {
        let mut keeper = Self { own, enough_links: 0, peers: BTreeMap::new() };
        keeper.set_serves(serves);
        for address in bootstrap {
            keeper.add(now, address);
        }
        keeper
    }

    /// Takes in a peer, or another place at which one may be reached; either is dialled at once.
    pub(super) fn add(&mut self, now: Instant, address: &PeerAddress) {
        if let Some(kept) = self.peers.get_mut(&address.link_key) {
            let known = kept.address.addrs.len();
            kept.address.merge(&address.addrs);
            if kept.address.addrs.len() > known {
                kept.back_off = BACK_OFF.0;
                if let State::Waiting { due } = &mut kept.state {
                    *due = (*due).min(now);
                }
            }
        } else if self.peers.len() < MAX_KEPT && address.link_key != self.own {
            let kept = Kept { address: address.clone(), state: State::Waiting { due: now }, back_off: BACK_OFF.0 };
            self.peers.insert(address.link_key, kept);
        }
    }

    /// The node serves from now on, or no more.
    pub(super) fn set_serves(&mut self, serves: bool) {
        self.enough_links = if serves { ENOUGH_LINKS } else { CLIENT_LINKS };
    }

    /// Whether with so many links the overlay finds the rest by itself.
    pub(super) fn has_enough(&self, links: usize) -> bool {
        links >= self.enough_links
    }

    /// Returns who is to be dialled now, and takes them for dialled.
    pub(super) fn due(&mut self, now: Instant, links: usize) -> Vec<PeerAddress> {
        if self.has_enough(links) {
            return Vec::new();
        }
        let mut due = Vec::new();
        for kept in self.peers.values_mut() {
            if matches!(kept.state, State::Waiting { due } if due <= now) {
                kept.state = State::Dialling;
                due.push(kept.address.clone());
            }
        }
        due
    }

    /// Returns when the next one is due.
    pub(super) fn poll_timeout(&self, links: usize) -> Option<Instant> {
        if self.has_enough(links) {
            return None;
        }
        let due = |kept: &Kept| match kept.state {
            State::Waiting { due } => Some(due),
            State::Dialling | State::Linked { .. } => None,
        };
        self.peers.values().filter_map(due).min()
    }

    /// A link to this peer is up: where it is reached is known better now.
    pub(super) fn on_up(&mut self, now: Instant, address: &PeerAddress) {
        if let Some(kept) = self.peers.get_mut(&address.link_key) {
            kept.state = State::Linked { since: now };
            let mut fresh = address.clone();
            fresh.merge(&kept.address.addrs);
            kept.address = fresh;
        }
    }

    /// The link to this peer is gone.
    pub(super) fn on_down(&mut self, now: Instant, key: LinkKey) {
        if let Some(kept) = self.peers.get_mut(&key) {
            if matches!(kept.state, State::Linked { since } if now.saturating_duration_since(since) >= LASTING) {
                kept.back_off = BACK_OFF.0;
            }
            kept.wait(now);
        }
    }

    /// A dial came to nothing.
    pub(super) fn on_failed(&mut self, now: Instant, key: LinkKey) {
        if let Some(kept) = self.peers.get_mut(&key)
            && kept.state == State::Dialling
        {
            kept.wait(now);
        }
    }

    /// Everybody who is not linked is tried at once: what kept us from them may be over.
    pub(super) fn start_over(&mut self, now: Instant) {
        for kept in self.peers.values_mut() {
            kept.back_off = BACK_OFF.0;
            if let State::Waiting { due } = &mut kept.state {
                *due = (*due).min(now);
            }
        }
    }

    /// Returns all peers, with where they were reached last.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &PeerAddress> {
        self.peers.values().map(|kept| &kept.address)
    }
}

impl Kept {
    fn wait(&mut self, now: Instant) {
        self.state = State::Waiting { due: now + self.back_off };
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const OWN: LinkKey = LinkKey::from_bytes([0; 32]);
    const PEER: LinkKey = LinkKey::from_bytes([1; 32]);

    fn peer(key: LinkKey) -> PeerAddress {
        PeerAddress { link_key: key, addrs: vec!["192.0.2.1:6084".parse().unwrap()] }
    }

    #[test]
    fn a_silent_peer_is_dialled_after_half_a_second_then_ever_more_seldom() {
        let mut now = Instant::now();
        let mut keeper = Keeper::new(now, OWN, &[peer(PEER)], true);
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(keeper.due(now, 0).len(), 1);
            assert!(keeper.due(now, 0).is_empty(), "dialled twice at once");
            keeper.on_failed(now, PEER);
            let due = keeper.poll_timeout(0).unwrap();
            waits.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(waits[..4], [500, 1000, 2000, 4000]);
        assert_eq!(waits[11], 300_000);
    }

    #[test]
    fn a_lost_link_starts_over_with_a_short_wait() {
        let now = Instant::now();
        let mut keeper = Keeper::new(now, OWN, &[peer(PEER)], true);
        for _ in 0..5 {
            let now = keeper.poll_timeout(0).unwrap();
            keeper.due(now, 0);
            keeper.on_failed(now, PEER);
        }
        keeper.on_up(now, &peer(PEER));
        assert_eq!(keeper.poll_timeout(1), None);
        keeper.on_down(now + LASTING, PEER);
        assert_eq!(keeper.poll_timeout(0), Some(now + LASTING + Duration::from_millis(500)));
    }

    #[test]
    fn after_a_change_of_the_network_everybody_is_tried_at_once() {
        let mut now = Instant::now();
        let mut keeper = Keeper::new(now, OWN, &[peer(PEER)], true);
        for _ in 0..12 {
            keeper.due(now, 0);
            keeper.on_failed(now, PEER);
            now = keeper.poll_timeout(0).unwrap();
        }
        keeper.due(now, 0);
        keeper.on_failed(now, PEER);
        now += Duration::from_secs(1);
        keeper.start_over(now);
        assert_eq!(keeper.due(now, 0).len(), 1);
        keeper.on_failed(now, PEER);
        assert_eq!(keeper.poll_timeout(0), Some(now + Duration::from_millis(500)));
    }

    #[test]
    fn a_peer_that_closes_every_link_at_once_is_dialled_ever_more_seldom() {
        let mut now = Instant::now();
        let mut keeper = Keeper::new(now, OWN, &[peer(PEER)], true);
        for wait_ms in [500, 1000, 2000, 4000] {
            keeper.due(now, 0);
            keeper.on_up(now, &peer(PEER));
            keeper.on_down(now, PEER);
            let due = keeper.poll_timeout(0).unwrap();
            assert_eq!((due - now).as_millis(), wait_ms);
            now = due;
        }
    }

    #[test]
    fn nobody_is_dialled_while_there_are_links_enough() {
        let now = Instant::now();
        let mut keeper = Keeper::new(now, OWN, &[peer(PEER)], true);
        assert!(keeper.due(now, ENOUGH_LINKS).is_empty());
        assert_eq!(keeper.poll_timeout(ENOUGH_LINKS), None);
        assert_eq!(keeper.due(now, 0).len(), 1);
    }

    #[test]
    fn a_peer_that_is_told_of_later_is_dialled_at_once_and_so_is_a_new_place_of_one() {
        let mut now = Instant::now();
        let mut keeper = Keeper::new(now, OWN, &[], true);
        keeper.add(now, &peer(PEER));
        for _ in 0..6 {
            assert_eq!(keeper.due(now, 0).len(), 1);
            keeper.on_failed(now, PEER);
            now = keeper.poll_timeout(0).unwrap();
        }
        keeper.due(now, 0);
        keeper.on_failed(now, PEER);
        keeper.add(now, &peer(PEER));
        assert!(keeper.due(now, 0).is_empty(), "nothing new was told");
        let moved = PeerAddress { link_key: PEER, addrs: vec!["192.0.2.9:6084".parse().unwrap()] };
        keeper.add(now, &moved);
        assert_eq!(keeper.due(now, 0)[0].addrs.len(), 2);
    }

    #[test]
    fn no_more_peers_are_kept_than_a_start_needs() {
        let mut keeper = Keeper::new(Instant::now(), OWN, &[], true);
        for number in 1..=u8::try_from(MAX_KEPT + 9).unwrap() {
            keeper.add(Instant::now(), &peer(LinkKey::from_bytes([number; 32])));
        }
        assert_eq!(keeper.addresses().count(), MAX_KEPT);
    }

    #[test]
    fn a_node_that_does_not_serve_is_content_with_few_links() {
        let now = Instant::now();
        let mut keeper = Keeper::new(now, OWN, &[peer(PEER)], false);
        assert!(keeper.due(now, CLIENT_LINKS).is_empty());
        assert_eq!(keeper.due(now, CLIENT_LINKS - 1).len(), 1);
    }

    #[test]
    fn we_are_no_peer_of_our_own() {
        assert_eq!(Keeper::new(Instant::now(), OWN, &[peer(OWN)], true).addresses().count(), 0);
    }

    #[test]
    fn what_a_link_shows_of_a_peer_is_tried_first_next_time() {
        let mut keeper = Keeper::new(Instant::now(), OWN, &[peer(PEER)], true);
        keeper.on_up(Instant::now(), &PeerAddress { link_key: PEER, addrs: vec!["198.51.100.1:1".parse().unwrap()] });
        let addrs = &keeper.addresses().next().unwrap().addrs;
        assert_eq!(addrs[0], "198.51.100.1:1".parse().unwrap());
        assert_eq!(addrs.len(), 2);
    }
}
