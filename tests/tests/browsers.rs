//! Browsers as phones: JsSIP and SIP.js in headless Chromium, over WebSocket with and without TLS (RFC 7118).
//!
//! `make test` builds the page and installs Chromium; see `tests/web`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::browser::browse;
use meshtone_tests::{Mesh, Transport};
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
