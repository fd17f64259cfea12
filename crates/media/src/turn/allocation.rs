//! An allocation (RFC 8656 §6): what one client has, and whom it permitted.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

use super::RelayId;
use crate::stun::Family;

/// How long an allocation lasts unless it is refreshed, by default and at most (RFC 8656 §7.2).
pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// How long a permission lasts (RFC 8656 §9).
const PERMISSION_LASTS: Duration = Duration::from_secs(300);
/// How long a channel lasts (RFC 8656 §12).
const CHANNEL_LASTS: Duration = Duration::from_secs(600);
/// Peers of one allocation. A call has as many as the other side has candidates: one to ten.
pub(super) const MAX_PERMISSIONS: usize = 64;
/// Channels of one allocation: one for each of these peers.
pub(super) const MAX_CHANNELS: usize = 64;

/// A relayed address of an allocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relay {
    pub(super) id: RelayId,
    pub(super) address: SocketAddr,
    pub(super) until: Instant,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Permission {
    peer: IpAddr,
    until: Instant,
}

/// A number that stands for a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: SocketAddr,
    /// Whether the peer is of this machine, where ports come and go.
    pub(super) is_near: bool,
    until: Instant,
}

/// Why a channel was not bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotBound {
    /// The number or the peer is bound otherwise.
    Otherwise,
    /// There are too many.
    TooMany,
}

/// What a client has.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) username: String,
    pub(super) owner: u64,
    pub(super) stamp: u64,
    pub(super) key: hmac::Key,
    /// Of the request that made it, for telling it when it comes twice, and what that was answered.
    pub(super) transaction: [u8; 12],
    pub(super) answer: Vec<u8>,
    /// Whether they are for connections (RFC 6062).
    pub(super) is_tcp: bool,
    /// One, or one of each family.
    pub(super) relays: Vec<Relay>,
    pub(super) permissions: Vec<Permission>,
    pub(super) channels: Vec<Channel>,
}

impl Allocation {
    /// Its relayed address of a family.
    pub(super) fn relay(&self, family: Family) -> Option<&Relay> {
        self.relays.iter().find(|relay| Family::of(relay.address) == family)
    }

    /// Permits these peers, all or none; false where there are too many.
    pub(super) fn permit(&mut self, now: Instant, peers: &[IpAddr]) -> bool {
        self.permissions.retain(|permission| permission.until > now);
        let new = peers.iter().filter(|peer| !self.permissions.iter().any(|known| known.peer == **peer)).count();
        if self.permissions.len() + new > MAX_PERMISSIONS {
            return false;
        }
        let until = now + PERMISSION_LASTS;
        for peer in peers {
            match self.permissions.iter_mut().find(|permission| permission.peer == *peer) {
                Some(permission) => permission.until = until,
                None => self.permissions.push(Permission { peer: *peer, until }),
            }
        }
        true
    }

    /// Whether data may pass between it and a peer.
    pub(super) fn permits(&self, now: Instant, peer: IpAddr) -> bool {
        self.permissions.iter().any(|permission| permission.peer == peer && permission.until > now)
    }

    /// Binds a number to a peer, or refreshes that, and permits the peer.
    pub(super) fn bind(&mut self, now: Instant, number: u16, peer: SocketAddr, is_near: bool) -> Result<(), NotBound> {
        self.channels.retain(|channel| channel.until > now);
        let until = now + CHANNEL_LASTS;
        let known = self.channels.iter().position(|channel| channel.number == number || channel.peer == peer);
        let is_same = |channel: &Channel| channel.number == number && channel.peer == peer;
        let is_full = self.channels.len() >= MAX_CHANNELS;
        match known.and_then(|at| self.channels.get_mut(at)) {
            Some(channel) if !is_same(channel) => return Err(NotBound::Otherwise),
            Some(channel) => channel.until = until,
            None if is_full => return Err(NotBound::TooMany),
            None => self.channels.push(Channel { number, peer, is_near, until }),
        }
        if self.permit(now, &[peer.ip()]) { Ok(()) } else { Err(NotBound::TooMany) }
    }

    /// The channel of a number.
    pub(super) fn channel(&self, now: Instant, number: u16) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.number == number && channel.until > now)
    }

    /// The number bound to a peer.
    pub(super) fn number_of(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let bound = self.channels.iter().find(|channel| channel.peer == peer && channel.until > now);
        bound.map(|channel| channel.number)
    }
}
