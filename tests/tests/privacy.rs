//! What somebody sees who listens to the links between nodes (docs/security.md).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::capture::Capture;
use meshtone_tests::lan::in_own_network;
use meshtone_tests::scripted::SDP;
use meshtone_tests::{Mesh, SOON, ScriptedPhone, eventually};

const SECRET: &str = "the key is under the third flowerpot";

#[test]
fn who_listens_between_nodes_learns_neither_who_calls_nor_what_is_said() {
    if !in_own_network("who_listens_between_nodes_learns_neither_who_calls_nor_what_is_said") {
        return;
    }
    let capture = Capture::start();
    let mesh = Mesh::start(3);
    let (alices, bobs) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alices);
    let mut bob = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bobs);
    alice.register();
    bob.register();
    mesh.wait_announced(2);

    let invite = alice.request("INVITE", "sip:bob@mesh.test").with_body("application/sdp", SDP);
    let sent = alice.start(&invite);
    let incoming = bob.incoming("INVITE");
    bob.reply(&incoming, 486, "Busy Here", "");
    bob.incoming("ACK");
    assert_eq!(alice.final_answer(&sent).status(), 486);
    let message = alice.request("MESSAGE", "sip:bob@mesh.test").with_body("text/plain", SECRET);
    let sent = alice.start(&message);
    let incoming = bob.incoming("MESSAGE");
    bob.reply(&incoming, 200, "OK", "");
    assert_eq!(alice.final_answer(&sent).status(), 200);

    // Between Bob's phone, which speaks UDP, and his node it is all there: so it is looked for rightly.
    let phone = mesh.sip(2).port();
    eventually(SOON, "the message in what is heard at the phone", || capture.holds(phone, SECRET));
    for text in ["INVITE", "sip:", "alice", "bob", "mesh.test", "m=audio", SECRET] {
        assert!(capture.holds(phone, text), "{text} is not heard at the phone");
        for node in 1..=3 {
            assert!(!capture.holds(mesh.node(node).link().port(), text), "{text} is heard between nodes");
        }
    }
    for node in 1..=3 {
        assert!(capture.len(mesh.node(node).link().port()) > 10_000, "node {node} was not heard");
    }
}
