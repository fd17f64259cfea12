//! A message from a link: what can be read encodes to bytes that read as the same, and the DHT takes any bytes without harm. What
//! is signed has one encoding only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_identity::{NodeId, Signature};
use meshtone_overlay::dht::body::{Ask, Reply};
use meshtone_overlay::dht::message::Message;
use meshtone_overlay::dht::{Config, Descriptor, Dht, Now, Randomness};
use meshtone_overlay::record::validator::check_form;
use meshtone_overlay::record::{
    Kind, NodeAddress, RecordError, ResourceId, SipRegistration, StoredValue, Validator, Writer,
};

/// The time at which every check happens, in unix milliseconds.
const NOW_MS: u64 = 1_800_000_000_000;

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    check_encodings(data);
    check_core(data);
}

fn check_encodings(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message), "a message changes on its way");
        match message {
            Message::Request(request) => check_encodings(&request.body),
            Message::Answer(answer) => check_encodings(&answer.body),
            Message::Acknowledge { .. }
            | Message::Neighbours(_)
            | Message::Role { .. }
            | Message::Test { .. }
            | Message::DialBack(_)
            | Message::DialledBack { .. }
            | Message::Report { .. }
            | Message::Introduce { .. }
            | Message::Meet(_)
            | Message::Visit => {}
        }
    }
    if let Ok(ask) = Ask::decode(data) {
        assert_eq!(Ask::decode(&ask.encode()), Ok(ask), "a question changes on its way");
    }
    if let Ok(reply) = Reply::decode(data) {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply), "an answer changes on its way");
    }
    if let Ok(value) = StoredValue::decode(data) {
        assert_eq!(value.encode(), data, "a value has two encodings");
        assert!(!value.supersedes(&value), "a value supersedes itself");
    }
    if let Ok(address) = NodeAddress::decode(data) {
        assert_eq!(address.encode(), data, "an address has two encodings");
    }
    if let Ok(registration) = SipRegistration::decode(data) {
        assert_eq!(registration.encode(), data, "a registration has two encodings");
    }
}

/// Two peers send the bytes, to a node that has asked something and has to answer something.
#[allow(clippy::disallowed_methods, reason = "the check's time has to begin somewhere; nothing reads it as a clock")]
fn check_core(data: &[u8]) {
    let mut now = Now { instant: Instant::now(), unix_ms: NOW_MS };
    let peer = |byte| Descriptor { node: NodeId::from_bytes([byte; 32]), address: Bytes::from_static(b"somewhere") };
    let mut dht =
        Dht::new(Config::default(), peer(1), Arc::new(Anybody), Arc::new(Anything), Box::new(Counting(0)), now);
    dht.handle_link_up(now, peer(2), true);
    dht.handle_link_up(now, peer(3), true);
    dht.fetch(now, Kind::SipRegistration, "bob@example.org");
    assert_eq!(dht.listen(now, Kind::SipRegistration, "bob@example.org"), Ok(()));
    dht.introduce(now, NodeId::from_bytes([4; 32]), vec![peer(2)]);
    for _ in 0..2 {
        dht.handle_input(now, peer(2).node, data);
        dht.handle_input(now, peer(3).node, data);
        while let Some(transmit) = dht.poll_transmit() {
            assert!(Message::decode(&transmit.bytes).is_ok(), "it sends what it would not read");
        }
        while dht.poll_event().is_some() {}
        now.instant += Duration::from_secs(1);
        dht.handle_timeout(now);
    }
}

struct Anybody;

impl Writer for Anybody {
    fn node_id(&self) -> NodeId {
        NodeId::from_bytes([1; 32])
    }

    fn sign(&self, _: &[u8]) -> Result<Signature, RecordError> {
        Ok(Signature::from_bytes([1; 64]))
    }

    fn certificates(&self, _: Kind, _: &str) -> Result<Vec<Bytes>, RecordError> {
        Ok(Vec::new())
    }
}

/// Believes every signature, so that what comes after it is reached.
struct Anything;

impl Validator for Anything {
    fn validate(&self, now_ms: u64, resource: ResourceId, value: &StoredValue, _: &[Bytes]) -> Result<(), RecordError> {
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
