//! Nodes behind routers: a backbone that stands for the Internet, and on it routers that translate addresses in every way there is
//! (RFC 4787), each with a machine behind it whose private address is everybody's.
//!
//! To be used in a network of the test's own ([`in_own_network`](crate::lan::in_own_network)). The test's process, with its phones, has
//! a wire of its own to each machine, over which nobody gets anywhere else. On the backbone it is the way to everywhere else, and so
//! sees whatever is meant for somebody who is not there. Addresses there are such as all the world knows, each in a network of its own:
//! what counts nodes by networks, or trusts private ones, behaves as it does on the Internet.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use crate::command::need;
use crate::lan::BRIDGE;
use crate::namespace::{Namespace, run};

/// The port that the links of all nodes here listen on.
pub const LINK: u16 = 6084;

/// The port of the pages of all nodes here, and so of their relays: the one that every network lets out.
pub const PAGES: u16 = 443;

/// As what a box shows that port where it shows the same to everybody.
pub const SEEN_AS: u16 = 45_000;

/// Where every machine behind a router is.
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// Where the test's process is on the backbone.
pub const EXCHANGE: Ipv4Addr = Ipv4Addr::new(11, 81, 255, 254);

/// What is between a machine and the backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Public,
    /// One address for all destinations, and everybody may come in.
    FullCone,
    /// The same, but only hosts come in that something was sent to.
    AddressRestricted,
    /// The same, but only addresses and ports come in that something was sent to.
    PortRestricted,
    /// Another port for each destination.
    Symmetric,
    /// No UDP at all, and TCP only to the port of the web (443).
    UdpBlocked,
}

/// A machine, and the router before it.
#[derive(Debug)]
pub struct Site {
    number: u8,
    kind: Kind,
    machine: Namespace,
    router: Option<Namespace>,
}

impl Site {
    /// A machine with a number from 1 to 99 behind a box of this kind.
    #[track_caller]
    pub fn new(number: u8, kind: Kind) -> Site {
        need("nft", "nftables");
        let machine = Namespace::new();
        let router = (kind != Kind::Public).then(Namespace::new);
        let site = Site { number, kind, machine, router };
        // The phones' wire.
        let (outer, pid) = (format!("phones{number}"), site.machine.pid());
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", "phones", "netns", &pid]);
        ip(&["addr", "add", &format!("{}/30", site.phones()), "dev", &outer]);
        ip(&["link", "set", &outer, "up"]);
        site.machine.run(&["ip", "addr", "add", &format!("{}/30", site.for_phones()), "dev", "phones"]);
        site.machine.run(&["ip", "link", "set", "phones", "up"]);
        // The backbone.
        let edge = site.router.as_ref().unwrap_or(&site.machine);
        let outer = format!("port{number}");
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", "wan", "netns", &edge.pid()]);
        ip(&["link", "set", &outer, "master", BRIDGE, "up"]);
        ip(&["addr", "replace", &format!("{EXCHANGE}/16"), "dev", BRIDGE]);
        edge.run(&["ip", "addr", "add", &format!("{}/16", site.public()), "dev", "wan"]);
        edge.run(&["ip", "link", "set", "wan", "up"]);
        edge.run(&["ip", "route", "add", "default", "via", &EXCHANGE.to_string()]);
        if let Some(router) = &site.router {
            router.run(&[
                "ip",
                "link",
                "add",
                "lan",
                "type",
                "veth",
                "peer",
                "name",
                "lan",
                "netns",
                &site.machine.pid(),
            ]);
            router.run(&["ip", "addr", "add", "192.168.1.1/24", "dev", "lan"]);
            router.run(&["ip", "link", "set", "lan", "up"]);
            site.machine.run(&["ip", "addr", "add", &format!("{INSIDE}/24"), "dev", "lan"]);
            site.machine.run(&["ip", "link", "set", "lan", "up"]);
            site.machine.run(&["ip", "route", "add", "default", "via", "192.168.1.1"]);
            router.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
            router.run(&["nft", &rules(kind)]);
        }
        site
    }

