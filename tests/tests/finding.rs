//! Nodes that have lost each other find each other again: after sleep and a change of address by themselves, otherwise by what a
//! person or the DNS says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use meshtone_tests::lan::{Host, OWN_ADDRESS, in_own_network};
use meshtone_tests::name_server::NameServer;
use meshtone_tests::{Mesh, MeshNode, SOON, ScriptedPhone, eventually};

const ALICE: &str = "alice";
const BOB: &str = "bob";

/// Where the two nodes are after they have moved.
const NEW_HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 81, 1), Ipv4Addr::new(127, 0, 81, 2)];

/// Two nodes that know each other by addresses at which nobody is any more; neither runs.
fn moved_apart() -> (Mesh, [String; 2]) {
    let mut mesh = Mesh::start(2);
    let passwords = [mesh.user(ALICE), mesh.user(BOB)];
    let knows = |node: &MeshNode| node.status()["overlay_nodes_known"] == 1;
    eventually(SOON, "both to know each other", || mesh.nodes.iter().all(knows));
    for (node, host) in mesh.nodes.iter_mut().zip(NEW_HOSTS) {
        assert_eq!(node.terminate(), Some(0));
        node.move_to(host);
    }
    (mesh, passwords)
}

/// Alice, at the first node, calls Bob, at the second.
fn call(mesh: &Mesh, [alice, bob]: &[String; 2]) {
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of(ALICE, alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(2)).of(BOB, bob);
    take_a_call(mesh, &mut alice, &mut bob);
}

fn take_a_call(mesh: &Mesh, alice: &mut ScriptedPhone, bob: &mut ScriptedPhone) {
    bob.register();
    mesh.wait_announced(1);
    let invite = alice.invite("sip:bob@mesh.test");
    let ringing = bob.incoming("INVITE");
    bob.reply(&ringing, 200, "OK", &bob.sdp());
    alice.established(&invite);
    bob.incoming("ACK");
}

/// The same, while the test's own phones are elsewhere than on loopback.
fn call_from(own: Ipv4Addr, mesh: &Mesh, [alice, bob]: &[String; 2]) {
    let mut alice = ScriptedPhone::udp_from(own, mesh.sip(1)).of(ALICE, alice);
    let mut bob = ScriptedPhone::udp_from(own, mesh.sip(2)).of(BOB, bob);
    take_a_call(mesh, &mut alice, &mut bob);
}

