//! The part of the Internet a node is reached in: what one attacker has many addresses of for the price of one.

use std::net::IpAddr;

/// A network that most providers give to one customer as a whole: 24 bits of an IPv4 address, 48 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subnet {
    /// An IPv4 network of 256 addresses.
    V4([u8; 3]),
    /// An IPv6 network as a site gets it (RFC 6177).
    V6([u8; 6]),
}

impl Subnet {
    /// Returns the subnet of an address. None for addresses that only the own network can be reached at (loopback, private,
    /// link-local, unique local): whoever is there was let in by its operator.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let local = address.is_loopback() || address.is_private() || address.is_link_local();
                let [a, b, c, _] = address.octets();
                (!local && !address.is_unspecified()).then_some(Self::V4([a, b, c]))
            }
            IpAddr::V6(address) => {
                let local = address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local();
                let [a, b, c, d, e, f, ..] = address.octets();
                (!local && !address.is_unspecified()).then_some(Self::V6([a, b, c, d, e, f]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(address: &str) -> Option<Subnet> {
        Subnet::of(address.parse().unwrap())
    }

    #[test]
    fn neighbouring_addresses_share_a_subnet_and_others_do_not() {
        assert_eq!(of("198.51.100.7"), of("198.51.100.250"));
        assert_ne!(of("198.51.100.7"), of("198.51.101.7"));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:ffff::9"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:2:2::3"));
        assert_eq!(of("::ffff:198.51.100.7"), of("198.51.100.8"));
    }

    #[test]
    fn what_only_the_own_network_reaches_belongs_to_no_subnet() {
        for address in
            ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.1.1", "::1", "fe80::1", "fd00::1"]
        {
            assert_eq!(of(address), None, "{address}");
        }
    }
}
