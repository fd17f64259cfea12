//! The table of open connections, of every stream transport: who is at the other end, and how much of this node one
//! source and one listener may hold.
//!
//! Each listener has room of its own, so that a flood at one shuts nobody out of the others. In a full one whoever has been
//! there longest without a word makes room for the next: a phone that speaks at once gets in all the same.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meshtone_sip::transport::Transport;
use tokio::sync::{Notify, mpsc};

use super::dispatch::Outgoing;

/// Connections that one listener keeps at once: a descriptor and about 40 KiB each.
pub(super) const MAX_CONNECTIONS_PER_LISTENER: usize = 2048;
/// Connections that this node has opened itself: to phones behind TCP and to servers of other domains.
pub(super) const MAX_OPENED: usize = 2048;
/// Connections from one address: an office behind one NAT fits, a single flooder does not take them all.
pub(super) const MAX_CONNECTIONS_PER_SOURCE: usize = 512;
/// Connections from one address that have not brought a single message yet: a slow loris stays among these.
pub(super) const MAX_UNPROVEN_PER_SOURCE: usize = 128;

/// What a connection must be to serve a request that names where it goes, rather than a flow.
///
/// A TLS connection is found by the name that its certificate was verified for as well: the address alone proves
/// nothing about who listens there (RFC 5923 §9.1). Connections that others opened have no verified name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) transport: Transport,
    pub(super) remote: SocketAddr,
    pub(super) name: Option<Arc<str>>,
}

/// What a connection is told, and told by.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) id: u64,
    /// Wakes whoever reads from it once the entry has gone.
    pub(super) closed: Arc<Notify>,
}

#[derive(Default)]
pub(super) struct Connections {
    by_id: HashMap<u64, Connection>,
    by_target: HashMap<Target, u64>,
    per_source: HashMap<IpAddr, Held>,
    accepted: HashMap<u16, Accepted>,
    opened: usize,
    last_id: u64,
}

struct Connection {
    target: Target,
    /// The listener that accepted it; `None` when this node opened it.
    listener: Option<u16>,
    queue: mpsc::Sender<Outgoing>,
    closed: Arc<Notify>,
    proven: bool,
}

/// How much one listener holds.
#[derive(Default)]
struct Accepted {
    all: usize,
    /// Those that have not brought a message, oldest first.
    unproven: BTreeSet<u64>,
}

/// How much one source holds.
#[derive(Default)]
struct Held {
    all: usize,
    unproven: usize,
}

impl Connections {
    /// Enters a connection that a listener accepted, or with `None` one that this node opens; `None` when there are too many,
    /// or too many of this source.
    ///
    /// One that this node opens itself is proven from the start: it was not the other side's wish.
    pub(super) fn add(
        &mut self,
        target: Target,
        queue: mpsc::Sender<Outgoing>,
        listener: Option<u16>,
    ) -> Option<Handle> {
        let held = self.per_source.get(&target.remote.ip());
        let (all, unproven) = held.map_or((0, 0), |held| (held.all, held.unproven));
        let is_unproven = listener.is_some();
        if all >= MAX_CONNECTIONS_PER_SOURCE || (is_unproven && unproven >= MAX_UNPROVEN_PER_SOURCE) {
            return None;
        }
        self.make_room(listener)?;
        self.last_id += 1;
        let id = self.last_id;
        match listener {
            Some(listener) => {
                let accepted = self.accepted.entry(listener).or_default();
                accepted.all += 1;
                accepted.unproven.insert(id);
            }
            None => self.opened += 1,
        }
        let closed = Arc::new(Notify::new());
        let held = self.per_source.entry(target.remote.ip()).or_default();
        held.all += 1;
        held.unproven += usize::from(is_unproven);
        self.by_target.insert(target.clone(), id);
        let connection = Connection { target, listener, queue, closed: closed.clone(), proven: !is_unproven };
        self.by_id.insert(id, connection);
        Some(Handle { id, closed })
    }

    /// Sees to it that one more connection fits; `None` if it cannot.
    fn make_room(&mut self, listener: Option<u16>) -> Option<()> {
        let Some(listener) = listener else { return (self.opened < MAX_OPENED).then_some(()) };
        let accepted = self.accepted.entry(listener).or_default();
        if accepted.all >= MAX_CONNECTIONS_PER_LISTENER {
            let silent = accepted.unproven.first().copied()?;
            self.remove(silent);
        }
        Some(())
    }

