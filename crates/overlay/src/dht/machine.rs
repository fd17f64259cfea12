//! The machine: inputs, outputs and commands of the DHT.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_identity::NodeId;

use super::absence::Absences;
use super::clock::Clock;
use super::config::PROBE;
use super::dates::Dates;
use super::evidence::Kept;
use super::hand_over::HandOver;
use super::hedge::UsualTime;
use super::introduce::Introductions;
use super::listen::{Listening, Place};
use super::listeners::Listeners;
use super::message::{Message, MessageError};
use super::operation::{Operation, Pending};
use super::presence::{NOTED, Presence};
use super::publish::Published;
use super::reach::Reach;
use super::refusals::Refusals;
use super::relay::{Relay, RelayKey};
use super::role::Role;
use super::storage::Storage;
use super::table::Table;
use super::timers::Timers;
use super::tuning::Churn;
use super::{Config, Descriptor, Event, Now, OperationId, Position, Randomness, Timer, Transmit};
use crate::record::{Kind, ResourceId, Validator, Writer};

/// One node's part of the distributed hash table.
///
/// Feed it inputs, then drain [`poll_transmit`](Self::poll_transmit), [`poll_event`](Self::poll_event) and
/// [`poll_timeout`](Self::poll_timeout); the module's page shows the loop.
pub struct Dht {
    pub(super) config: Config,
    pub(super) me: Descriptor,
    pub(super) position: Position,
    pub(super) writer: Arc<dyn Writer>,
    pub(super) validator: Arc<dyn Validator>,
    pub(super) randomness: Box<dyn Randomness>,
    pub(super) table: Table,
    pub(super) clock: Clock,
    pub(super) absences: Absences,
    pub(super) relays: BTreeMap<RelayKey, Relay>,
    pub(super) relays_of_link: BTreeMap<NodeId, usize>,
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) operations: BTreeMap<OperationId, Operation>,
    /// How long requests of our own took lately, smoothed.
    pub(super) request_time: Duration,
    /// How long those towards a place take as a rule.
    pub(super) usual_time: UsualTime,
    pub(super) storage: Storage,
    pub(super) evidence: Kept,
    pub(super) hand_over: HandOver,
    pub(super) refusals: Refusals,
    pub(super) dates: Dates,
    /// Where this node listens, and who listens here.
    pub(super) listening: BTreeMap<Place, Listening>,
    pub(super) listeners: Listeners,
    /// Nodes of a release that does not understand a put.
    pub(super) plain: BTreeSet<NodeId>,
    pub(super) published: BTreeMap<(ResourceId, Kind), Published>,
    /// Siblings as we last told them.
    pub(super) told: BTreeSet<NodeId>,
    pub(super) joined: bool,
    /// There was no link, and since there is one our own place has not been looked for.
    pub(super) newly_linked: bool,
    /// Refreshes since there was a first link.
    pub(super) refreshes: u32,
    pub(super) timers: Timers,
    pub(super) churn: Churn,
    pub(super) role: Role,
    /// Peers that may not serve, whatever they say.
    pub(super) restricted: BTreeSet<NodeId>,
    pub(super) presence: Presence,
    /// The role is not what the first hellos said.
    pub(super) role_changed: bool,
    /// This node serves no more, and closes links when it holds nothing any more.
    pub(super) shedding: bool,
    pub(super) reach: Reach,
    pub(super) introductions: Introductions,
    /// Keys of the store whose values could not be taken back.
    pub(super) unreadable: Vec<Bytes>,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
    next_operation: u64,
}

