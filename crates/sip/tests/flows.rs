//! The call flows of RFC 3665 and others, message by message. One element of a flow is our engine; the others say what the
//! page says. Each message that reaches our element must make it send what the page shows next.
//!
//! What the page cannot know is translated: our branches, tags and flow tokens (two Record-Routes where the page has one).
//! What the node decides (a challenge, a target) is read off the page, for the engine leaves it to its node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm)]

use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meshtone_sip::message::{Builder, Header, Message, Method, NameAddr, Uri, Via};
use meshtone_sip::proxy::{Routing, Target};
use meshtone_sip::registrar::{Binding, Grants, Limits, ok, register};
use meshtone_sip::server::{Event, RequestId, Server, ServerConfig};
use meshtone_sip::transport::{Destination, Flow, Locals, Randomness, Transport};

/// The time of day at the registrar.
const NOW_MS: u64 = 1_700_000_000_000;

/// A flow with one of its elements as our proxy.
struct Play {
    file: &'static str,
    /// Our element, by its letter in `steps`, and its host.
    ours: (char, &'static str),
    /// Who sends each message to whom, in the order of the file.
    steps: &'static str,
    /// Numbers of messages (from 1) of which something is not compared, what, and why.
    except: &'static [(usize, Part, &'static str)],
    /// Whether the page's proxy leaves the path of the dialog, as ours never does.
    leaves_path: bool,
}

/// What is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Uri,
    Via,
    Tag,
    Hops,
    Route,
    Field(Header),
    Body,
}

const TWO_PROXIES: &str = "A>1 1>A A>1 A>1 1>2 1>A 2>B 2>1 B>2 2>1 1>A B>2 2>1 1>A A>1 1>2 2>B B>2 2>1 1>A A>1 1>2 2>B";
const TWO_CHALLENGES: &str = "A>1 1>A A>1 A>1 1>A 1>2 2>1 1>2 1>A A>1 A>1 1>A 1>2 2>1 2>B B>2 2>1 1>A A>1 1>2 2>B";
const DEAD_PROXY: &str = "A>1 A>1 A>1 A>1 A>1 A>1 A>1 A>2 2>A A>2 A>2 2>B 2>A B>2 2>A B>2 2>A A>2 2>B B>2 2>A A>2 2>B";
const ALG: &str = "A>G G>2 G>A 2>B 2>G B>2 2>G G>A B>2 2>G G>A A>G G>B A>G G>B B>G G>A";
const REDIRECT: &str = "A>R R>A A>R A>3 3>B 3>A B>3 3>A B>3 3>A A>3 3>B B>3 3>A A>3 3>B";
const REINVITE: &str = "A>2 2>B 2>A B>2 2>A B>2 2>A A>B B>A A>B B>A A>B B>A";
const NO_ANSWER: &str = "A>1 1>2 1>A 2>B 2>1 B>2 2>1 1>A A>1 1>A 1>2 2>1 2>B B>2 B>2 2>B 2>1 1>2 1>A A>1";
const BUSY: &str = "A>1 1>2 1>A 2>B 2>1 B>2 2>B 2>1 1>2 1>A A>1";
const SILENT: &str = "A>1 1>2 1>A 2>B 2>1 2>B 2>B 2>B 2>B 2>B 2>B 2>1 1>2 1>A A>1";
const UNAVAILABLE: &str = "A>1 1>2 1>A 2>B 2>1 B>2 2>1 1>A B>2 2>B 2>1 1>2 1>A A>1";

const SS1: (char, &str) = ('1', "ss1.atlanta.example.com");
const SS2: (char, &str) = ('2', "ss2.biloxi.example.com");

const fn play(file: &'static str, ours: (char, &'static str), steps: &'static str) -> Play {
    Play { file, ours, steps, except: &[], leaves_path: false }
}

