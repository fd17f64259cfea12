//! What passes through a call that a node carries besides its sound: what is heard before the answer, digits, and
//! transfers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;

use meshtone_tests::phone::Protection;
use meshtone_tests::scripted::{Dialog, SDP, Sip};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, CAROL_HZ, tone_heard};
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

#[test]
fn digits_that_one_phone_says_by_info_reach_another_one_as_it_expects_them() {
    let mesh = node();
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &mesh.user("alice"));
    let voice = Voice::at(Ipv4Addr::LOCALHOST, ALICE_HZ);
    let offer = voice.sdp().replace("RTP/AVP 0", "RTP/AVP 0 101") + "a=rtpmap:101 telephone-event/8000\r\n";
    let mut phones = [("bob", "PCMU/8000/1"), ("carol", "opus/48000/2")]
        .map(|(user, codecs)| PhoneOptions::new(user, &mesh.user(user), mesh.sip(1), BOB_HZ).speaking(codecs).start());
    // The second one's sound is converted.
    for phone in &mut phones {
        let target = format!("sip:{}@mesh.test", phone.user());
        let invite = alice.request("INVITE", &target).with_body("application/sdp", &offer);
        let sent = alice.start(&invite);
        let answer = alice.final_answer(&sent);
        assert_eq!(answer.status(), 200, "{answer}");
        let mut dialog = alice.established_by(&sent, &answer);
        voice.talk_to(&answer.body);
        phone.wait_established();
        phone.wait_recorded();
        for (kind, body, digit) in [
            ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", '5'),
            ("application/dtmf-relay", "Signal=#\r\nDuration=100\r\n", '#'),
            ("application/dtmf", "9", '9'),
        ] {
            let info = alice.send(&dialog.next_request("INFO").with_body(kind, body));
            assert_eq!(alice.final_answer(&info).status(), 200);
            let line = format!("received event: '{digit}' (end=1)");
            let who = phone.user().to_owned();
            eventually(SOON, &format!("{digit} at {who}'s phone"), || phone.log_text().contains(&line));
        }
        // The sound goes on both ways.
        voice.forget();
        voice.assert_hears(BOB_HZ);
        let bye = alice.send(&dialog.next_request("BYE"));
        assert_eq!(alice.final_answer(&bye).status(), 200);
        phone.wait_closed(SOON);
        phone.assert_heard(ALICE_HZ);
    }
}

#[test]
fn digits_go_by_info_to_a_phone_that_takes_them_no_other_way() {
    let mesh = node();
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &mesh.user("alice"));
    let mut bob = scripted_bob(&mesh);
    let sent = alice.invite(BOB);
    let incoming = bob.incoming("INVITE");
    bob.reply(&incoming, 200, "OK", SDP);
    let mut dialog = alice.established(&sent);
    bob.incoming("ACK");
    let (kind, body) = ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n");
    let info = alice.send(&dialog.next_request("INFO").with_body(kind, body));
    let at_bob = bob.incoming("INFO");
    assert_eq!((at_bob.header("Content-Type"), at_bob.body.as_slice()), (Some(kind), body.as_bytes()));
    bob.reply(&at_bob, 200, "OK", "");
    assert_eq!(alice.final_answer(&info).status(), 200);
}

#[test]
fn a_phone_that_is_transferred_calls_the_third_one_and_they_hear_each_other() {
    let mesh = node();
    let phone = |user: &str, hz| PhoneOptions::new(user, &mesh.user(user), mesh.sip(1), hz).start();
    let (mut alice, mut bob, mut carol) = (phone("alice", ALICE_HZ), phone("bob", BOB_HZ), phone("carol", CAROL_HZ));
    alice.dial(BOB);
    bob.wait_established();
    alice.wait_established();
    alice.wait_recorded();
    alice.command("transfer", "sip:carol@mesh.test");
    carol.wait_established();
    // Told by the other side's NOTIFY that it worked, the phone that transferred hangs up.
    alice.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    carol.wait_recorded();
    eventually(SOON, "sound at bob's phone", || bob.bit_rates().1 > 50_000);
    carol.hang_up();
    bob.wait_event("CALL_CLOSED", SOON);
    carol.assert_heard(BOB_HZ);
    eventually(SOON, "carol's tone at bob's phone", || bob.recordings().iter().any(|path| tone_heard(path, CAROL_HZ)));
}

