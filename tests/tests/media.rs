//! Calls whose sound runs through a node: phones that protect their sound and phones that do not, hold and resume, several phones of
//! one person, and strangers who want to be heard.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::UdpSocket;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use meshtone_tests::phone::{HangsUp, Phone, Protection, hold_and_resume, talk};
use meshtone_tests::scripted::SDP;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, mulaw_sine};
use meshtone_tests::{Mesh, PhoneOptions, SOON, ScriptedPhone, eventually};

const ALICE: &str = "sip:alice@mesh.test";
const BOB: &str = "sip:bob@mesh.test";
const CAROL_HZ: f64 = 900.0;
/// Nobody's tone in a call.
const MALLORY_HZ: f64 = 1_400.0;

/// One node with these settings.
fn node(settings: &str) -> Mesh {
    let mut mesh = Mesh::start(1);
    if !settings.is_empty() {
        mesh.node_mut(1).terminate();
        mesh.node_mut(1).run_configured(settings);
    }
    mesh
}

fn phone(mesh: &Mesh, user: &str, hz: f64, protection: Protection) -> Phone {
    PhoneOptions::new(user, &mesh.user(user), mesh.sip(1), hz).protected(protection).start()
}

#[test]
fn phones_with_keys_and_without_talk_either_way() {
    let mesh = node("");
    let mut alice = phone(&mesh, "alice", ALICE_HZ, Protection::Sdes);
    let mut bob = phone(&mesh, "bob", BOB_HZ, Protection::None);
    let mut carol = phone(&mesh, "carol", CAROL_HZ, Protection::Optional);
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    talk(&mut bob, &mut alice, ALICE, HangsUp::Callee);
    talk(&mut carol, &mut alice, ALICE, HangsUp::Callee);
    eventually(SOON, "the node to be done with the calls", || {
        mesh.node(1).status()["calls"].as_array().is_some_and(Vec::is_empty)
    });
}

/// How often a phone has found the certificate of the other end to be the described one.
fn handshakes(phone: &Phone) -> usize {
    phone.log_text().matches("fingerprint OK").count()
}

#[test]
fn phones_that_make_keys_by_a_handshake_talk_to_others_that_do_not() {
    let mesh = node("");
    let mut alice = phone(&mesh, "alice", ALICE_HZ, Protection::Dtls);
    let mut bob = phone(&mesh, "bob", BOB_HZ, Protection::None);
    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    assert_ne!(handshakes(&alice), 0, "with the node");
    talk(&mut bob, &mut alice, ALICE, HangsUp::Callee);
    let mut carol = phone(&mesh, "carol", CAROL_HZ, Protection::Sdes);
    let before = handshakes(&alice);
    talk(&mut alice, &mut carol, "sip:carol@mesh.test", HangsUp::Callee);
    assert!(handshakes(&alice) > before);
}

#[test]
fn where_all_is_carried_phones_that_make_keys_by_a_handshake_shake_hands_with_the_node_whoever_calls() {
    let mesh = node("[media]\nanchor = \"always\"\n");
    let mut alice = phone(&mesh, "alice", ALICE_HZ, Protection::Dtls);
    let mut bob = phone(&mesh, "bob", BOB_HZ, Protection::Dtls);
    let mut carol = phone(&mesh, "carol", CAROL_HZ, Protection::None);
    let mut dave = phone(&mesh, "dave", CAROL_HZ, Protection::Sdes);
    talk(&mut alice, &mut bob, BOB, HangsUp::Callee);
    let (alices, bobs) = (handshakes(&alice), handshakes(&bob));
    assert!(alices > 0 && bobs > 0, "{alices} {bobs}");
    // Beside a profile without protection it is offered a handshake, and takes it.
    for caller in [&mut carol, &mut dave] {
        let before = handshakes(&bob);
        talk(caller, &mut bob, BOB, HangsUp::Caller);
        assert!(handshakes(&bob) > before, "{}", caller.user());
    }
}

#[test]
fn where_all_is_carried_calls_are_held_and_resumed_and_phones_with_keys_talk() {
    let mesh = node("[media]\nanchor = \"always\"\n");
    let mut alice = phone(&mesh, "alice", ALICE_HZ, Protection::None);
    let mut bob = phone(&mesh, "bob", BOB_HZ, Protection::None);
    alice.dial(BOB);
    bob.wait_established();
    alice.wait_established();
    alice.wait_recorded();
    bob.wait_recorded();
    hold_and_resume(&mut alice, &mut bob);
    alice.hang_up();
    bob.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    bob.assert_heard(ALICE_HZ);
    drop((alice, bob));
    let mut carol = phone(&mesh, "carol", CAROL_HZ, Protection::Sdes);
    let mut dave = phone(&mesh, "dave", BOB_HZ, Protection::Sdes);
    talk(&mut carol, &mut dave, "sip:dave@mesh.test", HangsUp::Callee);
}

