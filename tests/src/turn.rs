//! STUN and TURN on the wire: a client that makes every mistake a test wants, and coturn's `turnutils_uclient`, which makes none.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_lc_rs::hmac;
use md5::{Digest, Md5};
use serde_json::Value;

use crate::MeshNode;
use crate::command::{need, path_with_servers};
use crate::lan::Host;
use crate::ports::PortBlock;

const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// How long an answer may take that does come, on loopback and beside other tests.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How long is waited for what must not come.
const SILENCE: Duration = Duration::from_millis(400);

/// Ports of relays: above those that Linux gives to others' sockets; of the nodes of several tests each takes what is free there.
const RELAY_PORTS: &str = "61000-65535";

/// Attributes that tests put in or look at.
pub mod attribute {
    #![allow(missing_docs, reason = "the names are the RFCs'")]
    pub const CHANGE_REQUEST: u16 = 0x0003;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const CHANNEL_NUMBER: u16 = 0x000c;
    pub const LIFETIME: u16 = 0x000d;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const CONNECTION_ID: u16 = 0x002a;
    pub const FINGERPRINT: u16 = 0x8028;
}

/// Types of messages.
pub mod kind {
    #![allow(missing_docs, reason = "the names are the RFCs'")]
    pub const BINDING: u16 = 0x0001;
    pub const ALLOCATE: u16 = 0x0003;
    pub const REFRESH: u16 = 0x0004;
    pub const CREATE_PERMISSION: u16 = 0x0008;
    pub const CHANNEL_BIND: u16 = 0x0009;
    pub const CONNECT: u16 = 0x000a;
    pub const CONNECTION_BIND: u16 = 0x000b;
    pub const SEND: u16 = 0x0016;
    pub const DATA: u16 = 0x0017;
    pub const CONNECTION_ATTEMPT: u16 = 0x001c;
}

/// REQUESTED-TRANSPORT for UDP.
pub const OVER_UDP: (u16, &[u8]) = (attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);

/// REQUESTED-TRANSPORT for TCP (RFC 6062).
pub const OVER_TCP: (u16, &[u8]) = (attribute::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);

/// The ports of a node's TURN server, and its settings.
#[derive(Debug)]
pub struct TurnPorts {
    block: PortBlock,
}

impl TurnPorts {
    /// Two ports to listen at.
    pub fn reserve() -> TurnPorts {
        TurnPorts { block: PortBlock::reserve() }
    }

    /// Where it listens, over UDP and TCP.
    pub fn plain(&self) -> SocketAddr {
        self.block.address(0)
    }

    /// Where it listens over TLS.
    pub fn tls(&self) -> SocketAddr {
        self.block.address(1)
    }

    /// The part of a configuration file that asks for it, on these addresses of the node, with more keys of `[turn]`.
    pub fn settings(&self, host: IpAddr, more: &str) -> String {
        let at = |port| SocketAddr::new(host, port);
        let (plain, tls) = (at(self.plain().port()), at(self.tls().port()));
        format!("[turn]\nlisten = [\"{plain}\"]\ntls = [\"{tls}\"]\nports = \"{RELAY_PORTS}\"\n{more}\n")
    }
}

/// A login.
#[derive(Debug, Clone)]
pub struct Login {
    /// The username.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl Login {
    /// One that the node gives out for a user.
    #[track_caller]
    pub fn for_user(node: &MeshNode, user: &str) -> Login {
        let printed = node.must(&["turn-credentials", user]);
        Login::of(&serde_json::from_str(&printed).expect("JSON"))
    }

    /// The one in what a node prints.
    #[track_caller]
    pub fn of(printed: &Value) -> Login {
        let text = |key: &str| printed[key].as_str().expect("a text").to_owned();
        Login { username: text("username"), password: text("credential") }
    }

    /// Adds the login to a request, and signs it.
    fn signed(&self, nonce: &[u8], mut bytes: Vec<u8>) -> Vec<u8> {
        put(&mut bytes, attribute::USERNAME, self.username.as_bytes());
        put(&mut bytes, attribute::REALM, crate::DOMAIN.as_bytes());
        put(&mut bytes, attribute::NONCE, nonce);
        let len = u16::try_from(bytes.len() - 20 + 24).expect("short");
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        let tag = hmac::sign(&self.key(), &bytes);
        put(&mut bytes, attribute::MESSAGE_INTEGRITY, tag.as_ref());
        bytes
    }

