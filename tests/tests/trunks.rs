//! A telephone number of one's own: calls out and in over an account at a provider, which is Kamailio.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;

use meshtone_tests::name_server::NameServer;
use meshtone_tests::page::Page;
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::provider::{PROVIDER, PROVIDER_PASSWORD, Provider, REALM, TRUNK_NUMBER};
use meshtone_tests::scripted::Request;
use meshtone_tests::{Answer, DOMAIN, Mesh, MeshNode, Phone, PhoneOptions, SOON, ScriptedPhone, eventually};
use serde_json::Value;

/// The number of the provider's customer, and how it is dialled here.
const CUSTOMER: &str = "49301";
const DIALLED: &str = "0301";

/// A trunk to the provider, as a person writes it; `more` are further lines.
fn trunk(server: &str, more: &str) -> String {
    format!(
        "[[trunk]]\nname = \"provider\"\nserver = \"{server}\"\nuser = \"{TRUNK_NUMBER}\"\npassword_file = \"password\"\n\
         outbound = [{{ prefix = \"00\", strip = 2, add = \"+\" }}, {{ prefix = \"0\", strip = 1, add = \"+49\" }}]\n\
         inbound = [{{ number = \"+{TRUNK_NUMBER}\", to = \"alice\" }}]\n{more}\n"
    )
}

/// A node with these settings, the password in its file.
fn node_with(settings: &str, password: &str) -> MeshNode {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let folder = node.data().parent().unwrap().to_owned();
    let (config, secret) = (folder.join("config.toml"), folder.join("password"));
    std::fs::write(&config, settings).unwrap();
    std::fs::write(&secret, password).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    node.run(&["--config", config.to_str().unwrap()]);
    node
}

/// A node whose trunk is registered at the provider.
fn registered(provider: &Provider, more: &str) -> MeshNode {
    let node = node_with(&trunk(&format!("sip:{}", provider.address()), more), PROVIDER_PASSWORD);
    wait_state(&node, "registered");
    node
}

fn trunk_of(node: &MeshNode) -> Value {
    node.status()["trunks"][0].clone()
}

#[track_caller]
fn wait_state(node: &MeshNode, state: &str) {
    eventually(SOON * 2, &format!("the trunk to be {state}"), || trunk_of(node)["state"] == state);
}

#[track_caller]
fn wait_calls(node: &MeshNode, calls: u64) {
    eventually(SOON, &format!("the trunk to have {calls} calls"), || trunk_of(node)["calls"] == calls);
}

fn phone(node: &MeshNode, user: &str, tone_hz: f64) -> PhoneOptions {
    PhoneOptions::new(user, &node.user_add(user), node.sip(), tone_hz)
}

#[test]
fn calls_go_out_and_come_in_with_sound_and_each_side_sees_the_number() {
    let provider = Provider::start();
    let names = NameServer::with_domain(PROVIDER, provider.address());
    let settings = format!("dns = [\"{}\"]\n{}", names.address(), trunk(PROVIDER, ""));
    let node = node_with(&settings, PROVIDER_PASSWORD);
    wait_state(&node, "registered");
    let password = node.user_add("alice");
    let mut alice = PhoneOptions::new("alice", &password, node.sip(), 440.0).start();
    let mut customer = provider.customer(CUSTOMER, 880.0, Answer::Auto);

    talk(&mut alice, &mut customer, DIALLED, HangsUp::Caller);
    wait_calls(&node, 0);
    let own = format!("sip:{TRUNK_NUMBER}@{PROVIDER}");
    let calls = provider.requests(&format!("INVITE sip:+{CUSTOMER}@"));
    assert!(calls.iter().any(|call| call.contains(&format!("from {own} ppi=<{own}>"))), "{calls:?}");
    // The BYE was asked for a password as well.
    let byes = provider.requests("BYE ");
    assert!(byes.iter().any(|bye| bye.contains(&format!("realm=\"{REALM}\""))), "{byes:?}");

    talk(&mut customer, &mut alice, &format!("sip:{TRUNK_NUMBER}@{PROVIDER}"), HangsUp::Caller);
    assert!(alice.log_text().contains(&format!("{CUSTOMER}@{DOMAIN}")), "Alice sees whom to call back");
    talk(&mut customer, &mut alice, &format!("sip:{TRUNK_NUMBER}@{PROVIDER}"), HangsUp::Callee);
    wait_calls(&node, 0);
    assert_eq!(node.status()["calls"], serde_json::json!([]));
    let calls = Page::log_in(&node, "alice", &password).get("/me/calls");
    let told = |call: &Value| {
        let text = |field: &str| call[field].as_str().unwrap_or_default().to_owned();
        (text("direction"), text("outcome"), text("address"))
    };
    let told: Vec<_> = calls.as_array().unwrap().iter().map(told).collect();
    let had = |direction: &str, address: &str| (direction.to_owned(), "answered".to_owned(), address.to_owned());
    let from_outside = had("in", &format!("{CUSTOMER}@{DOMAIN}"));
    assert_eq!(told, [from_outside.clone(), from_outside, had("out", DIALLED)], "newest first");
}

