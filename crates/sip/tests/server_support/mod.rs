//! A network in virtual time for tests of the engine: nodes that run a [`Server`], phones that are plain text.
//!
//! Messages between nodes arrive at once; messages to a phone wait in its inbox. Nothing happens unless a test sends
//! something or moves the time.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_sip::message::{Builder, Header, Message};
use meshtone_sip::proxy::{Routing, Target};
use meshtone_sip::server::{Event, RequestId, Server, ServerConfig};
use meshtone_sip::transaction::{TimerReason, TransactionId};
use meshtone_sip::transport::{Destination, Flow, Locals, PeerHost, Randomness, Transmit, Transport};

pub const T1: Duration = Duration::from_millis(500);

/// Addresses of a node, and which of its flows are gone.
#[derive(Clone)]
struct TestLocals {
    address: String,
    peer_host: String,
    closed: Arc<Mutex<HashSet<Flow>>>,
}

impl Locals for TestLocals {
    fn sent_by(&self, destination: &Destination) -> String {
        if destination.transport() == Transport::Peer { self.peer_host.clone() } else { self.address.clone() }
    }

    fn is_local(&self, host: &str, port: Option<u16>) -> bool {
        format!("{host}:{}", port.unwrap_or(5060)) == self.address || host == self.peer_host
    }

    fn flow_is_open(&self, flow: &Flow) -> bool {
        !self.closed.lock().unwrap().contains(flow)
    }
}

/// Bytes that repeat from run to run.
struct Counter(u64);

impl Randomness for Counter {
    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

pub struct Node {
    pub server: Server,
    pub peer: PeerHost,
    pub address: String,
    closed: Arc<Mutex<HashSet<Flow>>>,
    events: VecDeque<Event>,
}

/// A place at a node that a phone speaks from.
#[derive(Debug, Clone, PartialEq)]
pub struct Phone {
    pub node: usize,
    pub flow: Flow,
}

impl Phone {
    pub fn address(&self) -> String {
        self.flow.remote().unwrap().to_string()
    }

    pub fn transport(&self) -> &'static str {
        self.flow.transport().via_token()
    }

    pub fn target(&self, user: &str) -> Target {
        Target::new(format!("sip:{user}@{}", self.address()), Destination::Flow(self.flow.clone()))
    }
}

pub struct Net {
    pub now: Instant,
    pub nodes: Vec<Node>,
    inboxes: BTreeMap<String, VecDeque<Message>>,
    /// What a node sent to where no phone is.
    pub elsewhere: Vec<Transmit>,
    /// Tells which transmissions are lost.
    pub lose: Box<dyn FnMut(&Transmit) -> bool>,
    /// Timers that fired, in order.
    pub fired: Vec<TimerReason>,
    pub sent: usize,
    /// The transaction of the last request that left for a phone or an address.
    pub last_origin: Option<TransactionId>,
    last_connection: u64,
}

impl Net {
    /// `count` nodes at 10.0.0.1, 10.0.0.2 …, named `node1.peer.alt` and so on.
    pub fn new(count: u8) -> Net {
        Net::with(count, |_| {})
    }

