//! The same calls with SIPp, a stack that shares no line and no habit with baresip.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::ports::PortBlock;
use meshtone_tests::sipp::SippOptions;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, CAROL_HZ};
use meshtone_tests::{Mesh, PhoneOptions, SOON, Transport, eventually};

#[test]
fn sipp_calls_sipp_through_two_nodes_and_renegotiates() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let (alices, bobs) = (PortBlock::reserve(), PortBlock::reserve());

    SippOptions::new("register", mesh.sip(2), "bob", &bob).start(&bobs).wait_success();
    let mut callee = SippOptions::new("answer", mesh.sip(2), "bob", &bob).start(&bobs);
    let caller = SippOptions::new("call", mesh.sip(1), "alice", &alice).to("bob").over(Transport::Tcp);
    caller.start(&alices).wait_success();
    callee.wait_success();
    for number in [1, 2] {
        eventually(SOON, &format!("no call to be left at node {number}"), || {
            mesh.node(number).status()["calls"].as_array().is_some_and(Vec::is_empty)
        });
    }
}

#[test]
fn sipp_is_heard_by_a_phone_at_another_node() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut bob = PhoneOptions::new("bob", &bob, mesh.sip(2), BOB_HZ).over(Transport::Tcp).start();

    let alices = PortBlock::reserve();
    let mut call = SippOptions::new("call", mesh.sip(1), "alice", &alice).to("bob").start(&alices);
    bob.wait_established();
    call.wait_success();
    bob.wait_closed(SOON);
    bob.assert_heard(CAROL_HZ);
}

#[test]
fn a_phone_hears_sipp_at_another_node() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let bobs = PortBlock::reserve();
    SippOptions::new("register", mesh.sip(2), "bob", &bob).start(&bobs).wait_success();
    let mut callee = SippOptions::new("answer", mesh.sip(2), "bob", &bob).start(&bobs);

    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), ALICE_HZ).start();
    alice.dial("sip:bob@mesh.test");
    alice.wait_established();
    alice.wait_recorded();
    alice.hang_up();
    callee.wait_success();
    alice.assert_heard(CAROL_HZ);
}

#[test]
fn sipp_sends_message_and_options_to_sipp_at_another_node() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let (alices, bobs) = (PortBlock::reserve(), PortBlock::reserve());

    SippOptions::new("register", mesh.sip(2), "bob", &bob).start(&bobs).wait_success();
    let mut callee = SippOptions::new("take-message", mesh.sip(2), "bob", &bob).start(&bobs);
    SippOptions::new("message", mesh.sip(1), "alice", &alice).to("bob").start(&alices).wait_success();
    callee.wait_success();
}