#[test]
fn a_call_is_held_and_resumed_from_either_side() {
    let provider = Provider::start();
    let node = registered(&provider, "");
    let mut alice = phone(&node, "alice", 440.0).start();
    let mut customer = provider.customer(CUSTOMER, 880.0, Answer::Auto);
    alice.dial(DIALLED);
    customer.wait_established();
    alice.wait_established();
    let changes = || provider.requests("INVITE ").iter().filter(|line| line.contains(" within ")).count();
    for phone in [&mut alice, &mut customer] {
        let (before, holds) = (changes(), provider.requests("INVITE puts on hold").len());
        phone.command("hold", "");
        eventually(SOON, "the hold to reach the provider", || provider.requests("INVITE puts on hold").len() > holds);
        eventually(SOON, "the hold to be agreed", || changes() > before);
        eventually(SOON, "silence", || phone.bit_rates().1 < 20_000);
        let before = changes();
        phone.command("resume", "");
        eventually(SOON, "the call to be resumed", || changes() > before);
        // A phone on a busy machine sends a little less than 64,000.
        eventually(SOON, "sound both ways", || {
            let (sent, heard) = phone.bit_rates();
            sent > 50_000 && heard > 50_000
        });
    }
    assert_eq!(trunk_of(&node)["calls"], 1);
    customer.hang_up();
    alice.wait_closed(SOON);
    wait_calls(&node, 0);
}

#[test]
fn a_caller_who_gives_up_stops_the_ringing() {
    let provider = Provider::start();
    let node = registered(&provider, "");
    let mut alice = phone(&node, "alice", 440.0).answered_by_hand().start();
    let mut customer = provider.customer(CUSTOMER, 880.0, Answer::ByHand);
    alice.dial(DIALLED);
    customer.wait_incoming();
    alice.wait_ringing();
    alice.hang_up();
    customer.wait_closed(SOON);
    wait_calls(&node, 0);

    customer.dial(&format!("sip:{TRUNK_NUMBER}@{PROVIDER}"));
    alice.wait_incoming();
    customer.wait_ringing();
    customer.hang_up();
    alice.wait_closed(SOON);
    wait_calls(&node, 0);
}

#[test]
fn a_wrong_password_is_said_and_not_tried_again() {
    let provider = Provider::start();
    let node = node_with(&trunk(&format!("sip:{}", provider.address()), ""), "wrong");
    wait_state(&node, "failing");
    let trunk = trunk_of(&node);
    assert!(trunk["reason"].as_str().unwrap().contains("user and password (401)"), "{trunk}");
    assert!(node.must(&["status"]).contains("\nhint: check `user`, `auth_user` and the password"));
    let attempts = provider.requests("REGISTER ").len();
    assert_eq!(attempts, 2, "one without, one with the password");
    // A call is refused in words; it is tried with the password once, too.
    let mut alice = phone(&node, "alice", 440.0).start();
    alice.dial(DIALLED);
    assert!(alice.wait_closed(SOON).starts_with("502"));
    assert_eq!(provider.requests("REGISTER ").iter().filter(|line| line.contains(TRUNK_NUMBER)).count(), attempts);
}

