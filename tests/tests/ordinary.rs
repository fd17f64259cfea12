//! Ordinary nodes: their users are called like anybody's, and nobody's records depend on them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{Mesh, MeshNode, PhoneOptions, SOON, eventually};

const BOB: &str = "sip:bob@mesh.test";

/// Two nodes that serve and two ordinary ones.
fn mesh() -> Mesh {
    let mut mesh = Mesh::start(2);
    for name in ["n3", "n4"] {
        let mut node = MeshNode::unstarted(name);
        node.run(&["--join", &mesh.nodes[0].invite(), "--role", "ordinary"]);
        mesh.nodes.push(node);
    }
    for number in [3, 4] {
        eventually(SOON, &format!("n{number} to be served"), || mesh.node(number).links() >= 2);
    }
    mesh
}

fn records_of_all_kinds(node: &MeshNode) -> u64 {
    let status = node.status();
    status["records"].as_object().map_or(0, |kinds| kinds.values().filter_map(|count| count.as_u64()).sum())
}

#[test]
fn phones_at_ordinary_nodes_call_each_other_and_those_nodes_hold_nothing() {
    let mut mesh = mesh();
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(3), ALICE_HZ).start();
    let mut bob = PhoneOptions::new("bob", &bob, mesh.sip(4), BOB_HZ).start();
    for number in [1, 2] {
        mesh.node(number).wait_records("sip-registration", 2);
        eventually(SOON, "both to be served", || mesh.node(number).status()["nodes_served"] == 2);
    }
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    for number in [3, 4] {
        assert_eq!(records_of_all_kinds(mesh.node(number)), 0, "n{number} holds records");
        assert!(mesh.node(number).must(&["status"]).contains("\nrole      ordinary"));
    }

    // Neither of the two is missed where it did not serve, and one of those that do is enough.
    mesh.node_mut(2).kill9();
    talk(&mut alice, &mut bob, BOB, HangsUp::Callee);
}

#[test]
fn phones_at_ordinary_nodes_call_each_other_when_all_who_served_them_were_replaced() {
    let mut mesh = mesh();
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(3), ALICE_HZ).start();
    let mut bob = PhoneOptions::new("bob", &bob, mesh.sip(4), BOB_HZ).start();
    mesh.node(1).wait_records("sip-registration", 2);
    for name in ["n5", "n6"] {
        let ticket = mesh.node(1).invite();
        mesh.nodes.push(MeshNode::joining(name, &ticket));
    }
    for number in [5, 6] {
        mesh.node(number).wait_records("sip-registration", 2);
        eventually(SOON, "both to be served", || mesh.node(number).status()["nodes_served"] == 2);
    }
    // The first call finds one of those who served gone without a word, the second one all of them.
    mesh.node_mut(1).kill9();
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    mesh.node_mut(2).kill9();
    talk(&mut alice, &mut bob, BOB, HangsUp::Callee);
}

#[test]
fn a_node_that_stops_serving_hands_over_what_it_held() {
    let mut mesh = Mesh::start(3);
    let bob = mesh.user("bob");
    let mut bob = meshtone_tests::ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    bob.register();
    mesh.wait_announced(1);
    assert_eq!(mesh.node_mut(3).terminate(), Some(0));
    mesh.node_mut(3).run(&["--role", "ordinary"]);
    // What is not confirmed at once is offered again a minute later.
    eventually(SOON * 6, "n3 to have handed over everything", || {
        records_of_all_kinds(mesh.node(3)) == 0 && mesh.node(3).links() >= 2
    });
    assert!((1..=2).all(|number| mesh.node(number).records("sip-registration") == 1));
}
