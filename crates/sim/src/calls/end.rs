//! One end of a call: a client of STUN and TURN that checks pairs of addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use meshtone_media::stun::{Class, Message, Writer, attribute, integrity_key, method};

use super::{KEY, Packet, SERVER, Way, outside};

/// Whether it speaks to the server over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Udp,
    Tcp,
}

/// An end.
#[derive(Debug)]
pub(super) struct End {
    /// Where its sound comes from: its own address, which is the outer one where there is no box.
    base: SocketAddr,
    /// Where its connection to the server comes from.
    connection: SocketAddr,
    over: Over,
    heard_over_udp: bool,
    /// As the server sees it.
    mapped: Option<SocketAddr>,
    relayed: Option<SocketAddr>,
    nonce: Vec<u8>,
    last: u16,
    /// Checks that are out: transaction, to whom, and whether through the relay.
    out: Vec<([u8; 12], SocketAddr, bool)>,
    /// Peers whose checks came without their having been told of: their boxes map anew for each.
    met: BTreeSet<SocketAddr>,
    /// Pairs that work: the other side's address, and whether through our relay.
    working: BTreeSet<(SocketAddr, bool)>,
}

impl End {
    pub(super) fn new(index: usize) -> End {
        let ip = outside(index);
        End {
            base: SocketAddr::new(ip, 4000),
            connection: SocketAddr::new(ip, 4443),
            over: Over::Udp,
            heard_over_udp: false,
            mapped: None,
            relayed: None,
            nonce: Vec::new(),
            last: 0,
            out: Vec::new(),
            met: BTreeSet::new(),
            working: BTreeSet::new(),
        }
    }

    pub(super) fn is_connection(&self, address: SocketAddr) -> bool {
        address == self.connection
    }

    pub(super) fn heard_over_udp(&self) -> bool {
        self.heard_over_udp
    }

    /// Nothing came back over UDP.
    pub(super) fn use_connection(&mut self) {
        self.over = Over::Tcp;
    }

    /// What it can be reached by, as far as it knows.
    pub(super) fn candidates(&self) -> Vec<SocketAddr> {
        let own = (self.over == Over::Udp).then_some(self.base);
        own.into_iter().chain(self.mapped).chain(self.relayed).collect()
    }

    /// Asks the server where it is seen, and for a relayed address.
    pub(super) fn ask(&mut self) -> Vec<Packet> {
        let binding = Writer::new(Class::Request, method::BINDING, self.next()).finish();
        let allocate = Writer::new(Class::Request, method::ALLOCATE, self.next()).finish();
        [binding, allocate].map(|bytes| self.to_server(bytes)).into()
    }

    /// Permits the other side's addresses at the relay.
    pub(super) fn permissions(&mut self, theirs: &[SocketAddr]) -> Vec<Packet> {
        if self.relayed.is_none() || theirs.is_empty() {
            return Vec::new();
        }
        let writer = Writer::new(Class::Request, method::CREATE_PERMISSION, self.next());
        let writer = theirs.iter().fold(writer, |writer, peer| writer.put_address(attribute::XOR_PEER_ADDRESS, *peer));
        let signed = self.sign(writer);
        vec![self.to_server(signed)]
    }

    /// Checks of every pair there is, as far as they have not been found to work.
    pub(super) fn checks(&mut self, theirs: &[SocketAddr]) -> Vec<Packet> {
        let peers: BTreeSet<SocketAddr> = theirs.iter().copied().chain(self.met.iter().copied()).collect();
        let mut packets = Vec::new();
        for peer in peers {
            for by_relay in [false, true] {
                let is_there = if by_relay { self.relayed.is_some() } else { self.over == Over::Udp };
                if is_there && !self.working.contains(&(peer, by_relay)) {
                    let transaction = self.next();
                    self.out.push((transaction, peer, by_relay));
                    let check = Writer::new(Class::Request, method::BINDING, transaction).finish();
                    packets.push(self.send(peer, by_relay, check));
                }
            }
        }
        packets
    }

    /// The best way found.
    pub(super) fn best(&self) -> Way {
        let is_relay = |peer: &SocketAddr| peer.ip() == SocketAddr::from(SERVER).ip();
        let way = |(peer, by_relay): &(SocketAddr, bool)| match (by_relay, self.over) {
            (true, Over::Tcp) => Way::RelayedTcp,
            (true, Over::Udp) => Way::RelayedUdp,
            // Through the other side's relay, who knows how it speaks to that.
            (false, _) if is_relay(peer) => Way::RelayedUdp,
            (false, _) => Way::Direct,
        };
        let found = self.working.iter().map(way).min().unwrap_or(Way::None);
        // Where there is no UDP, whatever works goes over the connection.
        if self.over == Over::Tcp { found.max(Way::RelayedTcp) } else { found }
    }