#[test]
fn all_phones_of_a_person_ring_and_neither_learns_where_the_caller_is() {
    let mesh = node("[media]\nanchor = \"always\"\n");
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut phones = [(); 2].map(|()| ScriptedPhone::tcp(mesh.sip(1)).of("bob", &bob));
    for phone in &mut phones {
        phone.register();
    }
    let described = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    let port = |text: &str| -> u16 {
        let line = text.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("a stream");
        line.split(' ').next().unwrap().parse().unwrap()
    };
    let invite = alice.invite(BOB);
    let [one, other] = &mut phones;
    let (at_one, at_other) = (one.incoming("INVITE"), other.incoming("INVITE"));
    let offers = [described(&at_one.body), described(&at_other.body)];
    for (incoming, offer) in [&at_one, &at_other].into_iter().zip(&offers) {
        assert!(mesh.node(1).rtp().contains(&port(offer)) && port(offer) != port(SDP), "{offer}");
        assert!(incoming.header("From").is_some_and(|from| from.contains("alice@mesh.test")));
        assert!(!incoming.header("Contact").is_some_and(|contact| contact.contains(&alice.local().to_string())));
    }
    assert_ne!(port(&offers[0]), port(&offers[1]), "each branch has its own media");
    one.reply(&at_one, 180, "Ringing", "");
    other.reply(&at_other, 180, "Ringing", "");
    alice.wait_status(&invite, 180);
    other.reply(&at_other, 200, "OK", SDP);
    let mut dialog = alice.established(&invite);
    other.incoming("ACK");
    let cancel = one.incoming("CANCEL");
    one.reply(&cancel, 200, "OK", "");
    one.reply(&at_one, 487, "Request Terminated", "");
    one.incoming("ACK");

    let text = alice.send(&dialog.next_request("MESSAGE").with_body("text/plain", "inside"));
    let received = other.incoming("MESSAGE");
    assert_eq!(received.body, b"inside");
    other.reply(&received, 200, "OK", "");
    assert_eq!(alice.final_answer(&text).status(), 200);
    alice.hang_up(&mut dialog, other);
}

#[test]
fn hanging_up_before_the_answer_stops_the_ringing_of_a_call_that_is_carried() {
    let mesh = node("[media]\nanchor = \"always\"\n");
    let mut alice = phone(&mesh, "alice", ALICE_HZ, Protection::None);
    let bob = PhoneOptions::new("bob", &mesh.user("bob"), mesh.sip(1), BOB_HZ);
    let mut bob = bob.answered_by_hand().start();
    alice.dial(BOB);
    bob.wait_incoming();
    alice.wait_ringing();
    alice.hang_up();
    bob.wait_closed(SOON);
    assert!(!bob.has_event("CALL_ESTABLISHED"));
    // Every port is free again: a call takes four, and there are seven pairs.
    for _ in 0..4 {
        alice.dial(BOB);
        bob.wait_incoming();
        bob.hang_up();
        assert!(alice.wait_closed(SOON).starts_with("486"));
    }
}

/// Sends sound to all media ports of a node from two places that are neither phone's, until dropped.
struct Mallory {
    done: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Mallory {
    fn begin(ports: RangeInclusive<u16>) -> Mallory {
        let (done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (until, counted) = (Arc::clone(&done), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let sockets = ["127.0.0.66:0", "127.0.0.1:0"].map(|place| UdpSocket::bind(place).unwrap());
            let sound = mulaw_sine(MALLORY_HZ, 1);
            for (number, frame) in sound.chunks_exact(160).cycle().enumerate() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                let number = u32::try_from(number).unwrap();
                let mut packet = vec![0x80, 0];
                packet.extend(u16::try_from(number & 0xffff).unwrap().to_be_bytes());
                packet.extend((number * 160).to_be_bytes());
                packet.extend(0x6666_6666_u32.to_be_bytes());
                packet.extend(frame);
                // The greeting of a handshake (threat 20): a record of version 1.2 with the beginning of a message.
                let greeting =
                    [&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 52, 1, 0, 0, 40, 0, 0][..], &[7; 46]].concat();
                for (socket, port) in sockets.iter().flat_map(|socket| ports.clone().map(move |port| (socket, port))) {
                    // Nobody may listen there yet.
                    let _ = socket.send_to(&packet, ("127.0.0.1", port));
                    let _ = socket.send_to(&greeting, ("127.0.0.1", port));
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                // What a phone sends: a packet each 20 ms.
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Mallory { done, sent, thread: Some(thread) }
    }

    fn end(mut self) -> u32 {
        self.done.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

#[test]
fn strangers_are_not_heard_in_calls_that_are_carried_whether_they_are_protected_or_not() {
    let mesh = node("[media]\nanchor = \"always\"\n");
    for (one, other, protection) in
        [("alice", "bob", Protection::None), ("carol", "dave", Protection::Sdes), ("erin", "frank", Protection::Dtls)]
    {
        let mut alice = phone(&mesh, one, ALICE_HZ, protection);
        let mut bob = phone(&mesh, other, BOB_HZ, protection);
        // Before there is a call, while it is set up, and as long as it lasts.
        let mallory = Mallory::begin(mesh.node(1).rtp());
        talk(&mut alice, &mut bob, &format!("sip:{other}@mesh.test"), HangsUp::Caller);
        let sent = mallory.end();
        alice.assert_not_heard(BOB_HZ, MALLORY_HZ);
        bob.assert_not_heard(ALICE_HZ, MALLORY_HZ);
        assert!(sent > 1000, "{sent}");
    }
}
