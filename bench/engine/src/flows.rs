//! Registrations and a call through the engine, in time of their own: what a worker does, without its sockets.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use meshtone_sip::digest::{self, Algorithm, Authenticator, DigestConfig, DigestParams, Ha1, Protection, Verdict};
use meshtone_sip::message::{Header, Message};
use meshtone_sip::proxy::stateless::{Spread, StatelessProxy};
use meshtone_sip::proxy::{Routing, Target};
use meshtone_sip::registrar::{self, Binding, Grants, Limits};
use meshtone_sip::server::{Event, Server, ServerConfig};
use meshtone_sip::transport::{Destination, Flow, Locals, Randomness, Transport};

const HERE: &str = "127.77.0.1:5060";

const REALM: &str = "bench.example";

struct OneAddress;

impl Locals for OneAddress {
    fn sent_by(&self, _: &Destination) -> String {
        HERE.to_owned()
    }

    fn is_local(&self, host: &str, port: Option<u16>) -> bool {
        host == "127.77.0.1" && port.unwrap_or(5060) == 5060
    }

    fn flow_is_open(&self, _: &Flow) -> bool {
        true
    }
}

struct Counter(u64);

impl Randomness for Counter {
    fn fill(&mut self, buffer: &mut [u8]) {
        self.0 += 1;
        for (place, byte) in buffer.iter_mut().zip(self.0.to_le_bytes()) {
            *place = byte;
        }
    }
}

fn server() -> Server {
    let mut config = ServerConfig::new([7; 32]);
    config.server_name = "Meshtone/bench".to_owned();
    config.forwarding.asks_about_redirects = true;
    Server::new(config, Box::new(OneAddress), Box::new(Counter(0)))
}

fn udp(port: u16) -> Flow {
    Flow::Udp { listener: 0, remote: SocketAddr::from(([127, 77, 0, 1], port)) }
}

/// A phone that registers again and again.
pub(crate) struct Phone {
    number: u32,
    login: Option<Arc<Login>>,
}

/// A challenge that a phone answers with one count after the other.
struct Login {
    authenticator: Authenticator,
    ha1: Ha1,
    nonce: String,
}

impl Phone {
    /// A phone that nobody asks who it is.
    pub(crate) fn open() -> Phone {
        Phone { number: 0, login: None }
    }

    /// A phone that was challenged before.
    pub(crate) fn with_password() -> Phone {
        let authenticator = Authenticator::new([9; 32], DigestConfig::default());
        let challenge = authenticator.challenge(unix_ms(), REALM, &[Algorithm::Md5], false);
        let params = DigestParams::parse(&challenge[0]).expect("a good challenge").expect("a Digest");
        let nonce = params.raw("nonce").expect("a nonce").to_owned();
        let ha1 = digest::ha1(Algorithm::Md5, "u0", REALM, "secret");
        Phone { number: 0, login: Some(Arc::new(Login { authenticator, ha1, nonce })) }
    }

    /// The next REGISTER, as it comes from a socket.
    pub(crate) fn request(&mut self) -> Bytes {
        self.number += 1;
        let n = self.number;
        let authorization = self.login.as_ref().map(|login| login.answer(n)).unwrap_or_default();
        let text = format!(
            "REGISTER sip:bench.example SIP/2.0\r\nVia: SIP/2.0/UDP 127.77.0.1:5070;branch=z9hG4bK-sb-{n:010x}R{n}-c9a5bde8;rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:u0@bench.example>;tag=ft0\r\nTo: <sip:u0@bench.example>\r\n\
             Call-ID: 0-reg-0f3a9c2e71d84b55@bench.example\r\nCSeq: {n} REGISTER\r\n\
             Contact: <sip:u0@127.77.0.1:5070>;expires=3600\r\nUser-Agent: sipload\r\n{authorization}\
             Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, NOTIFY, INFO, UPDATE\r\n\
             Supported: path, outbound, gruu\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
        );
        Bytes::copy_from_slice(text.as_bytes())
    }
}

impl Login {
    fn answer(&self, number: u32) -> String {
        let (nonce, nc) = (&self.nonce, format!("{number:08x}"));
        let protection = Protection::Auth { nc: &nc, cnonce: "0a4f113b" };
        let response = digest::response(Algorithm::Md5, &self.ha1, nonce, protection, "REGISTER", "sip:bench.example");
        format!(
            "Authorization: Digest username=\"u0\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"sip:bench.example\", \
             response=\"{response}\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, nc={nc}\r\n"
        )
    }

