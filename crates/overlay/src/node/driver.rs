//! The task that drives the DHT core: inputs from links, commands from users and the time go in; messages, dials and
//! answers come out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_identity::{LinkKey, NodeId};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::hearsay::Hearsay;
use super::keeper::Keeper;
use super::listen::{Listener, Listeners};
use super::own::OwnRecords;
use super::records::Committer;
use super::relays::{RelaySearch, TurnServer};
use super::search::{Search, Searching, Wakefulness};
use super::{Entry, Error, Presence, ReachTest, RelayChoice, RoleStatus};
use crate::dht::{Descriptor, Dht, DhtError, Event, Evidence, Now, OperationId, Subnet};
use crate::link::relay::serve::RelayServer;
use crate::link::relay::{self, RelayPlace};
use crate::link::table::unix_ms;
use crate::link::{LinkError, LinkEvent, LinkInput, Links, PeerAddress, code};
use crate::mapping::keeper::Mapper;
use crate::mapping::{PortMapping, Transport};
use crate::record::{Kind, NodeAddress, Via};

/// Peers told to whoever saves them for the next start: enough to find the overlay again when most have gone.
const MAX_HOST_CACHE: usize = 32;

/// How old a [`Snapshot`] may be: status pages are read by people.
const SNAPSHOT_AGE: Duration = Duration::from_millis(200);

/// How often it is looked who has stopped listening to what others write.
const LISTENERS_CHECK: Duration = Duration::from_secs(15);

/// How often our addresses and the connections to relays are looked at: calls wait for what is lost.
const RELAY_LOOK: Duration = Duration::from_millis(500);

/// How often at most it is asked where our packets come from, since a link fell silent: that takes a second.
const MEASURE_PACE: Duration = Duration::from_secs(3);

/// How long changes of the links are gathered before others are named as super-nodes: a newcomer is called soon, and its first links
/// come one after the other.
const SUPER_NODES_DELAY: Duration = Duration::from_millis(500);

/// Pause between links that are made anew to say our role: a dial and a hello, with a retry.
const REMAKE_PACE: Duration = Duration::from_secs(2);

/// What users ask of the driver.
pub(super) enum Command {
    /// Write a value: once, or again and again until it is removed.
    Store {
        kind: Kind,
        name: String,
        value: Bytes,
        lifetime: Duration,
        keep: bool,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Write a removal.
    Remove { kind: Kind, name: String, reply: oneshot::Sender<Result<(), Error>> },
    /// Read.
    Fetch { kind: Kind, name: String, first: bool, reply: oneshot::Sender<Result<Vec<Entry>, Error>> },
    /// Read, and tell of changes from then on.
    Listen { kind: Kind, name: String, reply: oneshot::Sender<Result<Listener, Error>> },
    /// Where a node was seen last, if it was.
    Seen { node: NodeId, reply: oneshot::Sender<Option<PeerAddress>> },
    /// The relay that a node is known to run.
    Relay { node: NodeId, reply: oneshot::Sender<Option<RelayPlace>> },
    /// Ask a super-node of that node to introduce us.
    Introduce { node: NodeId, through: NodeId, place: PeerAddress },
    /// Dial these until there are links enough.
    AddPeers { peers: Vec<PeerAddress> },
    /// Dial this one there once, if that seems worth it.
    Heard { link_key: LinkKey, place: SocketAddr },
    /// Write our own records anew.
    SayAgain,
    /// Hold nothing any more that this node wrote.
    ForgetWriter { node: NodeId },
    /// Say in the overlay that this node runs a TURN server for users of others.
    OfferTurn { port: u16 },
    /// Say goodbye and end.
    Stop { reply: oneshot::Sender<()> },
}

/// What is known without asking the driver.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) records: Vec<(Kind, usize)>,
    pub(super) nodes_known: usize,
    pub(super) known: Vec<NodeId>,
    pub(super) nodes_served: usize,
    pub(super) host_cache: Vec<PeerAddress>,
    pub(super) search: Option<Search>,
    pub(super) clock_behind_ms: i64,
    pub(super) evidence: Vec<Evidence>,
    pub(super) role: RoleStatus,
    /// The nodes that run relays, by link key.
    pub(super) relays: BTreeMap<LinkKey, NodeId>,
    /// The TURN servers of others.
    pub(super) turn: Vec<TurnServer>,
    /// Their TCP ports, and those that were named to us.
    pub(super) relay_ports: BTreeMap<LinkKey, u16>,
}

