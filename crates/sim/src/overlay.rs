//! The DHT on simulated nodes, with certificates whose signatures anybody could forge, so that runs repeat.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::dht::{
    Config, Descriptor, Dht, Event, Now, OperationId, PersistChange, Position, RoleChoice, Transmit,
};
use meshtone_overlay::record::{Kind, NodeAddress, RecordError, ResourceId, Role, SipRegistration};

use crate::driver::{Action, Driver, Input};
use crate::network::{Conditions, EPOCH_MS, Network};
use crate::random::Seeded;
use crate::trust::{Certifier, Trust, link_key};

/// Pause between nodes that join a growing overlay.
const JOIN_PACE: Duration = Duration::from_millis(100);

/// Pause between waves of nodes that join, and which part of those already there a wave is: what a node has to do for newcomers does
/// not grow with the overlay.
const WAVE_PACE: Duration = Duration::from_millis(500);
const WAVE_SHARE: usize = 10;

/// How long a grown overlay is left alone: two rounds of refreshing.
const SETTLING: Duration = Duration::from_secs(120);

/// What a node's hello says after its id.
const SERVING: u8 = 0;
const ORDINARY: u8 = 1;

/// What a simulated overlay node tells the test.
pub type OverlayEvent = Event;

/// Changes what a node sends, to make a liar of it. Returns nothing to send nothing.
pub type Forger = Box<dyn FnMut(Transmit) -> Option<Transmit>>;

/// Answers in a node's place: what it returns for a message that came in is sent, and the node never sees the message.
pub type Hijacker = Box<dyn FnMut(NodeId, &Bytes) -> Option<Transmit>>;

/// A DHT on a simulated node.
pub struct OverlayNode {
    /// The core.
    pub dht: Dht,
    node: NodeId,
    directory: Rc<RefCell<Directory>>,
    /// What this node was told of others and is not so.
    misled: Directory,
    forger: Option<Forger>,
    hijacker: Option<Hijacker>,
    hijacked: VecDeque<Transmit>,
    events: VecDeque<Event>,
    /// Its disk.
    store: BTreeMap<Bytes, Bytes>,
    domains: Vec<String>,
    role: RoleChoice,
}

/// Which number a node has in the network, and the other way round. The nodes share one, since ten thousand of them that each note a
/// hundred others would need more memory than anything else in the simulator.
#[derive(Debug, Default)]
struct Directory {
    numbers: BTreeMap<NodeId, usize>,
    nodes: BTreeMap<usize, NodeId>,
}

impl Directory {
    fn note(&mut self, node: NodeId, number: usize) {
        self.numbers.insert(node, number);
        self.nodes.insert(number, node);
    }
}

/// An overlay in a simulated network: an authority, and nodes that it certified.
pub struct Overlay {
    /// The network.
    pub network: Network<OverlayNode>,
    certifier: Certifier,
    directory: Rc<RefCell<Directory>>,
    config: Config,
    seed: u64,
}

impl OverlayNode {
    fn new(dht: Dht, directory: Rc<RefCell<Directory>>, domains: Vec<String>, role: RoleChoice) -> Self {
        let node = dht.node_id();
        Self {
            dht,
            node,
            directory,
            misled: Directory::default(),
            forger: None,
            hijacker: None,
            hijacked: VecDeque::new(),
            events: VecDeque::new(),
            store: BTreeMap::new(),
            domains,
            role,
        }
    }

    /// Returns the node's id.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    /// Lets somebody else answer what reaches the node, or nobody else any more.
    pub fn set_hijacker(&mut self, hijacker: Option<Hijacker>) {
        self.hijacker = hijacker;
    }

    /// Sends what the node itself would not.
    pub fn send(&mut self, lie: Transmit) {
        self.hijacked.push_back(lie);
    }

    /// Makes a liar of the node.
    pub fn set_forger(&mut self, forger: Forger) {
        self.forger = Some(forger);
    }
}

impl Driver for OverlayNode {
    type Event = Event;