    fn accepts(&self, request: &Message) -> bool {
        let lookup = |user: &str, _| (user == "u0").then(|| self.ha1.clone());
        let values = request.fields(Header::Authorization);
        let method = request.method_name();
        let verdict =
            self.authenticator.verify(unix_ms(), values, REALM, method, request.body(), lookup, &[Algorithm::Md5]);
        matches!(verdict, Verdict::Accepted { .. })
    }
}

/// An engine that answers the REGISTER of one phone.
pub(crate) struct Registrar {
    server: Server,
    bindings: Vec<Binding>,
    now: Instant,
    unix_ms: u64,
    login: Option<Arc<Login>>,
}

impl Registrar {
    pub(crate) fn new(phone: &Phone) -> Registrar {
        let now = Instant::now();
        Registrar { server: server(), bindings: Vec::new(), now, unix_ms: unix_ms(), login: phone.login.clone() }
    }

    /// One REGISTER and its 200. Time goes on, so that finished transactions end in their order.
    #[inline(never)]
    pub(crate) fn register(&mut self, datagram: Bytes) {
        self.now += Duration::from_millis(1);
        self.unix_ms += 1;
        self.server.handle_timeout(self.now);
        self.server.handle_message(self.now, udp(5070), Message::parse(datagram).expect("a good REGISTER"));
        let Some(Event::Request { id, request, flow, .. }) = self.server.poll_event() else { panic!("no request") };
        assert!(self.login.as_ref().is_none_or(|login| login.accepts(&request)), "the phone knows its password");
        registrar::register(self.unix_ms, &Limits::default(), &mut self.bindings, &request, &flow)
            .expect("a good REGISTER");
        let to_tag = self.server.to_tag(&request);
        let grants = Grants { to_tag: Some(to_tag.as_str()), ..Grants::default() };
        let response = registrar::ok(self.unix_ms, &self.bindings, &request, grants);
        self.server.respond(self.now, id, response);
        let transmit = self.server.poll_transmit().expect("an answer");
        assert_eq!(transmit.message.status(), 200);
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as u64)
}

/// An engine that proxies between a caller and one phone.
pub(crate) struct Proxy {
    server: Server,
    number: u64,
    now: Instant,
}

impl Proxy {
    pub(crate) fn new() -> Proxy {
        Proxy { server: server(), number: 0, now: Instant::now() }
    }

    /// INVITE, 100, 180, 200, ACK, BYE, 200; what the phones say is written here and counts too, one allocation each.
    #[inline(never)]
    pub(crate) fn call(&mut self) {
        let invite = self.ring("INVITE", 2);
        self.take(udp(5081), answer(&invite, "180 Ringing"));
        self.sent(1);
        let ok = self.finish(&invite);
        let mut route_set = ok.fields(Header::RecordRoute);
        let (callee_side, caller_side) = (route_set.next().expect("a route"), route_set.next().expect("two routes"));
        let routes = ["Route: ", caller_side, "\r\nRoute: ", callee_side, "\r\n"].concat();
        let to = ok.header(Header::To).unwrap_or_default();
        self.take(udp(5070), self.from_caller("ACK", "sip:uas@127.77.0.1:5081", &routes, to));
        self.sent(1);
        self.take(udp(5070), self.from_caller("BYE", "sip:uas@127.77.0.1:5081", &routes, to));
        let Some(Event::Request { id, routing: Routing::Dialog(target), .. }) = self.server.poll_event() else {
            panic!("no BYE")
        };
        self.server.forward(self.now, id, vec![target], false);
        let bye = self.sent(1);
        self.finish(&bye);
    }

    /// MESSAGE and its 200, through the proxy.
    #[inline(never)]
    pub(crate) fn message(&mut self) {
        let message = self.ring("MESSAGE", 1);
        self.finish(&message);
    }

    /// A request for the phone goes there; gives the last of so many messages that are sent then.
    fn ring(&mut self, method: &str, sent: usize) -> Message {
        self.pass_time();
        self.take(udp(5070), self.from_caller(method, "sip:u0@bench.example", "", "<sip:u0@bench.example>"));
        let Some(Event::Request { id, routing: Routing::Initial, .. }) = self.server.poll_event() else {
            panic!("no request")
        };
        let target = Target::new("sip:u0@127.77.0.1:5081", Destination::Flow(udp(5081)));
        self.server.forward(self.now, id, vec![target], true);
        self.sent(sent)
    }

