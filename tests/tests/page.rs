//! People at the page that nodes serve: two browsers call each other and a desk phone, and the dashboard shows what is so.
//!
//! What they do is written in `tests/page`; `make test` builds the page and installs Chromium.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::browser::at_the_page;
use meshtone_tests::mail::{MAIL_DOMAIN, MailServer, SUBMITTER_PASSWORD, code_in, write_password};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{Mesh, MeshNode, PhoneOptions, SOON, ScriptedPhone, Transport};
use serde_json::{Value, json};

/// What is a name to whoever writes it, and markup to a page that is careless.
const MARKUP: &str = "<img src=x onerror=alert(1)>";

/// The page of a node, as who sits at its machine opens it.
fn site(mesh: &Mesh, node: usize) -> String {
    format!("http://localhost:{}/", mesh.at(node, Transport::Ws).port())
}

/// The same over TLS, as everybody else does.
fn protected_site(mesh: &Mesh, node: usize) -> String {
    format!("https://{}/", mesh.at(node, Transport::Wss))
}

/// The link with which whoever runs a node opens its dashboard: the one that was printed when it started.
fn dashboard(node: &MeshNode) -> String {
    let printed = node.printed();
    let link = printed.split_whitespace().find(|word| word.contains("/#key=")).expect("a link to the dashboard");
    link.to_owned()
}

fn people(mesh: &Mesh, users: &[&str]) -> Value {
    users
        .iter()
        .map(|user| ((*user).to_owned(), Value::from(mesh.user(user))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn browsers_at_two_nodes_call_hold_show_pictures_and_pass_calls_on() {
    let mesh = Mesh::start(2);
    let task = json!({
        "sites": [site(&mesh, 1), protected_site(&mesh, 2)],
        "people": people(&mesh, &["alice", "bob", "carol"]),
    });
    at_the_page("calls.mjs", &task, |_| {});
}

#[test]
fn a_browser_and_a_desk_phone_call_each_other_and_keys_are_heard() {
    let mesh = Mesh::start(1);
    let [alice, bob] = ["alice", "bob"].map(|user| mesh.user(user));
    let mut phone = PhoneOptions::new("bob", &bob, mesh.sip(1), BOB_HZ).start();
    let task = json!({ "site": site(&mesh, 1), "password": alice, "hz": ALICE_HZ, "phone_hz": BOB_HZ });
    std::thread::scope(|scope| {
        let (calls, call) = std::sync::mpsc::channel();
        scope.spawn(move || {
            phone.wait_established();
            for key in ["5", "#"] {
                assert_eq!(phone.wait_event("CALL_DTMF_START", SOON), key);
            }
            phone.hang_up();
            phone.wait_closed(SOON);
            phone.assert_heard(ALICE_HZ);
            phone.forget_recordings();
            call.recv().expect("alice waits");
            phone.dial("sip:alice@mesh.test");
            phone.wait_established();
            phone.wait_recorded();
            phone.hang_up();
            phone.wait_closed(SOON);
            phone.assert_heard(ALICE_HZ);
        });
        at_the_page("desk.mjs", &task, |line| {
            if line == "call" {
                calls.send(()).expect("the phone listens");
            }
        });
    });
}

#[test]
fn contacts_missed_calls_the_block_list_devices_and_the_echo_test_work_by_keyboard_too() {
    let mesh = Mesh::start(1);
    let task = json!({
        "sites": [site(&mesh, 1), protected_site(&mesh, 1)],
        "people": people(&mesh, &["alice", "bob"]),
    });
    at_the_page("person.mjs", &task, |_| {});
}

#[test]
fn somebody_with_an_address_of_her_own_logs_in_at_the_node_that_speaks_for_her_and_calls() {
    let mail = MailServer::start();
    let mut founder = MeshNode::unstarted("founder").with_domain("mesh.test");
    write_password(&founder, SUBMITTER_PASSWORD, 0o600);
    founder.run_configured(&mail.settings());
    let invite: Value = serde_json::from_str(&founder.must(&["invite", "--role", "member", "--json"])).expect("JSON");
    let hers = MeshNode::joining("hers", invite["ticket"].as_str().expect("a ticket"));
    let address = format!("alice@{MAIL_DOMAIN}");
    hers.must(&["enroll", &address]);
    let code = code_in(&mail.wait_mail("alice", 1));
    let enrolled = hers.must(&["enroll", &address, "--code", &code, "--json"]);
    let enrolled: Value = serde_json::from_str(&enrolled).expect("JSON");
    let sites = [&hers, &founder].map(|node| format!("http://localhost:{}/", node.ws().port()));
    let task = json!({
        "sites": sites,
        "address": address,
        "password": enrolled["password"],
        "bob": founder.user_add("bob"),
    });
    at_the_page("member.mjs", &task, |_| {});
}

#[test]
fn what_goes_wrong_is_told_truthfully() {
    let mut mesh = Mesh::start(2);
    let task = json!({
        "sites": [site(&mesh, 1), site(&mesh, 2)],
        "people": people(&mesh, &["alice", "bob", "carol"]),
    });
    at_the_page("troubles.mjs", &task, |line| {
        if line == "restart" {
            mesh.node_mut(1).kill9();
            mesh.node_mut(1).restart();
        }
    });
}

#[test]
fn the_dashboard_shows_within_seconds_that_nodes_were_killed_and_manages_people() {
    let mut mesh = Mesh::start(4);
    let alice = mesh.user("alice");
    let bob = mesh.user("bob");
    let mut phone = ScriptedPhone::tcp(mesh.sip(1)).of("alice", &alice);
    let mut other = ScriptedPhone::tcp(mesh.sip(1)).of("bob", &bob);
    other.register();
    let task = json!({ "link": dashboard(mesh.node(1)), "site": site(&mesh, 1), "markup": MARKUP });
    let shown = at_the_page("dashboard.mjs", &task, |line| match line {
        "call" => {
            let from = format!("\"{MARKUP}\" <sip:alice@mesh.test>");
            let invite = phone.request("INVITE", "sip:bob@mesh.test").with_from(&from);
            let invite = invite.with_body("application/sdp", &phone.sdp());
            let sent = phone.start(&invite);
            let ringing = other.incoming("INVITE");
            other.reply(&ringing, 486, "Busy Here", "");
            other.incoming("ACK");
            assert_eq!(phone.final_answer(&sent).status(), 486);
        }
        "kill" => {
            for node in [3, 4] {
                mesh.node_mut(node).kill9();
            }
        }
        _ => {}
    });
    // Losses are noticed within 12 s by the overlay, and shown 2 s later.
    let after_ms = shown["after_ms"].as_u64().expect("a time");
    assert!(after_ms < 20_000, "it took {after_ms} ms");
}

#[test]
fn every_view_is_accessible_and_fits_narrow_and_wide_screens_in_light_and_dark() {
    let mesh = Mesh::start(3);
    // Where `make screens` wants them.
    let screens = std::env::var("MESHTONE_SCREENS").ok();
    let task = json!({
        "sites": [site(&mesh, 1), site(&mesh, 2)],
        "link": dashboard(mesh.node(1)),
        "people": people(&mesh, &["alice", "bob", "carol"]),
        "screens": screens,
    });
    let seen = at_the_page("views.mjs", &task, |_| {});
    assert!(seen["seen"].as_u64() >= Some(80), "{seen:#}");
}
