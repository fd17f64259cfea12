//! What passes through a call that a node carries besides its sound: what is heard before the answer, and digits.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;

use meshtone_tests::phone::Protection;
use meshtone_tests::scripted::Sip;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, CAROL_HZ};
use meshtone_tests::voice::Voice;
use meshtone_tests::{Mesh, PhoneOptions, SOON, ScriptedPhone, eventually};

const BOB: &str = "sip:bob@mesh.test";

/// A node that carries all calls.
fn node() -> Mesh {
    let mut mesh = Mesh::start(1);
    mesh.node_mut(1).terminate();
    mesh.node_mut(1).run_configured("[media]\nanchor = \"always\"\n");
    mesh
}

fn scripted_bob(mesh: &Mesh) -> ScriptedPhone {
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &mesh.user("bob"));
    bob.register();
    bob
}

/// Answers as one of several phones behind a fork, each with a To tag of its own.
fn reply_as(bob: &mut ScriptedPhone, invite: &Sip, who: &str, (status, reason): (u16, &str), voice: &Voice) {
    let bytes = invite.response(status, reason, &bob.contact(), &voice.sdp());
    let text = String::from_utf8(bytes).unwrap().replace(";tag=callee", &format!(";tag={who}"));
    bob.send_bytes(text.as_bytes());
}

#[test]
fn what_the_called_side_plays_before_it_answers_is_heard() {
    let mesh = node();
    let mut alice = PhoneOptions::new("alice", &mesh.user("alice"), mesh.sip(1), ALICE_HZ).start();
    let mut bob = scripted_bob(&mesh);
    let voice = Voice::at(Ipv4Addr::LOCALHOST, BOB_HZ);
    alice.dial(BOB);
    let invite = bob.incoming("INVITE");
    voice.talk_to(&invite.body);
    bob.reply(&invite, 183, "Session Progress", &voice.sdp());
    alice.wait_event("CALL_PROGRESS", SOON);
    alice.wait_recorded();
    alice.hang_up();
    let cancel = bob.incoming("CANCEL");
    bob.reply(&cancel, 200, "OK", "");
    bob.reply(&invite, 487, "Request Terminated", "");
    bob.incoming("ACK");
    alice.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
}

#[test]
fn of_two_phones_that_play_before_the_answer_the_one_that_answers_is_heard_alone() {
    let mesh = node();
    let mut alice = PhoneOptions::new("alice", &mesh.user("alice"), mesh.sip(1), ALICE_HZ).start();
    let mut bob = scripted_bob(&mesh);
    for first_answers in [false, true] {
        let (first, second) = (Voice::at(Ipv4Addr::LOCALHOST, BOB_HZ), Voice::at(Ipv4Addr::LOCALHOST, CAROL_HZ));
        alice.forget_recordings();
        alice.dial(BOB);
        let invite = bob.incoming("INVITE");
        reply_as(&mut bob, &invite, "first", (183, "Session Progress"), &first);
        alice.wait_event("CALL_PROGRESS", SOON);
        reply_as(&mut bob, &invite, "second", (183, "Session Progress"), &second);
        let (answers, other) = if first_answers { (&first, &second) } else { (&second, &first) };
        reply_as(&mut bob, &invite, if first_answers { "first" } else { "second" }, (200, "OK"), answers);
        bob.incoming("ACK");
        alice.wait_established();
        first.talk_to(&invite.body);
        second.talk_to(&invite.body);
        answers.forget();
        answers.assert_hears(ALICE_HZ);
        alice.wait_recorded();
        alice.hang_up();
        let bye = bob.incoming("BYE");
        bob.reply(&bye, 200, "OK", "");
        alice.assert_not_heard(answers.tone_hz(), other.tone_hz());
    }
}

#[test]
fn digits_pressed_during_a_call_arrive_either_way() {
    let mesh = node();
    let phone = |user: &str, hz, protection| {
        PhoneOptions::new(user, &mesh.user(user), mesh.sip(1), hz).protected(protection).start()
    };
    let mut alice = phone("alice", ALICE_HZ, Protection::None);
    let others = [phone("bob", BOB_HZ, Protection::Sdes), phone("carol", CAROL_HZ, Protection::Dtls)];
    for (mut other, digits) in others.into_iter().zip([["3", "7"], ["5", "#"]]) {
        alice.dial(&format!("sip:{}@mesh.test", other.user()));
        other.wait_established();
        alice.wait_established();
        alice.wait_recorded();
        let [from_alice, to_alice] = digits;
        alice.command("sndcode", from_alice);
        other.command("sndcode", to_alice);
        for (phone, digit) in [(&other, from_alice), (&alice, to_alice)] {
            let line = format!("received event: '{digit}' (end=1)");
            eventually(SOON, &format!("{digit} at {}'s phone", phone.user()), || phone.log_text().contains(&line));
        }
        alice.hang_up();
        other.wait_closed(SOON);
    }
}
