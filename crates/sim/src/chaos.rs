//! One seeded history: a small overlay whose nodes write and read at random while nodes join, leave, crash and come back, clocks are
//! off, and the network falls apart and heals. [`History`] judges what was read; what is held in the end is compared here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::dht::{Config, Event, Evidence, Fetched, OperationId, RoleChoice};
use meshtone_overlay::record::{Kind, SipRegistration};

use crate::history::{CallId, Entry, History};
use crate::network::Conditions;
use crate::overlay::{Overlay, registration};
use crate::random::Seeded;

const KIND: Kind = Kind::SipRegistration;
const DOMAIN: &str = "example.org";

/// Names that are written and read; few, so that calls meet.
const RECORDS: usize = 4;

/// Nodes that write, each at every name; few, so that one crashes between its writes now and then.
const WRITERS: usize = 3;

/// Things that happen in a history.
const STEPS: usize = 80;

/// Longer than any history, or a writer that crashed would be right to be forgotten.
const LIFETIME: Duration = Duration::from_secs(7200);

/// How long the network may take after a partition until it counts as one again: a probe of lost nodes each 15 s, the refresh and
/// the repair that follow.
pub const SETTLING: Duration = Duration::from_secs(100);

/// How long a node may take from its first link on until it counts as part of the network.
const JOINING: Duration = Duration::from_secs(3);

/// Where fewer are left together, none is lost: their replicas are no five.
const MIN_COMPONENT: usize = 8;

/// Nodes that may be lost within [`LOSS_WINDOW`]: a minority of five replicas.
const MAX_LOSSES: usize = 2;

/// How long a loss takes to be noticed (six seconds) and made good.
const LOSS_WINDOW: Duration = Duration::from_secs(12);

/// Longest time between two things that happen.
const GAP_MS: usize = 3000;

/// The same within a burst: about what a call takes.
const BURST_MS: usize = 100;

/// How far clocks are off at most, half of what storing nodes bear, since the writer's and theirs add up.
const SKEW_MS: usize = 120_000;

/// What came of a history.
pub struct Outcome {
    /// What was written and read.
    pub history: History,
    /// What replicas disagree about in the end, or what was refused though it should not have been; in words.
    pub disagreements: Vec<String>,
}

/// Plays the history of a seed.
pub fn play(seed: u64) -> Outcome {
    Play::begin(seed, Config::default(), false).play()
}

/// Plays the history of a seed, with all reads made iteratively.
pub fn play_iteratively(seed: u64) -> Outcome {
    Play::begin(seed, Config::default(), true).play()
}

/// Plays the history of a seed, in which every node decides by itself whether it serves.
pub fn play_with_roles(seed: u64) -> Outcome {
    Play::begin(seed, Config { role: RoleChoice::Auto, ..Config::default() }, false).play()
}

enum Call {
    Write(CallId),
    Read(CallId),
}

struct Play {
    overlay: Overlay,
    history: History,
    random: Seeded,
    iteratively: bool,
    calls: BTreeMap<(usize, OperationId), Call>,
    numbers: BTreeMap<NodeId, usize>,
    /// What each writer wrote last.
    written: BTreeMap<usize, usize>,
    /// Nodes that have joined long enough ago.
    members: BTreeSet<usize>,
    joining: VecDeque<(Duration, usize)>,
    dead: Vec<usize>,
    losses: VecDeque<Duration>,
    /// The side of each node while the network is cut; else empty.
    sides: BTreeMap<usize, usize>,
    /// Sides of former cuts, and when each healed.
    healed: Vec<(Duration, BTreeMap<usize, usize>)>,
    disagreements: Vec<String>,
}

impl Play {
    fn begin(seed: u64, config: Config, iteratively: bool) -> Self {
        let mut random = Seeded::new(seed);
        let config = Config { persist: true, ..config };
        let nodes = 12 + random.below(9);
        // From a local network to lines across an ocean that lose one packet in fifty.
        let latency = (Duration::from_millis(1), Duration::from_millis(10 + random.below(190) as u64));
        let conditions = Conditions { latency, loss_permille: random.below(20) };
        let mut play = Self {
            overlay: Overlay::new(seed, conditions, config),
            history: History::new(SETTLING),
            random,
            iteratively,
            calls: BTreeMap::new(),
            numbers: BTreeMap::new(),
            written: BTreeMap::new(),
            members: (0..nodes).collect(),
            joining: VecDeque::new(),
            dead: Vec::new(),
            losses: VecDeque::new(),
            sides: BTreeMap::new(),
            healed: Vec::new(),
            disagreements: Vec::new(),
        };
        let skewed = play.random.below(3) == 0;
        for number in 0..nodes {
            play.add((number > 0).then_some(0));
            if skewed {
                play.set_clock(number);
            }
            play.overlay.network.run_for(Duration::from_millis(200));
        }
        play.overlay.network.run_for(Duration::from_secs(10));
        play
    }

