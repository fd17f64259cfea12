//! The running overlay node: [`Overlay`], a handle that may be cloned, and the task behind it.
//!
//! One task drives the pure DHT core with the messages that links bring and the time. Beside the records of its users it
//! keeps the node's own: where it is reached, and which domains it is a home of.

mod config;
mod driver;
mod error;
mod hearsay;
mod introduction;
mod keeper;
mod listen;
mod own;
mod records;
mod relays;
mod search;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::Bytes;
use meshtone_identity::{LinkKey, NodeId, OverlayId};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::info;

use crate::dht::{self, Descriptor, Dht, Evidence, Randomness};
pub use crate::dht::{RoleChoice, RoleReason};
use crate::link::relay::client::RelayUse;
use crate::link::relay::serve::RelayServer;
use crate::link::{
    DatagramHandler, IncomingStream, LinkConfig, LinkError, LinkEvent, LinkQuality, LinkStatus, Links, Neighbour,
    Network, PeerAddress, Protocol, RecvStream, SendStream, subnet_of,
};
use crate::mapping::keeper::Mapper;
use crate::mapping::{PortMapping, Transport, WantedPort};
use crate::record::{CertificateValidator, CertifiedWriter, Kind, Validator, Writer};

use driver::{Command, Driver, Snapshot};
use keeper::Keeper;
use own::OwnRecords;
use records::Committer;

pub use config::{Config, DEFAULT_REPLICAS, RelayChoice};
pub use error::Error;
pub use listen::Listener;
pub use records::RecordStore;
pub use relays::TurnServer;
pub use search::Search;

/// Commands that wait for the driver; then callers wait.
const MAX_COMMANDS: usize = 256;

/// Link events that a slow listener may be behind before it misses some; every link twice.
const MAX_EVENTS: usize = 256;

/// How long a node may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A value that was found, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node that wrote and signed it.
    pub writer: NodeId,
    /// The content.
    pub value: Bytes,
    /// When it was written, in unix milliseconds by the writer's clock.
    pub stored_ms: u64,
    /// When it ends, in unix milliseconds.
    pub expires_ms: u64,
    /// The writer's right follows from what a person said, who may have taken it back since: a [`Kind::Member`] tells.
    pub delegated: bool,
}

impl From<dht::Entry> for Entry {
    fn from(entry: dht::Entry) -> Self {
        let dht::Entry { writer, value, stored_ms, expires_ms, delegated } = entry;
        Self { writer, value, stored_ms, expires_ms, delegated }
    }
}

/// Whether a node stores and forwards for others, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleStatus {
    /// Whether it does.
    pub serves: bool,
    /// Why.
    pub reason: RoleReason,
    /// About how many others do, as far as that was looked for.
    pub others: Option<u64>,
    /// The last test of whether others reach it that had a result.
    pub test: Option<ReachTest>,
    /// How it was there in the last days, over all of its runs; none in its first day.
    pub presence: Option<Presence>,
}

/// How a node was there in the last days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Which part of the time, in hundredths.
    pub percent: u64,
    /// Of how long a time.
    pub known: Duration,
}

/// How a test ended of whether others reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachTest {
    /// When, in unix milliseconds.
    pub at_ms: u64,
    /// Nodes without a link to it that dialled it.
    pub dialled: usize,
    /// How many of them got through.
    pub reached: usize,
    /// Where, as others see it; none when nobody did.
    pub address: Option<SocketAddr>,
}

/// A node of the overlay, running. Clones are the same node; it stops when the last is gone.
#[derive(Clone)]
pub struct Overlay {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    overlay: OverlayId,
    link_key: LinkKey,
    links: Links,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<LinkEvent>,
    snapshot: Arc<Mutex<Snapshot>>,
    mapping: Option<watch::Receiver<PortMapping>>,
}

