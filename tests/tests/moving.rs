//! One person, several phones, any node.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::name_server::NameServer;
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, CAROL_HZ};
use meshtone_tests::{Mesh, PhoneOptions, SOON, ScriptedPhone, Transport, eventually};

const BOB: &str = "sip:bob@mesh.test";

#[test]
fn a_phone_that_moves_to_another_node_is_reached_there_with_the_same_password() {
    let mesh = Mesh::start(3);
    let (alice, password) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), ALICE_HZ).start();
    let mut bob = PhoneOptions::new("bob", &password, mesh.sip(3), BOB_HZ).start();
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);

    // Its old binding is still there: a phone that was carried away says no goodbye.
    bob.unplug();
    let mut bob = PhoneOptions::new("bob", &password, mesh.sip(2), BOB_HZ).over(Transport::Tcp).start();
    talk(&mut alice, &mut bob, BOB, HangsUp::Callee);
}

#[test]
fn a_phone_that_signs_off_is_no_longer_called() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    PhoneOptions::new("bob", &bob, mesh.sip(2), BOB_HZ).start().sign_off();

    assert_eq!(mesh.node(2).contacts("bob@mesh.test"), Vec::<String>::new());
    let invite = alice.invite(BOB);
    assert_eq!(alice.final_answer(&invite).status(), 480);
}

#[test]
fn two_phones_of_one_person_ring_at_two_nodes_and_the_first_answer_wins() {
    let mesh = Mesh::start(3);
    let (alice, password) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), ALICE_HZ).start();
    let bobs = |node, hz| PhoneOptions::new("bob", &password, mesh.sip(node), hz).answered_by_hand();
    let mut desk = bobs(2, BOB_HZ).start();
    let mut pocket = bobs(3, CAROL_HZ).over(Transport::Tcp).start();

    alice.dial(BOB);
    desk.wait_incoming();
    pocket.wait_incoming();
    pocket.answer();
    pocket.wait_established();
    alice.wait_established();
    desk.wait_closed(SOON);
    alice.wait_recorded();
    pocket.wait_recorded();
    alice.hang_up();
    pocket.wait_closed(SOON);
    alice.assert_heard(CAROL_HZ);
    pocket.assert_heard(ALICE_HZ);
    assert!(!desk.has_event("CALL_ESTABLISHED"));
}

#[test]
fn two_phones_at_one_node_ring_together_and_a_busy_one_does_not_silence_the_other() {
    let mesh = Mesh::start(2);
    let (alice, password) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut desk = ScriptedPhone::udp(mesh.sip(2)).of("bob", &password);
    let mut pocket = ScriptedPhone::tcp(mesh.sip(2)).of("bob", &password);
    desk.register();
    pocket.register();

    let invite = alice.invite(BOB);
    let (at_desk, in_pocket) = (desk.incoming("INVITE"), pocket.incoming("INVITE"));
    desk.reply(&at_desk, 486, "Busy Here", "");
    desk.incoming("ACK");
    pocket.reply(&in_pocket, 180, "Ringing", "");
    alice.wait_status(&invite, 180);
    pocket.reply(&in_pocket, 200, "OK", meshtone_tests::scripted::SDP);
    alice.established(&invite);
    pocket.incoming("ACK");
}

#[test]
fn a_contact_that_reregisters_within_its_call_id_replaces_itself() {
    let mesh = Mesh::start(1);
    let password = mesh.user("bob");
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &password);
    bob.register();
    bob.register();
    assert_eq!(mesh.node(1).contacts("bob@mesh.test").len(), 1);
    assert_eq!(bob.try_register(0).status(), 200);
    eventually(SOON, "the binding to be gone", || mesh.node(1).contacts("bob@mesh.test").is_empty());
}

#[test]
fn a_phone_whose_address_changes_in_a_call_goes_on_and_nobody_else_ends_it() {
    let mesh = Mesh::start(1);
    let (alice, mallory) = (mesh.user("alice"), mesh.user("mallory"));
    let mut at_home = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let call = at_home.invite("sip:echo@mesh.test");
    let mut dialog = at_home.established(&call);
    let calls = || mesh.node(1).status()["calls"].as_array().map_or(0, Vec::len);

    // Who has learnt the tags, and is a user here too, is still not alice (threat 16).
    let mut elsewhere = ScriptedPhone::udp_from([127, 0, 0, 3].into(), mesh.sip(1)).of("mallory", &mallory);
    assert_eq!(elsewhere.ask(dialog.next_request("BYE")).status(), 403);
    assert_eq!(elsewhere.ask_once(&dialog.next_request("BYE")).status(), 407);
    assert_eq!(calls(), 1);

    let mut abroad = ScriptedPhone::udp_from([127, 0, 0, 2].into(), mesh.sip(1)).of("alice", &alice);
    assert_eq!(abroad.ask(dialog.next_request("BYE")).status(), 200);
    eventually(SOON, "the call to be over", || calls() == 0);
}

#[test]
fn a_phone_that_knows_the_domain_alone_finds_a_node_and_the_other_one_when_that_is_gone() {
    let mut mesh = Mesh::start(2);
    let (alice, password) = (mesh.user("alice"), mesh.user("bob"));
    let records = |node: usize, priority: &str| {
        let printed = mesh.node(node).must(&["dns-records", "--priority", priority, "--json"]);
        serde_json::from_str::<serde_json::Value>(&printed).unwrap()
    };
    let printed = [records(1, "10"), records(2, "20")];
    assert!(mesh.node(1).must(&["dns-records"]).contains(" IN SRV 10 10 "));
    let dns = NameServer::with_records(&printed);
    let bob = || PhoneOptions::new("bob", &password, mesh.sip(1), BOB_HZ).asking(dns.address()).start();
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(2), ALICE_HZ).start();
    let mut first = bob();
    assert_eq!(mesh.node(1).contacts("bob@mesh.test").len(), 1, "the first by priority");
    talk(&mut alice, &mut first, BOB, HangsUp::Caller);
    first.unplug();

    mesh.node_mut(1).kill9();
    let mut second = PhoneOptions::new("bob", &password, mesh.sip(1), BOB_HZ).asking(dns.address()).start();
    eventually(SOON, "the phone to be at the other node", || mesh.node(2).contacts("bob@mesh.test").len() == 1);
    talk(&mut alice, &mut second, BOB, HangsUp::Caller);
}
