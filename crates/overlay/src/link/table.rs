//! The links that are up, and the rules of their table.
//!
//! There is one link to a node. Who may enter, and which of two stays, is decided here, one at a time; what comes of it
//! is told in order: `Up` before the first message of a link, `Down` before the `Up` of the one that replaces it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use iroh::endpoint::Connection;
use iroh::{Endpoint, RelayMap, Watcher};
use meshtone_identity::{AuthorityCertificate, HomeCertificate, LinkKey, NodeCertificate, NodeId, Signer};
use tokio::sync::{Notify, mpsc, watch};
use tracing::debug;

use super::enrol::{self, EnrolHandler};
use super::hello::{HEARS_ROLES, Hello, INTRODUCES, Peer, VERSIONS};
use super::limits::{
    GOODBYE_TIMEOUT, MAX_ADDRESSES, MAX_ARRIVALS, MAX_DIALS, MAX_FRAME, MAX_INPUTS, MAX_INTRODUCED, MAX_LINKS,
};
use super::relay::RelayPlace;
use super::relay::book::Book;
use super::relay::client::{RelayClient, RelayUse, Token};
use super::relay::gate::{self, Gate};
use super::relay::serve::{RelayOffer, RelayServer};
use super::relay::trust::{Shown, Trust};
use super::rules::{Standing, existing_stays};
use super::session::{self, Outbound};
use super::{
    ALPN, DatagramHandler, IncomingStream, JOIN_ALPN, LinkError, LinkQuality, LinkStatus, Neighbour, PeerAddress,
    Protocol, RecvStream, SendStream, code, endpoint, handshake,
};
use crate::record::{Renewed, Revoked};

/// What links need to start.
pub(crate) struct LinkConfig {
    pub(crate) bind: Vec<SocketAddr>,
    pub(crate) link_secret: [u8; 32],
    pub(crate) authority: AuthorityCertificate,
    pub(crate) certificate: NodeCertificate,
    pub(crate) homes: Vec<HomeCertificate>,
    pub(crate) incarnation: u64,
    pub(crate) enrol: Option<EnrolHandler>,
    pub(crate) revoked: Revoked,
    pub(crate) renewed: Renewed,
    /// What this node shows as a relay, where it may be one.
    pub(crate) relay: Option<(RelayOffer, Arc<dyn Signer>)>,
    /// Randomness for keys that nobody has.
    pub(crate) salt: [u8; 32],
}

/// What links tell their owner.
#[derive(Debug)]
pub(crate) enum LinkInput {
    /// A link is up. Whoever does not hear roles takes us for ever for what our hello said.
    Up {
        node: NodeId,
        domains: Vec<String>,
        address: PeerAddress,
        serves: bool,
        /// Whether its certificate lets it serve.
        may_serve: bool,
        hears_roles: bool,
    },
    /// A link is gone; `silent` when nothing was heard any more, and nobody wanted that.
    Down { node: NodeId, silent: bool },
    /// A message for the DHT came over a link that is up.
    Message { from: NodeId, bytes: Bytes },
}

/// All links of this node. Clones are the same links.
#[derive(Clone)]
pub(crate) struct Links(Arc<Shared>);

/// What the tasks of all links have in common.
pub(super) struct Shared {
    pub(super) endpoint: Endpoint,
    pub(super) authority: AuthorityCertificate,
    pub(super) own_key: LinkKey,
    pub(super) own_node: NodeId,
    certificate: Vec<u8>,
    homes: Vec<Vec<u8>>,
    pub(super) incarnation: u64,
    /// Whether we serve, as new hellos say.
    serves: AtomicBool,
    pub(super) enrol: Option<enrol::Desk>,
    /// Who gets no link any more.
    pub(super) revoked: Revoked,
    renewed: Renewed,
    table: Mutex<Table>,
    /// Held while a link enters or leaves and while that is told, so that it is told in the order it happened.
    admission: tokio::sync::Mutex<()>,
    pub(super) inputs: mpsc::Sender<LinkInput>,
    arrived: Notify,
    arrivals: Mutex<BTreeMap<Protocol, Arrivals>>,
    pub(super) datagrams: OnceLock<DatagramHandler>,
    pub(super) relays: RelayClient,
    relay: Option<RelayServer>,
    /// Addresses of the router that lead to us.
    outside: Mutex<Vec<SocketAddr>>,
    next_id: AtomicU64,
}

