//! The sockets of relayed addresses, and what else the TURN machine asks of this one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use meshtone_media::stun::Family;
use meshtone_media::turn::{ConnectionId, Host, Login, Port, Reach, RelayId};
use meshtone_sip::transport::Randomness;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::credentials::Credentials;
use super::reach::{Facing, Peers};
use super::streams::Streams;
use super::worker::Way;
use crate::clock::unix_s;
use crate::node::SystemRandomness;

/// Ports tried until one is free: as many as are open at most would have to be met in a row.
const TRIES: usize = 256;

/// An address for relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayAddress {
    /// Where peers find it.
    pub public: IpAddr,
    /// The address of this machine that stands for it.
    pub local: IpAddr,
}

impl std::str::FromStr for RelayAddress {
    type Err = String;

    /// Reads `PUBLIC`, or `PUBLIC/LOCAL` where a NAT stands before this machine.
    fn from_str(text: &str) -> Result<RelayAddress, String> {
        let (public, local) = text.split_once('/').unwrap_or((text, text));
        let read = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| format!("`{text}` is no address"));
        let (public, local) = (read(public)?, read(local)?);
        if public.is_ipv4() != local.is_ipv4() {
            return Err(format!("`{text}` joins two families"));
        }
        Ok(RelayAddress { public, local })
    }
}

/// What the TURN machine runs on.
pub(super) struct Sockets {
    pub(super) epoll: Arc<OwnedFd>,
    pub(super) credentials: Credentials,
    pub(super) ports: RangeInclusive<u16>,
    /// Where relays are, as far as that was said.
    pub(super) relay_addresses: Vec<RelayAddress>,
    pub(super) facing: Facing,
    pub(super) peers: RefCell<Peers>,
    pub(super) open: BTreeMap<RelayId, Relay>,
    /// The addresses of those, as peers see them and as this machine does.
    pub(super) addresses: BTreeSet<SocketAddr>,
    /// Relayed addresses for connections, and those that were made from there or to there.
    pub(super) streams: Streams,
    /// The way to the thread, once there is one.
    pub(super) way: Option<Way>,
    pub(super) random: SystemRandomness,
    /// Added to a relay's number for its number in the poll.
    pub(super) first_token: u64,
}

/// A relayed address.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) socket: UdpSocket,
    addresses: [SocketAddr; 2],
}

impl Sockets {
    fn address(&self, family: Family) -> Option<RelayAddress> {
        let is_v4 = family == Family::V4;
        if !self.relay_addresses.is_empty() {
            return self.relay_addresses.iter().find(|address| address.local.is_ipv4() == is_v4).copied();
        }
        let local = self.facing.outside(is_v4)?;
        Some(RelayAddress { public: local, local })
    }

    /// Numbers of ports, from a random one on.
    fn some_ports(&mut self) -> impl Iterator<Item = u16> + use<> {
        let mut random = [0; 2];
        self.random.fill(&mut random);
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let count = last.checked_sub(first).map_or(0, |span| usize::from(span) + 1);
        let start = usize::from(u16::from_be_bytes(random));
        (0..count.min(TRIES)).filter_map(move |attempt| {
            u16::try_from((start + attempt) % count).ok().and_then(|at| first.checked_add(at))
        })
    }

    /// Connects from a relayed address to a peer, and says what came of it.
    pub(super) fn connect(&mut self, connection: ConnectionId, relay: RelayId, peer: SocketAddr) {
        if let Some(way) = self.way.clone() {
            self.streams.connect(connection, relay, peer, way);
        }
    }

    /// Keeps the connection of a peer until it is joined or hung up on.
    pub(super) fn keep(&mut self, connection: ConnectionId, stream: TcpStream) {
        self.streams.keep(connection, stream);
    }

    /// Takes it, to join it with one of the client's, and what tells when it is to be hung up on.
    pub(super) fn join(&mut self, connection: ConnectionId) -> Option<(TcpStream, oneshot::Receiver<()>)> {
        self.streams.join(connection)
    }

    fn watch(&mut self, relay: RelayId, socket: UdpSocket, public: SocketAddr) -> Option<()> {
        let token = epoll::EventData::new_u64(self.first_token + relay.0);
        epoll::add(&*self.epoll, &socket, token, epoll::EventFlags::IN).ok()?;
        let addresses = [public, socket.local_addr().ok()?];
        self.addresses.extend(addresses);
        self.open.insert(relay, Relay { socket, addresses });
        Some(())
    }
}

impl Host for Sockets {
    fn login(&mut self, username: &str) -> Option<Login> {
        self.credentials.login(username, unix_s())
    }

    fn reach(&self, peer: SocketAddr) -> Reach {
        self.peers.borrow_mut().reach(Instant::now(), peer, |peer| self.addresses.contains(&peer))
    }

    fn has_family(&self, family: Family) -> bool {
        self.address(family).is_some()
    }

    fn open(&mut self, relay: RelayId, family: Family, port: Port) -> Option<SocketAddr> {
        let RelayAddress { public, local } = self.address(family)?;
        let last = *self.ports.end();
        for number in self.some_ports() {
            if port != Port::Any && !number.is_multiple_of(2) {
                continue;
            }
            let Some(socket) = bind(local, number) else { continue };
            if let Port::EvenWithNext(next) = port {
                let Some(following) = number.checked_add(1).filter(|next| *next <= last) else { continue };
                let Some(kept) = bind(local, following) else { continue };
                self.watch(next, kept, SocketAddr::new(public, following))?;
            }
            let address = SocketAddr::new(public, number);
            self.watch(relay, socket, address)?;
            return Some(address);
        }
        None
    }

    fn close(&mut self, relay: RelayId) {
        if let Some(open) = self.open.remove(&relay) {
            let _ = epoll::delete(&*self.epoll, &open.socket);
            for address in open.addresses {
                self.addresses.remove(&address);
            }
        }
        self.streams.close(relay);
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        self.random.fill(bytes);
    }

    fn reach_by_connection(&self, peer: SocketAddr) -> Reach {
        let is_relay = |peer| self.streams.is_relay(peer);
        self.peers.borrow_mut().reach_by_connection(Instant::now(), peer, is_relay)
    }

    fn listen(&mut self, relay: RelayId, family: Family) -> Option<SocketAddr> {
        let RelayAddress { public, local } = self.address(family)?;
        let way = self.way.clone()?;
        self.some_ports().find_map(|port| {
            let address = SocketAddr::new(public, port);
            self.streams.listen(relay, SocketAddr::new(local, port), address, &way).then_some(address)
        })
    }

    fn hang_up(&mut self, connection: ConnectionId) {
        self.streams.hang_up(connection);
    }
}

fn bind(ip: IpAddr, port: u16) -> Option<UdpSocket> {
    let socket = UdpSocket::bind((ip, port)).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_may_stand_behind_another_one() {
        let one: RelayAddress = "203.0.113.9".parse().unwrap();
        assert_eq!(one.public, one.local);
        let two: RelayAddress = "203.0.113.9/10.0.0.2".parse().unwrap();
        assert_eq!(two.local, IpAddr::from([10, 0, 0, 2]));
        for wrong in ["", "a.example", "203.0.113.9/", "203.0.113.9/::1", "203.0.113.9:1"] {
            assert!(wrong.parse::<RelayAddress>().is_err(), "{wrong}");
        }
    }
}
