//! Calls of phones that have no codec in common: the node converts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;

use meshtone_tests::phone::{HangsUp, Phone, talk};
use meshtone_tests::scripted::SDP;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::voice::Voice;
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
        let trace = mesh.node(1).trace(over["call_id"].as_str().unwrap());
        assert_eq!((&trace["works"], &trace["call"]["is_converted"]), (&true.into(), &true.into()), "{trace:#}");
        let ends = trace["call"]["ends"].as_array().unwrap();
        for (end, (is, codec)) in ends.iter().zip([("caller", codecs[0]), ("callee", codecs[1])]) {
            assert_eq!((end["end"].as_str(), end["codec"].as_str()), (Some(is), Some(codec)), "{trace:#}");
            assert_eq!((end["way"].as_str(), &end["is_heard"]), (Some("heard"), &true.into()), "{trace:#}");
        }
        // What a phone speaks is remembered for whoever asks by its address.
        let printed = mesh.node(1).must(&["trace", &callee]);
        let said = format!("in its last call it said audio by {}", codecs[1]);
        assert!(printed.contains("is registered over udp") && printed.contains(&said), "{printed}");
    }
}

#[test]
fn digits_cross_from_every_codec_to_every_other() {
    let mesh = Mesh::start(1);
    for (number, (one, other)) in [(G711, OPUS), (G722, OPUS), (G722, G711)].into_iter().enumerate() {
        let (caller, callee) = (format!("a{number}"), format!("b{number}"));
        let mut alice = phone(&mesh, &caller, ALICE_HZ, one);
        let mut bob = phone(&mesh, &callee, BOB_HZ, other);
        alice.dial(&address(&callee));
        bob.wait_established();
        alice.wait_established();
        assert_eq!(mesh.node(1).status()["media"]["converted"], 1, "{one} {other}");
        for (from, digit) in [(true, "5"), (false, "7")] {
            let (speaker, listener) = if from { (&mut alice, &mut bob) } else { (&mut bob, &mut alice) };
            speaker.command("sndcode", digit);
            eventually(SOON, &format!("the digit {digit} from {one} to {other}, or back"), || {
                listener.next_parameter("CALL_DTMF_START").is_some_and(|heard| heard == digit)
            });
            // The key is let go.
            speaker.command("sndcode", "");
        }
        alice.hang_up();
        bob.wait_closed(SOON);
        eventually(SOON, "nothing to be converted", || mesh.node(1).status()["media"]["converted"] == 0);
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

/// A node that carries all calls, a phone that speaks Opus alone, and one that does what the test says.
fn carrying() -> (Mesh, Phone, ScriptedPhone) {
    let mut mesh = Mesh::start(1);
    mesh.node_mut(1).terminate();
    mesh.node_mut(1).run_configured("[media]\nanchor = \"always\"\n");
    let alice = phone(&mesh, "alice", ALICE_HZ, OPUS);
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &mesh.user("bob"));
    bob.register();
    (mesh, alice, bob)
}

/// Both hear each other, and the caller hangs up.
fn assert_talking(mesh: &Mesh, alice: &mut Phone, bob: &mut ScriptedPhone, voice: &Voice) {
    assert_eq!(mesh.node(1).status()["media"]["converted"], 1);
    voice.assert_hears(ALICE_HZ);
    alice.wait_recorded();
    alice.hang_up();
    let bye = bob.incoming("BYE");
    bob.reply(&bye, 200, "OK", "");
    alice.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    eventually(SOON, "nothing to be converted", || mesh.node(1).status()["media"]["converted"] == 0);
}

#[test]
fn a_phone_that_answers_with_a_codec_that_it_was_not_offered_is_heard_and_hears() {
    let (mesh, mut alice, mut bob) = carrying();
    let voice = Voice::at(Ipv4Addr::LOCALHOST, BOB_HZ);
    alice.dial(&address("bob"));
    let invite = bob.incoming("INVITE");
    assert!(!String::from_utf8_lossy(&invite.body).contains("PCMU"), "{invite}");
    bob.reply(&invite, 200, "OK", &voice.sdp());
    bob.incoming("ACK");
    voice.talk_to(&invite.body);
    alice.wait_established();
    assert_talking(&mesh, &mut alice, &mut bob, &voice);
}

#[test]
fn a_phone_that_takes_a_call_but_not_its_sound_is_offered_more_before_the_caller_is_answered() {
    let (mesh, mut alice, mut bob) = carrying();
    let voice = Voice::at(Ipv4Addr::LOCALHOST, BOB_HZ);
    alice.dial(&address("bob"));
    let invite = bob.incoming("INVITE");
    let refusing = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 0 RTP/AVP 96\r\n";
    bob.reply(&invite, 200, "OK", refusing);
    bob.incoming("ACK");
    let again = bob.incoming("INVITE");
    assert!(String::from_utf8_lossy(&again.body).contains("PCMU"), "{again}");
    assert!(!alice.has_event("CALL_ESTABLISHED"));
    bob.reply(&again, 200, "OK", &voice.sdp());
    bob.incoming("ACK");
    voice.talk_to(&again.body);
    alice.wait_established();
    assert_talking(&mesh, &mut alice, &mut bob, &voice);

    // Whoever refuses that as well is in no call, and the caller hears so.
    alice.dial(&address("bob"));
    let invite = bob.incoming("INVITE");
    bob.reply(&invite, 200, "OK", refusing);
    bob.incoming("ACK");
    let again = bob.incoming("INVITE");
    bob.reply(&again, 488, "Not Acceptable Here", "");
    bob.incoming("ACK");
    let bye = bob.incoming("BYE");
    bob.reply(&bye, 200, "OK", "");
    assert!(alice.wait_closed(SOON).starts_with("488"));
}
