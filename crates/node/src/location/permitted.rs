//! Which addresses a request may be sent to because a caller, or a stranger's DNS, said so.
//!
//! What names an address here is not to be trusted: a call must not become a probe of this machine, of the network behind
//! it, or of everybody on it (threats 12 and 24 are about that).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address it is, for deciding whether to send there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Somewhere on the Internet.
    Public,
    /// This machine, or a network of its owner: only when the configuration allows it.
    Private,
    /// Nobody, or everybody: never.
    Never,
}

/// Tells what kind of address this is. IPv4 addresses that are wrapped into IPv6 ones are looked at themselves.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => match wrapped_v4(address) {
            Some(wrapped) => reach_v4(wrapped),
            None => reach_v6(address),
        },
    }
}

/// Whether a request may be sent to `address`.
pub(crate) fn is_permitted(address: IpAddr, allow_private: bool) -> bool {
    match reach(address) {
        Reach::Public => true,
        Reach::Private => allow_private,
        Reach::Never => false,
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    let is_never = a == 0 || a >= 224 || address.is_link_local();
    // Shared between carrier and customer (RFC 6598), protocol assignments (RFC 6890), benchmarks (RFC 2544).
    let is_special = a == 100 && (64..128).contains(&b) || (a, b, c) == (192, 0, 0) || a == 198 && (b == 18 || b == 19);
    if is_never {
        Reach::Never
    } else if address.is_loopback() || address.is_private() || is_special {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let first = address.segments()[0];
    let is_link_local = first & 0xffc0 == 0xfe80;
    if address.is_unspecified() || address.is_multicast() || is_link_local {
        Reach::Never
    // Unique local (RFC 4193), and what was once site-local (RFC 3879).
    } else if address.is_loopback() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// The IPv4 address inside a mapped or compatible (RFC 4291 §2.5.5), 6to4 (RFC 3056) or NAT64 (RFC 6052) address.
fn wrapped_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn all(addresses: &[&str], wanted: Reach) {
        for address in addresses {
            assert_eq!(reach(address.parse().unwrap()), wanted, "{address}");
        }
    }

    #[test]
    fn nobody_and_everybody_are_never_sent_to() {
        all(&["0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.1.75", "239.1.1.1", "240.0.0.1"], Reach::Never);
        all(&["169.254.169.254", "fe80::1", "ff02::1", "::", "::ffff:169.254.169.254"], Reach::Never);
        assert!(!is_permitted("224.0.1.75".parse().unwrap(), true));
    }

    #[test]
    fn the_networks_behind_this_machine_are_private_however_they_are_wrapped() {
        all(&["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1"], Reach::Private);
        all(&["::1", "fc00::1", "fd12::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::"], Reach::Private);
        assert!(!is_permitted("127.0.0.1".parse().unwrap(), false));
        assert!(is_permitted("127.0.0.1".parse().unwrap(), true));
    }

    #[test]
    fn the_rest_is_the_internet() {
        all(&["192.0.2.1", "100.128.0.1", "172.32.0.1", "2001:db8::1", "64:ff9b::c000:201"], Reach::Public);
    }
}
