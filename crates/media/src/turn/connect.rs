//! TURN for TCP (RFC 6062): a relayed address that connections come to and go from, and what joins each with one of the client's own.
//!
//! Who asks and what he may reach is as for datagrams. Sockets are the host's: it makes connections, and passes on what comes once two of
//! them are one; how much at a time it asks here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::allocation::Allocation;
use super::request::{Refusal, check_known, code};
use super::server::{Outcome, Server, finish};
use super::{Client, Host, Reach, RelayId};
use crate::stun::{Class, Family, Message, Writer, attribute, method};

/// How long the host tries to connect (RFC 6062 §5.2: at least that), and how long a connection waits for the client's own (the same).
pub const CONNECT_WITHIN: Duration = Duration::from_secs(30);
const BOUND_WITHIN: Duration = CONNECT_WITHIN;
/// Connections of one allocation: a call over TCP tries each candidate of the other side once, and keeps one or two.
const MAX_OF_ALLOCATION: usize = 16;
/// Connections of one user: two such calls.
const MAX_OF_USER: usize = 32;

/// A connection with a peer: what CONNECTION-ID says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u32);

/// The connections that there are.
#[derive(Debug, Default)]
pub(super) struct Connections {
    all: HashMap<ConnectionId, Connection>,
    bound: HashMap<Client, ConnectionId>,
    last: u32,
}

#[derive(Debug)]
struct Connection {
    /// Whose allocation it is of.
    control: Client,
    owner: u64,
    peer: SocketAddr,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The host connects; this is what the client asked.
    Connecting { transaction: [u8; 12], has_fingerprint: bool },
    /// It stands, and waits for the client's own.
    Waiting { until: Instant },
    /// It is one with this connection of the client.
    Bound { client: Client },
}

impl Connections {
    fn insert(&mut self, connection: Connection) -> ConnectionId {
        loop {
            self.last = self.last.wrapping_add(1);
            let id = ConnectionId(self.last);
            // There are far fewer than numbers.
            if let Entry::Vacant(place) = self.all.entry(id) {
                place.insert(connection);
                return id;
            }
        }
    }

    fn remove(&mut self, id: ConnectionId) {
        if let Some(Connection { state: State::Bound { client }, .. }) = self.all.remove(&id) {
            self.bound.remove(&client);
        }
    }

    fn of(&self, control: Client) -> impl Iterator<Item = &Connection> {
        self.all.values().filter(move |connection| connection.control == control)
    }

    /// Connections that are one with a client's own.
    pub(super) fn joined(&self) -> usize {
        self.bound.len()
    }
}

impl Server {
    /// A Connect was answered by the network: whether the connection stands. What goes to the client, and to which.
    pub fn handle_connected(&mut self, now: Instant, id: ConnectionId, is_made: bool) -> Option<(Client, Vec<u8>)> {
        let connection = self.connections.all.get_mut(&id)?;
        let State::Connecting { transaction, has_fingerprint } = connection.state else { return None };
        let control = connection.control;
        let class = if is_made { Class::Success } else { Class::Error };
        let answer = Writer::new(class, method::CONNECT, transaction);
        let answer = if is_made {
            connection.state = State::Waiting { until: now + BOUND_WITHIN };
            answer.put_number(attribute::CONNECTION_ID, id.0)
        } else {
            self.connections.remove(id);
            answer.put_error(code::CONNECTION_FAILED)
        };
        let answer = answer.sign(&self.allocations.get(&control)?.key);
        let answer = if has_fingerprint { answer.with_fingerprint() } else { answer };
        Some((control, answer.finish()))
    }

    /// A peer has connected to a relayed address. `None`: it is to be hung up on; otherwise what goes to the client, and to which.
    pub fn handle_incoming(
        &mut self,
        now: Instant,
        relay: RelayId,
        peer: SocketAddr,
        host: &mut impl Host,
    ) -> Option<(ConnectionId, Client, Vec<u8>)> {
        let control = *self.relays.get(&relay)?;
        let allocation = self.allocations.get(&control).filter(|allocation| allocation.is_tcp)?;
        let is_there = allocation.relays.iter().any(|known| known.id == relay && known.until > now);
        if !is_there || !allocation.permits(now, peer.ip()) {
            return None;
        }
        let owner = allocation.owner;
        self.check_room(control, owner).ok()?;
        let state = State::Waiting { until: now + BOUND_WITHIN };
        let id = self.connections.insert(Connection { control, owner, peer, state });
        let mut transaction = [0; 12];
        host.fill(&mut transaction);
        let told = Writer::new(Class::Indication, method::CONNECTION_ATTEMPT, transaction)
            .put_number(attribute::CONNECTION_ID, id.0)
            .put_address(attribute::XOR_PEER_ADDRESS, peer);
        Some((id, control, told.finish()))
    }

