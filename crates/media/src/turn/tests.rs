#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods, reason = "the start of a test's own time")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::*;
use crate::stun::{Class, Message, Writer, attribute, integrity_key, method};

const ALICE: &str = "192.0.2.1:5000";
const MALLORY: &str = "192.0.2.66:5000";
const PEER: &str = "198.51.100.7:6000";
const NEAR: &str = "203.0.113.1:7000";
const INSIDE: &str = "10.0.0.1:80";
const KEY: [u8; 16] = [7; 16];

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// Knows alice by two usernames, and the ports that it has opened.
#[derive(Default)]
struct Fake {
    has_six: bool,
    expired: bool,
    near_is_closed: bool,
    open: BTreeMap<RelayId, SocketAddr>,
    last_port: u16,
    stamp: u64,
    hung_up: Vec<ConnectionId>,
}

impl Host for Fake {
    fn login(&mut self, username: &str) -> Option<Login> {
        let is_known = username == "alice" || username == "9:alice" && !self.expired || username == "bob";
        is_known.then(|| Login { owner: username.trim_start_matches("9:").to_owned(), key: KEY, stamp: self.stamp })
    }

    fn reach(&self, peer: SocketAddr) -> Reach {
        let is_near = peer == at(NEAR);
        if peer == at(INSIDE) || is_near && self.near_is_closed {
            Reach::Never
        } else if is_near {
            Reach::WhileOpen
        } else {
            Reach::Always
        }
    }

    fn has_family(&self, family: Family) -> bool {
        family == Family::V4 || self.has_six
    }

    fn open(&mut self, relay: RelayId, family: Family, port: Port) -> Option<SocketAddr> {
        self.last_port += 2;
        let ip = if family == Family::V4 { "203.0.113.1" } else { "2001:db8::1" };
        let address = SocketAddr::new(ip.parse().unwrap(), 50_000 + self.last_port);
        self.open.insert(relay, address);
        if let Port::EvenWithNext(next) = port {
            self.open.insert(next, SocketAddr::new(address.ip(), address.port() + 1));
        }
        Some(address)
    }

    fn close(&mut self, relay: RelayId) {
        assert!(self.open.remove(&relay).is_some(), "closed twice");
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(u8::try_from(self.open.len()).unwrap());
    }

    fn reach_by_connection(&self, peer: SocketAddr) -> Reach {
        self.reach(peer)
    }

    fn listen(&mut self, relay: RelayId, family: Family) -> Option<SocketAddr> {
        self.open(relay, family, Port::Any)
    }

    fn hang_up(&mut self, connection: ConnectionId) {
        assert!(!self.hung_up.contains(&connection), "hung up twice");
        self.hung_up.push(connection);
    }
}

/// A server, its host, and the time.
struct Play {
    server: Server,
    host: Fake,
    now: Instant,
    transaction: u8,
}

impl Play {
    fn new(limits: Limits) -> Play {
        let now = Instant::now();
        Play { server: Server::new(now, "mesh.test", [3; 32], limits), host: Fake::default(), now, transaction: 0 }
    }

    fn send(&mut self, client: Client, bytes: &[u8]) -> Outcome {
        self.server.handle_client(self.now, client, bytes, &mut self.host)
    }

    /// Asks without a login and returns the nonce.
    fn nonce(&mut self, client: Client) -> Vec<u8> {
        let request = Writer::new(Class::Request, method::ALLOCATE, [9; 12]).finish();
        let Outcome::Answer(answer) = self.send(client, &request) else { panic!("no answer") };
        Message::read(&answer).unwrap().attribute(attribute::NONCE).unwrap().to_vec()
    }

    /// Asks as a user; the answer has been verified.
    fn ask(&mut self, client: Client, username: &str, method: u16, with: impl FnOnce(Writer) -> Writer) -> Answer {
        let nonce = self.nonce(client);
        self.transaction += 1;
        let writer = with(Writer::new(Class::Request, method, [self.transaction; 12]));
        let request = writer
            .put(attribute::USERNAME, username.as_bytes())
            .put(attribute::REALM, b"mesh.test")
            .put(attribute::NONCE, &nonce)
            .sign(&integrity_key(&KEY))
            .finish();
        let Outcome::Answer(answer) = self.send(client, &request) else { panic!("no answer") };
        Answer(answer)
    }