    fn hello(&self) -> Bytes {
        let role = if self.dht.serves() { SERVING } else { ORDINARY };
        [self.node.as_bytes().as_slice(), &[role]].concat().into()
    }

    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Message { from, bytes } => {
                let Some(from) = self.node_of(from) else { return };
                match self.hijacker.as_mut().and_then(|hijacker| hijacker(from, &bytes)) {
                    Some(lie) => self.hijacked.push_back(lie),
                    None => self.dht.handle_input(now, from, &bytes),
                }
            }
            Input::LinkUp { peer, hello } => {
                let mut id = [0; 32];
                id.copy_from_slice(hello.get(..32).unwrap_or(&[0; 32]));
                let node = NodeId::from_bytes(id);
                self.note(node, peer);
                let address = Bytes::copy_from_slice(&peer.to_be_bytes());
                self.dht.handle_link_up(now, Descriptor { node, address }, hello.get(32) != Some(&ORDINARY));
            }
            Input::LinkDown { peer, silent } => {
                if let Some(node) = self.node_of(peer) {
                    self.dht.handle_link_down(now, node, silent);
                }
            }
            Input::DialFailed { peer } => {
                if let Some(node) = self.node_of(peer) {
                    self.dht.handle_dial_failed(now, node);
                }
            }
            Input::Probed { peer, reached } => {
                if let Some(node) = self.node_of(peer) {
                    self.dht.handle_dialled_back(now, node, Some(reached));
                }
            }
            Input::Timeout => self.dht.handle_timeout(now),
        }
    }

    fn poll_action(&mut self) -> Option<Action<Event>> {
        while let Some(change) = self.dht.poll_persist() {
            match change {
                PersistChange::Put { key, value } => drop(self.store.insert(key, value)),
                PersistChange::Remove { key } => drop(self.store.remove(&key)),
            }
        }
        if let Some(lie) = self.hijacked.pop_front()
            && let Some(to) = self.number_of(lie.to)
        {
            return Some(Action::Send { to, bytes: lie.bytes });
        }
        while let Some(transmit) = self.dht.poll_transmit() {
            let transmit = match &mut self.forger {
                Some(forger) => forger(transmit),
                None => Some(transmit),
            };
            if let Some(transmit) = transmit
                && let Some(to) = self.number_of(transmit.to)
            {
                return Some(Action::Send { to, bytes: transmit.bytes });
            }
        }
        while let Some(event) = self.dht.poll_event() {
            match event {
                Event::Dial { peer } => {
                    if let Some(to) = number_in(&peer.address) {
                        self.note(peer.node, to);
                        return Some(Action::Dial { to });
                    }
                }
                Event::Unlink { node } => {
                    if let Some(to) = self.number_of(node) {
                        return Some(Action::Close { to });
                    }
                }
                Event::Meet { peer, .. } => {
                    if let Some(to) = number_in(&peer.address) {
                        self.note(peer.node, to);
                        return Some(Action::Meet { to });
                    }
                }
                Event::DialBack { peer, .. } => {
                    if let Some(to) = number_in(&peer.address) {
                        self.note(peer.node, to);
                        return Some(Action::Probe { to });
                    }
                }
                Event::Joined | Event::Role { .. } => {}
                event @ (Event::Fetched { .. }
                | Event::Stored { .. }
                | Event::Found { .. }
                | Event::Changed { .. }
                | Event::ClockOff { .. }
                | Event::Contradiction { .. }
                | Event::PeerMisbehaved { .. }) => {
                    self.events.push_back(event);
                }
            }
        }
        self.events.pop_front().map(Action::Tell)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.dht.poll_timeout().map(|(at, _)| at)
    }
}

impl OverlayNode {
    fn node_of(&self, number: usize) -> Option<NodeId> {
        self.misled.nodes.get(&number).or(self.directory.borrow().nodes.get(&number)).copied()
    }

    fn number_of(&self, node: NodeId) -> Option<usize> {
        self.misled.numbers.get(&node).or(self.directory.borrow().numbers.get(&node)).copied()
    }

    fn note(&mut self, node: NodeId, number: usize) {
        if self.directory.borrow().nodes.get(&number) == Some(&node) {
            self.misled.nodes.remove(&number);
            self.misled.numbers.remove(&node);
        } else {
            self.misled.note(node, number);
        }
    }
}

impl Overlay {
    /// Makes an overlay without nodes, whose signatures anybody could forge.
    pub fn new(seed: u64, conditions: Conditions, config: Config) -> Self {
        Self::with_trust(seed, conditions, config, Trust::Forgeable)
    }

    /// Makes an overlay without nodes whose records are signed and judged like this.
    pub fn with_trust(seed: u64, conditions: Conditions, config: Config, trust: Trust) -> Self {
        Self {
            network: Network::new(seed, conditions),
            certifier: Certifier::new(trust),
            directory: Rc::default(),
            config,
            seed,
        }
    }