    /// Notes that a connection has brought a message.
    pub(super) fn prove(&mut self, id: u64) {
        let Some(connection) = self.by_id.get_mut(&id) else { return };
        if !connection.proven {
            connection.proven = true;
            if let Some(accepted) = connection.listener.and_then(|listener| self.accepted.get_mut(&listener)) {
                accepted.unproven.remove(&id);
            }
            if let Some(held) = self.per_source.get_mut(&connection.target.remote.ip()) {
                held.unproven = held.unproven.saturating_sub(1);
            }
        }
    }

    /// Takes a connection out, which closes it once what waits in its queue is written.
    pub(super) fn remove(&mut self, id: u64) {
        let Some(gone) = self.by_id.remove(&id) else { return };
        gone.closed.notify_one();
        if self.by_target.get(&gone.target) == Some(&id) {
            self.by_target.remove(&gone.target);
        }
        match gone.listener.map(|listener| self.accepted.entry(listener).or_default()) {
            Some(accepted) => {
                accepted.all = accepted.all.saturating_sub(1);
                accepted.unproven.remove(&id);
            }
            None => self.opened = self.opened.saturating_sub(1),
        }
        let source = gone.target.remote.ip();
        if let Some(held) = self.per_source.get_mut(&source) {
            held.all = held.all.saturating_sub(1);
            held.unproven = held.unproven.saturating_sub(usize::from(!gone.proven));
            if held.all == 0 {
                self.per_source.remove(&source);
            }
        }
    }

    /// The open connection that fits.
    pub(super) fn find(&self, target: &Target) -> Option<u64> {
        self.by_target.get(target).copied()
    }

    /// The same target by the name that was proven at its address, if its own name is but that address, so that nobody was
    /// ever asked to prove it, and connections there have proven one name and no other.
    ///
    /// For requests within a dialog, whose address a flow token vouches for: many servers name themselves by their address
    /// in Record-Route, for which their certificate has no word.
    pub(super) fn as_proven(&self, target: Target) -> Target {
        let is_address = target.name.as_ref().is_some_and(|name| name.parse() == Ok(target.remote.ip()));
        if !is_address || self.by_target.contains_key(&target) {
            return target;
        }
        let same_place = |other: &&Target| {
            other.transport == target.transport && other.remote == target.remote && other.name.is_some()
        };
        let mut proven = self.by_target.keys().filter(same_place);
        match (proven.next(), proven.next()) {
            (Some(only), None) => only.clone(),
            (Some(_), Some(_)) | (None, _) => target,
        }
    }

    /// Where to put what a connection shall write.
    pub(super) fn queue(&self, id: u64) -> Option<mpsc::Sender<Outgoing>> {
        self.by_id.get(&id).map(|connection| connection.queue.clone())
    }

