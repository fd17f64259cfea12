//! The stage: our engine in the place of one element, and the node's decisions read off the page.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use meshtone_sip::message::{Builder, Header, Message, Method};
use meshtone_sip::proxy::{Routing, Target};
use meshtone_sip::registrar::{Binding, Grants, Limits, ok, register};
use meshtone_sip::server::{Event, RequestId, Server, ServerConfig};
use meshtone_sip::transport::{Destination, Flow, Locals, Randomness, Transport};

use super::agent::Wishes;
use super::{Part, Play};

/// The time of day at the registrar.
const NOW_MS: u64 = 1_700_000_000_000;

struct FlowLocals {
    host: &'static str,
}

impl Locals for FlowLocals {
    fn sent_by(&self, _: &Destination) -> String {
        format!("{}:5060", self.host)
    }

    fn is_local(&self, host: &str, _: Option<u16>) -> bool {
        host.eq_ignore_ascii_case(self.host)
    }

    fn flow_is_open(&self, _: &Flow) -> bool {
        true
    }
}

struct Counter(u8);

impl Randomness for Counter {
    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.0 = self.0.wrapping_mul(13).wrapping_add(101);
            *byte = self.0;
        }
    }
}

/// Addresses of the elements, as the pages' `received` say.
fn address(element: char, host: &str) -> String {
    let known = [
        ("client.atlanta.example.com", "192.0.2.101"),
        ("ss1.atlanta.example.com", "192.0.2.111"),
        ("ua1.example.com", "192.0.2.1"),
        ("ua2.example.com", "192.0.2.3"),
        ("ss2.biloxi.example.com", "192.0.2.222"),
        ("client.biloxi.example.com", "192.0.2.201"),
        ("alg1.atlanta.example.com", "192.0.2.128"),
        ("b2bua.example.com", "192.0.2.2"),
    ];
    let ip = known.iter().find(|(name, _)| *name == host).map(|(_, ip)| (*ip).to_owned());
    let ip = ip.or_else(|| host.parse::<IpAddr>().ok().map(|ip| ip.to_string()));
    format!("{}:5060", ip.unwrap_or_else(|| format!("192.0.2.{}", u32::from(element) % 100 + 1)))
}

/// Our element in the middle of a flow.
pub struct Stage<'a> {
    pub(super) play: &'a Play,
    pub(super) server: Server,
    pub(super) now: Instant,
    pub(super) flows: HashMap<char, Flow>,
    /// What our element has sent and the page has not asked for yet.
    sent: Vec<(char, Message)>,
    /// The page's branch of ours, to our Via.
    pub(super) vias: HashMap<String, String>,
    /// The page's tag of ours, to our tag.
    pub(super) tags: HashMap<String, String>,
    /// Call-ID to our Record-Routes (callee's side first) and the caller's tag.
    pub(super) routes: HashMap<String, (Vec<String>, String)>,
    /// The page's sequence numbers of our agent's requests, to ours.
    pub(super) numbers: HashMap<u32, u32>,
    pub(super) wishes: Wishes,
    asked: HashMap<RequestId, usize>,
    pub(super) bindings: Vec<Binding>,
    pub(super) differences: Vec<String>,
}