    /// The phone answers 200; gives what its caller hears.
    fn finish(&mut self, request: &Message) -> Message {
        self.take(udp(5081), answer(request, "200 OK"));
        let ok = self.sent(1);
        let Some(Event::Finished { .. }) = self.server.poll_event() else { panic!("not finished") };
        ok
    }

    /// Time goes on, so that finished transactions end in their order.
    fn pass_time(&mut self) {
        self.number += 1;
        self.now += Duration::from_millis(10);
        self.server.handle_timeout(self.now);
    }

    fn from_caller(&self, method: &str, uri: &str, routes: &str, to: &str) -> String {
        let number = self.number;
        let branch = method.as_bytes().first().copied().map_or(' ', char::from);
        let cseq = if method == "BYE" { 2 } else { 1 };
        let body = match method {
            "INVITE" => "v=0\r\no=- 1 1 IN IP4 127.77.0.1\r\ns=call\r\n",
            "MESSAGE" => "Are you there?",
            _ => "",
        };
        let mut text = String::with_capacity(1024);
        let _ = write!(
            text,
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.77.0.1:5070;branch=z9hG4bK-sb-{number:010x}{branch}1-c9a5bde8;rport\r\n{routes}\
             Max-Forwards: 70\r\nFrom: \"Caller\" <sip:c0@bench.example>;tag=f{number:010x}\r\nTo: {to}\r\n\
             Call-ID: {number:010x}-c9a5bde8-0f3a9c2e71d84b55@bench.example\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:c0@127.77.0.1:5070>\r\nUser-Agent: sipload\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        text
    }

    fn take(&mut self, flow: Flow, text: String) {
        self.server.handle_message(self.now, flow, Message::parse(Bytes::from(text)).expect("a good message"));
    }

    /// The last of so many messages that were sent.
    fn sent(&mut self, count: usize) -> Message {
        let mut last = None;
        for _ in 0..count {
            last = self.server.poll_transmit();
        }
        assert!(self.server.poll_transmit().is_none(), "more was sent than expected");
        last.expect("a message was sent").message
    }
}

/// A first stage before two servers, and one request after the other.
pub(crate) struct FirstStage {
    proxy: StatelessProxy,
    callers: Proxy,
}

impl FirstStage {
    pub(crate) fn new() -> FirstStage {
        let server = |port| Destination::Address {
            transport: Transport::Udp,
            addr: SocketAddr::from(([127, 77, 0, 1], port)),
            listener: 0,
        };
        let proxy = StatelessProxy::new(vec![server(5081), server(5082)], Spread::CallId, &[7; 32]);
        FirstStage { proxy, callers: Proxy::new() }
    }

    /// MESSAGE and its 200.
    #[inline(never)]
    pub(crate) fn message(&mut self) {
        self.callers.number += 1;
        let request = self.callers.from_caller("MESSAGE", "sip:u0@bench.example", "", "<sip:u0@bench.example>");
        let forwarded = self.pass(udp(5070), request);
        let answered = self.pass(udp(5081), answer(&forwarded, "200 OK"));
        assert_eq!(answered.status(), 200);
    }

    fn pass(&self, flow: Flow, text: String) -> Message {
        let message = Message::parse(Bytes::from(text)).expect("a good message");
        self.proxy.forward(&flow, &message, &OneAddress, |_| true).expect("it goes on").message
    }
}

/// What the called phone answers.
fn answer(request: &Message, status: &str) -> String {
    let mut text = String::with_capacity(1024);
    let mut put = |pieces: &[&str]| pieces.iter().for_each(|piece| text.push_str(piece));
    put(&["SIP/2.0 ", status, "\r\n"]);
    for (name, value) in request.all_fields() {
        if ["Via", "Record-Route", "From", "Call-ID", "CSeq"].contains(&name) {
            put(&[name, ": ", value, "\r\n"]);
        } else if name == "To" {
            put(&["To: ", value, if value.contains(";tag=") { "" } else { ";tag=uas7c31f0" }, "\r\n"]);
        }
    }
    put(&["Contact: <sip:uas@127.77.0.1:5081>\r\nContent-Length: 0\r\n\r\n"]);
    text
}
