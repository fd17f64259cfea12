//! The machine: what a client or a peer sent goes in, what is to be sent comes out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::allocation::Allocation;
use super::connect::{ConnectionId, Connections};
use super::fair::Fair;
use super::nonce::Nonces;
use super::{Budget, CHANNEL_HEADER_LEN, CHANNELS, Client, Host, Limits, Reach, RelayId, source_of};
use crate::stun::{Class, Family, Message, Writer, attribute, method};

/// How often what has run out is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a port that EVEN-PORT reserved waits for its allocation (RFC 8656 §7.2).
pub(super) const RESERVED_FOR: Duration = Duration::from_secs(30);
/// Ports reserved at once, which are sockets as well.
pub(super) const MAX_RESERVATIONS: usize = 64;

/// What becomes of what a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Nothing,
    /// This goes back to the client.
    Answer(Vec<u8>),
    /// This goes back to the client, from another listener (RFC 5780).
    AnswerFrom {
        /// Which.
        listener: u16,
        /// The answer.
        answer: Vec<u8>,
    },
    /// This part of it goes to a peer.
    ToPeer {
        /// From this relayed address.
        relay: RelayId,
        /// To there.
        peer: SocketAddr,
        /// Which bytes.
        data: Range<usize>,
    },
    /// A connection is to be made; what comes of it goes to [`Server::handle_connected`].
    Connect {
        /// Its number.
        connection: ConnectionId,
        /// From this relayed address.
        relay: RelayId,
        /// To there.
        peer: SocketAddr,
    },
    /// This goes back to the client, and from then on its connection is one with that of the peer: what comes over either goes out over
    /// the other, as [`Server::handle_stream`] lets it.
    Join {
        /// The peer's.
        connection: ConnectionId,
        /// The answer.
        answer: Vec<u8>,
    },
}

/// How what a peer sent goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToClient {
    /// To whom.
    pub client: Client,
    /// As ChannelData of this channel; otherwise as a Data indication.
    pub channel: Option<u16>,
}

/// How the server stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Allocations by user, most first.
    pub by_user: Vec<(String, usize)>,
    /// Allocations of clients that came over a connection.
    pub by_connection: usize,
    /// Connections of clients that are one with a peer's (RFC 6062).
    pub joined: usize,
    /// Bytes of data relayed since the start, both ways.
    pub relayed_bytes: u64,
    /// Bytes that were dropped since somebody wanted more than his share.
    pub held_back_bytes: u64,
    /// Requests that were refused since the start: no login, a quota, a peer that is not to be reached.
    pub refused: u64,
}

/// A user with allocations.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) allocations: usize,
}

/// A port that waits for its allocation.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) relay: RelayId,
    pub(super) address: SocketAddr,
    pub(super) owner: String,
    pub(super) until: Instant,
}

/// A TURN server.
#[derive(Debug)]
pub struct Server {
    pub(super) realm: String,
    pub(super) limits: Limits,
    pub(super) nonces: Nonces,
    /// When it began: nonces and budgets count from there.
    began: Instant,
    budget: Budget,
    /// Where the listeners are, by their numbers, as clients see them.
    listeners: Vec<SocketAddr>,
    pub(super) allocations: HashMap<Client, Allocation>,
    pub(super) relays: HashMap<RelayId, Client>,
    pub(super) owners: HashMap<u64, Owner>,
    pub(super) sources: HashMap<IpAddr, usize>,
    pub(super) reservations: HashMap<[u8; 8], Reservation>,
    pub(super) connections: Connections,
    /// Numbers given to relayed addresses and owners.
    last_number: u64,
    pub(super) fair: Fair,
    sweeps: Instant,
    pub(super) relayed_bytes: u64,
    pub(super) refused: u64,
}

impl Server {
    /// A server for users of this realm; `nonce_key` is nobody else's.
    pub fn new(now: Instant, realm: &str, nonce_key: [u8; 32], limits: Limits) -> Server {
        Server {
            realm: realm.to_owned(),
            limits,
            nonces: Nonces::new(nonce_key),
            began: now,
            budget: Budget::default(),
            listeners: Vec::new(),
            allocations: HashMap::new(),
            relays: HashMap::new(),
            owners: HashMap::new(),
            sources: HashMap::new(),
            reservations: HashMap::new(),
            connections: Connections::default(),
            last_number: 0,
            fair: Fair::new(limits.bits_in_all, limits.bits_of_user),
            sweeps: now,
            relayed_bytes: 0,
            refused: 0,
        }
    }