    /// Whether connection `id` is open, and the very one to `remote` over `transport`.
    pub(super) fn is_open(&self, id: u64, transport: Transport, remote: SocketAddr) -> bool {
        self.by_id.get(&id).is_some_and(|open| open.target.transport == transport && open.target.remote == remote)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target(port: u16, name: Option<&str>) -> Target {
        let remote = SocketAddr::from(([192, 0, 2, 1], port));
        Target { transport: Transport::Tls, remote, name: name.map(Arc::from) }
    }

    fn add(connections: &mut Connections, target: Target) -> Option<u64> {
        connections.add(target, mpsc::channel(1).0, Some(0)).map(|handle| handle.id)
    }

    #[test]
    fn a_source_that_says_nothing_gets_fewer_connections_than_one_that_does() {
        let mut connections = Connections::default();
        let most = u16::try_from(MAX_UNPROVEN_PER_SOURCE).unwrap();
        let ids: Vec<u64> = (0..most).map(|port| add(&mut connections, target(port, None)).unwrap()).collect();
        assert_eq!(add(&mut connections, target(most, None)), None);
        connections.prove(ids[0]);
        connections.prove(ids[0]);
        assert!(add(&mut connections, target(most, None)).is_some());
        assert_eq!(add(&mut connections, target(most + 1, None)), None);
    }

    /// Fills a listener from as many sources as that takes, and returns the connections.
    fn fill(connections: &mut Connections, listener: u16) -> Vec<Handle> {
        let add = |number: usize| {
            let host = u16::try_from(number / MAX_UNPROVEN_PER_SOURCE).unwrap().to_be_bytes();
            let port = u16::try_from(number % MAX_UNPROVEN_PER_SOURCE).unwrap();
            let remote = SocketAddr::from(([10, u8::try_from(listener).unwrap(), host[0], host[1]], port));
            let target = Target { transport: Transport::Ws, remote, name: None };
            connections.add(target, mpsc::channel(1).0, Some(listener)).unwrap()
        };
        (0..MAX_CONNECTIONS_PER_LISTENER).map(add).collect()
    }

    #[test]
    fn a_flood_at_one_listener_leaves_the_others_and_what_we_open_alone() {
        let mut connections = Connections::default();
        for handle in fill(&mut connections, 2) {
            connections.prove(handle.id);
        }
        let on = |connections: &mut Connections, listener| {
            connections.add(target(1, None), mpsc::channel(1).0, listener).is_some()
        };
        assert!(!on(&mut connections, Some(2)), "nobody there has to go for a newcomer who has said nothing");
        assert!(on(&mut connections, Some(1)) && on(&mut connections, None));
    }

    #[test]
    fn in_a_full_listener_the_one_who_has_been_silent_longest_makes_room() {
        let mut connections = Connections::default();
        let flood = fill(&mut connections, 0);
        connections.prove(flood[0].id);
        let newcomer = add(&mut connections, target(1, None)).unwrap();
        let is_there = |connections: &Connections, id| connections.queue(id).is_some();
        assert!(is_there(&connections, newcomer));
        assert!(is_there(&connections, flood[0].id), "who has spoken stays");
        assert!(!is_there(&connections, flood[1].id) && is_there(&connections, flood[2].id));
        assert_eq!(connections.accepted[&0].all, MAX_CONNECTIONS_PER_LISTENER);
        connections.prove(newcomer);
        for handle in &flood {
            connections.remove(handle.id);
        }
        connections.remove(newcomer);
        assert_eq!((connections.accepted[&0].all, connections.accepted[&0].unproven.len()), (0, 0));
        assert!(connections.per_source.is_empty());
    }

    #[test]
    fn what_is_removed_makes_room_again() {
        let mut connections = Connections::default();
        for round in 0..3 {
            let ports = 0..u16::try_from(MAX_UNPROVEN_PER_SOURCE).unwrap();
            let ids: Vec<u64> = ports.map(|port| add(&mut connections, target(port, None)).unwrap()).collect();
            if round == 1 {
                ids.iter().for_each(|id| connections.prove(*id));
            }
            ids.iter().for_each(|id| connections.remove(*id));
        }
        assert!(connections.per_source.is_empty() && connections.by_target.is_empty());
    }

    #[test]
    fn a_connection_serves_only_the_name_that_it_was_verified_for() {
        let mut connections = Connections::default();
        let id = add(&mut connections, target(5061, Some("a.example"))).unwrap();
        assert_eq!(connections.find(&target(5061, Some("a.example"))), Some(id));
        assert_eq!(connections.find(&target(5061, Some("b.example"))), None);
        assert_eq!(connections.find(&target(5061, None)), None);
    }

    #[test]
    fn an_address_stands_for_the_one_name_that_was_proven_there() {
        let mut connections = Connections::default();
        let by_address = || target(5061, Some("192.0.2.1"));
        let accepted = add(&mut connections, target(5061, None)).unwrap();
        assert_eq!(connections.as_proven(by_address()), by_address(), "who connected to us has proven nothing");
        connections.remove(accepted);
        connections.add(target(5061, Some("a.example")), mpsc::channel(1).0, None).unwrap();
        assert_eq!(connections.as_proven(by_address()), target(5061, Some("a.example")));
        assert_eq!(connections.as_proven(target(5061, Some("b.example"))), target(5061, Some("b.example")));
        assert_eq!(connections.as_proven(target(5061, Some("192.0.2.2"))), target(5061, Some("192.0.2.2")));
        assert_eq!(connections.as_proven(target(5062, Some("192.0.2.1"))), target(5062, Some("192.0.2.1")));
        connections.add(target(5061, Some("b.example")), mpsc::channel(1).0, None).unwrap();
        assert_eq!(connections.as_proven(by_address()), by_address(), "which of the two, nobody can tell");
    }

    #[test]
    fn a_number_means_a_connection_only_with_its_transport_and_address() {
        let mut connections = Connections::default();
        let id = add(&mut connections, target(5061, None)).unwrap();
        let remote = target(5061, None).remote;
        assert!(connections.is_open(id, Transport::Tls, remote));
        assert!(!connections.is_open(id, Transport::Tcp, remote));
        assert!(!connections.is_open(id, Transport::Tls, target(1, None).remote));
    }
}
