//! Credentials that somebody saw and uses again (threat 3): at once, elsewhere, later, for something else. They open nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;

use meshtone_tests::scripted::digest::Credentials;
use meshtone_tests::scripted::{Request, Sip, unique};
use meshtone_tests::{Mesh, MeshNode, SOON, ScriptedPhone};

const BOB: &str = "sip:bob@mesh.test";

/// A REGISTER of bob's phone as it went over the wire, with credentials that answer `challenge`.
fn captured(phone: &mut ScriptedPhone) -> Request {
    let request = Request::new("REGISTER", "sip:mesh.test", BOB, BOB)
        .with("Contact", &format!("<{}>", phone.contact()))
        .with("Expires", "600");
    let challenge = phone.ask_once(&request);
    assert_eq!(challenge.status(), 401);
    phone.authorize(&request, &challenge)
}

/// The bytes that register bob's phone, which they have done.
#[track_caller]
fn registered(bob: &mut ScriptedPhone, request: &Request) -> Vec<u8> {
    let bytes = request.to_bytes(&format!("SIP/2.0/UDP {};branch=z9hG4bK{};rport", bob.local(), unique()));
    bob.send_bytes(&bytes);
    assert_eq!(bob.next(SOON).map(|answer| answer.status()), Some(200));
    bytes
}

/// The same credentials with a contact of the thief's.
fn stolen(captured: &Request, thief: &ScriptedPhone) -> Request {
    let mut request = captured.clone();
    for (name, value) in &mut request.headers {
        if name == "Contact" {
            *value = format!("<sip:bob@{}>", thief.local());
        }
    }
    request.call_id = format!("stolen{}", unique());
    request
}

#[track_caller]
fn assert_stale(answer: &Sip) {
    assert_eq!(answer.status(), 401, "{answer}");
    assert!(answer.header("WWW-Authenticate").unwrap().contains("stale=true"), "{answer}");
}

#[track_caller]
fn assert_bound_to(node: &MeshNode, contacts: &[String]) {
    assert_eq!(node.contacts("bob@mesh.test"), contacts, "at {}", node.name());
}

#[test]
fn what_was_captured_at_one_home_node_is_stale_at_another_before_and_after_its_use() {
    let mesh = Mesh::start(2);
    let password = mesh.user("bob");
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &password);
    let mut thief = ScriptedPhone::tcp(mesh.sip(2));
    let captured = captured(&mut bob);

    assert_stale(&thief.ask_once(&stolen(&captured, &thief)));
    assert_eq!(bob.ask_once(&captured).status(), 200, "what happens elsewhere spoils nothing here");
    assert_stale(&thief.ask_once(&stolen(&captured, &thief)));
    assert_bound_to(mesh.node(1), &[bob.contact()]);
    assert_bound_to(mesh.node(2), &[]);
    // A phone that moves there answers the new challenge by itself.
    let mut moved = ScriptedPhone::udp(mesh.sip(2)).of("bob", &password);
    let stale = moved.ask_once(&captured);
    let mut again = captured.clone();
    again.headers.retain(|(name, _)| name != "Authorization");
    again = moved.authorize(&again, &stale);
    assert_eq!(moved.ask_once(&again).status(), 200);
}

#[test]
fn what_was_captured_before_a_restart_is_stale_after_it() {
    let mut mesh = Mesh::start(1);
    let password = mesh.user("bob");
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &password);
    let (used, unused) = (captured(&mut bob), captured(&mut bob));
    assert_eq!(bob.ask_once(&used).status(), 200);
    assert_eq!(mesh.node_mut(1).terminate(), Some(0));
    mesh.node_mut(1).restart();
    let mut thief = ScriptedPhone::udp(mesh.sip(1));
    for request in [used, unused] {
        assert_stale(&thief.ask_once(&stolen(&request, &thief)));
    }
    assert_bound_to(mesh.node(1), &[bob.contact()]);
}

