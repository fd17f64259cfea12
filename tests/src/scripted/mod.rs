//! A phone made of a socket: it sends what a test says, byte for byte, and shows what comes back.
//!
//! For everything a well-behaved phone would never do: wrong passwords on purpose, torn messages, unknown methods, two
//! phones of one person that answer when told. It does the least that SIP needs: retransmits requests over UDP,
//! acknowledges refused INVITEs, repeats its answer to a repeated request, answers digest challenges (MD5) when it has
//! been given a password.

pub mod digest;
mod line;
pub mod message;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use message::{Dialog, Request, Sip};

use crate::phone::Transport;
use crate::{DOMAIN, SOON};
use digest::Credentials;
use line::Line;

/// RFC 3261's T1: when a request without any answer is sent again over UDP.
const RETRANSMIT: Duration = Duration::from_millis(500);

/// Session descriptions that offer or take one audio stream; nothing is ever sent on it.
pub const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                       m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

/// A phone under the test's full control.
#[derive(Debug)]
pub struct ScriptedPhone {
    line: Line,
    server: SocketAddr,
    local: SocketAddr,
    user: String,
    domain: String,
    /// What it authenticates as.
    login: String,
    password: Option<String>,
    inbox: VecDeque<Sip>,
    /// Our answers by branch and method, to repeat when the request is repeated.
    answers: HashMap<(String, String), Vec<u8>>,
    /// Responses seen, so that a retransmitted one is not shown twice.
    seen: HashSet<Vec<u8>>,
    nonce_uses: HashMap<String, u32>,
}

impl ScriptedPhone {
    /// A phone that talks to the node at `server`, with a port of its own.
    #[track_caller]
    pub fn new(transport: Transport, server: SocketAddr) -> ScriptedPhone {
        ScriptedPhone::over(Line::open(transport, server), server)
    }

    fn over(line: Line, server: SocketAddr) -> ScriptedPhone {
        let local = line.local();
        ScriptedPhone {
            line,
            server,
            local,
            user: "nobody".to_owned(),
            domain: DOMAIN.to_owned(),
            login: "nobody".to_owned(),
            password: None,
            inbox: VecDeque::new(),
            answers: HashMap::new(),
            seen: HashSet::new(),
            nonce_uses: HashMap::new(),
        }
    }

    /// Over UDP.
    #[track_caller]
    pub fn udp(server: SocketAddr) -> ScriptedPhone {
        ScriptedPhone::new(Transport::Udp, server)
    }

    /// Over UDP from this address of the machine, such as 127.0.0.66.
    #[track_caller]
    pub fn udp_from(source: Ipv4Addr, server: SocketAddr) -> ScriptedPhone {
        ScriptedPhone::over(Line::udp_from(source.into()), server)
    }

    /// Over TCP.
    #[track_caller]
    pub fn tcp(server: SocketAddr) -> ScriptedPhone {
        ScriptedPhone::new(Transport::Tcp, server)
    }

    /// Whose phone it is.
    pub fn of(mut self, user: &str, password: &str) -> ScriptedPhone {
        self.user = user.to_owned();
        self.login = user.to_owned();
        self.password = Some(password.to_owned());
        self
    }

    /// The same user at another domain.
    pub fn at_domain(mut self, domain: &str) -> ScriptedPhone {
        self.domain = domain.to_owned();
        self
    }

    /// Belongs to a person with an address of her own, which is her login as well.
    pub fn of_person(mut self, address: &str, password: &str) -> ScriptedPhone {
        let (user, domain) = address.split_once('@').expect("an address");
        self.domain = domain.to_owned();
        self = self.of(user, password);
        self.login = address.to_owned();
        self
    }

    /// Authenticates by this name instead of its user's, as pages do with what their session gave them.
    pub fn logging_in_as(mut self, login: &str) -> ScriptedPhone {
        self.login = login.to_owned();
        self
    }

    /// Its address of record, `sip:user@domain`.
    pub fn address(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    /// Its contact URI.
    pub fn contact(&self) -> String {
        let Host { host, parameter } = self.host();
        format!("sip:{}@{host}{parameter}", self.user)
    }

    /// What it calls itself in Via and Contact. A browser has no address of its own (RFC 7118 §5).
    fn host(&self) -> Host {
        let host = self.local.to_string();
        match self.line.transport() {
            Transport::Udp => Host { host, parameter: "" },
            Transport::Tcp => Host { host, parameter: ";transport=tcp" },
            Transport::Tls => Host { host, parameter: ";transport=tls" },
            Transport::Ws | Transport::Wss => {
                Host { host: format!("p{}.invalid", self.local.port()), parameter: ";transport=ws" }
            }
        }
    }

    /// Its own socket address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    fn is_udp(&self) -> bool {
        self.line.transport() == Transport::Udp
    }