#[test]
fn a_provider_that_restarts_finds_the_trunk_registered_again() {
    let mut provider = Provider::start();
    let server = format!("sip:{};transport=tcp", provider.address());
    let node = node_with(&trunk(&server, "expires = 10"), PROVIDER_PASSWORD);
    wait_state(&node, "registered");
    provider.stop();
    wait_state(&node, "failing");
    provider.start_again();
    wait_state(&node, "registered");
    let mut alice = phone(&node, "alice", 440.0).start();
    let mut customer = provider.customer(CUSTOMER, 880.0, Answer::Auto);
    talk(&mut customer, &mut alice, &format!("sip:{TRUNK_NUMBER}@{PROVIDER}"), HangsUp::Callee);
}

#[test]
fn a_node_that_stops_leaves_its_provider() {
    let provider = Provider::start();
    let mut node = registered(&provider, "");
    assert_eq!(node.terminate(), Some(0));
    let last = provider.requests("REGISTER ").pop().unwrap();
    assert!(last.contains("expires=0"), "{last}");
}

#[test]
fn a_redirection_is_not_followed_and_a_foreign_realm_gets_no_answer() {
    let provider = Provider::start();
    let node = registered(&provider, "");
    let mut customer = provider.customer(CUSTOMER, 880.0, Answer::Auto);
    let mut alice = phone(&node, "alice", 440.0).start();
    alice.dial("0302");
    assert!(alice.wait_closed(SOON).starts_with("502"));
    assert!(!customer.has_event("CALL_INCOMING"));
    assert!(provider.requests(&format!("INVITE sip:{CUSTOMER}@")).is_empty());
    alice.dial("0407");
    assert!(alice.wait_closed(SOON).starts_with("502"));
    let proofs = provider.requests("INVITE sip:+49407@");
    assert!(!proofs.is_empty() && proofs.iter().all(|line| !line.contains("evil")), "{proofs:?}");
    wait_calls(&node, 0);
}

#[test]
fn caps_and_refused_numbers_are_said_and_a_line_is_free_again_after_its_call() {
    let provider = Provider::start();
    let more = "max_calls = 2\nmax_calls_per_user = 1\nrefuse = [\"+49900\"]\nallow = [\"alice\", \"bob\", \"carol\"]";
    let node = registered(&provider, more);
    let mut phones: Vec<Phone> = Vec::new();
    for (user, tone_hz) in [("alice", 440.0), ("bob", 550.0), ("carol", 660.0), ("dave", 770.0)] {
        phones.push(phone(&node, user, tone_hz).answered_by_hand().start());
    }
    let [alice, bob, carol, dave] = &mut phones[..] else { panic!("four phones") };
    let mut customer = provider.customer(CUSTOMER, 880.0, Answer::Auto);
    let closed = |phone: &mut Phone, number: &str| {
        phone.dial(number);
        phone.wait_closed(SOON)
    };
    assert!(closed(alice, "0900123").contains("+49900"), "the refusal says why");
    assert!(closed(dave, DIALLED).starts_with("403"), "Dave may not call out");
    assert!(closed(dave, "999").starts_with("404"), "no trunk carries that");
    alice.dial(DIALLED);
    alice.wait_established();
    assert!(closed(alice, DIALLED).starts_with("403"), "a second call of one user");
    bob.dial(DIALLED);
    bob.wait_established();
    assert_eq!((trunk_of(&node)["calls"].clone(), trunk_of(&node)["max_calls"].clone()), (2.into(), 2.into()));
    assert!(closed(carol, DIALLED).starts_with("486"), "all lines are in use");
    customer.dial(&format!("sip:{TRUNK_NUMBER}@{PROVIDER}"));
    assert!(customer.wait_closed(SOON).starts_with("486"), "for calls in, too");
    bob.hang_up();
    wait_calls(&node, 1);
    carol.dial(DIALLED);
    carol.wait_established();
}

#[test]
fn an_emergency_call_needs_no_free_line_and_no_permission() {
    let provider = Provider::start();
    let settings = format!(
        "emergency_route = \"trunk:provider\"\n{}",
        trunk(&format!("sip:{}", provider.address()), "max_calls = 0\nallow = []\nrefuse = [\"112\"]")
    );
    let node = node_with(&settings, PROVIDER_PASSWORD);
    wait_state(&node, "registered");
    let mut alice = phone(&node, "alice", 440.0).start();
    let mut centre = provider.customer("112", 880.0, Answer::Auto);
    alice.dial(DIALLED);
    assert!(alice.wait_closed(SOON).starts_with("403"));
    talk(&mut alice, &mut centre, "112", HangsUp::Callee);
}

