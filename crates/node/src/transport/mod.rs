//! Everything SIP travels on: UDP, TCP and the links between nodes, behind one `send`.
//!
//! No routing is decided here: a [`Destination`] says where to, and what cannot be delivered is reported to the
//! worker that asked (RFC 3261 §18.4).

pub(crate) mod dispatch;
mod peer;
mod stream;
mod udp;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::node::Overlay;
use meshtone_sip::transport::{Destination, Flow, Locals, Transmit, Transport};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use dispatch::{Dispatch, Outgoing, Report};
pub(crate) use peer::{host_of, node_of};

/// Connections kept at once: a descriptor and about 40 KiB each.
const MAX_CONNECTIONS: usize = 4096;
/// Connections from one address: an office behind one NAT fits, a single flooder does not take them all.
const MAX_CONNECTIONS_PER_SOURCE: usize = 512;
/// Remembered answers to "which of my addresses faces that one".
const MAX_LOCAL_ADDRESSES: usize = 4096;

/// The node's SIP sockets, connections and peer streams.
pub(crate) struct Transports {
    listeners: Vec<Listener>,
    connections: Mutex<Connections>,
    facing: Mutex<HashMap<IpAddr, IpAddr>>,
    peers: peer::PeerTransport,
    dispatch: Dispatch,
}

struct Listener {
    address: SocketAddr,
    udp: Arc<UdpSocket>,
}

#[derive(Default)]
struct Connections {
    by_id: HashMap<u64, Connection>,
    by_remote: HashMap<SocketAddr, u64>,
    per_source: HashMap<IpAddr, usize>,
    last_id: u64,
}

struct Connection {
    remote: SocketAddr,
    queue: mpsc::Sender<Outgoing>,
}

impl Transports {
    /// Binds every address for UDP and TCP and starts receiving.
    ///
    /// # Errors
    /// The address that could not be bound, with the system's reason.
    pub(crate) fn start(
        addresses: &[SocketAddr],
        overlay: Overlay,
        dispatch: Dispatch,
    ) -> Result<Arc<Self>, (SocketAddr, io::Error)> {
        let mut listeners = Vec::new();
        let mut tcp = Vec::new();
        for &address in addresses {
            let udp = udp::bind(address).map_err(|error| (address, error))?;
            let address = udp.local_addr().map_err(|error| (address, error))?;
            tcp.push(bind_tcp(address).map_err(|error| (address, error))?);
            listeners.push(Listener { address, udp: Arc::new(udp) });
        }
        let transports = Arc::new(Self {
            listeners,
            connections: Mutex::default(),
            facing: Mutex::default(),
            peers: peer::PeerTransport::new(overlay),
            dispatch,
        });
        for (index, (listener, tcp)) in transports.listeners.iter().zip(tcp).enumerate() {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            tokio::spawn(udp::receive(index, listener.udp.clone(), transports.dispatch.clone()));
            tokio::spawn(stream::accept(transports.clone(), index, tcp));
        }
        tokio::spawn(peer::accept(transports.clone()));
        Ok(transports)
    }

    /// The addresses listened on, with the ports really bound.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// Sends for worker number `worker`; a failure comes back to it as an input.
    pub(crate) fn send(self: &Arc<Self>, worker: usize, transmit: Transmit) {
        let Transmit { destination, message, origin } = transmit;
        let report = origin.map(|origin| Report { worker, origin });
        let bytes = message.bytes().clone();
        match destination {
            Destination::Flow(Flow::Udp { listener, remote }) => self.send_datagram(listener, remote, &bytes, report),
            Destination::Flow(Flow::Stream { connection, .. }) => {
                self.send_on_connection(connection, Outgoing { bytes, report });
            }
            Destination::Flow(Flow::Peer { host }) | Destination::Peer(host) => match node_of(&host) {
                Some(node) => peer::send(self, node, message.call_id(), Outgoing { bytes, report }),
                None => self.dispatch.failed(report),
            },
            Destination::Address { transport: Transport::Udp, addr, listener } => {
                self.send_datagram(listener, addr, &bytes, report);
            }
            Destination::Address { transport: Transport::Tcp, addr, listener } => {
                self.send_by_tcp(listener, addr, Outgoing { bytes, report });
            }
            Destination::Address {
                transport: Transport::Tls | Transport::Ws | Transport::Wss | Transport::Peer,
                addr,
                ..
            } => {
                tracing::debug!(%addr, "no such transport towards an address");
                self.dispatch.failed(report);
            }
        }
    }

    /// The home domains that a linked peer has proven, for deciding whom it may speak for.
    pub(crate) fn peer_domains(&self, node: NodeId) -> Vec<String> {
        self.peers.domains(node)
    }