    /// Knows where its listeners for datagrams are, by their numbers. Two addresses with the same two ports each are what a client can find
    /// out the behaviour of its NAT with (RFC 5780).
    pub fn listening_at(mut self, listeners: Vec<SocketAddr>) -> Server {
        self.listeners = listeners;
        self
    }

    /// Takes a datagram, or a message cut out of a stream, from a client.
    pub fn handle_client(&mut self, now: Instant, client: Client, bytes: &[u8], host: &mut impl Host) -> Outcome {
        if let Some([k0, k1, l0, l1]) = bytes.first_chunk::<CHANNEL_HEADER_LEN>().copied()
            && CHANNELS.contains(&u16::from_be_bytes([k0, k1]))
        {
            let len = usize::from(u16::from_be_bytes([l0, l1]));
            let data = CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + len;
            // Over UDP there may be padding.
            if bytes.get(data.clone()).is_none() {
                return Outcome::Nothing;
            }
            return self.on_channel_data(now, client, u16::from_be_bytes([k0, k1]), data, host);
        }
        let Some(message) = Message::read(bytes) else { return Outcome::Nothing };
        match (message.class, message.method) {
            (Class::Request, method::BINDING) => self.on_binding(now, client, &message, bytes.len()),
            (Class::Request, _) => self.on_request(now, client, &message, bytes.len(), host),
            (Class::Indication, method::SEND) => self.on_send(now, client, &message, host),
            // Other indications, a Binding to keep a NAT's binding among them, and answers nobody asked for.
            (Class::Indication | Class::Success | Class::Error, _) => Outcome::Nothing,
        }
    }

    /// Takes a datagram of `len` bytes that a peer sent to a relayed address; `None`: it goes nowhere.
    pub fn handle_peer(&mut self, now: Instant, relay: RelayId, peer: SocketAddr, len: usize) -> Option<ToClient> {
        let client = *self.relays.get(&relay)?;
        let allocation = self.allocations.get(&client)?;
        let is_there = allocation.relays.iter().any(|known| known.id == relay && known.until > now);
        if !is_there
            || allocation.is_tcp
            || !allocation.permits(now, peer.ip())
            || !self.fair.take(now, allocation.owner, len)
        {
            return None;
        }
        self.relayed_bytes = self.relayed_bytes.saturating_add(u64::try_from(len).unwrap_or_default());
        Some(ToClient { client, channel: allocation.number_of(now, peer) })
    }

    /// The connection of a client ended: what he has ends with it (RFC 8656 §3.1, RFC 6062 §5.5).
    pub fn handle_closed(&mut self, client: Client, host: &mut impl Host) {
        self.unbind(client, host);
        self.remove(client, host);
    }

    /// A user is one no longer, or has another password: what was allocated to him is taken back, but for what bears this stamp.
    pub fn revoke(&mut self, owner: &str, except: Option<u64>, host: &mut impl Host) {
        let number = self.owners.iter().find(|(_, known)| known.name == owner).map(|(number, _)| *number);
        let Some(number) = number else { return };
        let is_over = |allocation: &Allocation| allocation.owner == number && Some(allocation.stamp) != except;
        let theirs = self.allocations.iter().filter(|(_, allocation)| is_over(allocation));
        let clients: Vec<Client> = theirs.map(|(client, _)| *client).collect();
        for client in clients {
            self.remove(client, host);
        }
    }

    /// Ends what has run out.
    pub fn handle_timeout(&mut self, now: Instant, host: &mut impl Host) {
        if now < self.sweeps {
            return;
        }
        self.sweeps = now + SWEEP_EVERY;
        let mut over = Vec::new();
        for (client, allocation) in &mut self.allocations {
            allocation.relays.retain(|relay| {
                if relay.until > now {
                    return true;
                }
                self.relays.remove(&relay.id);
                host.close(relay.id);
                false
            });
            if allocation.relays.is_empty() {
                over.push(*client);
            }
        }
        for client in over {
            self.remove(client, host);
        }
        self.hang_up_late(now, host);
        self.reservations.retain(|_, reservation| {
            let stays = reservation.until > now;
            if !stays {
                host.close(reservation.relay);
            }
            stays
        });
    }

