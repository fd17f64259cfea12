//! Nodes behind boxes that let nobody in who was not spoken to, at ports that they do not know of: they are introduced to each other by
//! a node that both have links to, and their phones call each other.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;

use meshtone_tests::lan::{Host, OWN_ADDRESS, in_own_network};
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{Mesh, MeshNode, PhoneOptions, SOON, eventually};

const BOB: &str = "sip:bob@mesh.test";

/// Where others see the packets of those behind boxes come from.
const SEEN_AS: u16 = 45_000;

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 81, 0, last)
}

/// How a node's link to the one seen here travels, if there is one.
fn path_to(node: &MeshNode, last: u8) -> Option<String> {
    let status = node.status();
    let paths = status["links"].as_array()?.iter().filter_map(|link| link["path"].as_str());
    paths.map(str::to_owned).find(|path| path.ends_with(&format!(" {}:{SEEN_AS}", at(last))))
}

#[test]
fn phones_at_two_nodes_that_nobody_can_dial_call_each_other() {
    if !in_own_network("phones_at_two_nodes_that_nobody_can_dial_call_each_other") {
        return;
    }
    let hosts = [1, 2, 3].map(Host::new);
    let mut mesh = Mesh { nodes: vec![MeshNode::unstarted("n1").with_domain("mesh.test")] };
    mesh.nodes.extend(["n2", "n3"].map(MeshNode::unstarted));
    for (node, (host, last)) in mesh.nodes.iter_mut().zip(hosts.iter().zip(1..)) {
        node.live_on(host, at(last));
    }
    for number in [2, 3] {
        hosts[number - 1].put_behind_a_box(mesh.node(number).link().port(), SEEN_AS);
    }
    mesh.node_mut(1).run(&["--no-mdns"]);
    for number in [2, 3] {
        let ticket = mesh.node(1).invite();
        mesh.node_mut(number).run(&["--no-mdns", "--join", &ticket, "--role", "ordinary"]);
        eventually(SOON, &format!("n{number} to be served"), || mesh.node(number).links() >= 1);
    }
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let phone = |user: &str, password: &str, number: usize, tone| {
        PhoneOptions::new(user, password, mesh.sip(number), tone).living_at(OWN_ADDRESS).start()
    };
    let (mut alice, mut bob) = (phone("alice", &alice, 3, ALICE_HZ), phone("bob", &bob, 2, BOB_HZ));
    mesh.node(1).wait_records("sip-registration", 2);
    // Home nodes of one domain look for each other; the first time, the one may not have said yet who could introduce others to it.
    let paths = || [path_to(mesh.node(2), 3), path_to(mesh.node(3), 2)];
    eventually(SOON * 3, "the two to be linked", || paths().iter().all(Option::is_some));
    let how = paths().map(Option::unwrap);
    assert!(how.iter().any(|path| path.starts_with("introduced ")), "{how:?}");
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
}