    fn send_datagram(&self, listener: u16, remote: SocketAddr, bytes: &[u8], report: Option<Report>) {
        let Some(listener) = self.listeners.get(usize::from(listener)) else {
            self.dispatch.failed(report);
            return;
        };
        match listener.udp.try_send_to(bytes, remote) {
            Ok(_) => {}
            // The kernel's queue is full: lost like any datagram, and sent again like any.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::debug!(%remote, %error, "UDP send");
                self.dispatch.failed(report);
            }
        }
    }

    fn send_by_tcp(self: &Arc<Self>, listener: u16, remote: SocketAddr, outgoing: Outgoing) {
        let open = self.connections().by_remote.get(&remote).copied();
        if let Some(connection) = open {
            self.send_on_connection(connection, outgoing);
            return;
        }
        let (queue, waiting) = mpsc::channel(stream::STREAM_QUEUE);
        let Some(connection) = self.add_connection(remote, queue.clone()) else {
            self.dispatch.failed(outgoing.report);
            return;
        };
        // A fresh queue has room.
        let _ = queue.try_send(outgoing);
        tokio::spawn(stream::connect(self.clone(), listener, connection, remote, waiting));
    }

    fn send_on_connection(&self, connection: u64, outgoing: Outgoing) {
        let queue = self.connections().by_id.get(&connection).map(|connection| connection.queue.clone());
        match queue {
            None => self.dispatch.failed(outgoing.report),
            Some(queue) => {
                if let Err(refused) = queue.try_send(outgoing) {
                    // A reader 256 messages behind has gone, or is of no use.
                    self.remove_connection(connection);
                    self.dispatch.failed(refused.into_inner().report);
                }
            }
        }
    }

    fn pong(&self, connection: u64) {
        self.send_on_connection(connection, Outgoing { bytes: Bytes::from_static(b"\r\n"), report: None });
    }

    fn add_connection(&self, remote: SocketAddr, queue: mpsc::Sender<Outgoing>) -> Option<u64> {
        let mut connections = self.connections();
        let of_source = connections.per_source.get(&remote.ip()).copied().unwrap_or(0);
        if connections.by_id.len() >= MAX_CONNECTIONS || of_source >= MAX_CONNECTIONS_PER_SOURCE {
            return None;
        }
        connections.last_id += 1;
        let id = connections.last_id;
        connections.by_id.insert(id, Connection { remote, queue });
        connections.by_remote.insert(remote, id);
        connections.per_source.insert(remote.ip(), of_source + 1);
        Some(id)
    }

    fn remove_connection(&self, id: u64) {
        let mut connections = self.connections();
        let Some(gone) = connections.by_id.remove(&id) else { return };
        if connections.by_remote.get(&gone.remote) == Some(&id) {
            connections.by_remote.remove(&gone.remote);
        }
        if let Some(count) = connections.per_source.get_mut(&gone.remote.ip()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                connections.per_source.remove(&gone.remote.ip());
            }
        }
    }

    /// Reports everything that still waits in a queue nobody will write.
    fn fail_all(&self, waiting: &mut mpsc::Receiver<Outgoing>) {
        waiting.close();
        while let Ok(outgoing) = waiting.try_recv() {
            self.dispatch.failed(outgoing.report);
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which address of this machine faces `remote`, asked of the kernel's routing table without sending anything.
    pub(crate) fn address_facing(&self, remote: IpAddr) -> IpAddr {
        let mut facing = self.facing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = facing.get(&remote) {
            return *known;
        }
        let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let asked = std::net::UdpSocket::bind((any, 0))
            .and_then(|socket| socket.connect((remote, 9)).and_then(|()| socket.local_addr()))
            .map(|address| address.ip());
        let Ok(found) = asked else { return any };
        if facing.len() >= MAX_LOCAL_ADDRESSES {
            facing.clear();
        }
        facing.insert(remote, found);
        found
    }

    fn own_address(&self, listener: u16, remote: IpAddr) -> SocketAddr {
        let address = self
            .listeners
            .get(usize::from(listener))
            .or_else(|| self.listeners.first())
            .map_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060)), |listener| listener.address);
        if address.ip().is_unspecified() {
            SocketAddr::new(self.address_facing(remote), address.port())
        } else {
            address
        }
    }

    fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        self.listeners.iter().any(|listener| {
            listener.address.port() == port
                && (listener.address.ip() == ip
                    || listener.address.ip().is_unspecified() && (ip.is_loopback() || self.address_facing(ip) == ip))
        })
    }
}

/// What a worker's SIP engine asks about this node's addresses.
pub(crate) struct LocalView(pub(crate) Arc<Transports>);

impl Locals for LocalView {
    fn sent_by(&self, destination: &Destination) -> String {
        match destination {
            Destination::Flow(Flow::Udp { listener, remote } | Flow::Stream { listener, remote, .. }) => {
                self.0.own_address(*listener, remote.ip()).to_string()
            }
            Destination::Address { listener, addr, .. } => self.0.own_address(*listener, addr.ip()).to_string(),
            Destination::Flow(Flow::Peer { .. }) | Destination::Peer(_) => self.0.peers.own_host().to_owned(),
        }
    }

    fn is_local(&self, host: &str, port: Option<u16>) -> bool {
        if host.eq_ignore_ascii_case(self.0.peers.own_host()) {
            return true;
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().is_ok_and(|ip| self.0.is_own(ip, port.unwrap_or(5060)))
    }

    fn flow_is_open(&self, flow: &Flow) -> bool {
        match flow {
            Flow::Udp { .. } | Flow::Peer { .. } => true,
            // Numbers begin anew at each start, and flow tokens outlive it: the other side must be the same too.
            Flow::Stream { connection, remote, .. } => {
                self.0.connections().by_id.get(connection).is_some_and(|open| open.remote == *remote)
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A node that restarts must get its port back while old connections are in TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}