/// Nodes that are named to whoever looks: as many as a picture shows.
const MAX_NAMED: usize = 512;

impl Snapshot {
    /// What the DHT knows.
    pub(super) fn of(dht: &Dht) -> Self {
        let test = dht.last_test().map(|test| ReachTest {
            at_ms: unix_ms().saturating_sub(u64::try_from(test.at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            dialled: test.dialled,
            reached: test.reached,
            address: PeerAddress::decode(&test.address).ok().and_then(|place| place.addrs.first().copied()),
        });
        Self {
            records: dht.records_held(),
            nodes_known: dht.known_peers().len(),
            known: dht.known_peers().into_iter().take(MAX_NAMED).map(|peer| peer.node).collect(),
            nodes_served: dht.clients().len(),
            host_cache: Vec::new(),
            search: None,
            clock_behind_ms: dht.clock_behind_ms(),
            evidence: dht.evidence().cloned().collect(),
            relays: BTreeMap::new(),
            turn: Vec::new(),
            relay_ports: BTreeMap::new(),
            role: RoleStatus {
                serves: dht.serves(),
                reason: dht.role_reason(),
                others: dht.serving_others(),
                test,
                presence: dht.presence(unix_ms()).map(|(percent, known)| Presence { percent, known }),
            },
        }
    }
}

/// Whoever waits for an operation of the DHT.
enum Waiting {
    Store(oneshot::Sender<Result<(), Error>>),
    Fetch(oneshot::Sender<Result<Vec<Entry>, Error>>),
    /// A record of our own; its failure is logged, the DHT tries again.
    Own(Kind),
    /// Where a node is, and whether it runs a relay.
    RelayOf(NodeId),
}

/// How a dial ended.
struct Dialled {
    key: LinkKey,
    /// The node that the DHT expects there.
    node: Option<NodeId>,
    result: Result<NodeId, LinkError>,
}

/// How a dial for a neighbour ended; none where this node could not dial.
type DialledBack = (NodeId, Option<bool>);

pub(super) struct Driver {
    dht: Dht,
    links: Links,
    inputs: mpsc::Receiver<LinkInput>,
    commands: mpsc::Receiver<Command>,
    dialled: (mpsc::Sender<Dialled>, mpsc::Receiver<Dialled>),
    /// Who was dialled for a neighbour, and whether that was possible.
    dialled_back: (mpsc::Sender<DialledBack>, mpsc::Receiver<DialledBack>),
    /// When the next link is made anew that says another role of ours, while there are any.
    remake_at: Option<Instant>,
    /// When it is looked whom to name as super-nodes, while links have changed.
    super_nodes_at: Option<Instant>,
    keeper: Keeper,
    hearsay: Hearsay,
    own: OwnRecords,
    committer: Option<Committer>,
    searching: Searching,
    wakefulness: Wakefulness,
    waiting: BTreeMap<OperationId, Waiting>,
    listeners: Listeners,
    keys: BTreeMap<NodeId, LinkKey>,
    events: broadcast::Sender<LinkEvent>,
    snapshot: Arc<Mutex<Snapshot>>,
    snapshot_at: Instant,
    listeners_check_at: Instant,
    relay_choice: RelayChoice,
    /// Where peers were said to run relays, before they have said so themselves.
    relay_ports: BTreeMap<LinkKey, u16>,
    mapper: Option<Mapper>,
    /// When it was asked last where our packets come from, for a link that fell silent.
    measured_at: Option<Instant>,
    /// Where relays saw our packets come from last.
    seen_as: Vec<SocketAddr>,
    relays: RelaySearch,
    relay_look_at: Instant,
    /// Where this machine says that it is.
    local: Vec<SocketAddr>,
}

impl Driver {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        dht: Dht,
        links: Links,
        inputs: mpsc::Receiver<LinkInput>,
        commands: mpsc::Receiver<Command>,
        keeper: Keeper,
        own: OwnRecords,
        committer: Option<Committer>,
        events: broadcast::Sender<LinkEvent>,
        snapshot: Arc<Mutex<Snapshot>>,
        (relay_choice, relay_ports, mapper): (RelayChoice, BTreeMap<LinkKey, u16>, Option<Mapper>),
    ) -> Self {
        let searching = Searching::new(now(), keeper.addresses().next().is_some());
        let (now, local) = (Instant::now(), links.addresses());
        Self {
            dht,
            links,
            inputs,
            commands,
            // Each dial sends once, and links bound the dials.
            dialled: mpsc::channel(64),
            // There is one at a time.
            dialled_back: mpsc::channel(4),
            remake_at: None,
            super_nodes_at: None,
            keeper,
            hearsay: Hearsay::default(),
            own,
            committer,
            searching,
            wakefulness: Wakefulness::new(self::now()),
            waiting: BTreeMap::new(),
            listeners: Listeners::default(),
            keys: BTreeMap::new(),
            events,
            snapshot,
            snapshot_at: now,
            listeners_check_at: now + LISTENERS_CHECK,
            relay_choice,
            relay_ports,
            mapper,
            measured_at: None,
            seen_as: Vec::new(),
            relays: RelaySearch::default(),
            relay_look_at: now,
            local,
        }
    }

    /// Runs until stopped, or until nobody holds the node any more.
    pub(super) async fn run(mut self) {
        self.look_at_relays(Instant::now());
        self.publish_own();
        let stop = loop {
            self.look_at_clocks();
            self.drain();
            let wake = self.wake();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Stop { reply }) => break Some(reply),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                Some(input) = self.inputs.recv() => self.on_input(input),
                Some(dialled) = self.dialled.1.recv() => self.on_dialled(dialled),
                Some((node, reached)) = self.dialled_back.1.recv() => self.dht.handle_dialled_back(now(), node, reached),
                () = sleep_until(wake.into()) => self.on_time(),
            }
        };
        // Links that end may still tell us so; nobody listens any more.
        self.inputs.close();
        self.waiting.clear();
        self.drain();
        if let Some(committer) = self.committer.take() {
            committer.finish().await;
        }
        if let Some(mapper) = &self.mapper {
            mapper.release().await;
        }
        self.links.shutdown().await;
        if let Some(reply) = stop {
            let _ = reply.send(());
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = now();
        match command {
            Command::Store { kind, name, value, lifetime, keep, reply } => {
                let begun = if keep {
                    self.dht.publish(now, kind, &name, value, lifetime)
                } else {
                    self.dht.store(now, kind, &name, value, lifetime)
                };
                self.await_store(begun, reply);
            }
            Command::Remove { kind, name, reply } => {
                let begun = self.dht.remove(now, kind, &name);
                self.await_store(begun, reply);
            }
            Command::Fetch { kind, name, first, reply } => {
                let id = if first { self.dht.fetch_first(now, kind, &name) } else { self.dht.fetch(now, kind, &name) };
                self.waiting.insert(id, Waiting::Fetch(reply));
            }
            Command::Listen { kind, name, reply } => {
                let begun = self.listeners.listen(&mut self.dht, now, kind, name);
                // Whoever asked may have given up.
                let _ = reply.send(begun);
            }
            Command::Seen { node, reply } => {
                let seen = self.dht.known_peers().into_iter().find(|peer| peer.node == node);
                // Whoever asked may have given up.
                let _ = reply.send(seen.and_then(|peer| PeerAddress::decode(&peer.address).ok()));
            }
            Command::Relay { node, reply } => {
                let relay = self.relays.relays().find(|(known, _)| *known == node).map(|(_, relay)| relay.clone());
                // Whoever asked may have given up.
                let _ = reply.send(relay);
            }
            Command::Introduce { node, through, place } => {
                self.dht.introduce(now, node, vec![Descriptor { node: through, address: place.encode() }]);
            }
            Command::AddPeers { peers } => peers.iter().for_each(|peer| self.keeper.add(now.instant, peer)),
            Command::Heard { link_key, place } => self.on_heard(now.instant, link_key, place),
            Command::SayAgain => {
                self.links.show_again();
                self.publish_own();
            }
            Command::ForgetWriter { node } => self.dht.forget_writer(node),
            Command::OfferTurn { port } => {
                if self.own.update_turn(Some(port)) {
                    self.publish_own_of(Some(Kind::NodeAddress));
                }
            }
            Command::Stop { reply } => drop(reply),
        }
    }

