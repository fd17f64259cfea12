//! Which relays there are: found among the nodes that are known, in what each says of itself. Pure.
//!
//! A node that runs a relay says so in its address record. So whoever needs one reads the records of the nodes that it has links to,
//! then of others that it has heard of, until it knows enough relays; those it knows are read again before their records run out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use meshtone_identity::NodeId;

use crate::link::relay::RelayPlace;
use crate::link::relay::client::MAX_KEPT;

/// With so many relays known no more are looked for: two that are used, and some to choose from by their delay.
const ENOUGH: usize = MAX_KEPT;

/// Records that are read at the same time.
const AT_ONCE: usize = 4;

/// Nodes that are remembered with what they said: more than a node has links.
const MAX_NODES: usize = 256;

/// A relay's record is read again so often: it lives for ten minutes.
const RELAY_AGAIN: Duration = Duration::from_secs(240);

/// The same of a node without one; it may come to run one.
const OTHER_AGAIN: Duration = Duration::from_secs(600);

/// The same while there are fewer than two: somebody may just have begun.
const NEEDY_AGAIN: Duration = Duration::from_secs(30);

/// And while there is none at all: of [`ASKED`] nodes, that is two small requests a second.
const NONE_AGAIN: Duration = Duration::from_secs(8);

/// Nodes whose records are read: of sixteen that serve, one in ten of which runs a relay, four of five times one does.
const ASKED: usize = 16;

/// A TURN server that a node runs for users of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// The node.
    pub node: NodeId,
    /// Its addresses.
    pub hosts: Vec<IpAddr>,
    /// The port there, UDP and TCP.
    pub port: u16,
}

/// What is known of relays.
#[derive(Debug, Default)]
pub(super) struct RelaySearch {
    known: BTreeMap<NodeId, Known>,
    asking: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Known {
    read_at: Instant,
    relay: Option<RelayPlace>,
    turn: Option<u16>,
}

impl RelaySearch {
    /// Returns whose records are to be read now, of these nodes, the best first.
    pub(super) fn due(&mut self, now: Instant, nodes: &[NodeId]) -> Vec<NodeId> {
        let relays = self.relays().count();
        let mut due = Vec::new();
        for node in nodes.get(..ASKED).unwrap_or(nodes) {
            if self.asking.len() >= AT_ONCE {
                break;
            }
            let wait = match self.known.get(node) {
                Some(Known { relay: Some(_), .. }) => Some(RELAY_AGAIN),
                _ if relays >= ENOUGH => None,
                Some(_) if relays == 0 => Some(NONE_AGAIN),
                Some(_) if relays < 2 => Some(NEEDY_AGAIN),
                Some(_) => Some(OTHER_AGAIN),
                None => Some(Duration::ZERO),
            };
            let read_at = self.known.get(node).map(|known| known.read_at);
            let is_due = wait.is_some_and(|wait| read_at.is_none_or(|at| at + wait <= now));
            if is_due && self.asking.insert(*node) {
                due.push(*node);
            }
        }
        due
    }

    /// Takes note of what a node says of its relay; `None` where it has none. Whether that is news.
    pub(super) fn on_record(&mut self, now: Instant, node: NodeId, relay: Option<RelayPlace>) -> bool {
        self.asking.remove(&node);
        if self.known.len() >= MAX_NODES && !self.known.contains_key(&node) {
            let oldest =
                self.known.iter().filter(|(_, known)| known.relay.is_none()).min_by_key(|(_, known)| known.read_at);
            let Some(oldest) = oldest.map(|(node, _)| *node) else { return false };
            self.known.remove(&oldest);
        }
        let before = self.known.insert(node, Known { read_at: now, relay: relay.clone(), turn: None });
        before.and_then(|known| known.relay) != relay
    }

    /// Takes note of what a node whose record was read says of its TURN server.
    pub(super) fn on_turn(&mut self, node: NodeId, turn: Option<u16>) {
        if let Some(known) = self.known.get_mut(&node) {
            known.turn = turn;
        }
    }