    fn key(&self) -> hmac::Key {
        let text = format!("{}:{}:{}", self.username, crate::DOMAIN, self.password);
        hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &Md5::digest(text.as_bytes()))
    }
}

/// A client over UDP.
#[derive(Debug)]
pub struct TurnClient {
    socket: UdpSocket,
    server: SocketAddr,
    login: Login,
    nonce: Vec<u8>,
    transaction: u64,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The whole message.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The code of an error, 0 for none.
    pub fn code(&self) -> u16 {
        self.attribute(attribute::ERROR_CODE).map_or(0, |value| u16::from(value[2]) * 100 + u16::from(value[3]))
    }

    /// An attribute.
    pub fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        let mut at = 20;
        while at + 4 <= self.bytes.len() {
            let kind = u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]);
            let len = usize::from(u16::from_be_bytes([self.bytes[at + 2], self.bytes[at + 3]]));
            if kind == wanted {
                return self.bytes.get(at + 4..at + 4 + len);
            }
            at += 4 + len.next_multiple_of(4);
        }
        None
    }

    /// An IPv4 address in an attribute.
    pub fn address(&self, wanted: u16) -> Option<SocketAddr> {
        let value = self.attribute(wanted)?;
        let port = u16::from_be_bytes([value[2] ^ MAGIC[0], value[3] ^ MAGIC[1]]);
        let octets: Vec<u8> = value[4..8].iter().zip(MAGIC).map(|(byte, key)| byte ^ key).collect();
        let octets: [u8; 4] = octets.try_into().ok()?;
        Some((Ipv4Addr::from(octets), port).into())
    }
}

/// An address as XOR-PEER-ADDRESS has it; the transaction id only matters for IPv6.
pub fn xored(address: SocketAddr, transaction: &[u8; 12]) -> Vec<u8> {
    let key = [MAGIC.as_slice(), transaction].concat();
    let (family, octets) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let port = address.port().to_be_bytes();
    let mut value = vec![0, family, port[0] ^ key[0], port[1] ^ key[1]];
    value.extend(octets.iter().zip(&key).map(|(byte, key)| byte ^ key));
    value
}

/// A message of these attributes.
pub fn message(kind: u16, transaction: &[u8; 12], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = [&kind.to_be_bytes(), [0, 0].as_slice(), &MAGIC, transaction].concat();
    for (kind, value) in attributes {
        put(&mut bytes, *kind, value);
    }
    bytes
}

/// Adds an attribute.
pub fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend(kind.to_be_bytes());
    bytes.extend(u16::try_from(value.len()).expect("short").to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let len = u16::try_from(bytes.len() - 20).expect("short");
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
}

impl TurnClient {
    /// A client of its own address, with a login, that has asked nothing yet.
    #[track_caller]
    pub fn new(server: SocketAddr, login: Login) -> TurnClient {
        let socket = UdpSocket::bind((server.ip(), 0)).expect("a port");
        TurnClient { socket, server, login, nonce: Vec::new(), transaction: 0 }
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("our address")
    }

