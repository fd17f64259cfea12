//! Nodes of two releases in one overlay: each is a home node of the other's users, and either may be replaced by the other.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use meshtone_tests::command::binary;
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{DOMAIN, Mesh, MeshNode, PhoneOptions, SOON, eventually};

/// Names the program of the other release.
const OTHER: &str = "MESHTONE_OTHER_BIN";
const BOB: &str = "sip:bob@mesh.test";
const ALICE: &str = "sip:alice@mesh.test";

/// A node of its own overlay, and one that joins it, of two releases.
fn meet(first: PathBuf, second: PathBuf) {
    let mut founder = MeshNode::unstarted("n1").with_domain(DOMAIN);
    founder.set_program(&first);
    founder.run(&[]);
    let mut joining = MeshNode::unstarted("n2");
    joining.set_program(&second);
    joining.run(&["--join", &founder.invite()]);
    let mut mesh = Mesh { nodes: vec![founder, joining] };
    mesh.wait_linked();

    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), ALICE_HZ).start();
    let mut bob = PhoneOptions::new("bob", &bob, mesh.sip(2), BOB_HZ).start();
    mesh.wait_announced(2);
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    talk(&mut bob, &mut alice, ALICE, HangsUp::Callee);

    // The second is brought to the release of the first, or back to it: what it kept is still good.
    assert_eq!(mesh.node_mut(2).terminate(), Some(0));
    mesh.node_mut(2).set_program(&first);
    mesh.node_mut(2).restart();
    mesh.wait_linked();
    assert_eq!(mesh.node(2).contacts(&format!("bob@{DOMAIN}")).len(), 1, "its phone need not register again");
    eventually(SOON, "Bob's record to be stored again", || mesh.node(1).records("sip-registration") >= 2);
    talk(&mut alice, &mut bob, BOB, HangsUp::Callee);
}

fn other() -> PathBuf {
    std::env::var_os(OTHER).map(PathBuf::from).unwrap_or_else(|| panic!("{OTHER} is not set: `make releases` sets it"))
}

#[test]
#[ignore = "another release has to be built first: `make releases`"]
fn a_new_node_joins_an_overlay_of_the_other_release() {
    meet(other(), binary());
}

#[test]
#[ignore = "another release has to be built first: `make releases`"]
fn a_node_of_the_other_release_joins_a_new_overlay() {
    meet(binary(), other());
}