impl<'a> Stage<'a> {
    pub fn new(play: &'a Play, bindings: Vec<Binding>) -> Stage<'a> {
        let script = &play.script;
        let mut flows = HashMap::new();
        for (from, _, message) in script.iter().filter(|(_, _, message)| message.is_request()) {
            let via = message.top_via().unwrap();
            let remote = address(*from, via.host).parse().unwrap();
            let flow = match via.transport {
                "UDP" => Flow::Udp { listener: 0, remote },
                token => Flow::Stream {
                    transport: token.parse::<Transport>().unwrap(),
                    listener: 0,
                    connection: u64::from(u32::from(*from)),
                    remote,
                },
            };
            flows.entry(*from).or_insert(flow);
        }
        // Whoever only answers is where our requests go.
        let transport = script[0].2.top_via().unwrap().transport;
        for (_, to, _) in script {
            let host = if *to == 'B' { "client.biloxi.example.com" } else { "" };
            let remote = address(*to, host).parse().unwrap();
            flows.entry(*to).or_insert(match transport {
                "UDP" => Flow::Udp { listener: 0, remote },
                token => Flow::Stream {
                    transport: token.parse::<Transport>().unwrap(),
                    listener: 0,
                    connection: u64::from(u32::from(*to)),
                    remote,
                },
            });
        }
        // Virtual time begins somewhere.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        let locals = FlowLocals { host: play.ours.1 };
        Stage {
            play,
            server: Server::new(ServerConfig::new([7; 32]), Box::new(locals), Box::new(Counter(1))),
            now,
            flows,
            sent: Vec::new(),
            vias: HashMap::new(),
            tags: HashMap::new(),
            routes: HashMap::new(),
            numbers: HashMap::new(),
            wishes: Wishes::default(),
            asked: HashMap::new(),
            bindings,
            differences: Vec::new(),
        }
    }

    pub fn run(&mut self) {
        for index in 0..self.play.script.len() {
            let (from, to, message) = self.play.script[index].clone();
            if to == self.play.ours.0 {
                let message = self.translated(&message);
                let flow = self.flows[&from].clone();
                self.server.handle_message(self.now, flow, message);
                self.work(index);
            } else if from == self.play.ours.0 {
                if self.play.is_agent {
                    self.wish(index, to, &message);
                }
                self.expect(index, to, &message);
            }
        }
        let left: Vec<String> = self
            .sent
            .iter()
            .filter(|(_, message)| message.status() != 100)
            .map(|(to, message)| format!("{to}: {}{}", message.method_name(), message.status()))
            .collect();
        if !left.is_empty() {
            let name = self.name();
            self.differences.push(format!("{name}: the page has no {left:?}"));
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{} as {}", self.play.name, self.play.ours.1)
    }

    /// Notes a difference, unless it is a known one.
    pub(super) fn check<T: PartialEq + std::fmt::Debug>(&mut self, index: usize, part: Part, ours: T, page: T) {
        let is_known = self.play.except.iter().any(|(number, what, _)| *number == index + 1 && *what == part);
        if (ours == page) == is_known {
            let name = self.name();
            self.differences.push(format!("{name}, message {}, {part:?}: {ours:?}, on the page {page:?}", index + 1));
        }
    }

    /// Lets the engine work, and answers for its node as the page does.
    pub(super) fn work(&mut self, index: usize) {
        loop {
            let mut idle = true;
            while let Some(transmit) = self.server.poll_transmit() {
                idle = false;
                let Destination::Flow(flow) = &transmit.destination else { panic!("{:?}", transmit.destination) };
                let (to, _) = self.flows.iter().find(|(_, known)| *known == flow).expect("an element of the flow");
                let message = Message::parse(transmit.message.bytes().clone()).unwrap();
                message.validate().unwrap();
                self.sent.push((*to, message));
            }
            while let Some(event) = self.server.poll_event() {
                idle = false;
                self.decide(index, event);
            }
            if idle {
                return;
            }
        }
    }

    fn decide(&mut self, index: usize, event: Event) {
        let now = self.now;
        if self.play.is_agent {
            self.wishes.hear(event);
            return;
        }
        match event {
            Event::Request { id, routing: Routing::Dialog(target), .. } => {
                self.server.forward(now, id, vec![target], false);
            }
            Event::Request { id, request, flow, .. } => self.answer_or_forward(index, id, &request, &flow),
            Event::TargetsExhausted { id, status } => self.go_on(index, id, status),
            Event::Finished { .. } | Event::Cancelled { .. } => {}
            other => panic!("{}: {other:?}", self.name()),
        }
    }

    /// Does with a request what the page does next: sends it on, or answers it.
    fn answer_or_forward(&mut self, index: usize, id: RequestId, request: &Message, flow: &Flow) {
        let now = self.now;
        self.asked.insert(id, index);
        // The request forwarded, or the answer of our own, whichever the page has first.
        let next = self.play.script.iter().skip(index + 1).find(|(from, to, message)| {
            let is_ours = *from == self.play.ours.0;
            let is_copy = message.is_request() && message.method() == request.method();
            let is_answer = message.status() >= 200
                && *to == self.play.script[index].0
                && message.cseq().unwrap().method == request.method_name();
            is_ours && (is_copy || is_answer)
        });
        let Some((_, to, next)) = next.cloned() else { panic!("{}: the page says nothing", self.name()) };
        if next.is_request() {
            let leads_to_phone = request.header(Header::Route).is_none();
            self.forward_as(id, to, &next, leads_to_phone);
        } else {
            if request.method() == Method::Register && next.status() == 200 {
                let limits = Limits::default();
                match register(NOW_MS, &limits, &mut self.bindings, request, flow) {
                    Ok(_) => {
                        let response = ok(NOW_MS, &self.bindings, request, Grants::default());
                        self.server.respond(now, id, response);
                    }
                    Err(rejection) => self.server.reject(now, id, rejection.status, rejection.reason, &[]),
                }
                return;
            }
            let mut response = Builder::response(request, next.status(), next.reason());
            for header in [Header::ProxyAuthenticate, Header::WwwAuthenticate, Header::Contact] {
                for value in next.fields(header) {
                    response = response.header(header, value);
                }
            }
            self.server.respond(now, id, response.finish());
        }
    }

    /// Every target has failed: another follows if the page has one, else the failure goes upstream.
    fn go_on(&mut self, index: usize, id: RequestId, status: u16) {
        let now = self.now;
        let asked = self.asked[&id];
        let (upstream, _, request) = &self.play.script[asked];
        let next = self.play.script.iter().skip(index + 1).find(|(from, _, next)| {
            *from == self.play.ours.0 && next.is_request() && next.cseq().unwrap() == request.cseq().unwrap()
        });
        if let Some((_, to, next)) = next {
            self.forward_as(id, *to, next, true);
            return;
        }
        let said = self
            .play
            .script
            .iter()
            .skip(asked)
            .find(|(from, to, message)| *from == self.play.ours.0 && to == upstream && message.status() >= 300);
        match said.map(|(_, _, message)| message.status()) {
            Some(other) if other != status => self.server.reject(now, id, other, "", &[]),
            Some(_) | None => self.server.forward(now, id, Vec::new(), false),
        }
    }

    /// Forwards to where the page sends its copy, over the proxies that it names.
    fn forward_as(&mut self, id: RequestId, to: char, next: &Message, leads_to_phone: bool) {
        let flow = self.flows[&to].clone();
        let mut target = Target::new(next.request_uri(), Destination::Flow(flow));
        // The way to a phone that registered with a Path.
        let routes: Vec<&str> = next.values(Header::Route).collect();
        target.prepend_route = (leads_to_phone && !routes.is_empty()).then(|| routes.join(", "));
        self.server.forward(self.now, id, vec![target], true);
    }

    /// Takes the message that the page expects of us out of what we have sent, and compares.
    fn expect(&mut self, index: usize, to: char, page: &Message) {
        // The numbers of our agent's own requests are its own.
        let numbers_count = !(self.play.is_agent && page.is_request());
        let is_it = |(sent_to, message): &(char, Message)| {
            *sent_to == to
                && message.status() == page.status()
                && message.method_name() == page.method_name()
                && (!numbers_count || message.cseq().unwrap() == page.cseq().unwrap())
        };
        let mut waited = Duration::ZERO;
        let found = loop {
            if let Some(found) = self.sent.iter().position(is_it) {
                break found;
            }
            // The page lets time pass where it shows retransmissions.
            if waited >= Duration::from_secs(40) {
                let (name, number, method) = (self.name(), index + 1, page.method_name());
                self.differences
                    .push(format!("{name}: message {number} ({method} {}) was not sent to {to}", page.status()));
                return;
            }
            waited += Duration::from_millis(100);
            self.now += Duration::from_millis(100);
            self.server.handle_timeout(self.now);
            self.work(index);
        };
        let (_, ours) = self.sent.remove(found);
        self.learn(page, &ours);
        self.compare(index, page, &ours);
    }

    fn learn(&mut self, page: &Message, ours: &Message) {
        if page.is_request() && self.play.is_agent {
            self.numbers.insert(page.cseq().unwrap().number, ours.cseq().unwrap().number);
            if let (Some(page), Some(ours)) = (page.from().unwrap().tag(), ours.from().unwrap().tag()) {
                self.tags.insert(page.to_owned(), ours.to_owned());
            }
        }
        if page.is_request() {
            let branch = page.top_via().unwrap().branch().unwrap().to_owned();
            self.vias.insert(branch, ours.values(Header::Via).next().unwrap().to_owned());
            let routes: Vec<String> = ours
                .values(Header::RecordRoute)
                .filter(|route| route.contains(self.play.ours.1))
                .map(str::to_owned)
                .collect();
            if !routes.is_empty() {
                let caller = ours.from().unwrap().tag().unwrap().to_owned();
                self.routes.insert(ours.call_id().to_owned(), (routes, caller));
            }
        } else if let (Some(page), Some(ours)) = (page.to().unwrap().tag(), ours.to().unwrap().tag()) {
            self.tags.insert(page.to_owned(), ours.to_owned());
        }
    }
}