    /// Sends bytes as they are.
    pub fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.server).expect("sent");
    }

    /// What comes next, if anything does soon.
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.receive_within(ANSWERS_WITHIN)
    }

    /// Whether nothing comes.
    pub fn hears_nothing(&self) -> bool {
        self.receive_within(SILENCE).is_none()
    }

    fn receive_within(&self, time: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(time)).expect("a time");
        let mut buffer = vec![0; 65_536];
        let (len, _) = self.socket.recv_from(&mut buffer).ok()?;
        buffer.truncate(len);
        Some(buffer)
    }

    fn next_transaction(&mut self) -> [u8; 12] {
        self.transaction += 1;
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&self.transaction.to_be_bytes());
        transaction
    }

    /// Sends a message as it is and waits for its answer.
    pub fn exchange(&self, bytes: &[u8]) -> Option<Answer> {
        self.send(bytes);
        loop {
            let answer = self.receive()?;
            if answer.get(8..20) == bytes.get(8..20) {
                return Some(Answer { bytes: answer });
            }
        }
    }

    /// Asks without a login.
    pub fn ask_plainly(&mut self, kind: u16, attributes: &[(u16, &[u8])]) -> Option<Answer> {
        let transaction = self.next_transaction();
        self.exchange(&message(kind, &transaction, attributes))
    }

    /// Asks with the login, after the server's challenge.
    #[track_caller]
    pub fn ask(&mut self, kind: u16, attributes: &[(u16, &[u8])]) -> Answer {
        let transaction = self.next_transaction();
        self.ask_as(&transaction, kind, attributes)
    }

    #[track_caller]
    fn ask_as(&mut self, transaction: &[u8; 12], kind: u16, attributes: &[(u16, &[u8])]) -> Answer {
        if self.nonce.is_empty() {
            let challenge = self.ask_plainly(kind::ALLOCATE, &[OVER_UDP]).expect("a challenge");
            assert_eq!(challenge.code(), 401);
            self.nonce = challenge.attribute(attribute::NONCE).expect("a nonce").to_vec();
        }
        let signed = self.signed(transaction, kind, attributes);
        self.exchange(&signed).expect("an answer")
    }

    /// A request with the login, signed.
    pub fn signed(&self, transaction: &[u8; 12], kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        self.login.signed(&self.nonce, message(kind, transaction, attributes))
    }

    /// Allocates and returns the relayed address, or the code of the error.
    ///
    /// # Errors
    /// The code.
    #[track_caller]
    pub fn allocate(&mut self) -> Result<SocketAddr, u16> {
        let answer = self.ask(kind::ALLOCATE, &[OVER_UDP]);
        answer.address(attribute::XOR_RELAYED_ADDRESS).ok_or(answer.code())
    }

    /// Permits a peer and returns the code.
    #[track_caller]
    pub fn permit(&mut self, peer: SocketAddr) -> u16 {
        let transaction = self.next_transaction();
        let peer = xored(peer, &transaction);
        self.ask_as(&transaction, kind::CREATE_PERMISSION, &[(attribute::XOR_PEER_ADDRESS, &peer)]).code()
    }

    /// Binds a channel and returns the code.
    #[track_caller]
    pub fn bind(&mut self, number: u16, peer: SocketAddr) -> u16 {
        let transaction = self.next_transaction();
        let peer = xored(peer, &transaction);
        let number = [number.to_be_bytes().as_slice(), &[0, 0]].concat();
        let attributes = [(attribute::CHANNEL_NUMBER, number.as_slice()), (attribute::XOR_PEER_ADDRESS, &peer)];
        self.ask_as(&transaction, kind::CHANNEL_BIND, &attributes).code()
    }

    /// Sends data over a channel.
    pub fn send_over(&self, number: u16, data: &[u8]) {
        let len = u16::try_from(data.len()).expect("short");
        self.send(&[number.to_be_bytes().as_slice(), &len.to_be_bytes(), data].concat());
    }

    /// Sends data by a Send indication.
    pub fn send_to(&mut self, peer: SocketAddr, data: &[u8]) {
        let transaction = self.next_transaction();
        let peer = xored(peer, &transaction);
        let attributes = [(attribute::XOR_PEER_ADDRESS, peer.as_slice()), (attribute::DATA, data)];
        self.send(&message(kind::SEND, &transaction, &attributes));
    }
}

/// A client over TCP, for connections with peers (RFC 6062).
#[derive(Debug)]
pub struct TurnStream {
    stream: TcpStream,
    login: Login,
    nonce: Vec<u8>,
    transaction: u64,
    /// Indications that came while an answer was waited for.
    indications: VecDeque<Answer>,
}

impl TurnStream {
    /// A connection to the server.
    #[track_caller]
    pub fn open(server: SocketAddr, login: Login) -> TurnStream {
        let stream = TcpStream::connect(server).expect("the TURN server");
        stream.set_read_timeout(Some(ANSWERS_WITHIN)).expect("a time");
        TurnStream { stream, login, nonce: Vec::new(), transaction: 0, indications: VecDeque::new() }
    }

