//! The table of open connections, of every stream transport: who is at the other end, and how much of this node one
//! source may hold.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meshtone_sip::transport::Transport;
use tokio::sync::{Notify, mpsc};

use super::dispatch::Outgoing;

/// Connections kept at once, of all listeners: a descriptor and about 40 KiB each.
pub(super) const MAX_CONNECTIONS: usize = 4096;
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
    last_id: u64,
}

struct Connection {
    target: Target,
    queue: mpsc::Sender<Outgoing>,
    closed: Arc<Notify>,
    proven: bool,
}

/// How much one source holds.
#[derive(Default)]
struct Held {
    all: usize,
    unproven: usize,
}

impl Connections {
    /// Enters a connection; `None` when there are too many, or too many of this source.
    ///
    /// One that this node opens itself is proven from the start: it was not the other side's wish.
    pub(super) fn add(&mut self, target: Target, queue: mpsc::Sender<Outgoing>, proven: bool) -> Option<Handle> {
        let held = self.per_source.get(&target.remote.ip());
        let (all, unproven) = held.map_or((0, 0), |held| (held.all, held.unproven));
        if self.by_id.len() >= MAX_CONNECTIONS
            || all >= MAX_CONNECTIONS_PER_SOURCE
            || (!proven && unproven >= MAX_UNPROVEN_PER_SOURCE)
        {
            return None;
        }
        self.last_id += 1;
        let id = self.last_id;
        let closed = Arc::new(Notify::new());
        let held = self.per_source.entry(target.remote.ip()).or_default();
        held.all += 1;
        held.unproven += usize::from(!proven);
        self.by_target.insert(target.clone(), id);
        self.by_id.insert(id, Connection { target, queue, closed: closed.clone(), proven });
        Some(Handle { id, closed })
    }

    /// Notes that a connection has brought a message.
    pub(super) fn prove(&mut self, id: u64) {
        let Some(connection) = self.by_id.get_mut(&id) else { return };
        if !connection.proven {
            connection.proven = true;
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
        connections.add(target, mpsc::channel(1).0, false).map(|handle| handle.id)
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
    fn a_number_means_a_connection_only_with_its_transport_and_address() {
        let mut connections = Connections::default();
        let id = add(&mut connections, target(5061, None)).unwrap();
        let remote = target(5061, None).remote;
        assert!(connections.is_open(id, Transport::Tls, remote));
        assert!(!connections.is_open(id, Transport::Tcp, remote));
        assert!(!connections.is_open(id, Transport::Tls, target(1, None).remote));
    }
}