    /// Anybody may have said this: it is worth a dial, and takes no place of what is known.
    fn on_heard(&mut self, now: Instant, link_key: LinkKey, place: SocketAddr) {
        if self.keeper.has_enough(self.keys.len())
            || self.keys.values().any(|linked| *linked == link_key)
            || !self.hearsay.is_worth_a_dial(now, link_key, place)
        {
            return;
        }
        debug!(key = %link_key.short(), %place, "heard of a peer, which is dialled");
        self.dial(PeerAddress { link_key, addrs: vec![place] }, None);
    }

    fn await_store(
        &mut self,
        begun: Result<OperationId, crate::record::RecordError>,
        reply: oneshot::Sender<Result<(), Error>>,
    ) {
        match begun {
            Ok(id) => {
                self.waiting.insert(id, Waiting::Store(reply));
            }
            Err(error) => {
                let _ = reply.send(Err(Error::Record(error.to_string())));
            }
        }
    }

    fn on_input(&mut self, input: LinkInput) {
        let now = now();
        match input {
            LinkInput::Up { node, domains, address, serves, may_serve, hears_roles } => {
                if !hears_roles {
                    self.remake_at.get_or_insert(now.instant);
                }
                info!(node = %node.short(), "linked");
                self.super_nodes_at.get_or_insert(now.instant + SUPER_NODES_DELAY);
                self.keeper.on_up(now.instant, &address);
                self.searching.on_up();
                // A node that is stopped at once remembers whom it met.
                self.snapshot_at = now.instant;
                self.keys.insert(node, address.link_key);
                if !may_serve {
                    self.dht.hold_to_use(node);
                }
                self.dht.handle_link_up(now, Descriptor { node, address: address.encode() }, serves);
                // Nobody may be listening.
                let _ = self.events.send(LinkEvent::Up { node, domains });
            }
            LinkInput::Down { node, silent } => {
                info!(node = %node.short(), "link lost");
                self.super_nodes_at.get_or_insert(now.instant + SUPER_NODES_DELAY);
                if let Some(key) = self.keys.remove(&node) {
                    self.keeper.on_down(now.instant, key);
                }
                self.searching.on_down(now, self.keys.len());
                if silent && self.measured_at.is_none_or(|at| at + MEASURE_PACE <= now.instant) {
                    // It may be us who are elsewhere: the router may have got another address.
                    self.measured_at = Some(now.instant);
                    self.links.measure_again();
                    self.mapper.iter().for_each(Mapper::ask_again);
                }
                self.dht.handle_link_down(now, node, silent);
                let _ = self.events.send(LinkEvent::Down { node });
            }
            LinkInput::Message { from, bytes } => self.dht.handle_input(now, from, &bytes),
        }
    }

