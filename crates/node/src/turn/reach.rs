//! Which peers data is relayed to: the Internet, and media ports of this very machine. Everything else is a service that trusts whoever
//! is near, or nobody at all.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use meshtone_media::turn::Reach;

use crate::transport::facing;
use crate::transport::policy::Scope;

/// How long it is believed that an address is or is not of this machine.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// The first port that any program may listen at, and so a phone.
const FIRST_OF_PROGRAMS: u16 = 1024;
/// Addresses remembered: those of a few thousand calls.
const MAX_KNOWN: usize = 4096;

/// The rules.
#[derive(Debug)]
pub(super) struct Peers {
    /// Ports of calls that this node carries.
    media: RangeInclusive<u16>,
    /// Addresses that the world knows this machine by, though it does not itself.
    public: Vec<IpAddr>,
    allow_private: bool,
    known: HashMap<IpAddr, (bool, Instant)>,
}

impl Peers {
    pub(super) fn new(media: (u16, u16), public: Vec<IpAddr>, allow_private: bool) -> Peers {
        Peers { media: media.0..=media.1, public, allow_private, known: HashMap::new() }
    }

    /// Whether data may go there; `is_relay` knows the ports of this server that are relayed now.
    pub(super) fn reach(&mut self, now: Instant, peer: SocketAddr, is_relay: impl Fn(SocketAddr) -> bool) -> Reach {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let scope = Scope::of(peer);
        if matches!(scope, Scope::Nowhere | Scope::LinkLocal) {
            return Reach::Never;
        }
        let is_own = self.is_own(now, peer.ip());
        if is_own && (self.media.contains(&peer.port()) || is_relay(peer)) {
            return Reach::WhileOpen;
        }
        match scope {
            _ if self.allow_private => Reach::Always,
            Scope::Global if !is_own => Reach::Always,
            Scope::Nowhere | Scope::Loopback | Scope::LinkLocal | Scope::Private | Scope::Global => Reach::Never,
        }
    }

    /// Whether a connection may be made to there, or come from there; `is_relay` knows the ports of this server that take connections now.
    /// Of this machine only those are reached: no other port that takes connections is for media.
    pub(super) fn reach_by_connection(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        is_relay: impl Fn(SocketAddr) -> bool,
    ) -> Reach {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let scope = Scope::of(peer);
        // Mail servers, shells and the like listen there, and no phone does.
        if matches!(scope, Scope::Nowhere | Scope::LinkLocal) || peer.port() < FIRST_OF_PROGRAMS {
            return Reach::Never;
        }
        let is_own = self.is_own(now, peer.ip());
        match scope {
            _ if is_own && is_relay(peer) => Reach::Always,
            _ if self.allow_private => Reach::Always,
            Scope::Global if !is_own => Reach::Always,
            Scope::Nowhere | Scope::Loopback | Scope::LinkLocal | Scope::Private | Scope::Global => Reach::Never,
        }
    }

    /// Whether an address is of this machine.
    fn is_own(&mut self, now: Instant, ip: IpAddr) -> bool {
        if self.public.contains(&ip) || ip.is_loopback() {
            return true;
        }
        if let Some((is_own, since)) = self.known.get(&ip)
            && now.duration_since(*since) < KNOWN_FOR
        {
            return *is_own;
        }
        let is_own = facing(ip) == Some(ip);
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(ip, (is_own, now));
        is_own
    }
}

/// Finds the address of this machine that others see.
#[derive(Debug)]
pub(super) struct Facing(pub(super) Vec<IpAddr>);