    /// Adds a node that may speak for these domains, and lets it join over the given one.
    ///
    /// # Panics
    /// When it cannot be certified, which is a mistake in this crate or in the domains.
    pub fn add(&mut self, domains: &[&str], bootstrap: Option<usize>) -> usize {
        self.add_node(domains, bootstrap, self.config.role)
    }

    /// As [`add`](Self::add), an ordinary node: it uses the overlay and does not serve it.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn add_ordinary(&mut self, domains: &[&str], bootstrap: Option<usize>) -> usize {
        self.add_node(domains, bootstrap, RoleChoice::Ordinary)
    }

    fn add_node(&mut self, domains: &[&str], bootstrap: Option<usize>, role: RoleChoice) -> usize {
        let (certifier, directory, seed) = (&self.certifier, &self.directory, self.seed);
        let config = Config { role, ..self.config.clone() };
        let number = self.network.add(|number, now| {
            let mut dht = make_dht(certifier, &config, seed, number, domains, now);
            if bootstrap.is_some() {
                dht.await_others(now);
            }
            directory.borrow_mut().note(dht.node_id(), number);
            let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
            OverlayNode::new(dht, Rc::clone(directory), domains, role)
        });
        if let Some(bootstrap) = bootstrap {
            self.network.dial(number, bootstrap);
        }
        number
    }

    /// Adds as many nodes, each joining over one of those already there, and waits until they have found their neighbours.
    pub fn grow(&mut self, nodes: usize, domains: &[&str]) {
        let mut random = Seeded::new(self.seed ^ nodes as u64);
        for _ in 0..nodes {
            let known = self.network.len();
            self.add(domains, (known > 0).then(|| random.below(known)));
            self.network.run_for(JOIN_PACE);
        }
        self.network.run_for(SETTLING);
    }

    /// As [`grow`](Self::grow), but a tenth of those already there join at a time: ten thousand nodes are there after 44 seconds. Each
    /// joins over one that it can dial.
    pub fn grow_in_waves(&mut self, nodes: usize, domains: &[&str]) {
        let mut random = Seeded::new(self.seed ^ nodes as u64);
        while self.network.len() < nodes {
            let known = self.network.len();
            for newcomer in known..nodes.min(known + (known / WAVE_SHARE).max(1)) {
                let begin = if known > 0 { random.below(known) } else { 0 };
                let bootstrap = (begin..known).chain(0..begin).find(|node| self.network.reaches(newcomer, *node));
                self.add(domains, bootstrap);
            }
            self.network.run_for(WAVE_PACE);
        }
        self.network.run_for(SETTLING);
    }

    /// Starts a node again, dead or alive, with nothing but its keys and its disk, and lets it join over the given one.
    pub fn restart(&mut self, node: usize, bootstrap: Option<usize>) {
        let role = self.network.driver(node).role;
        self.restart_with(node, bootstrap, role);
    }

    /// As [`restart`](Self::restart), to serve from now on, or not.
    pub fn restart_as(&mut self, node: usize, bootstrap: Option<usize>, serves: bool) {
        self.restart_with(node, bootstrap, if serves { RoleChoice::Super } else { RoleChoice::Ordinary });
    }

    fn restart_with(&mut self, node: usize, bootstrap: Option<usize>, role: RoleChoice) {
        let (certifier, directory, seed) = (&self.certifier, &self.directory, self.seed);
        let config = Config { role, ..self.config.clone() };
        self.network.restart(node, |before, now| {
            let domains = std::mem::take(&mut before.domains);
            let names: Vec<&str> = domains.iter().map(String::as_str).collect();
            let mut dht = make_dht(certifier, &config, seed, node, &names, now);
            let store = std::mem::take(&mut before.store);
            dht.restore(now, store.iter().map(|(key, value)| (key.clone(), value.clone())));
            if bootstrap.is_some() {
                dht.await_others(now);
            }
            OverlayNode { store, ..OverlayNode::new(dht, Rc::clone(directory), domains, role) }
        });
        if let Some(bootstrap) = bootstrap {
            self.network.dial(node, bootstrap);
        }
    }

    /// Makes a write on a node and waits for its answer.
    ///
    /// # Errors
    /// A text for the test's failure.
    pub fn store(
        &mut self,
        node: usize,
        kind: Kind,
        name: &str,
        content: Bytes,
        lifetime: Duration,
    ) -> Result<(), String> {
        let id = self.network.with(node, |driver, now| driver.dht.publish(now, kind, name, content, lifetime));
        self.wait_for_write(node, id)
    }

    /// Removes a node's value and waits for the answer.
    ///
    /// # Errors
    /// A text for the test's failure.
    pub fn remove(&mut self, node: usize, kind: Kind, name: &str) -> Result<(), String> {
        let id = self.network.with(node, |driver, now| driver.dht.remove(now, kind, name));
        self.wait_for_write(node, id)
    }

    /// Reads on a node and waits for the answer.
    ///
    /// # Errors
    /// A text for the test's failure.
    pub fn fetch(&mut self, node: usize, kind: Kind, name: &str) -> Result<meshtone_overlay::dht::Fetched, String> {
        let id = self.network.with(node, |driver, now| driver.dht.fetch(now, kind, name));
        self.wait_for_read(node, id)
    }

    /// Reads on a node until the first verified value and waits for the answer.
    ///
    /// # Errors
    /// A text for the test's failure.
    pub fn fetch_first(
        &mut self,
        node: usize,
        kind: Kind,
        name: &str,
    ) -> Result<meshtone_overlay::dht::Fetched, String> {
        let id = self.network.with(node, |driver, now| driver.dht.fetch_first(now, kind, name));
        self.wait_for_read(node, id)
    }

    /// Returns the nodes alive that hold a value of the kind at this name, asked without the network.
    pub fn holders(&self, kind: Kind, name: &str) -> Vec<usize> {
        let alive = self.network.alive().into_iter();
        alive.filter(|node| self.network.driver(*node).dht.holds(kind, name)).collect()
    }

    /// Returns what every node alive holds of a kind at this name: the storage time of each writer's value or removal.
    pub fn held(&self, kind: Kind, name: &str) -> BTreeMap<usize, BTreeMap<NodeId, u64>> {
        let alive = self.network.alive().into_iter();
        alive.map(|node| (node, self.network.driver(node).dht.held(kind, name).into_iter().collect())).collect()
    }

    /// Returns the nodes alive and serving that are closest to where this name belongs, closest first.
    pub fn closest(&self, name: &str, count: usize) -> Vec<usize> {
        let place = Position::from(ResourceId::of_name(name));
        let mut alive = self.network.alive();
        alive.retain(|node| self.network.driver(*node).dht.serves());
        alive.sort_by_key(|node| place.distance(self.network.driver(*node).node_id().into()));
        alive.truncate(count);
        alive
    }

    fn wait_for_write(&mut self, node: usize, id: Result<OperationId, RecordError>) -> Result<(), String> {
        let id = id.map_err(|error| error.to_string())?;
        loop {
            match self.network.next_event(Duration::from_secs(10)) {
                Some((at, Event::Stored { id: of, result })) if at == node && of == id => {
                    return result.map(drop).map_err(|error| error.to_string());
                }
                Some(_) => {}
                None => return Err("the write never ended".to_owned()),
            }
        }
    }

    fn wait_for_read(&mut self, node: usize, id: OperationId) -> Result<meshtone_overlay::dht::Fetched, String> {
        loop {
            match self.network.next_event(Duration::from_secs(10)) {
                Some((at, Event::Fetched { id: of, result })) if at == node && of == id => {
                    return result.map_err(|error| error.to_string());
                }
                Some(_) => {}
                None => return Err("the read never ended".to_owned()),
            }
        }
    }
}

fn make_dht(certifier: &Certifier, config: &Config, seed: u64, number: usize, domains: &[&str], now: Now) -> Dht {
    let writer = certifier.writer(seed, number, domains);
    let me = Descriptor { node: writer.node_id(), address: Bytes::copy_from_slice(&number.to_be_bytes()) };
    // A node that starts again must not draw the numbers of its first life.
    let random = Box::new(Seeded::new(seed ^ (number as u64) << 32 ^ now.unix_ms.wrapping_sub(EPOCH_MS)));
    Dht::new(config.clone(), me, writer, certifier.validator(), random, now)
}

/// Returns a registration as a home node would publish it; `updated_ms` tells one from another.
pub fn registration(updated_ms: u64) -> Bytes {
    SipRegistration { contacts: 1, max_q: 1000, updated_ms }.encode()
}

/// Returns the address record of a simulated node.
pub fn address(number: usize) -> Bytes {
    let link_key = link_key(number);
    NodeAddress { link_key, addresses: Vec::new(), relay: None, role: Role::Home, version: "sim".to_owned() }.encode()
}

fn number_in(address: &[u8]) -> Option<usize> {
    address.try_into().ok().map(usize::from_be_bytes)
}
