//! What kind of network the machine is in, and what that means for calls: judged by what relays and other nodes have seen. Pure.

use std::net::{IpAddr, SocketAddr};

use meshtone_overlay::{Network, Overlay, Path, PortMapping, ReachTest};

use crate::control::{Netcheck, NetworkStatus, OpenPort, PortMappingStatus};

/// What is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Facts {
    /// What relays saw.
    pub(crate) network: Network,
    /// Where the links listen, as this machine knows it.
    pub(crate) own: Vec<SocketAddr>,
    /// What others found who dialled this node without a link to it.
    pub(crate) reached: Option<ReachTest>,
    /// Links over UDP.
    pub(crate) direct_links: usize,
    /// Links through relays.
    pub(crate) relayed_links: usize,
    /// Relays through which this node is reached.
    pub(crate) relays: usize,
    /// It runs a relay itself.
    pub(crate) is_relay: bool,
    /// What the router lets in.
    pub(crate) mapping: PortMapping,
}

impl Facts {
    pub(crate) fn of(overlay: &Overlay) -> Facts {
        let links = overlay.links();
        let relayed_links = links.iter().filter(|link| link.path == Path::Relayed).count();
        Facts {
            network: overlay.network(),
            own: overlay.addresses(),
            reached: overlay.role().test,
            direct_links: links.len() - relayed_links,
            relayed_links,
            relays: overlay.relays_in_use().iter().filter(|relay| relay.is_connected).count(),
            is_relay: overlay.relay().is_some_and(|relay| relay.is_open()),
            mapping: overlay.port_mapping(),
        }
    }
}

/// What kind of network it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nobody was asked yet who could tell.
    Unknown,
    /// Packets come from the machine's own address, and strangers reach it.
    Public,
    /// The same, but whether strangers reach it is not known: a firewall may keep them out.
    Unproved,
    /// A box is in between which gives one address for all destinations, and lets strangers in.
    Open,
    /// The same, and it lets in only who was spoken to (RFC 4787: mapping independent of the endpoint).
    Cone,
    /// A box is in between which gives another address for each destination.
    Symmetric,
    /// A box is in between, of a kind that one relay alone cannot tell.
    Hidden,
    /// UDP is not let out.
    UdpBlocked,
}

impl Class {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Class::Unknown => "unknown",
            Class::Public => "public",
            Class::Unproved => "unproved",
            Class::Open => "open",
            Class::Cone => "cone",
            Class::Symmetric => "symmetric",
            Class::Hidden => "hidden",
            Class::UdpBlocked => "udp-blocked",
        }
    }
}

/// Judges what is known.
pub(crate) fn class(facts: &Facts) -> Class {
    let tested = facts.reached.as_ref().filter(|test| test.dialled > 0);
    let is_reached = tested.map(|test| test.reached * 2 > test.dialled);
    let is_own = |seen: &SocketAddr| facts.own.contains(seen);
    let seen = seen_as(facts);
    let is_udp_heard = facts.network.udp || facts.direct_links > 0;
    if !is_udp_heard {
        let asked = facts.network.is_measured && facts.relays > 0 || facts.relayed_links > 0;
        return if asked { Class::UdpBlocked } else { Class::Unknown };
    }
    if facts.network.mapping_varies == Some(true) {
        return Class::Symmetric;
    }
    if !seen.is_empty() && seen.iter().all(is_own) {
        return if is_reached == Some(true) { Class::Public } else { Class::Unproved };
    }
    if seen.is_empty() {
        return if facts.own.iter().any(|own| is_reached == Some(true) && !own.ip().is_loopback()) {
            Class::Public
        } else {
            Class::Unknown
        };
    }
    match (is_reached, facts.network.mapping_varies) {
        (Some(true), _) => Class::Open,
        (Some(false) | None, Some(_)) => Class::Cone,
        (Some(false) | None, None) => Class::Hidden,
    }
}

/// Where packets come from, as others see them.
fn seen_as(facts: &Facts) -> Vec<SocketAddr> {
    let tested = facts.reached.as_ref().and_then(|test| test.address);
    let mut seen: Vec<SocketAddr> = facts.network.seen_as.iter().copied().chain(tested).collect();
    let canonical = |addr: &SocketAddr| SocketAddr::new(IpAddr::to_canonical(&addr.ip()), addr.port());
    seen = seen.iter().map(canonical).collect();
    seen.sort();
    seen.dedup();
    seen
}

/// For `status`.
pub(crate) fn status(facts: &Facts) -> NetworkStatus {
    NetworkStatus { class: class(facts).as_str().to_owned(), seen_as: seen_as(facts), port_mapping: mapping(facts) }
}

