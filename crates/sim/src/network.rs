//! The network: virtual time, nodes, links between them, and what goes wrong.
//!
//! A link is what QUIC makes of a path: reliable and in order, so a lost packet shows as a delay. A node that dies silently
//! is noticed by its peers after [`SILENCE`]; one that leaves says so.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_overlay::dht::Now;

use crate::driver::{Action, Driver, Input};
use crate::queue::Queue;
use crate::random::Seeded;

/// After how long a silent peer counts as gone: three missed pings, two seconds apart, as in the link layer.
pub const SILENCE: Duration = Duration::from_secs(6);

/// A dial that nobody answers fails after this.
const DIAL_PATIENCE: Duration = Duration::from_secs(3);

/// A lost packet is sent again after this (RFC 9002 §6.2: the probe timeout of a young connection is about this).
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// Time of day at which every simulation begins, in unix milliseconds.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

/// How good the network is.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Least and greatest one-way latency; each pair of nodes has its own in between.
    pub latency: (Duration, Duration),
    /// Packets lost, in thousandths.
    pub loss_permille: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        // Within one continent over home lines.
        Self { latency: (Duration::from_millis(5), Duration::from_millis(40)), loss_permille: 5 }
    }
}

/// Who can be dialled by whom; by default everybody by everybody.
pub type Reachable = Box<dyn Fn(usize, usize) -> bool>;

/// Nodes and the links between them, in virtual time.
pub struct Network<D: Driver> {
    conditions: Conditions,
    random: Seeded,
    begin: Instant,
    elapsed: Duration,
    nodes: Vec<Node<D>>,
    queue: Queue<Happening>,
    links_opened: u64,
    reachable: Reachable,
    /// Who gets a link to whom where both dial.
    punchable: Reachable,
    /// Who dials whom that is to dial back, and until when.
    meetings: BTreeMap<(usize, usize), Duration>,
    told: VecDeque<(usize, D::Event)>,
}

struct Node<D> {
    driver: D,
    alive: bool,
    /// Which side of a partition it is on.
    side: usize,
    /// How far its clock is off.
    clock_ms: i64,
    wake: Option<Duration>,
    /// Links that are up, by the node at the other end, which has the other half.
    links: BTreeMap<usize, Link>,
    sent: Traffic,
}

/// One end of a link, with the time of the last arrival at the other one: nothing overtakes.
struct Link {
    number: u64,
    arrival: Duration,
}

/// What was sent over links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Their bytes, without what QUIC, UDP and IP add.
    pub bytes: u64,
}

enum Happening {
    Wake(usize),
    Arrival { from: usize, to: usize, link: u64, bytes: Bytes },
    Dialled { from: usize, to: usize },
    DialFailed { from: usize, to: usize },
    Probed { from: usize, to: usize, reached: bool },
    Silence { at: usize, peer: usize, link: u64 },
    Closed { at: usize, peer: usize },
}

impl Traffic {
    /// Returns what was sent since it was this much.
    pub fn since(self, before: Self) -> Self {
        Self { messages: self.messages - before.messages, bytes: self.bytes - before.bytes }
    }
}