    fn on_dialled(&mut self, dialled: Dialled) {
        let now = now();
        let failed = match &dialled.result {
            Ok(found) => dialled.node.is_some_and(|node| node != *found),
            Err(error) => {
                debug!(key = %dialled.key.short(), %error, "a dial failed");
                self.searching.on_failed(&error.to_string());
                true
            }
        };
        if failed {
            self.keeper.on_failed(now.instant, dialled.key);
            if let Some(node) = dialled.node {
                self.dht.handle_dial_failed(now, node);
            }
        }
    }

    /// After sleep every wait was in vain and every link is in doubt.
    fn look_at_clocks(&mut self) {
        if let Some(asleep) = self.wakefulness.look(now()) {
            info!(seconds = asleep.as_secs(), "this machine slept or stood still; everybody is tried at once");
            self.dht.handle_absence(now(), asleep);
            self.start_over();
        }
    }

    fn start_over(&mut self) {
        self.links.network_changed();
        self.hearsay = Hearsay::default();
        self.keeper.start_over(Instant::now());
    }

    fn on_time(&mut self) {
        let now = now();
        for peer in self.keeper.due(now.instant, self.keys.len()) {
            self.dial_kept(peer);
        }
        if self.remake_at.is_some_and(|at| at <= now.instant) {
            self.remake_link(now.instant);
        }
        if self.super_nodes_at.take_if(|at| *at <= now.instant).is_some() {
            self.look_at_super_nodes();
        }
        if self.relay_look_at <= now.instant {
            self.look_at_relays(now.instant);
        }
        if self.listeners_check_at <= now.instant {
            self.listeners_check_at = now.instant + LISTENERS_CHECK;
            self.listeners.drop_unused(&mut self.dht);
        }
        if self.dht.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.dht.handle_timeout(now);
        }
    }

    /// Carries out what the DHT wants after an input.
    fn drain(&mut self) {
        loop {
            self.send();
            let Some(event) = self.dht.poll_event() else { break };
            self.on_event(event);
        }
        if self.snapshot_at <= Instant::now() {
            self.take_snapshot();
        }
    }

    /// Sends what the DHT has to say: at once, or, when what it holds has changed, once that is written down.
    fn send(&mut self) {
        let changes: Vec<_> = std::iter::from_fn(|| self.dht.poll_persist()).collect();
        let transmits = std::iter::from_fn(|| self.dht.poll_transmit());
        match &self.committer {
            Some(committer) if !changes.is_empty() => committer.commit(changes, transmits.collect()),
            Some(_) | None => {
                for transmit in transmits {
                    // Without a link or room the message is lost; the DHT's timers see to it.
                    self.links.send(transmit.to, transmit.bytes);
                }
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Dial { peer } => match PeerAddress::decode(&peer.address) {
                Ok(address) => self.dial(address, Some(peer.node)),
                Err(_) => self.dht.handle_dial_failed(now(), peer.node),
            },
            Event::Unlink { node } => self.links.close(node, code::UNWANTED),
            Event::Fetched { id, result } => {
                let entries = result.map(|found| found.entries.into_iter().map(Entry::from).collect::<Vec<_>>());
                match self.waiting.remove(&id) {
                    Some(Waiting::Fetch(reply)) => drop(reply.send(entries.map_err(Error::from))),
                    Some(Waiting::RelayOf(node)) => self.on_relay_read(node, entries.ok()),
                    Some(Waiting::Store(_) | Waiting::Own(_)) | None => {}
                }
            }
            Event::Stored { id, result } => {
                for entry in result.iter().flat_map(|receipt| &receipt.newer) {
                    debug!(writer = %entry.writer.short(), stored_ms = entry.stored_ms, "another node has written there since");
                }
                self.on_stored(id, result.map(drop));
            }
            Event::Found { .. } => {}
            Event::Changed { kind, name, entries } => {
                self.listeners.on_changed(&mut self.dht, kind, name, entries);
            }
            Event::Joined => info!("the neighbourhood in the overlay is known"),
            Event::Role { serves } => self.on_role(serves),
            Event::DialBack { peer, asker } => self.dial_back(&peer, asker),
            Event::Meet { peer, through } => self.meet(&peer, through),
            Event::ClockOff { behind_ms: 0 } => info!("this machine's clock agrees with its neighbours' again"),
            Event::ClockOff { behind_ms } => warn!(
                behind_s = behind_ms / 1000,
                "this machine's clock is off, as most of its neighbours see it; hint: synchronise it (NTP)"
            ),
            Event::Contradiction { evidence } => {
                let value = &evidence.first.value;
                warn!(
                    writer = %value.signer.short(), kind = %value.kind, name = %value.name, stored_ms = value.storage_ms,
                    "a node has signed two different records of one moment; `meshtone status` keeps both"
                );
            }
            Event::PeerMisbehaved { node, error } => {
                warn!(node = %node.short(), %error, "the peer misbehaves, its link is closed");
                self.links.close(node, code::MALFORMED);
            }
        }
    }

    fn on_stored(&mut self, id: OperationId, result: Result<(), DhtError>) {
        match self.waiting.remove(&id) {
            Some(Waiting::Store(reply)) => {
                let result = result.map_err(Error::from);
                match &self.committer {
                    Some(committer) => committer.reply((reply, result)),
                    None => {
                        let _ = reply.send(result);
                    }
                }
            }
            Some(Waiting::Own(kind)) => {
                if let Err(error) = result {
                    warn!(%kind, %error, "our own record is not stored yet, it is tried again");
                }
            }
            Some(Waiting::Fetch(_) | Waiting::RelayOf(_)) | None => {}
        }
    }

    /// Dials without waiting; the end comes back to [`on_dialled`](Self::on_dialled).
    fn dial(&self, peer: PeerAddress, node: Option<NodeId>) {
        let (links, ended) = (self.links.clone(), self.dialled.0.clone());
        tokio::spawn(async move {
            let result = links.dial(&peer).await;
            // The driver may have stopped.
            let _ = ended.send(Dialled { key: peer.link_key, node, result }).await;
        });
    }

    /// The same of a peer that somebody named, without whom there may be no other way: where UDP brings no answer, the relay that it may
    /// run is tried as well.
    fn dial_kept(&self, peer: PeerAddress) {
        let (links, ended) = (self.links.clone(), self.dialled.0.clone());
        let known =
            self.relays.relays().find(|(_, relay)| relay.link_key == peer.link_key).map(|(_, relay)| relay.clone());
        let named = self.relay_ports.get(&peer.link_key).copied();
        tokio::spawn(async move {
            let mut result = links.dial(&peer).await;
            let relays = known.map_or_else(|| relay::guesses(&peer, named), |known| vec![known]);
            if matches!(result, Err(LinkError::Timeout | LinkError::Unreachable(_))) && !relays.is_empty() {
                result = links.dial_through(&peer, &relays).await;
            }
            // The driver may have stopped.
            let _ = ended.send(Dialled { key: peer.link_key, node: None, result }).await;
        });
    }

    /// Hellos say our role; whoever does not hear it over a link has to be told by another one.
    fn on_role(&mut self, serves: bool) {
        let (reason, others) = (self.dht.role_reason(), self.dht.serving_others());
        info!(serves, ?reason, ?others, "our role in the overlay has changed");
        self.links.set_serves(serves);
        self.keeper.set_serves(serves);
        self.remake_at = Some(Instant::now());
        self.snapshot_at = Instant::now();
    }

    /// Ends one link whose other side takes us for what we are no longer; it is dialled again. One after the other, so that there are
    /// always some.
    fn remake_link(&mut self, now: Instant) {
        self.remake_at = self.links.misled().map(|node| {
            debug!(node = %node.short(), "a link is made anew, to say our role");
            self.links.close(node, code::UNWANTED);
            now + REMAKE_PACE
        });
    }

    /// Dials a node for a neighbour, to see whether that is possible.
    fn dial_back(&mut self, peer: &Descriptor, asker: NodeId) {
        let said = PeerAddress::decode(&peer.address).ok();
        let place = self.links.place_of(asker).and_then(|place| said?.for_dial_back(place.ip()));
        let Some(place) = place else { return self.dht.handle_dialled_back(now(), peer.node, None) };
        let (links, ended, node) = (self.links.clone(), self.dialled_back.0.clone(), peer.node);
        tokio::spawn(async move {
            let reached = links.dial_back(&place).await;
            debug!(node = %node.short(), ?reached, "a node was dialled for a neighbour");
            // The driver may have stopped.
            let _ = ended.send((node, reached)).await;
        });
    }

    /// Dials a node that dials us, or will not be found, where it is said to be.
    fn meet(&self, peer: &Descriptor, through: NodeId) {
        let said = PeerAddress::decode(&peer.address).ok();
        let place = self.links.place_of(through).and_then(|place| said?.for_dial_back(place.ip()));
        let Some(place) = place else { return };
        let (links, node) = (self.links.clone(), peer.node);
        tokio::spawn(async move {
            let result = links.dial_introduced(&place).await;
            debug!(node = %node.short(), through = %through.short(), ?result, "a node was dialled that we were introduced to");
        });
    }

    /// Names others as super-nodes where too few of those named are left.
    fn look_at_super_nodes(&mut self) {
        let serving: Vec<NodeId> = self.dht.links().into_iter().map(|link| link.node).collect();
        let mut able = self.links.introducers();
        able.retain(|node| serving.contains(node));
        if self.own.update_super_nodes(&able) {
            self.publish_own_of(Some(Kind::NodeAddress));
        }
    }

    /// Runs a relay or not, looks for those of others, and says in the overlay which reach us.
    fn look_at_relays(&mut self, now: Instant) {
        self.relay_look_at = now + RELAY_LOOK;
        self.look_at_addresses();
        self.links.look_after_relays();
        let own = self.links.relay().and_then(|relay| {
            relay.set_open(self.runs_relay());
            relay.ports()
        });
        let nodes: Vec<NodeId> = self.dht.known_peers().into_iter().map(|peer| peer.node).collect();
        for node in self.relays.due(now, &nodes) {
            let id = self.dht.fetch_first(self::now(), Kind::NodeAddress, &node.to_string());
            self.waiting.insert(id, Waiting::RelayOf(node));
        }
        let mut wanted = self.relays.wanted();
        if let Some(ports) = own {
            let mut hosts: Vec<IpAddr> = self.links.addresses().iter().map(SocketAddr::ip).collect();
            hosts.dedup();
            wanted.insert(0, RelayPlace { link_key: self.own.address().link_key, hosts, ports });
        }
        self.links.keep_relays(&wanted);
        let in_use = self.links.relays_in_use();
        let node_of =
            |key: LinkKey| self.relays.relays().find(|(_, relay)| relay.link_key == key).map(|(node, _)| node);
        let named = in_use.iter().filter_map(|relay| node_of(relay.link_key)).collect();
        if self.own.update_relays(named, own) {
            self.publish_own_of(Some(Kind::NodeAddress));
        }
    }

    /// Says in the overlay where this node is reached, by what the router lets in as well, when that is new; tries everybody at once when its machine has moved.
    fn look_at_addresses(&mut self) {
        let local = self.links.addresses();
        let mut all = local.clone();
        let network = self.links.network();
        // Where a box shows another address to each, what it showed a relay is of no use to anybody else.
        if network.mapping_varies != Some(true) {
            all.extend(network.seen_as.iter().filter(|seen| !local.contains(seen)));
        }
        let bound: Vec<u16> = self.links.bound().iter().map(SocketAddr::port).collect();
        let opened = self.mapping().links(&network.seen_as, &bound);
        self.links.set_outside(&opened);
        all.retain(|addr| !opened.contains(addr));
        // Not at the end, which is cut off where there are too many.
        let second = all.len().min(1);
        all.splice(second..second, opened);
        if network.seen_as != self.seen_as {
            // The router may have another address, or nothing may stand before this machine any more.
            self.seen_as.clone_from(&network.seen_as);
            self.mapper.iter().for_each(Mapper::ask_again);
        }
        if self.own.update(&all) {
            self.dht.set_address(self.own.address().encode());
            self.publish_own();
        }
        if local != self.local {
            let before = std::mem::replace(&mut self.local, local);
            info!(addresses = ?self.local, ?before, "our addresses have changed; everybody is tried at once");
            self.start_over();
        }
    }

    /// Whether this node is to run a relay: a node that serves and is reached, by an address that all the world knows or as others say.
    fn runs_relay(&self) -> bool {
        let is_reached = || {
            let addresses = self.links.addresses();
            if addresses.iter().any(|addr| is_global(addr.ip())) {
                return true;
            }
            // Behind a router that translates, TCP comes in only where it was told to let it in.
            let is_translated = self.seen_as.iter().any(|seen| !addresses.contains(seen));
            let tested = self.dht.last_test().is_some_and(|test| test.reached * 2 > test.dialled);
            let port = self.links.relay().map(RelayServer::offered);
            tested && (!is_translated || port.is_some_and(|port| self.mapping().has(Transport::Tcp, port)))
        };
        match self.relay_choice {
            RelayChoice::On => true,
            RelayChoice::Off => false,
            RelayChoice::Auto => self.dht.serves() && is_reached(),
        }
    }

    fn mapping(&self) -> PortMapping {
        self.mapper.as_ref().map(|mapper| mapper.status().borrow().clone()).unwrap_or_default()
    }

    fn on_relay_read(&mut self, node: NodeId, entries: Option<Vec<Entry>>) {
        let now = Instant::now();
        let Some(entries) = entries else { return self.relays.on_failed(now, node) };
        let records = entries.iter().filter(|entry| entry.writer == node);
        let record = records.filter_map(|entry| NodeAddress::decode(&entry.value).ok()).next();
        let own = self.links.addresses();
        let via = record.as_ref().and_then(|record| record.relay.as_deref()).map(Via::decode).unwrap_or_default();
        let relay = record.and_then(|record| RelayPlace::of_record(&record, &via, &own));
        if self.relays.on_record(now, node, relay) {
            self.relay_look_at = now;
        }
        self.relays.on_turn(node, via.turn);
    }

    /// Publishes what every node says of itself. The DHT stores it again by itself.
    fn publish_own(&mut self) {
        self.publish_own_of(None);
    }

    fn publish_own_of(&mut self, kind: Option<Kind>) {
        let now = now();
        for record in self.own.records().into_iter().filter(|record| kind.is_none_or(|kind| record.kind == kind)) {
            match self.dht.publish(now, record.kind, &record.name, record.content, record.lifetime) {
                Ok(id) => {
                    self.waiting.insert(id, Waiting::Own(record.kind));
                }
                Err(error) => warn!(kind = %record.kind, %error, "our own record cannot be written"),
            }
        }
    }

    fn wake(&self) -> Instant {
        let dht = self.dht.poll_timeout().map(|(at, _)| at);
        let times = [
            dht,
            self.keeper.poll_timeout(self.keys.len()),
            self.remake_at,
            self.super_nodes_at,
            Some(self.snapshot_at),
            Some(self.relay_look_at),
            Some(self.listeners_check_at),
        ];
        times.into_iter().flatten().min().unwrap_or(self.listeners_check_at)
    }

    fn take_snapshot(&mut self) {
        let fresh = Snapshot {
            host_cache: self.host_cache(),
            search: self.searching.get().cloned(),
            relays: self.relays.relays().map(|(node, relay)| (relay.link_key, node)).collect(),
            turn: self.relays.turn_servers(),
            relay_ports: self.relay_ports(),
            ..Snapshot::of(&self.dht)
        };
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.snapshot_at = Instant::now() + SNAPSHOT_AGE;
    }

    fn relay_ports(&self) -> BTreeMap<LinkKey, u16> {
        let said = self.relays.relays().map(|(_, relay)| (relay.link_key, relay.ports.relay));
        self.relay_ports.iter().map(|(key, port)| (*key, *port)).chain(said).collect()
    }

    fn host_cache(&self) -> Vec<PeerAddress> {
        let known = self.dht.known_peers();
        let mut host_cache = self.links.peers();
        let seen = known.iter().filter_map(|peer| PeerAddress::decode(&peer.address).ok());
        for address in self.keeper.addresses().cloned().chain(seen) {
            if host_cache.len() < MAX_HOST_CACHE && !host_cache.iter().any(|peer| peer.link_key == address.link_key) {
                host_cache.push(address);
            }
        }
        host_cache
    }
}

/// Whether all the world reaches an address, as far as the address says.
fn is_global(ip: IpAddr) -> bool {
    let is_documentation = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // Behind a carrier's NAT (RFC 6598), or for benchmarks (RFC 2544).
            ip.is_documentation()
                || ip.is_broadcast()
                || a == 100 && b & 0xc0 == 64
                || a == 198 && b & 0xfe == 18
                || a == 0
        }
        IpAddr::V6(ip) => {
            !matches!(ip.segments(), [0x2000..=0x3fff, ..]) || matches!(ip.segments(), [0x2001, 0xdb8, ..])
        }
    };
    Subnet::of(ip).is_some() && !ip.is_multicast() && !is_documentation
}

/// The two clocks, as the pure core wants them.
pub(super) fn now() -> Now {
    Now { instant: Instant::now(), unix_ms: unix_ms() }
}
