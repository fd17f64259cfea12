//! What the callee's phone is shown of who calls.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::scripted::{SDP, Sip};
use meshtone_tests::{Mesh, ScriptedPhone};

const BOB: &str = "sip:bob@mesh.test";
const NOBODY: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// Alice at one node and Bob at another one, which has these settings.
struct Two {
    _mesh: Mesh,
    alice: ScriptedPhone,
    bob: ScriptedPhone,
}

fn two(settings: &str) -> Two {
    let mut mesh = Mesh::start(2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    mesh.node_mut(2).terminate();
    mesh.node_mut(2).run_configured(settings);
    mesh.wait_linked();
    let alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bob);
    bob.register();
    mesh.node(1).wait_records("sip-registration", 1);
    Two { _mesh: mesh, alice, bob }
}

impl Two {
    /// The INVITE that reaches Bob's phone when Alice's says this of her in From, with these further fields.
    fn call(&mut self, from: &str, fields: &[(&str, &str)]) -> Sip {
        let mut invite = self.alice.request("INVITE", BOB).with_from(from).with_body("application/sdp", SDP);
        for (name, value) in fields {
            invite = invite.with(name, value);
        }
        let sent = self.alice.start(&invite);
        let incoming = self.bob.incoming("INVITE");
        self.bob.reply(&incoming, 486, "Busy Here", "");
        self.bob.incoming("ACK");
        assert_eq!(self.alice.final_answer(&sent).status(), 486);
        incoming
    }
}

#[test]
fn a_verified_caller_has_the_mark_before_her_name_and_no_second_one() {
    let mut two = two("verified_mark = \"✓\"\n");
    let shown = |incoming: &Sip| incoming.header("From").unwrap().split(';').next().unwrap().to_owned();
    let incoming = two.call("\"Alice\" <sip:alice@mesh.test>", &[]);
    assert_eq!(shown(&incoming), "\"✓ Alice\" <sip:alice@mesh.test>");
    let incoming = two.call("\"✔️ Alice ✓\" <sip:alice@mesh.test>", &[]);
    assert_eq!(shown(&incoming), "\"✓ Alice\" <sip:alice@mesh.test>");
    // Nobody is no verified name.
    let incoming = two.call(NOBODY, &[]);
    assert_eq!(shown(&incoming), NOBODY);
}

#[test]
fn a_caller_who_does_not_want_to_be_shown_is_not_and_without_a_password_does_not_call() {
    let mut two = two("");
    for fields in [&[][..], &[("Privacy", "id")], &[("Privacy", "user;id")]] {
        let incoming = two.call(NOBODY, fields);
        let text = incoming.to_string();
        assert!(incoming.header("P-Asserted-Identity").is_none() && incoming.header("Identity").is_none(), "{text}");
        let said = text.lines().filter(|line| !line.starts_with("Contact")).any(|line| line.contains("alice"));
        assert!(!said, "{text}");
    }
    // Only her address is kept back where she names herself.
    let incoming = two.call("\"Alice\" <sip:alice@mesh.test>", &[("Privacy", "id")]);
    assert!(incoming.header("P-Asserted-Identity").is_none());
    let invite = two.alice.request("INVITE", BOB).with_from(NOBODY).with_body("application/sdp", SDP);
    assert_eq!(two.alice.ask_once(&invite).status(), 407);
    let critical = two.alice.request("INVITE", BOB).with_from(NOBODY).with("Privacy", "header;critical");
    let critical = two.alice.start(&critical.with_body("application/sdp", SDP));
    assert_eq!(two.alice.final_answer(&critical).status(), 500);
    two.bob.assert_left_alone();
}

#[test]
fn a_node_may_refuse_callers_who_do_not_want_to_be_shown() {
    let mut two = two("anonymous = \"refuse\"\n");
    let invite = two.alice.request("INVITE", BOB).with_from(NOBODY).with_body("application/sdp", SDP);
    let sent = two.alice.start(&invite);
    assert_eq!(two.alice.final_answer(&sent).status(), 433);
    two.call("<sip:alice@mesh.test>", &[]);
}