    fn read(&mut self) -> Option<Answer> {
        let mut bytes = vec![0; 20];
        self.stream.read_exact(&mut bytes).ok()?;
        let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        bytes.resize(20 + len, 0);
        self.stream.read_exact(&mut bytes[20..]).ok()?;
        Some(Answer { bytes })
    }

    fn exchange(&mut self, bytes: &[u8]) -> Option<Answer> {
        self.stream.write_all(bytes).ok()?;
        loop {
            let answer = self.read()?;
            if answer.bytes.get(8..20) == bytes.get(8..20) {
                return Some(answer);
            }
            self.indications.push_back(answer);
        }
    }

    #[track_caller]
    fn ask(&mut self, kind: u16, attributes: impl Fn(&[u8; 12]) -> Vec<(u16, Vec<u8>)>) -> Answer {
        self.transaction += 1;
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&self.transaction.to_be_bytes());
        if self.nonce.is_empty() {
            let challenge = self.exchange(&message(kind::ALLOCATE, &[9; 12], &[OVER_TCP])).expect("a challenge");
            self.nonce = challenge.attribute(attribute::NONCE).expect("a nonce").to_vec();
        }
        let attributes = attributes(&transaction);
        let attributes: Vec<_> = attributes.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
        let signed = self.login.signed(&self.nonce, message(kind, &transaction, &attributes));
        self.exchange(&signed).expect("an answer")
    }

    /// Allocates for connections and returns the relayed address, or the code of the error.
    ///
    /// # Errors
    /// The code.
    #[track_caller]
    pub fn allocate(&mut self) -> Result<SocketAddr, u16> {
        let answer = self.ask(kind::ALLOCATE, |_| vec![(OVER_TCP.0, OVER_TCP.1.to_vec())]);
        answer.address(attribute::XOR_RELAYED_ADDRESS).ok_or(answer.code())
    }

    /// Permits a peer and returns the code.
    #[track_caller]
    pub fn permit(&mut self, peer: SocketAddr) -> u16 {
        let peer = |transaction: &_| vec![(attribute::XOR_PEER_ADDRESS, xored(peer, transaction))];
        self.ask(kind::CREATE_PERMISSION, peer).code()
    }

    /// Connects to a peer and returns the connection's number.
    ///
    /// # Errors
    /// The code.
    #[track_caller]
    pub fn connect(&mut self, peer: SocketAddr) -> Result<u32, u16> {
        let peer = |transaction: &_| vec![(attribute::XOR_PEER_ADDRESS, xored(peer, transaction))];
        let answer = self.ask(kind::CONNECT, peer);
        connection_id(&answer).ok_or(answer.code())
    }

    /// The next peer that has connected: the connection's number, and who it is.
    pub fn attempt(&mut self) -> Option<(u32, SocketAddr)> {
        let told = match self.indications.pop_front() {
            Some(told) => told,
            None => self.read()?,
        };
        assert_eq!(told.bytes.get(..2), Some(kind::CONNECTION_ATTEMPT.to_be_bytes().as_slice()));
        Some((connection_id(&told)?, told.address(attribute::XOR_PEER_ADDRESS)?))
    }

    /// Makes this connection one with that of a peer.
    ///
    /// # Errors
    /// The code.
    #[track_caller]
    pub fn join(mut self, id: u32) -> Result<TcpStream, u16> {
        let answer = self.ask(kind::CONNECTION_BIND, |_| vec![(attribute::CONNECTION_ID, id.to_be_bytes().to_vec())]);
        if answer.code() == 0 { Ok(self.stream) } else { Err(answer.code()) }
    }
}

fn connection_id(answer: &Answer) -> Option<u32> {
    Some(u32::from_be_bytes(answer.attribute(attribute::CONNECTION_ID)?.try_into().ok()?))
}

/// Puts a box before a host that shows every peer another port, and lets nobody in over UDP to whom nothing was sent from that port before
/// (RFC 4787: address and port-dependent mapping and filtering, "symmetric").
#[track_caller]
pub fn put_behind_a_symmetric_box(host: &Host) {
    nft(
        host,
        "table ip box { chain input { type filter hook input priority 0; policy accept; \
         iif != lo meta l4proto udp ct state new drop; }; \
         chain output { type nat hook postrouting priority 100; policy accept; \
         oif != lo meta l4proto udp masquerade to :20000-60000 fully-random; }; }",
    );
}

