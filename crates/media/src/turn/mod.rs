//! A TURN server (RFC 8656) with STUN's Binding (RFC 8489) at the same port: relayed addresses for phones and browsers that nothing
//! reaches directly. A machine without clock, sockets or randomness of its own; what needs any of these it asks of its [`Host`].
//!
//! What an open node has to hold against: whoever has no login makes it keep nothing and send next to nothing ([`Budget`]); whoever has
//! one reaches what the host says and nothing else, holds so many allocations, and gets a fair share of the way ([`fair`]).
//! **Invariant:** an allocation belongs to one 5-tuple and one user, data passes only between it and peers that its user permitted.

mod allocation;
mod budget;
mod connect;
pub mod fair;
mod framing;
mod nonce;
mod request;
mod server;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub use budget::Budget;
pub use connect::{CONNECT_WITHIN, ConnectionId};
pub use framing::{Frame, MAX_FRAME_LEN, next_frame};
pub use server::{Outcome, Server, Standing, ToClient, channel_header, data_indication};

use crate::stun::Family;

/// Channel numbers that may be bound: RFC 8656 §12 has those up to 0x4fff, clients of RFC 5766 go on to 0x7fff.
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;
/// Length of ChannelData's header.
pub const CHANNEL_HEADER_LEN: usize = 4;

/// A client's end of the 5-tuple; the server's end is the listener, or the connection itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// By datagrams.
    Datagrams {
        /// Which of the server's sockets.
        listener: u16,
        /// The client's address.
        remote: SocketAddr,
    },
    /// By a connection, over TCP or TLS.
    Connection {
        /// Its number, never used twice.
        number: u64,
        /// The client's address.
        remote: SocketAddr,
    },
}

impl Client {
    /// The client's address.
    pub const fn remote(&self) -> SocketAddr {
        match self {
            Client::Datagrams { remote, .. } | Client::Connection { remote, .. } => *remote,
        }
    }

    const fn is_connection(&self) -> bool {
        matches!(self, Client::Connection { .. })
    }
}

/// A relayed transport address, by number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(pub u64);

/// Who is behind a username.
#[derive(Debug, Clone)]
pub struct Login {
    /// Whose share and quota it is: several usernames may be one user's.
    pub owner: String,
    /// The key of the long-term credential: MD5 of `username:realm:password` (RFC 8489 §9.2.2).
    pub key: [u8; 16],
    /// Another number as soon as the user has another password.
    pub stamp: u64,
}

/// Whether data may go to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Never: it is not on the Internet, or is a service of this machine.
    Never,
    /// At any time.
    Always,
    /// It is of this machine: as long as media is taken there, which is to be asked again for each packet.
    WhileOpen,
}

/// Which port is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Any.
    Any,
    /// An even one.
    Even,
    /// An even one, and the next one to be kept under this number.
    EvenWithNext(RelayId),
}

/// What this machine needs of the one it runs on.
pub trait Host {
    /// Who is behind a username now; `None` for nobody, or nobody any more.
    fn login(&mut self, username: &str) -> Option<Login>;
    /// Whether data may go there.
    fn reach(&self, peer: SocketAddr) -> Reach;
    /// Whether there are relayed addresses of a family.
    fn has_family(&self, family: Family) -> bool;
    /// Opens a relayed address and returns it as others see it; `None` where no port is free.
    fn open(&mut self, relay: RelayId, family: Family, port: Port) -> Option<SocketAddr>;
    /// Closes one.
    fn close(&mut self, relay: RelayId);
    /// Fills in bytes that nobody can guess.
    fn fill(&mut self, bytes: &mut [u8]);

    /// Whether a connection may be made to there, or come from there (RFC 6062). A host without such says never.
    fn reach_by_connection(&self, _peer: SocketAddr) -> Reach {
        Reach::Never
    }
    /// Opens a relayed address that connections come to and go from, which [`Host::close`] closes.
    fn listen(&mut self, _relay: RelayId, _family: Family) -> Option<SocketAddr> {
        None
    }
    /// Ends a connection with a peer, and that of the client which is one with it, whether or not it stands yet.
    fn hang_up(&mut self, _connection: ConnectionId) {}
}

/// Bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Allocations in all: each takes a socket or two.
    pub allocations: usize,
    /// Those of one user. A browser makes one for each of its addresses, transports and families, and may be in two calls.
    pub allocations_of_user: usize,
    /// Those from one address (in IPv6, one /64): a household.
    pub allocations_of_source: usize,
    /// Connections with peers in all (RFC 6062), each of which takes two sockets; with none there is no TURN for TCP.
    pub connections: usize,
    /// What may be relayed in all, bits a second.
    pub bits_in_all: u64,
    /// What one user may have at most even where nobody else wants any, bits a second.
    pub bits_of_user: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            allocations: 1024,
            allocations_of_user: 48,
            allocations_of_source: 128,
            connections: 256,
            bits_in_all: 200_000_000,
            bits_of_user: 20_000_000,
        }
    }
}

/// The address that limits by source go by: IPv6 gives a household a /64.
fn source_of(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests;