    /// Takes a packet that came to one of its own addresses; returns what it answers.
    pub(super) fn handle(&mut self, to: SocketAddr, from: SocketAddr, bytes: &[u8]) -> Vec<Packet> {
        let Some(message) = Message::read(bytes) else { return Vec::new() };
        if from == SocketAddr::from(SERVER) {
            if to == self.base {
                self.heard_over_udp = true;
            }
            if (message.class, message.method) == (Class::Indication, method::DATA) {
                let peer = message.attribute(attribute::XOR_PEER_ADDRESS).and_then(|value| message.address(value));
                return match (peer, message.attribute(attribute::DATA)) {
                    (Some(peer), Some(data)) => self.on_peer(peer, true, data),
                    _ => Vec::new(),
                };
            }
            return self.on_server(&message);
        }
        self.on_peer(from, false, bytes)
    }

    fn on_server(&mut self, message: &Message<'_>) -> Vec<Packet> {
        let address = |kind| message.attribute(kind).and_then(|value| message.address(value));
        match (message.class, message.method) {
            (Class::Success, method::BINDING) if self.over == Over::Udp => {
                self.mapped = address(attribute::XOR_MAPPED_ADDRESS);
                Vec::new()
            }
            (Class::Success, method::ALLOCATE) => {
                self.relayed = address(attribute::XOR_RELAYED_ADDRESS);
                Vec::new()
            }
            (Class::Error, method::ALLOCATE) if self.relayed.is_none() => {
                self.nonce = message.attribute(attribute::NONCE).unwrap_or_default().to_vec();
                let writer = Writer::new(Class::Request, method::ALLOCATE, self.next());
                let signed = self.sign(writer.put(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
                vec![self.to_server(signed)]
            }
            _ => Vec::new(),
        }
    }

    fn on_peer(&mut self, peer: SocketAddr, by_relay: bool, bytes: &[u8]) -> Vec<Packet> {
        let Some(message) = Message::read(bytes) else { return Vec::new() };
        match message.class {
            Class::Request => {
                self.met.insert(peer);
                let answer = Writer::answer(Class::Success, &message);
                let answer = answer.put_address(attribute::XOR_MAPPED_ADDRESS, peer).finish();
                vec![self.send(peer, by_relay, answer)]
            }
            Class::Success => {
                let asked = self.out.iter().find(|(transaction, ..)| *transaction == message.transaction);
                // An answer counts that comes back the way its check went (RFC 8445 §7.2.5.2.1).
                if let Some((_, whom, through)) = asked
                    && (*whom, *through) == (peer, by_relay)
                {
                    self.working.insert((peer, by_relay));
                }
                Vec::new()
            }
            Class::Indication | Class::Error => Vec::new(),
        }
    }

    fn send(&mut self, peer: SocketAddr, by_relay: bool, bytes: Vec<u8>) -> Packet {
        if !by_relay {
            return Packet { from: self.base, to: peer, bytes };
        }
        let writer = Writer::new(Class::Indication, method::SEND, self.next());
        let writer = writer.put_address(attribute::XOR_PEER_ADDRESS, peer).put(attribute::DATA, &bytes);
        self.to_server(writer.finish())
    }

    fn to_server(&self, bytes: Vec<u8>) -> Packet {
        let from = if self.over == Over::Udp { self.base } else { self.connection };
        Packet { from, to: SERVER.into(), bytes }
    }

    fn sign(&self, writer: Writer) -> Vec<u8> {
        writer
            .put(attribute::USERNAME, b"somebody")
            .put(attribute::REALM, b"sim.test")
            .put(attribute::NONCE, &self.nonce)
            .sign(&integrity_key(&KEY))
            .finish()
    }

    fn next(&mut self) -> [u8; 12] {
        self.last = self.last.wrapping_add(1);
        let mut transaction = [0; 12];
        let [high, low] = self.last.to_be_bytes();
        // Told apart from the other end's by the address.
        if let IpAddr::V4(ip) = self.base.ip() {
            let [.., own] = ip.octets();
            transaction[..3].copy_from_slice(&[own, high, low]);
        }
        transaction
    }
}
