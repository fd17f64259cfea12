//! Which nodes an overlay trusts with what: nodes that store for nodes that may not, nodes that only store, and nodes that nobody has
//! invited.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::command::stderr;
use meshtone_tests::mail::{MailServer, SUBMITTER_PASSWORD, code_in, write_password};
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{MeshNode, PhoneOptions, SOON, ScriptedPhone, eventually};
use serde_json::Value;

/// The founder's node, whose `[authority]` says this besides where its mails go.
fn founder(policy: &str) -> (MailServer, MeshNode) {
    let mail = MailServer::start();
    let mut founder = MeshNode::unstarted("founder").with_domain("mesh.test");
    write_password(&founder, SUBMITTER_PASSWORD, 0o600);
    founder.run_configured(&mail.settings().replace("policy = \"invite\"", policy));
    (mail, founder)
}

fn ticket(founder: &MeshNode, role: &str) -> String {
    let printed = founder.must(&["invite", "--role", role, "--json"]);
    let invite: Value = serde_json::from_str(&printed).unwrap();
    invite["ticket"].as_str().unwrap().to_owned()
}

/// Enrols somebody at a node by mail, and returns the password for her phones.
fn enroll(mail: &MailServer, node: &MeshNode, user: &str) -> String {
    let address = format!("{user}@mail.test");
    eventually(SOON, "the authority to be found", || node.command(&["enroll", &address]).status.success());
    let code = code_in(&mail.wait_mail(user, 1));
    let printed: Value = serde_json::from_str(&node.must(&["enroll", &address, "--code", &code, "--json"])).unwrap();
    printed["password"].as_str().unwrap().to_owned()
}

fn records_of_all_kinds(node: &MeshNode) -> u64 {
    let status = node.status();
    status["records"].as_object().map_or(0, |kinds| kinds.values().filter_map(Value::as_u64).sum())
}

fn may(founder: &MeshNode, node: &MeshNode) -> String {
    let list: Value = serde_json::from_str(&founder.must(&["node", "list", "--json"])).unwrap();
    let id = node.status()["node"].clone();
    let row = list["nodes"].as_array().unwrap().iter().find(|row| row["node"] == id).unwrap().clone();
    row["may"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn trusted_nodes_store_for_nodes_that_only_use_and_people_there_call_each_other() {
    let (mail, founder) = founder("policy = \"invite\"\nstoring = \"trusted\"");
    let store = MeshNode::joining("store", &ticket(&founder, "store-only"));
    let (hers, his) = (ticket(&founder, "member"), ticket(&founder, "member"));
    let (mut hers, his) = (MeshNode::joining("hers", &hers), MeshNode::joining("his", &his));
    assert_eq!((may(&founder, &store).as_str(), may(&founder, &hers).as_str()), ("store", "use"));
    let alice = enroll(&mail, &hers, "alice");
    let bob = enroll(&mail, &his, "bob");
    let mut alice = PhoneOptions::new("alice", &alice, hers.sip(), ALICE_HZ).of_person("alice@mail.test").start();
    let mut bob = PhoneOptions::new("bob", &bob, his.sip(), BOB_HZ).of_person("bob@mail.test").start();
    for node in [&founder, &store] {
        // Theirs, and where the authority is.
        node.wait_records("sip-registration", 3);
    }
    talk(&mut alice, &mut bob, "sip:bob@mail.test", HangsUp::Caller);
    for node in [&hers, &his] {
        assert_eq!(records_of_all_kinds(node), 0, "{} stores something", node.name());
        let status = node.must(&["status"]);
        assert!(status.contains("\nrole      ordinary") && status.contains("certificate"), "{status}");
    }

    // Its owner cannot make it more than its certificate says.
    drop(alice);
    hers.terminate();
    hers.launch(&["--role", "super"]);
    eventually(SOON, "it to refuse", || !hers.is_running());
    let log = std::fs::read_to_string(hers.log()).unwrap();
    assert!(log.contains("its certificate lets it only use the overlay"), "{log}");
}

#[test]
fn a_node_that_only_stores_keeps_what_others_say_and_serves_nobodys_phones() {
    let founder = MeshNode::first("founder");
    let store = MeshNode::joining("store", &ticket(&founder, "store-only"));
    let alices = founder.user_add("alice");
    let mut alice = ScriptedPhone::udp(founder.sip()).of("alice", &alices);
    alice.register();
    store.wait_records("sip-registration", 1);
    assert_eq!(store.records("certificate"), 1, "of the founder's domain, and none of its own");

    let mut phone = ScriptedPhone::udp(store.sip()).of("alice", &alices);
    let answer = phone.try_register(600);
    assert_eq!(answer.status(), 403);
    assert!(answer.start.contains("serves no phones"), "it says why: {answer:?}");
    for command in [&["user", "add", "eve"][..], &["enroll", "eve@mail.test"]] {
        let refused = store.command(command);
        let said = stderr(&refused);
        assert!(!refused.status.success() && said.contains("only stores") && said.contains("hint: "), "{said}");
    }
}

#[test]
fn an_open_overlay_takes_nodes_that_nobody_has_invited_and_a_closed_one_does_not() {
    let (mail, mut founder) = founder("policy = \"open\"");
    let text = ticket(&founder, "open");
    assert_eq!(ticket(&founder, "open"), text, "one for everybody");
    let guest = MeshNode::joining("guest", &text);
    let other = MeshNode::joining("other", &text);
    assert_eq!((may(&founder, &guest).as_str(), may(&founder, &other).as_str()), ("use", "use"));
    let alice = enroll(&mail, &guest, "alice");
    let bobs = founder.user_add("bob");
    let mut alice = PhoneOptions::new("alice", &alice, guest.sip(), ALICE_HZ).of_person("alice@mail.test").start();
    let mut bob = PhoneOptions::new("bob", &bobs, founder.sip(), BOB_HZ).start();
    founder.wait_records("sip-registration", 3);
    talk(&mut bob, &mut alice, "sip:alice@mail.test", HangsUp::Caller);
    assert_eq!(records_of_all_kinds(&guest), 0);

    founder.terminate();
    founder.run_configured(&mail.settings());
    let refused = founder.command(&["invite", "--role", "open"]);
    assert!(!refused.status.success() && stderr(&refused).contains("not open to everybody"), "{}", stderr(&refused));
    let mut late = MeshNode::unstarted("late");
    late.launch(&["--join", &text]);
    eventually(SOON, "it to be refused", || !late.is_running());
    let log = std::fs::read_to_string(late.log()).unwrap();
    assert!(log.contains("takes invited nodes only") && log.contains("hint: "), "{log}");
    // Who is in stays in.
    let mut caller = ScriptedPhone::udp(founder.sip()).of("bob", &bobs);
    eventually(SOON, "the guest to be linked again", || guest.links() > 0);
    let invite = caller.invite("sip:alice@mail.test");
    caller.wait_status(&invite, 180);
}