    /// How many of so many bytes that came over one side of a connection may go to the other one now; they count then. The rest is asked for
    /// again when the window is over ([`super::fair`]), and until then nothing is read. `None`: the connection is over.
    pub fn handle_stream(&mut self, now: Instant, id: ConnectionId, len: usize) -> Option<usize> {
        let Connection { owner, state: State::Bound { .. }, .. } = self.connections.all.get(&id)? else { return None };
        let taken = self.fair.take_some(now, *owner, len);
        self.relayed_bytes = self.relayed_bytes.saturating_add(u64::try_from(taken).unwrap_or_default());
        Some(taken)
    }

    /// Begins a connection to a peer (RFC 6062 §5.2).
    pub(super) fn connect(
        &mut self,
        client: Client,
        message: &Message<'_>,
        host: &impl Host,
    ) -> Result<Outcome, Refusal> {
        check_known(message, &[attribute::XOR_PEER_ADDRESS])?;
        let allocation = self.allocations.get(&client).filter(|allocation| allocation.is_tcp);
        let allocation = allocation.ok_or(code::ALLOCATION_MISMATCH)?;
        let peer = message.attribute(attribute::XOR_PEER_ADDRESS).and_then(|value| message.address(value));
        let peer = peer.ok_or(code::BAD_REQUEST)?;
        if host.reach_by_connection(peer) == Reach::Never {
            return Err(code::FORBIDDEN.into());
        }
        let relay = allocation.relay(Family::of(peer)).ok_or(code::PEER_FAMILY_MISMATCH)?.id;
        if self.connections.of(client).any(|known| known.peer == peer) {
            return Err(code::CONNECTION_EXISTS.into());
        }
        let owner = allocation.owner;
        self.check_room(client, owner)?;
        let state = State::Connecting { transaction: message.transaction, has_fingerprint: message.has_fingerprint };
        let connection = self.connections.insert(Connection { control: client, owner, peer, state });
        Ok(Outcome::Connect { connection, relay, peer })
    }

    /// Joins a connection of the client's with one of a peer (RFC 6062 §5.4).
    pub(super) fn connection_bind(
        &mut self,
        now: Instant,
        client: Client,
        message: &Message<'_>,
    ) -> Result<ConnectionId, Refusal> {
        check_known(message, &[attribute::CONNECTION_ID])?;
        // One that asked for something itself is no way for data.
        let is_free = client.is_connection()
            && !self.allocations.contains_key(&client)
            && !self.connections.bound.contains_key(&client);
        let id = message.number(attribute::CONNECTION_ID).map(ConnectionId).filter(|_| is_free);
        let id = id.ok_or(code::BAD_REQUEST)?;
        match self.connections.all.get_mut(&id) {
            Some(Connection { state: state @ State::Waiting { .. }, .. }) => {
                if matches!(state, State::Waiting { until } if *until <= now) {
                    return Err(code::BAD_REQUEST.into());
                }
                *state = State::Bound { client };
            }
            Some(_) | None => return Err(code::BAD_REQUEST.into()),
        }
        self.connections.bound.insert(client, id);
        Ok(id)
    }

    /// The allocation whose connection a ConnectionBind names: it proves itself by the same key (RFC 6062 §4.3).
    pub(super) fn named_by(&self, message: &Message<'_>) -> Option<&Allocation> {
        let id = message.number(attribute::CONNECTION_ID).filter(|_| message.method == method::CONNECTION_BIND)?;
        self.allocations.get(&self.connections.all.get(&ConnectionId(id))?.control)
    }

    /// The client's side of a connection was closed.
    pub(super) fn unbind(&mut self, client: Client, host: &mut impl Host) {
        if let Some(id) = self.connections.bound.get(&client).copied() {
            self.connections.remove(id);
            host.hang_up(id);
        }
    }

    /// Ends the connections of an allocation.
    pub(super) fn hang_up_all(&mut self, control: Client, host: &mut impl Host) {
        self.hang_up_where(|connection| connection.control == control, host);
    }

    /// Ends those that no client took up.
    pub(super) fn hang_up_late(&mut self, now: Instant, host: &mut impl Host) {
        self.hang_up_where(|connection| matches!(connection.state, State::Waiting { until } if until <= now), host);
    }

    fn hang_up_where(&mut self, is_over: impl Fn(&Connection) -> bool, host: &mut impl Host) {
        let over = self.connections.all.iter().filter(|(_, connection)| is_over(connection));
        let mut over: Vec<ConnectionId> = over.map(|(id, _)| *id).collect();
        over.sort_unstable();
        for id in over {
            self.connections.remove(id);
            host.hang_up(id);
        }
    }

    fn check_room(&self, control: Client, owner: u64) -> Result<(), Refusal> {
        let all = &self.connections.all;
        let of_user = all.values().filter(|connection| connection.owner == owner).count();
        if self.connections.of(control).count() >= MAX_OF_ALLOCATION || of_user >= MAX_OF_USER {
            return Err(code::QUOTA_REACHED.into());
        }
        if all.len() >= self.limits.connections { Err(code::INSUFFICIENT_CAPACITY.into()) } else { Ok(()) }
    }
}

/// The answer of a request that makes two connections one.
pub(super) fn joined(message: &Message<'_>, key: &aws_lc_rs::hmac::Key) -> Vec<u8> {
    finish(Writer::answer(Class::Success, message).sign(key), message)
}