    fn play(mut self) -> Outcome {
        for _ in 0..STEPS {
            // Half of what happens, happens while the thing before is still under way.
            let longest = if self.random.below(2) == 0 { BURST_MS } else { GAP_MS };
            let gap = Duration::from_millis(self.random.below(longest) as u64);
            self.pass(gap);
            self.step();
        }
        self.end()
    }

    fn is_cut(&self) -> bool {
        !self.sides.is_empty()
    }

    fn now(&self) -> Duration {
        self.overlay.network.elapsed()
    }

    /// Lets time pass, and takes note of the calls that end meanwhile.
    fn pass(&mut self, duration: Duration) {
        let end = self.now() + duration;
        while let Some((node, event)) = self.overlay.network.next_event(end.saturating_sub(self.now())) {
            self.on_event(node, event);
        }
        self.overlay.network.run_for(end.saturating_sub(self.now()));
        while let Some((_, node)) = self.joining.pop_front_if(|(at, _)| *at <= end) {
            self.on_joining_due(node);
        }
        if !self.is_cut() {
            let alone: Vec<usize> = self.members().into_iter().filter(|node| self.is_alone(*node)).collect();
            for node in alone {
                self.join_again(node);
            }
        }
    }

    fn is_alone(&self, node: usize) -> bool {
        self.overlay.network.driver(node).dht.links().is_empty()
    }

    /// The only node that it was linked with is gone, before it told of any others. A node's runtime dials the peers of its
    /// configuration then, which the DHT does not know of.
    fn join_again(&mut self, node: usize) {
        self.members.remove(&node);
        let members = self.members();
        if let Some(bootstrap) = self.pick(&members) {
            self.overlay.network.dial(node, bootstrap);
        }
        self.becomes_member(node);
    }

    /// A newcomer is a member by now, unless whom it dialled was gone.
    fn on_joining_due(&mut self, node: usize) {
        if self.is_alone(node) {
            return self.join_again(node);
        }
        self.history.joined(self.now(), node);
        self.members.insert(node);
    }

    fn on_event(&mut self, node: usize, event: Event) {
        let now = self.now();
        match event {
            Event::Stored { id, result } => {
                if let (Some(Call::Write(call)), Ok(_)) = (self.calls.remove(&(node, id)), result) {
                    self.history.write_acknowledged(now, call);
                    self.read_at_once(node);
                }
            }
            Event::Fetched { id, result } => {
                if let (Some(Call::Read(call)), Ok(fetched)) = (self.calls.remove(&(node, id)), result) {
                    let found = self.found(&fetched);
                    self.history.read_ended(now, call, found);
                }
            }
            Event::PeerMisbehaved { node: peer, error } => {
                self.disagreements.push(format!("node {node} says that {} misbehaves: {error}", peer.short()));
            }
            Event::Contradiction { evidence } => {
                self.disagreements.push(format!("an honest writer contradicts itself: {}", in_short(&evidence)));
            }
            Event::Found { .. }
            | Event::Changed { .. }
            | Event::ClockOff { .. }
            | Event::Dial { .. }
            | Event::Unlink { .. }
            | Event::Role { .. }
            | Event::DialBack { .. }
            | Event::Meet { .. }
            | Event::Joined => {}
        }
    }

    fn found(&self, fetched: &Fetched) -> BTreeMap<usize, u64> {
        let shown = fetched.entries.iter().map(|entry| {
            // A writer or a content that nobody knows shows up as a write that never was.
            let writer = self.numbers.get(&entry.writer).copied().unwrap_or(usize::MAX);
            (writer, SipRegistration::decode(&entry.value).map_or(u64::MAX, |value| value.updated_ms))
        });
        shown.collect()
    }

    /// Does one thing at random.
    fn step(&mut self) {
        match self.random.below(100) {
            0..50 => self.read(),
            50..73 => self.write(true),
            73..79 => self.write(false),
            79..85 => self.lose(),
            85..90 => self.join(),
            90..94 => self.come_back(),
            94..98 => self.cut_or_heal(),
            _ => self.restart(),
        }
    }

    fn pick(&mut self, nodes: &[usize]) -> Option<usize> {
        let index = self.random.below(nodes.len());
        nodes.get(index).copied()
    }

