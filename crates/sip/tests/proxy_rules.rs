//! What a proxy must and must not do beside forwarding: requests other than INVITE (RFC 4320), hop limits, session timers
//! (RFC 4028), methods it does not know, staying in the path only where needed, and load.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server_support;

use meshtone_sip::message::{Header, Message};
use meshtone_sip::proxy::SessionTimers;
use meshtone_sip::server::Event;
use server_support::*;

const ALICE: &str = "10.0.1.1:5060";
const BOB: &str = "10.0.1.2:5060";

/// Alice sends a request outside any dialog, and it is forwarded to Bob.
fn forwarded(net: &mut Net, alice: &Phone, bob: &Phone, method: &str, extra: &[&str]) -> Message {
    let id = asked(net, alice, method, extra);
    net.forward(0, id, vec![bob.target("bob")], false);
    net.one(bob)
}

#[test]
fn over_a_connection_another_request_than_invite_gets_its_100_no_sooner_either() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.tcp(0, ALICE), net.udp(0, BOB));
    forwarded(&mut net, &alice, &bob, "MESSAGE", &[]);
    net.advance(millis(3499));
    assert_eq!(net.heard(&alice), "");
    net.advance(millis(1));
    assert_eq!(net.heard(&alice), "100");
}

#[test]
fn a_408_or_180_to_another_request_than_invite_goes_no_further() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let message = forwarded(&mut net, &alice, &bob, "MESSAGE", &[]);
    net.answer(&bob, &message, 180, "b", &[]);
    assert_eq!(net.heard(&alice), "");
    net.answer(&bob, &message, 408, "b", &[]);
    assert_eq!(net.heard(&alice), "480", "408 would be lost on Alice; that Bob is not there is not");
    assert!(matches!(net.event(0), Some(Event::Finished { status: 480, .. })));
}

#[test]
fn a_response_that_comes_when_the_client_has_given_up_is_not_forwarded() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let mut caller = Caller::new(&alice);
    net.send(&alice, &caller.text("MESSAGE"));
    let id = net.request(0).0;
    net.advance(seconds(10));
    net.forward(0, id, vec![bob.target("bob")], false);
    let message = net.one(&bob);
    net.advance(millis(22_001));
    net.received(&alice);
    net.answer(&bob, &message, 200, "b", &[]);
    assert_eq!(net.heard(&alice), "");
    caller.cseq += 1;
    net.send(&alice, &caller.text("MESSAGE"));
    assert!(net.nodes[0].server.transaction_count() > 0);
}

#[test]
fn nothing_but_invite_can_be_cancelled() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let caller = Caller::new(&alice);
    net.send(&alice, &caller.text("MESSAGE").replace("z9hG4bKMESSAGE", "z9hG4bKINVITE"));
    let id = net.request(0).0;
    net.forward(0, id, vec![bob.target("bob")], false);
    let message = net.one(&bob);
    net.send(&alice, &caller.text("CANCEL"));
    assert_eq!((net.heard(&alice), net.heard(&bob)), ("481".into(), "".into()));
    net.answer(&bob, &message, 200, "b", &[]);
    assert_eq!(net.heard(&alice), "200");
}

#[test]
fn options_whose_hops_end_here_are_answered_here_and_all_else_with_483() {
    for (method, status) in [("OPTIONS", "200"), ("MESSAGE", "483")] {
        let mut net = Net::new(1);
        let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
        net.send(&alice, &Caller::new(&alice).text(method).replace("Max-Forwards: 70", "Max-Forwards: 0"));
        let id = net.request(0).0;
        net.forward(0, id, vec![bob.target("bob")], false);
        assert_eq!((net.heard(&alice), net.heard(&bob)), (status.into(), "".into()));
    }
}

#[test]
fn every_method_passes_outside_a_dialog_with_its_body_and_headers() {
    for method in ["REFER", "SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "MESSAGE", "OPTIONS", "UPDATE", "PRACK", "WINK"] {
        let mut net = Net::new(1);
        let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
        let extra =
            ["Event: presence;id=7", "Refer-To: <sip:carol@example.org?Replaces=1%3Bto-tag%3D2>", "RAck: 1 1 INVITE"];
        let copy = forwarded(&mut net, &alice, &bob, method, &extra);
        assert_eq!(copy.method_name(), method);
        let text = String::from_utf8(copy.bytes().to_vec()).unwrap();
        for line in extra {
            assert!(text.contains(line), "{method}: {text}");
        }
        let stays = matches!(method, "REFER" | "SUBSCRIBE" | "NOTIFY");
        assert_eq!(copy.values(Header::RecordRoute).count(), if stays { 2 } else { 0 }, "{method}");
        net.answer(&bob, &copy, 202, "b", &[]);
        assert_eq!(net.heard(&alice), "202", "{method}");
    }
}

#[test]
fn every_method_passes_within_a_dialog_both_ways_and_adds_no_further_route() {
    for method in ["INVITE", "PRACK", "UPDATE", "REFER", "SUBSCRIBE", "INFO", "MESSAGE", "PUBLISH", "WINK", "BYE"] {
        let mut net = Net::new(1);
        let (alice, bob) = (net.udp(0, ALICE), net.tcp(0, BOB));
        let (mut caller, mut callee) = established(&mut net, &alice, &bob);
        for (from, to, side) in [(&alice, &bob, &mut caller), (&bob, &alice, &mut callee)] {
            net.send(from, &side.next(method));
            net.forward_in_dialog(0);
            let copy = net.one(to);
            assert_eq!(copy.method_name(), method);
            assert_eq!((copy.values(Header::Route).count(), copy.values(Header::RecordRoute).count()), (0, 0));
            net.answer(to, &copy, 200, "", &[]);
            assert!(net.heard(from).ends_with("200"), "{method}");
            if method == "INVITE" {
                net.send(from, &side.text("ACK"));
                assert_eq!(net.heard(to), "ACK");
            }
        }
    }
}

