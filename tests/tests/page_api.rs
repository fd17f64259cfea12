//! The interface of a node's page: who is let in, what he may do, and what he is told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::http::{Answer, Site};
use meshtone_tests::page::{Page, code, json, log_in_at, post, send};
use meshtone_tests::web_socket::WebSocket;
use meshtone_tests::wire::Wire;
use meshtone_tests::{Mesh, MeshNode, SOON, ScriptedPhone, Transport, eventually, eventually_some};
use serde_json::{Value, json as value};

fn plain(node: &MeshNode) -> Site {
    Site { server: node.ws(), tls: false }
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// A phone within a browser, by what its session gave it.
fn browser(node: &MeshNode, page: &Page, user: &str) -> ScriptedPhone {
    let sip = &page.session["sip"];
    let (username, password) = (sip["username"].as_str().unwrap(), sip["password"].as_str().unwrap());
    ScriptedPhone::new(Transport::Ws, node.ws()).of(user, password).logging_in_as(username)
}

#[test]
fn who_logs_in_registers_and_calls_by_a_credential_that_ends_with_the_session() {
    let node = MeshNode::first("node");
    let (alice, bob) = (node.user_add("alice"), node.user_add("bob"));
    let page = Page::log_in(&node, "Alice@mesh.test", &alice);
    let session = &page.session;
    assert_eq!((&session["address"], &session["administers"]), (&value!("alice@mesh.test"), &value!(false)));
    assert!(!session.to_string().contains(&alice), "the password goes nowhere");
    assert_eq!(&page.get("/session")["sip"], &session["sip"], "after a reload too");

    let mut phone = browser(&node, &page, "alice");
    phone.register();
    let mut other = ScriptedPhone::udp(node.sip()).of("bob", &bob);
    other.register();
    let invited = phone.invite("sip:bob@mesh.test");
    let invite = other.incoming("INVITE");
    other.accept_later(&invite);
    phone.established(&invited);

    // It is alice's, and nobody else's.
    let mut thief = browser(&node, &page, "bob");
    assert_eq!(thief.try_register(600).status(), 403);

    assert_eq!(page.ask("DELETE", "/session", None).status, 204);
    assert_eq!(code(&page.ask("GET", "/session", None)), refused(401, "no_session"));
    eventually(SOON, "the phone of the session to go with it", || {
        node.status()["registrations"].as_array().unwrap().iter().all(|phone| phone["address"] != "alice@mesh.test")
    });
    assert_eq!(browser(&node, &page, "alice").try_register(600).status(), 401);
    ScriptedPhone::udp(node.sip()).of("alice", &alice).register();
}

#[test]
fn a_session_outlives_a_restart_and_ends_with_the_password_and_the_account() {
    let mut node = MeshNode::first("node");
    let (alice, bob) = (node.user_add("alice"), node.user_add("bob"));
    let (of_alice, of_bob) = (Page::log_in(&node, "alice", &alice), Page::log_in(&node, "bob", &bob));
    browser(&node, &of_alice, "alice").register();
    node.terminate();
    node.run(&[]);
    browser(&node, &of_alice, "alice").register();
    assert_eq!(of_alice.get("/session")["sip"], of_alice.session["sip"]);
    node.user_passwd("alice");
    assert_eq!(code(&of_alice.ask("GET", "/session", None)), refused(401, "no_session"));
    assert_eq!(browser(&node, &of_alice, "alice").try_register(600).status(), 401);
    browser(&node, &of_bob, "bob").register();
    node.must(&["user", "remove", "bob"]);
    assert_eq!(code(&of_bob.ask("GET", "/session", None)), refused(401, "no_session"));
    assert_eq!(browser(&node, &of_bob, "bob").try_register(600).status(), 401);
}

#[test]
fn a_browser_that_trusts_the_overlays_authority_opens_the_page_of_every_node_without_a_warning() {
    let first = MeshNode::first("first");
    let second = MeshNode::joining("second", &first.invite());
    let authority = plain(&first).get("/authority.crt");
    assert_eq!((authority.status, authority.field("content-type")), (200, Some("application/x-x509-ca-cert")));
    let file = authority.text();
    assert_eq!(plain(&second).get("/authority.crt").text(), file, "one authority for all");
    for node in [&first, &second] {
        // The certificate of the authority is asked for once there is a way to it.
        eventually(SOON, "the authority's certificate for the page", || {
            json(&send(plain(node), "GET", "/authority", None, &[]))["page"]["from"] == "authority"
        });
        for name in ["mesh.test", "127.0.0.1"] {
            Wire::open_believing(node.wss(), &file, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(Wire::open_believing(node.wss(), &file, "other.test").is_err());
        let told = json(&send(plain(node), "GET", "/authority", None, &[]));
        let printed = node.must(&["page"]);
        for fingerprint in [&told["sha256"], &told["page"]["sha256"]] {
            assert!(printed.contains(fingerprint.as_str().unwrap()), "{fingerprint}: {printed}");
        }
        assert_eq!(node.status()["trust"], told);
    }
    let stranger = MeshNode::first("stranger");
    assert!(Wire::open_believing(stranger.wss(), &file, "mesh.test").is_err(), "another overlay's authority");
    // It is kept.
    let shown = json(&send(plain(&second), "GET", "/authority", None, &[]))["page"]["sha256"].clone();
    let mut second = second;
    second.terminate();
    second.run(&[]);
    assert_eq!(json(&send(plain(&second), "GET", "/authority", None, &[]))["page"]["sha256"], shown);
}

#[test]
fn what_is_set_on_the_page_counts_at_once_or_after_a_restart_unless_somebody_else_has_a_say() {
    let mut node = MeshNode::first("node");
    let page = Page::administer(&node);
    let find = |settings: Value, name: &str| {
        settings.as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap().clone()
    };
    let may_enrol = |node: &MeshNode| json(&send(plain(node), "GET", "/page", None, &[]))["enrol"].clone();
    assert_eq!(may_enrol(&node), true);
    let changed = page.ask("PATCH", "/admin/settings", Some(&value!({ "enroll": "nobody", "media.anchor": "always" })));
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(may_enrol(&node), false, "at once");
    let anchor = find(json(&changed), "media.anchor");
    assert_eq!(
        (&anchor["value"], &anchor["pending"], &anchor["restart"]),
        (&value!("auto"), &value!("always"), &value!(true))
    );
    assert_eq!(find(json(&changed), "domain")["changeable"], false);

    let wrong = page.ask("PATCH", "/admin/settings", Some(&value!({ "role": "super", "relay_limit": 0 })));
    assert_eq!((code(&wrong), &json(&wrong)["field"]), (refused(400, "bad_setting"), &value!("relay_limit")));
    assert_eq!(find(page.get("/admin/settings"), "role")["from"], "default", "all of it or nothing");
    // The tests name the log's filter in the environment.
    let overruled = page.ask("PATCH", "/admin/settings", Some(&value!({ "log": "debug" })));
    assert_eq!((code(&overruled), &json(&overruled)["field"]), (refused(409, "overruled"), &value!("log")));
    let no_token = page.ask_with("PATCH", "/admin/settings", Some(&value!({ "enroll": "anybody" })), &[]);
    assert_eq!(no_token.status, 403);

    node.terminate();
    node.run(&["--role", "super"]);
    let page = Page::administer(&node);
    assert_eq!(may_enrol(&node), false, "it lasts");
    let settings = page.get("/admin/settings");
    assert_eq!(find(settings.clone(), "media.anchor")["value"], "always");
    assert_eq!(find(settings.clone(), "role")["from"], "flag");
    assert_eq!(page.ask("PATCH", "/admin/settings", Some(&value!({ "role": "auto" }))).status, 409);
    assert_eq!(page.ask("PATCH", "/admin/settings", Some(&value!({ "enroll": null }))).status, 200);
    assert_eq!(may_enrol(&node), true);
    node.terminate();
    node.run_configured("enroll = \"nobody\"\n");
    assert_eq!(find(Page::administer(&node).get("/admin/settings"), "enroll")["from"], "file");
}

#[test]
fn a_wrong_password_says_the_same_of_everybody_and_guessing_gets_nowhere() {
    let node = MeshNode::first("node");
    let alice = node.user_add("alice");
    let site = plain(&node);
    let told = |answer: &Answer| {
        (answer.status, answer.text(), answer.fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())
    };
    let from = |source: &'static str| [("X-Forwarded-For", source)];
    let wrong = told(&log_in_at(site, "alice", "wrong", &from("198.51.100.7")));
    assert_eq!(wrong.0, 401);
    assert!(wrong.1.contains("wrong_password"));
    assert_eq!(told(&log_in_at(site, "nobody", "wrong", &from("198.51.100.7"))), wrong);
    assert_eq!(told(&log_in_at(site, "", "", &from("198.51.100.7"))), wrong);
    assert_eq!(told(&log_in_at(site, "alice", &"x".repeat(5000), &from("198.51.100.7"))), wrong);
    let guessed =
        (0..60).filter(|guess| log_in_at(site, "alice", &guess.to_string(), &from("198.51.100.66")).status == 401);
    let guessed = guessed.count();
    assert!((20..=30).contains(&guessed), "{guessed}");
    let late = log_in_at(site, "alice", &alice, &from("198.51.100.66"));
    assert_eq!(code(&late), refused(429, "too_often"), "even the right one is not looked at");
    assert!(late.field("retry-after").is_some());
    assert_eq!(log_in_at(site, "alice", &alice, &from("198.51.100.8")).status, 200, "the owner gets in elsewhere");
}

#[test]
fn passwords_go_over_tls_or_nowhere_and_cookies_are_for_this_page_alone() {
    let node = MeshNode::first("node");
    let alice = node.user_add("alice");
    let by_tls = Site { server: node.wss(), tls: true };
    for (site, name) in [(plain(&node), "meshtone_session="), (by_tls, "__Host-meshtone_session=")] {
        let answer = log_in_at(site, "alice", &alice, &[]);
        let cookie = answer.field("set-cookie").unwrap();
        assert!(cookie.starts_with(name), "{cookie}");
        for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert_eq!(cookie.contains("; Secure"), site.tls, "{cookie}");
        assert_eq!(answer.field("cache-control"), Some("no-store"));
    }
}

#[test]
fn nothing_is_changed_for_another_page() {
    let node = MeshNode::first("node");
    let alice = node.user_add("alice");
    let (site, own) = (plain(&node), format!("http://{}", node.ws()));
    let page = Page::log_in(&node, "alice", &alice);
    let csrf = page.csrf();
    for (fields, expected) in [
        (&[][..], "csrf"),
        (&[("X-Meshtone-Csrf", "00000000000000000000000000000000")], "csrf"),
        (&[("X-Meshtone-Csrf", csrf), ("Origin", "https://evil.example")], "origin"),
        (&[("X-Meshtone-Csrf", csrf), ("Origin", "null")], "origin"),
        (&[("X-Meshtone-Csrf", csrf), ("Origin", "http://127.0.0.1:1")], "origin"),
        (&[("X-Meshtone-Csrf", csrf), ("Sec-Fetch-Site", "cross-site")], "origin"),
        (&[("X-Meshtone-Csrf", csrf), ("Sec-Fetch-Site", "same-site"), ("Origin", own.as_str())], "origin"),
    ] {
        assert_eq!(code(&page.ask_with("DELETE", "/session", None, fields)), refused(403, expected), "{fields:?}");
    }
    let credentials = value!({ "address": "alice", "password": alice });
    let evil = [("Origin", "https://evil.example")];
    assert_eq!(code(&post(site, "/session", &credentials, &evil)), refused(403, "origin"));
    let form = [("Content-Type", "text/plain")];
    assert_eq!(code(&post(site, "/session", &credentials, &form)), refused(415, "media_type"));
    assert_eq!(code(&send(site, "GET", "/page", None, &[("Host", "evil.example")])), refused(421, "wrong_host"));
    assert_eq!(page.get("/session")["user"], "alice", "the session went through all that");
    let large = value!({ "address": "a".repeat(100_000), "password": "" });
    assert_eq!(code(&post(site, "/session", &large, &[])), refused(413, "too_large"));
    for bad in [value!([]), value!({ "address": "alice" }), value!({ "address": 1, "password": "" })] {
        assert_eq!(code(&post(site, "/session", &bad, &[])), refused(400, "bad_request"), "{bad}");
    }
    assert_eq!(page.ask("PATCH", "/session", None).status, 405);
}

#[test]
fn whoever_runs_the_node_opens_the_page_with_a_key_that_is_good_once() {
    let node = MeshNode::first("node");
    let printed = node.printed();
    let (_, key) = printed.split_once("/#key=").expect("a key at the start");
    let key = key.lines().next().unwrap();
    assert!(printed.contains(&format!("http://localhost:{}/#key=", node.ws().port())), "{printed}");
    let site = plain(&node);
    let open = |key: &str, fields: &[(&str, &str)]| post(site, "/session/key", &value!({ "key": key }), fields);
    assert_eq!(code(&open("wrong", &[])), refused(401, "wrong_key"));
    let elsewhere = [("X-Forwarded-For", "198.51.100.7")];
    assert_eq!(code(&open(key, &elsewhere)), refused(403, "not_local"));
    let answer = open(key, &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(code(&open(key, &[])), refused(401, "wrong_key"), "it was used");
    let page = Page::of(site, &answer);
    assert_eq!((&page.session["administers"], &page.session["sip"]), (&value!(true), &Value::Null));
    // The cookie is worth nothing elsewhere.
    assert_eq!(code(&page.ask_with("GET", "/session", None, &elsewhere)), refused(403, "not_local"));
    assert_eq!(Page::administer(&node).session["administers"], true);
    assert!(!std::fs::read_to_string(node.log()).unwrap().contains(key), "no log has the key");
}

#[test]
fn the_page_and_its_files_are_served_under_a_policy_without_exceptions() {
    let node = MeshNode::first("node");
    let site = plain(&node);
    let index = site.get("/");
    assert_eq!(index.status, 200);
    let text = index.text();
    assert!(!text.contains("was built without its page"), "`make web` builds it");
    assert!(text.contains("<script type=\"module\""), "{text}");
    let policy = index.field("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(index.field("cache-control"), Some("no-cache"));
    let tag = index.field("etag").unwrap();
    assert_eq!(site.get_with("/", &[("If-None-Match", tag)]).status, 304);
    let assets: Vec<&str> = text.split('"').filter(|part| part.contains("assets/")).collect();
    assert!(!assets.is_empty(), "{text}");
    let mut first_load = 0;
    for asset in assets {
        let path = format!("/{}", asset.trim_start_matches(['.', '/']));
        let whole = site.get(&path);
        assert_eq!(whole.status, 200, "{path}");
        assert!(whole.field("cache-control").unwrap().contains("immutable"), "{path}");
        let small = site.get_with(&path, &[("Accept-Encoding", "gzip, br")]);
        assert_eq!(small.field("content-encoding"), Some("br"), "{path}");
        assert!(small.body.len() < whole.body.len());
        first_load += small.body.len();
        assert_eq!(site.get_with(&path, &[("Accept-Encoding", "gzip")]).field("content-encoding"), Some("gzip"));
        assert_eq!(site.get(&format!("{path}.br")).status, 404);
    }
    assert!(first_load <= 250 << 10, "{first_load} bytes for the first load");
    for path in ["/assets/../../Cargo.toml", "/assets/%2e%2e/index.html", "/.env", "/assets/none.js"] {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
    assert_eq!(json(&site.get("/api/v1/openapi.json"))["info"]["title"], "Meshtone");
    eventually(SOON, "the node to go on", || site.get("/health").status == 200);
}

/// A line of events, as a page opens it.
fn events(page: &Page, origin: &str) -> Result<WebSocket, Option<u16>> {
    let request = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {}\r\n{origin}\r\n",
        page.site.server, page.cookie
    );
    WebSocket::handshake(page.site.server, page.site.tls, &request)
}

fn own_events(page: &Page) -> WebSocket {
    events(page, &format!("Origin: http://{}\r\n", page.site.server)).expect("a line of events")
}

/// The next event of this kind that fits.
#[track_caller]
fn next_event(line: &mut WebSocket, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually_some(SOON * 2, &format!("an event `{kind}`"), || {
        let (_, payload) = line.next_frame(SOON)?;
        serde_json::from_slice::<Value>(&payload).ok().filter(|event| event["type"] == kind && fits(event))
    })
}

/// The newest call of an account, once it stands so.
#[track_caller]
fn newest(page: &Page, outcome: &str) -> Value {
    eventually_some(SOON, &format!("the newest call to be `{outcome}`"), || {
        Some(page.get("/me/calls")[0].clone()).filter(|call| call["outcome"] == outcome)
    })
}

#[test]
fn calls_of_desk_phones_stand_in_the_history_of_both_and_are_told_as_they_happen() {
    let node = MeshNode::first("node");
    let (alice, bob) = (node.user_add("alice"), node.user_add("bob"));
    let (of_alice, of_bob) = (Page::log_in(&node, "alice", &alice), Page::log_in(&node, "bob", &bob));
    let mut line = own_events(&of_bob);
    next_event(&mut line, "hello", |event| event["missed"] == false);
    let mut caller = ScriptedPhone::udp(node.sip()).of("alice", &alice);
    let mut callee = ScriptedPhone::udp(node.sip()).of("bob", &bob);
    caller.register();
    // Nobody is there: she has missed it.
    let invited = caller.invite("sip:bob@mesh.test");
    assert_eq!(caller.final_answer(&invited).status(), 480);
    assert_eq!(newest(&of_bob, "missed")["address"], "alice@mesh.test");
    assert_eq!(newest(&of_alice, "failed")["status"], 480);
    callee.register();
    next_event(&mut line, "registration", |event| event["contacts"] == 1);

    let invited = caller.invite("sip:bob@mesh.test");
    let invite = callee.incoming("INVITE");
    next_event(&mut line, "call", |event| event["call"]["outcome"] == "ringing");
    callee.accept_later(&invite);
    let mut dialog = caller.established(&invited);
    next_event(&mut line, "call", |event| event["call"]["outcome"] == "answered");
    caller.hang_up(&mut dialog, &mut callee);
    let told = next_event(&mut line, "call", |event| event["call"]["ended"].is_u64());
    let (of_callee, of_caller) = (newest(&of_bob, "answered"), newest(&of_alice, "answered"));
    assert_eq!(told["call"], of_callee);
    assert_eq!((&of_callee["direction"], &of_callee["verified"]), (&value!("in"), &value!(true)));
    assert_eq!((&of_caller["direction"], &of_caller["address"]), (&value!("out"), &value!("bob@mesh.test")));
    assert!(of_caller["started"].as_u64().unwrap() > 1_700_000_000 && of_caller["answered"].is_u64());

    // Refused, and given up.
    let invited = caller.invite("sip:bob@mesh.test");
    let invite = callee.incoming("INVITE");
    callee.reply(&invite, 486, "Busy Here", "");
    assert_eq!(caller.final_answer(&invited).status(), 486);
    newest(&of_bob, "busy");
    let invited = caller.invite("sip:bob@mesh.test");
    let invite = callee.incoming("INVITE");
    callee.reply(&invite, 180, "Ringing", "");
    caller.wait_status(&invited, 180);
    caller.cancel(&invited);
    let cancel = callee.incoming("CANCEL");
    callee.reply(&cancel, 200, "OK", "");
    callee.reply(&invite, 487, "Request Terminated", "");
    newest(&of_alice, "cancelled");
    assert_eq!(newest(&of_bob, "missed")["seen"], false);
    assert_eq!(of_bob.ask("POST", "/me/calls/seen", None).status, 204);
    assert_eq!(newest(&of_bob, "missed")["seen"], true);
    assert_eq!(of_bob.get("/me/calls").as_array().unwrap().len(), 4);
    let second = of_bob.get("/me/calls?limit=1");
    assert_eq!(second.as_array().unwrap().len(), 1);
    let before = second[0]["id"].as_str().unwrap();
    assert_eq!(of_bob.get(&format!("/me/calls?before={before}")).as_array().unwrap().len(), 3);
    assert_eq!(of_bob.ask("DELETE", "/me/calls", None).status, 204);
    assert!(of_bob.get("/me/calls").as_array().unwrap().is_empty());

    // The line ends with the session.
    assert_eq!(of_bob.ask("DELETE", "/session", None).status, 204);
    assert_eq!(line.close_code(), Some(4401));
}

#[test]
fn who_does_not_want_to_be_disturbed_and_who_is_blocked_is_told_in_words() {
    let node = MeshNode::first("node");
    let (alice, bob) = (node.user_add("alice"), node.user_add("bob"));
    let page = Page::log_in(&node, "bob", &bob);
    let mut caller = ScriptedPhone::udp(node.sip()).of("alice", &alice);
    let mut callee = ScriptedPhone::udp(node.sip()).of("bob", &bob);
    caller.register();
    callee.register();
    let set = |do_not_disturb: bool, blocked: &[&str]| {
        let settings = value!({ "do_not_disturb": do_not_disturb, "blocked": blocked });
        let answer = page.ask("PUT", "/me/settings", Some(&settings));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(page.get("/me/settings"), json(&answer));
    };
    let mut call = || {
        let invited = caller.invite("sip:bob@mesh.test");
        let answer = caller.final_answer(&invited);
        (answer.status(), answer.to_string().lines().next().unwrap_or_default().to_owned())
    };
    set(true, &[]);
    assert_eq!(call(), (486, "SIP/2.0 486 Do Not Disturb".to_owned()));
    newest(&page, "not_disturbed");
    set(false, &["Alice@mesh.test"]);
    assert_eq!(call(), (603, "SIP/2.0 603 Does Not Take Your Calls".to_owned()));
    newest(&page, "blocked");
    callee.assert_left_alone();
    let wrong = value!({ "do_not_disturb": false, "blocked": ["no address"] });
    assert_eq!(code(&page.ask("PUT", "/me/settings", Some(&wrong))), refused(400, "bad_request"));
    let many: Vec<String> = (0..101).map(|number| format!("{number}@example.net")).collect();
    let many = value!({ "do_not_disturb": false, "blocked": many });
    assert_eq!(code(&page.ask("PUT", "/me/settings", Some(&many))), refused(413, "full"));
    set(false, &[]);
    let invited = caller.invite("sip:bob@mesh.test");
    let invite = callee.incoming("INVITE");
    callee.reply(&invite, 486, "Busy Here", "");
    assert_eq!(caller.final_answer(&invited).status(), 486);
}

#[test]
fn contacts_are_kept_with_the_account_and_for_nobody_else() {
    let mut node = MeshNode::first("node");
    let (alice, bob) = (node.user_add("alice"), node.user_add("bob"));
    let (page, other) = (Page::log_in(&node, "alice", &alice), Page::log_in(&node, "bob", &bob));
    let contact = value!({ "name": "<b>Bob</b>", "address": "bob@mesh.test", "favourite": true });
    let put = |id: &str, contact: &Value| page.ask("PUT", &format!("/me/contacts/{id}"), Some(contact));
    assert_eq!(put("c-1", &contact).status, 200);
    node.terminate();
    node.run(&[]);
    let kept = page.get("/me/contacts");
    assert_eq!(kept, value!([{ "id": "c-1", "name": "<b>Bob</b>", "address": "bob@mesh.test", "favourite": true }]));
    assert_eq!(other.get("/me/contacts"), value!([]));
    for bad in [
        value!({ "name": "", "address": "bob@mesh.test" }),
        value!({ "name": "\u{1b}[2J", "address": "bob@mesh.test" }),
        value!({ "name": "Bob", "address": "<script>" }),
    ] {
        assert_eq!(code(&put("c-2", &bad)), refused(400, "bad_request"), "{bad}");
    }
    assert_eq!(page.ask("DELETE", "/me/contacts/c-1", None).status, 204);
    assert_eq!(code(&page.ask("DELETE", "/me/contacts/c-1", None)), refused(404, "not_found"));
    let administrator = Page::administer(&node);
    assert_eq!(code(&administrator.ask("GET", "/me/contacts", None)), refused(403, "no_account"));
}

#[test]
fn no_other_page_opens_the_line_of_events() {
    let node = MeshNode::first("node");
    let alice = node.user_add("alice");
    let page = Page::log_in(&node, "alice", &alice);
    for origin in ["Origin: https://evil.example\r\n", "Origin: null\r\n", "", "Origin: http://127.0.0.1:1\r\n"] {
        assert_eq!(events(&page, origin).err(), Some(Some(403)), "{origin:?}");
    }
    let stranger = Page { cookie: "meshtone_session=x".to_owned(), ..page.clone() };
    let own = format!("Origin: http://{}\r\n", node.ws());
    assert_eq!(events(&stranger, &own).err(), Some(Some(401)));
    assert_eq!(page.ask("GET", "/events", None).status, 426);
    // Whoever says too much is not listened to.
    let mut line = own_events(&page);
    line.send(&vec![b'x'; 100_000]).unwrap();
    eventually(SOON * 2, "the line to close", || {
        line.next_frame(SOON);
        line.is_closed()
    });
}

#[test]
fn whoever_runs_the_node_sees_its_calls_message_by_message_and_no_secret_of_them() {
    let node = MeshNode::first("node");
    let (alice, bob) = (node.user_add("alice"), node.user_add("bob"));
    let mut caller = ScriptedPhone::udp(node.sip()).of("alice", &alice);
    let mut callee = ScriptedPhone::udp(node.sip()).of("bob", &bob);
    caller.register();
    callee.register();
    let page = Page::administer(&node);
    let invited = caller.invite("sip:bob@mesh.test");
    let invite = callee.incoming("INVITE");
    callee.accept_later(&invite);
    let mut dialog = caller.established(&invited);
    let live = eventually_some(SOON, "the call to stand", || {
        Some(page.get("/admin/calls")["live"][0].clone()).filter(|call| call["state"] == "established")
    });
    let call_id = live["call_id"].as_str().unwrap().to_owned();
    // Its sound does not run through the node: how it is, its ends say, a browser to the page and a phone by PUBLISH (RFC 6035).
    let carol = node.user_add("carol");
    let path = format!("/calls/{}/quality", call_id.replace('@', "%40"));
    let heard = |user: &str, password: &str, measured: Value| {
        Page::log_in(&node, user, password).ask("POST", &path, Some(&measured))
    };
    assert_eq!(heard("alice", &alice, value!({ "loss_percent": 1.5, "jitter_ms": 3.0, "rtt_ms": 41.0 })).status, 204);
    assert_eq!(heard("alice", &alice, value!({ "loss_percent": 1.5, "jitter_ms": 3.0 })).status, 429);
    assert_eq!(heard("alice", &alice, value!({ "loss_percent": 101, "jitter_ms": 3.0 })).status, 400);
    assert_eq!(heard("carol", &carol, value!({ "loss_percent": 0, "jitter_ms": 3.0 })).status, 404);
    caller.hang_up(&mut dialog, &mut callee);
    let report = |call_id: &str| {
        format!(
            "VQSessionReport: CallTerm\r\nCallID: {call_id}\r\nLocalMetrics:\r\nPacketLoss:NLR=5.0 JDR=2.0\r\n\
             Delay:RTD=200 IAJ=2\r\nQualityEst:MOSLQ=3.9\r\n"
        )
    };
    let mut publish = |body: &str| {
        let request = callee.request("PUBLISH", "sip:bob@mesh.test").with("Event", "vq-rtcpxr");
        callee.ask(request.with_body("application/vq-rtcpxr", body)).status()
    };
    assert_eq!(publish(&report(&call_id)), 200);
    assert_eq!((publish(&report("another")), publish("nothing")), (404, 400));
    let finished = eventually_some(SOON, "the call to be over", || {
        Some(page.get("/admin/calls")["finished"][0].clone()).filter(|call| call["call_id"] == call_id.as_str())
    });
    assert_eq!((&finished["status"], &finished["from"]), (&value!(200), &value!("sip:alice@mesh.test")));
    let detail = page.get(&format!("/admin/calls/{}", call_id.replace('@', "%40")));
    assert_eq!((&detail["state"], &detail["left_out"]), (&value!("over"), &value!(0)));
    let said = |end: &str| detail["quality"].as_array().unwrap().iter().find(|one| one["end"] == end).unwrap().clone();
    let (of_caller, of_callee) = (said("caller"), said("callee"));
    assert_eq!(
        (&of_caller["by"], &of_caller["loss_percent"], &of_caller["rtt_ms"]),
        (&value!("end"), &value!(1.5), &value!(41.0))
    );
    assert!(of_caller["mos"].as_f64().is_some_and(|mos| (4.0..4.5).contains(&mos)), "{of_caller}");
    assert_eq!((&of_callee["loss_percent"], &of_callee["mos"]), (&value!(7.0), &value!(3.9)));
    let steps: Vec<(&str, &str)> = detail["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["from"].as_str().unwrap(), step["first_line"].as_str().unwrap()))
        .collect();
    let (from, to) = (caller.local().to_string(), callee.local().to_string());
    assert_eq!(steps[0], (from.as_str(), "INVITE sip:bob@mesh.test SIP/2.0"), "{steps:?}");
    let begins: Vec<(&str, &str)> =
        steps.iter().map(|(by, line)| (*by, line.get(..11).unwrap_or(line))).take(4).collect();
    let (node, invite) = ("node", (from.as_str(), "INVITE sip:"));
    assert_eq!(begins, [invite, (node, "SIP/2.0 407"), (from.as_str(), "ACK sip:bob"), invite], "challenged first");
    assert!(steps.iter().any(|(by, line)| *by == "node" && line.starts_with("INVITE ")), "{steps:?}");
    assert!(
        steps.contains(&(to.as_str(), "SIP/2.0 200 OK")) && steps.contains(&("node", "SIP/2.0 200 OK")),
        "{steps:?}"
    );
    assert!(steps.iter().any(|(by, line)| *by == from && line.starts_with("BYE ")), "{steps:?}");
    let text = detail["messages"].to_string();
    assert!(text.contains("Proxy-Authorization: [redacted]") && !text.contains("response="), "{text}");
    assert_eq!(code(&page.ask("GET", "/admin/calls/none", None)), refused(404, "not_found"));
}

#[test]
fn whoever_runs_the_node_looks_after_users_tickets_and_tokens_on_its_page() {
    let node = MeshNode::first("node");
    let page = Page::administer(&node);
    let codes =
        |status: &Value| status["health"].as_array().unwrap().iter().map(|one| one["code"].clone()).collect::<Vec<_>>();
    assert!(codes(&page.get("/admin/status")).contains(&value!("no_users")));
    let added = page.ask("POST", "/admin/users", Some(&value!({ "user": "alice", "number": "201" })));
    assert_eq!(added.status, 201, "{}", added.text());
    let password = json(&added)["password"].as_str().unwrap().to_owned();
    ScriptedPhone::udp(node.sip()).of("alice", &password).register();
    assert_eq!(page.get("/admin/users")["users"][0]["phones"], 1);
    assert!(codes(&page.get("/admin/status")).is_empty());
    let again = page.ask("POST", "/admin/users", Some(&value!({ "user": "alice" })));
    assert_eq!(code(&again), refused(409, "conflict"));
    assert_eq!(page.ask("PATCH", "/admin/users/alice", Some(&value!({ "number": "" }))).status, 200);
    let changed = page.ask("POST", "/admin/users/alice/password", None);
    let changed = json(&changed)["password"].as_str().unwrap().to_owned();
    assert_eq!(log_in_at(plain(&node), "alice", &changed, &[]).status, 200);
    assert_eq!(page.ask("DELETE", "/admin/users/alice", None).status, 204);
    assert_eq!(code(&page.ask("DELETE", "/admin/users/alice", None)), refused(404, "not_found"));

    let invite = |role: &str| page.ask("POST", "/admin/invites", Some(&value!({ "role": role, "valid_s": 600 })));
    let (first, second) = (json(&invite("home")), json(&invite("home")));
    assert!(first["qr"].as_str().unwrap().starts_with("<svg"));
    assert_eq!(page.get("/admin/invites").as_array().unwrap().len(), 2);
    let id = first["id"].as_str().unwrap();
    assert_eq!(page.ask("DELETE", &format!("/admin/invites/{id}"), None).status, 204);
    let mut late = MeshNode::unstarted("late");
    late.launch(&["--join", first["ticket"].as_str().unwrap()]);
    eventually(SOON * 4, "the ticket that was taken back to be refused", || !late.is_running());
    let other = MeshNode::joining("other", second["ticket"].as_str().unwrap());
    eventually(SOON, "a link", || other.links() == 1);
    let overlay = page.get("/admin/overlay");
    assert_eq!(overlay["nodes"][0]["id"], other.status()["node"], "{overlay}");
    assert!(overlay["nodes"][0]["link"]["rtt_ms"].is_number() && overlay["nodes"][0]["link"]["path"] == "direct");
    eventually(SOON, "both nodes to be near the place", || {
        page.get("/admin/overlay/place?address=bob%40mesh.test")["closest"].as_array().unwrap().len() == 2
    });
    assert_eq!(code(&page.ask("GET", "/admin/overlay/place?address=%40", None)), refused(400, "bad_request"));
    assert!(page.get("/admin/settings").as_array().unwrap().iter().any(|setting| setting["name"] == "domain"));

    let token =
        |scope: &str| json(&page.ask("POST", "/admin/tokens", Some(&value!({ "name": scope, "scopes": [scope] }))));
    let (metrics, read) = (token("metrics"), token("read"));
    let ask = |token: &Value, method: &str, path: &str| {
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
        send(plain(&node), method, path, None, &[("Authorization", &bearer)])
    };
    assert_eq!(code(&ask(&metrics, "GET", "/admin/status")), refused(403, "scope"));
    assert_eq!(ask(&read, "GET", "/admin/status").status, 200);
    assert_eq!(code(&ask(&read, "DELETE", "/admin/users/x")), refused(403, "scope"));
    let id = read["id"].as_str().unwrap();
    assert_eq!(page.ask("DELETE", &format!("/admin/tokens/{id}"), None).status, 204);
    assert_eq!(code(&ask(&read, "GET", "/admin/status")), refused(401, "no_session"));
    let log = page.get("/admin/log?level=info&limit=500");
    assert!(!log.as_array().unwrap().is_empty() && !log.to_string().contains(&password));
}

#[test]
fn a_dashboard_shows_lost_nodes_within_seconds() {
    let node = MeshNode::first("node");
    let mut others = [MeshNode::joining("second", &node.invite()), MeshNode::joining("third", &node.invite())];
    eventually(SOON, "two links", || node.links() == 2);
    let page = Page::administer(&node);
    let mut line = own_events(&page);
    let links = |count: usize| {
        move |event: &Value| event["status"]["links"].as_array().is_some_and(|links| links.len() == count)
    };
    next_event(&mut line, "status", links(2));
    others.iter_mut().for_each(MeshNode::kill9);
    let lost = std::time::Instant::now();
    eventually(SOON * 3, "the dashboard to show it", || {
        let frame = line.next_frame(SOON);
        let event = frame.and_then(|(_, payload)| serde_json::from_slice::<Value>(&payload).ok());
        event.is_some_and(|event| event["type"] == "status" && links(0)(&event))
    });
    assert!(lost.elapsed().as_secs() < 30, "{:?}", lost.elapsed());
}

#[test]
fn administration_is_for_whoever_runs_the_node_and_from_its_own_machine() {
    let mut node = MeshNode::first("node");
    let alice = node.user_add("alice");
    let (person, page) = (Page::log_in(&node, "alice", &alice), Page::administer(&node));
    let described = json(&plain(&node).get("/api/v1/openapi.json"));
    let mut asked = 0;
    for (path, methods) in described["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        if !path.starts_with("/admin/") {
            continue;
        }
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let path = path.replace(['{', '}'], "");
            let body = value!({});
            let body = (method != "GET").then_some(&body);
            assert_eq!(code(&person.ask(&method, &path, body)), refused(403, "not_administrator"), "{method} {path}");
            assert_eq!(
                code(&send(plain(&node), &method, &path, body, &[])),
                refused(401, "no_session"),
                "{method} {path}"
            );
            let far = [("X-Forwarded-For", "198.51.100.7"), ("X-Meshtone-Csrf", page.csrf())];
            assert_eq!(code(&page.ask_with(&method, &path, body, &far)), refused(403, "not_local"), "{method} {path}");
            if method != "GET" {
                assert_eq!(code(&page.ask_with(&method, &path, body, &[])), refused(403, "csrf"), "{method} {path}");
            }
            asked += 1;
        }
    }
    assert!(asked >= 18, "{asked}");
    node.terminate();
    node.run_configured("[page]\nadministration = \"anywhere\"\n");
    let by_proxy = [("X-Forwarded-For", "198.51.100.7")];
    assert_eq!(page.ask_with("GET", "/admin/status", None, &by_proxy).status, 200);
}

#[test]
fn what_is_counted_is_for_this_machine_and_for_tokens_and_the_board_names_nothing_else() {
    let mut node = MeshNode::unstarted("node").with_domain("mesh.test");
    node.run_configured(
        "[[trunk]]\nname = \"office\"\nserver = \"127.0.0.1:9\"\nuser = \"1\"\npassword = \"1\"\nregister = false\n",
    );
    let alice = node.user_add("alice");
    ScriptedPhone::udp(node.sip()).of("alice", &alice).register();
    let site = plain(&node);
    let text = site.get("/metrics").text();
    for line in
        ["meshtone_sip_requests_total{method=\"REGISTER\"} 2", "meshtone_accounts 1", "meshtone_registered_phones 1"]
    {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }
    let far = ("X-Forwarded-For", "198.51.100.7");
    assert_eq!(site.get_with("/metrics", &[far]).status, 401);
    let page = Page::administer(&node);
    let token =
        json(&page.ask("POST", "/admin/tokens", Some(&value!({ "name": "prometheus", "scopes": ["metrics"] }))));
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    assert_eq!(site.get_with("/metrics", &[far, ("Authorization", &bearer)]).status, 200);

    let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in ["etc/grafana/meshtone.json", "etc/prometheus/alerts.yml"] {
        let used = std::fs::read_to_string(root.join(file)).unwrap();
        let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let names: Vec<&str> =
            used.split(|character| !is_name(character)).filter(|name| name.starts_with("meshtone_")).collect();
        assert!(names.len() > 5, "{file} uses metrics");
        for name in names {
            let ends = ["", "_total", "_bucket", "_sum", "_count"];
            let is_told = ends.iter().any(|end| name.strip_suffix(end).is_some_and(|bare| told.contains(&bare)));
            assert!(is_told, "{file} names {name}, which there is not");
        }
    }
    serde_json::from_str::<Value>(&std::fs::read_to_string(root.join("etc/grafana/meshtone.json")).unwrap()).unwrap();
}

#[test]
fn what_belongs_to_a_person_is_at_every_home_node_of_hers() {
    let mut mesh = Mesh::start(2);
    let (alice, bob) = (mesh.node(1).user_add("alice"), mesh.node(1).user_add("bob"));
    eventually(SOON, "the accounts at the other node", || mesh.node(2).must(&["user", "list"]).contains("bob"));
    let pages = [1, 2].map(|number| Page::log_in(mesh.node(number), "alice", &alice));
    let names = |page: &Page| {
        let all = page.get("/me/contacts");
        all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let contact = value!({ "name": "Carol", "address": "carol@example.net", "favourite": true });
    assert_eq!(pages[0].ask("PUT", "/me/contacts/c-1", Some(&contact)).status, 200);
    eventually(SOON, "the contact at the other node", || names(&pages[1]) == ["Carol"]);
    let contact = value!({ "name": "Carola", "address": "carol@example.net", "favourite": false });
    assert_eq!(pages[1].ask("PUT", "/me/contacts/c-1", Some(&contact)).status, 200);
    eventually(SOON, "its new name here", || names(&pages[0]) == ["Carola"]);

    // Whom she does not want to hear, said at the one node, is minded at the other.
    let (mut phone, mut caller) = (
        ScriptedPhone::udp(mesh.node(1).sip()).of("alice", &alice),
        ScriptedPhone::udp(mesh.node(1).sip()).of("bob", &bob),
    );
    phone.register();
    caller.register();
    let quiet = |is_quiet: bool, blocked: &[&str]| {
        let settings = value!({ "do_not_disturb": is_quiet, "blocked": blocked });
        assert_eq!(pages[1].ask("PUT", "/me/settings", Some(&settings)).status, 200);
        eventually(SOON, "the wish at the other node", || pages[0].get("/me/settings") == settings);
    };
    let mut call = |expected: u16| {
        let called = caller.invite("sip:alice@mesh.test");
        if expected == 487 {
            let invite = phone.incoming("INVITE");
            phone.reply(&invite, 180, "Ringing", "");
            caller.wait_status(&called, 180);
            caller.cancel(&called);
            phone.incoming("CANCEL");
            phone.reply(&invite, 487, "Request Terminated", "");
        }
        assert_eq!(caller.final_answer(&called).status(), expected);
    };
    quiet(true, &[]);
    call(486);
    quiet(false, &["bob@mesh.test"]);
    call(603);
    quiet(false, &[]);
    call(487);
    let calls = |page: &Page| {
        let all = page.get("/me/calls");
        let word = |call: &Value| (call["outcome"].as_str().unwrap().to_owned(), call["seen"] == true);
        all.as_array().unwrap().iter().map(word).collect::<Vec<_>>()
    };
    let told = [("missed", false), ("blocked", true), ("not_disturbed", false)]
        .map(|(outcome, seen)| (outcome.to_owned(), seen));
    for page in &pages {
        eventually(SOON, "her calls", || calls(page) == told);
    }
    assert_eq!(pages[1].ask("POST", "/me/calls/seen", None).status, 204);
    eventually(SOON, "what she has seen there", || calls(&pages[0]).iter().all(|(_, seen)| *seen));

    // A node that was away comes to know.
    mesh.node_mut(2).terminate();
    assert_eq!(pages[0].ask("DELETE", "/me/contacts/c-1", None).status, 204);
    assert_eq!(pages[0].ask("DELETE", "/me/calls", None).status, 204);
    mesh.node_mut(2).run(&[]);
    eventually(SOON, "what has changed meanwhile", || names(&pages[1]).is_empty() && calls(&pages[1]).is_empty());
    assert!(names(&pages[0]).is_empty() && calls(&pages[0]).is_empty(), "nothing comes back");
}