fn plays() -> Vec<Play> {
    const REGISTRAR: (char, &str) = ('S', "ss2.biloxi.example.com");
    vec![
        play("rfc3665/2.01", REGISTRAR, "B>S S>B B>S S>B"),
        Play {
            except: &[(2, Part::Field(Header::Contact), "has the mailto: contact of page 2.2")],
            ..play("rfc3665/2.03", REGISTRAR, "B>S S>B")
        },
        play("rfc3665/2.04", REGISTRAR, "B>S S>B"),
        play("rfc3665/2.05", REGISTRAR, "B>S S>B B>S S>B"),
        Play {
            except: &[(22, Part::Via, "the page has another `received` than in message 21")],
            ..play("rfc3665/3.02", SS1, TWO_PROXIES)
        },
        Play {
            except: &[(23, Part::Via, "the page has another `received` than in message 22")],
            ..play("rfc3665/3.02", SS2, TWO_PROXIES)
        },
        Play {
            except: &[
                (8, Part::Via, "the page lets the proxy sign with the caller's host"),
                (20, Part::Field(Header::Contact), "the page adds a Contact to an ACK on its way"),
            ],
            ..play("rfc3665/3.03", SS1, TWO_CHALLENGES)
        },
        play("rfc3665/3.03", SS2, TWO_CHALLENGES),
        play("rfc3665/3.04", SS2, DEAD_PROXY),
        Play { leaves_path: true, ..play("rfc3665/3.05", SS2, ALG) },
        play("rfc3665/3.06", ('R', "ss1.atlanta.example.com"), REDIRECT),
        Play {
            except: &[(14, Part::Via, "the page notes `received` in the Via of the proxy that received")],
            ..play("rfc3665/3.06", ('3', "ss3.chicago.example.com"), REDIRECT)
        },
        Play { leaves_path: true, ..play("rfc3665/3.07", SS2, REINVITE) },
        Play {
            except: &[
                (10, Part::Tag, "the page forgets the To tag of a 200 (RFC 3261 §8.2.6.2)"),
                (11, Part::Uri, "the page cancels with another Request-URI than it invited"),
                (18, Part::Via, "the page signs with the other proxy's host"),
            ],
            ..play("rfc3665/3.08", SS1, NO_ANSWER)
        },
        Play {
            except: &[(12, Part::Tag, "the page forgets the To tag of a 200 (RFC 3261 §8.2.6.2)")],
            ..play("rfc3665/3.08", SS2, NO_ANSWER)
        },
        play("rfc3665/3.09", SS1, BUSY),
        play("rfc3665/3.09", SS2, BUSY),
        play("rfc3665/3.10", SS1, SILENT),
        play("rfc3665/3.10", SS2, SILENT),
        Play {
            except: &[(2, Part::Body, "message 1 lacks the first line of its body")],
            ..play("rfc3665/3.11", SS1, UNAVAILABLE)
        },
        play("rfc3665/3.11", SS2, UNAVAILABLE),
        Play {
            except: &[(
                5,
                Part::Field(Header::Contact),
                "the page does not say when the contact expires (RFC 3261 §10.3)",
            )],
            ..play("rfc3327/5.5.1", ('R', "REGISTRAR.EXAMPLEHOME.COM"), "U>1 1>2 2>3 3>R R>3 3>2 2>1 1>U")
        },
        Play {
            except: &[(3, Part::Hops, "the page has no Max-Forwards (RFC 3261 §16.6)")],
            ..play("rfc3327/5.5.1", ('2', "178.73.76.230"), "U>1 1>2 2>3 3>R R>3 3>2 2>1 1>U")
        },
        Play {
            leaves_path: true,
            except: &[(2, Part::Hops, "the page has no Max-Forwards (RFC 3261 §16.6)")],
            ..play("rfc3327/5.5.2", ('R', "143.70.6.83"), "V>R R>3 3>1 1>U")
        },
        play("rfc4916/5.1", ('P', "proxy.example.com"), "A>P P>C C>P P>A A>P P>C C>P P>A A>P P>C"),
    ]
}

/// Files of which no element is played here, and why.
const NOT_PLAYED: &[(&str, &str)] = &[
    ("rfc3665/2.02", "registers a mailto: contact; our registrar binds SIP URIs only"),
    ("rfc3665/3.01", "two phones alone; our agent's calls are played in agent_calls.rs"),
    ("rfc3515/4.1", "two phones alone; our agent does not take the part of either here"),
    ("rfc3515/4.2", "two phones alone; our agent does not take the part of either here"),
    ("rfc4916/5.2", "a phone and a B2BUA; we are neither"),
    ("rfc5626/3.2", "shows a REGISTER without its answer"),
    ("rfc5626/9.1", "through an edge proxy, which we are not: it shows two of eight messages"),
    ("rfc5626/9.2", "through edge proxies, which we are not"),
    ("rfc5626/9.3", "through edge proxies, which we are not"),
    ("rfc5626/9.4", "through edge proxies, which we are not; shows keep-alives alone"),
    ("rfc5626/9.5", "through edge proxies, which we are not"),
];

