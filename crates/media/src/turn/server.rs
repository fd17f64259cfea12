//! The machine: what a client or a peer sent goes in, what is to be sent comes out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::allocation::Allocation;
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
    /// This part of it goes to a peer.
    ToPeer {
        /// From this relayed address.
        relay: RelayId,
        /// To there.
        peer: SocketAddr,
        /// Which bytes.
        data: Range<usize>,
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
    pub(super) allocations: HashMap<Client, Allocation>,
    pub(super) relays: HashMap<RelayId, Client>,
    pub(super) owners: HashMap<u64, Owner>,
    pub(super) sources: HashMap<IpAddr, usize>,
    pub(super) reservations: HashMap<[u8; 8], Reservation>,
    /// Numbers given to relayed addresses and owners.
    last_number: u64,
    fair: Fair,
    sweeps: Instant,
    relayed_bytes: u64,
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
            allocations: HashMap::new(),
            relays: HashMap::new(),
            owners: HashMap::new(),
            sources: HashMap::new(),
            reservations: HashMap::new(),
            last_number: 0,
            fair: Fair::new(limits.bits_in_all, limits.bits_of_user),
            sweeps: now,
            relayed_bytes: 0,
            refused: 0,
        }
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
        if !is_there || !allocation.permits(now, peer.ip()) || !self.fair.take(now, allocation.owner, len) {
            return None;
        }
        self.relayed_bytes = self.relayed_bytes.saturating_add(u64::try_from(len).unwrap_or_default());
        Some(ToClient { client, channel: allocation.number_of(now, peer) })
    }

    /// The connection of a client ended: what he has ends with it (RFC 8656 §3.1).
    pub fn handle_closed(&mut self, client: Client, host: &mut impl Host) {
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
        if !allocation.permits(now, peer.ip()) || !self.fair.take(now, allocation.owner, data.len()) {
            return Outcome::Nothing;
        }
        self.relayed_bytes = self.relayed_bytes.saturating_add(u64::try_from(data.len()).unwrap_or_default());
        Outcome::ToPeer { relay: relay.id, peer, data }
    }

    fn on_binding(&mut self, now: Instant, client: Client, message: &Message<'_>, len: usize) -> Outcome {
        // Whoever signs, and names himself, need not here.
        let unknown = message.unknown(&[attribute::USERNAME, attribute::REALM, attribute::NONCE]);
        let answer = if unknown.is_empty() {
            Writer::answer(Class::Success, message).put_address(attribute::XOR_MAPPED_ADDRESS, client.remote())
        } else {
            Writer::answer(Class::Error, message).put_error(420).put_unknown(&unknown)
        };
        self.answer_stranger(now, client, len, finish(answer, message))
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