    /// Where the test's phones are that belong to it.
    pub fn phones(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 90, self.number, 1)
    }

    /// Where those phones reach it.
    pub fn for_phones(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 90, self.number, 2)
    }

    /// Where it, or its router, is on the backbone.
    pub fn public(&self) -> Ipv4Addr {
        Ipv4Addr::new(11, 81, self.number, 1)
    }

    /// The same once its line has got another address.
    pub fn later_public(&self) -> Ipv4Addr {
        Ipv4Addr::new(11, 81, self.number + 100, 1)
    }

    /// What is between it and the backbone.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The machine's network namespace.
    pub fn namespace(&self) -> PathBuf {
        self.machine.path()
    }

    /// The network namespace of its router, where it has one.
    pub fn router(&self) -> Option<PathBuf> {
        self.router.as_ref().map(Namespace::path)
    }

    /// Takes the backbone away from it, or gives it back. Its own addresses stay as they are, as where a router loses its line.
    #[track_caller]
    pub fn set_line(&self, up: bool) {
        ip(&["link", "set", &format!("port{}", self.number), if up { "up" } else { "down" }]);
    }

    /// Gives the line another address, as providers do once a day. Nothing comes in by the old one any more, and nobody is told.
    #[track_caller]
    pub fn change_public_address(&self) {
        let edge = self.router.as_ref().unwrap_or(&self.machine);
        edge.run(&["ip", "addr", "flush", "dev", "wan", "scope", "global"]);
        edge.run(&["ip", "addr", "add", &format!("{}/16", self.later_public()), "dev", "wan"]);
        edge.run(&["ip", "route", "replace", "default", "via", &EXCHANGE.to_string()]);
    }

    /// Gives the machine another address of its own network, as a router does that was restarted. What it had is gone at once.
    #[track_caller]
    pub fn move_to_another_address(&self) {
        self.machine.run(&["ip", "addr", "flush", "dev", "lan", "scope", "global"]);
        self.machine.run(&["ip", "addr", "add", "192.168.1.77/24", "dev", "lan"]);
        self.machine.run(&["ip", "route", "replace", "default", "via", "192.168.1.1"]);
        if let Some(router) = &self.router {
            // It gives the machine a new mapping; nothing comes in by the old one.
            router.run(&["nft", "flush", "ruleset"]);
            router.run(&["nft", &rules(self.kind).replace(&INSIDE.to_string(), "192.168.1.77")]);
        }
    }
}

/// What a router does: how it translates what leaves, and whom it lets in. TCP is as usual with all of them: out, and never in. What
/// comes in unasked is dropped before anybody answers it, or takes note of it: else a mapping would be taken when it is needed.
fn rules(kind: Kind) -> String {
    let one_port = format!("oifname wan udp sport {LINK} masquerade to :{SEEN_AS}");
    let inward = |who: &str| format!("iifname wan udp dport {SEEN_AS} {who} dnat to {INSIDE}:{LINK}");
    let none = String::new;
    let (forward, pre, post) = match kind {
        Kind::Public => (none(), none(), none()),
        Kind::FullCone => (none(), inward(""), one_port),
        Kind::AddressRestricted => (
            "oifname wan meta l4proto udp update @spoken { ip daddr }".to_owned(),
            inward("ip saddr @spoken"),
            one_port,
        ),
        Kind::PortRestricted => (none(), none(), one_port),
        Kind::Symmetric => (none(), none(), "oifname wan meta l4proto udp masquerade fully-random".to_owned()),
        Kind::UdpBlocked => ("meta l4proto udp drop\noifname wan tcp dport != 443 drop".to_owned(), none(), none()),
    };
    format!(
        "table ip box {{
           set spoken {{ type ipv4_addr; flags dynamic,timeout; timeout 60s; }}
           chain forward {{
             type filter hook forward priority 0; policy drop;
             {forward}
             iifname lan accept
             ct state established,related accept
             ct status dnat accept
           }}
           chain input {{
             type filter hook input priority 0; policy accept;
             iifname wan meta l4proto udp drop
           }}
           chain pre {{
             type nat hook prerouting priority -100; policy accept;
             {pre}
           }}
           chain post {{
             type nat hook postrouting priority 100; policy accept;
             {post}
             oifname wan masquerade
           }}
         }}"
    )
}

#[track_caller]
fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}