    /// When [`handle_timeout`](Server::handle_timeout) has something to look for, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.allocations.is_empty() || !self.reservations.is_empty()).then_some(self.sweeps)
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let mut by_user: Vec<_> = self.owners.values().map(|owner| (owner.name.clone(), owner.allocations)).collect();
        by_user.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        Standing {
            by_user,
            by_connection: self.allocations.keys().filter(|client| client.is_connection()).count(),
            joined: self.connections.joined(),
            relayed_bytes: self.relayed_bytes,
            held_back_bytes: self.fair.held_back(),
            refused: self.refused,
        }
    }

    /// Whether a relayed address is in use: what is sent there from this machine comes to a client.
    pub fn has_relay(&self, relay: RelayId) -> bool {
        self.relays.contains_key(&relay)
    }

    fn on_channel_data(
        &mut self,
        now: Instant,
        client: Client,
        number: u16,
        data: Range<usize>,
        host: &impl Host,
    ) -> Outcome {
        let Some(allocation) = self.allocations.get(&client) else { return Outcome::Nothing };
        let Some(channel) = allocation.channel(now, number).copied() else { return Outcome::Nothing };
        if channel.is_near && host.reach(channel.peer) == Reach::Never {
            return Outcome::Nothing;
        }
        self.send_to_peer(now, client, channel.peer, data)
    }

    fn on_send(&mut self, now: Instant, client: Client, message: &Message<'_>, host: &impl Host) -> Outcome {
        // DONT-FRAGMENT cannot be done for one datagram alone, and then nothing is sent (RFC 8656 §11.2).
        let is_known = |kind: u16| kind >= 0x8000 || matches!(kind, attribute::XOR_PEER_ADDRESS | attribute::DATA);
        if !message.attributes().all(|(kind, _)| is_known(kind)) {
            return Outcome::Nothing;
        }
        let peer = message.attribute(attribute::XOR_PEER_ADDRESS).and_then(|value| message.address(value));
        let (Some(peer), Some(data)) = (peer, message.place_of(attribute::DATA)) else { return Outcome::Nothing };
        if host.reach(peer) == Reach::Never {
            return Outcome::Nothing;
        }
        self.send_to_peer(now, client, peer, data)
    }

    /// What every byte to a peer passes, whatever brought it.
    fn send_to_peer(&mut self, now: Instant, client: Client, peer: SocketAddr, data: Range<usize>) -> Outcome {
        let Some(allocation) = self.allocations.get(&client) else { return Outcome::Nothing };
        let Some(relay) = allocation.relay(Family::of(peer)).filter(|relay| relay.until > now) else {
            return Outcome::Nothing;
        };
        if allocation.is_tcp
            || !allocation.permits(now, peer.ip())
            || !self.fair.take(now, allocation.owner, data.len())
        {
            return Outcome::Nothing;
        }
        self.relayed_bytes = self.relayed_bytes.saturating_add(u64::try_from(data.len()).unwrap_or_default());
        Outcome::ToPeer { relay: relay.id, peer, data }
    }

    fn on_binding(&mut self, now: Instant, client: Client, message: &Message<'_>, len: usize) -> Outcome {
        // Whoever signs, and names himself, need not here.
        let mut known = vec![attribute::USERNAME, attribute::REALM, attribute::NONCE];
        let others = Others::of(&self.listeners, client);
        known.extend(others.as_ref().map(|_| attribute::CHANGE_REQUEST));
        let unknown = message.unknown(&known);
        if !unknown.is_empty() {
            let answer = Writer::answer(Class::Error, message).put_error(420).put_unknown(&unknown);
            return self.answer_stranger(now, client, len, finish(answer, message));
        }
        let mut answer =
            Writer::answer(Class::Success, message).put_address(attribute::XOR_MAPPED_ADDRESS, client.remote());
        let mut from = None;
        if let Some(others) = others {
            let chosen = others.chosen(message.number(attribute::CHANGE_REQUEST).unwrap_or_default());
            let place = |index: usize| self.listeners.get(index).copied();
            let (Some(origin), Some(other)) = (place(chosen), place(others.both)) else { return Outcome::Nothing };
            answer = answer.put_plain_address(attribute::RESPONSE_ORIGIN, origin);
            answer = answer.put_plain_address(attribute::OTHER_ADDRESS, other);
            from = u16::try_from(chosen).ok().filter(|_| chosen != others.own);
        }
        match (self.answer_stranger(now, client, len, finish(answer, message)), from) {
            (Outcome::Answer(answer), Some(listener)) => Outcome::AnswerFrom { listener, answer },
            (outcome, _) => outcome,
        }
    }

    /// An answer to whoever has not proved who he is.
    pub(super) fn answer_stranger(&mut self, now: Instant, client: Client, len: usize, answer: Vec<u8>) -> Outcome {
        let is_safe = client.is_connection() || answer.len() <= len;
        if is_safe || self.budget.allows(self.now_ms(now), source_of(client.remote())) {
            Outcome::Answer(answer)
        } else {
            Outcome::Nothing
        }
    }

    pub(super) fn now_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn now_s(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.began).as_secs()).unwrap_or(u32::MAX)
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Takes back all that a client has.
    pub(super) fn remove(&mut self, client: Client, host: &mut impl Host) {
        let Some(allocation) = self.allocations.remove(&client) else { return };
        self.hang_up_all(client, host);
        for relay in &allocation.relays {
            self.relays.remove(&relay.id);
            host.close(relay.id);
        }
        if let Some(owner) = self.owners.get_mut(&allocation.owner) {
            owner.allocations = owner.allocations.saturating_sub(1);
            if owner.allocations == 0 {
                self.owners.remove(&allocation.owner);
            }
        }
        let source = source_of(client.remote());
        if let Some(count) = self.sources.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// The listeners that are another address, another port, or both, as seen from one of them (RFC 5780 §7.2).
struct Others {
    own: usize,
    port: usize,
    address: usize,
    both: usize,
}

/// The bits of CHANGE-REQUEST.
const CHANGE_ADDRESS: u32 = 4;
const CHANGE_PORT: u32 = 2;

impl Others {
    fn of(listeners: &[SocketAddr], client: Client) -> Option<Others> {
        let Client::Datagrams { listener, .. } = client else { return None };
        let own_index = usize::from(listener);
        let own = listeners.get(own_index).filter(|own| !own.ip().is_unspecified())?;
        let at = |ip: IpAddr, port: u16| listeners.iter().position(|known| *known == SocketAddr::new(ip, port));
        let is_family = |other: &&SocketAddr| other.is_ipv4() == own.is_ipv4() && !other.ip().is_unspecified();
        listeners
            .iter()
            .filter(is_family)
            .filter(|other| other.ip() != own.ip() && other.port() != own.port())
            .find_map(|other| {
                let (port, address) = (at(own.ip(), other.port())?, at(other.ip(), own.port())?);
                Some(Others { own: own_index, port, address, both: at(other.ip(), other.port())? })
            })
    }

    fn chosen(&self, change: u32) -> usize {
        match (change & CHANGE_ADDRESS != 0, change & CHANGE_PORT != 0) {
            (false, false) => self.own,
            (false, true) => self.port,
            (true, false) => self.address,
            (true, true) => self.both,
        }
    }
}

/// What a peer sent, as a Data indication (RFC 8656 §11.4).
pub fn data_indication(peer: SocketAddr, data: &[u8], transaction: [u8; 12]) -> Vec<u8> {
    let writer = Writer::new(Class::Indication, method::DATA, transaction);
    writer.put_address(attribute::XOR_PEER_ADDRESS, peer).put(attribute::DATA, data).finish()
}

/// With FINGERPRINT where the request has one: it may be that only so it is known among other packets.
pub(super) fn finish(answer: Writer, request: &Message<'_>) -> Vec<u8> {
    if request.has_fingerprint { answer.with_fingerprint().finish() } else { answer.finish() }
}

/// The header of ChannelData.
pub fn channel_header(number: u16, len: usize) -> [u8; CHANNEL_HEADER_LEN] {
    let ([n0, n1], [l0, l1]) = (number.to_be_bytes(), u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    [n0, n1, l0, l1]
}
