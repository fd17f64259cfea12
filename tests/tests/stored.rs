//! What a node learns of a call that it has no part in, though it stores what leads to it (docs/security.md).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::{MeshNode, SOON, ScriptedPhone, eventually};
use serde_json::Value;

const SAID: &str = "the-treasure-is-under-the-oak";

/// A node of somebody else's, which comes by a ticket and has no users.
fn bystander(founder: &MeshNode) -> MeshNode {
    let invite: Value = serde_json::from_str(&founder.must(&["invite", "--role", "member", "--json"])).unwrap();
    let mut node = MeshNode::unstarted("bystander");
    node.run(&["--join", invite["ticket"].as_str().unwrap()]);
    node
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_node_that_stores_registrations_learns_who_is_where_but_not_what_is_said_nor_where_phones_are() {
    let hers = MeshNode::first("hers");
    let mut his = MeshNode::unstarted("his");
    his.run(&["--join", &hers.invite()]);
    let mut bystander = bystander(&hers);
    let [alices, bobs] = ["alice", "bob"].map(|user| hers.user_add(user));
    let mut alice = ScriptedPhone::udp(hers.sip()).of("alice", &alices);
    alice.register();
    let mut bob = ScriptedPhone::udp(his.sip()).of("bob", &bobs);
    eventually(SOON, "his node to know him", || bob.try_register(600).status() == 200);
    bystander.wait_records("sip-registration", 2);

    let message = alice.request("MESSAGE", "sip:bob@mesh.test").with_body("text/plain", SAID);
    let sent = alice.start(&message);
    let heard = bob.incoming("MESSAGE");
    assert_eq!(String::from_utf8_lossy(&heard.body), SAID);
    bob.reply(&heard, 200, "OK", "");
    assert_eq!(alice.final_answer(&sent).status(), 200);
    let invite = alice.invite("sip:bob@mesh.test");
    let ringing = bob.incoming("INVITE");
    bob.reply(&ringing, 486, "Busy Here", "");
    bob.incoming("ACK");
    assert_eq!(alice.final_answer(&invite).status(), 486);

    // All that it kept, and all that it logged of it.
    bystander.terminate();
    let kept = std::fs::read(bystander.data().join("store.redb")).unwrap();
    let logged = std::fs::read(bystander.log()).unwrap();
    assert!(holds(&kept, "bob@mesh.test"), "it holds what leads to him, or this proves nothing");
    let call_id = ringing.header("Call-ID").unwrap();
    let secrets =
        [SAID.to_owned(), bob.local().to_string(), alice.local().to_string(), bobs, alices, call_id.to_owned()];
    for secret in secrets {
        assert!(!holds(&kept, &secret) && !holds(&logged, &secret), "{secret}");
    }
    assert!(!holds(&logged, "bob@mesh.test"), "nor does it log who is registered");
}