/// What a Replaces names a dialog by towards who was called in it.
fn replaced(invite: &Sip, dialog: &Dialog) -> String {
    let called = dialog.request("BYE").from;
    let tag = |value: &str| value.split(";tag=").nth(1).unwrap().to_owned();
    let caller = tag(invite.header("From").unwrap());
    format!("{};to-tag={};from-tag={caller}", invite.header("Call-ID").unwrap(), tag(&called))
}

#[test]
fn a_transfer_names_the_far_end_of_the_call_that_is_to_be_replaced_and_a_refusal_passes() {
    let mesh = node();
    let mut phones = ["alice", "bob", "carol"].map(|user| {
        let mut phone = ScriptedPhone::udp(mesh.sip(1)).of(user, &mesh.user(user));
        phone.register();
        phone
    });
    let [alice, bob, carol] = &mut phones;
    let sent = alice.invite(BOB);
    let at_bob = bob.incoming("INVITE");
    bob.reply(&at_bob, 200, "OK", SDP);
    let mut first = alice.established(&sent);
    bob.incoming("ACK");
    let sent = alice.invite("sip:carol@mesh.test");
    let at_carol = carol.incoming("INVITE");
    let in_call = carol.accept_later(&at_carol);
    let answer = alice.wait_status(&sent, 200);
    carol.incoming("ACK");
    let own_tag = sent.request.from.split(";tag=").nth(1).unwrap().to_owned();
    let other_tag = answer.header("To").and_then(|to| to.split(";tag=").nth(1)).unwrap().to_owned();
    let named = format!("{}%3Bto-tag%3D{other_tag}%3Bfrom-tag%3D{own_tag}", sent.request.call_id.replace('@', "%40"));
    let refer_to = format!("<sip:carol@mesh.test?Replaces={named}>");

    let refer = alice.send(&first.next_request("REFER").with("Refer-To", &refer_to));
    let at_bob = bob.incoming("REFER");
    let wanted = replaced(&at_carol, &in_call);
    let escaped = wanted.replace(';', "%3B").replace('=', "%3D").replace('@', "%40");
    assert!(
        at_bob.header("Refer-To").unwrap().contains(&format!("sip:carol@mesh.test?Replaces={escaped}")),
        "{at_bob}"
    );
    bob.reply(&at_bob, 405, "Method Not Allowed", "");
    assert_eq!(alice.final_answer(&refer).status(), 405);

    // Whoever follows reaches the phone with it, takes the other one's place, and hears it.
    let (bobs, carols) = (Voice::at(Ipv4Addr::LOCALHOST, BOB_HZ), Voice::at(Ipv4Addr::LOCALHOST, CAROL_HZ));
    let request = bob
        .request("INVITE", "sip:carol@mesh.test")
        .with_body("application/sdp", &bobs.sdp())
        .with("Replaces", &wanted);
    let sent = bob.start(&request);
    let replacing = carol.incoming("INVITE");
    assert_eq!(replacing.header("Replaces"), Some(wanted.as_str()));
    carol.reply(&replacing, 200, "OK", &carols.sdp());
    let answer = bob.final_answer(&sent);
    assert_eq!(answer.status(), 200, "{answer}");
    bob.established_by(&sent, &answer);
    carol.incoming("ACK");
    bobs.talk_to(&answer.body);
    carols.talk_to(&replacing.body);
    bobs.assert_hears(CAROL_HZ);
    carols.assert_hears(BOB_HZ);
}

#[test]
fn what_a_user_wants_holds_for_calls_to_and_from_her_and_no_others() {
    let mut mesh = Mesh::start(1);
    mesh.node_mut(1).terminate();
    mesh.node_mut(1).run_configured("[media.users]\nbob = \"always\"\n");
    let mut phones = ["alice", "bob", "carol"].map(|user| {
        let mut phone = ScriptedPhone::udp(mesh.sip(1)).of(user, &mesh.user(user));
        phone.register();
        phone
    });
    for (caller, called, is_carried) in [(0, 1, true), (1, 2, true), (2, 0, false)] {
        let target = phones[called].address();
        let sent = phones[caller].invite(&target);
        let offered = phones[called].incoming("INVITE");
        assert_eq!(offered.body != SDP.as_bytes(), is_carried, "{caller} calls {called}: {offered}");
        phones[called].reply(&offered, 486, "Busy Here", "");
        assert_eq!(phones[caller].final_answer(&sent).status(), 486);
    }
}