fn flows() -> Vec<(String, Vec<Message>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/flows");
    let mut files = Vec::new();
    for folder in std::fs::read_dir(root).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
            let name = format!("{}/{}", folder.file_name().to_str().unwrap(), file.file_name().to_str().unwrap());
            files.push((name, messages_of(&std::fs::read_to_string(file.path()).unwrap())));
        }
    }
    files.sort_by(|left, right| left.0.cmp(&right.0));
    files
}

/// The messages of a file: literal blocks of a YAML list, two columns in. Fields are unfolded, Content-Length is made right.
fn messages_of(text: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    for block in
        text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n").split("- |+\n").skip(1)
    {
        let lines: Vec<&str> = block.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
        let end_of_head = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
        let (head, body) = lines.split_at(end_of_head);
        let body: String =
            body.iter().skip(1).filter(|line| !line.is_empty()).flat_map(|line| [*line, "\r\n"]).collect();
        let mut text = String::new();
        for line in head {
            if line.starts_with([' ', '\t']) {
                text.truncate(text.trim_end().len());
                let _ = write!(text, " {}\r\n", line.trim());
            } else if !line.to_ascii_lowercase().starts_with("content-length") {
                let _ = write!(text, "{}\r\n", line.trim_end());
            }
        }
        if text.is_empty() {
            continue;
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
        messages.push(Message::parse(Bytes::from(text)).expect("a message of a flow parses"));
    }
    messages
}

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
    ];
    let ip = known.iter().find(|(name, _)| *name == host).map(|(_, ip)| (*ip).to_owned());
    let ip = ip.or_else(|| host.parse::<IpAddr>().ok().map(|ip| ip.to_string()));
    format!("{}:5060", ip.unwrap_or_else(|| format!("192.0.2.{}", u32::from(element) % 100 + 1)))
}

/// Our element in the middle of a flow.
struct Stage<'a> {
    play: &'a Play,
    script: Vec<(char, char, Message)>,
    server: Server,
    now: Instant,
    flows: HashMap<char, Flow>,
    /// What our element has sent and the page has not asked for yet.
    sent: Vec<(char, Message)>,
    /// The page's branch of ours, to our Via.
    vias: HashMap<String, String>,
    /// The page's tag of ours, to our tag.
    tags: HashMap<String, String>,
    /// Call-ID to our Record-Routes (callee's side first) and the caller's tag.
    routes: HashMap<String, (Vec<String>, String)>,
    asked: HashMap<RequestId, usize>,
    bindings: Vec<Binding>,
    differences: Vec<String>,
}