    fn allocate(&mut self, client: Client) -> Answer {
        self.ask(client, "alice", method::ALLOCATE, |writer| writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]))
    }

    fn permit(&mut self, client: Client, peer: &str) -> Answer {
        let peer = at(peer);
        self.ask(client, "alice", method::CREATE_PERMISSION, |writer| {
            writer.put_address(attribute::XOR_PEER_ADDRESS, peer)
        })
    }

    fn bind(&mut self, client: Client, number: u16, peer: &str) -> Answer {
        let peer = at(peer);
        self.ask(client, "alice", method::CHANNEL_BIND, |writer| {
            let writer = writer.put_number(attribute::CHANNEL_NUMBER, u32::from(number) << 16);
            writer.put_address(attribute::XOR_PEER_ADDRESS, peer)
        })
    }

    fn only_relay(&self) -> RelayId {
        let mut open = self.host.open.keys();
        let relay = *open.next().unwrap();
        assert_eq!(open.next(), None);
        relay
    }
}

struct Answer(Vec<u8>);

impl Answer {
    fn code(&self) -> u16 {
        let message = Message::read(&self.0).unwrap();
        match message.attribute(attribute::ERROR_CODE) {
            None => {
                assert_eq!(message.class, Class::Success);
                assert!(message.is_signed_with(&integrity_key(&KEY)));
                0
            }
            Some(code) => u16::from(code[2]) * 100 + u16::from(code[3]),
        }
    }

    fn relayed(&self) -> Vec<SocketAddr> {
        let message = Message::read(&self.0).unwrap();
        let all = message.attributes().filter(|(kind, _)| *kind == attribute::XOR_RELAYED_ADDRESS);
        all.filter_map(|(_, value)| message.address(value)).collect()
    }
}

fn client(address: &str) -> Client {
    Client::Datagrams { listener: 0, remote: at(address) }
}

fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    [channel_header(number, data.len()).as_slice(), data].concat()
}

fn send_indication(peer: &str, data: &[u8]) -> Vec<u8> {
    let writer = Writer::new(Class::Indication, method::SEND, [1; 12]);
    writer.put_address(attribute::XOR_PEER_ADDRESS, at(peer)).put(attribute::DATA, data).finish()
}

#[test]
fn whoever_asks_is_told_where_his_packets_come_from() {
    let mut play = Play::new(Limits::default());
    let request = Writer::new(Class::Request, method::BINDING, [9; 12]).with_fingerprint().finish();
    let Outcome::Answer(answer) = play.send(client(ALICE), &request) else { panic!("no answer") };
    let message = Message::read(&answer).unwrap();
    assert!(message.has_fingerprint && message.class == Class::Success);
    assert_eq!(message.address(message.attribute(attribute::XOR_MAPPED_ADDRESS).unwrap()), Some(at(ALICE)));
    let odd = Writer::new(Class::Request, method::BINDING, [9; 12]).put(0x0003, &[0; 4]).finish();
    let Outcome::Answer(answer) = play.send(client(ALICE), &odd) else { panic!("no answer") };
    assert_eq!(Answer(answer).code(), 420, "CHANGE-REQUEST (RFC 5780) takes two addresses");
}

#[test]
fn with_two_addresses_a_client_finds_out_how_its_box_maps_and_filters() {
    let places = ["203.0.113.1:3478", "203.0.113.1:3479", "203.0.113.2:3478", "203.0.113.2:3479", "0.0.0.0:3480"];
    let mut play = Play::new(Limits::default());
    play.server = play.server.listening_at(places.map(at).to_vec());
    let asked = |play: &mut Play, listener: u16, change: Option<u32>| {
        let request = Writer::new(Class::Request, method::BINDING, [9; 12]);
        let request = match change {
            Some(change) => request.put_number(attribute::CHANGE_REQUEST, change),
            None => request,
        };
        let client = Client::Datagrams { listener, remote: at(ALICE) };
        match play.send(client, &request.finish()) {
            Outcome::Answer(answer) => (listener, answer),
            Outcome::AnswerFrom { listener, answer } => (listener, answer),
            other => panic!("{other:?}"),
        }
    };
    let plain = |answer: &[u8], kind: u16| {
        let message = Message::read(answer).unwrap();
        let value = message.attribute(kind)?.to_vec();
        Some(format!(
            "{}.{}.{}.{}:{}",
            value[4],
            value[5],
            value[6],
            value[7],
            u16::from_be_bytes([value[2], value[3]])
        ))
    };
    for (change, from, other) in [(None, 0, 3), (Some(0), 0, 3), (Some(2), 1, 3), (Some(4), 2, 3), (Some(6), 3, 3)] {
        let (listener, answer) = asked(&mut play, 0, change);
        assert_eq!(usize::from(listener), from, "{change:?}");
        assert_eq!(plain(&answer, attribute::RESPONSE_ORIGIN).as_deref(), Some(places[from]));
        assert_eq!(plain(&answer, attribute::OTHER_ADDRESS).as_deref(), Some(places[other]));
    }
    assert_eq!(asked(&mut play, 3, Some(6)).0, 0, "the others of the other");
    let (_, answer) = asked(&mut play, 4, None);
    assert_eq!(plain(&answer, attribute::OTHER_ADDRESS), None, "whose address nobody knows");
    assert_eq!(Answer(asked(&mut play, 4, Some(6)).1).code(), 420);
    // Whoever forges a source does not make two addresses send more than one.
    let answers = (0..1000).filter(|_| {
        let request = Writer::new(Class::Request, method::BINDING, [9; 12]).put_number(attribute::CHANGE_REQUEST, 6);
        let client = Client::Datagrams { listener: 0, remote: at(MALLORY) };
        play.send(client, &request.finish()) != Outcome::Nothing
    });
    assert_eq!(answers.count(), 100);
}

