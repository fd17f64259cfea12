//! The node under test, and what its neighbours hear and say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_identity::{NodeId, Signature};
use meshtone_overlay::dht::body::{Ask, Reply};
use meshtone_overlay::dht::message::{Answer, Message, Request};
use meshtone_overlay::dht::{Config, Descriptor, Dht, Event, Now, Position, Randomness};
use meshtone_overlay::record::validator::check_form;
use meshtone_overlay::record::value::Record;
use meshtone_overlay::record::{Kind, RecordError, ResourceId, SipRegistration, StoredValue, Validator, Writer};

/// The time at which every test begins, in unix milliseconds.
pub(crate) const BEGIN_MS: u64 = 1_800_000_000_000;

/// The node under test lies at the lowest place.
pub(crate) const OWN: NodeId = NodeId::from_bytes([0; 32]);

/// A node that is driven by hand.
pub(crate) struct Lone {
    pub(crate) dht: Dht,
    pub(crate) now: Now,
    checked: Arc<AtomicUsize>,
    sent: Vec<(NodeId, Message)>,
    events: Vec<Event>,
}

/// Returns the neighbour of this number.
pub(crate) fn neighbour(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

pub(crate) fn descriptor(node: NodeId) -> Descriptor {
    Descriptor { node, address: Bytes::copy_from_slice(node.as_bytes()) }
}

/// Returns a registration that this node wrote; nobody checks its signature here.
pub(crate) fn registration(name: &str, signer: NodeId, storage_ms: u64, updated_ms: u64) -> Record {
    let content = SipRegistration { contacts: 1, max_q: 1000, updated_ms }.encode();
    let value = StoredValue {
        kind: Kind::SipRegistration,
        name: name.to_owned(),
        key: signer.as_bytes().to_vec(),
        storage_ms,
        lifetime_s: 600,
        exists: true,
        content,
        signer,
        signature: Signature::from_bytes([1; 64]),
    };
    Record { value, certificates: Vec::new() }
}

impl Lone {
    pub(crate) fn new(config: Config) -> Self {
        Self::started_at(BEGIN_MS, config)
    }

    /// A node that starts at this time, in unix milliseconds.
    #[allow(clippy::disallowed_methods, reason = "virtual time has to begin somewhere; nothing reads it as a clock")]
    pub(crate) fn started_at(unix_ms: u64, config: Config) -> Self {
        let now = Now { instant: Instant::now(), unix_ms };
        let checked = Arc::default();
        let dht = Dht::new(
            config,
            descriptor(OWN),
            Arc::new(Own),
            Arc::new(Anybody(Arc::clone(&checked))),
            Box::new(Counting(0)),
            now,
        );
        Self { dht, now, checked, sent: Vec::new(), events: Vec::new() }
    }

    /// Returns how many signatures were checked so far.
    pub(crate) fn checked(&self) -> usize {
        self.checked.load(Ordering::Relaxed)
    }

    /// Opens the link to a neighbour.
    pub(crate) fn link(&mut self, node: NodeId) {
        self.dht.handle_link_up(self.now, descriptor(node), true);
        self.drain();
    }

    /// Opens the link to a node that only uses the overlay.
    pub(crate) fn link_client(&mut self, node: NodeId) {
        self.dht.handle_link_up(self.now, descriptor(node), false);
        self.drain();
    }

    /// Ends the link to a neighbour.
    pub(crate) fn unlink(&mut self, node: NodeId) {
        self.dht.handle_link_down(self.now, node, false);
        self.drain();
    }

    /// A neighbour says something.
    pub(crate) fn hear(&mut self, from: NodeId, bytes: &[u8]) {
        self.dht.handle_input(self.now, from, bytes);
        self.drain();
    }

    /// A neighbour asks this node something by name; returns what it answers.
    pub(crate) fn ask(&mut self, from: NodeId, number: u64, body: Vec<u8>) -> Reply {
        let target = Position::from(OWN);
        let request = Request { origin: from, request: number, target, exact: true, hops: 0, body: body.into() };
        self.hear(from, &Message::Request(request).encode());
        let answers =
            self.sent.iter().rev().filter_map(|(to, message)| {
                if let Message::Answer(answer) = message { Some((to, answer)) } else { None }
            });
        let (_, answer) =
            answers.into_iter().find(|(to, answer)| **to == from && answer.request == number).expect("an answer");
        Reply::decode(&answer.body).expect("an answer that can be read")
    }

    /// A neighbour answers a request.
    pub(crate) fn answer(&mut self, from: NodeId, request: &Request, reply: &Reply) {
        let (origin, number, body) = (request.origin, request.request, reply.encode().into());
        let answer = Answer { origin, request: number, responder: from, hops: 1, nodes: vec![descriptor(from)], body };
        self.hear(from, &Message::Answer(answer).encode());
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now.instant + duration;
        while let Some((at, _)) = self.dht.poll_timeout()
            && at <= end
        {
            self.turn_to(at.max(self.now.instant));
            self.dht.handle_timeout(self.now);
            self.drain();
        }
        self.turn_to(end);
    }

    /// Lets time pass that this node's machine sleeps through.
    pub(crate) fn pass_asleep(&mut self, duration: Duration) {
        self.turn_to(self.now.instant + duration);
        self.dht.handle_absence(self.now, duration);
        self.drain();
    }

    /// Returns what was sent since the last time, and to whom.
    pub(crate) fn sent(&mut self) -> Vec<(NodeId, Message)> {
        std::mem::take(&mut self.sent)
    }

    /// Returns the requests sent since the last time, to whom, and what they ask.
    pub(crate) fn asked(&mut self) -> Vec<(NodeId, Request, Ask)> {
        let requests = self.sent().into_iter().filter_map(|(to, message)| match message {
            Message::Request(request) => Some((to, request)),
            Message::Answer(_)
            | Message::Acknowledge { .. }
            | Message::Neighbours(_)
            | Message::Role { .. }
            | Message::Test { .. }
            | Message::DialBack(_)
            | Message::DialledBack { .. }
            | Message::Report { .. }
            | Message::Introduce { .. }
            | Message::Meet(_)
            | Message::Visit => None,
        });
        requests.map(|(to, request)| (to, request.clone(), Ask::decode(&request.body).expect("a question"))).collect()
    }

    /// Returns the events since the last time.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn drain(&mut self) {
        while let Some(transmit) = self.dht.poll_transmit() {
            self.sent.push((transmit.to, Message::decode(&transmit.bytes).expect("a message that can be read")));
        }
        while let Some(event) = self.dht.poll_event() {
            self.events.push(event);
        }
    }

    fn turn_to(&mut self, instant: Instant) {
        let passed = instant.saturating_duration_since(self.now.instant);
        self.now.instant = instant;
        self.now.unix_ms += u64::try_from(passed.as_millis()).unwrap();
    }
}

struct Own;

impl Writer for Own {
    fn node_id(&self) -> NodeId {
        OWN
    }

    fn sign(&self, _: &[u8]) -> Result<Signature, RecordError> {
        Ok(Signature::from_bytes([1; 64]))
    }

    fn certificates(&self, _: Kind, _: &str) -> Result<Vec<Bytes>, RecordError> {
        Ok(Vec::new())
    }
}

/// Believes every signature: that forged ones are refused is tested in the simulator.
struct Anybody(Arc<AtomicUsize>);

impl Validator for Anybody {
    fn validate(&self, now_ms: u64, resource: ResourceId, value: &StoredValue, _: &[Bytes]) -> Result<(), RecordError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        check_form(now_ms, resource, value)
    }
}

struct Counting(u64);

impl Randomness for Counting {
    fn next_u64(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}
