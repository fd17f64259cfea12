//! Which addresses this node sends to, where the address was named by somebody else: a contact, a Via, the DNS. Pure.
//!
//! An answer over the flow of its request needs no policy: that is where the packet came from. An address somebody names may
//! be a victim's, or a service of ours that trusts whoever is near (server-side request forgery).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Nobody: unspecified, multicast, broadcast, reserved, or port 0.
    Nowhere,
    /// This machine.
    Loopback,
    /// This network segment; also where clouds tell machines their secrets (169.254.169.254).
    LinkLocal,
    /// Networks of one owner (RFC 1918, RFC 4193, RFC 6598), and what is assigned to no one on the Internet (RFC 6890).
    Private,
    /// The Internet.
    Global,
}

impl Scope {
    /// Says how far an address reaches. An IPv4 address within an IPv6 one counts as what it is.
    pub(crate) fn of(address: SocketAddr) -> Scope {
        if address.port() == 0 {
            return Scope::Nowhere;
        }
        match address.ip().to_canonical() {
            IpAddr::V4(v4) => Scope::of_v4(v4),
            IpAddr::V6(v6) if v6.is_loopback() => Scope::Loopback,
            IpAddr::V6(v6) if v6.is_multicast() || v6.is_unspecified() => Scope::Nowhere,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Scope::LinkLocal,
            IpAddr::V6(v6) if v6.is_unique_local() => Scope::Private,
            // Site-local, as it once was (RFC 3879).
            IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfec0 => Scope::Private,
            IpAddr::V6(v6) => match v6.segments() {
                // Translated (RFC 6052) and 6to4 (RFC 3056) addresses lead to the IPv4 address in them; `::a.b.c.d` leads nowhere.
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Scope::of_v4(v4_of(high, low)),
                [0, 0, 0, 0, 0, 0, ..] => Scope::Nowhere,
                _ => Scope::Global,
            },
        }
    }

    fn of_v4(address: Ipv4Addr) -> Scope {
        match address.octets() {
            [0 | 240..=255, ..] => Scope::Nowhere,
            _ if address.is_multicast() => Scope::Nowhere,
            [127, ..] => Scope::Loopback,
            [169, 254, ..] => Scope::LinkLocal,
            [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18 | 19, ..] => Scope::Private,
            _ if address.is_private() => Scope::Private,
            _ => Scope::Global,
        }
    }
}

fn v4_of(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// Whether anything at all may be sent there.
pub(crate) fn is_sendable(address: SocketAddr) -> bool {
    Scope::of(address) != Scope::Nowhere
}

/// Whether to send to an address that `named_by` named, a source we know by its packets; `None` for the DNS or a stranger.
///
/// Who is near may name what is as near as himself or farther; all others only what is on the Internet, unless the
/// configuration allows `private` addresses (a server in the company's own network, or on this machine). Link-local ones
/// it never means.
pub(crate) fn may_send(address: SocketAddr, named_by: Option<SocketAddr>, private: bool) -> bool {
    let scope = Scope::of(address);
    let nearest = match named_by.map(Scope::of) {
        Some(nearest @ (Scope::Loopback | Scope::LinkLocal | Scope::Private)) => nearest,
        Some(Scope::Nowhere | Scope::Global) | None => Scope::Global,
    };
    is_sendable(address) && (scope >= nearest || private && scope != Scope::LinkLocal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn nothing_goes_to_many_at_once_or_to_nobody() {
        for address in [
            "255.255.255.255:5060",
            "224.0.0.1:5060",
            "239.255.255.250:1900",
            "0.0.0.0:5060",
            "0.1.2.3:5060",
            "240.0.0.1:5060",
            "192.0.2.1:0",
            "[ff02::1]:5060",
            "[::]:5060",
            "[::ffff:224.0.0.1]:5060",
            "[::ffff:0.0.0.0]:5060",
            "[64:ff9b::255.255.255.255]:5060",
            "[::127.0.0.1]:5060",
        ] {
            assert!(!is_sendable(at(address)), "{address}");
            assert!(!may_send(at(address), Some(at("127.0.0.1:5060")), true), "{address}");
        }
    }

    #[test]
    fn strangers_and_names_lead_to_the_internet_only() {
        let near = [
            "127.0.0.1:22",
            "127.9.9.9:80",
            "169.254.169.254:80",
            "10.1.2.3:5060",
            "172.31.0.1:5060",
            "192.168.1.1:80",
            "100.64.0.1:5060",
            "198.18.0.1:5060",
            "[fec0::1]:5060",
            "[::1]:5060",
            "[fe80::1]:5060",
            "[fd00::1]:5060",
            "[::ffff:127.0.0.1]:5060",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::10.0.0.1]:5060",
            "[2002:7f00:1::]:5060",
        ];
        for address in near {
            assert!(!may_send(at(address), None, false), "{address}");
            assert!(!may_send(at(address), Some(at("8.8.8.8:5060")), false), "{address}");
        }
        assert!(may_send(at("8.8.8.8:5060"), None, false) && may_send(at("[2a00::1]:5060"), None, false));
    }

    #[test]
    fn who_is_near_may_name_what_is_as_near() {
        let (home, same) = (at("192.168.1.20:5060"), at("127.0.0.1:5060"));
        assert!(may_send(at("192.168.1.30:5060"), Some(home), false));
        assert!(may_send(at("8.8.8.8:5060"), Some(home), false));
        assert!(!may_send(at("127.0.0.1:8080"), Some(home), false));
        assert!(!may_send(at("169.254.169.254:80"), Some(home), false));
        assert!(may_send(at("127.0.0.1:5062"), Some(same), false));
        assert!(may_send(at("10.0.0.5:5060"), None, true) && may_send(at("127.0.0.1:5060"), None, true), "configured");
        assert!(!may_send(at("169.254.169.254:80"), None, true) && !may_send(at("224.0.1.75:5060"), None, true));
    }
}