#[test]
fn data_passes_both_ways_between_a_client_and_whom_he_permitted() {
    let mut play = Play::new(Limits::default());
    let alice = client(ALICE);
    let answer = play.allocate(alice);
    assert_eq!(answer.code(), 0);
    let relay = play.only_relay();
    assert_eq!(answer.relayed(), vec![play.host.open[&relay]]);
    assert_eq!(play.server.handle_peer(play.now, relay, at(PEER), 10), None, "nobody is permitted yet");
    assert_eq!(play.send(alice, &send_indication(PEER, b"hi")), Outcome::Nothing);
    assert_eq!(play.permit(alice, PEER).code(), 0);
    assert_eq!(
        play.send(alice, &send_indication(PEER, b"hi")),
        Outcome::ToPeer { relay, peer: at(PEER), data: 36..38 }
    );
    let found = play.server.handle_peer(play.now, relay, at("198.51.100.7:1"), 10);
    assert_eq!(found, Some(ToClient { client: alice, channel: None }), "any port of a permitted peer");
    assert_eq!(play.bind(alice, 0x4001, PEER).code(), 0);
    let data = channel_data(0x4001, b"sound");
    assert_eq!(play.send(alice, &data), Outcome::ToPeer { relay, peer: at(PEER), data: 4..9 });
    let found = play.server.handle_peer(play.now, relay, at(PEER), 10);
    assert_eq!(found, Some(ToClient { client: alice, channel: Some(0x4001) }));
    // A permission lasts five minutes, a channel ten: the shorter one decides.
    play.now += Duration::from_secs(301);
    assert_eq!(play.send(alice, &data), Outcome::Nothing);
    assert_eq!(play.server.handle_peer(play.now, relay, at(PEER), 10), None);
    let indication = data_indication(at(PEER), b"abc", [5; 12]);
    let message = Message::read(&indication).unwrap();
    assert_eq!((message.class, message.method), (Class::Indication, method::DATA));
    assert_eq!(message.attribute(attribute::DATA), Some(b"abc".as_slice()));
}

#[test]
fn nobody_else_sends_over_a_channel_or_takes_an_allocation() {
    let mut play = Play::new(Limits::default());
    let (alice, mallory) = (client(ALICE), client(MALLORY));
    play.allocate(alice);
    play.bind(alice, 0x4001, PEER);
    for other in [
        mallory,
        client("192.0.2.1:5001"),
        Client::Datagrams { listener: 1, remote: at(ALICE) },
        Client::Connection { number: 1, remote: at(ALICE) },
    ] {
        assert_eq!(play.send(other, &channel_data(0x4001, b"x")), Outcome::Nothing, "{other:?}");
        assert_eq!(play.send(other, &send_indication(PEER, b"x")), Outcome::Nothing, "{other:?}");
        assert_eq!(play.bind(other, 0x4001, PEER).code(), 437, "{other:?}");
    }
    let taken = play.ask(alice, "bob", method::REFRESH, |writer| writer.put_number(attribute::LIFETIME, 0));
    assert_eq!(taken.code(), 441, "another user on the same 5-tuple");
    assert_eq!(play.host.open.len(), 1);
}

