//! Who may do what: one password at every home node, and no hint for those who guess.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::scripted::{Request, Sip};
use meshtone_tests::{Mesh, MeshNode, SOON, ScriptedPhone, Transport, eventually};

/// How a REGISTER with this password ends at `node`.
#[track_caller]
fn register(node: &MeshNode, user: &str, password: &str) -> u16 {
    ScriptedPhone::udp(node.sip()).of(user, password).try_register(600).status()
}

#[track_caller]
fn wait_accepted(node: &MeshNode, user: &str, password: &str) {
    eventually(SOON, &format!("{user}'s new password to hold at {}", node.name()), || {
        register(node, user, password) == 200
    });
}

#[test]
fn a_password_changed_while_a_node_was_frozen_holds_there_afterwards() {
    let mesh = Mesh::start(3);
    let old = mesh.user("bob");
    assert_eq!(register(mesh.node(3), "bob", &old), 200);

    mesh.node(3).freeze();
    let new = mesh.node(1).user_passwd("bob");
    assert_ne!(old, new);
    wait_accepted(mesh.node(2), "bob", &new);
    mesh.node(3).thaw();

    wait_accepted(mesh.node(3), "bob", &new);
    for node in &mesh.nodes {
        assert_eq!(register(node, "bob", &old), 401, "the old password at {}", node.name());
        assert_eq!(register(node, "bob", &new), 200, "the new password at {}", node.name());
    }
}

#[test]
fn changes_made_on_both_sides_of_a_cut_hold_on_both_sides() {
    let mut mesh = Mesh::start(3);
    let (old_alice, old_bob) = (mesh.user("alice"), mesh.user("bob"));
    assert_eq!(mesh.node_mut(3).terminate(), Some(0));
    let alice = mesh.node(1).user_passwd("alice");
    // With its node down, the command opens the store itself.
    let bob = mesh.node(3).user_passwd("bob");
    mesh.node_mut(3).restart();
    mesh.wait_linked();

    for node in &mesh.nodes {
        wait_accepted(node, "alice", &alice);
        wait_accepted(node, "bob", &bob);
        assert_eq!(register(node, "alice", &old_alice), 401);
        assert_eq!(register(node, "bob", &old_bob), 401);
    }
}

#[test]
fn a_password_that_was_printed_survives_a_crash_right_after() {
    let mut mesh = Mesh::start(1);
    for round in 0..5 {
        let user = format!("user{round}");
        let password = mesh.node(1).user_add(&user);
        mesh.node_mut(1).kill9();
        mesh.node_mut(1).restart();
        assert_eq!(register(mesh.node(1), &user, &password), 200, "{user}");
        let changed = mesh.node(1).user_passwd(&user);
        mesh.node_mut(1).kill9();
        mesh.node_mut(1).restart();
        assert_eq!(register(mesh.node(1), &user, &changed), 200, "{user} with a new password");
    }
}

#[test]
fn a_user_removed_at_one_node_is_gone_at_all_with_his_bindings() {
    let mesh = Mesh::start(2);
    let bob = mesh.user("bob");
    let mut phone = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bob);
    phone.register();
    mesh.node(1).must(&["user", "remove", "bob"]);
    eventually(SOON, "bob to be refused at node 2", || register(mesh.node(2), "bob", &bob) == 401);
    eventually(SOON, "bob's binding to be gone", || mesh.node(2).contacts("bob@mesh.test").is_empty());
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_401_and_no_binding() {
    let mesh = Mesh::start(1);
    let right = mesh.user("alice");
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut known = ScriptedPhone::new(transport, mesh.sip(1)).of("alice", "wrong-password");
        let mut unknown = ScriptedPhone::new(transport, mesh.sip(1)).of("alicf", "wrong-password");
        let request = |phone: &ScriptedPhone| {
            Request::new("REGISTER", "sip:mesh.test", &phone.address(), &phone.address())
                .with("Contact", &format!("<{}>", phone.contact()))
        };
        let (of_known, of_unknown) = (request(&known), request(&unknown));

        let (one, other) = (known.ask_once(&of_known), unknown.ask_once(&of_unknown));
        assert_same(&one, &other, "alicf", "alice");
        let (second, other_second) = (known.authorize(&of_known, &one), unknown.authorize(&of_unknown, &other));
        let (one, other) = (known.ask_once(&second), unknown.ask_once(&other_second));
        assert_eq!(one.status(), 401);
        assert_same(&one, &other, "alicf", "alice");
    }
    assert_eq!(mesh.node(1).status()["registrations"].as_array().map(Vec::len), Some(0));
    assert_eq!(register(mesh.node(1), "alice", &right), 200);
}