fn tried(node: &MeshNode) -> String {
    node.status()["search"]["tried"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn two_nodes_that_both_moved_find_each_other_by_the_peer_that_a_person_names() {
    let (mut mesh, passwords) = moved_apart();
    mesh.node_mut(2).restart();
    mesh.node_mut(1).restart();
    let in_vain = |node: &MeshNode| node.status()["search"]["attempts"].as_u64().is_some_and(|attempts| attempts > 0);
    eventually(SOON, "n1 to dial in vain", || in_vain(mesh.node(1)));
    let ways = "1 node known from before; the local network (this machine is in none)";
    assert_eq!(tried(mesh.node(1)), ways);
    assert!(mesh.node(1).must(&["status"]).contains(&format!("\ntried     {ways}")));

    let peer = mesh.node(2).peer();
    mesh.node_mut(1).terminate();
    mesh.node_mut(1).run(&["--peer", &peer]);
    mesh.wait_linked();
    call(&mesh, &passwords);
}

#[test]
fn two_nodes_that_both_moved_find_each_other_by_a_domain() {
    let (mut mesh, passwords) = moved_apart();
    mesh.node_mut(2).restart();
    // One of the records names the node at its host, others are not for us, or lead nowhere.
    let peer = mesh.node(2).peer();
    let (key, place) = peer.split_once('@').expect("KEY@ADDRESS:PORT");
    let port = place.rsplit_once(':').expect("a port").1;
    let texts = [
        "v=spf1 -all".to_owned(),
        format!("peer={key}@nowhere.nodes.test:{port}"),
        format!("peer={key}@n2.nodes.test:{port}"),
    ];
    let hosts = [("n2.nodes.test", IpAddr::from(NEW_HOSTS[1]))];
    let dns = NameServer::with_texts("_meshtone.nodes.test", &texts, &hosts);
    let settings = format!("peer = \"nodes.test\"\ndns = [\"{}\"]\n", dns.address());
    mesh.node_mut(1).run_configured(&settings);
    mesh.wait_linked();
    call(&mesh, &passwords);
}

#[test]
fn a_node_whose_domain_names_nobody_says_so() {
    let dns = NameServer::with_texts("_meshtone.other.test", &[], &[]);
    let mut node = MeshNode::unstarted("n1").with_domain("mesh.test");
    node.run_configured(&format!("peer = \"nodes.test\"\ndns = [\"{}\"]\n", dns.address()));
    let sentence = "--peer nodes.test (the DNS names no node there); the local network (this machine is in none)";
    eventually(SOON, "the node to say what it tried", || tried(&node) == sentence);
    // It is said every minute, and the first time the name server may not have been up.
    eventually(SOON * 6, "the log to say so", || std::fs::read_to_string(node.log()).unwrap().contains(sentence));
}

#[test]
fn nodes_with_ipv6_addresses_alone_find_and_call_each_other() {
    let mut first = MeshNode::unstarted("n1").with_domain("mesh.test");
    first.move_to(Ipv6Addr::LOCALHOST);
    first.run(&[]);
    let mut second = MeshNode::unstarted("n2");
    second.move_to(Ipv6Addr::LOCALHOST);
    second.run(&["--join", &first.invite()]);
    let mesh = Mesh { nodes: vec![first, second] };
    mesh.wait_linked();
    assert!(mesh.node(2).peer().contains("@[::1]:"));
    let path = mesh.node(1).status()["links"][0]["path"].as_str().expect("a path").to_owned();
    assert!(path.starts_with("direct [::1]:"), "{path}");
    let passwords = [mesh.user(ALICE), mesh.user(BOB)];
    call(&mesh, &passwords);
}

#[test]
fn a_node_of_both_families_joins_those_of_one_each() {
    let mut first = MeshNode::unstarted("n1").with_domain("mesh.test");
    let both = format!("[::1]:{}", first.link().port());
    first.run(&["--link", &both]);
    let mut second = MeshNode::unstarted("n2");
    second.move_to(Ipv6Addr::LOCALHOST);
    second.run(&["--join", &first.invite()]);
    let third = MeshNode::joining("n3", &first.invite());
    let mesh = Mesh { nodes: vec![first, second, third] };
    for number in [2, 3] {
        let linked = || mesh.node(number).links() >= 1;
        eventually(SOON, &format!("n{number} to be linked"), linked);
    }
    eventually(SOON, "n1 to be linked with both", || mesh.node(1).links() == 2);
}

/// Two nodes on hosts of their own; neither runs.
fn on_hosts(hosts: &[Host; 2]) -> Mesh {
    let mut mesh = Mesh { nodes: vec![MeshNode::unstarted("n1").with_domain("mesh.test"), MeshNode::unstarted("n2")] };
    live_at(&mut mesh, hosts, [1, 2]);
    mesh
}

/// Gives both hosts addresses in their network.
fn live_at(mesh: &mut Mesh, hosts: &[Host; 2], addresses: [u8; 2]) {
    for ((node, host), last) in mesh.nodes.iter_mut().zip(hosts).zip(addresses) {
        node.live_on(host, Ipv4Addr::new(10, 81, 0, last));
    }
}

/// Says something in the local network, as a program that speaks multicast DNS there does.
fn say(speaker: &UdpSocket, datagram: &[u8]) {
    speaker.send_to(datagram, "224.0.0.251:5353").expect("the network takes it");
}

/// An answer of multicast DNS: the node with this key has its links at port 9 of whoever sends this.
fn announcement(overlay: &str, key: &str) -> Vec<u8> {
    let label = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let record = |kind: u8, data: &[u8]| {
        let length = [0, u8::try_from(data.len()).expect("short")];
        let name = ["someone", "_meshtone", "_udp", "local", ""].map(label).concat();
        [&name[..], &[0, kind, 0, 1, 0, 0, 0, 120], &length, data].concat()
    };
    let server = [&[0, 0, 0, 0, 0, 9][..], &["someone", "local", ""].map(label).concat()].concat();
    let texts = [label(&format!("overlay={overlay}")), label(&format!("key={key}"))].concat();
    [&[0, 0, 0x84, 0, 0, 0, 0, 2, 0, 0, 0, 0][..], &record(33, &server), &record(16, &texts)].concat()
}

#[test]
fn two_nodes_that_both_moved_find_each_other_on_their_local_network() {
    if !in_own_network("two_nodes_that_both_moved_find_each_other_on_their_local_network") {
        return;
    }
    let hosts = [Host::new(1), Host::new(2)];
    let mut mesh = on_hosts(&hosts);
    mesh.node_mut(1).run(&[]);
    let ticket = mesh.node(1).invite();
    mesh.node_mut(2).run(&["--join", &ticket, "--no-mdns"]);
    mesh.wait_linked();
    let passwords = [mesh.user(ALICE), mesh.user(BOB)];
    let knows = |node: &MeshNode| node.status()["overlay_nodes_known"] == 1;
    eventually(SOON, "both to know each other", || mesh.nodes.iter().all(knows));
    let peer = mesh.node(2).peer();
    let key = peer.split_once('@').expect("KEY@ADDRESS:PORT").0;
    let overlay = mesh.node(1).status()["overlay"].as_str().expect("its overlay").to_owned();
    (1..=2).for_each(|number| assert_eq!(mesh.node_mut(number).terminate(), Some(0)));

    live_at(&mut mesh, &hosts, [11, 12]);
    mesh.node_mut(1).restart();
    let nobody = "1 node known from before; the local network (nobody is heard there)";
    eventually(SOON, "n1 to say what it tried", || tried(mesh.node(1)) == nobody);
    // Somebody there says what makes no sense, and that n2 is where he is: that is tried, and found wrong.
    let speaker = UdpSocket::bind((OWN_ADDRESS, 5353)).expect("the port of multicast DNS");
    for length in 0..200 {
        say(&speaker, &[b"_meshtone".as_slice(), &[0xc0; 200][..length]].concat());
    }
    let announcement = announcement(&overlay[..8], key);
    eventually(SOON, "n1 to hear it", || {
        say(&speaker, &announcement);
        tried(mesh.node(1)).ends_with("the local network (heard there: 1)")
    });

    mesh.node_mut(2).restart();
    mesh.wait_linked();
    call_from(OWN_ADDRESS, &mesh, &passwords);
}

#[test]
fn a_node_that_slept_until_nobody_counted_on_it_is_called_again() {
    let mesh = Mesh::start(2);
    let passwords = [mesh.user(ALICE), mesh.user(BOB)];
    mesh.node(2).freeze();
    eventually(SOON, "n1 to give its link up", || mesh.node(1).links() == 0);
    mesh.node(2).thaw();
    mesh.wait_linked();
    call(&mesh, &passwords);
}

#[test]
fn a_node_whose_address_changes_while_it_runs_is_called_again() {
    if !in_own_network("a_node_whose_address_changes_while_it_runs_is_called_again") {
        return;
    }
    let hosts = [Host::new(1), Host::new(2)];
    let mut mesh = on_hosts(&hosts);
    mesh.node_mut(1).run(&[]);
    let ticket = mesh.node(1).invite();
    mesh.node_mut(2).run(&["--join", &ticket]);
    mesh.wait_linked();
    let passwords = [mesh.user(ALICE), mesh.user(BOB)];
    call_from(OWN_ADDRESS, &mesh, &passwords);

    mesh.node_mut(2).live_on(&hosts[1], Ipv4Addr::new(10, 81, 0, 12));
    let path = || mesh.node(1).status()["links"][0]["path"].as_str().unwrap_or_default().to_owned();
    eventually(SOON * 2, "n1 to reach n2 at its new address", || path().contains("10.81.0.12:"));
    call_from(OWN_ADDRESS, &mesh, &passwords);

    // And what its phones are told leads them to where it is now.
    let mut bob = ScriptedPhone::udp_from(OWN_ADDRESS, mesh.sip(2)).of(BOB, &passwords[1]);
    bob.register();
    let mut alice = ScriptedPhone::udp_from(OWN_ADDRESS, mesh.sip(1)).of(ALICE, &passwords[0]);
    let call = alice.invite("sip:bob@mesh.test");
    let invite = bob.incoming("INVITE");
    let named: Vec<&str> = invite.fields("Via").chain(invite.fields("Record-Route")).collect();
    assert!(named.iter().any(|field| field.contains("10.81.0.12")), "{named:?}");
    assert!(!named.iter().any(|field| field.contains("10.81.0.2:")), "{named:?}");
    bob.reply(&invite, 200, "OK", &bob.sdp());
    alice.established(&call);
}