#[test]
fn who_has_no_login_leaves_no_trace() {
    let mut play = Play::new(Limits::default());
    let plain =
        Writer::new(Class::Request, method::ALLOCATE, [1; 12]).put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let Outcome::Answer(answer) = play.send(client(MALLORY), &plain.finish()) else { panic!("no answer") };
    assert_eq!(Answer(answer).code(), 401);
    let unknown = play.ask(client(MALLORY), "nobody", method::ALLOCATE, |writer| writer);
    assert_eq!(unknown.code(), 401);
    let nonce = play.nonce(client(ALICE));
    let request = Writer::new(Class::Request, method::ALLOCATE, [1; 12])
        .put(attribute::USERNAME, b"alice")
        .put(attribute::REALM, b"mesh.test")
        .put(attribute::NONCE, &nonce);
    let guessed = request.sign(&integrity_key(&[0; 16])).finish();
    let Outcome::Answer(answer) = play.send(client(ALICE), &guessed) else { panic!("no answer") };
    assert_eq!(Answer(answer).code(), 401);
    let Outcome::Answer(answer) = play.send(client(MALLORY), &guessed) else { panic!("no answer") };
    assert_eq!(Answer(answer).code(), 438, "the nonce of somebody else");
    play.host.expired = true;
    assert_eq!(play.ask(client(ALICE), "9:alice", method::ALLOCATE, |writer| writer).code(), 401, "after its time");
    assert!(play.host.open.is_empty() && play.server.standing().by_user.is_empty());
    assert_eq!(play.server.poll_timeout(), None);
}

#[test]
fn a_source_that_may_be_forged_gets_few_answers_that_are_longer_than_its_requests() {
    let mut play = Play::new(Limits::default());
    let (mut asked, mut answered) = (0, 0);
    for number in 0..2000_u16 {
        let request = Writer::new(Class::Request, method::ALLOCATE, [1; 12]).finish();
        asked += request.len();
        let remote = SocketAddr::new(at(MALLORY).ip(), number + 1);
        if let Outcome::Answer(answer) = play.send(Client::Datagrams { listener: 0, remote }, &request) {
            answered += answer.len();
        }
    }
    assert!(answered > 0 && answered < asked, "{answered} for {asked}");
    // Over a connection nobody forges anything.
    let connection = Client::Connection { number: 1, remote: at(MALLORY) };
    assert_ne!(play.nonce(connection), b"");
}

#[test]
fn what_may_not_be_reached_is_refused_by_every_way() {
    let mut play = Play::new(Limits::default());
    let alice = client(ALICE);
    play.allocate(alice);
    assert_eq!(play.permit(alice, INSIDE).code(), 403);
    assert_eq!(play.bind(alice, 0x4000, INSIDE).code(), 403);
    assert_eq!(play.send(alice, &send_indication(INSIDE, b"x")), Outcome::Nothing);
    let both = play.ask(alice, "alice", method::CREATE_PERMISSION, |writer| {
        let writer = writer.put_address(attribute::XOR_PEER_ADDRESS, at(PEER));
        writer.put_address(attribute::XOR_PEER_ADDRESS, at(INSIDE))
    });
    assert_eq!(both.code(), 403);
    let relay = play.only_relay();
    assert_eq!(play.server.handle_peer(play.now, relay, at(PEER), 1), None, "all or none");
    // A port of this machine is looked at for each packet: what listens there now may be something else in a minute.
    assert_eq!(play.bind(alice, 0x4001, NEAR).code(), 0);
    assert_ne!(play.send(alice, &channel_data(0x4001, b"x")), Outcome::Nothing);
    play.host.near_is_closed = true;
    assert_eq!(play.send(alice, &channel_data(0x4001, b"x")), Outcome::Nothing);
    assert_eq!(play.permit(alice, "[2001:db8::9]:1").code(), 443, "there is no relayed address of that family");
}

#[test]
fn channels_are_numbers_of_one_peer_each() {
    let mut play = Play::new(Limits::default());
    let alice = client(ALICE);
    play.allocate(alice);
    assert_eq!(play.bind(alice, 0x4001, PEER).code(), 0);
    assert_eq!(play.bind(alice, 0x4001, PEER).code(), 0, "refreshed");
    assert_eq!(play.bind(alice, 0x4001, "198.51.100.8:1").code(), 400);
    assert_eq!(play.bind(alice, 0x4002, PEER).code(), 400);
    assert_eq!(play.bind(alice, 0x3fff, "198.51.100.8:1").code(), 400);
    assert_eq!(play.bind(alice, 0x8000, "198.51.100.8:1").code(), 400);
    for cut in 0..4 {
        assert_eq!(play.send(alice, &channel_data(0x4001, b"")[..cut]), Outcome::Nothing);
    }
    assert_eq!(play.send(alice, &[0x40, 1, 0, 5, 1, 2, 3, 4]), Outcome::Nothing, "shorter than it says");
}