/// Fails unless two answers are the same but for what their requests differ in and what is fresh in every answer.
#[track_caller]
fn assert_same(one: &Sip, other: &Sip, others_user: &str, users: &str) {
    assert_eq!(one.start, other.start);
    let lines = |message: &Sip| -> Vec<String> {
        let echoed = ["Via", "Call-ID", "From", "CSeq"];
        let line = |(name, value): &(String, String)| {
            if echoed.contains(&name.as_str()) { format!("{name}:") } else { format!("{name}: {}", masked(value)) }
        };
        message.headers.iter().map(line).collect()
    };
    let others: Vec<String> = lines(other).iter().map(|line| line.replace(others_user, users)).collect();
    assert_eq!(lines(one), others);
    assert_eq!(one.body, other.body);
}

/// The value with every character of a nonce or tag hidden, so that their lengths still count.
fn masked(value: &str) -> String {
    let mut text = value.to_owned();
    for (mark, end) in [("nonce=\"", '"'), ("tag=", ';'), ("opaque=\"", '"')] {
        if let Some(start) = text.find(mark).map(|at| at + mark.len()) {
            let length = text[start..].find(end).unwrap_or(text.len() - start);
            text.replace_range(start..start + length, &"*".repeat(length));
        }
    }
    text
}

#[test]
fn strangers_get_one_answer_whomever_they_ask_for() {
    let mesh = Mesh::start(2);
    let (bob, _) = (mesh.user("bob"), mesh.user("eve"));
    let mut registered = ScriptedPhone::udp(mesh.sip(2)).of("bob", &bob);
    registered.register();

    for method in ["INVITE", "MESSAGE", "OPTIONS", "SUBSCRIBE", "FROB"] {
        let ask = |target: &str| {
            let mut stranger = ScriptedPhone::udp(mesh.sip(1));
            let request = Request::new(method, target, "sip:mallory@elsewhere.example", target)
                .with("Contact", &format!("<{}>", stranger.contact()));
            stranger.ask_once(&request)
        };
        // Registered, known but nowhere, unknown, and of another domain.
        let first = ask("sip:bob@mesh.test");
        assert!((400..500).contains(&first.status()), "{method}:\n{first}");
        assert_same(&first, &ask("sip:eve@mesh.test"), "eve", "bob");
        assert_same(&first, &ask("sip:zed@mesh.test"), "zed", "bob");
    }
    registered.assert_left_alone();
}

#[test]
fn an_authenticated_caller_learns_that_a_user_is_unknown_or_not_there() {
    let mesh = Mesh::start(2);
    let (alice, _) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    for (target, status) in [("sip:nobody@mesh.test", 404), ("sip:bob@mesh.test", 480)] {
        let invite = alice.invite(target);
        assert_eq!(alice.final_answer(&invite).status(), status, "{target}");
    }
}

#[test]
fn nobody_registers_or_speaks_for_somebody_else() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut bobs = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    bobs.register();
    let before = mesh.node(1).contacts("bob@mesh.test");

    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &alice);
    let contact = format!("<{}>", alice.contact());
    for (from, contact) in
        [("sip:alice@mesh.test", contact.as_str()), ("sip:bob@mesh.test", contact.as_str()), ("sip:bob@mesh.test", "*")]
    {
        let request = Request::new("REGISTER", "sip:mesh.test", from, "sip:bob@mesh.test")
            .with("Contact", contact)
            .with("Expires", if contact == "*" { "0" } else { "600" });
        assert_eq!(alice.ask(request).status(), 403, "Contact: {contact}");
    }
    assert_eq!(mesh.node(1).contacts("bob@mesh.test"), before);

    let as_bob = Request::new("MESSAGE", "sip:bob@mesh.test", "sip:bob@mesh.test", "sip:bob@mesh.test");
    assert_eq!(alice.ask(as_bob.with_body("text/plain", "it is me")).status(), 403);
}

#[test]
fn credentials_that_were_seen_cannot_be_used_again() {
    let mesh = Mesh::start(1);
    let bob = mesh.user("bob");
    let mut phone = ScriptedPhone::udp(mesh.sip(1)).of("bob", &bob);
    let request = Request::new("REGISTER", "sip:mesh.test", &phone.address(), &phone.address())
        .with("Contact", &format!("<{}>", phone.contact()));
    let challenge = phone.ask_once(&request);
    let authorized = phone.authorize(&request, &challenge);
    assert_eq!(phone.ask_once(&authorized).status(), 200);

    let mut thief = ScriptedPhone::udp(mesh.sip(1));
    let mut replayed = authorized.clone();
    for (name, value) in &mut replayed.headers {
        if name == "Contact" {
            *value = format!("<sip:bob@{}>", thief.local());
        }
    }
    replayed.cseq += 1;
    assert_eq!(thief.ask_once(&replayed).status(), 401);
    assert_eq!(mesh.node(1).contacts("bob@mesh.test"), [phone.contact()]);
}
