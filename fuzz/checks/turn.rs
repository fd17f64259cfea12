//! What holds for any bytes at the TURN server, whoever sends them: the first byte says who, and how, a length stands before it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meshtone_media::stun::{Class, Family, Message, Writer, attribute, integrity_key, method};
use meshtone_media::turn::{
    Client, ConnectionId, Frame, Host, Limits, Login, Outcome, Port, Reach, RelayId, Server, next_frame,
};

const KEY: [u8; 16] = [7; 16];

/// Opens and counts; ports below a thousand are never to be reached.
#[derive(Default)]
struct Counting {
    open: Vec<RelayId>,
    last: u16,
    sent: Cell<usize>,
    connections: Vec<ConnectionId>,
}

impl Host for Counting {
    fn login(&mut self, username: &str) -> Option<Login> {
        (username == "alice").then(|| Login { owner: username.to_owned(), key: KEY, stamp: 0 })
    }

    fn reach(&self, peer: SocketAddr) -> Reach {
        if peer.port() < 1000 { Reach::Never } else { Reach::Always }
    }

    fn has_family(&self, _: Family) -> bool {
        true
    }

    fn open(&mut self, relay: RelayId, family: Family, port: Port) -> Option<SocketAddr> {
        self.last = self.last.checked_add(2)?;
        self.open.push(relay);
        if let Port::EvenWithNext(next) = port {
            self.open.push(next);
        }
        let ip = if family == Family::V4 { "192.0.2.1" } else { "2001:db8::1" };
        Some(SocketAddr::new(ip.parse().expect("an address"), self.last))
    }

    fn close(&mut self, relay: RelayId) {
        let at = self.open.iter().position(|open| *open == relay).expect("what is closed was open");
        self.open.swap_remove(at);
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        self.sent.set(self.sent.get() + 1);
        bytes.fill(self.sent.get() as u8);
    }

    fn reach_by_connection(&self, peer: SocketAddr) -> Reach {
        self.reach(peer)
    }

    fn listen(&mut self, relay: RelayId, family: Family) -> Option<SocketAddr> {
        self.open(relay, family, Port::Any)
    }

    fn hang_up(&mut self, connection: ConnectionId) {
        let at = self.connections.iter().position(|known| *known == connection).expect("what is hung up was there");
        self.connections.swap_remove(at);
    }
}

/// Sends each piece as one of four clients, as it is or as a signed request with its bytes for attributes.
pub(crate) fn check(data: &[u8]) {
    let mut now = Instant::now();
    let limits = Limits { allocations_of_user: 3, ..Limits::default() };
    let listeners = [(1, 1), (1, 2), (2, 1), (2, 2)].map(|(ip, port)| SocketAddr::from(([203, 0, 113, ip], port)));
    let server = Server::new(now, "mesh.test", [1; 32], limits).listening_at(listeners.to_vec());
    let (mut server, mut host) = (server, Counting::default());
    let mut rest = data;
    while let [how, len, behind @ ..] = rest {
        let (piece, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        let remote = SocketAddr::from(([192, 0, 2, how & 1], 5000));
        let client = match how & 2 {
            0 => Client::Datagrams { listener: 0, remote },
            // Each has one to ask over, and one for data (RFC 6062).
            _ => Client::Connection { number: u64::from(how & 1) + 2 * u64::from(*how >= 0xe0), remote },
        };
        let bytes = match (how >> 2) % 10 {
            _ if *how >= 0xc0 => {
                let method = if *how >= 0xe0 { method::CONNECTION_BIND } else { method::CONNECT };
                signed(&mut server, &mut host, now, client, method, piece)
            }
            0 | 1 => piece.to_vec(),
            9 => {
                now += Duration::from_secs(u64::from(*len) * 4);
                server.handle_timeout(now, &mut host);
                continue;
            }
            method => signed(&mut server, &mut host, now, client, u16::from(method) + 1, piece),
        };
        match server.handle_client(now, client, &bytes, &mut host) {
            Outcome::Nothing => {}
            Outcome::Answer(answer) | Outcome::AnswerFrom { answer, .. } => {
                let answer = Message::read(&answer).expect("an answer can be read");
                let asked = Message::read(&bytes).expect("only what can be read is answered");
                assert_eq!((answer.method, answer.transaction), (asked.method, asked.transaction));
                assert!(matches!(answer.class, Class::Success | Class::Error));
            }
            Outcome::Connect { connection, relay, peer } => {
                assert!(host.open.contains(&relay) && peer.port() >= 1000, "{peer}");
                host.connections.push(connection);
                // Every third is not made; the second is left as it is.
                if connection.0 % 3 != 2 && server.handle_connected(now, connection, connection.0 % 3 == 1).is_some() {
                    host.connections.retain(|known| *known != connection || connection.0 % 3 == 1);
                }
            }
            Outcome::Join { connection, answer } => {
                assert!(host.connections.contains(&connection) && Message::read(&answer).is_some());
                assert!(server.handle_stream(now, connection, 100).is_some());
            }
            Outcome::ToPeer { relay, peer, data } => {
                assert!(host.open.contains(&relay) && peer.port() >= 1000, "{peer}");
                assert!(bytes.get(data).is_some());
            }
        }
        assert!(host.open.len() <= 3 * 2 + 64, "no more than the quota");
        for relay in host.open.clone() {
            let peer = SocketAddr::from(([198, 51, 100, 7], 6000));
            if let Some((connection, ..)) = server.handle_incoming(now, relay, peer, &mut host) {
                host.connections.push(connection);
            }
        }
        assert!(host.connections.len() <= 32, "no more than the quota");
        if let Frame::Whole { len, next } = next_frame(&bytes) {
            assert!(len <= next && next <= bytes.len());
        }
    }
    server.revoke("alice", None, &mut host);
    now += Duration::from_secs(31);
    server.handle_timeout(now, &mut host);
    assert!(host.open.is_empty() && host.connections.is_empty(), "what was opened is closed");
}

fn signed(
    server: &mut Server,
    host: &mut Counting,
    now: Instant,
    client: Client,
    method: u16,
    piece: &[u8],
) -> Vec<u8> {
    let plain = Writer::new(Class::Request, method::ALLOCATE, [0; 12]).finish();
    let Outcome::Answer(challenge) = server.handle_client(now, client, &plain, host) else { return plain };
    let challenge = Message::read(&challenge).expect("an answer can be read");
    let nonce = challenge.attribute(attribute::NONCE).unwrap_or_default().to_vec();
    let mut writer = Writer::new(Class::Request, method, [piece.len() as u8; 12]);
    let mut rest = piece;
    while let [kind, len, behind @ ..] = rest {
        let (value, behind) = behind.split_at(behind.len().min(usize::from(*len & 31)));
        rest = behind;
        let kind = if kind & 0x80 == 0 { u16::from(*kind) } else { 0x8000 | u16::from(kind & 0x3f) };
        writer = writer.put(kind, value);
    }
    writer
        .put(attribute::USERNAME, b"alice")
        .put(attribute::REALM, b"mesh.test")
        .put(attribute::NONCE, &nonce)
        .sign(&integrity_key(&KEY))
        .finish()
}