#[test]
fn a_user_at_another_home_node_calls_out_and_is_called_by_the_same_trunk() {
    let provider = Provider::start();
    let first = registered(&provider, "allow = [\"alice\"]");
    let second = MeshNode::joining("n2", &first.invite());
    let mesh = Mesh { nodes: vec![first, second] };
    mesh.wait_linked();
    let phone_at_second = |user: &str, tone_hz: f64| PhoneOptions::new(user, &mesh.user(user), mesh.sip(2), tone_hz);
    let mut alice = phone_at_second("alice", 440.0).start();
    let mut bob = phone_at_second("bob", 550.0).start();
    let mut customer = provider.customer(CUSTOMER, 880.0, Answer::Auto);
    eventually(SOON, "the trunk to be announced", || mesh.node(2).records("sip-registration") >= 3);
    talk(&mut alice, &mut customer, DIALLED, HangsUp::Callee);
    wait_calls(mesh.node(1), 0);
    talk(&mut customer, &mut alice, &format!("sip:{TRUNK_NUMBER}@{PROVIDER}"), HangsUp::Callee);
    wait_calls(mesh.node(1), 0);
    // The node of the phone was told, and verified, that the call came in by the other one.
    let log = std::fs::read_to_string(mesh.node(2).log()).unwrap();
    assert!(log.contains("a request came in by another node of this domain"), "{log}");
    // Who may call what is for the node with the trunk to say.
    for (dialled, status) in [(DIALLED, "403"), ("999", "404")] {
        bob.dial(dialled);
        assert!(bob.wait_closed(SOON).starts_with(status), "{dialled}");
    }
}

#[test]
fn the_next_trunk_carries_a_call_that_the_first_one_cannot_and_no_call_lasts_for_ever() {
    let provider = Provider::start();
    let dead = trunk("sip:127.0.0.3:9;transport=tcp", "register = false").replace("\"provider\"", "\"dead\"");
    let live = trunk(&format!("sip:{}", provider.address()), "register = false\nmax_duration = 1");
    // Without a registration nobody has learnt the realm.
    let node = node_with(&format!("{dead}{live}realm = \"{REALM}\"\n"), PROVIDER_PASSWORD);
    let mut alice = phone(&node, "alice", 440.0).start();
    let mut customer = provider.customer(CUSTOMER, 880.0, Answer::Auto);
    alice.dial(DIALLED);
    alice.wait_established();
    customer.wait_closed(SOON);
    alice.wait_closed(SOON);
    eventually(SOON, "both lines to be free", || {
        node.status()["trunks"].as_array().unwrap().iter().all(|trunk| trunk["calls"] == 0)
    });
    assert!(node.must(&["status"]).contains("ready"));
}

#[test]
fn a_stranger_calls_nobody_by_the_trunk_and_comes_in_by_it_from_nowhere_else() {
    let provider = Provider::start();
    let node = registered(&provider, "");
    let mut alice = phone(&node, "alice", 440.0).start();
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    let mut stranger = ScriptedPhone::udp(node.sip());
    let contact = provider.trunk_contact().unwrap();
    let claims = format!("sip:{CUSTOMER}@{PROVIDER}");
    for target in [contact, format!("sip:{DIALLED}@{DOMAIN}"), format!("sip:+{TRUNK_NUMBER}@{}", node.sip())] {
        let mut invite = Request::new("INVITE", &target, &claims, &format!("sip:{TRUNK_NUMBER}@{PROVIDER}"));
        invite = invite.with("Contact", &format!("<{}>", stranger.contact())).with_body("application/sdp", sdp);
        let refusal = stranger.ask_once(&invite);
        assert_eq!(refusal.status(), 407, "{target}: {refusal}");
    }
    assert!(!alice.has_event("CALL_INCOMING"));
    assert!(provider.requests(&format!("INVITE sip:+{CUSTOMER}@")).is_empty());
    wait_calls(&node, 0);
}
