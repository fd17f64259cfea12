//! Nodes die: cleanly, suddenly, one after the other, all at once. Calls that can work go on working, and the others
//! end with an answer instead of silence.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{DOMAIN, Mesh, MeshNode, PhoneOptions, SOON, ScriptedPhone, Transport, eventually};

const BOB: &str = "sip:bob@mesh.test";
/// A dead link is noticed after 6 s, and a peer that says nothing is given up after 2 s; both with room for a busy
/// machine, and far from the 32 s that SIP's own timers would take.
const FEW_SECONDS: Duration = Duration::from_secs(12);
/// The overlay notices a death, and the nodes that are now closest are given what they should hold.
const REPAIR: Duration = Duration::from_secs(60);
/// Copies of a record.
const REPLICAS: usize = 5;

#[test]
fn a_call_gets_through_while_the_nodes_that_hold_the_record_die_one_by_one() {
    let mut mesh = Mesh::start(7);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut bob = PhoneOptions::new("bob", &bob, mesh.sip(7), BOB_HZ).over(Transport::Tcp).start();
    // Alice only calls: Bob's record is then the only one of its kind, and it can be told who holds it.
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), ALICE_HZ).unregistered().start();

    wait_for_copies(&mesh);
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    while let Some(victim) = (2..=6).find(|number| runs(&mut mesh, *number) && holds_record(mesh.node(*number))) {
        mesh.node_mut(victim).kill9();
        talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
        wait_for_copies(&mesh);
    }
    let left = (2..=6).filter(|number| runs(&mut mesh, *number)).count();
    assert_eq!(left, 0, "with five copies among ever fewer nodes, each of the others came to hold one");
}

fn runs(mesh: &mut Mesh, number: usize) -> bool {
    mesh.node_mut(number).is_running()
}

fn holds_record(node: &MeshNode) -> bool {
    node.records("sip-registration") > 0
}

/// Waits until as many running nodes hold Bob's record as should.
#[track_caller]
fn wait_for_copies(mesh: &Mesh) {
    let running: Vec<&MeshNode> = mesh.nodes.iter().filter(|node| node.is_started()).collect();
    let wanted = REPLICAS.min(running.len());
    eventually(REPAIR, &format!("{wanted} of {} nodes to hold Bob's record", running.len()), || {
        running.iter().filter(|node| holds_record(node)).count() >= wanted
    });
}

#[test]
fn who_registered_while_there_was_one_node_is_called_from_the_first_that_joins() {
    let mut mesh = Mesh { nodes: vec![MeshNode::first("n1")] };
    let bob = mesh.user("bob");
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    bob.register();

    let ticket = mesh.node(1).invite();
    mesh.nodes.push(MeshNode::joining("n2", &ticket));
    mesh.wait_linked();
    let alice = mesh.user("alice");
    eventually(SOON, "Bob to be known at the new node", || mesh.node(2).must(&["user", "list"]).contains("bob"));
    mesh.wait_announced(1);
    let mut alice = ScriptedPhone::udp(mesh.sip(2)).of("alice", &alice);
    let invite = alice.invite(BOB);
    let ringing = bob.incoming("INVITE");
    bob.reply(&ringing, 200, "OK", meshtone_tests::scripted::SDP);
    alice.established(&invite);
    bob.incoming("ACK");
}

#[test]
fn calls_to_a_phone_whose_node_was_killed_end_with_480_and_work_again_elsewhere() {
    let mut mesh = Mesh::start(3);
    let (alice, bob_password) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), ALICE_HZ).start();
    let mut bob = PhoneOptions::new("bob", &bob_password, mesh.sip(3), BOB_HZ).start();
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);

    mesh.node_mut(3).kill9();
    let dialled = Instant::now();
    alice.dial(BOB);
    let reason = alice.wait_closed(SOON);
    assert!(reason.starts_with("480"), "{reason}");
    assert!(dialled.elapsed() < FEW_SECONDS, "480 came only after {:?}", dialled.elapsed());

    bob.unplug();
    let mut bob = PhoneOptions::new("bob", &bob_password, mesh.sip(2), BOB_HZ).start();
    talk(&mut alice, &mut bob, BOB, HangsUp::Callee);
}

#[test]
fn a_user_who_moves_while_he_is_called_rings_where_he_is_now() {
    let mesh = Mesh::start(3);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut at_three = ScriptedPhone::udp(mesh.sip(3)).of("bob", &bob);
    let mut at_two = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bob);
    at_three.register();
    eventually(SOON, "Bob's record to be stored", || mesh.node(1).records("sip-registration") == 1);

    let invite = alice.invite(BOB);
    let ringing = at_three.incoming("INVITE");
    at_two.register();
    eventually(SOON, "Bob's second record to be stored", || mesh.node(1).records("sip-registration") == 2);
    at_three.reply(&ringing, 480, "Left", "");
    let ringing = at_two.incoming("INVITE");
    at_two.reply(&ringing, 200, "OK", meshtone_tests::scripted::SDP);
    alice.established(&invite);
    at_two.incoming("ACK");
}

#[test]
fn a_frozen_node_costs_its_callers_seconds_and_not_the_call_to_another_phone() {
    let mesh = Mesh::start(3);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut at_two = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bob);
    let mut at_three = ScriptedPhone::udp(mesh.sip(3)).of("bob", &bob);
    at_two.register();
    at_three.register();

    mesh.node(3).freeze();
    let invite = alice.invite(BOB);
    let ringing = at_two.incoming("INVITE");
    at_two.reply(&ringing, 200, "OK", meshtone_tests::scripted::SDP);
    alice.established(&invite);
    at_two.incoming("ACK");
    mesh.node(3).thaw();
}

#[test]
fn a_node_that_ends_cleanly_takes_its_bindings_along() {
    let mut mesh = Mesh::start(3);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(3)).of("bob", &bob);
    bob.register();
    eventually(SOON, "Bob's record to be stored", || holds_record(mesh.node(1)) && holds_record(mesh.node(2)));

    assert_eq!(mesh.node_mut(3).terminate(), Some(0), "SIGTERM is an ordinary end");
    eventually(SOON, "Bob's record to be gone", || !holds_record(mesh.node(1)) && !holds_record(mesh.node(2)));
    let invite = alice.invite(BOB);
    // A node that is gone without a word is called and waited for; then nobody answers there.
    assert_eq!(alice.final_answer(&invite).start, "SIP/2.0 480 Not registered anywhere");
}

#[test]
fn all_nodes_killed_at_once_come_back_with_accounts_and_bindings() {
    let mut mesh = Mesh::start(3);
    let (alice_password, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice_password, mesh.sip(1), ALICE_HZ).start();
    let mut bob = PhoneOptions::new("bob", &bob, mesh.sip(3), BOB_HZ).start();
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);

    for node in &mut mesh.nodes {
        node.kill9();
    }
    for node in &mut mesh.nodes {
        node.launch(&[]);
    }
    for node in &mut mesh.nodes {
        node.wait_ready();
    }
    // Their phones register every ten minutes only, so what is there was remembered.
    assert_eq!(mesh.node(3).contacts(&format!("bob@{DOMAIN}")).len(), 1);
    assert_eq!(mesh.node(1).contacts(&format!("alice@{DOMAIN}")).len(), 1);
    mesh.wait_linked();
    eventually(SOON, "Bob's node to have told the overlay", || holds_record(mesh.node(1)));
    talk(&mut alice, &mut bob, BOB, HangsUp::Callee);

    let mut again = ScriptedPhone::udp(mesh.sip(2)).of("alice", &alice_password);
    assert_eq!(again.try_register(600).status(), 200, "accounts are at every node");
}