/// Whom, where, and through which relays.
type Dial = (LinkKey, Vec<SocketAddr>, Vec<LinkKey>);

/// The end of a dial, for all who wait for it.
type Ending = watch::Receiver<Option<Result<NodeId, LinkError>>>;

#[derive(Default)]
struct Table {
    links: BTreeMap<NodeId, Arc<Link>>,
    /// By whom is dialled, and where: a dial of one place must not wait for one of another, where the peer may have been once.
    dials: BTreeMap<Dial, Ending>,
    /// To whose holder one of our dials got through that has not come to its end yet.
    introducing: BTreeSet<LinkKey>,
    /// Whom we were introduced to: how their links came about.
    introduced: BTreeSet<LinkKey>,
    closed: bool,
}

/// Where new streams of a protocol go, and the other end until somebody asks for it.
struct Arrivals {
    sender: mpsc::Sender<IncomingStream>,
    receiver: Option<mpsc::Receiver<IncomingStream>>,
}

/// A link that is up.
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) peer: Peer,
    pub(super) connection: Connection,
    pub(super) dialled: bool,
    /// What our hello said.
    said_to_serve: bool,
    pub(super) outbound: Outbound,
    pub(super) since_ms: u64,
    introduced: bool,
}

impl Links {
    /// Binds the sockets; nobody is answered before [`begin`](Self::begin).
    pub(crate) async fn start(config: LinkConfig) -> Result<(Self, mpsc::Receiver<LinkInput>), LinkError> {
        let alpns: &[&[u8]] = if config.enrol.is_some() { &[ALPN, JOIN_ALPN] } else { &[ALPN] };
        let (map, book) = (RelayMap::empty(), Book::default());
        let trust = Trust { overlay: config.authority.overlay(), revoked: config.revoked.clone() };
        let relays = endpoint::RelayUse { map: map.clone(), book: book.clone(), trust };
        let endpoint = endpoint::bind(&config.bind, config.link_secret, alpns, relays).await?;
        let own_key = LinkKey::from_bytes(*endpoint.id().as_bytes());
        if own_key != config.certificate.link_key() {
            return Err(LinkError::Local("the link secret is not that of our certificate".to_owned()));
        }
        let (inputs, receiver) = mpsc::channel(MAX_INPUTS);
        let (certificate, renewed) = (config.certificate.der().to_vec(), config.renewed.clone());
        let token: Token = {
            let (certificate, renewed) = (certificate.clone(), renewed.clone());
            Arc::new(move || {
                let renewed = renewed.get().map(|(certificate, _)| certificate.der().to_vec());
                gate::token(renewed.as_ref().unwrap_or(&certificate))
            })
        };
        let relays = RelayClient::new(endpoint.clone(), map, book, token, config.salt);
        let relay = match config.relay {
            Some((offer, signer)) => {
                let gate = Gate::new(config.authority.clone(), config.revoked.clone(), offer.guests.clone());
                let authority = config.authority.der().to_vec();
                Some(RelayServer::new(
                    offer,
                    gate,
                    Shown { authority, certificate: certificate.clone(), renewed, signer },
                )?)
            }
            None => None,
        };
        let shared = Arc::new(Shared {
            endpoint,
            own_key,
            own_node: config.certificate.node_id(),
            certificate,
            homes: config.homes.iter().map(|home| home.der().to_vec()).collect(),
            authority: config.authority,
            incarnation: config.incarnation,
            serves: AtomicBool::new(false),
            enrol: config.enrol.map(enrol::Desk::new),
            revoked: config.revoked,
            renewed: config.renewed,
            table: Mutex::default(),
            admission: tokio::sync::Mutex::default(),
            inputs,
            arrived: Notify::new(),
            arrivals: Mutex::new(Protocol::FOR_USERS.map(|protocol| (protocol, Arrivals::new())).into()),
            datagrams: OnceLock::new(),
            relays,
            relay,
            outside: Mutex::default(),
            next_id: AtomicU64::new(0),
        });
        Ok((Self(shared), receiver))
    }

