//! Calls of phones that have no codec in common: the node converts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::phone::{HangsUp, Phone, talk};
use meshtone_tests::scripted::SDP;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{Mesh, PhoneOptions, SOON, ScriptedPhone, eventually, eventually_some};

const OPUS: &str = "opus/48000/2";
const G711: &str = "PCMU/8000/1,PCMA/8000/1";
const G722: &str = "G722/16000/1";

fn phone(mesh: &Mesh, user: &str, hz: f64, codecs: &'static str) -> Phone {
    PhoneOptions::new(user, &mesh.user(user), mesh.sip(1), hz).speaking(codecs).start()
}

fn address(user: &str) -> String {
    format!("sip:{user}@mesh.test")
}

#[test]
fn phones_of_every_pair_of_codecs_hear_each_other() {
    let mesh = Mesh::start(1);
    for (number, (one, other, codecs)) in
        [(OPUS, G711, ["opus", "PCMU"]), (G722, OPUS, ["G722", "opus"]), (G711, G722, ["PCMU", "G722"])]
            .into_iter()
            .enumerate()
    {
        let (caller, callee) = (format!("a{number}"), format!("b{number}"));
        let mut alice = phone(&mesh, &caller, ALICE_HZ, one);
        let mut bob = phone(&mesh, &callee, BOB_HZ, other);
        talk(&mut alice, &mut bob, &address(&callee), HangsUp::Caller);
        let over = eventually_some(SOON, "the node to remember the call", || {
            mesh.node(1).status()["finished_calls"].as_array()?.get(number).cloned()
        });
        let heard = ["heard_by_callee", "heard_by_caller"].map(|side| over["sound"][side]["codec"].as_str());
        assert_eq!(heard, codecs.map(Some), "{over}");
    }
}

#[test]
fn digits_cross_from_one_codec_to_another() {
    let mesh = Mesh::start(1);
    let mut alice = phone(&mesh, "alice", ALICE_HZ, G711);
    let mut bob = phone(&mesh, "bob", BOB_HZ, OPUS);
    alice.dial(&address("bob"));
    bob.wait_established();
    alice.wait_established();
    for (from, to, digit) in [(true, "bob", "5"), (false, "alice", "7")] {
        let (speaker, listener) = if from { (&mut alice, &mut bob) } else { (&mut bob, &mut alice) };
        speaker.command("sndcode", digit);
        eventually(SOON, &format!("the digit {digit} at {to}'s phone"), || {
            listener.next_parameter("CALL_DTMF_START").is_some_and(|heard| heard == digit)
        });
        // The key is let go.
        speaker.command("sndcode", "");
    }
}

#[test]
fn a_phone_that_refuses_whatever_is_offered_is_refused_to_the_caller_and_one_with_a_common_codec_is_not_converted() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    bob.register();
    let invite = alice.invite(&address("bob"));
    // As it is, with keys of both kinds, and all three again with more codecs.
    let offers: Vec<String> = (0..6)
        .map(|_| {
            let offered = bob.incoming("INVITE");
            bob.reply(&offered, 488, "Not Acceptable Here", "");
            bob.incoming("ACK");
            String::from_utf8_lossy(&offered.body).into_owned()
        })
        .collect();
    assert_eq!(alice.final_answer(&invite).status(), 488);
    assert!(!offers[0].contains("opus"), "first the call goes as it is: {}", offers[0]);
    assert!(offers.iter().any(|offer| offer.contains("opus") && offer.contains("G722")), "{offers:?}");

    // Whoever accepts at once has the caller's own offer.
    let invite = alice.invite(&address("bob"));
    let offered = bob.incoming("INVITE");
    assert_eq!(String::from_utf8_lossy(&offered.body), SDP);
    bob.reply(&offered, 200, "OK", SDP);
    alice.established(&invite);
    assert!(mesh.node(1).status()["calls"][0]["sound"].is_null());
}
