//! With `anchor = "always"` all sound runs through the node: of calls to and from other domains, over trunks, and after redirections, too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;

use meshtone_tests::kamailio::{KAMAILIO_DOMAIN, Kamailio, PASSWORD};
use meshtone_tests::name_server::NameServer;
use meshtone_tests::provider::{PROVIDER, PROVIDER_PASSWORD, Provider, TRUNK_NUMBER};
use meshtone_tests::scripted::SDP;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{Answer, DOMAIN, MeshNode, Phone, PhoneOptions, SOON, ScriptedPhone, eventually};
use serde_json::json;

const ALWAYS: &str = "[media]\nanchor = \"always\"\n";

fn phone(node: &MeshNode, user: &str, tone_hz: f64) -> PhoneOptions {
    PhoneOptions::new(user, &node.user_add(user), node.sip(), tone_hz)
}

/// One call with sound both ways, which runs over a pair of the node's ports towards either side.
#[track_caller]
fn talk_through(node: &MeshNode, caller: &mut Phone, callee: &mut Phone, target: &str) {
    caller.forget_recordings();
    callee.forget_recordings();
    caller.dial(target);
    callee.wait_established();
    caller.wait_established();
    let status = node.status();
    assert_eq!(status["media"]["ports"], json!(2), "{status:#}");
    caller.wait_recorded();
    callee.wait_recorded();
    caller.hang_up();
    callee.wait_closed(SOON);
    caller.assert_heard(callee.tone_hz());
    callee.assert_heard(caller.tone_hz());
    eventually(SOON, "the ports to be free", || node.status()["media"]["ports"] == json!(0));
}

#[test]
fn calls_over_a_trunk_run_through_the_node_out_and_in() {
    let provider = Provider::start();
    let names = NameServer::with_domain(PROVIDER, provider.address());
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let secret = node.data().parent().unwrap().join("password");
    std::fs::write(&secret, PROVIDER_PASSWORD).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    node.run_configured(&format!(
        "dns = [\"{}\"]\n{ALWAYS}[[trunk]]\nname = \"provider\"\nserver = \"{PROVIDER}\"\nuser = \"{TRUNK_NUMBER}\"\n\
         password_file = \"password\"\noutbound = [{{ prefix = \"0\", strip = 1, add = \"+49\" }}]\n\
         inbound = [{{ number = \"+{TRUNK_NUMBER}\", to = \"alice\" }}]\n",
        names.address()
    ));
    eventually(SOON * 2, "the trunk to be registered", || node.status()["trunks"][0]["state"] == "registered");
    let mut alice = phone(&node, "alice", ALICE_HZ).start();
    let mut customer = provider.customer("49301", BOB_HZ, Answer::Auto);
    talk_through(&node, &mut alice, &mut customer, "0301");
    talk_through(&node, &mut customer, &mut alice, &format!("sip:{TRUNK_NUMBER}@{PROVIDER}"));
    let over = node.status()["finished_calls"].clone();
    assert_eq!(over.as_array().map(Vec::len), Some(2), "{over:#}");
    assert!(
        over.as_array().unwrap().iter().all(|call| call["sound"]["heard_by_caller"]["codec"] == "PCMU"),
        "{over:#}"
    );
}

#[test]
fn calls_to_and_from_another_domain_run_through_the_node() {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let kamailio = Kamailio::start(node.sip());
    let names = NameServer::with_domain(KAMAILIO_DOMAIN, kamailio.address());
    node.run_configured(&format!(
        "dns = [\"{}\"]\nallow_private_destinations = true\ninbound = \"known\"\nknown_domains = [\"{KAMAILIO_DOMAIN}\"]\n{ALWAYS}",
        names.address()
    ));
    let mut alice = phone(&node, "alice", ALICE_HZ).start();
    let carol = PhoneOptions::new("carol", PASSWORD, kamailio.address(), BOB_HZ).in_domain(KAMAILIO_DOMAIN);
    let mut carol = carol.start();
    talk_through(&node, &mut alice, &mut carol, &format!("sip:carol@{KAMAILIO_DOMAIN}"));
    talk_through(&node, &mut carol, &mut alice, &format!("sip:alice@{DOMAIN}"));
    // What is refused there passes.
    alice.dial(&format!("sip:nobody@{KAMAILIO_DOMAIN}"));
    assert!(alice.wait_closed(SOON).starts_with("404"));
}

#[test]
fn a_call_that_a_phone_sends_to_another_one_runs_through_the_node() {
    let node = {
        let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
        node.run_configured(ALWAYS);
        node
    };
    let mut alice = phone(&node, "alice", ALICE_HZ).start();
    let mut bob = phone(&node, "bob", BOB_HZ).answered_by_hand().start();
    let mut carol = ScriptedPhone::udp(node.sip()).of("carol", &node.user_add("carol"));
    carol.register();
    alice.dial("sip:carol@mesh.test");
    let at_carol = carol.incoming("INVITE");
    assert_ne!(at_carol.body, SDP.as_bytes());
    carol.redirect(&at_carol, "sip:bob@mesh.test");
    bob.wait_incoming();
    bob.answer();
    alice.wait_established();
    eventually(SOON, "a pair of ports for either side", || node.status()["media"]["ports"] == json!(2));
    alice.wait_recorded();
    bob.wait_recorded();
    alice.hang_up();
    bob.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    bob.assert_heard(ALICE_HZ);
}
