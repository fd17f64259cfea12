//! Calls between a mesh and somebody else's SIP domain, by DNS and over a trunk. The other side is Kamailio.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use meshtone_tests::certificates::{Authority, CertificateFiles};
use meshtone_tests::kamailio::{KAMAILIO_DOMAIN, Kamailio, PASSWORD};
use meshtone_tests::name_server::NameServer;
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::{DOMAIN, MeshNode, Phone, PhoneOptions, SOON};

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
    node.run_configured(&settings);
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
    node.run_configured(&format!("dns = [\"{}\"]\n", names.address()));
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
    node.run_configured(&settings);
    let mut alice = sip_of(&node, "alice", 440.0);
    let mut carol = at_kamailio("carol", kamailio.address(), 880.0);
    talk(&mut carol, &mut alice, &format!("sip:alice@{DOMAIN}"), HangsUp::Caller);
    carol.dial(&format!("sip:nobody@{DOMAIN}"));
    assert!(carol.wait_closed(SOON).starts_with("480"));
}

/// A node that trusts one authority, its user Alice's phone, and Kamailio, which the DNS says is reached over TLS alone.
struct OverTls {
    node: MeshNode,
    kamailio: Kamailio,
    alice: Phone,
    _names: NameServer,
}

fn over_tls(authority: &Authority, certificate: &CertificateFiles) -> OverTls {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let kamailio = Kamailio::start_with_tls(node.sip(), certificate);
    let names = NameServer::with_tls_domain(KAMAILIO_DOMAIN, kamailio.tls_address());
    let settings = format!(
        "dns = [\"{}\"]\nallow_private_destinations = true\ntls_ca = \"{}\"\n",
        names.address(),
        authority.certificate().display()
    );
    node.run_configured(&settings);
    let alice = sip_of(&node, "alice", 440.0);
    OverTls { node, kamailio, alice, _names: names }
}

#[test]
fn a_domain_over_tls_is_called_when_its_certificate_names_it() {
    let authority = Authority::new();
    let mut over_tls = over_tls(&authority, &authority.issue(&[KAMAILIO_DOMAIN], 2100));
    let mut carol = at_kamailio("carol", over_tls.kamailio.address(), 880.0);
    talk(&mut over_tls.alice, &mut carol, &format!("sip:carol@{KAMAILIO_DOMAIN}"), HangsUp::Caller);
}

#[test]
fn a_domain_over_tls_that_cannot_prove_its_name_is_not_called_and_the_log_says_why() {
    let authority = Authority::new();
    let stranger = Authority::new();
    for (certificate, why) in [
        (authority.issue(&["other.test"], 2100), "name"),
        (authority.issue(&["*.test"], 2100), "name"),
        (authority.issue(&[KAMAILIO_DOMAIN], 2021), "expired"),
        (authority.self_signed(&[KAMAILIO_DOMAIN]), "unknownissuer"),
        (stranger.issue(&[KAMAILIO_DOMAIN], 2100), "unknownissuer"),
    ] {
        let OverTls { node, kamailio, mut alice, _names } = over_tls(&authority, &certificate);
        alice.dial(&format!("sip:carol@{KAMAILIO_DOMAIN}"));
        assert!(alice.wait_closed(SOON).starts_with("480"), "{why}");
        let log = std::fs::read_to_string(node.log()).unwrap();
        let said = log.lines().find(|line| line.contains("could not prove who it is"));
        assert!(said.is_some_and(|line| line.to_lowercase().contains(why)), "{why:?} is not said in {said:?}");
        assert!(!kamailio.log().contains("from sip:alice@"), "nothing was sent to it");
    }
}
