//! A local network of a test's own: hosts that are network namespaces, joined by a bridge, with no way out.
//!
//! A test that wants one begins with [`in_own_network`]. The test's own process is on the bridge as well, at [`OWN_ADDRESS`].

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;

use crate::command::need;
use crate::namespace::{Namespace, run, within};

/// Where the test's own process is.
pub const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 254);

/// Says to the process that it runs in a network of its own.
const INSIDE: &str = "TEST_IN_OWN_NETWORK";
pub(crate) const BRIDGE: &str = "br0";

/// Runs the test of this name once more in a network of its own, and returns whether this is that run.
#[track_caller]
pub fn in_own_network(test: &str) -> bool {
    need("ip", "iproute2");
    if std::env::var_os(INSIDE).is_some() {
        ip(None, &["link", "set", "lo", "up"]);
        ip(None, &["link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0"]);
        ip(None, &["addr", "add", &format!("{OWN_ADDRESS}/24"), "dev", BRIDGE]);
        ip(None, &["link", "set", BRIDGE, "up"]);
        return true;
    }
    let program = std::env::current_exe().expect("the path of the running test");
    let inside = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(program)
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, "yes")
        .status()
        .expect("unshare (of util-linux) starts");
    assert!(inside.success(), "the run in a network of its own failed: {inside}");
    false
}

/// A host on the bridge. Dropping it ends the host, once nothing runs there any more.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
}

impl Host {
    /// A host with a number from 1 to 99 and no address yet.
    #[track_caller]
    pub fn new(number: u8) -> Host {
        let host = Host { namespace: Namespace::new() };
        let (outer, pid) = (format!("port{number}"), host.namespace.pid());
        ip(None, &["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        ip(None, &["link", "set", &outer, "master", BRIDGE, "up"]);
        ip(Some(&host), &["link", "set", "eth0", "up"]);
        host
    }

    /// Gives the host this address in the bridge's network, and takes away those it had.
    #[track_caller]
    pub fn move_to(&self, address: impl Into<IpAddr>) {
        let address = address.into();
        let prefix = if address.is_ipv4() { 24 } else { 64 };
        ip(Some(self), &["addr", "flush", "dev", "eth0", "scope", "global"]);
        // Nobody else is there who could have it.
        let wanted = format!("{address}/{prefix}");
        let mut arguments = vec!["addr", "add", &wanted, "dev", "eth0"];
        if address.is_ipv6() {
            arguments.push("nodad");
        }
        ip(Some(self), &arguments);
    }

    /// Puts a box before the host, as routers at home are: what is sent from one of its UDP ports leaves from another one, which is not
    /// the one that the host says of itself, and over UDP nobody comes in to whom nothing was sent before (RFC 4787: mapping independent
    /// of the endpoint, filtering by address and port). The test's own process, with its phones, is on the host's side of the box.
    #[track_caller]
    pub fn put_behind_a_box(&self, port: u16, seen_as: u16) {
        need("nft", "nftables");
        let rules = format!(
            "table ip box {{ chain input {{ type filter hook input priority 0; policy accept; \
             ip saddr != {OWN_ADDRESS} meta l4proto udp ct state new drop; }}; \
             chain output {{ type nat hook postrouting priority 100; policy accept; \
             udp sport {port} masquerade to :{seen_as}; }}; }}"
        );
        self.namespace.run(&["nft", &rules]);
    }

    /// Names the host's namespace.
    pub fn namespace(&self) -> PathBuf {
        self.namespace.path()
    }
}

#[track_caller]
fn ip(host: Option<&Host>, arguments: &[&str]) {
    let mut command = match host {
        None => Command::new("ip"),
        Some(host) => within(&host.namespace(), "ip"),
    };
    run(command.args(arguments));
}