    /// Begins to answer others, who hear whether we serve: it must be known by then. Until then they wait.
    pub(crate) fn begin(&self, serves: bool) {
        self.set_serves(serves);
        tokio::spawn(handshake::accept_all(Arc::clone(&self.0)));
    }

    /// Makes sure that there is a link to the holder of this key, and returns which node that is.
    ///
    /// Several calls for one key and the same addresses share a dial, which goes on when the caller stops waiting.
    pub(crate) async fn dial(&self, peer: &PeerAddress) -> Result<NodeId, LinkError> {
        self.dial_through(peer, &[]).await
    }

    /// As [`dial`](Self::dial), through these relays as well.
    pub(crate) async fn dial_through(&self, peer: &PeerAddress, relays: &[RelayPlace]) -> Result<NodeId, LinkError> {
        let dial = (peer.link_key, peer.addrs.clone(), relays.iter().map(|relay| relay.link_key).collect::<Vec<_>>());
        let mut result = match self.0.begin_dial(&dial)? {
            Dialling::Linked(node) => return Ok(node),
            Dialling::UnderWay(result) => result,
            Dialling::Begun(sender, result) => {
                let (shared, peer, relays) = (Arc::clone(&self.0), peer.clone(), relays.to_vec());
                tokio::spawn(async move {
                    let result = handshake::dial(&shared, &peer, &relays).await;
                    shared.table().dials.remove(&dial);
                    sender.send_replace(Some(result));
                });
                result
            }
        };
        let ended = result.wait_for(Option::is_some).await.map_err(|_| LinkError::Stopped)?;
        ended.clone().unwrap_or(Err(LinkError::Stopped))
    }

    /// As [`dial`](Self::dial), of a peer that somebody has introduced us to.
    pub(crate) async fn dial_introduced(&self, peer: &PeerAddress) -> Result<NodeId, LinkError> {
        {
            let mut table = self.0.table();
            if table.introduced.len() < MAX_INTRODUCED {
                table.introduced.insert(peer.link_key);
            }
        }
        let result = self.dial(peer).await;
        self.0.table().introduced.remove(&peer.link_key);
        result
    }

    /// Waits until there is a link to the holder of this key, whoever dials.
    pub(crate) async fn link_to(&self, key: LinkKey) -> NodeId {
        self.0.link_to(key).await
    }

    /// Returns the linked nodes that serve and introduce others to their neighbours, those that were linked first at first.
    pub(crate) fn introducers(&self) -> Vec<NodeId> {
        let table = self.0.table();
        let mut able: Vec<_> = table.links.values().filter(|link| link.peer.version >= INTRODUCES).collect();
        able.sort_by_key(|link| (link.since_ms, link.id));
        able.into_iter().map(|link| link.peer.node).collect()
    }

    /// Queues a message for a node; `false` when there is no link to it or no room.
    pub(crate) fn send(&self, to: NodeId, message: Bytes) -> bool {
        message.len() <= MAX_FRAME && self.0.link(to).is_some_and(|link| link.outbound.message(message))
    }

    /// Returns the newest version of the link protocol that a linked node and we speak.
    pub(crate) fn version(&self, node: NodeId) -> Option<u16> {
        self.0.link(node).map(|link| link.peer.version)
    }

    /// Returns what a linked node has proved.
    pub(crate) fn neighbour(&self, node: NodeId) -> Option<Neighbour> {
        self.0.link(node).map(|link| link.peer.neighbour())
    }

    /// Opens a stream over the link to this node.
    pub(crate) async fn open_stream(
        &self,
        to: NodeId,
        protocol: Protocol,
    ) -> Result<(SendStream, RecvStream), LinkError> {
        let link = self.0.link(to).ok_or(LinkError::NoLink)?;
        session::open_stream(&link.connection, protocol).await
    }

