//! Three nodes joined by ticket, two phones at different ones, no server: the product's main promise.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::scripted::SDP;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{Mesh, PhoneOptions, SOON, ScriptedPhone, Transport};

const BOB: &str = "sip:bob@mesh.test";

#[test]
fn phones_at_two_nodes_hear_each_other_and_either_may_hang_up() {
    let mesh = Mesh::start(3);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), ALICE_HZ).start();
    let mut bob = PhoneOptions::new("bob", &bob, mesh.sip(3), BOB_HZ).over(Transport::Tcp).start();

    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    talk(&mut alice, &mut bob, BOB, HangsUp::Callee);
    talk(&mut bob, &mut alice, "sip:alice@mesh.test", HangsUp::Caller);
}

#[test]
fn hanging_up_before_the_answer_stops_the_ringing() {
    let mesh = Mesh::start(3);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), ALICE_HZ).start();
    let options = PhoneOptions::new("bob", &bob, mesh.sip(3), BOB_HZ).over(Transport::Tcp);
    let mut bob = options.answered_by_hand().start();

    alice.dial(BOB);
    bob.wait_incoming();
    alice.wait_ringing();
    alice.hang_up();
    bob.wait_closed(SOON);
    assert!(!bob.has_event("CALL_ESTABLISHED"));
}

#[test]
fn a_cancelled_invite_ends_with_487_and_the_callee_is_told() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::tcp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bob);
    bob.register();

    let invite = alice.invite(BOB);
    let ringing = bob.incoming("INVITE");
    bob.reply(&ringing, 180, "Ringing", "");
    alice.wait_status(&invite, 180);
    assert_eq!(alice.cancel(&invite).status(), 200);
    let cancel = bob.incoming("CANCEL");
    assert_eq!(cancel.branch(), ringing.branch(), "a CANCEL belongs to the INVITE's own transaction");
    bob.reply(&cancel, 200, "OK", "");
    bob.reply(&ringing, 487, "Request Terminated", "");
    bob.incoming("ACK");
    assert_eq!(alice.final_answer(&invite).status(), 487);
}

#[test]
fn a_declined_call_says_why() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), ALICE_HZ).start();
    let mut bob = PhoneOptions::new("bob", &bob, mesh.sip(2), BOB_HZ).answered_by_hand().start();

    alice.dial(BOB);
    bob.wait_incoming();
    bob.hang_up();
    let reason = alice.wait_closed(SOON);
    assert!(reason.starts_with("486"), "{reason}");
}

#[test]
fn echo_plays_the_callers_own_tone_back() {
    let mesh = Mesh::start(1);
    let password = mesh.user("alice");
    for transport in [Transport::Udp, Transport::Tcp] {
        let options = PhoneOptions::new("alice", &password, mesh.sip(1), ALICE_HZ).over(transport);
        let mut alice = options.start();
        alice.dial("sip:echo@mesh.test");
        alice.wait_established();
        alice.wait_recorded();
        alice.hang_up();
        alice.assert_heard_itself();
        meshtone_tests::eventually(SOON, "the echo call to be over at the node", || {
            mesh.node(1).status()["calls"].as_array().is_some_and(Vec::is_empty)
        });
    }
}

