//! Phones that say "ask there instead" (3xx): followed to users here, and to nobody else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::UdpSocket;

use meshtone_tests::{Mesh, MeshNode, ScriptedPhone};
use serde_json::Value;

const BOB: &str = "sip:bob@mesh.test";

#[test]
fn a_redirection_to_a_user_at_another_node_is_followed() {
    let mesh = Mesh::start(2);
    let passwords = ["alice", "bob", "carol"].map(|user| mesh.user(user));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &passwords[0]);
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &passwords[1]);
    let mut carol = ScriptedPhone::tcp(mesh.sip(2)).of("carol", &passwords[2]);
    bob.register();
    carol.register();
    mesh.wait_announced(2);

    let sent = alice.invite(BOB);
    let ringing = bob.incoming("INVITE");
    bob.redirect(&ringing, "sip:carol@mesh.test");
    let invite = carol.incoming("INVITE");
    assert!(invite.header("P-Asserted-Identity").is_some_and(|caller| caller.contains("alice@mesh.test")), "{invite}");
    let mut dialog = carol.accept_later(&invite);
    alice.established(&sent);
    carol.incoming("ACK");
    carol.hang_up(&mut dialog, &mut alice);
}

#[test]
fn a_redirection_to_anywhere_else_goes_back_to_the_caller_and_nothing_is_sent_there() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    bob.register();
    let victim = UdpSocket::bind("127.0.0.1:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    for target in [format!("sip:+900123@{}", victim.local_addr().unwrap()), "sip:x@elsewhere.example".to_owned()] {
        let sent = alice.invite(BOB);
        let ringing = bob.incoming("INVITE");
        bob.redirect(&ringing, &target);
        let answer = alice.final_answer(&sent);
        assert_eq!(answer.status(), 302, "{answer}");
        assert!(answer.header("Contact").unwrap().contains(&target), "{answer}");
    }
    assert!(victim.recv(&mut [0; 2_048]).is_err(), "what a phone names was asked");
}

#[test]
fn users_who_redirect_to_each_other_make_no_endless_call() {
    let mesh = Mesh::start(1);
    let passwords = ["alice", "bob", "carol"].map(|user| mesh.user(user));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &passwords[0]);
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &passwords[1]);
    let mut carol = ScriptedPhone::udp(mesh.sip(1)).of("carol", &passwords[2]);
    bob.register();
    carol.register();
    let sent = alice.invite(BOB);
    let ringing = bob.incoming("INVITE");
    bob.redirect(&ringing, "sip:carol@mesh.test");
    let ringing = carol.incoming("INVITE");
    carol.redirect(&ringing, BOB);
    // Whom a call has been to already is not called again.
    let answer = alice.final_answer(&sent);
    assert!((300..500).contains(&answer.status()), "{answer}");
    bob.incoming("ACK");
    bob.assert_left_alone();
}

/// A call from a node of another domain, which only that node can vouch for, diverted once and then once more.
#[test]
fn a_call_that_is_diverted_to_a_third_node_rings_there_with_its_caller_verified() {
    let mesh = Mesh::start(2);
    let printed = mesh.node(1).must(&["invite", "--role", "member", "--json"]);
    let invite: Value = serde_json::from_str(&printed).unwrap();
    let guest = MeshNode::joining("guest", invite["ticket"].as_str().unwrap());
    let domain = guest.status()["domain"].as_str().unwrap().to_owned();
    let [bobs, carols, doras] = ["bob", "carol", "dora"].map(|user| mesh.user(user));
    let mut alice = ScriptedPhone::udp(guest.sip()).of("alice", &guest.user_add("alice")).at_domain(&domain);
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bobs);
    let mut carol = ScriptedPhone::tcp(mesh.sip(2)).of("carol", &carols);
    let mut dora = ScriptedPhone::udp(mesh.sip(1)).of("dora", &doras);
    for phone in [&mut alice, &mut bob, &mut carol, &mut dora] {
        phone.register();
    }
    mesh.wait_announced(4);
    guest.wait_records("sip-registration", 4);
    let asserted = format!("<sip:alice@{domain}>");

    let sent = alice.invite(BOB);
    let ringing = bob.incoming("INVITE");
    assert_eq!(ringing.header("P-Asserted-Identity"), Some(asserted.as_str()));
    bob.redirect(&ringing, "sip:carol@mesh.test");
    let invite = carol.incoming("INVITE");
    assert_eq!(invite.header("P-Asserted-Identity"), Some(asserted.as_str()), "{invite}");
    assert_eq!(invite.header("Identity"), None, "what nodes say to each other is not for phones");
    let mut dialog = carol.accept_later(&invite);
    alice.established(&sent);
    carol.incoming("ACK");
    carol.hang_up(&mut dialog, &mut alice);

    let sent = alice.invite(BOB);
    let ringing = bob.incoming("INVITE");
    bob.redirect(&ringing, "sip:carol@mesh.test");
    let ringing = carol.incoming("INVITE");
    carol.redirect(&ringing, "sip:dora@mesh.test");
    let invite = dora.incoming("INVITE");
    assert_eq!(invite.header("P-Asserted-Identity"), Some(asserted.as_str()), "{invite}");
    dora.reply(&invite, 486, "Busy Here", "");
    assert_eq!(alice.final_answer(&sent).status(), 486);
}