    /// Hands over the streams of this protocol that peers open.
    pub(crate) fn accept_streams(&self, protocol: Protocol) -> mpsc::Receiver<IncomingStream> {
        let mut all = self.0.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = all.get_mut(&protocol).and_then(|arrivals| arrivals.receiver.take()) {
            return receiver;
        }
        let mut arrivals = Arrivals::new();
        let receiver = arrivals.receiver.take();
        // The link's own protocol has no users: its receiver ends at once.
        if Protocol::FOR_USERS.contains(&protocol) {
            all.insert(protocol, arrivals);
        }
        receiver.unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// Lets the datagrams of all links go to `handler`, the first one that is named; until then they are dropped.
    pub(crate) fn hear_datagrams(&self, handler: DatagramHandler) {
        let _ = self.0.datagrams.set(handler);
    }

    /// Sends a datagram; `false` where there is no link, or it is larger than the link takes now.
    pub(crate) fn send_datagram(&self, to: NodeId, datagram: Bytes) -> bool {
        self.0.link(to).is_some_and(|link| link.connection.send_datagram(datagram).is_ok())
    }

    /// Returns how large a datagram may be now; none where there is no link, or its other end takes none.
    pub(crate) fn max_datagram_len(&self, to: NodeId) -> Option<usize> {
        self.0.link(to)?.connection.max_datagram_size()
    }

    /// Returns how well packets travel to a linked node.
    pub(crate) fn quality(&self, to: NodeId) -> Option<LinkQuality> {
        endpoint::quality(&self.0.link(to)?.connection)
    }

    /// Whether there is a link to this node.
    pub(crate) fn is_linked(&self, node: NodeId) -> bool {
        self.0.link(node).is_some()
    }

    /// Closes the link to this node for a reason of [`code`], if there is one.
    pub(crate) fn close(&self, node: NodeId, code: u32) {
        if let Some(link) = self.0.link(node) {
            endpoint::close(&link.connection, code);
        }
    }

    /// From now on hellos say whether we serve.
    pub(crate) fn set_serves(&self, serves: bool) {
        self.0.serves.store(serves, Ordering::Relaxed);
    }

    /// Returns a node that takes us for what we no longer are, and does not hear it.
    pub(crate) fn misled(&self) -> Option<NodeId> {
        let serves = self.0.serves();
        let table = self.0.table();
        let mut misled = table.links.values().filter(|link| !link.hears_roles() && link.said_to_serve != serves);
        misled.next().map(|link| link.peer.node)
    }

    /// Finds out for a neighbour whether we can dial a node that we have no link to, and makes none. None when we cannot tell.
    pub(crate) async fn dial_back(&self, peer: &PeerAddress) -> Option<bool> {
        if self.0.node_of(peer.link_key).is_some() {
            return None;
        }
        handshake::dial_back(&self.0, peer).await
    }

    /// Returns where a linked node's packets come from.
    pub(crate) fn place_of(&self, node: NodeId) -> Option<SocketAddr> {
        match endpoint::path(&self.0.link(node)?.connection).0 {
            super::Path::Direct(place) => Some(place),
            super::Path::Relayed => None,
        }
    }

    /// Returns all links as they stand, by node id.
    pub(crate) fn status(&self) -> Vec<LinkStatus> {
        let links: Vec<_> = self.0.table().links.values().cloned().collect();
        let status = |link: &Arc<Link>| {
            let (path, rtt_ms) = endpoint::path(&link.connection);
            let (node, domains) = (link.peer.node, link.peer.domains.clone());
            let relay = RelayClient::relay_of(&link.connection);
            LinkStatus { node, path, relay, introduced: link.introduced, rtt_ms, domains, since_ms: link.since_ms }
        };
        links.iter().map(status).collect()
    }

    /// Returns whom and where to dial for each link that is up.
    pub(crate) fn peers(&self) -> Vec<PeerAddress> {
        self.0.table().links.values().map(|link| link.address()).collect()
    }

    /// Returns where we are reached, as far as this machine knows by itself.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        endpoint::addresses(&self.0.endpoint)
    }

    /// Returns where the sockets listen, which may be on all addresses.
    pub(crate) fn bound(&self) -> Vec<SocketAddr> {
        self.0.endpoint.bound_sockets()
    }

