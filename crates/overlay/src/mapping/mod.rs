//! Ports that the router before this machine opens for it, where it is asked and willing: so nodes at home are reached as if they were
//! on the Internet, and calls to them go directly whatever the router does with other packets.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`pcp`] | the Port Control Protocol (RFC 6887) and NAT-PMP (RFC 6886); pure |
//! | [`upnp`] | UPnP's Internet Gateway Device; pure |
//! | `router` | the sockets: nobody is ever asked but the router that the default route names |
//! | `keeper` | what is asked when, and what is taken back at the end |
//!
//! Only machines with a private IPv4 address ask. What a router says is anybody's word: it is bounded, tried by those who dial us, and
//! where relays see our packets come from another address than the router calls its own, it is told to nobody.
//!
//! The crates at hand were read and left. igd-next (0.18) sends what it finds by multicast to whoever answers first, and cannot be held
//! to the router; crab_nat (0.8) brings a code generator for sixty octets; iroh's portmapper maps one UDP port, by igd-next.

pub(crate) mod keeper;
pub mod pcp;
pub(crate) mod router;
pub mod upnp;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What ports are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        })
    }
}

/// By which protocol a router opens ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingProtocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP IGD.
    Upnp,
}

impl fmt::Display for MappingProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MappingProtocol::Pcp => "PCP",
            MappingProtocol::NatPmp => "NAT-PMP",
            MappingProtocol::Upnp => "UPnP",
        })
    }
}

/// A port of this machine that others may want to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedPort {
    /// UDP or TCP.
    pub transport: Transport,
    /// Where we listen.
    pub at: SocketAddr,
    /// It is of use under the same number only, since others are told of no other.
    pub same: bool,
}

/// A port that the router has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedPort {
    /// UDP or TCP.
    pub transport: Transport,
    /// Our port.
    pub port: u16,
    /// What others reach it by.
    pub outside: SocketAddr,
}

/// What the router before this machine does for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortMapping {
    /// The router is asked at all.
    pub is_allowed: bool,
    /// The router, where there is one and this machine has a private address.
    pub router: Option<IpAddr>,
    /// By which protocol it opens ports, if it does.
    pub protocol: Option<MappingProtocol>,
    /// Those that are open.
    pub ports: Vec<MappedPort>,
    /// Why there are none, or not all, in words.
    pub problem: Option<String>,
}

impl PortMapping {
    /// Whether another box stands beyond the router, which sees to it that nothing comes in: others see our packets come from elsewhere.
    pub fn is_behind_another(&self, seen_as: &[SocketAddr]) -> bool {
        let mut seen = seen_as.iter().map(|seen| seen.ip().to_canonical()).filter(IpAddr::is_ipv4).peekable();
        let Some(first) = self.ports.first() else { return false };
        seen.peek().is_some() && !seen.any(|seen| seen == first.outside.ip())
    }

    /// Where others reach the links, unless another box stands in between.
    pub fn links(&self, seen_as: &[SocketAddr], links: &[u16]) -> Vec<SocketAddr> {
        if self.is_behind_another(seen_as) {
            return Vec::new();
        }
        let ports = self.ports.iter().filter(|port| port.transport == Transport::Udp && links.contains(&port.port));
        ports.map(|port| port.outside).collect()
    }

    /// Whether this port is open under its own number.
    pub fn has(&self, transport: Transport, port: u16) -> bool {
        self.ports.iter().any(|open| open.transport == transport && open.port == port && open.outside.port() == port)
    }
}

/// Whether an address may be a router's own, as far as the address says: whoever dials it must not be led to everybody or himself.
fn is_address(outside: SocketAddr) -> bool {
    let IpAddr::V4(ip) = outside.ip() else { return false };
    let is_nobody =
        ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local();
    outside.port() != 0 && !is_nobody && ip.octets().first().is_some_and(|first| *first != 0)
}

/// Whether a machine with this address is behind a router that translates: private (RFC 1918), or a carrier's (RFC 6598).
fn is_inside(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private() || a == 100 && b & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn opened(outside: &str) -> PortMapping {
        let port = MappedPort { transport: Transport::Udp, port: 6084, outside: outside.parse().unwrap() };
        PortMapping { ports: vec![port], ..PortMapping::default() }
    }

    #[test]
    fn a_router_that_is_itself_behind_a_router_opens_nothing_that_others_are_told_of() {
        let seen = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        let open = opened("198.51.100.7:6084");
        assert_eq!(open.links(&[], &[6084]).len(), 1, "nobody has said otherwise");
        assert_eq!(open.links(&seen("198.51.100.7:45000"), &[6084]).len(), 1);
        assert_eq!(open.links(&seen("[2001:db8::1]:6084"), &[6084]).len(), 1);
        assert_eq!(open.links(&seen("203.0.113.1:45000"), &[6084]), []);
        assert_eq!(open.links(&[], &[6085]), []);
        assert!(open.has(Transport::Udp, 6084) && !open.has(Transport::Tcp, 6084));
        assert!(!opened("198.51.100.7:6085").has(Transport::Udp, 6084));
    }

    #[test]
    fn addresses_that_would_lead_callers_astray_are_none() {
        for wrong in [
            "0.0.0.0:1",
            "127.0.0.1:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "169.254.1.1:1",
            "0.1.2.3:1",
            "198.51.100.7:0",
            "[2001:db8::1]:1",
        ] {
            assert!(!is_address(wrong.parse().unwrap()), "{wrong}");
        }
        assert!(is_address("198.51.100.7:6084".parse().unwrap()));
        for (ip, inside) in
            [("192.168.1.2", true), ("100.64.0.1", true), ("100.128.0.1", false), ("198.51.100.7", false)]
        {
            assert_eq!(is_inside(ip.parse().unwrap()), inside, "{ip}");
        }
    }
}
