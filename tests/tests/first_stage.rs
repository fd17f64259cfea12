//! A farm: phones know a first stage only, which forwards to the nodes behind it and keeps nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::scripted::Request;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, CAROL_HZ};
use meshtone_tests::{DOMAIN, Mesh, MeshNode, PhoneOptions, SOON, ScriptedPhone, Transport, eventually};

const ALICE: &str = "sip:alice@mesh.test";
const BOB: &str = "sip:bob@mesh.test";

/// A first stage before all nodes of a mesh.
fn before(mesh: &Mesh, nodes: usize) -> MeshNode {
    let mut front = MeshNode::unstarted("front");
    let servers: Vec<String> = (1..=nodes).map(|number| format!("\"{}\"", mesh.sip(number))).collect();
    let config = front.data().parent().unwrap().join("config.toml");
    let ticket = mesh.node(1).invite();
    std::fs::write(&config, format!("join = \"{ticket}\"\n[first_stage]\nservers = [{}]\n", servers.join(", ")))
        .unwrap();
    front.run(&["--config", config.to_str().unwrap()]);
    front
}

#[test]
fn phones_behind_a_first_stage_call_and_are_called_with_sound() {
    let mesh = Mesh::start(2);
    let front = before(&mesh, 2);
    let password = |user| mesh.user(user);
    let mut alice = PhoneOptions::new("alice", &password("alice"), front.sip(), ALICE_HZ).start();
    let over_tcp = front.at(Transport::Tcp);
    let mut bob = PhoneOptions::new("bob", &password("bob"), over_tcp, BOB_HZ).over(Transport::Tcp).start();
    let mut carol = PhoneOptions::new("carol", &password("carol"), mesh.sip(2), CAROL_HZ).start();

    let registered = |node: &MeshNode| node.status()["registrations"].as_array().map_or(0, Vec::len);
    assert_eq!(registered(mesh.node(1)) + registered(mesh.node(2)), 3);
    assert_eq!(registered(&front), 0);

    talk(&mut alice, &mut bob, BOB, HangsUp::Caller);
    talk(&mut bob, &mut alice, ALICE, HangsUp::Callee);
    talk(&mut carol, &mut bob, BOB, HangsUp::Callee);
    talk(&mut alice, &mut carol, "sip:carol@mesh.test", HangsUp::Callee);
}

#[test]
fn a_call_taken_back_ends_and_a_wrong_password_is_one_behind_a_first_stage_too() {
    let mesh = Mesh::start(2);
    let front = before(&mesh, 2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(front.sip()).of("alice", &alice);
    let mut bob = ScriptedPhone::tcp(front.sip()).of("bob", &bob);
    bob.register();
    let invite = alice.invite(BOB);
    let rings = bob.incoming("INVITE");
    bob.reply(&rings, 180, "Ringing", "");
    alice.wait_status(&invite, 180);
    alice.cancel(&invite);
    let cancel = bob.incoming("CANCEL");
    bob.reply(&cancel, 200, "OK", "");
    bob.reply(&rings, 487, "Request Terminated", "");
    assert_eq!(alice.final_answer(&invite).status(), 487);

    let mut mallory = ScriptedPhone::udp(front.sip()).of("bob", "guessed");
    let register = Request::new("REGISTER", &format!("sip:{DOMAIN}"), &mallory.address(), &mallory.address());
    assert_eq!(mallory.ask(register).status(), 401);
}

#[test]
fn users_of_a_server_that_has_died_are_served_by_the_others() {
    let mut mesh = Mesh::start(2);
    let front = before(&mesh, 2);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = ScriptedPhone::udp(front.sip()).of("alice", &alice);
    let mut bob = ScriptedPhone::udp(front.sip()).of("bob", &bob);
    bob.register();
    let holds = |mesh: &Mesh, number| !mesh.node(number).contacts("bob@mesh.test").is_empty();
    let lost = (1..=2).find(|number| holds(&mesh, *number)).expect("bob is registered at one of them");
    mesh.node_mut(lost).kill9();

    let is_given_up =
        || front.status()["second_stage"].as_array().unwrap().iter().any(|server| server["answers"] == false);
    eventually(SOON * 2, "the first stage to give the dead server up", is_given_up);
    // A phone registers again sooner or later, and is taken by the server that is left.
    bob.register();
    assert!(holds(&mesh, 3 - lost));
    let invite = alice.invite(BOB);
    let rings = bob.incoming("INVITE");
    bob.reply(&rings, 486, "Busy Here", "");
    assert_eq!(alice.final_answer(&invite).status(), 486);
}