    pub fn with(count: u8, change: impl Fn(&mut ServerConfig)) -> Net {
        let node = |number: u8| {
            let closed = Arc::new(Mutex::new(HashSet::new()));
            let locals = TestLocals {
                address: format!("10.0.0.{number}:5060"),
                peer_host: format!("node{number}.peer.alt"),
                closed: closed.clone(),
            };
            let mut config = ServerConfig::new([number; 32]);
            change(&mut config);
            Node {
                peer: PeerHost::parse(&locals.peer_host).unwrap(),
                address: locals.address.clone(),
                server: Server::new(config, Box::new(locals), Box::new(Counter(u64::from(number)))),
                closed,
                events: VecDeque::new(),
            }
        };
        // An instant cannot be made up; this one is where virtual time begins, and the only one ever read.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        Net {
            now,
            nodes: (1..=count).map(node).collect(),
            inboxes: BTreeMap::new(),
            elsewhere: Vec::new(),
            lose: Box::new(|_| false),
            fired: Vec::new(),
            sent: 0,
            last_origin: None,
            last_connection: 0,
        }
    }

    pub fn udp(&mut self, node: usize, address: &str) -> Phone {
        Phone { node, flow: Flow::Udp { listener: 0, remote: address.parse().unwrap() } }
    }

    pub fn tcp(&mut self, node: usize, address: &str) -> Phone {
        self.last_connection += 1;
        let flow = Flow::Stream {
            transport: Transport::Tcp,
            listener: 0,
            connection: self.last_connection,
            remote: address.parse().unwrap(),
        };
        Phone { node, flow }
    }

    pub fn close(&mut self, phone: &Phone) {
        self.nodes[phone.node].closed.lock().unwrap().insert(phone.flow.clone());
    }

    /// A target that leads to another node.
    pub fn peer_target(&self, uri: &str, node: usize) -> Target {
        Target::new(uri, Destination::Peer(self.nodes[node].peer.clone()))
    }

    /// Lets a phone send a message.
    pub fn send(&mut self, phone: &Phone, message: &str) {
        let message = Message::parse(Bytes::from(message.replace('\n', "\r\n"))).expect("a message that parses");
        self.send_message(phone, message);
    }

    pub fn send_message(&mut self, phone: &Phone, message: Message) {
        let now = self.now;
        self.nodes[phone.node].server.handle_message(now, phone.flow.clone(), message);
        self.run();
    }

    /// Lets a phone answer a request with a status, a To tag and further fields.
    pub fn answer(&mut self, phone: &Phone, request: &Message, status: u16, tag: &str, extra: &[(Header, &str)]) {
        let mut response = Builder::response(request, status, "");
        if !tag.is_empty() {
            response = response.to_tag(tag);
        }
        for route in request.fields(Header::RecordRoute) {
            response = response.header(Header::RecordRoute, route);
        }
        for (header, value) in extra {
            response = response.header(*header, value);
        }
        let contact = format!("<sip:{}>", phone.address());
        self.send_message(phone, response.header(Header::Contact, &contact).finish());
    }

    /// What has arrived at a phone since the last call.
    pub fn received(&mut self, phone: &Phone) -> Vec<Message> {
        self.inboxes.remove(&inbox(phone.node, &phone.flow)).unwrap_or_default().into()
    }

    /// The one message that has arrived at a phone.
    pub fn one(&mut self, phone: &Phone) -> Message {
        let received = self.received(phone);
        assert_eq!(received.len(), 1, "{}", names(&received));
        received.into_iter().next().unwrap()
    }

    /// Start lines of what has arrived at a phone: methods and status codes.
    pub fn heard(&mut self, phone: &Phone) -> String {
        names(&self.received(phone))
    }

    pub fn event(&mut self, node: usize) -> Option<Event> {
        self.nodes[node].events.pop_front()
    }

    /// The next request that a node is told of; nothing but the end of earlier ones may come before it.
    pub fn request(&mut self, node: usize) -> (RequestId, Message, Routing) {
        loop {
            match self.event(node) {
                Some(Event::Request { id, request, routing, .. }) => return (id, request, routing),
                Some(Event::Finished { .. }) => {}
                other => panic!("no request but {other:?}"),
            }
        }
    }

    pub fn forward(&mut self, node: usize, id: RequestId, targets: Vec<Target>, more: bool) {
        let now = self.now;
        self.nodes[node].server.forward(now, id, targets, more);
        self.run();
    }

    /// Takes a request that must be in a dialog, and forwards it as its Routes say.
    pub fn forward_in_dialog(&mut self, node: usize) {
        match self.request(node) {
            (id, _, Routing::Dialog(target)) => self.forward(node, id, vec![target], false),
            (_, request, other) => panic!("{} is not in a dialog but {other:?}", request.method_name()),
        }
    }

    pub fn reject(&mut self, node: usize, id: RequestId, status: u16) {
        let now = self.now;
        self.nodes[node].server.reject(now, id, status, "", &[]);
        self.run();
    }

    /// Moves the time, letting each timer fire when it is due.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let next = self.nodes.iter().filter_map(|node| node.server.poll_timeout()).min();
            match next {
                Some((at, reason)) if at <= end => {
                    self.now = self.now.max(at);
                    self.fired.push(reason);
                    for node in &mut self.nodes {
                        node.server.handle_timeout(self.now);
                    }
                    self.run();
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Delivers until nothing is left to deliver.
    pub fn run(&mut self) {
        let mut rounds = 0;
        loop {
            let mut delivered = false;
            for from in 0..self.nodes.len() {
                while let Some(transmit) = self.nodes[from].server.poll_transmit() {
                    delivered = true;
                    self.sent += 1;
                    if !(self.lose)(&transmit) {
                        self.deliver(from, transmit);
                    }
                }
                while let Some(event) = self.nodes[from].server.poll_event() {
                    self.nodes[from].events.push_back(event);
                }
            }
            rounds += 1;
            assert!(rounds < 1000, "messages without end");
            if !delivered {
                return;
            }
        }
    }

    fn deliver(&mut self, from: usize, transmit: Transmit) {
        // What is sent must be what a stranger reads.
        let message = Message::parse(transmit.message.bytes().clone()).expect("a sent message parses");
        message.validate().unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(message.bytes())));
        let host = match &transmit.destination {
            Destination::Flow(Flow::Peer { host }) | Destination::Peer(host) => host.clone(),
            // What another node sent from its own address is answered there.
            Destination::Flow(Flow::Udp { remote, .. })
                if self.nodes.iter().any(|node| node.address == remote.to_string()) =>
            {
                let source = Flow::Udp { listener: 0, remote: self.nodes[from].address.parse().unwrap() };
                let now = self.now;
                if let Some(node) = self.nodes.iter_mut().find(|node| node.address == remote.to_string()) {
                    node.server.handle_message(now, source, message);
                }
                return;
            }
            Destination::Flow(flow) => {
                if transmit.message.is_request() {
                    self.last_origin = transmit.origin;
                }
                self.inboxes.entry(inbox(from, flow)).or_default().push_back(message);
                return;
            }
            Destination::Address { addr, .. } => {
                if transmit.message.is_request() {
                    self.last_origin = transmit.origin;
                }
                let number = self.nodes.iter().position(|node| node.address == addr.to_string());
                let Some(number) = number else {
                    self.elsewhere.push(transmit);
                    return;
                };
                let source = Flow::Udp { listener: 0, remote: self.nodes[from].address.parse().unwrap() };
                let now = self.now;
                self.nodes[number].server.handle_message(now, source, message);
                return;
            }
        };
        let source = Flow::Peer { host: self.nodes[from].peer.clone() };
        let now = self.now;
        match self.nodes.iter_mut().find(|node| node.peer == host) {
            Some(node) => node.server.handle_message(now, source, message),
            None => self.elsewhere.push(transmit),
        }
    }
}