    /// From now on whoever wants to reach us is told that we are reached at these addresses of the router as well, and no others.
    pub(crate) fn set_outside(&self, addrs: &[SocketAddr]) {
        let mut outside = self.0.outside.lock().unwrap_or_else(PoisonError::into_inner);
        if *outside == addrs {
            return;
        }
        let before = std::mem::replace(&mut *outside, addrs.to_vec());
        let (endpoint, now) = (self.0.endpoint.clone(), addrs.to_vec());
        tokio::spawn(async move {
            for addr in before.iter().filter(|addr| !now.contains(addr)) {
                endpoint.remove_external_addr(addr).await;
            }
            for addr in now.iter().filter(|addr| !before.contains(addr)) {
                endpoint.add_external_addr(*addr).await;
            }
        });
    }

    /// Returns the relay of this node, where it may be one.
    pub(crate) fn relay(&self) -> Option<&RelayServer> {
        self.0.relay.as_ref()
    }

    /// Is found at these relays from now on; whether others are.
    pub(crate) fn keep_relays(&self, relays: &[RelayPlace]) -> bool {
        self.0.relays.keep(relays)
    }

    /// Returns the relays that this node is found at.
    pub(crate) fn relays_in_use(&self) -> Vec<RelayUse> {
        self.0.relays.in_use()
    }

    /// Looks after the connections to relays, and gives up the links that run through one that is found dead.
    pub(crate) fn look_after_relays(&self) {
        let dead = self.0.relays.look();
        if dead.is_empty() {
            return;
        }
        let links: Vec<_> = self.0.table().links.values().cloned().collect();
        for link in links {
            if RelayClient::relay_of(&link.connection).is_some_and(|relay| dead.contains(&relay)) {
                endpoint::close(&link.connection, code::SILENT);
            }
        }
    }

    /// Returns what iroh has found out about the network that this machine is in.
    pub(crate) fn network(&self) -> Network {
        let report = self.0.endpoint.net_report().get();
        report
            .map(|report| Network {
                is_measured: true,
                udp: report.has_udp(),
                mapping_varies: report.mapping_varies_by_dest(),
                seen_as: report
                    .global_v4
                    .map(SocketAddr::V4)
                    .into_iter()
                    .chain(report.global_v6.map(SocketAddr::V6))
                    .collect(),
            })
            .unwrap_or_default()
    }

    /// Shows relays what the certificate is now.
    pub(crate) fn show_again(&self) {
        self.0.relays.show_again();
    }

    /// Finds out at once where our packets come from now.
    pub(crate) fn measure_again(&self) {
        self.0.relays.measure_again();
    }

    /// Looks for new paths at once: the network has changed, or the machine slept and cannot know.
    pub(crate) fn network_changed(&self) {
        let links = self.clone();
        tokio::spawn(async move { links.0.endpoint.network_change().await });
    }

    /// Says goodbye on all links and closes the sockets.
    pub(crate) async fn shutdown(&self) {
        let links = {
            let mut table = self.0.table();
            table.closed = true;
            table.links.values().cloned().collect::<Vec<_>>()
        };
        for link in links {
            endpoint::close(&link.connection, code::GOODBYE);
        }
        // Best effort: whoever does not hear it finds out by its own check.
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, self.0.endpoint.close()).await;
    }
}

/// What is known of the network that this machine is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Relays were asked.
    pub is_measured: bool,
    /// UDP gets through, to a relay at least and back.
    pub udp: bool,
    /// Whether a box in between gives another address for each destination; none where fewer than two relays could be asked.
    pub mapping_varies: Option<bool>,
    /// Where our packets come from, as relays see them.
    pub seen_as: Vec<SocketAddr>,
}

/// How a dial begins.
enum Dialling {
    Linked(NodeId),
    UnderWay(Ending),
    Begun(watch::Sender<Option<Result<NodeId, LinkError>>>, Ending),
}