    // ── registering ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Registers its contact for ten minutes and fails the test unless the node accepts.
    #[track_caller]
    pub fn register(&mut self) -> Sip {
        let answer = self.try_register(600);
        assert_eq!(answer.status(), 200, "REGISTER of {}:\n{answer}", self.user);
        answer
    }

    /// Registers its contact for some seconds and returns the final answer.
    #[track_caller]
    pub fn try_register(&mut self, expires: u32) -> Sip {
        let request = Request::new("REGISTER", &format!("sip:{}", self.domain), &self.address(), &self.address())
            .with("Contact", &format!("<{}>", self.contact()))
            .with("Expires", &expires.to_string());
        self.ask(request)
    }

    // ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// Sends a request, answering one challenge, and returns without waiting for what comes of it.
    #[track_caller]
    pub fn start(&mut self, request: &Request) -> Sent {
        let challenged = self.ask_once(request);
        let authorized = self.authorize(request, &challenged);
        self.send(&authorized)
    }

    /// A new request from this phone's user.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(method, target, &self.address(), target).with("Contact", &format!("<{}>", self.contact()))
    }

    /// Sends a request, answers one challenge if it can, and returns the final answer.
    #[track_caller]
    pub fn ask(&mut self, request: Request) -> Sip {
        let answer = self.ask_once(&request);
        match self.authorized(&request, &answer) {
            Some(second) => self.ask_once(&second),
            None => answer,
        }
    }

    /// Sends a request without credentials and returns the final answer.
    #[track_caller]
    pub fn ask_once(&mut self, request: &Request) -> Sip {
        let sent = self.send(request);
        self.final_answer(&sent)
    }

    /// Starts an INVITE, answering a challenge, and returns once it is under way (or refused): what comes next is up to
    /// the test.
    #[track_caller]
    pub fn invite(&mut self, target: &str) -> Sent {
        let request = self.request("INVITE", target).with_body("application/sdp", &self.sdp());
        let sent = self.send(&request);
        let first = self.wait_answer(&sent, SOON, |_| true);
        if first.status() < 200 && first.status() != 100 {
            self.inbox.push_front(first);
            return sent;
        }
        let answer = if first.status() == 100 { self.wait_answer(&sent, SOON, |_| true) } else { first };
        let Some(second) = (answer.status() >= 300).then(|| self.authorized(&request, &answer)).flatten() else {
            self.inbox.push_front(answer);
            return sent;
        };
        self.acknowledge(&sent, &answer);
        self.send(&second)
    }

    /// Waits for the final answer to a request. A refused INVITE is acknowledged.
    #[track_caller]
    pub fn final_answer(&mut self, sent: &Sent) -> Sip {
        self.final_answer_within(sent, SOON)
    }

    /// The same with a deadline.
    #[track_caller]
    pub fn final_answer_within(&mut self, sent: &Sent, deadline: Duration) -> Sip {
        let answer = self.wait_answer(sent, deadline, |answer| answer.status() >= 200);
        if sent.request.method == "INVITE" && answer.status() >= 300 {
            self.acknowledge(sent, &answer);
        }
        answer
    }

    /// Waits for an answer with this status.
    #[track_caller]
    pub fn wait_status(&mut self, sent: &Sent, status: u16) -> Sip {
        self.wait_answer(sent, SOON, |answer| answer.status() == status)
    }

    /// The dialog that a 2xx to an INVITE opened, acknowledged.
    #[track_caller]
    pub fn established(&mut self, sent: &Sent) -> Dialog {
        let answer = self.final_answer(sent);
        assert_eq!(answer.status(), 200, "INVITE:\n{answer}");
        self.established_by(sent, &answer)
    }

    /// The dialog that this 2xx to an INVITE opened, acknowledged.
    #[track_caller]
    pub fn established_by(&mut self, sent: &Sent, answer: &Sip) -> Dialog {
        let dialog = Dialog::of_caller(&sent.request, answer);
        let mut ack = dialog.request("ACK");
        ack.cseq = sent.request.cseq;
        self.send(&ack);
        dialog
    }

    /// Cancels a request under way.
    #[track_caller]
    pub fn cancel(&mut self, sent: &Sent) -> Sip {
        let mut cancel = sent.request.clone();
        "CANCEL".clone_into(&mut cancel.method);
        cancel.headers.retain(|(name, _)| name == "Route");
        cancel.body = None;
        let cancelled = self.send_with_branch(&cancel, &sent.branch);
        self.final_answer(&cancelled)
    }

    /// The request again, with credentials that answer the challenge in `answer`.
    #[track_caller]
    pub fn authorize(&mut self, request: &Request, answer: &Sip) -> Request {
        self.authorized(request, answer)
            .unwrap_or_else(|| panic!("no challenge that {} can answer:\n{answer}", self.user))
    }

    fn authorized(&mut self, request: &Request, answer: &Sip) -> Option<Request> {
        let (challenge, header) = match answer.status() {
            401 => (answer.header("WWW-Authenticate")?, "Authorization"),
            407 => (answer.header("Proxy-Authenticate")?, "Proxy-Authorization"),
            _ => return None,
        };
        let credentials = Credentials { user: self.login.clone(), password: self.password.clone()? };
        let value = credentials.answer(challenge, &request.method, &request.uri, &mut self.nonce_uses);
        let mut second = request.clone();
        second.cseq += 1;
        Some(second.with(header, &value))
    }

    /// ACK for a refused INVITE: part of the INVITE's own transaction (RFC 3261 §17.1.1.3).
    fn acknowledge(&mut self, sent: &Sent, answer: &Sip) {
        let mut ack = sent.request.clone();
        "ACK".clone_into(&mut ack.method);
        ack.to = answer.header("To").unwrap_or_default().to_owned();
        ack.headers.retain(|(name, _)| name == "Route");
        ack.body = None;
        self.send_with_branch(&ack, &sent.branch);
    }

    /// Sends a request in a transaction of its own.
    #[track_caller]
    pub fn send(&mut self, request: &Request) -> Sent {
        self.send_with_branch(request, &format!("z9hG4bK{}", unique()))
    }

    #[track_caller]
    fn send_with_branch(&mut self, request: &Request, branch: &str) -> Sent {
        let transport = self.line.transport().name().to_uppercase();
        let host = self.host().host;
        let bytes = request.to_bytes(&format!("SIP/2.0/{transport} {host};branch={branch};rport"));
        self.send_bytes(&bytes);
        Sent { request: request.clone(), branch: branch.to_owned(), bytes }
    }

    /// Waits for an answer to `sent` that `wanted` accepts, sending the request again over UDP as long as nothing comes.
    #[track_caller]
    fn wait_answer(&mut self, sent: &Sent, deadline: Duration, wanted: impl Fn(&Sip) -> bool) -> Sip {
        let start = Instant::now();
        let mut next_send = RETRANSMIT;
        let mut answered = false;
        loop {
            let ours = |message: &Sip| message.answers(&sent.branch, &sent.request.method);
            if let Some(answer) = self.take(|message| ours(message) && wanted(message)) {
                return answer;
            }
            // Provisional answers that nobody waits for only say that the request has arrived.
            while self.take(|message| ours(message)).is_some() {
                answered = true;
            }
            assert!(
                start.elapsed() < deadline,
                "no fitting answer within {deadline:?} to:\n{}",
                String::from_utf8_lossy(&sent.bytes)
            );
            if self.is_udp() && !answered && start.elapsed() > next_send && sent.request.method != "ACK" {
                next_send = (next_send * 2).min(next_send + Duration::from_secs(4));
                self.send_bytes(&sent.bytes);
            }
            self.receive();
        }
    }

    // ── being asked ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Waits for a request with this method.
    #[track_caller]
    pub fn incoming(&mut self, method: &str) -> Sip {
        self.incoming_within(method, SOON)
            .unwrap_or_else(|| panic!("no {method} came to {}'s phone; there are {:?}", self.user, self.inbox))
    }

    /// Waits for a request with this method, but not longer than `deadline`.
    pub fn incoming_within(&mut self, method: &str, deadline: Duration) -> Option<Sip> {
        let start = Instant::now();
        loop {
            if let Some(request) = self.take(|message| message.status() == 0 && message.method() == method) {
                return Some(request);
            }
            if start.elapsed() >= deadline {
                return None;
            }
            self.receive();
        }
    }

    /// Answers a request. A body goes as `application/sdp`.
    #[track_caller]
    pub fn reply(&mut self, request: &Sip, status: u16, reason: &str, body: &str) {
        let bytes = request.response(status, reason, &self.contact(), body);
        let branch = request.branch().unwrap_or_default();
        self.answers.insert((branch, request.method().to_owned()), bytes.clone());
        self.send_bytes(&bytes);
    }

    /// Answers a request with 302 and this one contact.
    #[track_caller]
    pub fn redirect(&mut self, request: &Sip, contact: &str) {
        let bytes = request.response(302, "Moved Temporarily", contact, "");
        let branch = request.branch().unwrap_or_default();
        self.answers.insert((branch, request.method().to_owned()), bytes.clone());
        self.send_bytes(&bytes);
    }

    /// [`SDP`], in the family of addresses that this phone has.
    pub fn sdp(&self) -> String {
        if self.local.is_ipv4() { SDP.to_owned() } else { SDP.replace("IP4 127.0.0.1", "IP6 ::1") }
    }

    /// Takes an INVITE and does not wait for the ACK.
    #[track_caller]
    pub fn accept_later(&mut self, invite: &Sip) -> Dialog {
        self.reply(invite, 200, "OK", &self.sdp());
        Dialog::of_callee(invite)
    }

    /// Takes an INVITE: 200 with a session description; returns once the ACK has come.
    #[track_caller]
    pub fn accept(&mut self, invite: &Sip) -> Dialog {
        self.reply(invite, 200, "OK", &self.sdp());
        self.incoming("ACK");
        Dialog::of_callee(invite)
    }

    /// Ends a call; the other phone says that it has heard so.
    #[track_caller]
    pub fn hang_up(&mut self, dialog: &mut Dialog, other: &mut ScriptedPhone) {
        let bye = self.send(&dialog.next_request("BYE"));
        let received = other.incoming("BYE");
        other.reply(&received, 200, "OK", "");
        assert_eq!(self.final_answer(&bye).status(), 200);
    }

    // ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Sends exactly these bytes: one datagram, a piece of the stream, or one frame.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).expect("send to the node");
    }

    /// Sends exactly these bytes; the node may have closed the connection.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.line.send(self.server, bytes)
    }

    /// The next message of any kind, if one comes before the deadline.
    pub fn next(&mut self, deadline: Duration) -> Option<Sip> {
        let start = Instant::now();
        while start.elapsed() < deadline {
            if let Some(message) = self.inbox.pop_front() {
                return Some(message);
            }
            if self.is_closed() {
                return None;
            }
            self.receive();
        }
        self.inbox.pop_front()
    }

    /// Fails if anything but answers has come, or was on its way: the node answers a question first, and what it sent here
    /// before has come by then.
    #[track_caller]
    pub fn assert_left_alone(&mut self) {
        let uri = format!("sip:{}", self.server);
        self.ask_once(&Request::new("OPTIONS", &uri, "sip:probe@probe.invalid", &uri));
        let request = self.take(|message| message.status() == 0);
        assert_eq!(request, None, "something came to {}'s phone", self.user);
    }

    /// Whether the node has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.line.is_closed()
    }

    fn take(&mut self, wanted: impl Fn(&Sip) -> bool) -> Option<Sip> {
        let position = self.inbox.iter().position(wanted)?;
        self.inbox.remove(position)
    }

    /// Reads what comes within a short while.
    fn receive(&mut self) {
        for message in self.line.receive() {
            self.sort_in(message);
        }
    }

    fn sort_in(&mut self, message: Sip) {
        if message.status() == 0 {
            let key = (message.branch().unwrap_or_default(), message.method().to_owned());
            if let Some(answer) = self.answers.get(&key).cloned() {
                self.send_bytes(&answer);
                return;
            }
        }
        if self.seen.insert(message.raw.clone()) {
            self.inbox.push_back(message);
        }
    }
}

/// How a phone names itself.
struct Host {
    host: String,
    parameter: &'static str,
}

/// A request that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What was sent.
    pub request: Request,
    branch: String,
    bytes: Vec<u8>,
}

/// A short text that no other call of this function, in any process of this machine, returns.
pub fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{:x}x{:x}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Whether the node at `server` answers an OPTIONS over this transport: the sign of life after each attack.
pub fn is_alive(transport: Transport, server: SocketAddr) -> bool {
    let mut phone = match transport {
        Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss if TcpStream::connect(server).is_err() => {
            return false;
        }
        Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
            ScriptedPhone::new(transport, server)
        }
    };
    let request =
        Request::new("OPTIONS", &format!("sip:{server}"), "sip:probe@probe.invalid", &format!("sip:{server}"));
    let sent = phone.send(&request);
    let start = Instant::now();
    let mut again = RETRANSMIT;
    while start.elapsed() < SOON {
        if phone.take(|message| message.answers(&sent.branch, "OPTIONS")).is_some() {
            return true;
        }
        if phone.is_closed() {
            return false;
        }
        if transport == Transport::Udp && start.elapsed() > again {
            again += RETRANSMIT;
            phone.send_bytes(&sent.bytes);
        }
        phone.receive();
    }
    false
}