#[test]
fn quotas_hold_for_a_user_a_source_and_all() {
    let limits = Limits { allocations: 5, allocations_of_user: 2, allocations_of_source: 3, ..Limits::default() };
    let mut play = Play::new(limits);
    let of = |ip: u8, port: u16| Client::Datagrams { listener: 0, remote: ([192, 0, 2, ip], port).into() };
    let wants = |writer: Writer| writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    assert_eq!(play.allocate(of(1, 1)).code(), 0);
    // Two usernames of one user share what is his.
    assert_eq!(play.ask(of(1, 2), "9:alice", method::ALLOCATE, wants).code(), 0);
    assert_eq!(play.allocate(of(1, 3)).code(), 486);
    assert_eq!(play.allocate(of(2, 1)).code(), 486);
    assert_eq!(play.ask(of(1, 4), "bob", method::ALLOCATE, wants).code(), 0);
    assert_eq!(play.ask(of(1, 5), "bob", method::ALLOCATE, wants).code(), 486, "of one source");
    assert_eq!(play.ask(of(3, 1), "bob", method::ALLOCATE, wants).code(), 0);
    assert_eq!(play.server.standing().by_user, [("alice".to_owned(), 2), ("bob".to_owned(), 2)]);
    play.server.revoke("bob", Some(0), &mut play.host);
    assert_eq!(play.host.open.len(), 4, "the password is the same");
    play.server.revoke("bob", Some(1), &mut play.host);
    assert_eq!(play.server.standing().by_user, [("alice".to_owned(), 2)]);
    assert_eq!(play.host.open.len(), 2);
    assert_eq!(play.ask(of(1, 1), "alice", method::REFRESH, |w| w.put_number(attribute::LIFETIME, 0)).code(), 0);
    assert_eq!(play.allocate(of(1, 6)).code(), 0, "what is given back can be had again");
}

#[test]
fn permissions_and_channels_are_bounded() {
    let mut play = Play::new(Limits::default());
    let alice = client(ALICE);
    play.allocate(alice);
    let mut codes = BTreeSet::new();
    for number in 0..100_u16 {
        play.now += Duration::from_millis(200);
        codes.insert(play.bind(alice, 0x4000 + number, &format!("198.51.100.{number}:9")).code());
    }
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), [0, 508]);
}

#[test]
fn an_allocate_that_comes_twice_is_answered_alike_and_another_one_refused() {
    let mut play = Play::new(Limits::default());
    let alice = client(ALICE);
    let nonce = play.nonce(alice);
    let request = Writer::new(Class::Request, method::ALLOCATE, [200; 12])
        .put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
        .put(attribute::USERNAME, b"alice")
        .put(attribute::REALM, b"mesh.test")
        .put(attribute::NONCE, &nonce)
        .sign(&integrity_key(&KEY))
        .finish();
    let first = play.send(alice, &request);
    assert_eq!(play.send(alice, &request), first);
    assert_eq!(play.allocate(alice).code(), 437);
    assert_eq!(play.host.open.len(), 1);
}

#[test]
fn what_is_not_refreshed_ends_and_what_is_outlasts_its_credential() {
    let mut play = Play::new(Limits::default());
    let alice = client(ALICE);
    let wants = |writer: Writer| writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    assert_eq!(play.ask(alice, "9:alice", method::ALLOCATE, wants).code(), 0);
    play.host.expired = true;
    play.now += Duration::from_secs(590);
    assert_eq!(play.ask(alice, "9:alice", method::REFRESH, |writer| writer).code(), 0);
    play.now += Duration::from_secs(590);
    play.server.handle_timeout(play.now, &mut play.host);
    assert_eq!(play.host.open.len(), 1);
    play.now += Duration::from_secs(20);
    play.server.handle_timeout(play.now, &mut play.host);
    assert!(play.host.open.is_empty());
    assert_eq!(play.server.poll_timeout(), None);
}