impl<D: Driver> Network<D> {
    /// Makes an empty network.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            conditions,
            random: Seeded::new(seed),
            #[allow(
                clippy::disallowed_methods,
                reason = "virtual time has to begin somewhere; nothing reads it as a clock"
            )]
            begin: Instant::now(),
            elapsed: Duration::ZERO,
            nodes: Vec::new(),
            queue: Queue::default(),
            links_opened: 0,
            reachable: Box::new(|_, _| true),
            punchable: Box::new(|_, _| true),
            meetings: BTreeMap::new(),
            told: VecDeque::new(),
        }
    }

    /// Returns how much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Returns what a node's clocks show.
    pub fn now(&self, node: usize) -> Now {
        let clock_ms = self.nodes.get(node).map_or(0, |node| node.clock_ms);
        let passed = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX);
        Now { instant: self.begin + self.elapsed, unix_ms: (EPOCH_MS + passed).saturating_add_signed(clock_ms) }
    }

    /// Adds a node and returns its number. The driver is made with the node's clocks.
    pub fn add(&mut self, make: impl FnOnce(usize, Now) -> D) -> usize {
        let number = self.nodes.len();
        let driver = make(number, self.now(number));
        let (links, sent) = (BTreeMap::new(), Traffic::default());
        self.nodes.push(Node { driver, alive: true, side: 0, clock_ms: 0, wake: None, links, sent });
        self.drain(number);
        number
    }

    /// Returns how many nodes there are, dead ones included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Says whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the numbers of the nodes that are alive.
    pub fn alive(&self) -> Vec<usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.alive).map(|(number, _)| number).collect()
    }

    /// Returns what runs on a node.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn driver(&self, node: usize) -> &D {
        &self.nodes[node].driver
    }

    /// Does something with what runs on a node, and then what that wants done.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn with<R>(&mut self, node: usize, act: impl FnOnce(&mut D, Now) -> R) -> R {
        let now = self.now(node);
        let result = act(&mut self.nodes[node].driver, now);
        self.drain(node);
        result
    }

    /// Sets how far a node's clock is off, in milliseconds.
    pub fn set_clock(&mut self, node: usize, clock_ms: i64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.clock_ms = clock_ms;
        }
    }

    /// Says who can dial whom, as [`Nat`](crate::Nat) boxes decide. Links that are up stay up.
    pub fn set_reachable(&mut self, reachable: Reachable) {
        self.reachable = reachable;
    }

    /// Says between whom a link comes up where both dial at once, as [`Nat`](crate::Nat) boxes decide.
    pub fn set_punchable(&mut self, punchable: Reachable) {
        self.punchable = punchable;
    }

    /// Says whether a node can dial another one, dead or alive.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        (self.reachable)(from, to)
    }

    /// Opens a link, as a bootstrap does.
    pub fn dial(&mut self, from: usize, to: usize) {
        let trip = self.latency(from, to) * 3;
        if self.connected(from, to) && self.reaches(from, to) {
            self.push(trip, Happening::Dialled { from, to });
        } else {
            self.push(DIAL_PATIENCE, Happening::DialFailed { from, to });
        }
    }

    /// A dial of a node that dials back: who is dialled in vain opens the way for the other one.
    fn meet(&mut self, from: usize, to: usize) {
        let met = self.meetings.get(&(to, from)).is_some_and(|until| *until >= self.elapsed);
        let trip = self.latency(from, to) * 3;
        if self.connected(from, to) && (self.reaches(from, to) || met && (self.punchable)(from, to)) {
            return self.push(trip, Happening::Dialled { from, to });
        }
        self.meetings.retain(|_, until| *until >= self.elapsed);
        self.meetings.insert((from, to), self.elapsed + DIAL_PATIENCE);
    }

    fn probe(&mut self, from: usize, to: usize) {
        let reached = self.connected(from, to) && self.reaches(from, to);
        let takes = if reached { self.latency(from, to) * 2 } else { DIAL_PATIENCE };
        self.push(takes, Happening::Probed { from, to, reached });
    }

    /// Ends a node without a word.
    pub fn kill(&mut self, node: usize) {
        self.end(node, SILENCE);
    }

    /// Starts a node again with another driver, made of what ran there before. Its links are gone.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn restart(&mut self, node: usize, make: impl FnOnce(&mut D, Now) -> D) {
        for peer in std::mem::take(&mut self.nodes[node].links).into_keys() {
            self.nodes[peer].links.remove(&node);
            self.push(Duration::ZERO, Happening::Closed { at: peer, peer: node });
        }
        let now = self.now(node);
        let slot = &mut self.nodes[node];
        slot.driver = make(&mut slot.driver, now);
        slot.alive = true;
        slot.wake = None;
        self.drain(node);
    }

    /// Ends a node that says goodbye to its links.
    pub fn leave(&mut self, node: usize) {
        self.end(node, Duration::ZERO);
    }

    /// Cuts the network in parts: nothing passes between nodes of different sides.
    pub fn partition(&mut self, side_of: impl Fn(usize) -> usize) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.side = side_of(number);
        }
        let cut: Vec<_> = self.links().filter(|(a, b, _)| side_of(*a) != side_of(*b)).collect();
        for (a, b, link) in cut {
            self.push(SILENCE, Happening::Silence { at: a, peer: b, link });
            self.push(SILENCE, Happening::Silence { at: b, peer: a, link });
        }
    }

    /// Returns for each node alive the least number among the nodes that it is connected with over links, itself included: nodes
    /// with the same are one component.
    pub fn components(&self) -> BTreeMap<usize, usize> {
        let mut least: BTreeMap<usize, usize> = self.alive().into_iter().map(|node| (node, node)).collect();
        loop {
            let mut changed = false;
            for (a, b, _) in self.links().filter(|(a, b, _)| self.connected(*a, *b)) {
                let of = |node: usize| least.get(&node).copied().unwrap_or(node);
                let both = of(a).min(of(b));
                changed |= [a, b].map(|end| least.insert(end, both) != Some(both)).contains(&true);
            }
            if !changed {
                return least;
            }
        }
    }

    /// Makes the network whole again.
    pub fn heal(&mut self) {
        for node in &mut self.nodes {
            node.side = 0;
        }
    }

    /// Lets virtual time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.elapsed + duration;
        while self.queue.next_at().is_some_and(|at| at <= end) {
            self.turn();
        }
        self.elapsed = end;
    }

    /// Lets virtual time pass until the test is told something, at most for `patience`.
    pub fn next_event(&mut self, patience: Duration) -> Option<(usize, D::Event)> {
        let end = self.elapsed + patience;
        while self.told.is_empty() && self.queue.next_at().is_some_and(|at| at <= end) {
            self.turn();
        }
        self.told.pop_front()
    }

    /// Returns what has been sent over all links.
    pub fn traffic(&self) -> Traffic {
        let zero = Traffic::default();
        self.nodes.iter().fold(zero, |sum, node| Traffic {
            messages: sum.messages + node.sent.messages,
            bytes: sum.bytes + node.sent.bytes,
        })
    }

    /// Returns what a node has sent.
    pub fn sent_by(&self, node: usize) -> Traffic {
        self.nodes.get(node).map_or(Traffic::default(), |node| node.sent)
    }

    /// Returns every link once, with its number: by the lower end, then by the higher one.
    fn links(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let halves = self.nodes.iter().enumerate();
        halves.flat_map(|(a, node)| node.links.range(a..).map(move |(b, link)| (a, *b, link.number)))
    }

    /// Takes the next thing that happens.
    fn turn(&mut self) {
        let Some((at, happening)) = self.queue.pop() else { return };
        self.elapsed = self.elapsed.max(at);
        match happening {
            Happening::Wake(node) => {
                if self.nodes.get(node).is_some_and(|node| node.wake == Some(at)) {
                    self.nodes[node].wake = None;
                    self.input(node, Input::Timeout);
                }
            }
            Happening::Arrival { from, to, link, bytes } => {
                if self.link_number(from, to) == Some(link) && self.connected(from, to) {
                    self.input(to, Input::Message { from, bytes });
                }
            }
            Happening::Dialled { from, to } => self.open(from, to),
            Happening::DialFailed { from, to } => self.input(from, Input::DialFailed { peer: to }),
            Happening::Probed { from, to, reached } => self.input(from, Input::Probed { peer: to, reached }),
            Happening::Silence { at, peer, link } => {
                // A link that came to life again within the silence goes on.
                let ours = self.link_number(at, peer) == Some(link);
                if ours && !self.connected(at, peer) {
                    self.unlink(at, peer);
                    self.input(at, Input::LinkDown { peer, silent: true });
                    self.input(peer, Input::LinkDown { peer: at, silent: true });
                }
            }
            Happening::Closed { at, peer } => {
                if self.link_number(at, peer).is_none() {
                    self.input(at, Input::LinkDown { peer, silent: false });
                }
            }
        }
    }

    fn open(&mut self, from: usize, to: usize) {
        if from == to || !self.connected(from, to) {
            return self.input(from, Input::DialFailed { peer: to });
        }
        if self.link_number(from, to).is_some() {
            // Both dialled: one link is enough.
            return;
        }
        self.links_opened += 1;
        for (at, peer) in [(from, to), (to, from)] {
            self.nodes[at].links.insert(peer, Link { number: self.links_opened, arrival: self.elapsed });
        }
        for (at, peer) in [(from, to), (to, from)] {
            let hello = self.nodes[peer].driver.hello();
            self.input(at, Input::LinkUp { peer, hello });
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        let now = self.now(node);
        let Some(slot) = self.nodes.get_mut(node) else { return };
        if slot.alive {
            slot.driver.handle(now, input);
            self.drain(node);
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].driver.poll_action() {
            match action {
                Action::Send { to, bytes } => self.carry(node, to, bytes),
                Action::Dial { to } => self.dial(node, to),
                Action::Probe { to } => self.probe(node, to),
                Action::Meet { to } => self.meet(node, to),
                Action::Close { to } => {
                    if self.unlink(node, to) {
                        let trip = self.latency(node, to);
                        self.push(Duration::ZERO, Happening::Closed { at: node, peer: to });
                        self.push(trip, Happening::Closed { at: to, peer: node });
                    }
                }
                Action::Tell(event) => self.told.push_back((node, event)),
            }
        }
        let wake = self.nodes[node].driver.poll_timeout();
        let wake = wake.map(|at| at.saturating_duration_since(self.begin).max(self.elapsed));
        if let Some(at) = wake
            && self.nodes[node].alive
            && self.nodes[node].wake.is_none_or(|set| at < set)
        {
            self.nodes[node].wake = Some(at);
            self.queue.push(at, Happening::Wake(node));
        }
    }

    fn carry(&mut self, from: usize, to: usize, bytes: Bytes) {
        let mut trip = self.latency(from, to);
        while self.random.below(1000) < self.conditions.loss_permille {
            trip += RETRANSMISSION;
        }
        let elapsed = self.elapsed;
        let node = &mut self.nodes[from];
        let Some(link) = node.links.get_mut(&to) else { return };
        link.arrival = link.arrival.max(elapsed + trip);
        let (at, link) = (link.arrival, link.number);
        node.sent.messages += 1;
        node.sent.bytes += bytes.len() as u64;
        self.queue.push(at, Happening::Arrival { from, to, link, bytes });
    }

    fn end(&mut self, node: usize, silence: Duration) {
        let Some(slot) = self.nodes.get_mut(node) else { return };
        slot.alive = false;
        for (peer, link) in slot.links.iter().map(|(peer, link)| (*peer, link.number)).collect::<Vec<_>>() {
            let trip = self.latency(node, peer);
            self.push(silence + trip, Happening::Silence { at: peer, peer: node, link });
        }
    }

    fn unlink(&mut self, a: usize, b: usize) -> bool {
        self.nodes[a].links.remove(&b);
        self.nodes[b].links.remove(&a).is_some()
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        match (self.nodes.get(a), self.nodes.get(b)) {
            (Some(a), Some(b)) => a.alive && b.alive && a.side == b.side,
            (_, _) => false,
        }
    }

    fn link_number(&self, a: usize, b: usize) -> Option<u64> {
        self.nodes.get(a)?.links.get(&b).map(|link| link.number)
    }

    /// The latency of a pair follows from its numbers, the same in both directions and for ever.
    fn latency(&self, a: usize, b: usize) -> Duration {
        let (a, b) = (a.min(b), a.max(b));
        let (least, greatest) = self.conditions.latency;
        let spread = usize::try_from((greatest - least).as_micros()).unwrap_or(usize::MAX).max(1);
        let chosen = Seeded::new((a as u64) << 32 | b as u64).below(spread);
        least + Duration::from_micros(chosen as u64)
    }

    fn push(&mut self, after: Duration, happening: Happening) {
        self.queue.push(self.elapsed + after, happening);
    }
}