#[test]
fn a_reliable_provisional_response_passes_with_all_that_prack_needs() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let invite = forwarded(&mut net, &alice, &bob, "INVITE", &["Supported: 100rel"]);
    net.answer(&bob, &invite, 183, "b", &[(Header::Require, "100rel"), (Header::RSeq, "813520")]);
    let progress = net.received(&alice).pop().unwrap();
    assert_eq!((progress.header(Header::Require), progress.header(Header::RSeq)), (Some("100rel"), Some("813520")));
    let mut caller = Caller::new(&alice);
    caller.learn(&progress);
    caller.extra.push("RAck: 813520 1 INVITE".into());
    net.send(&alice, &caller.next("PRACK"));
    net.forward_in_dialog(0);
    let prack = net.one(&bob);
    assert_eq!(prack.header(Header::RAck), Some("813520 1 INVITE"));
    net.answer(&bob, &prack, 200, "", &[]);
    assert_eq!(net.heard(&alice), "200");
}

#[test]
fn a_session_timer_too_short_is_refused_and_one_that_only_the_caller_knows_is_completed() {
    let ask = |config: &mut meshtone_sip::server::ServerConfig| {
        config.forwarding.session_timers = SessionTimers { min_s: 120, insert_s: Some(1800) };
    };
    let mut net = Net::with(1, ask);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let mut caller = Caller::new(&alice);
    caller.extra.extend(["Supported: timer".into(), "Session-Expires: 90".into()]);
    net.send(&alice, &caller.text("INVITE"));
    let id = net.request(0).0;
    net.forward(0, id, vec![bob.target("bob")], false);
    let refusal = net.one(&alice);
    assert_eq!((refusal.status(), refusal.header(Header::MinSe)), (422, Some("120")));
    assert_eq!(net.heard(&bob), "");

    let mut net = Net::with(1, ask);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let invite = forwarded(&mut net, &alice, &bob, "INVITE", &["Supported: timer"]);
    assert_eq!(invite.header(Header::SessionExpires), Some("1800"));
    net.answer(&bob, &invite, 200, "b", &[]);
    let ok = net.received(&alice).pop().unwrap();
    assert_eq!(ok.header(Header::SessionExpires), Some("1800;refresher=uac"));
    assert_eq!(ok.header(Header::Require), Some("timer"));
}

/// Threat 9: established calls first.
#[test]
fn a_node_with_too_much_to_do_sends_new_requests_away_but_carries_what_is_established() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (mut caller, _) = established(&mut net, &alice, &bob);
    let shed = |net: &mut Net, phone: &Phone, text: String| {
        let message = Message::parse(text.replace('\n', "\r\n").into()).unwrap();
        let now = net.now;
        net.nodes[0].server.shed(now, phone.flow.clone(), message, 7);
        net.run();
    };
    let transactions = net.nodes[0].server.transaction_count();
    let mut other = Caller::new(&alice);
    other.call_id = "another".into();
    shed(&mut net, &alice, other.text("INVITE"));
    let refusal = net.one(&alice);
    assert_eq!((refusal.status(), refusal.header(Header::RetryAfter)), (503, Some("7")));
    assert_eq!(net.nodes[0].server.transaction_count(), transactions, "no state is spent on it");
    for method in ["MESSAGE", "SUBSCRIBE", "REGISTER", "OPTIONS"] {
        shed(&mut net, &alice, other.text(method));
        assert_eq!(net.heard(&alice), "503", "{method}");
    }
    while net.event(0).is_some() {}
    for method in ["INFO", "UPDATE", "BYE"] {
        shed(&mut net, &alice, caller.next(method));
        net.forward_in_dialog(0);
        let request = net.one(&bob);
        net.answer(&bob, &request, 200, "", &[]);
        assert_eq!(net.heard(&alice), "200", "{method}");
    }
}

/// Threat 9: established calls first.
#[test]
fn a_node_with_too_much_to_do_goes_on_with_the_calls_that_ring() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let id = net.request(0).0;
    net.forward(0, id, vec![bob.target("bob")], false);
    let invite = net.one(&bob);
    let shed = |net: &mut Net, phone: &Phone, message: Message| {
        let now = net.now;
        net.nodes[0].server.shed(now, phone.flow.clone(), message, 7);
        net.run();
    };
    let parse = |text: String| Message::parse(text.replace('\n', "\r\n").into()).unwrap();
    net.received(&alice);
    shed(&mut net, &alice, parse(caller.text("INVITE")));
    assert_eq!(net.heard(&alice), "100", "a retransmission is no new call");
    let ringing = meshtone_sip::message::Builder::response(&invite, 180, "").to_tag("b").finish();
    shed(&mut net, &bob, ringing);
    assert_eq!(net.heard(&alice), "180");
    shed(&mut net, &alice, parse(caller.text("CANCEL")));
    assert_eq!((net.heard(&alice), net.heard(&bob)), ("200".into(), "CANCEL".into()));
}
