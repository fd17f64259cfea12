//! A network of the test's own, whose links can be cut: a network namespace with nothing but a loopback device, and a packet
//! filter in it.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// Says to the process that it runs in a network of its own.
const INSIDE: &str = "TEST_IN_OWN_NETWORK";

/// Runs the test of this name once more in a network of its own, and returns whether this is that run.
pub fn in_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        must("ip", &["link", "set", "lo", "up"], "");
        must("nft", &["-f", "-"], "add table ip cut\nadd chain ip cut out { type filter hook output priority 0; }\n");
        return true;
    }
    let program = std::env::current_exe().unwrap();
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

/// Lets nothing pass between two addresses, or networks such as `127.0.1.0/24`.
pub fn cut(one: &str, other: &str) {
    let both = format!(
        "add rule ip cut out ip saddr {one} ip daddr {other} drop\nadd rule ip cut out ip saddr {other} ip daddr {one} drop"
    );
    must("nft", &["-f", "-"], &both);
}

/// Cuts the link between two addresses.
pub fn cut_link(one: Ipv4Addr, other: Ipv4Addr) {
    cut(&one.to_string(), &other.to_string());
}

/// Lets everything pass again.
pub fn heal() {
    must("nft", &["-f", "-"], "flush chain ip cut out");
}

fn must(program: &str, arguments: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .expect("it is installed by `make test-tools`");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let end = child.wait().unwrap();
    assert!(end.success(), "{program} {arguments:?} failed ({end}) at: {input}");
}