    /// Returns the TURN servers that are known: those of nodes with relays, at the same addresses.
    pub(super) fn turn_servers(&self) -> Vec<TurnServer> {
        let servers = self.known.iter().filter_map(|(node, known)| {
            let (relay, port) = known.relay.as_ref().zip(known.turn)?;
            Some(TurnServer { node: *node, hosts: relay.hosts.clone(), port })
        });
        servers.collect()
    }

    /// Takes note that a record could not be read; what was known stands.
    pub(super) fn on_failed(&mut self, now: Instant, node: NodeId) {
        self.asking.remove(&node);
        if let Some(known) = self.known.get_mut(&node) {
            // As long as a failing relay is known, it is tried again like one that is not.
            known.read_at = now;
        }
    }

    /// Returns the relays that are known, with their nodes.
    pub(super) fn relays(&self) -> impl Iterator<Item = (NodeId, &RelayPlace)> {
        self.known.iter().filter_map(|(node, known)| Some((*node, known.relay.as_ref()?)))
    }

    /// Returns those to use: at most as many as are measured.
    pub(super) fn wanted(&self) -> Vec<RelayPlace> {
        self.relays().map(|(_, relay)| relay.clone()).take(MAX_KEPT).collect()
    }
}

#[cfg(test)]
mod tests {
    use meshtone_identity::LinkKey;

    use super::*;
    use crate::record::RelayPorts;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn relay(number: u8) -> Option<RelayPlace> {
        let ports = RelayPorts { relay: 8443, discovery: 7842 };
        Some(RelayPlace { link_key: LinkKey::from_bytes([number; 32]), hosts: Vec::new(), ports })
    }

    fn nodes(count: u8) -> Vec<NodeId> {
        (0..count).map(node).collect()
    }

    #[test]
    fn nodes_are_asked_until_there_are_relays_enough() {
        let (mut search, now) = (RelaySearch::default(), Instant::now());
        let all = nodes(20);
        let mut asked = 0;
        while let Some(next) = search.due(now, &all).first().copied() {
            asked += 1;
            let number = next.as_bytes()[0];
            for node in search.asking.clone() {
                let is_relay = node.as_bytes()[0] % 2 == 0;
                search.on_record(now, node, if is_relay { relay(node.as_bytes()[0]) } else { None });
            }
            assert!(asked <= 20, "{number}");
        }
        assert!(search.relays().count() >= ENOUGH && search.known.len() < 20);
        assert_eq!(search.wanted().len(), MAX_KEPT);
    }

    #[test]
    fn a_record_is_read_again_before_it_runs_out_and_never_twice_at_once() {
        let (mut search, now) = (RelaySearch::default(), Instant::now());
        assert_eq!(search.due(now, &nodes(1)), nodes(1));
        assert_eq!(search.due(now, &nodes(1)), [], "it is being read");
        assert!(search.on_record(now, node(0), relay(0)));
        assert_eq!(search.due(now, &nodes(1)), []);
        assert_eq!(search.due(now + RELAY_AGAIN, &nodes(1)), nodes(1));
        search.on_failed(now + RELAY_AGAIN, node(0));
        assert_eq!(search.relays().count(), 1, "what was known stands");
        assert!(search.on_record(now + RELAY_AGAIN, node(0), None), "it has none any more");
    }

    #[test]
    fn turn_servers_are_those_of_nodes_that_are_reached_and_go_with_their_records() {
        let (mut search, now) = (RelaySearch::default(), Instant::now());
        search.on_turn(node(1), Some(3478));
        assert_eq!(search.turn_servers(), [], "its record was not read");
        for number in [1, 2] {
            search.on_record(now, node(number), relay(number).filter(|_| number == 1));
            search.on_turn(node(number), Some(3478));
        }
        let known: Vec<NodeId> = search.turn_servers().into_iter().map(|server| server.node).collect();
        assert_eq!(known, [node(1)]);
        search.on_record(now, node(1), relay(1));
        search.on_turn(node(1), None);
        assert_eq!(search.turn_servers(), []);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut search, now) = (RelaySearch::default(), Instant::now());
        for number in 0..1000_u16 {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            search.on_record(now, NodeId::from_bytes(bytes), None);
        }
        assert_eq!(search.known.len(), MAX_NODES);
    }
}