impl<'a> Stage<'a> {
    fn new(play: &'a Play, messages: Vec<Message>, bindings: Vec<Binding>) -> Stage<'a> {
        let steps: Vec<(char, char)> =
            play.steps.split(' ').map(|step| (step.chars().next().unwrap(), step.chars().nth(2).unwrap())).collect();
        assert_eq!(steps.len(), messages.len(), "{}: steps and messages", play.file);
        let script: Vec<_> = steps.into_iter().zip(messages).map(|((from, to), message)| (from, to, message)).collect();
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
        for (_, to, _) in &script {
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
            script,
            server: Server::new(ServerConfig::new([7; 32]), Box::new(locals), Box::new(Counter(1))),
            now,
            flows,
            sent: Vec::new(),
            vias: HashMap::new(),
            tags: HashMap::new(),
            routes: HashMap::new(),
            asked: HashMap::new(),
            bindings,
            differences: Vec::new(),
        }
    }

    fn run(&mut self) {
        for index in 0..self.script.len() {
            let (from, to, message) = self.script[index].clone();
            if to == self.play.ours.0 {
                let message = self.translated(&message);
                let flow = self.flows[&from].clone();
                self.server.handle_message(self.now, flow, message);
                self.work(index);
            } else if from == self.play.ours.0 {
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

    fn name(&self) -> String {
        format!("{} as {}", self.play.file, self.play.ours.1)
    }

    /// Notes a difference, unless it is a known one.
    fn check<T: PartialEq + std::fmt::Debug>(&mut self, index: usize, part: Part, ours: T, page: T) {
        let is_known = self.play.except.iter().any(|(number, what, _)| *number == index + 1 && *what == part);
        if (ours == page) == is_known {
            let name = self.name();
            self.differences.push(format!("{name}, message {}, {part:?}: {ours:?}, on the page {page:?}", index + 1));
        }
    }

    /// Lets the engine work, and answers for its node as the page does.
    fn work(&mut self, index: usize) {
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
        match event {
            Event::Request { id, routing: Routing::Dialog(target), .. } => {
                self.server.forward(now, id, vec![target], false);
            }
            Event::Request { id, request, flow, .. } => {
                self.asked.insert(id, index);
                // The request forwarded, or the answer of our own, whichever the page has first.
                let next = self.script.iter().skip(index + 1).find(|(from, to, message)| {
                    let is_ours = *from == self.play.ours.0;
                    let is_copy = message.is_request() && message.method() == request.method();
                    let is_answer = message.status() >= 200
                        && *to == self.script[index].0
                        && message.cseq().unwrap().method == request.method_name();
                    is_ours && (is_copy || is_answer)
                });
                let Some((_, to, next)) = next.cloned() else { panic!("{}: the page says nothing", self.name()) };
                if next.is_request() {
                    let flow = self.flows[&to].clone();
                    let mut target = Target::new(next.request_uri(), Destination::Flow(flow));
                    // The way to a phone that registered with a Path.
                    let routes: Vec<&str> = next.values(Header::Route).collect();
                    let is_new = !routes.is_empty() && request.header(Header::Route).is_none();
                    target.prepend_route = is_new.then(|| routes.join(", "));
                    self.server.forward(now, id, vec![target], true);
                } else {
                    if request.method() == Method::Register && next.status() == 200 {
                        let limits = Limits::default();
                        match register(NOW_MS, &limits, &mut self.bindings, &request, &flow) {
                            Ok(_) => {
                                let response = ok(NOW_MS, &self.bindings, &request, Grants::default());
                                self.server.respond(now, id, response);
                            }
                            Err(rejection) => self.server.reject(now, id, rejection.status, rejection.reason, &[]),
                        }
                        return;
                    }
                    let mut response = Builder::response(&request, next.status(), next.reason());
                    for header in [Header::ProxyAuthenticate, Header::WwwAuthenticate, Header::Contact] {
                        for value in next.fields(header) {
                            response = response.header(header, value);
                        }
                    }
                    self.server.respond(now, id, response.finish());
                }
            }
            Event::TargetsExhausted { id, status } => {
                let asked = self.asked[&id];
                let upstream = self.script[asked].0;
                let said = self.script.iter().skip(asked).find(|(from, to, message)| {
                    *from == self.play.ours.0 && *to == upstream && message.status() >= 300
                });
                match said.map(|(_, _, message)| message.status()) {
                    Some(other) if other != status => self.server.reject(now, id, other, "", &[]),
                    Some(_) | None => self.server.forward(now, id, Vec::new(), false),
                }
            }
            Event::Finished { .. } | Event::Cancelled { .. } => {}
            other => panic!("{}: {other:?}", self.name()),
        }
    }

    /// The page's message with our branches, tags and routes in the place of the page's.
    fn translated(&self, message: &Message) -> Message {
        let mut editor = message.edit();
        let ours = self.play.ours.1;
        let number = message.cseq().unwrap().number;
        editor.remove(Header::Via);
        for value in message.values(Header::Via) {
            let via = Via::parse(value).unwrap();
            let known = via.branch().filter(|_| via.host == ours).and_then(|branch| self.vias.get(branch));
            // Some pages use a branch again for another transaction.
            let unique = via.branch().map(|branch| value.replace(branch, &format!("{branch}.{number}")));
            editor.append(Header::Via, known.or(unique.as_ref()).map_or(value, String::as_str));
        }
        if let Some((routes, caller_tag)) = self.routes.get(message.call_id()) {
            let is_from_caller = message.from().unwrap().tag() == Some(caller_tag.as_str());
            for header in [Header::RecordRoute, Header::Route] {
                let values: Vec<String> = message.values(header).map(str::to_owned).collect();
                editor.remove(header);
                for value in values {
                    let is_ours =
                        NameAddr::parse(&value).is_ok_and(|route| Uri::parse(route.uri).unwrap().host == ours);
                    let is_reversed = header == Header::Route && is_from_caller;
                    match (is_ours, is_reversed) {
                        (false, _) => {
                            editor.append(header, &value);
                        }
                        (true, true) => routes.iter().rev().for_each(|route| {
                            editor.append(header, route);
                        }),
                        (true, false) => routes.iter().for_each(|route| {
                            editor.append(header, route);
                        }),
                    }
                }
            }
        }
        for header in [Header::From, Header::To] {
            if let Some(tag) = NameAddr::parse(message.header(header).unwrap()).unwrap().tag()
                && let Some(known) = self.tags.get(tag)
            {
                let value = message.header(header).unwrap().replace(&format!("tag={tag}"), &format!("tag={known}"));
                editor.set(header, &value);
            }
        }
        editor.finish()
    }

    /// Takes the message that the page expects of us out of what we have sent, and compares.
    fn expect(&mut self, index: usize, to: char, page: &Message) {
        let is_it = |(sent_to, message): &(char, Message)| {
            *sent_to == to
                && message.status() == page.status()
                && message.method_name() == page.method_name()
                && message.cseq().unwrap() == page.cseq().unwrap()
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

    fn compare(&mut self, index: usize, page: &Message, ours: &Message) {
        if page.is_request() {
            self.check(index, Part::Uri, ours.request_uri(), page.request_uri());
        }
        self.check(index, Part::Field(Header::CallId), ours.call_id(), page.call_id());
        for (header, page, ours) in [(Header::From, page.from(), ours.from()), (Header::To, page.to(), ours.to())] {
            let (page, ours) = (page.unwrap(), ours.unwrap());
            self.check(index, Part::Field(header), ours.uri, page.uri);
            let known = page.tag().map(|tag| self.tags.get(tag).cloned().unwrap_or_else(|| tag.to_owned()));
            let part = if header == Header::To { Part::Tag } else { Part::Field(header) };
            self.check(index, part, ours.tag().map(str::to_owned), known);
        }
        let vias = |message: &Message| -> Vec<(String, Option<String>)> {
            let read = |value| {
                let via = Via::parse(value).unwrap();
                (via.host.to_owned(), via.received().map(str::to_owned))
            };
            message.values(Header::Via).map(read).collect()
        };
        self.check(index, Part::Via, vias(ours), vias(page));
        let (own_host, leaves_path) = (self.play.ours.1, self.play.leaves_path);
        let routes = |message: &Message, header: Header| -> Vec<String> {
            let host = |value| Uri::parse(NameAddr::parse(value).unwrap().uri).unwrap().host.to_owned();
            let mut hosts: Vec<String> = message.values(header).map(host).collect();
            // Two Record-Routes of ours where the page has one (RFC 5658).
            hosts.dedup();
            hosts.retain(|host| !leaves_path || host != own_host);
            hosts
        };
        for header in [Header::Route, Header::RecordRoute] {
            self.check(index, Part::Route, routes(ours, header), routes(page, header));
        }
        let is_hop_by_hop =
            page.method() == Method::Cancel || (page.method() == Method::Ack && page.values(Header::Via).count() == 1);
        if page.is_request() && !is_hop_by_hop {
            self.check(index, Part::Hops, ours.max_forwards().unwrap(), page.max_forwards().unwrap());
        }
        for header in [
            Header::Contact,
            Header::Require,
            Header::Path,
            Header::ProxyAuthenticate,
            Header::WwwAuthenticate,
            Header::ContentType,
        ] {
            let fields = |message: &Message| message.values(header).map(str::to_owned).collect::<Vec<_>>();
            self.check(index, Part::Field(header), fields(ours), fields(page));
        }
        let supported = |message: &Message, tag: &str| message.values(Header::Supported).any(|known| known == tag);
        for tag in page.values(Header::Supported) {
            self.check(index, Part::Field(Header::Supported), supported(ours, tag), true);
        }
        let text = |message: &Message| String::from_utf8_lossy(message.body()).into_owned();
        self.check(index, Part::Body, text(ours), text(page));
    }
}

#[test]
fn every_message_of_every_flow_is_read() {
    let flows = flows();
    let count: usize = flows.iter().map(|(_, messages)| messages.len()).sum();
    assert_eq!((flows.len(), count), (28, 253));
}

#[test]
fn our_element_plays_its_part_in_every_flow_as_the_page_shows() {
    let flows = flows();
    let mut differences = Vec::new();
    // The registrar of one page knows what the page before registered.
    let mut bindings = Vec::new();
    for play in plays() {
        let (_, messages) = flows.iter().find(|(name, _)| name.starts_with(play.file)).expect(play.file);
        let mut stage = Stage::new(&play, messages.clone(), std::mem::take(&mut bindings));
        stage.run();
        differences.append(&mut stage.differences);
        bindings = stage.bindings;
        // Every page begins with the same Call-ID and CSeq.
        bindings.iter_mut().for_each(|binding| binding.call_id.clear());
        bindings.retain(|_| play.file.starts_with("rfc3665/2"));
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn every_flow_is_played_or_listed_with_its_reason() {
    for (name, _) in flows() {
        let is_played = plays().iter().any(|play| name.starts_with(play.file));
        let is_listed = NOT_PLAYED.iter().any(|(file, reason)| name.starts_with(file) && !reason.is_empty());
        assert!(is_played != is_listed, "{name}: either played or listed");
    }
}