    fn members(&self) -> Vec<usize> {
        self.members.iter().copied().collect()
    }

    fn read(&mut self) {
        let members = self.members();
        let Some(node) = self.pick(&members) else { return };
        let record = self.random.below(RECORDS);
        self.read_at(node, record);
    }

    fn read_at(&mut self, node: usize, record: usize) {
        let call = self.history.read_began(self.now(), node, record);
        let (name, iteratively) = (name(record), self.iteratively);
        let id = self.overlay.network.with(node, |driver, now| {
            if iteratively {
                driver.dht.fetch_iteratively(now, KIND, &name)
            } else {
                driver.dht.fetch(now, KIND, &name)
            }
        });
        self.calls.insert((node, id), Call::Read(call));
    }

    /// Somebody reads at the very moment at which a write is acknowledged, while some replicas may not have heard of it.
    fn read_at_once(&mut self, writer: usize) {
        let members = self.members();
        if let (Some(node), Some(record)) = (self.pick(&members), self.written.remove(&writer)) {
            self.read_at(node, record);
        }
    }

    fn write(&mut self, exists: bool) {
        let (writer, record) = (self.random.below(WRITERS), self.random.below(RECORDS));
        if !self.members.contains(&writer) {
            return;
        }
        let (call, sequence) = self.history.write_began(self.now(), Entry { record, writer }, exists);
        let written = self.overlay.network.with(writer, |driver, now| {
            if exists {
                driver.dht.publish(now, KIND, &name(record), registration(sequence), LIFETIME)
            } else {
                driver.dht.remove(now, KIND, &name(record))
            }
        });
        match written {
            Ok(id) => {
                self.calls.insert((writer, id), Call::Write(call));
                self.written.insert(writer, record);
            }
            Err(error) => self.disagreements.push(format!("writer {writer} cannot write: {error}")),
        }
    }

    /// A node crashes, or leaves with a word, unless too many have gone lately.
    fn lose(&mut self) {
        let now = self.now();
        while self.losses.pop_front_if(|at| now >= *at + LOSS_WINDOW).is_some() {}
        let members = self.members();
        let Some(node) = self.pick(&members) else { return };
        // A component of a few nodes holds what it holds on these alone.
        let beside = members.iter().filter(|member| self.sides.get(member) == self.sides.get(&node)).count();
        if self.losses.len() >= MAX_LOSSES || beside < MIN_COMPONENT {
            return;
        }
        if self.random.below(3) == 0 {
            self.overlay.network.leave(node);
        } else {
            self.overlay.network.kill(node);
        }
        self.losses.push_back(now);
        self.forget(node);
        self.dead.push(node);
    }

    fn forget(&mut self, node: usize) {
        self.members.remove(&node);
        self.calls.retain(|(of, _), _| *of != node);
    }

    fn join(&mut self) {
        // Which side a newcomer is on is its bootstrap's, and all are on side 0 of a network that is whole.
        if self.is_cut() || self.members.len() >= 24 {
            return;
        }
        let members = self.members();
        let bootstrap = self.pick(&members);
        let node = self.add(bootstrap);
        self.becomes_member(node);
    }

    fn come_back(&mut self) {
        let members = self.members();
        if self.is_cut() || self.dead.is_empty() {
            return;
        }
        let index = self.random.below(self.dead.len());
        let node = self.dead.remove(index);
        let bootstrap = self.pick(&members);
        self.overlay.restart(node, bootstrap);
        self.becomes_member(node);
    }

    /// A node starts again at once with its disk, such as for an update.
    fn restart(&mut self) {
        let members = self.members();
        let now = self.now();
        while self.losses.pop_front_if(|at| now >= *at + LOSS_WINDOW).is_some() {}
        if self.is_cut() || self.losses.len() >= MAX_LOSSES {
            return;
        }
        let Some(node) = self.pick(&members) else { return };
        self.losses.push_back(now);
        self.forget(node);
        let others: Vec<usize> = members.into_iter().filter(|member| *member != node).collect();
        let bootstrap = self.pick(&others);
        self.overlay.restart(node, bootstrap);
        self.becomes_member(node);
    }

    fn becomes_member(&mut self, node: usize) {
        self.history.joined(Duration::MAX, node);
        self.joining.push_back((self.now() + JOINING, node));
    }