impl Facing {
    /// The address towards the Internet, or, where there is no way to it, one of those that the machine has.
    pub(super) fn outside(&self, is_v4: bool) -> Option<IpAddr> {
        // Whoever is there: these networks are for documentation (RFC 5737, RFC 3849).
        let there = if is_v4 { IpAddr::from([192, 0, 2, 1]) } else { IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]) };
        let is_of_use = |ip: &IpAddr| ip.is_ipv4() == is_v4 && !ip.is_loopback() && !ip.is_unspecified();
        facing(there).filter(is_of_use).or_else(|| self.0.iter().copied().find(is_of_use))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn reach(peers: &mut Peers, address: &str) -> Reach {
        peers.reach(Instant::now(), address.parse().unwrap(), |peer| peer.port() == 50_000)
    }

    #[test]
    fn what_is_not_on_the_internet_is_no_peer() {
        let mut peers = Peers::new((20_000, 20_010), vec!["203.0.113.9".parse().unwrap()], false);
        for address in [
            "127.0.0.1:22",
            "127.8.9.1:80",
            "0.0.0.0:80",
            "10.0.0.1:80",
            "172.16.0.1:80",
            "192.168.0.1:80",
            "100.64.0.1:80",
            "169.254.169.254:80",
            "224.0.0.1:5353",
            "255.255.255.255:9",
            "240.0.0.1:9",
            "198.51.100.1:0",
            "[::]:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:10.0.0.1]:80",
            "[::127.0.0.1]:80",
            "[64:ff9b::10.0.0.1]:80",
            "[2002:a00:1::]:80",
            "[fe80::1]:80",
            "[fd00::1]:80",
            "[ff02::1]:80",
            "203.0.113.9:3478",
            "203.0.113.9:6084",
            "169.254.169.254:20000",
        ] {
            assert_eq!(reach(&mut peers, address), Reach::Never, "{address}");
        }
        assert_eq!(reach(&mut peers, "198.51.100.1:9"), Reach::Always);
        assert_eq!(reach(&mut peers, "[2001:db8::1]:9"), Reach::Always);
    }

    #[test]
    fn of_this_machine_only_ports_of_media_are_peers() {
        let mut peers = Peers::new((20_000, 20_010), vec!["203.0.113.9".parse().unwrap()], false);
        for port in [20_000, 20_010, 50_000] {
            assert_eq!(reach(&mut peers, &format!("203.0.113.9:{port}")), Reach::WhileOpen);
            assert_eq!(reach(&mut peers, &format!("127.0.0.1:{port}")), Reach::WhileOpen);
        }
        assert_eq!(reach(&mut peers, "203.0.113.9:50001"), Reach::Never);
        assert_eq!(reach(&mut peers, "198.51.100.1:50000"), Reach::Always, "another machine's");
    }

    #[test]
    fn where_it_is_allowed_the_own_network_is_a_peer_but_never_many_at_once() {
        let mut peers = Peers::new((20_000, 20_010), Vec::new(), true);
        assert_eq!(reach(&mut peers, "10.0.0.1:80"), Reach::Always);
        assert_eq!(reach(&mut peers, "127.0.0.1:3480"), Reach::Always);
        for address in ["169.254.169.254:80", "224.0.0.1:80", "255.255.255.255:80", "0.0.0.0:80", "[ff02::1]:80"] {
            assert_eq!(reach(&mut peers, address), Reach::Never, "{address}");
        }
    }

    #[test]
    fn no_service_is_connected_to() {
        let public = vec!["203.0.113.9".parse().unwrap()];
        let is_relay = |peer: SocketAddr| peer.port() == 50_000;
        let mut peers = Peers::new((20_000, 20_010), public.clone(), false);
        let mut reach = |address: &str| peers.reach_by_connection(Instant::now(), address.parse().unwrap(), is_relay);
        for address in [
            "198.51.100.1:25",
            "198.51.100.1:443",
            "127.0.0.1:20000",
            "203.0.113.9:20000",
            "203.0.113.9:5060",
            "10.0.0.1:8080",
            "169.254.169.254:8080",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:8080",
            "224.0.0.1:8080",
            "0.0.0.0:8080",
        ] {
            assert_eq!(reach(address), Reach::Never, "{address}");
        }
        assert_eq!(reach("198.51.100.1:5000"), Reach::Always);
        assert_eq!(reach("203.0.113.9:50000"), Reach::Always, "another client's relayed address");
        let mut peers = Peers::new((20_000, 20_010), public, true);
        let mut reach = |address: &str| peers.reach_by_connection(Instant::now(), address.parse().unwrap(), is_relay);
        assert_eq!((reach("10.0.0.1:8080"), reach("10.0.0.1:22")), (Reach::Always, Reach::Never));
        assert_eq!(reach("169.254.169.254:8080"), Reach::Never);
    }
}