impl Dht {
    /// Makes a node without links. `me` is what others will dial.
    pub fn new(
        config: Config,
        me: Descriptor,
        writer: Arc<dyn Writer>,
        validator: Arc<dyn Validator>,
        randomness: Box<dyn Randomness>,
        now: Now,
    ) -> Self {
        let position = Position::from(me.node);
        let subnet_of = config.subnet_of;
        let (storage, dates) = (Storage::new(position, config.persist), Dates::new(config.persist));
        let role = Role::new(config.role, now.instant);
        let presence = Presence::new(now.unix_ms, config.persist);
        let mut dht = Self {
            config,
            position,
            me,
            writer,
            validator,
            randomness,
            table: Table::new(position, subnet_of),
            clock: Clock::default(),
            absences: Absences::default(),
            relays: BTreeMap::new(),
            relays_of_link: BTreeMap::new(),
            pending: BTreeMap::new(),
            operations: BTreeMap::new(),
            request_time: Duration::from_millis(200),
            usual_time: UsualTime::default(),
            storage,
            evidence: Kept::default(),
            hand_over: HandOver::default(),
            refusals: Refusals::default(),
            dates,
            listening: BTreeMap::new(),
            listeners: Listeners::default(),
            plain: BTreeSet::new(),
            published: BTreeMap::new(),
            told: BTreeSet::new(),
            joined: false,
            newly_linked: false,
            refreshes: 0,
            timers: Timers::default(),
            churn: Churn::new(now.instant),
            role,
            restricted: BTreeSet::new(),
            presence,
            role_changed: false,
            shedding: false,
            reach: Reach::default(),
            introductions: Introductions::default(),
            unreadable: Vec::new(),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            next_operation: 0,
        };
        let (refresh, repair) = (dht.config.refresh, dht.config.repair);
        dht.set_jittered(now.instant, refresh, Timer::Refresh);
        dht.set_jittered(now.instant, repair, Timer::Repair);
        dht.set_jittered(now.instant, PROBE, Timer::Probe);
        if dht.presence.is_kept() {
            dht.timers.set(now.instant + NOTED, Timer::Presence);
        }
        if dht.role.decides() {
            dht.set_first_test(now);
        }
        dht
    }

    /// Takes a message that came over the link to `from`.
    pub fn handle_input(&mut self, now: Now, from: NodeId, bytes: &[u8]) {
        let now = self.corrected(now);
        if let Some(link) = self.table.link_mut(from) {
            link.suspect = false;
        } else if !self.table.is_client(from) {
            return;
        }
        match Message::decode(bytes) {
            Ok(Message::Request(request)) => self.on_request(now, from, request),
            Ok(Message::Answer(answer)) => self.on_answer(now, from, bytes, answer),
            Ok(Message::Acknowledge { origin, request }) => self.on_acknowledge(now, from, (origin, request)),
            Ok(Message::Neighbours(nodes)) => self.on_neighbours(now, from, &nodes),
            Ok(Message::Role { serves }) => self.on_role(now, from, serves),
            Ok(Message::Test { number }) => self.on_test_wanted(now, from, number),
            Ok(Message::DialBack(wanted)) => self.on_dial_back(now, from, wanted),
            Ok(Message::DialledBack { number, reached }) => self.on_dialled_back(now, from, number, reached),
            Ok(Message::Report { number, dialler, reached }) => {
                self.on_test_report(now, from, number, dialler, reached);
            }
            Ok(Message::Visit) => self.on_visitor(now, from),
            Ok(Message::Introduce { node }) => self.on_introduce(now, from, node),
            Ok(Message::Meet(peer)) => self.on_meet(now, from, peer),
            // What only newer programs know was not meant for this one.
            Err(MessageError::UnknownType(_)) => {}
            Err(error) => self.misbehaved(from, error),
        }
    }

    /// Takes note, before a link is up, that this peer may not store and forward for others: for as long as there is the link it is an
    /// ordinary node, whatever it says.
    pub fn hold_to_use(&mut self, node: NodeId) {
        self.restricted.insert(node);
    }

    /// Takes note of a link, whoever opened it; once for each node. `serves` says whether the peer stores and forwards for others;
    /// that stays so for as long as there is the link, unless the peer says otherwise.
    pub fn handle_link_up(&mut self, now: Now, peer: Descriptor, serves: bool) {
        let (now, node) = (self.corrected(now), peer.node);
        if serves && !self.restricted.contains(&node) {
            self.on_link_up(now, peer);
        } else {
            self.on_client_up(now, peer);
        }
        self.confirm_role(node);
        self.look_at_role(now);
    }

    /// Takes note that a link is gone, for whatever reason; `silent` when its node was heard no more, and neither side wanted that: where
    /// it turns up again the network may have been cut.
    pub fn handle_link_down(&mut self, now: Now, node: NodeId, silent: bool) {
        let now = self.corrected(now);
        self.on_link_down(now, node);
        self.restricted.remove(&node);
        if silent {
            self.table.note_lost(node);
        }
        self.look_at_role(now);
    }