fn mapping(facts: &Facts) -> PortMappingStatus {
    let mapping = &facts.mapping;
    let open = |port: &meshtone_overlay::MappedPort| OpenPort {
        transport: port.transport.to_string(),
        port: port.port,
        outside: port.outside,
    };
    PortMappingStatus {
        is_allowed: mapping.is_allowed,
        router: mapping.router,
        protocol: mapping.protocol.map(|protocol| protocol.to_string()),
        ports: mapping.ports.iter().map(open).collect(),
        is_behind_another: mapping.is_behind_another(&facts.network.seen_as),
        problem: mapping.problem.clone(),
    }
}

/// Where others reach the links since the router lets them in.
fn let_in(facts: &Facts) -> Option<SocketAddr> {
    let links: Vec<u16> = facts.own.iter().map(SocketAddr::port).collect();
    facts.mapping.links(&facts.network.seen_as, &links).first().copied()
}

/// For `netcheck`: what it is, what that means, and what could be done.
pub(crate) fn check(facts: &Facts) -> Netcheck {
    let class = class(facts);
    let seen = seen_as(facts);
    let at = seen.first().map_or_else(String::new, |seen| format!(" ({seen})"));
    let network = match class {
        Class::Unknown => "No other node has said yet what it sees of this machine's network.".to_owned(),
        Class::Public => format!("This machine is on the Internet itself{at}: others reach it."),
        Class::Unproved => format!(
            "This machine has an address of its own{at}, and no box changes it. Whether strangers reach it is not known yet."
        ),
        Class::Open => format!("A router is in between{at}, and lets in whoever knows that address."),
        Class::Cone => format!(
            "A router is in between. It shows the same address{at} to everybody, and lets in only who was spoken to before."
        ),
        Class::Symmetric => "A router is in between that shows another address to everybody it speaks to.".to_owned(),
        Class::Hidden => format!(
            "A router is in between{at}. Whether it shows the same address to everybody takes a second relay to find out."
        ),
        Class::UdpBlocked => "UDP is not let out of this network; TCP is.".to_owned(),
    };
    let let_in = let_in(facts);
    let router = let_in.zip(facts.mapping.protocol).map(|(outside, protocol)| {
        format!("The router lets others in to this node at {outside}, as it was asked to by {protocol}.")
    });
    let beyond = mapping(facts).is_behind_another.then(|| {
        "The router lets others in, but another one stands beyond it, as its provider's may, and does not.".to_owned()
    });
    let calls = match class {
        Class::Unknown | Class::Open | Class::Cone | Class::Symmetric | Class::Hidden if let_in.is_some() => {
            "Calls go directly between this node and every other whose network lets UDP out."
        }
        Class::Unknown if facts.direct_links == 0 && facts.relayed_links == 0 => {
            "This node has no link to any other: its own phones call each other, and nobody else."
        }
        Class::Unknown => "Calls work over the links that there are; how others get here is not known.",
        Class::Public | Class::Open => "Calls go directly between this node and every other.",
        Class::Unproved => "Calls go directly, unless a firewall keeps strangers out; then nodes meet half way.",
        Class::Cone => {
            "Calls go directly to nearly everybody: both sides knock at the same moment. Only nodes behind a router that \
             shows everybody another address are reached through a relay."
        }
        Class::Symmetric => {
            "Calls go directly to nodes that anybody reaches, and through a relay to those behind routers like this one or \
             strict ones."
        }
        Class::Hidden => "Calls go directly where both routers allow it, and otherwise through a relay.",
        Class::UdpBlocked => {
            "All calls go through a relay, over TCP: they work, and a lossy network is heard sooner than it would be over UDP."
        }
    };
    let relays = match (facts.is_relay, facts.relays) {
        (true, _) => "This node is a relay itself, for nodes that nobody can dial.".to_owned(),
        (false, 0) => "No relay is known: whoever cannot dial this node does not reach it.".to_owned(),
        (false, 1) => "One relay reaches it. Should that one fail, nobody comes in its place.".to_owned(),
        (false, count) => format!("{count} relays reach it; when one fails, calls go on through another."),
    };
    let hint = match class {
        Class::Symmetric | Class::UdpBlocked | Class::Cone | Class::Hidden if facts.relays == 0 && !facts.is_relay => {
            Some(
                "a node of this overlay with an address of its own has to run as a relay: `meshtone run --relay on` there",
            )
        }
        Class::UdpBlocked => Some("ask whoever runs this network to let UDP out; any port will do"),
        Class::Symmetric | Class::Hidden => Some(if facts.mapping.is_allowed {
            "on the router, switch on UPnP or PCP, or forward the UDP port of the links to this machine, if calls should go directly"
        } else {
            "on the router, forward the UDP port of the links to this machine, if calls should go directly"
        }),
        Class::Unknown if facts.direct_links + facts.relayed_links == 0 => Some(
            "name another node with --peer, or join an overlay with a ticket; `meshtone status` says what was tried",
        ),
        Class::Unproved if facts.relays == 0 && !facts.is_relay => {
            Some("`meshtone run --relay on` lets this node pass packets on for those that nobody can dial")
        }
        Class::Unknown | Class::Public | Class::Unproved | Class::Open | Class::Cone => None,
    }
    .filter(|_| let_in.is_none());
    Netcheck {
        class: class.as_str().to_owned(),
        seen_as: seen,
        listening: facts.own.clone(),
        direct_links: facts.direct_links,
        relayed_links: facts.relayed_links,
        relays: facts.relays,
        is_relay: facts.is_relay,
        port_mapping: mapping(facts),
        says: [Some(network), router, beyond, Some(calls.to_owned()), Some(relays)].into_iter().flatten().collect(),
        hint: hint.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const OWN: &str = "192.168.1.2:6084";
    const SEEN: &str = "198.51.100.7:45000";

    fn facts(udp: bool, varies: Option<bool>, seen: &[&str]) -> Facts {
        let seen_as = seen.iter().map(|text| text.parse().unwrap()).collect();
        Facts {
            network: Network { is_measured: true, udp, mapping_varies: varies, seen_as },
            own: vec![OWN.parse().unwrap()],
            relays: 2,
            ..Facts::default()
        }
    }

    fn test(reached: usize) -> Option<ReachTest> {
        Some(ReachTest { at_ms: 0, dialled: 4, reached, address: None })
    }

    #[test]
    fn every_network_is_told_by_what_relays_and_neighbours_saw() {
        let cone = facts(true, Some(false), &[SEEN]);
        assert_eq!(class(&cone), Class::Cone);
        assert_eq!(class(&Facts { reached: test(4), ..cone.clone() }), Class::Open);
        assert_eq!(class(&Facts { reached: test(1), ..cone }), Class::Cone);
        assert_eq!(class(&facts(true, Some(true), &[SEEN])), Class::Symmetric);
        assert_eq!(class(&facts(true, None, &[SEEN])), Class::Hidden);
        let own = facts(true, Some(false), &[OWN]);
        assert_eq!(class(&own), Class::Unproved);
        assert_eq!(class(&Facts { reached: test(3), ..own }), Class::Public);
        assert_eq!(class(&facts(false, None, &[])), Class::UdpBlocked);
        assert_eq!(class(&Facts { direct_links: 1, ..facts(false, None, &[]) }), Class::Unknown, "UDP gets through");
        assert_eq!(
            class(&Facts { relays: 0, ..facts(false, None, &[]) }),
            Class::Unknown,
            "nobody could have answered"
        );
    }

    #[test]
    fn a_router_that_lets_others_in_is_told_of_and_one_beyond_it_as_well() {
        use meshtone_overlay::mapping::Transport;
        use meshtone_overlay::{MappedPort, MappingProtocol};

        let outside: SocketAddr = "198.51.100.7:6084".parse().unwrap();
        let port = MappedPort { transport: Transport::Udp, port: 6084, outside };
        let (is_allowed, protocol) = (true, Some(MappingProtocol::Pcp));
        let mapping = PortMapping { is_allowed, protocol, ports: vec![port], ..PortMapping::default() };
        let open = Facts { mapping, ..facts(true, Some(true), &[SEEN]) };
        let told = check(&open);
        assert!(told.says.iter().any(|says| says.contains("198.51.100.7:6084") && says.contains("PCP")), "{told:?}");
        assert!(told.says.iter().any(|says| says.contains("directly")) && told.hint.is_none(), "{told:?}");
        let elsewhere = Facts { network: facts(true, Some(true), &["203.0.113.1:45000"]).network, ..open };
        let told = check(&elsewhere);
        assert!(told.port_mapping.is_behind_another && told.hint.is_some(), "{told:?}");
        assert!(told.says.iter().any(|says| says.contains("another one stands beyond it")), "{told:?}");
    }

    #[test]
    fn what_it_means_is_said_in_sentences_and_who_can_do_something_is_told_what() {
        for (udp, varies, seen) in [
            (true, Some(false), SEEN),
            (true, Some(true), SEEN),
            (true, None, SEEN),
            (true, Some(false), OWN),
            (false, None, OWN),
        ] {
            let seen: &[&str] = if udp { &[seen] } else { &[] };
            for relays in 0..3 {
                let told = check(&Facts { relays, relayed_links: 1, ..facts(udp, varies, seen) });
                assert_eq!(told.says.len(), 3);
                assert!(told.says.iter().all(|sentence| sentence.len() > 20 && sentence.ends_with('.')), "{told:?}");
            }
        }
        let alone = check(&Facts::default());
        assert!(alone.says[1].contains("no link") && alone.hint.unwrap().contains("--peer"));
        let blocked = check(&Facts { relayed_links: 1, ..facts(false, None, &[]) });
        assert!(blocked.says[1].contains("TCP") && blocked.hint.unwrap().contains("UDP"));
        let stuck = check(&Facts { relays: 0, ..facts(true, Some(true), &[SEEN]) });
        assert!(stuck.hint.unwrap().contains("--relay on"));
    }
}