fn inbox(node: usize, flow: &Flow) -> String {
    format!("{node} {flow:?}")
}

pub fn names(messages: &[Message]) -> String {
    let name = |message: &Message| match message.status() {
        0 => message.method_name().to_owned(),
        status => status.to_string(),
    };
    messages.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// What a caller knows of its call; writes its requests.
#[derive(Debug, Clone)]
pub struct Caller {
    pub phone: Phone,
    pub call_id: String,
    pub to_tag: Option<String>,
    pub cseq: u32,
    pub routes: Vec<String>,
    pub uri: String,
    pub extra: Vec<String>,
    pub user: &'static str,
    pub peer_user: &'static str,
    pub tag: String,
}

impl Caller {
    /// Alice at this phone, about to call bob@example.org.
    pub fn new(phone: &Phone) -> Caller {
        Caller {
            phone: phone.clone(),
            call_id: "call-1@phone".into(),
            to_tag: None,
            cseq: 1,
            routes: Vec::new(),
            uri: "sip:bob@example.org".into(),
            extra: Vec::new(),
            user: "alice",
            peer_user: "bob",
            tag: "a-tag".into(),
        }
    }

    /// The called side of a dialog, from the INVITE it got and the tag it gave.
    pub fn callee(phone: &Phone, invite: &Message, tag: &str) -> Caller {
        Caller {
            phone: phone.clone(),
            call_id: invite.call_id().into(),
            to_tag: invite.from().unwrap().tag().map(str::to_owned),
            cseq: 100,
            routes: invite.values(Header::RecordRoute).map(str::to_owned).collect(),
            uri: invite.contacts().next().unwrap().unwrap().uri.to_owned(),
            extra: Vec::new(),
            user: "bob",
            peer_user: "alice",
            tag: tag.into(),
        }
    }

    /// Learns the dialog from a 2xx.
    pub fn learn(&mut self, response: &Message) {
        self.to_tag = response.to().unwrap().tag().map(str::to_owned);
        self.routes = response.values(Header::RecordRoute).map(str::to_owned).collect();
        self.routes.reverse();
        self.uri = response.contacts().next().unwrap().unwrap().uri.to_owned();
    }

    pub fn next(&mut self, method: &str) -> String {
        self.cseq += 1;
        self.text(method)
    }

    /// A request with the present CSeq; ACK and CANCEL of an INVITE share it.
    pub fn text(&self, method: &str) -> String {
        let Caller { phone, call_id, cseq, uri, user, peer_user, tag, .. } = self;
        // CANCEL shares the branch of its INVITE; the ACK of a 2xx does not.
        let branch = match method {
            "CANCEL" => format!("z9hG4bKINVITE{cseq}{tag}"),
            _ => format!("z9hG4bK{method}{cseq}{tag}"),
        };
        let branch = branch + &call_id.replace('@', ".");
        let mut text = format!(
            "{method} {uri} SIP/2.0\nVia: SIP/2.0/{} {};rport;branch={branch}\nMax-Forwards: 70\n",
            phone.transport(),
            phone.address(),
        );
        for route in &self.routes {
            text += &format!("Route: {route}\n");
        }
        let to_tag = self.to_tag.as_ref().map(|tag| format!(";tag={tag}")).unwrap_or_default();
        text += &format!(
            "From: <sip:{user}@example.org>;tag={tag}\nTo: <sip:{peer_user}@example.org>{to_tag}\nCall-ID: {call_id}\n\
             CSeq: {cseq} {method}\nContact: <sip:{user}@{}>\n",
            phone.address()
        );
        for line in &self.extra {
            text += &format!("{line}\n");
        }
        text + "Content-Length: 0\n\n"
    }

    /// The ACK of a failure: same branch as the INVITE.
    pub fn ack_failure(&self, response: &Message) -> String {
        let mut caller = self.clone();
        caller.to_tag = response.to().unwrap().tag().map(str::to_owned);
        caller.text("ACK").replace("z9hG4bKACK", "z9hG4bKINVITE")
    }
}

/// Alice sends a request with further fields, outside of any dialog; the node is told.
pub fn asked(net: &mut Net, alice: &Phone, method: &str, extra: &[&str]) -> RequestId {
    let mut caller = Caller::new(alice);
    caller.extra.extend(extra.iter().map(|line| (*line).to_owned()));
    net.send(alice, &caller.text(method));
    net.request(alice.node).0
}

/// Alice at the first node has called Bob, there or at another one; both know the dialog.
pub fn established(net: &mut Net, alice: &Phone, bob: &Phone) -> (Caller, Caller) {
    let mut caller = Caller::new(alice);
    net.send(alice, &caller.text("INVITE"));
    let (id, request, _) = net.request(0);
    if alice.node == bob.node {
        net.forward(0, id, vec![bob.target("bob")], false);
    } else {
        let mut target = net.peer_target(request.request_uri(), bob.node);
        target.answer_within = Some(seconds(2));
        net.forward(0, id, vec![target], false);
        let (id, ..) = net.request(bob.node);
        net.forward(bob.node, id, vec![bob.target("bob")], false);
    }
    let invite = net.one(bob);
    net.answer(bob, &invite, 200, "b-tag", &[]);
    let responses = net.received(alice);
    caller.learn(responses.last().unwrap());
    net.send(alice, &caller.text("ACK"));
    assert_eq!(net.heard(bob), "ACK");
    while net.event(0).is_some() {}
    while net.event(bob.node).is_some() {}
    (caller, Caller::callee(bob, &invite, "b-tag"))
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