    fn cut_or_heal(&mut self) {
        if self.is_cut() {
            return self.heal();
        }
        let seed = self.random.next();
        let first_share = 1 + self.random.below(5);
        let side = move |node: usize| usize::from(Seeded::new(seed ^ node as u64).below(6) >= first_share);
        self.overlay.network.partition(side);
        // On one side, too, there may be nodes that no link leads to any more.
        self.sides = self.overlay.network.components();
        let mut parts: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (node, component) in &self.sides {
            parts.entry(side(*node)).or_default().insert(*component);
        }
        let whole = |node: &&usize| parts.get(&side(**node)).is_none_or(|components| components.len() == 1);
        let mut meeting: BTreeSet<usize> = self.sides.keys().filter(|node| !whole(node)).copied().collect();
        meeting.extend(self.just_met());
        self.history.cut(self.now(), self.sides.clone(), meeting);
    }

    /// Returns the nodes of sides on which there are some that were apart until shortly before: the cut came before they had settled.
    fn just_met(&self) -> BTreeSet<usize> {
        let unsettled = self.healed.iter().filter(|(at, _)| self.now() < *at + SETTLING);
        let mixed = unsettled.flat_map(|(_, former)| {
            let mut origins: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
            for (node, side) in &self.sides {
                origins.entry(*side).or_default().extend(former.get(node));
            }
            origins.into_iter().filter(|(_, origins)| origins.len() > 1).map(|(side, _)| side)
        });
        let mixed: BTreeSet<usize> = mixed.collect();
        self.sides.iter().filter(|(_, side)| mixed.contains(side)).map(|(node, _)| *node).collect()
    }

    fn heal(&mut self) {
        self.healed.push((self.now(), std::mem::take(&mut self.sides)));
        self.overlay.network.heal();
        self.history.cut(self.now(), BTreeMap::new(), BTreeSet::new());
    }

    fn add(&mut self, bootstrap: Option<usize>) -> usize {
        let node = self.overlay.add(&[DOMAIN], bootstrap);
        self.numbers.insert(self.overlay.network.driver(node).node_id(), node);
        node
    }

    fn set_clock(&mut self, node: usize) {
        let skew = i64::try_from(self.random.below(2 * SKEW_MS)).unwrap_or_default();
        self.overlay.network.set_clock(node, skew - i64::try_from(SKEW_MS).unwrap_or_default());
    }

    /// Makes the network whole, lets it settle, and has everybody read everything.
    fn end(mut self) -> Outcome {
        if self.is_cut() {
            self.heal();
        }
        // Two rounds of repair at the longest jitter.
        self.pass(SETTLING.max(Duration::from_secs(150)));
        for node in self.members() {
            for record in 0..RECORDS {
                self.read_at(node, record);
            }
            self.pass(Duration::from_millis(20));
        }
        self.pass(Duration::from_secs(10));
        for record in 0..RECORDS {
            self.compare(record);
        }
        for (node, _) in self.calls.keys() {
            self.disagreements.push(format!("a call of node {node} never ended"));
        }
        Outcome { history: self.history, disagreements: self.disagreements }
    }

    /// The replicas have to hold the same, and nobody else anything older.
    fn compare(&mut self, record: usize) {
        let held = self.overlay.held(KIND, &name(record));
        let newest: BTreeMap<NodeId, u64> =
            held.values().flatten().fold(BTreeMap::new(), |mut newest, (writer, at)| {
                let known = newest.entry(*writer).or_insert(*at);
                *known = (*known).max(*at);
                newest
            });
        let replicas = self.overlay.closest(&name(record), Config::default().replicas);
        for (node, values) in &held {
            let lags = values.iter().any(|(writer, at)| newest.get(writer) != Some(at));
            let lacks = replicas.contains(node) && values.len() < newest.len();
            if lags || lacks {
                let held = format!("{values:?}, not {newest:?}");
                let replica = if replicas.contains(node) { "replica" } else { "no replica, but" };
                self.disagreements.push(format!("of name {record} node {node} ({replica}) holds {held}"));
            }
        }
    }
}

/// Says what two records are about: whole ones would fill a screen each.
fn in_short(evidence: &Evidence) -> String {
    let said = [&evidence.first.value, &evidence.second.value].map(|value| {
        let what = if value.exists { "a value" } else { "a removal" };
        format!("{what} of {} s {:02x?}", value.lifetime_s, value.content)
    });
    let value = &evidence.first.value;
    let (kind, name, writer) = (value.kind, &value.name, value.signer.short());
    format!("{kind:?} at {name} by {writer}, dated {}: {}", value.storage_ms, said.join(" and "))
}

fn name(record: usize) -> String {
    format!("user{record}@{DOMAIN}")
}
