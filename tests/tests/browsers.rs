//! Browsers as phones: JsSIP and SIP.js in headless Chromium, over WebSocket with and without TLS (RFC 7118).
//!
//! `make test` builds the page and installs Chromium; see `tests/web`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::browser::{assert_heard, browse, browse_along, phone_task};
use meshtone_tests::phone::Protection;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, CAROL_HZ, write_wav};
use meshtone_tests::{Mesh, PhoneOptions, SOON, Transport};
use serde_json::{Value, json};

fn count(events: &Value, wanted: &str) -> usize {
    events.as_array().unwrap().iter().filter(|event| event.as_str() == Some(wanted)).count()
}

#[test]
fn browsers_register_call_each_other_and_send_messages() {
    let mesh = Mesh::start(2);
    let users = ["alice", "bob"].map(|user| (user, mesh.user(user)));
    let phone = |library: &str, (user, password): &(&str, String), node: usize, transport: Transport| {
        let server = format!("{}://{}/sip", transport.name(), mesh.at(node, transport));
        json!({ "library": library, "user": user, "password": password, "domain": "mesh.test", "server": server })
    };
    let [alice, bob] = &users;
    let pairs = [
        [phone("jssip", alice, 1, Transport::Ws), phone("sip.js", bob, 2, Transport::Wss)],
        [phone("sip.js", alice, 1, Transport::Ws), phone("jssip", bob, 1, Transport::Wss)],
    ];
    let result = browse(
        "browser.mjs",
        &json!({
            "pairs": pairs.map(|phones| json!({ "phones": phones })),
            "knock": format!("ws://{}/sip", mesh.at(1, Transport::Ws)),
        }),
    );

    for pair in result["results"].as_array().unwrap() {
        assert_eq!(pair["error"], Value::Null, "{pair:#}");
        for (side, own_text) in [(0, "message: from other"), (1, "message: from one")] {
            let events = &pair["events"][side];
            for (event, times) in [("registered", 1), ("incoming", 1), ("established", 2), ("ended", 2)] {
                assert_eq!(count(events, event), times, "{event} at side {side}: {pair:#}");
            }
            assert!(count(events, "ringing") >= 1, "180 at side {side}: {pair:#}");
            assert_eq!((count(events, own_text), count(events, "message delivered")), (1, 1), "side {side}: {pair:#}");
        }
    }
    assert_eq!(result["knocks"], json!({ "own": "open", "foreign": "refused" }), "RFC 6455 §10.2: the Origin decides");
    for address in ["alice@mesh.test", "bob@mesh.test"] {
        assert!(mesh.node(1).contacts(address).is_empty(), "{address} is still registered");
    }
}

#[test]
fn a_browser_and_a_desk_phone_hear_each_other_and_either_may_call() {
    let mesh = Mesh::start(1);
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|user| mesh.user(user));
    let mut bob = PhoneOptions::new("bob", &bob, mesh.sip(1), BOB_HZ).start();
    let carol = PhoneOptions::new("carol", &carol, mesh.sip(1), BOB_HZ);
    let mut carol = carol.protected(Protection::Sdes).start();
    let dave = PhoneOptions::new("dave", &dave, mesh.sip(1), BOB_HZ);
    let mut dave = dave.protected(Protection::Dtls).start();
    let folder = tempfile::tempdir().unwrap();
    let tone = folder.path().join("tone.wav");
    write_wav(&tone, ALICE_HZ, 60);
    // She calls a phone without keys, one with and one with a handshake of its own, and is called by the first and the last.
    let calls = json!(["bob", "carol", "dave", null, null]);
    let task = phone_task(&mesh, 1, ("alice", &alice), &tone, &calls);
    let mut waits = 0;
    let result = browse_along("browser.mjs", &task, |line| {
        if line == "waiting" {
            waits += 1;
            let caller = if waits == 1 { &mut bob } else { &mut dave };
            caller.wait_closed(SOON);
            caller.forget_recordings();
            caller.dial("sip:alice@mesh.test");
        }
    });
    assert_eq!(result["error"], Value::Null, "{result:#}");
    assert_heard(&result, 5, BOB_HZ);
    carol.wait_closed(SOON);
    carol.assert_heard(ALICE_HZ);
    for phone in [&mut bob, &mut dave] {
        phone.wait_closed(SOON);
        phone.assert_heard(ALICE_HZ);
    }
    // Which candidate pair the browser chose is told afterwards.
    let over = mesh.node(1).status()["finished_calls"].as_array().unwrap().clone();
    assert_eq!(over.len(), 5);
    for call in over {
        let trace = mesh.node(1).trace(call["call_id"].as_str().unwrap());
        let of_alice = usize::from(!call["from"].as_str().unwrap().contains("alice"));
        let end = &trace["call"]["ends"][of_alice];
        assert_eq!((end["way"].as_str(), end["protection"].as_str()), (Some("nominated"), Some("dtls")), "{trace:#}");
        assert!(end["remote"].is_string() && end["own"].is_string(), "{trace:#}");
    }
}

#[test]
fn a_browser_and_a_desk_phone_of_one_person_both_ring_and_either_may_answer() {
    let mesh = Mesh::start(1);
    let (alice, bob) = (mesh.user("alice"), mesh.user("bob"));
    let mut alice = PhoneOptions::new("alice", &alice, mesh.sip(1), CAROL_HZ).start();
    let mut desk = PhoneOptions::new("bob", &bob, mesh.sip(1), BOB_HZ).answered_by_hand().start();
    let folder = tempfile::tempdir().unwrap();
    let tone = folder.path().join("tone.wav");
    write_wav(&tone, ALICE_HZ, 60);
    let task = phone_task(&mesh, 1, ("bob", &bob), &tone, &json!(["RING", null]));
    let mut calls = 0;
    let result = browse_along("browser.mjs", &task, |line| {
        if line != "waiting" {
            return;
        }
        calls += 1;
        alice.forget_recordings();
        alice.dial("sip:bob@mesh.test");
        if calls == 1 {
            // The browser only rings.
            desk.wait_incoming();
            desk.answer();
            desk.wait_established();
            alice.wait_established();
            alice.wait_recorded();
            desk.wait_recorded();
            alice.hang_up();
            desk.wait_closed(SOON);
            alice.assert_heard(BOB_HZ);
            desk.assert_heard(CAROL_HZ);
        }
    });
    assert_eq!((result["error"].clone(), calls), (Value::Null, 2), "{result:#}");
    desk.wait_closed(SOON);
    alice.wait_closed(SOON);
    alice.assert_heard(ALICE_HZ);
    // Its first call was the one that it let ring.
    let heard = json!({ "heard": [result["heard"][1]] });
    assert_heard(&heard, 1, CAROL_HZ);
}
