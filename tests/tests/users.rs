//! Accounts that are changed after they were made, and accounts that cannot be used as the node stands.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Output;

use meshtone_tests::command::{stderr, stdout};
use meshtone_tests::{DOMAIN, Mesh, MeshNode, SOON, ScriptedPhone, eventually};
use serde_json::Value;

fn register(node: &MeshNode, user: &str, password: &str) -> u16 {
    ScriptedPhone::udp(node.sip()).of(user, password).try_register(600).status()
}

/// Fails unless the command did what it was asked and told of `what` on standard error, with a hint.
#[track_caller]
fn assert_warned(output: &Output, what: &str) {
    let text = stderr(output);
    assert!(output.status.success(), "{text}");
    let warning = text.lines().find(|line| line.starts_with("warning:"));
    assert!(warning.is_some_and(|line| line.contains(what)), "no warning of {what:?} in {text:?}");
    assert!(text.lines().any(|line| line.starts_with("hint:")), "no hint in {text:?}");
}

#[test]
fn the_algorithms_of_a_user_change_at_every_home_node_and_the_password_stays() {
    let mesh = Mesh::start(2);
    let password = mesh.user("alice");
    assert_eq!(register(mesh.node(2), "alice", &password), 200);

    // Nothing but MD5 is offered here: it is done all the same, for who listens elsewhere may offer more.
    let output = mesh.node(1).command(&["user", "set", "alice", "--digest", "sha-256,sha-512-256"]);
    assert_warned(&output, "SHA-256");
    eventually(SOON, "MD5 to be refused at the other node", || register(mesh.node(2), "alice", &password) == 401);
    eventually(SOON, "the other node to warn of it", || {
        std::fs::read_to_string(mesh.node(2).log()).unwrap().contains("no phone of this user can register here")
    });
    let output = mesh.node(1).command(&["user", "set", "alice", "--any-digest"]);
    assert!(output.status.success() && stderr(&output).is_empty(), "{output:?}");
    eventually(SOON, "MD5 to be taken again", || register(mesh.node(2), "alice", &password) == 200);
}

#[test]
fn a_user_whom_no_listener_serves_is_warned_of_when_made_and_at_the_start() {
    let mut node = MeshNode::first("shut-out");
    let output = node.command(&["user", "add", "alice", "--digest", "sha-256", "--json"]);
    assert_warned(&output, "SHA-256");
    let added: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(added["password"].is_string() && added["warning"]["hint"].is_string(), "{added}");
    assert_warned(&node.command(&["user", "passwd", "alice"]), "SHA-256");

    let warned = |node: &MeshNode| {
        let log = std::fs::read_to_string(node.log()).unwrap();
        log.lines().filter(|line| line.contains("no phone of this user can register here")).count()
    };
    assert_eq!(warned(&node), 0, "who changes it has been told");
    assert_eq!(node.terminate(), Some(0));
    node.restart();
    assert_eq!(warned(&node), 1);

    assert_eq!(node.terminate(), Some(0));
    node.run(&["--digest", "md5,sha-256"]);
    assert_eq!(warned(&node), 1, "now it is offered");
    let output = node.command(&["user", "passwd", "alice", "--json"]);
    assert!(stderr(&output).is_empty(), "{output:?}");
    let password = serde_json::from_str::<Value>(&stdout(&output)).unwrap()["password"].as_str().unwrap().to_owned();
    assert_eq!(register(&node, "alice", &password), 200, "by SHA-256, which is offered first");
}

#[test]
fn a_users_number_changes_with_the_node_running_or_not() {
    let mut node = MeshNode::first("numbers");
    let password = node.user_add("bob");
    let caller = node.user_add("alice");
    for (running, number) in [(true, "201"), (false, "202")] {
        if !running {
            assert_eq!(node.terminate(), Some(0));
        }
        let printed = node.must(&["user", "set", "bob", "--number", number]);
        assert!(printed.contains(number), "{printed}");
        let refused = node.command(&["user", "set", "alice", "--number", number]);
        assert!(!refused.status.success() && stderr(&refused).contains("bob has the number"), "{refused:?}");
        let unknown = node.command(&["user", "set", "nobody", "--no-number"]);
        assert!(!unknown.status.success() && stderr(&unknown).contains("hint:"), "{unknown:?}");
        assert_eq!(node.command(&["user", "set", "bob"]).status.code(), Some(2), "nothing to change");
    }
    node.restart();
    let mut bob = ScriptedPhone::udp(node.sip()).of("bob", &password);
    bob.register();
    let mut alice = ScriptedPhone::udp(node.sip()).of("alice", &caller);
    let mut ask = |bob: &mut ScriptedPhone, number: &str, status: u16| {
        let request = alice.request("MESSAGE", &format!("sip:{number}@{DOMAIN}")).with_body("text/plain", "hi");
        let sent = alice.start(&request);
        if status == 200 {
            let message = bob.incoming("MESSAGE");
            bob.reply(&message, 200, "OK", "");
        }
        assert_eq!(alice.final_answer(&sent).status(), status, "{number}");
    };
    ask(&mut bob, "202", 200);
    ask(&mut bob, "201", 404);
    node.must(&["user", "set", "bob", "--no-number"]);
    ask(&mut bob, "202", 404);
    ask(&mut bob, "bob", 200);
}