/// Puts a firewall between the host of this number and all others that lets UDP of it through to these ports alone, and silently drops all
/// other. What a host drops itself would be told to the program that sends.
#[track_caller]
pub fn put_behind_a_wall(number: u8, host: &Host, udp: &[u16]) {
    let allowed: Vec<String> = udp.iter().map(u16::to_string).collect();
    let drop = match allowed.as_slice() {
        [] => "meta l4proto udp drop;".to_owned(),
        some => format!("udp dport != {{ {} }} drop;", some.join(", ")),
    };
    let outside = format!(
        "table netdev wall{number} {{ chain leaving {{ type filter hook ingress device port{number} priority 0; {drop} }}; }}"
    );
    assert!(nft_command().arg(&outside).status().expect("nft").success(), "{outside}");
    nft(
        host,
        "table ip wall { chain input { type filter hook input priority 0; policy accept; \
         iif != lo meta l4proto udp ct state new drop; }; }",
    );
}

fn nft_command() -> Command {
    need("nft", "nftables");
    let mut command = Command::new("nft");
    command.env("PATH", path_with_servers());
    command
}

#[track_caller]
fn nft(host: &Host, rules: &str) {
    need("nft", "nftables");
    crate::namespace::run(crate::namespace::within(&host.namespace(), "nft").arg(rules));
}

/// coturn's echo, until it is dropped.
#[derive(Debug)]
pub struct EchoPeer {
    child: Child,
    port: u16,
    /// Keeps the port from other tests.
    _block: PortBlock,
}

impl EchoPeer {
    /// Starts it on loopback of these families.
    #[track_caller]
    pub fn start(hosts: &[IpAddr]) -> EchoPeer {
        need("turnutils_peer", "coturn");
        let block = PortBlock::reserve();
        let port = block.port(0);
        let mut command = Command::new("turnutils_peer");
        command.env("PATH", path_with_servers()).args(["-p", &port.to_string()]);
        for host in hosts {
            command.args(["-L", &host.to_string()]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("turnutils_peer");
        let echo = EchoPeer { child, port, _block: block };
        for host in hosts {
            let socket = UdpSocket::bind((*host, 0)).expect("a port");
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
            crate::eventually(crate::SOON, "the echo to answer", || {
                let sent = socket.send_to(&[b'x'; 100], (*host, port));
                sent.is_ok() && socket.recv_from(&mut [0; 200]).is_ok()
            });
        }
        echo
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for EchoPeer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What coturn's `turnutils_natdiscovery` finds out with a server of two addresses (RFC 5780).
#[track_caller]
pub fn natdiscovery(server: SocketAddr) -> String {
    need("turnutils_natdiscovery", "coturn");
    let mut command = Command::new("turnutils_natdiscovery");
    command.env("PATH", path_with_servers()).args(["-m", "-f", "-p", &server.port().to_string()]);
    let done = command.arg(server.ip().to_string()).output().expect("turnutils_natdiscovery");
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

/// Runs `turnutils_uclient` and fails the test unless every message came back through the relay. Its exit code says nothing: what it
/// prints does.
#[track_caller]
pub fn assert_relays(server: SocketAddr, login: &Login, flags: &[&str], peer: Option<(IpAddr, u16)>) {
    need("turnutils_uclient", "coturn");
    let port = server.port().to_string();
    let mut command = Command::new("turnutils_uclient");
    command.args(["-u", &login.username, "-w", &login.password, "-p", &port, "-n", "20", "-m", "2", "-l", "171"]);
    if let Some((host, port)) = peer {
        command.args(["-e", &host.to_string(), "-r", &port.to_string()]);
    }
    let done = command.args(flags).arg(server.ip().to_string()).output().expect("turnutils_uclient");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    let figure = |name: &str| {
        let line = said.lines().rev().find_map(|line| line.split_once(name).map(|(_, rest)| rest.to_owned()))?;
        let digits = line.trim_start_matches([':', '=', ' ']);
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().ok()
    };
    let (sent, received) = (figure("tot_send_msgs"), figure("tot_recv_msgs"));
    assert!(sent.is_some_and(|sent| sent >= 40) && sent == received, "{flags:?}: {said}");
}