impl Overlay {
    /// Opens the sockets and starts; links to the bootstrap nodes come up afterwards, by themselves.
    ///
    /// # Errors
    /// [`Error::Config`] when certificates, key and overlay do not fit together; [`Error::Socket`].
    pub async fn start(config: Config) -> Result<Self, Error> {
        let writer = CertifiedWriter::new(
            Arc::clone(&config.signer),
            config.certificate.clone(),
            config.homes.clone(),
            config.delegated.clone(),
        )
        .renewed(config.renewed.clone());
        let validator = CertificateValidator::new(config.authority.clone()).without(config.revoked.clone());
        Self::dangerous_start_with(config, Arc::new(writer), Arc::new(validator)).await
    }

    /// As [`start`](Self::start), but writing and believing records by other rules than the overlay's. For tests that run a
    /// lying node: honest ones have to refuse what it writes.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub async fn dangerous_start_with(
        config: Config,
        writer: Arc<dyn Writer>,
        validator: Arc<dyn Validator>,
    ) -> Result<Self, Error> {
        config.check()?;
        let mut randomness = SystemRandomness(SystemRandom::new());
        let (node, overlay) = (config.certificate.node_id(), config.authority.overlay());
        let link_key = config.certificate.link_key();
        let (role, may_serve) = (config.role(), config.certificate.rights().may_serve());
        let (links, inputs) = Links::start(LinkConfig {
            bind: config.bind,
            link_secret: config.link_secret,
            authority: config.authority,
            certificate: config.certificate,
            homes: config.homes.clone(),
            incarnation: randomness.next_u64(),
            enrol: config.enrol,
            revoked: config.revoked,
            renewed: config.renewed.clone(),
            // Whoever may not serve is no relay either: its certificate would be refused.
            relay: config
                .relay
                .filter(|_| may_serve && config.relay_choice != RelayChoice::Off)
                .map(|offer| (offer, Arc::clone(&config.signer))),
            salt: randomness.bytes(),
        })
        .await
        .map_err(|error| Error::Socket(error.to_string()))?;
        let mapper = config.port_mapping.map(|more| {
            let link = |at| WantedPort { transport: Transport::Udp, at, same: false };
            Mapper::start(links.bound().into_iter().map(link).chain(more).collect(), &config.link_secret)
        });
        let mapping = mapper.as_ref().map(Mapper::status);
        let own = OwnRecords::new(node, link_key, &links.addresses(), (config.homes, config.renewed), config.version);
        let persist = config.records.is_some();
        let mut dht = Dht::new(
            dht::Config { replicas: config.replicas, role, persist, subnet_of, ..dht::Config::default() },
            Descriptor { node, address: own.address().encode() },
            writer,
            validator,
            Box::new(randomness),
            driver::now(),
        );
        let committer = match config.records {
            Some(store) => {
                let kept = store.load().map_err(Error::Records)?;
                let restored = dht.restore(driver::now(), kept);
                info!(restored, "records of the last run are held again");
                Some(Committer::start(store, links.clone())?)
            }
            None => None,
        };
        if !config.bootstrap.is_empty() {
            dht.await_others(driver::now());
        }
        links.begin(dht.serves());
        let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
        let events = broadcast::Sender::new(MAX_EVENTS);
        let snapshot = Arc::new(Mutex::new(Snapshot::of(&dht)));
        let keeper = Keeper::new(Instant::now(), link_key, &config.bootstrap, dht.serves());
        let driver = Driver::new(
            dht,
            links.clone(),
            inputs,
            receiver,
            keeper,
            own,
            committer,
            events.clone(),
            Arc::clone(&snapshot),
            (config.relay_choice, config.relay_ports, mapper),
        );
        tokio::spawn(driver.run());
        Ok(Self { inner: Arc::new(Inner { node, overlay, link_key, links, commands, events, snapshot, mapping }) })
    }

    /// Returns our node id.
    pub fn node_id(&self) -> NodeId {
        self.inner.node
    }

    /// Returns the overlay's id.
    pub fn overlay_id(&self) -> OverlayId {
        self.inner.overlay
    }

    /// Signs a value and stores it in the overlay once; returns when three nodes hold it, or all there are.
    ///
    /// Who holds it sees to it that as many do as there should, until its lifetime ends.
    ///
    /// # Errors
    /// [`Error::Record`], [`Error::Refused`], [`Error::Timeout`], [`Error::Busy`], [`Error::Stopped`].
    pub async fn store(&self, kind: Kind, name: &str, value: Bytes, lifetime: Duration) -> Result<(), Error> {
        let name = name.to_owned();
        self.ask(|reply| Command::Store { kind, name, value, lifetime, keep: false, reply }).await?
    }

    /// As [`store`](Self::store), and then again at half of its lifetime, until it is removed or this node stops.
    ///
    /// An error is that of the first time; it is tried again all the same, but for [`Error::Record`].
    ///
    /// # Errors
    /// Those of [`store`](Self::store).
    pub async fn publish(&self, kind: Kind, name: &str, value: Bytes, lifetime: Duration) -> Result<(), Error> {
        let name = name.to_owned();
        self.ask(|reply| Command::Store { kind, name, value, lifetime, keep: true, reply }).await?
    }

    /// Removes our value, stored or published: a removal takes its place.
    ///
    /// # Errors
    /// Those of [`store`](Self::store).
    pub async fn remove(&self, kind: Kind, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.ask(|reply| Command::Remove { kind, name, reply }).await?
    }

    /// Reads what stands under a name: verified, the newest of each writer, removals left out.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Busy`], [`Error::Stopped`]. Nothing found is no error but an empty list.
    pub async fn fetch(&self, kind: Kind, name: &str) -> Result<Vec<Entry>, Error> {
        let name = name.to_owned();
        self.ask(|reply| Command::Fetch { kind, name, first: false, reply }).await?
    }

    /// As [`fetch`](Self::fetch), but returns at the first verified answer.
    ///
    /// # Errors
    /// Those of [`fetch`](Self::fetch).
    pub async fn fetch_first(&self, kind: Kind, name: &str) -> Result<Vec<Entry>, Error> {
        let name = name.to_owned();
        self.ask(|reply| Command::Fetch { kind, name, first: true, reply }).await?
    }

    /// Listens to what stands under a name: what does now, and soon after each change what does then, verified, the newest of each
    /// writer, removals left out. A change that nobody could tell of is found within some minutes.
    ///
    /// # Errors
    /// [`Error::Busy`] when this node listens to as many names as it may; [`Error::Stopped`].
    pub async fn listen(&self, kind: Kind, name: &str) -> Result<Listener, Error> {
        let name = name.to_owned();
        self.ask(|reply| Command::Listen { kind, name, reply }).await?
    }

    /// Returns the links that are up, by node id.
    pub fn links(&self) -> Vec<LinkStatus> {
        self.inner.links.status()
    }

    /// Returns how many values we hold of each kind, as of a moment ago.
    pub fn records_held(&self) -> Vec<(Kind, usize)> {
        self.snapshot().records.clone()
    }

    /// Returns how many other nodes are known, as of a moment ago.
    pub fn nodes_known(&self) -> usize {
        self.snapshot().nodes_known
    }

    /// Returns the ids of other nodes that are known, 512 at most, as of a moment ago.
    pub fn known_nodes(&self) -> Vec<NodeId> {
        self.snapshot().known.clone()
    }

    /// Returns how many ordinary nodes use the overlay through this one, as of a moment ago.
    pub fn nodes_served(&self) -> usize {
        self.snapshot().nodes_served
    }

    /// Returns whether this node stores and forwards for others, and why, as of a moment ago.
    pub fn role(&self) -> RoleStatus {
        self.snapshot().role.clone()
    }

    /// Returns whether there is nobody else: no link, and no other node known. Whoever asks then is told what he knows himself.
    pub fn is_alone(&self) -> bool {
        self.nodes_known() == 0 && self.links().is_empty()
    }

    /// Returns the search for other nodes while there is no link at all, as of a moment ago.
    pub fn search(&self) -> Option<Search> {
        self.snapshot().search.clone()
    }

    /// Returns by how many milliseconds this machine's clock is behind those of most neighbours, negative when it is ahead; as of a
    /// moment ago.
    pub fn clock_behind_ms(&self) -> i64 {
        self.snapshot().clock_behind_ms
    }

    /// Returns what proves that a writer contradicted itself, found since the start; as of a moment ago.
    pub fn evidence(&self) -> Vec<Evidence> {
        self.snapshot().evidence.clone()
    }

    /// Returns what the router before this machine does for it, as it was asked last.
    pub fn port_mapping(&self) -> PortMapping {
        self.inner.mapping.as_ref().map(|mapping| mapping.borrow().clone()).unwrap_or_default()
    }

    /// Returns where others reach this node's links since the router lets them in.
    pub fn entrances(&self) -> Vec<SocketAddr> {
        let ports: Vec<u16> = self.addresses().iter().map(SocketAddr::port).collect();
        self.port_mapping().links(&self.network().seen_as, &ports)
    }

    /// Returns the TCP port of the relay that this node runs, while it does.
    pub fn relay_port(&self) -> Option<u16> {
        self.relay().and_then(|relay| Some(relay.ports()?.relay))
    }

    /// Takes in peers that somebody with a say named after the start: they are dialled until there are links enough.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn add_peers(&self, peers: Vec<PeerAddress>) -> Result<(), Error> {
        self.inner.commands.send(Command::AddPeers { peers }).await.map_err(|_| Error::Stopped)
    }

    /// Takes in where a peer may be, as anybody may have said: it is dialled there once, and not at any pace; nothing of it is kept
    /// unless a member of the overlay answers.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn heard_of(&self, link_key: LinkKey, place: SocketAddr) -> Result<(), Error> {
        self.inner.commands.send(Command::Heard { link_key, place }).await.map_err(|_| Error::Stopped)
    }

    /// Writes anew what this node says of itself, since its certificates have been renewed. Links show them when they are made.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn say_again(&self) -> Result<(), Error> {
        self.inner.commands.send(Command::SayAgain).await.map_err(|_| Error::Stopped)
    }

    /// Forgets what this node wrote, which is none any longer.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn forget_writer(&self, node: NodeId) -> Result<(), Error> {
        self.inner.commands.send(Command::ForgetWriter { node }).await.map_err(|_| Error::Stopped)
    }

    /// Says in the overlay, as long as this node is reached, that it runs a TURN server at this port for users of others.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn offer_turn(&self, port: u16) -> Result<(), Error> {
        self.inner.commands.send(Command::OfferTurn { port }).await.map_err(|_| Error::Stopped)
    }

    /// Returns the TURN servers that other nodes say they run, those by whose relays this node is reached first, the nearest of them
    /// before the others; as of a moment ago.
    pub fn turn_servers(&self) -> Vec<TurnServer> {
        let snapshot = self.snapshot();
        let mut servers = snapshot.turn.clone();
        let near: Vec<NodeId> =
            self.relays_in_use().iter().filter_map(|relay| snapshot.relays.get(&relay.link_key).copied()).collect();
        servers.sort_by_key(|server| near.iter().position(|node| *node == server.node).unwrap_or(near.len()));
        servers
    }

    /// Tells of links that come and go from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<LinkEvent> {
        self.inner.events.subscribe()
    }

    /// Opens a stream to this node, over a link that is made if need be.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn open_stream(&self, node: NodeId, protocol: Protocol) -> Result<(SendStream, RecvStream), Error> {
        match self.inner.links.open_stream(node, protocol).await {
            Ok(stream) => return Ok(stream),
            Err(error @ LinkError::Busy(_)) => return Err(Error::unreachable(node, &error)),
            // No link, or one that has just ended.
            Err(_) => {}
        }
        self.connect(node).await?;
        self.inner.links.open_stream(node, protocol).await.map_err(|error| Error::unreachable(node, &error))
    }

    /// Returns the newest version of the link protocol that this node and we speak, over a link that is made if need be.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn version_of(&self, node: NodeId) -> Result<u16, Error> {
        if let Some(version) = self.link_version(node) {
            return Ok(version);
        }
        self.connect(node).await?;
        self.link_version(node).ok_or_else(|| Error::unreachable(node, &LinkError::NoLink))
    }

    /// As [`version_of`](Self::version_of), of a node that is linked already.
    pub fn link_version(&self, node: NodeId) -> Option<u16> {
        self.inner.links.version(node)
    }

    /// Returns what a linked node has proved.
    pub fn neighbour(&self, node: NodeId) -> Option<Neighbour> {
        self.inner.links.neighbour(node)
    }

    /// Returns the streams of this protocol that other nodes open. Asked a second time, the first receiver ends.
    pub fn accept_streams(&self, protocol: Protocol) -> mpsc::Receiver<IncomingStream> {
        self.inner.links.accept_streams(protocol)
    }

    /// Lets the datagrams that neighbours send go to `handler`, the first one that is named; until then they are dropped.
    pub fn hear_datagrams(&self, handler: DatagramHandler) {
        self.inner.links.hear_datagrams(handler);
    }

    /// Sends a datagram to a linked node, without waiting; `false` where there is no link, or it is larger than
    /// [`max_datagram_len`](Self::max_datagram_len) says. It may be lost on the way all the same.
    pub fn send_datagram(&self, node: NodeId, datagram: Bytes) -> bool {
        self.inner.links.send_datagram(node, datagram)
    }

    /// Returns how many bytes a datagram to this node may have now; none where there is no link.
    pub fn max_datagram_len(&self, node: NodeId) -> Option<usize> {
        self.inner.links.max_datagram_len(node)
    }

    /// Returns how well packets travel to a linked node.
    pub fn link_quality(&self, node: NodeId) -> Option<LinkQuality> {
        self.inner.links.quality(node)
    }

    /// Returns where a linked node's packets come from; none where a relay passes them on.
    pub fn place_of(&self, node: NodeId) -> Option<SocketAddr> {
        self.inner.links.place_of(node)
    }

    /// Returns the addresses at which our links are reached: real ones, even when bound to all of them.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.inner.links.addresses()
    }

    /// Returns the relay of this node, where it may be one: connections for it are handed over to that.
    pub fn relay(&self) -> Option<RelayServer> {
        self.inner.links.relay().cloned()
    }

    /// Returns the relays that this node is found at, the nearest first.
    pub fn relays_in_use(&self) -> Vec<RelayUse> {
        self.inner.links.relays_in_use()
    }

    /// Returns which node runs the relay of this link key, where that is known; as of a moment ago.
    pub fn relay_node(&self, link_key: LinkKey) -> Option<NodeId> {
        if link_key == self.inner.link_key {
            return Some(self.inner.node);
        }
        self.snapshot().relays.get(&link_key).copied()
    }

    /// Returns what is known of the network that this machine is in.
    pub fn network(&self) -> Network {
        self.inner.links.network()
    }

    /// Returns whom and where to dial to reach us, as others need it for their bootstrap.
    pub fn own_address(&self) -> PeerAddress {
        PeerAddress { link_key: self.inner.link_key, addrs: self.addresses() }
    }

    /// Returns the peers that are known, linked ones first, to be dialled at the next start; as of a moment ago.
    pub fn host_cache(&self) -> Vec<PeerAddress> {
        self.snapshot().host_cache.clone()
    }

    /// Returns at which TCP ports nodes run relays, as far as that is known, by link key; as of a moment ago.
    pub fn relay_ports(&self) -> BTreeMap<LinkKey, u16> {
        self.snapshot().relay_ports.clone()
    }

    /// Says goodbye on all links, so that peers know at once, and closes the sockets. All clones stop working.
    pub async fn shutdown(self) {
        let stopped = self.ask(|reply| Command::Stop { reply });
        // A node that has stopped already, or does not come to an end, is as good as stopped.
        let _ = timeout(STOP_TIMEOUT, stopped).await;
    }

    /// Sends a command and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.inner.commands.send(command(reply)).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)
    }

    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        self.inner.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's randomness, for the core that has none of its own.
struct SystemRandomness(SystemRandom);

impl SystemRandomness {
    fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // As below.
        let _ = self.0.fill(&mut bytes);
        bytes
    }
}

impl Randomness for SystemRandomness {
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        // It fails on no system this runs on once it is up; and what comes of it here need not be secret.
        let _ = self.0.fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }
}
