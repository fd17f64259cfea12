//! NAT boxes and firewalls as they treat packets (RFC 4787 §4.1, §5).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::{Packet, outside};
use crate::random::Seeded;

/// What stands between an end and the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// Nothing.
    Public,
    /// A box of endpoint-independent mapping and address-dependent filtering.
    Cone,
    /// A box of endpoint-independent mapping and address- and port-dependent filtering.
    PortRestricted,
    /// A box of address- and port-dependent mapping and filtering.
    Symmetric,
    /// A firewall that lets no UDP through; TCP goes out.
    Blocked,
}

/// A box, with what has passed it.
#[derive(Debug)]
pub(super) struct PacketBox {
    network: Network,
    outside: IpAddr,
    random: Seeded,
    /// From an inner address, and towards whom where that makes a difference, to an outer port.
    mappings: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    /// Whom something was sent to, from which outer port.
    sent: Vec<(u16, SocketAddr)>,
}

impl PacketBox {
    pub(super) fn new(network: Network, index: usize, seed: u64) -> PacketBox {
        let random = Seeded::new(seed);
        PacketBox { network, outside: outside(index), random, mappings: BTreeMap::new(), sent: Vec::new() }
    }

    /// Whether packets to this address come here.
    pub(super) fn is_at(&self, ip: IpAddr) -> bool {
        self.outside == ip
    }

    /// A packet from within, as it goes on outside.
    pub(super) fn leave(&mut self, packet: Packet) -> Option<Packet> {
        let towards = match self.network {
            Network::Public => return Some(packet),
            Network::Blocked => return None,
            Network::Cone | Network::PortRestricted => None,
            Network::Symmetric => Some(packet.to),
        };
        let taken: Vec<u16> = self.mappings.values().copied().collect();
        let random = &mut self.random;
        let port = *self.mappings.entry((packet.from, towards)).or_insert_with(|| {
            loop {
                let port = 20_000 + u16::try_from(random.below(30_000)).unwrap_or_default();
                if !taken.contains(&port) {
                    return port;
                }
            }
        });
        if !self.sent.contains(&(port, packet.to)) {
            self.sent.push((port, packet.to));
        }
        Some(Packet { from: SocketAddr::new(self.outside, port), ..packet })
    }

    /// A packet from outside: the inner address it comes to, if it is let in.
    pub(super) fn arrive(&self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        if self.network == Network::Public {
            return Some(to);
        }
        let (inside, _) = self.mappings.iter().find(|(_, port)| **port == to.port())?;
        let is_let_in = self.sent.iter().any(|(port, whom)| {
            let is_same = match self.network {
                Network::Cone => whom.ip() == from.ip(),
                Network::PortRestricted | Network::Symmetric => *whom == from,
                Network::Public | Network::Blocked => false,
            };
            *port == to.port() && is_same
        });
        is_let_in.then_some(inside.0)
    }
}