#[test]
fn both_families_are_had_at_once_and_one_can_be_given_back() {
    let mut play = Play::new(Limits::default());
    let alice = client(ALICE);
    let both = |writer: Writer| {
        let writer = writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        writer.put(attribute::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
    };
    let answer = play.ask(alice, "alice", method::ALLOCATE, both);
    assert_eq!((answer.code(), answer.relayed().len()), (0, 1));
    let message = Message::read(&answer.0).unwrap();
    assert_eq!(message.attribute(attribute::ADDRESS_ERROR_CODE), Some([2, 0, 4, 40].as_slice()));
    let as_drafts_had_it = play.ask(client("192.0.2.1:5009"), "alice", method::ALLOCATE, |writer| {
        let writer = writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        writer.put(attribute::DRAFT_ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
    });
    assert!(Message::read(&as_drafts_had_it.0).unwrap().attribute(attribute::ADDRESS_ERROR_CODE).is_some());
    let six_alone = |writer: Writer| {
        let writer = writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        writer.put(attribute::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])
    };
    assert_eq!(play.ask(client(MALLORY), "alice", method::ALLOCATE, six_alone).code(), 440);
    play.host.has_six = true;
    let other = client("192.0.2.1:5002");
    let answer = play.ask(other, "alice", method::ALLOCATE, both);
    assert_eq!(answer.relayed().iter().filter(|address| address.is_ipv6()).count(), 1);
    assert_eq!(play.permit(other, "[2001:db8::9]:1").code(), 0);
    assert_eq!(play.permit(other, PEER).code(), 0);
    let gone = play.ask(other, "alice", method::REFRESH, |writer| {
        let writer = writer.put_number(attribute::LIFETIME, 0);
        writer.put(attribute::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0])
    });
    assert_eq!(gone.code(), 0);
    assert_eq!(play.permit(other, PEER).code(), 443);
    assert_ne!(play.send(other, &send_indication("[2001:db8::9]:1", b"x")), Outcome::Nothing);
}

#[test]
fn a_reserved_port_is_for_who_reserved_it() {
    let mut play = Play::new(Limits::default());
    let pair = |writer: Writer| {
        let writer = writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        writer.put(attribute::EVEN_PORT, &[0x80])
    };
    let answer = play.ask(client(ALICE), "alice", method::ALLOCATE, pair);
    let message = Message::read(&answer.0).unwrap();
    let token = message.attribute(attribute::RESERVATION_TOKEN).unwrap().to_vec();
    let with_token = |writer: Writer| {
        let writer = writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        writer.put(attribute::RESERVATION_TOKEN, &token)
    };
    assert_eq!(play.ask(client(MALLORY), "bob", method::ALLOCATE, with_token).code(), 508);
    let next = play.ask(client("192.0.2.1:5002"), "alice", method::ALLOCATE, with_token);
    assert_eq!(next.relayed()[0].port(), answer.relayed()[0].port() + 1);
    play.ask(client("192.0.2.1:5003"), "alice", method::ALLOCATE, pair);
    assert_eq!(play.host.open.len(), 4);
    play.now += Duration::from_secs(31);
    play.server.handle_timeout(play.now, &mut play.host);
    assert_eq!(play.host.open.len(), 3, "what was reserved waits for half a minute");
}

#[test]
fn one_user_cannot_take_what_another_needs() {
    let limits = Limits { bits_in_all: 800_000, bits_of_user: 800_000, ..Limits::default() };
    let mut play = Play::new(limits);
    let (alice, bob) = (client(ALICE), client(MALLORY));
    let wants = |writer: Writer| writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    play.allocate(alice);
    play.bind(alice, 0x4001, PEER);
    play.ask(bob, "bob", method::ALLOCATE, wants);
    play.ask(bob, "bob", method::CHANNEL_BIND, |writer| {
        let writer = writer.put_number(attribute::CHANNEL_NUMBER, 0x4001 << 16);
        writer.put_address(attribute::XOR_PEER_ADDRESS, at(PEER))
    });
    let (flood, sound) = (channel_data(0x4001, &[0; 1000]), channel_data(0x4001, &[0; 160]));
    let mut heard = 0;
    for ms in 0..2000 {
        play.now += Duration::from_millis(1);
        play.send(alice, &flood);
        if ms % 20 == 0 {
            heard += usize::from(play.send(bob, &sound) != Outcome::Nothing);
        }
    }
    assert!(heard >= 95, "a call of 100 packets lost {} while another floods", 100 - heard);
    assert!(play.server.standing().held_back_bytes > 1_000_000);
}

#[test]
fn what_a_connection_had_ends_with_it() {
    let mut play = Play::new(Limits::default());
    let alice = Client::Connection { number: 4, remote: at(ALICE) };
    assert_eq!(play.allocate(alice).code(), 0);
    assert_eq!(play.server.standing().by_connection, 1);
    play.server.handle_closed(alice, &mut play.host);
    assert!(play.host.open.is_empty() && play.server.standing() == Standing::default());
}

const TCP: [u8; 4] = [6, 0, 0, 0];

fn connection(number: u64, address: &str) -> Client {
    Client::Connection { number, remote: at(address) }
}

