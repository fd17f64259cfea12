//! Calls between a mesh and somebody else's SIP domain, by DNS and over a trunk. The other side is Kamailio.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use meshtone_tests::kamailio::{KAMAILIO_DOMAIN, Kamailio, PASSWORD};
use meshtone_tests::name_server::NameServer;
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::{DOMAIN, MeshNode, Phone, PhoneOptions, SOON};

/// A node with these settings besides those of every test; it may call loopback.
fn configured(node: &mut MeshNode, settings: &str) {
    let path = node.data().with_file_name("config.toml");
    std::fs::write(&path, settings).unwrap();
    node.run(&["--config", path.to_str().unwrap()]);
}

fn at_kamailio(user: &str, server: SocketAddr, tone_hz: f64) -> Phone {
    PhoneOptions::new(user, PASSWORD, server, tone_hz).in_domain(KAMAILIO_DOMAIN).start()
}

fn sip_of(node: &MeshNode, user: &str, tone_hz: f64) -> Phone {
    let password = node.user_add(user);
    PhoneOptions::new(user, &password, node.sip(), tone_hz).start()
}

#[test]
fn a_plain_sip_domain_is_called_by_dns() {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let kamailio = Kamailio::start(node.sip());
    let names = NameServer::with_domain(KAMAILIO_DOMAIN, kamailio.address());
    let settings = format!("dns = [\"{}\"]\nallow_private_destinations = true\n", names.address());
    configured(&mut node, &settings);
    let mut alice = sip_of(&node, "alice", 440.0);
    let mut carol = at_kamailio("carol", kamailio.address(), 880.0);

    talk(&mut alice, &mut carol, &format!("sip:carol@{KAMAILIO_DOMAIN}"), HangsUp::Caller);

    // Who Alice is was asserted among nodes that trust each other, and to nobody else.
    let invites: Vec<String> =
        kamailio.log().lines().filter(|line| line.contains("INVITE")).map(str::to_owned).collect();
    assert!(invites.iter().any(|line| line.contains("from sip:alice@")), "{invites:?}");
    assert!(invites.iter().all(|line| line.ends_with("pai=<null>")), "{invites:?}");
    // A user who does not exist there is its answer to give.
    alice.dial(&format!("sip:nobody@{KAMAILIO_DOMAIN}"));
    assert!(alice.wait_closed(SOON).starts_with("404"));
}

#[test]
fn without_leave_no_stranger_comes_in_and_nothing_private_is_called() {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let kamailio = Kamailio::start(node.sip());
    let names = NameServer::with_domain(KAMAILIO_DOMAIN, kamailio.address());
    configured(&mut node, &format!("dns = [\"{}\"]\n", names.address()));
    let mut alice = sip_of(&node, "alice", 440.0);
    let mut carol = at_kamailio("carol", kamailio.address(), 880.0);

    for target in [format!("sip:carol@{KAMAILIO_DOMAIN}"), format!("sip:carol@{}", kamailio.address())] {
        alice.dial(&target);
        assert!(alice.wait_closed(SOON).starts_with("403"), "{target}");
    }
    assert!(!kamailio.log().contains("from sip:alice@"));
    // Existing or not, Carol's phone is asked for a password that it does not have.
    for user in ["alice", "nobody"] {
        carol.dial(&format!("sip:{user}@{DOMAIN}"));
        let reason = carol.wait_closed(SOON);
        assert!(!reason.starts_with("404") && !reason.starts_with("480"), "{user}: {reason}");
    }
    assert!(!alice.has_event("CALL_INCOMING"));
    // Nobody is called in an emergency but the place that was chosen for it.
    alice.dial("112");
    assert!(alice.wait_closed(SOON).starts_with("403"));
}

#[test]
fn a_known_domain_calls_in_and_cannot_tell_who_is_missing_from_who_is_away() {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let kamailio = Kamailio::start(node.sip());
    let names = NameServer::with_domain(KAMAILIO_DOMAIN, kamailio.address());
    let settings = format!(
        "dns = [\"{}\"]\nallow_private_destinations = true\ninbound = \"known\"\nknown_domains = [\"{KAMAILIO_DOMAIN}\"]\n",
        names.address()
    );
    configured(&mut node, &settings);
    let mut alice = sip_of(&node, "alice", 440.0);
    let mut carol = at_kamailio("carol", kamailio.address(), 880.0);
    talk(&mut carol, &mut alice, &format!("sip:alice@{DOMAIN}"), HangsUp::Caller);
    carol.dial(&format!("sip:nobody@{DOMAIN}"));
    assert!(carol.wait_closed(SOON).starts_with("480"));
}