#[test]
fn numbers_and_addresses_at_the_node_itself_reach_the_user() {
    let mesh = Mesh::start(2);
    let alice = mesh.user("alice");
    let printed = mesh.node(1).must(&["user", "add", "bob", "--number", "201", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["number"], "201");
    let mut bob = ScriptedPhone::udp(mesh.sip(2)).of("bob", printed["password"].as_str().unwrap());
    meshtone_tests::eventually(SOON, "bob's account to reach node 2", || bob.try_register(600).status() == 200);

    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    // The host's case does not matter (RFC 3261 §19.1.4).
    for target in ["sip:201@mesh.test".to_owned(), format!("sip:bob@{}", mesh.sip(1)), "sip:bob@MESH.test".to_owned()] {
        let invite = alice.invite(&target);
        let ringing = bob.incoming("INVITE");
        bob.reply(&ringing, 486, "Busy Here", "");
        assert_eq!(alice.final_answer(&invite).status(), 486, "{target}");
        assert_is_traced_as_busy(&mesh, &invite.request.call_id);
    }
}

/// Whether the first node tells of a call that was refused by a phone of the second: what was said, by whom, and whose side it is on.
fn assert_is_traced_as_busy(mesh: &Mesh, call_id: &str) {
    let trace = mesh.node(1).trace(call_id);
    assert_eq!((&trace["works"], trace["side"].as_str()), (&false.into(), Some("whoever is called")), "{trace:#}");
    assert_eq!(trace["call"]["status"], 486, "{trace:#}");
    let second = mesh.node(2).status()["node"].as_str().unwrap().to_owned();
    let messages = trace["call"]["messages"].as_array().unwrap();
    let is_there = |from: &str, to: &str, line: &str| {
        messages.iter().any(|message| {
            message["from"] == from && message["to"] == to && message["first_line"].as_str().unwrap().starts_with(line)
        })
    };
    assert!(is_there("node", &second, "INVITE ") && is_there(&second, "node", "SIP/2.0 486"), "{trace:#}");
    let says = |what: &str| {
        let steps = trace["steps"].as_array().unwrap().iter().filter(|step| step["what"] == what);
        steps.map(|step| step["says"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
    };
    assert!(says("answer").contains(&second) && says("answer").contains("busy"), "{trace:#}");
    assert!(says("media").contains("audio by PCMU"), "{trace:#}");
    assert!(says("link").contains("directly"), "{trace:#}");
    let printed = mesh.node(1).must(&["trace", call_id]);
    assert!(printed.contains("SIP/2.0 486") && printed.contains("on the side of whoever is called"), "{printed}");
}

#[test]
fn a_call_its_re_invite_message_options_and_bye_cross_between_nodes() {
    let mesh = Mesh::start(3);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::tcp(mesh.sip(3)).of("bob", &bob);
    alice.register();
    bob.register();

    let invite = alice.invite(BOB);
    let ringing = bob.incoming("INVITE");
    assert_eq!(String::from_utf8_lossy(&ringing.body), SDP, "the offer arrives as it was sent");
    bob.reply(&ringing, 180, "Ringing", "");
    alice.wait_status(&invite, 180);
    bob.reply(&ringing, 200, "OK", SDP);
    let mut alices = alice.established(&invite);
    bob.incoming("ACK");
    let mut bobs = meshtone_tests::scripted::Dialog::of_callee(&ringing);
    // Two fields a node, one facing each side (RFC 5658), and two nodes.
    assert_eq!(alices.route_count(), 4, "both nodes stay in the path");

    // Either side renegotiates.
    let again = alice.send(
        &alices
            .next_request("INVITE")
            .with("Contact", &format!("<{}>", alice.contact()))
            .with_body("application/sdp", SDP),
    );
    let request = bob.incoming("INVITE");
    bob.reply(&request, 200, "OK", SDP);
    assert_eq!(alice.final_answer(&again).status(), 200);
    let mut ack = alices.request("ACK");
    ack.cseq = again.request.cseq;
    alice.send(&ack);
    bob.incoming("ACK");

    let again = bob.send(
        &bobs.next_request("INVITE").with("Contact", &format!("<{}>", bob.contact())).with_body("application/sdp", SDP),
    );
    let request = alice.incoming("INVITE");
    alice.reply(&request, 200, "OK", SDP);
    assert_eq!(bob.final_answer(&again).status(), 200);
    let mut ack = bobs.request("ACK");
    ack.cseq = again.request.cseq;
    bob.send(&ack);
    alice.incoming("ACK");

    // Within the call and outside of it.
    let inside = alice.send(&alices.next_request("MESSAGE").with_body("text/plain", "inside"));
    let request = bob.incoming("MESSAGE");
    assert_eq!(request.body, b"inside");
    bob.reply(&request, 200, "OK", "");
    assert_eq!(alice.final_answer(&inside).status(), 200);

    bob.hang_up(&mut bobs, &mut alice);
}

#[test]
fn message_and_options_to_a_person_cross_between_nodes() {
    let mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bob);
    bob.register();

    for (method, body) in [("MESSAGE", "tea?"), ("OPTIONS", "")] {
        let request = alice.request(method, BOB).with_body("text/plain", body);
        let sent = alice.start(&request);
        let received = bob.incoming(method);
        assert_eq!(String::from_utf8_lossy(&received.body), body);
        assert!(received.header("From").is_some_and(|from| from.contains("alice@mesh.test")));
        bob.reply(&received, 200, "OK", "");
        assert_eq!(alice.final_answer(&sent).status(), 200, "{method}");
    }
}
