//! Calls between phones of different families of addresses: the sound of such a call runs through the node.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::voice::Voice;
use meshtone_tests::{MeshNode, PhoneOptions, ScriptedPhone, Transport};

/// A node that listens on either family, and where phones of the newer one reach it.
fn node() -> (MeshNode, SocketAddr) {
    let mut node = MeshNode::unstarted("families").with_domain("mesh.test");
    let newer = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), node.sip().port());
    node.run(&["--sip", &newer.to_string()]);
    (node, newer)
}

#[test]
fn a_phone_with_ipv4_alone_and_one_with_ipv6_alone_hear_each_other() {
    let (node, newer) = node();
    let mut alice = PhoneOptions::new("alice", &node.user_add("alice"), node.sip(), ALICE_HZ).start();
    let bob = PhoneOptions::new("bob", &node.user_add("bob"), newer, BOB_HZ);
    let mut bob = bob.living_at(Ipv6Addr::LOCALHOST).start();
    talk(&mut alice, &mut bob, "sip:bob@mesh.test", HangsUp::Caller);
    talk(&mut bob, &mut alice, "sip:alice@mesh.test", HangsUp::Caller);
}

#[test]
fn a_phone_that_is_reached_over_one_family_and_has_its_sound_over_the_other_hears_and_is_heard() {
    let (node, newer) = node();
    let mut alice = PhoneOptions::new("alice", &node.user_add("alice"), node.sip(), ALICE_HZ).start();
    let mut bob = ScriptedPhone::new(Transport::Udp, newer).of("bob", &node.user_add("bob"));
    bob.register();
    let voice = Voice::at(Ipv4Addr::LOCALHOST, BOB_HZ);
    alice.dial("sip:bob@mesh.test");
    let invite = bob.incoming("INVITE");
    voice.talk_to(&invite.body);
    bob.reply(&invite, 200, "OK", &voice.sdp());
    bob.incoming("ACK");
    // It is told where the node's sound is in its own family.
    let again = bob.incoming("INVITE");
    voice.talk_to(&again.body);
    bob.reply(&again, 200, "OK", &voice.sdp());
    bob.incoming("ACK");
    voice.forget();
    alice.wait_established();
    voice.assert_hears(ALICE_HZ);
    alice.wait_recorded();
    alice.hang_up();
    let bye = bob.incoming("BYE");
    bob.reply(&bye, 200, "OK", "");
    alice.assert_heard(BOB_HZ);
}
