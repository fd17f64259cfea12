//! The interface of a node's page: who is let in, what he may do, and what he is told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::http::{Answer, Site};
use meshtone_tests::page::{Page, code, json, log_in_at, post, send};
use meshtone_tests::{MeshNode, SOON, ScriptedPhone, Transport, eventually};
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
    assert!(!text.contains("was built without its page"), "`make test-web` builds it");
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
