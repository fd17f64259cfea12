//! Everything SIP travels on: UDP, TCP, TLS, WebSocket and the links between nodes, behind one `send`.
//!
//! No routing is decided here: a [`Destination`] says where to, and what cannot be delivered is reported to the
//! worker that asked (RFC 3261 §18.4).

mod connections;
pub(crate) mod dispatch;
mod listeners;
mod next_hop;
mod open_files;
mod outbox;
mod peer;
pub(crate) mod policy;
mod stream;
mod stun;
mod tcp;
pub(crate) mod tls;
mod udp;
mod ws;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::RelayServer;
use meshtone_overlay::node::Overlay;
use meshtone_sip::message::{Message, ParseError};
use meshtone_sip::transport::{Destination, Flow, Locals, Transmit, Transport, host_port};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::acme::Challenges;
use crate::exchange::first_stage::FirstStage;
use crate::exchange::shard::Shard;
use crate::web::Pages;
use connections::{Connections, Target};
use dispatch::{Dispatch, Outgoing, Report};
pub(crate) use listeners::Addresses;
use listeners::Listeners;
pub(crate) use listeners::bind_tcp;
use outbox::Datagram;
pub(crate) use outbox::Outbox;
pub(crate) use peer::{ATTESTING_VERSION, DIVERTING_VERSION, Proven, host_of, node_of};
use tls::certificate::CertificateError;
use tls::showing::Showing;
use tls::{Connector, Tls};
pub(crate) use udp::bind as bind_udp;
use ws::Origins;

/// Remembered answers to "which of my addresses faces that one".
const MAX_LOCAL_ADDRESSES: usize = 4096;

/// The node's SIP sockets, connections and peer streams.
pub(crate) struct Transports {
    listeners: Listeners,
    connections: Mutex<Connections>,
    facing: Mutex<HashMap<IpAddr, IpAddr>>,
    peers: peer::PeerTransport,
    dispatch: Dispatch,
    /// Who is told that a connection has closed.
    on_closed: OnceLock<OnClosed>,
    /// Connections of clients that name it are its, at the listeners of the pages.
    relay: Option<RelayServer>,
    /// There is one wherever a listener needs it.
    tls: Option<Tls>,
    /// The same for the pages.
    page_tls: Option<Tls>,
    connector: Connector,
    origins: Origins,
    /// Connections that wait to be accepted, until the workers are there.
    accepting: Mutex<Vec<TcpListener>>,
    receivers: usize,
    dangerous_unsigned: bool,
}

/// Told the number of a connection that has closed.
pub(crate) type OnClosed = Box<dyn Fn(u64) + Send + Sync>;

/// What the transports are told at the start.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) addresses: Addresses,
    /// What TLS listeners show phones and other domains; needed where there is one.
    pub(crate) showing: Option<Showing>,
    /// What they show browsers.
    pub(crate) page_showing: Option<Showing>,
    /// What proves names to servers that are asked for certificates.
    pub(crate) challenges: Option<Challenges>,
    /// Certificate authorities to trust beside the usual ones, as a PEM file.
    pub(crate) authorities: Option<PathBuf>,
    /// Web sites, other than this host's own, whose pages may connect.
    pub(crate) origins: Vec<String>,
    /// Threads that receive from each UDP socket.
    pub(crate) receivers: usize,
    /// Other nodes sign nothing: see [`crate::dangerous`].
    pub(crate) dangerous_unsigned: bool,
}