    /// Takes note that a dial wished for did not come to a link.
    pub fn handle_dial_failed(&mut self, now: Now, node: NodeId) {
        self.table.failed(now.instant, node);
        self.on_visit_failed(self.corrected(now), node);
        self.mend_links_soon(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.instant) {
            let now = self.corrected(now);
            match timer {
                Timer::Hop { origin, request, tries } => self.on_hop_timeout(now, (origin, request), tries),
                Timer::Relay { origin, request } => self.on_relay_timeout(now, (origin, request)),
                Timer::Slow { request } => self.on_slow(now, request),
                Timer::Operation(id) => self.on_operation_timeout(now, id),
                Timer::Expiry => self.on_expiry(now),
                Timer::Publish { resource, kind } => self.on_publish_due(now, resource, kind),
                Timer::HandOver => self.on_hand_over_due(now),
                Timer::Repair => self.on_repair_due(now),
                Timer::Refresh => self.on_refresh_due(now),
                Timer::Links => self.on_links_due(now),
                Timer::Probe => self.on_probe_due(now),
                Timer::Walk => self.on_walk_due(now),
                Timer::RepairNext => self.on_repair_next_due(now),
                Timer::Role => self.look_at_role(now),
                Timer::Presence => self.on_presence_due(now),
                Timer::Test => self.on_test_due(now),
                Timer::TestEnd { number } => self.on_test_end_due(now, number),
                Timer::Errand { tested, number } => self.on_errand_timeout(now, tested, number),
                Timer::Listen { resource, kind } => self.on_listen_due(now, (resource, kind)),
                Timer::Tell => self.on_tell_due(now),
            }
        }
    }

    /// Takes note that others reach this node otherwise than before.
    pub fn set_address(&mut self, address: Bytes) {
        self.me.address = address;
    }

    /// Takes note of nodes that may be dialled, such as those of the last run.
    pub fn add_known_peers(&mut self, now: Now, peers: &[Descriptor]) {
        for peer in peers {
            self.table.learn(peer);
        }
        self.mend_links_soon(now);
    }

    /// Returns this node's id.
    pub fn node_id(&self) -> NodeId {
        self.me.node
    }

    /// Returns the next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due, and for what.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }

    /// Returns how many values are held of each kind, removals not counted.
    pub fn records_held(&self) -> Vec<(Kind, usize)> {
        Kind::ALL.into_iter().map(|kind| (kind, self.storage.count(kind))).collect()
    }

    /// Says whether this node holds a value of the kind at this name that exists, its own business or another's.
    pub fn holds(&self, kind: Kind, name: &str) -> bool {
        self.storage.values(ResourceId::of_name(name), kind).iter().any(|record| record.value.exists)
    }

    /// Returns the writer and storage time of every value and removal of the kind held at this name.
    pub fn held(&self, kind: Kind, name: &str) -> Vec<(NodeId, u64)> {
        let held = self.storage.at(ResourceId::of_name(name)).filter(|((of, _), _)| *of == kind);
        held.map(|(_, held)| (held.record.value.signer, held.record.value.storage_ms)).collect()
    }

    /// Returns the nodes that lasting links exist to, in the order of their ids.
    pub fn links(&self) -> Vec<Descriptor> {
        self.table.lasting().map(|(_, link)| link.descriptor.clone()).collect()
    }

    /// Returns the ordinary nodes that use the overlay through this one, in the order of their ids.
    pub fn clients(&self) -> Vec<NodeId> {
        self.table.clients().collect()
    }

    /// Returns nodes worth dialling at the next start: those linked, then those known.
    pub fn known_peers(&self) -> Vec<Descriptor> {
        let mut peers = self.links();
        peers.extend(self.table.contacts());
        peers
    }

    pub(super) fn send(&mut self, to: NodeId, message: &Message) {
        self.send_bytes(to, message.encode());
    }

    pub(super) fn send_bytes(&mut self, to: NodeId, bytes: Bytes) {
        self.transmits.push_back(Transmit { to, bytes });
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn misbehaved(&mut self, node: NodeId, error: MessageError) {
        self.emit(Event::PeerMisbehaved { node, error });
    }

    pub(super) fn new_operation(&mut self) -> OperationId {
        self.next_operation += 1;
        OperationId(self.next_operation)
    }

    /// Sets a periodic timer a quarter of its period early or late, so that nodes do not act in step.
    pub(super) fn set_jittered(&mut self, now: Instant, period: Duration, timer: Timer) {
        let quarter = u64::try_from(period.as_millis() / 4).unwrap_or_default().max(1);
        let jitter = Duration::from_millis(self.randomness.next_u64() % (2 * quarter));
        self.timers.set_by(now + period - Duration::from_millis(quarter) + jitter, timer);
    }

    fn on_expiry(&mut self, now: Now) {
        self.storage.expire(now.instant);
        self.set_expiry_timer();
    }

    pub(super) fn set_expiry_timer(&mut self) {
        if let Some(at) = self.storage.next_expiry() {
            self.timers.set_by(at, Timer::Expiry);
        }
    }
}