impl Shared {
    /// Whether we serve now.
    pub(super) fn serves(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    /// Returns the hello that we show now, with the role that it is to say.
    pub(super) fn hello(&self, serves: bool) -> Hello {
        let renewed = self.renewed.get().map(|(certificate, homes)| {
            (certificate.der().to_vec(), homes.iter().map(|home| home.der().to_vec()).collect())
        });
        let (certificate, homes) = renewed.unwrap_or_else(|| (self.certificate.clone(), self.homes.clone()));
        let mut addresses = self.outside.lock().unwrap_or_else(PoisonError::into_inner).clone();
        addresses.extend(endpoint::addresses(&self.endpoint));
        addresses.truncate(MAX_ADDRESSES);
        Hello {
            newest: VERSIONS.1,
            serves,
            overlay: self.authority.overlay(),
            certificate,
            homes,
            incarnation: self.incarnation,
            addresses,
        }
    }

    /// Returns the node at the other end of the link to the holder of this key.
    pub(super) fn node_of(&self, key: LinkKey) -> Option<NodeId> {
        self.table().links.values().find(|link| link.peer.link_key == key).map(|link| link.peer.node)
    }

    /// Waits until there is a link to the holder of this key.
    pub(super) async fn link_to(&self, key: LinkKey) -> NodeId {
        loop {
            let arrival = self.arrived.notified();
            if let Some(node) = self.node_of(key) {
                return node;
            }
            arrival.await;
        }
    }

    /// Waits until our own dials to the holder of this key have ended; at once when there are none.
    pub(super) async fn own_dials_ended(&self, key: LinkKey) {
        let dials: Vec<_> =
            self.table().dials.iter().filter(|((of, ..), _)| *of == key).map(|(_, dial)| dial.clone()).collect();
        for mut dial in dials {
            // An error says that it ended without a result.
            let _ = dial.wait_for(Option::is_some).await;
        }
    }

    /// Whether a connection that a peer dialled would be turned away, and by which code.
    pub(super) fn refusal(&self, peer: &Peer) -> Option<u32> {
        let table = self.table();
        let Some(existing) = table.links.get(&peer.node) else {
            return (table.links.len() >= MAX_LINKS).then_some(code::BUSY);
        };
        let new = Standing { incarnation: peer.incarnation, dialled: false, ended: false };
        existing_stays(existing.standing(), new, self.own_key, peer.link_key).then_some(code::DUPLICATE)
    }

    /// Lets a verified connection become the link to its node, and starts what runs on it.
    ///
    /// Told is who dialled it, we or the peer, and whether our hello said that we serve. A duplicate is closed and the link that stays
    /// counts as success.
    pub(super) async fn admit(
        self: &Arc<Self>,
        peer: Peer,
        connection: Connection,
        (dialled, said_to_serve): (bool, bool),
        own_stream: (iroh::endpoint::SendStream, iroh::endpoint::RecvStream),
    ) -> Result<NodeId, LinkError> {
        let node = peer.node;
        let _admission = self.admission.lock().await;
        let (outbound, queue) = Outbound::new();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let new = Standing { incarnation: peer.incarnation, dialled, ended: false };
        let since_ms = unix_ms();
        let introduced = self.table().introduced.remove(&peer.link_key);
        let link = Arc::new(Link { id, peer, connection, dialled, said_to_serve, outbound, since_ms, introduced });
        let replaced = {
            let mut table = self.table();
            let existing = table.links.get(&node).cloned();
            if table.closed {
                endpoint::close(&link.connection, code::GOODBYE);
                return Err(LinkError::Stopped);
            }
            if let Some(existing) = &existing {
                if existing_stays(existing.standing(), new, self.own_key, link.peer.link_key) {
                    endpoint::close(&link.connection, code::DUPLICATE);
                    return Ok(node);
                }
            } else if table.links.len() >= MAX_LINKS {
                endpoint::close(&link.connection, code::BUSY);
                return Err(LinkError::Busy("links"));
            }
            table.links.insert(node, Arc::clone(&link));
            existing
        };
        if let Some(replaced) = replaced {
            endpoint::close(&replaced.connection, code::DUPLICATE);
            self.tell(LinkInput::Down { node, silent: false }).await;
        }
        debug!(node = %node.short(), dialled, "link up");
        let (domains, serves) = (link.peer.domains.clone(), link.peer.serves);
        let (address, hears_roles) = (link.address(), link.hears_roles());
        let may_serve = link.peer.certificate.rights().may_serve();
        self.tell(LinkInput::Up { node, domains, address, serves, may_serve, hears_roles }).await;
        self.arrived.notify_waiters();
        tokio::spawn(session::run(Arc::clone(self), link, own_stream, queue));
        Ok(node)
    }

    /// Takes a link that has ended out of the table, unless another one has taken its place.
    pub(super) async fn leave(&self, link: &Link, silent: bool) {
        let node = link.peer.node;
        let _admission = self.admission.lock().await;
        let gone = {
            let mut table = self.table();
            let same = table.links.get(&node).is_some_and(|current| current.id == link.id);
            if same {
                table.links.remove(&node);
            }
            same
        };
        if gone {
            self.tell(LinkInput::Down { node, silent }).await;
        }
    }

    /// Tells the owner; it may have gone already.
    pub(super) async fn tell(&self, input: LinkInput) {
        let _ = self.inputs.send(input).await;
    }

    /// Passes a new stream on to its user.
    ///
    /// # Errors
    /// The code to refuse it by, when nobody wants it or too many wait.
    pub(super) fn arrive(&self, protocol: Protocol, stream: IncomingStream) -> Result<(), u32> {
        let all = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let arrivals = all.get(&protocol).ok_or(code::PROTOCOL)?;
        arrivals.sender.try_send(stream).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => code::BUSY,
            mpsc::error::TrySendError::Closed(_) => code::PROTOCOL,
        })
    }

    /// Lets a dial that got through introduce us, unless another one did so first: the peer would take the later of two for proof
    /// that the earlier is dead, and it need not be the later one here.
    pub(super) fn may_introduce(self: &Arc<Self>, key: LinkKey) -> Option<Introduction> {
        if self.node_of(key).is_some() || !self.table().introducing.insert(key) {
            return None;
        }
        Some(Introduction { shared: Arc::clone(self), key })
    }

    fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.table().links.get(&node).cloned()
    }

    fn begin_dial(&self, dial: &Dial) -> Result<Dialling, LinkError> {
        if let Some(node) = self.node_of(dial.0) {
            return Ok(Dialling::Linked(node));
        }
        let mut table = self.table();
        if table.closed {
            return Err(LinkError::Stopped);
        }
        if let Some(result) = table.dials.get(dial) {
            return Ok(Dialling::UnderWay(result.clone()));
        }
        if table.dials.len() >= MAX_DIALS {
            return Err(LinkError::Busy("dials"));
        }
        if table.links.len() >= MAX_LINKS {
            return Err(LinkError::Busy("links"));
        }
        let (sender, result) = watch::channel(None);
        table.dials.insert(dial.clone(), result.clone());
        Ok(Dialling::Begun(sender, result))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right of one dial to introduce us to a peer, for as long as it is held.
pub(super) struct Introduction {
    shared: Arc<Shared>,
    key: LinkKey,
}

impl Drop for Introduction {
    fn drop(&mut self) {
        self.shared.table().introducing.remove(&self.key);
    }
}

impl Link {
    fn hears_roles(&self) -> bool {
        self.peer.version >= HEARS_ROLES
    }

    fn standing(&self) -> Standing {
        let ended = self.connection.close_reason().is_some();
        Standing { incarnation: self.peer.incarnation, dialled: self.dialled, ended }
    }

    /// Whom and where to dial for this link: where its packets come from, then what the peer says of itself.
    fn address(&self) -> PeerAddress {
        let mut address = PeerAddress { link_key: self.peer.link_key, addrs: Vec::new() };
        if let (super::Path::Direct(seen), _) = endpoint::path(&self.connection) {
            address.addrs.push(seen);
        }
        address.merge(&self.peer.addresses);
        address
    }
}

impl Arrivals {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_ARRIVALS);
        Self { sender, receiver: Some(receiver) }
    }
}

/// The time of day, in unix milliseconds; 0 on a machine whose clock stands before 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