impl Play {
    /// Allocates for connections; returns the relayed address's number.
    fn allocate_tcp(&mut self, client: Client) -> RelayId {
        let answer = self.ask(client, "alice", method::ALLOCATE, |w| w.put(attribute::REQUESTED_TRANSPORT, &TCP));
        assert_eq!(answer.code(), 0);
        *self.host.open.keys().next_back().unwrap()
    }

    /// Sends a signed request, and returns whatever comes of it.
    fn request(&mut self, client: Client, method: u16, with: impl FnOnce(Writer) -> Writer) -> Outcome {
        let nonce = self.nonce(client);
        self.transaction += 1;
        let writer = with(Writer::new(Class::Request, method, [self.transaction; 12]));
        let request = writer
            .put(attribute::USERNAME, b"alice")
            .put(attribute::REALM, b"mesh.test")
            .put(attribute::NONCE, &nonce)
            .sign(&integrity_key(&KEY))
            .finish();
        self.send(client, &request)
    }

    fn connect(&mut self, client: Client, peer: &str) -> Result<ConnectionId, u16> {
        let peer = at(peer);
        match self.request(client, method::CONNECT, |w| w.put_address(attribute::XOR_PEER_ADDRESS, peer)) {
            Outcome::Connect { connection, peer: to, .. } => {
                assert_eq!(to, peer);
                Ok(connection)
            }
            Outcome::Answer(answer) => Err(Answer(answer).code()),
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, client: Client, id: ConnectionId) -> Result<ConnectionId, u16> {
        match self.request(client, method::CONNECTION_BIND, |w| w.put_number(attribute::CONNECTION_ID, id.0)) {
            Outcome::Join { connection, answer } => {
                assert_eq!(Answer(answer).code(), 0);
                Ok(connection)
            }
            Outcome::Answer(answer) => Err(Answer(answer).code()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_connects_to_a_peer_and_joins_a_connection_of_its_own_with_it() {
    let mut play = Play::new(Limits::default());
    let (control, data) = (connection(1, ALICE), connection(2, ALICE));
    play.allocate_tcp(control);
    let id = play.connect(control, PEER).unwrap();
    assert_eq!(play.connect(control, PEER), Err(446), "while that is tried");
    assert_eq!(play.join(data, id), Err(400), "it does not stand yet");
    let (to, answer) = play.server.handle_connected(play.now, id, true).unwrap();
    let message = Message::read(&answer).unwrap();
    assert_eq!((to, message.number(attribute::CONNECTION_ID)), (control, Some(id.0)));
    assert_eq!(Answer(answer.clone()).code(), 0);
    assert_eq!(play.server.handle_stream(play.now, id, 10), None, "nobody has taken it up");
    assert_eq!(play.connect(control, PEER), Err(446), "while it stands");
    assert_eq!(play.join(control, id), Err(400), "over a connection of its own");
    assert_eq!(play.join(data, id), Ok(id));
    assert_eq!(play.join(connection(3, ALICE), id), Err(400), "once");
    assert_eq!(play.server.handle_stream(play.now, id, 10), Some(10));
    assert_eq!(play.server.standing().joined, 1);
    play.server.handle_closed(data, &mut play.host);
    assert_eq!(play.host.hung_up, [id]);
    assert_eq!(play.server.handle_stream(play.now, id, 10), None);
    assert!(play.connect(control, PEER).is_ok(), "another time");
}

#[test]
fn who_was_permitted_may_connect_and_is_taken_up_in_time_or_not_at_all() {
    let mut play = Play::new(Limits::default());
    let control = connection(1, ALICE);
    let relay = play.allocate_tcp(control);
    let incoming = |play: &mut Play| play.server.handle_incoming(play.now, relay, at(PEER), &mut play.host);
    assert_eq!(incoming(&mut play), None, "nobody is permitted yet");
    assert_eq!(play.permit(control, PEER).code(), 0);
    let (id, to, told) = incoming(&mut play).unwrap();
    let message = Message::read(&told).unwrap();
    assert_eq!((to, message.class, message.method), (control, Class::Indication, method::CONNECTION_ATTEMPT));
    assert_eq!(message.number(attribute::CONNECTION_ID), Some(id.0));
    assert_eq!(message.address(message.attribute(attribute::XOR_PEER_ADDRESS).unwrap()), Some(at(PEER)));
    assert_eq!(play.join(connection(2, ALICE), id), Ok(id));
    let (late, ..) = incoming(&mut play).unwrap();
    play.now += CONNECT_WITHIN;
    assert_eq!(play.join(connection(3, ALICE), late), Err(400));
    play.server.handle_timeout(play.now, &mut play.host);
    assert_eq!(play.host.hung_up, [late], "what is joined stays");
    play.now += Duration::from_secs(270);
    assert_eq!(incoming(&mut play), None, "permissions end");
}

#[test]
fn a_connection_that_is_not_made_is_told_and_forgotten() {
    let mut play = Play::new(Limits::default());
    let control = connection(1, ALICE);
    play.allocate_tcp(control);
    let id = play.connect(control, PEER).unwrap();
    let (_, answer) = play.server.handle_connected(play.now, id, false).unwrap();
    assert_eq!(Answer(answer).code(), 447);
    assert_eq!(play.server.handle_connected(play.now, id, true), None);
    assert!(play.connect(control, PEER).is_ok());
}

#[test]
fn connections_are_for_clients_over_connections_for_permitted_peers_and_for_whoever_has_the_key() {
    let mut play = Play::new(Limits::default());
    let (alice, control) = (client(ALICE), connection(1, ALICE));
    let asked = |play: &mut Play, client, more: u16| {
        let answer = play.ask(client, "alice", method::ALLOCATE, |w| {
            let w = w.put(attribute::REQUESTED_TRANSPORT, &TCP);
            if more == 0 { w } else { w.put(more, &[0; 4]) }
        });
        answer.code()
    };
    assert_eq!(asked(&mut play, alice, 0), 400, "over UDP");
    for more in [attribute::DONT_FRAGMENT, attribute::EVEN_PORT, attribute::RESERVATION_TOKEN] {
        assert_eq!(asked(&mut play, control, more), 400, "{more:#x}");
    }
    assert_eq!(play.connect(control, PEER), Err(437), "without an allocation");
    assert_eq!(play.allocate(alice).code(), 0);
    assert_eq!(play.connect(alice, PEER), Err(437), "with one for datagrams");
    let relay = play.allocate_tcp(control);
    assert_eq!(play.connect(control, INSIDE), Err(403));
    assert_eq!(play.permit(control, INSIDE).code(), 403);
    assert_eq!(play.bind(control, 0x4000, PEER).code(), 400, "there are no channels");
    assert_eq!(play.permit(control, PEER).code(), 0);
    assert_eq!(play.send(control, &send_indication(PEER, b"hi")), Outcome::Nothing, "nor datagrams");
    assert_eq!(play.server.handle_peer(play.now, relay, at(PEER), 10), None);
    let id = play.connect(control, PEER).unwrap();
    play.server.handle_connected(play.now, id, true).unwrap();
    // Bob has a key as well, in this test the same; the connection is not his.
    let thief = connection(9, MALLORY);
    let answer = play.ask(thief, "bob", method::CONNECTION_BIND, |w| w.put_number(attribute::CONNECTION_ID, id.0));
    assert_eq!(answer.code(), 441);
    assert_eq!(play.join(connection(2, ALICE), ConnectionId(id.0 + 1)), Err(400));
    assert_eq!(play.join(client(MALLORY), id), Err(400), "over UDP");
    // A login that has ended does not end what was begun with it.
    play.host.expired = true;
    assert_eq!(play.join(connection(2, ALICE), id), Ok(id));
}

#[test]
fn connections_are_counted_by_allocation_user_and_in_all_and_end_with_their_allocation() {
    let mut play = Play::new(Limits { connections: 40, ..Limits::default() });
    let controls = [1, 2, 3].map(|number| connection(number, ALICE));
    for control in controls {
        play.allocate_tcp(control);
    }
    let connect = |play: &mut Play, control: Client| -> (usize, u16) {
        for made in 0..100 {
            if let Err(code) = play.connect(control, &format!("198.51.100.7:{}", 6000 + made)) {
                return (made, code);
            }
        }
        panic!("no bound")
    };
    assert_eq!(controls.map(|control| connect(&mut play, control)), [(16, 486), (16, 486), (0, 486)]);
    play.server.handle_closed(controls[0], &mut play.host);
    assert_eq!(play.host.hung_up.len(), 16);
    assert_eq!(connect(&mut play, controls[2]), (16, 486));
    play.server.revoke("alice", None, &mut play.host);
    assert_eq!(play.host.hung_up.len(), 48);
    assert!(play.host.open.is_empty());

    let mut play = Play::new(Limits { connections: 0, ..Limits::default() });
    let answer = play.ask(controls[0], "alice", method::ALLOCATE, |w| w.put(attribute::REQUESTED_TRANSPORT, &TCP));
    assert_eq!(answer.code(), 442, "where there is no TURN for TCP");
}