/// Why the transports did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Transports {
    /// Binds every address. Nothing is received before [`Transports::receive`].
    ///
    /// # Errors
    /// The address that could not be bound, with the system's reason, or what is wrong with a certificate.
    pub(crate) fn start(settings: Settings, overlay: Overlay, dispatch: Dispatch) -> Result<Arc<Self>, TransportError> {
        let (listeners, accepting) = Listeners::bind(&settings.addresses)
            .map_err(|(address, reason)| TransportError::Listen(address, reason))?;
        open_files::provide(listeners.iter().count());
        let tls = |showing: Option<Showing>| {
            showing.map(|showing| Tls::new(showing, settings.challenges.clone())).transpose()
        };
        let transports = Arc::new(Self {
            listeners,
            connections: Mutex::default(),
            facing: Mutex::default(),
            relay: overlay.relay(),
            peers: peer::PeerTransport::new(overlay),
            dispatch,
            on_closed: OnceLock::new(),
            tls: tls(settings.showing)?,
            page_tls: tls(settings.page_showing)?,
            connector: Connector::new(settings.authorities.as_deref())?,
            origins: Origins::new(settings.origins),
            accepting: Mutex::new(accepting),
            receivers: settings.receivers.max(1),
            dangerous_unsigned: settings.dangerous_unsigned,
        });
        Ok(transports)
    }

    /// Lets the workers have what arrives from now on, or the first stage of a farm what does not come from other nodes; whoever asks
    /// for them gets the pages.
    ///
    /// # Errors
    /// The address that nothing could be received from, with the system's reason.
    pub(crate) fn receive(
        self: &Arc<Self>,
        workers: Vec<Arc<Shard>>,
        first_stage: Option<Arc<FirstStage>>,
        pages: &Pages,
    ) -> Result<(), TransportError> {
        self.dispatch.open(workers, first_stage);
        let accepting = std::mem::take(&mut *self.accepting.lock().unwrap_or_else(PoisonError::into_inner));
        for ((index, listener), socket) in self.listeners.iter().zip(accepting) {
            if let Some(udp) = &listener.udp {
                udp::receive(index, udp, self).map_err(|reason| TransportError::Listen(listener.address, reason))?;
            }
            tokio::spawn(tcp::accept(self.clone(), pages.clone(), index, listener.stream, socket));
        }
        tokio::spawn(peer::accept(self.clone()));
        Ok(())
    }

    fn relay(&self) -> Option<&RelayServer> {
        self.relay.as_ref()
    }

    /// Receives nothing any more.
    pub(crate) fn close(&self) {
        self.dispatch.close();
        for (_, listener) in self.listeners.iter() {
            if let Some(socket) = &listener.udp {
                udp::wake(socket, listener.address);
            }
        }
    }

    /// The addresses listened on, with the ports really bound.
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            sip: self.listeners.addresses(Transport::Tcp),
            tls: self.listeners.addresses(Transport::Tls),
            ws: self.listeners.addresses(Transport::Ws),
            wss: self.listeners.addresses(Transport::Wss),
        }
    }

    /// Sends for worker number `worker`; a failure comes back to it as an input. A datagram waits in the outbox until that is
    /// [sent](Self::send_all).
    pub(crate) fn send(self: &Arc<Self>, worker: usize, transmit: Transmit, outbox: &mut Outbox) {
        let Transmit { destination, message, origin } = transmit;
        let report = origin.map(|origin| Report { worker, origin });
        let bytes = || message.bytes().clone();
        match destination {
            Destination::Address { addr, .. } | Destination::Flow(Flow::Udp { remote: addr, .. })
                if !policy::is_sendable(addr) =>
            {
                tracing::debug!(%addr, "nothing is sent to such an address");
                self.dispatch.failed(report);
            }
            Destination::Flow(Flow::Udp { listener, remote }) => {
                outbox.push(Datagram { listener, remote, message, report });
            }
            Destination::Flow(Flow::Stream { connection, .. }) => {
                self.send_on_connection(connection, Outgoing { bytes: bytes(), report });
            }
            Destination::Flow(Flow::Peer { host }) | Destination::Peer(host) => match node_of(&host) {
                Some(node) => peer::send(self, node, message.call_id(), Outgoing { bytes: bytes(), report }),
                None => self.dispatch.failed(report),
            },
            Destination::Address { transport: Transport::Udp, addr, listener } => {
                outbox.push(Datagram { listener, remote: addr, message, report });
            }
            Destination::Address { transport: Transport::Tcp, addr, listener } => {
                let target = Target { transport: Transport::Tcp, remote: addr, name: None };
                self.send_by_connection(listener, target, Outgoing { bytes: bytes(), report });
            }
            Destination::Address { transport: Transport::Tls, addr, listener } => match next_hop::name(&message) {
                Some(name) => {
                    let target = Target { transport: Transport::Tls, remote: addr, name: Some(name) };
                    let is_within_dialog = message.is_request() && message.to_tag().is_some();
                    let target = if is_within_dialog { self.connections().as_proven(target) } else { target };
                    self.send_by_connection(listener, target, Outgoing { bytes: bytes(), report });
                }
                None => self.dispatch.failed(report),
            },
            Destination::Address { transport: Transport::Ws | Transport::Wss | Transport::Peer, addr, .. } => {
                tracing::debug!(%addr, "no such transport towards an address");
                self.dispatch.failed(report);
            }
        }
    }

    /// What a peer that has sent something has proven, for deciding whom it may speak for.
    pub(crate) fn proven(&self, node: NodeId) -> Option<Arc<Proven>> {
        let proven = self.peers.proven(node)?;
        Some(if self.dangerous_unsigned { Arc::new(Proven { version: 1, ..(*proven).clone() }) } else { proven })
    }

    /// The worker that messages with this Call-ID come to.
    pub(crate) fn worker_of(&self, call_id: &str) -> Option<usize> {
        self.dispatch.worker_of(call_id)
    }

    /// The address of the listener that a flow came in at; `None` for a link to another node.
    pub(crate) fn listener_address(&self, flow: &Flow) -> Option<SocketAddr> {
        match flow {
            Flow::Udp { listener, .. } | Flow::Stream { listener, .. } => self.listeners.address(*listener),
            Flow::Peer { .. } => None,
        }
    }

    /// Lets its worker handle a message from a stream.
    fn on_message(&self, flow: Flow, message: Message) {
        let mut outbox = Outbox::default();
        self.dispatch.stream(flow, message, &mut outbox);
        self.send_all(&mut outbox);
    }

    /// Lets its worker answer what a stream brought that is no message.
    fn on_bad(&self, flow: Flow, error: &ParseError, partial: Option<Message>) {
        let mut outbox = Outbox::default();
        self.dispatch.bad(flow, error, partial, &mut outbox);
        self.send_all(&mut outbox);
    }

    /// Sends what waits in an outbox.
    pub(crate) fn send_all(&self, outbox: &mut Outbox) {
        for Datagram { listener, remote, message, report } in outbox.drain() {
            let Some(socket) = self.listeners.udp(listener, remote) else {
                self.dispatch.failed(report);
                continue;
            };
            if let Err(error) = udp::send(socket, remote, message.bytes()) {
                tracing::debug!(%remote, %error, "UDP send");
                self.dispatch.failed(report);
            }
        }
    }

    /// Sends over the open connection that fits, else over a new one (RFC 3261 §18.1.1, RFC 5923).
    fn send_by_connection(self: &Arc<Self>, listener: u16, target: Target, outgoing: Outgoing) {
        let open = self.connections().find(&target);
        if let Some(connection) = open {
            self.send_on_connection(connection, outgoing);
            return;
        }
        let (queue, waiting) = mpsc::channel(stream::STREAM_QUEUE);
        let Some(handle) = self.connections().add(target.clone(), queue.clone(), None) else {
            self.dispatch.failed(outgoing.report);
            return;
        };
        // A fresh queue has room.
        let _ = queue.try_send(outgoing);
        tokio::spawn(tcp::connect(self.clone(), listener, target, handle, waiting));
    }

    fn send_on_connection(&self, connection: u64, outgoing: Outgoing) {
        let queue = self.connections().queue(connection);
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

    fn prove_connection(&self, id: u64) {
        self.connections().prove(id);
    }

    fn remove_connection(&self, id: u64) {
        self.connections().remove(id);
        if let Some(told) = self.on_closed.get() {
            told(id);
        }
    }

    /// Tells from now on of every connection that has closed, some more than once. It must not wait, nor send.
    pub(crate) fn tell_closed(&self, told: OnClosed) {
        let _ = self.on_closed.set(told);
    }

    /// Tells all workers that what waits for an answer over this flow gets none.
    pub(crate) fn flow_failed(&self, flow: &Flow) {
        self.dispatch.flow_failed(flow);
    }

    /// Whether nothing is received any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.dispatch.is_closed()
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

    /// The machine's addresses have changed: which of them faces whom is found out anew.
    pub(crate) fn forget_facing(&self) {
        self.facing.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Which address of this machine faces `remote`, as it was when that was asked first since the machine's network changed.
    pub(crate) fn address_facing(&self, remote: IpAddr) -> IpAddr {
        let known = self.facing.lock().unwrap_or_else(PoisonError::into_inner).get(&remote).copied();
        known.unwrap_or_else(|| self.address_facing_now(remote))
    }

    /// The same as it is now, for ports that are to be bound there: an address that this machine had a moment ago is of no use.
    pub(crate) fn address_facing_now(&self, remote: IpAddr) -> IpAddr {
        let Some(found) = facing(remote) else { return unspecified(remote) };
        let mut facing = self.facing.lock().unwrap_or_else(PoisonError::into_inner);
        if facing.len() >= MAX_LOCAL_ADDRESSES {
            facing.clear();
        }
        facing.insert(remote, found);
        found
    }

    fn own_address(&self, listener: u16, transport: Transport, remote: IpAddr) -> SocketAddr {
        let address = self.listeners.facing(listener, transport, remote);
        if address.ip().is_unspecified() {
            SocketAddr::new(self.address_facing(remote), address.port())
        } else {
            address
        }
    }

    /// The listener to send to `remote` from: one of its family, whose own address the kernel would choose if there is one.
    pub(crate) fn listener_facing(&self, remote: IpAddr) -> Option<u16> {
        let facing = self.address_facing(remote);
        let of_family = || self.listeners.iter().filter(|(_, listener)| listener.address.is_ipv4() == remote.is_ipv4());
        let is_best = |ip: IpAddr| ip.is_unspecified() || ip == facing;
        let best = of_family().find(|(_, listener)| is_best(listener.address.ip())).or_else(|| of_family().next());
        best.map(|(index, _)| index)
    }

    pub(crate) fn is_own(&self, ip: IpAddr, port: Option<u16>) -> bool {
        self.listeners.is_own(ip, port, |ip| self.address_facing(ip) == ip)
    }
}

/// The address of this machine that faces another one: the kernel's routing table is asked, and nothing sent.
pub(crate) fn facing(remote: IpAddr) -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((unspecified(remote), 0)).ok()?;
    socket.connect((remote, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Any address of the same family.
fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Where a listener is reached from this machine: one that listens on all addresses, at the loopback one.
pub(crate) fn reached_from_here(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// What a worker's SIP engine asks about this node's addresses.
pub(crate) struct LocalView(pub(crate) Arc<Transports>);

impl Locals for LocalView {
    fn sent_by(&self, destination: &Destination) -> String {
        match destination {
            Destination::Flow(Flow::Udp { listener, remote }) => {
                host_port(self.0.own_address(*listener, Transport::Udp, remote.ip()))
            }
            Destination::Flow(Flow::Stream { transport, listener, remote, .. }) => {
                host_port(self.0.own_address(*listener, *transport, remote.ip()))
            }
            Destination::Address { transport, listener, addr } => {
                host_port(self.0.own_address(*listener, *transport, addr.ip()))
            }
            Destination::Flow(Flow::Peer { .. }) | Destination::Peer(_) => self.0.peers.own_host().to_owned(),
        }
    }

    fn is_local(&self, host: &str, port: Option<u16>) -> bool {
        if host.eq_ignore_ascii_case(self.0.peers.own_host()) {
            return true;
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().is_ok_and(|ip| self.0.is_own(ip, port))
    }

    fn flow_is_open(&self, flow: &Flow) -> bool {
        match flow {
            Flow::Udp { .. } | Flow::Peer { .. } => true,
            // Numbers begin anew at each start, and flow tokens outlive it: the other side must be the same too.
            Flow::Stream { transport, connection, remote, .. } => {
                self.0.connections().is_open(*connection, *transport, *remote)
            }
        }
    }
}