#[test]
fn the_very_same_bytes_from_another_address_are_no_second_registration() {
    let mesh = Mesh::start(1);
    let password = mesh.user("bob");
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &password);
    let request = captured(&mut bob);
    let bytes = registered(&mut bob, &request);
    assert_eq!(bob.try_register(0).status(), 200);

    // The transaction still stands: what looks like its request again is answered to where the first came from.
    let mut thief = ScriptedPhone::udp(mesh.sip(1));
    thief.send_bytes(&bytes);
    let own = thief.ask_once(&Request::new("OPTIONS", "sip:mesh.test", BOB, "sip:mesh.test"));
    assert_eq!(own.status(), 200, "the node has dealt with the bytes by now");
    let learnt = thief.next(std::time::Duration::ZERO);
    assert!(learnt.as_ref().is_none_or(|answer| answer.status() == 401), "{learnt:?}");
    assert_bound_to(mesh.node(1), &[]);
    // In a transaction of their own, their nonce was used.
    assert_stale(&thief.ask_once(&stolen(&request, &thief)));
    assert_stale(&bob.ask_once(&request));
    assert_bound_to(mesh.node(1), &[]);
}

#[test]
fn a_phone_whose_answer_was_lost_hears_it_again_and_no_second_challenge() {
    let mesh = Mesh::start(1);
    let password = mesh.user("bob");
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &password);
    let request = captured(&mut bob);
    let bytes = registered(&mut bob, &request);
    bob.send_bytes(&bytes);
    // The same answer again is not shown again: nothing else may come.
    bob.ask_once(&Request::new("OPTIONS", "sip:mesh.test", BOB, "sip:mesh.test"));
    assert_eq!(bob.next(std::time::Duration::ZERO), None);
    assert_bound_to(mesh.node(1), &[bob.contact()]);
}

#[test]
fn credentials_fit_no_other_method_and_no_second_request_uri() {
    let mesh = Mesh::start(1);
    let (password, _) = (mesh.user("bob"), mesh.user("alice"));
    let mut bob = ScriptedPhone::udp(mesh.sip(1)).of("bob", &password);
    let (used, unused) = (captured(&mut bob), captured(&mut bob));
    assert_eq!(bob.ask_once(&used).status(), 200);
    let mut thief = ScriptedPhone::udp(mesh.sip(1));
    for registered in [&used, &unused] {
        let credentials = registered.headers.iter().find(|(name, _)| name == "Authorization").unwrap().1.clone();
        for method in ["INVITE", "MESSAGE", "SUBSCRIBE"] {
            let request = Request::new(method, "sip:alice@mesh.test", BOB, "sip:alice@mesh.test")
                .with("Contact", &format!("<{}>", thief.contact()))
                .with("Proxy-Authorization", &credentials);
            let answer = thief.ask_once(&request);
            assert_eq!(answer.status(), 407, "{method}:\n{answer}");
            assert!(!answer.to_string().contains("stale=true"), "they are wrong, not old:\n{answer}");
        }
    }
    let mut elsewhere = stolen(&used, &thief);
    elsewhere.uri = "sip:mesh.test;transport=udp".to_owned();
    assert_stale(&thief.ask_once(&elsewhere));
    assert_bound_to(mesh.node(1), &[bob.contact()]);
}

#[test]
fn the_nonce_count_may_leap_but_never_return() {
    let mesh = Mesh::start(1);
    let password = mesh.user("bob");
    let mut bob = ScriptedPhone::udp(mesh.sip(1));
    let request = Request::new("REGISTER", "sip:mesh.test", BOB, BOB).with("Contact", &format!("<{}>", bob.contact()));
    let asked = bob.ask_once(&request);
    let challenge = asked.header("WWW-Authenticate").unwrap();
    let nonce = meshtone_tests::scripted::digest::quoted(challenge, "nonce").unwrap();
    let credentials = Credentials { user: "bob".to_owned(), password };
    let mut cseq = 1;
    let mut with_count = |count: u32| {
        let mut uses = HashMap::from([(nonce.clone(), count - 1)]);
        let value = credentials.answer(challenge, "REGISTER", &request.uri, &mut uses);
        assert!(value.contains(&format!("nc={count:08x}")), "{value}");
        cseq += 1;
        let request = Request { cseq, ..request.clone() };
        bob.ask_once(&request.with("Authorization", &value))
    };
    assert_eq!(with_count(1).status(), 200);
    assert_eq!(with_count(7).status(), 200, "requests in between may have been lost, or gone to another");
    for used in [7, 6, 2, 1] {
        assert_stale(&with_count(used));
    }
    assert_eq!(with_count(8).status(), 200);
    assert_eq!(with_count(u32::MAX).status(), 200);
    assert_stale(&with_count(u32::MAX));
}
