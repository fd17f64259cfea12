//! How much of a node's media one caller may have, and all of them together: who is refused hears why, and others talk on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::scripted::{Dialog, SDP};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{Mesh, PhoneOptions, SOON, ScriptedPhone, eventually};
use serde_json::json;

/// One node with these settings.
fn node(settings: &str) -> Mesh {
    let mut mesh = Mesh::start(1);
    mesh.node_mut(1).terminate();
    mesh.node_mut(1).run_configured(settings);
    mesh
}

fn scripted<const N: usize>(mesh: &Mesh, users: [&str; N]) -> [ScriptedPhone; N] {
    users.map(|user| {
        let mut phone = ScriptedPhone::udp(mesh.sip(1)).of(user, &mesh.user(user));
        phone.register();
        phone
    })
}

fn called(caller: &mut ScriptedPhone, callee: &mut ScriptedPhone) -> Dialog {
    let target = callee.address();
    let invite = caller.invite(&target);
    let incoming = callee.incoming("INVITE");
    callee.reply(&incoming, 200, "OK", SDP);
    let dialog = caller.established(&invite);
    callee.incoming("ACK");
    dialog
}

#[test]
fn one_caller_does_not_use_up_the_ports_of_all_and_hears_why_he_is_refused() {
    let mesh = node("[media]\nanchor = \"always\"\nstreams_per_user = 4\n");
    let [mut alice, mut bob] = scripted(&mesh, ["alice", "bob"]);
    let mut calls = [called(&mut alice, &mut bob), called(&mut alice, &mut bob)];
    let media = |mesh: &Mesh| mesh.node(1).status()["media"].clone();
    assert_eq!(media(&mesh)["ports"], json!(4));

    let invite = alice.invite("sip:bob@mesh.test");
    let refused = alice.final_answer(&invite);
    assert_eq!(refused.status(), 403);
    let words = "as many calls of one caller run through this node as are allowed";
    assert!(refused.to_string().lines().next().unwrap().ends_with(words), "{refused}");
    assert!(refused.header("Warning").unwrap().contains(words), "{refused}");
    let media_now = media(&mesh);
    assert_eq!((&media_now["ports"], &media_now["refused"]), (&json!(4), &json!(1)), "{media_now}");
    assert!(mesh.node(1).must(&["status"]).contains("calls refused since the start: 1"));
    let log = std::fs::read_to_string(mesh.node(1).log()).unwrap();
    assert!(log.lines().any(|line| line.contains(words) && line.contains("alice@mesh.test")), "{log}");

    // Whoever she calls or is called by has a share of his own.
    let mut carol = PhoneOptions::new("carol", &mesh.user("carol"), mesh.sip(1), ALICE_HZ).start();
    let mut dave = PhoneOptions::new("dave", &mesh.user("dave"), mesh.sip(1), BOB_HZ).start();
    talk(&mut carol, &mut dave, "sip:dave@mesh.test", HangsUp::Caller);
    let mut by_bob = called(&mut bob, &mut alice);

    // What is given back is there again.
    alice.hang_up(&mut calls[0], &mut bob);
    eventually(SOON, "the ports to be free", || media(&mesh)["ports"] == json!(4));
    let mut again = called(&mut alice, &mut bob);
    alice.hang_up(&mut again, &mut bob);
    alice.hang_up(&mut calls[1], &mut bob);
    bob.hang_up(&mut by_bob, &mut alice);
    eventually(SOON, "all ports to be free", || media(&mesh)["ports"] == json!(0));
}

#[test]
fn a_phone_that_rings_nowhere_for_want_of_ports_is_told_so() {
    let mesh = node("[media]\nanchor = \"always\"\n");
    let [mut alice, mut bob] = scripted(&mesh, ["alice", "bob"]);
    // A node under test has seven pairs: three calls with sound.
    let mut calls = [(); 3].map(|()| called(&mut alice, &mut bob));
    let invite = alice.invite("sip:bob@mesh.test");
    let refused = alice.final_answer(&invite);
    assert_eq!(refused.status(), 503);
    assert!(refused.header("Warning").unwrap().contains("all media sessions allowed here are in use"), "{refused}");
    alice.hang_up(&mut calls[0], &mut bob);
    called(&mut alice, &mut bob);
}

#[test]
fn no_more_calls_are_converted_at_once_than_are_allowed_and_the_next_caller_hears_why() {
    let mesh = node("[media]\nconverted_calls = 1\n");
    let phone = |user: &str, hz, codecs| PhoneOptions::new(user, &mesh.user(user), mesh.sip(1), hz).speaking(codecs);
    let mut alice = phone("alice", ALICE_HZ, "PCMU/8000/1").start();
    let mut bob = phone("bob", BOB_HZ, "opus/48000/2").start();
    let mut dave = phone("dave", BOB_HZ, "opus/48000/2").start();
    alice.dial("sip:bob@mesh.test");
    bob.wait_established();
    alice.wait_established();
    assert_eq!(mesh.node(1).status()["media"]["converted"], json!(1));

    let [mut carol] = scripted(&mesh, ["carol"]);
    let invite = carol.invite("sip:dave@mesh.test");
    let refused = carol.final_answer(&invite);
    let words = "as many calls are converted between codecs here as are allowed";
    assert_eq!(refused.status(), 503, "{refused}");
    assert!(refused.to_string().lines().next().unwrap().ends_with(words), "{refused}");
    assert!(refused.header("Warning").unwrap().contains(words), "{refused}");

    // The one that stands goes on, and its end makes room.
    alice.wait_recorded();
    bob.wait_recorded();
    alice.hang_up();
    bob.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    bob.assert_heard(ALICE_HZ);
    eventually(SOON, "room", || mesh.node(1).status()["media"]["converted"] == json!(0));
    talk(&mut alice, &mut dave, "sip:dave@mesh.test", HangsUp::Caller);
}
