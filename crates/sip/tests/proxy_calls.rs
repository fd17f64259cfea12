//! Calls through one node: forwarding, forking, cancelling, and the best of several answers (RFC 3261 §16).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server_support;

use meshtone_sip::message::{Header, Message};
use meshtone_sip::proxy::Routing;
use meshtone_sip::server::Event;
use meshtone_sip::transaction::TimerReason;
use server_support::*;

const ALICE: &str = "10.0.1.1:5060";
const BOB: &str = "10.0.1.2:5060";
const BOB_TOO: &str = "10.0.1.3:5060";

/// Alice calls, and the node forks to these phones.
fn ringing(net: &mut Net, alice: &Phone, bobs: &[&Phone]) -> (Caller, Vec<Message>) {
    let caller = Caller::new(alice);
    net.send(alice, &caller.text("INVITE"));
    let (id, _, routing) = net.request(alice.node);
    assert!(matches!(routing, Routing::Initial));
    net.forward(alice.node, id, bobs.iter().map(|bob| bob.target("bob")).collect(), false);
    assert_eq!(net.heard(alice), "100");
    let invites: Vec<Message> = bobs.iter().map(|bob| net.one(bob)).collect();
    for (bob, invite) in bobs.iter().zip(&invites) {
        net.answer(bob, invite, 180, &format!("tag-{}", bob.address()), &[]);
    }
    assert_eq!(net.heard(alice), vec!["180"; bobs.len()].join(" "));
    (caller, invites)
}

#[test]
fn two_phones_call_acknowledge_and_hang_up_through_the_node() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(0, BOB));
    let (mut caller, invites) = ringing(&mut net, &alice, &[&bob]);

    let invite = &invites[0];
    assert_eq!(invite.request_uri(), "sip:bob@10.0.1.2:5060");
    assert_eq!(invite.max_forwards().unwrap(), Some(69));
    assert_eq!(invite.values(Header::Via).count(), 2);
    assert_eq!(invite.top_via().unwrap().transport, "TCP");
    let routes: Vec<&str> = invite.values(Header::RecordRoute).collect();
    assert_eq!(routes.len(), 2);
    assert!(routes[0].contains("transport=tcp;lr"), "the callee's side is on top: {routes:?}");
    assert!(routes[1].contains("transport=udp;lr"), "the caller's side is below: {routes:?}");

    net.answer(&bob, invite, 200, "b-tag", &[]);
    let ok = net.one(&alice);
    assert_eq!((ok.status(), ok.values(Header::Via).count()), (200, 1));
    assert!(matches!(net.event(0), Some(Event::Finished { status: 200, .. })));

    caller.learn(&ok);
    net.send(&alice, &caller.text("ACK"));
    let ack = net.one(&bob);
    assert_eq!((ack.method_name(), ack.request_uri()), ("ACK", "sip:10.0.1.2:5060"));
    assert_eq!((ack.values(Header::Route).count(), ack.values(Header::RecordRoute).count()), (0, 0));
    assert!(net.event(0).is_none(), "the node need not care about an ACK");

    let mut callee = Caller::callee(&bob, invite, "b-tag");
    net.send(&bob, &callee.next("BYE"));
    net.forward_in_dialog(0);
    let bye = net.one(&alice);
    assert_eq!((bye.method_name(), bye.request_uri()), ("BYE", "sip:alice@10.0.1.1:5060"));
    net.answer(&alice, &bye, 200, "", &[]);
    assert_eq!(net.heard(&bob), "200");

    net.advance(seconds(64));
    assert_eq!(net.nodes[0].server.transaction_count(), 0, "nothing stays behind");
    assert_eq!(net.nodes[0].server.poll_timeout(), None);
}

#[test]
fn every_retransmission_over_lossy_udp_is_absorbed_or_answered() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let caller = Caller::new(&alice);
    // The first two copies towards Bob are lost.
    let mut losses = 2;
    net.lose = Box::new(move |transmit| {
        let lost = transmit.message.is_request() && losses > 0;
        losses -= usize::from(lost);
        lost
    });
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![bob.target("bob")], false);
    net.send(&alice, &caller.text("INVITE"));
    assert_eq!(net.heard(&alice), "100 100", "a repeated INVITE gets the last provisional response again");
    assert!(net.event(0).is_none(), "the node sees it once");
    assert_eq!(net.heard(&bob), "");
    net.advance(millis(1500));
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 486, "b-tag", &[]);
    net.answer(&bob, &invite, 486, "b-tag", &[]);
    assert_eq!(net.heard(&bob), "ACK ACK", "each copy of a failure is acknowledged by the node itself");
    let busy = net.one(&alice);
    assert_eq!(busy.status(), 486);
    net.advance(millis(1500));
    assert_eq!(net.heard(&alice), "486 486", "Timer G repeats the failure");
    net.send(&alice, &caller.ack_failure(&busy));
    net.advance(seconds(10));
    assert_eq!(net.heard(&alice), "", "until the ACK is there");
    assert_eq!(net.heard(&bob), "", "that ACK is not forwarded");
}

#[test]
fn the_first_phone_to_answer_wins_and_the_other_stops_ringing() {
    let mut net = Net::new(1);
    let (alice, bob, other) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, BOB_TOO));
    let (_, invites) = ringing(&mut net, &alice, &[&bob, &other]);
    net.answer(&bob, &invites[0], 200, "b-tag", &[]);
    assert_eq!(net.heard(&alice), "200");
    let cancel = net.one(&other);
    assert_eq!(cancel.method_name(), "CANCEL");
    assert_eq!(cancel.request_uri(), invites[1].request_uri());
    assert_eq!(cancel.top_via().unwrap().branch(), invites[1].top_via().unwrap().branch());
    assert_eq!(cancel.values(Header::Via).count(), 1);
    net.answer(&other, &cancel, 200, "", &[]);
    net.answer(&other, &invites[1], 487, "c-tag", &[]);
    assert_eq!(net.heard(&other), "ACK");
    assert_eq!(net.heard(&alice), "", "the 487 of a loser goes no further");
}

#[test]
fn both_200_of_a_race_reach_the_caller() {
    let mut net = Net::new(1);
    let (alice, bob, other) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, BOB_TOO));
    let (_, invites) = ringing(&mut net, &alice, &[&bob, &other]);
    net.answer(&bob, &invites[0], 200, "b-tag", &[]);
    net.answer(&other, &invites[1], 200, "c-tag", &[]);
    assert_eq!(net.heard(&alice), "200 200");
    net.advance(seconds(5));
    net.answer(&bob, &invites[0], 200, "b-tag", &[]);
    assert_eq!(net.heard(&alice), "200", "a phone that heard no ACK repeats its 200 end to end");
    net.advance(seconds(30));
    net.received(&alice);
    net.answer(&bob, &invites[0], 200, "b-tag", &[]);
    assert_eq!(net.heard(&alice), "", "a stray response is dropped once the transaction is forgotten");
}

#[test]
fn cancel_stops_the_ringing_and_ends_with_487() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (caller, invites) = ringing(&mut net, &alice, &[&bob]);
    net.send(&alice, &caller.text("CANCEL"));
    assert_eq!(net.heard(&alice), "200");
    let cancel = net.one(&bob);
    net.answer(&bob, &cancel, 200, "", &[]);
    net.answer(&bob, &invites[0], 487, "b-tag", &[]);
    assert_eq!(net.heard(&alice), "487");
    assert!(matches!(net.event(0), Some(Event::Finished { status: 487, .. })));
}

#[test]
fn a_silent_phone_is_cancelled_only_after_it_has_spoken() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![bob.target("bob")], false);
    let invite = net.one(&bob);
    net.send(&alice, &caller.text("CANCEL"));
    assert_eq!(net.heard(&bob), "", "no CANCEL before a provisional response");
    net.answer(&bob, &invite, 180, "b-tag", &[]);
    assert_eq!(net.heard(&bob), "CANCEL");
}

#[test]
fn cancel_before_the_targets_are_known_ends_with_487_at_once() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![], true);
    net.send(&alice, &caller.text("CANCEL"));
    assert_eq!(net.heard(&alice), "100 200 487");
    assert!(matches!(net.event(0), Some(Event::Cancelled { id: cancelled }) if cancelled == id));
    net.forward(0, id, vec![bob.target("bob")], false);
    assert_eq!(net.heard(&bob), "", "targets that come too late are not called");
}

#[test]
fn a_cancel_that_matches_nothing_gets_481() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    net.send(&alice, &Caller::new(&alice).text("CANCEL"));
    assert_eq!(net.heard(&alice), "481");
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (caller, invites) = ringing(&mut net, &alice, &[&bob]);
    net.answer(&bob, &invites[0], 200, "b-tag", &[]);
    net.received(&alice);
    net.send(&alice, &caller.text("CANCEL"));
    assert_eq!(net.heard(&alice), "200");
    assert_eq!(net.heard(&bob), "");
}

#[test]
fn two_busy_phones_are_one_busy_answer() {
    let mut net = Net::new(1);
    let (alice, bob, other) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, BOB_TOO));
    let (_, invites) = ringing(&mut net, &alice, &[&bob, &other]);
    net.answer(&bob, &invites[0], 486, "b-tag", &[]);
    assert_eq!(net.heard(&alice), "", "the other may still answer");
    net.answer(&other, &invites[1], 486, "c-tag", &[]);
    assert_eq!(net.heard(&alice), "486");
}

#[test]
fn challenges_of_all_phones_reach_the_caller_together() {
    let mut net = Net::new(1);
    let (alice, bob, other) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, BOB_TOO));
    let (_, invites) = ringing(&mut net, &alice, &[&bob, &other]);
    net.answer(&bob, &invites[0], 401, "b", &[(Header::WwwAuthenticate, "Digest realm=\"b\", nonce=\"1\"")]);
    net.answer(&other, &invites[1], 407, "c", &[(Header::ProxyAuthenticate, "Digest realm=\"c\", nonce=\"2\"")]);
    let challenge = net.one(&alice);
    assert_eq!(challenge.header(Header::WwwAuthenticate), Some("Digest realm=\"b\", nonce=\"1\""));
    assert_eq!(challenge.header(Header::ProxyAuthenticate), Some("Digest realm=\"c\", nonce=\"2\""));
}

#[test]
fn a_refusal_by_everybody_cancels_the_rest() {
    let mut net = Net::new(1);
    let (alice, bob, other) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, BOB_TOO));
    let (_, invites) = ringing(&mut net, &alice, &[&bob, &other]);
    net.answer(&bob, &invites[0], 603, "b-tag", &[]);
    assert_eq!(net.heard(&alice), "", "a 6xx waits for the others, who may have answered");
    let cancel = net.one(&other);
    assert_eq!(cancel.method_name(), "CANCEL");
    net.answer(&other, &invites[1], 487, "c-tag", &[]);
    assert_eq!(net.heard(&alice), "603");
}

#[test]
fn a_503_of_a_phone_is_not_the_503_of_the_node() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (_, invites) = ringing(&mut net, &alice, &[&bob]);
    net.answer(&bob, &invites[0], 503, "b-tag", &[]);
    assert_eq!(net.heard(&alice), "500");
}

#[test]
fn a_silent_target_ends_with_408_and_the_node_is_asked_for_more() {
    let mut net = Net::new(1);
    let (alice, bob, other) = (net.udp(0, ALICE), net.tcp(0, BOB), net.udp(0, BOB_TOO));
    net.send(&alice, &Caller::new(&alice).text("INVITE"));
    let (id, ..) = net.request(0);
    let mut silent = bob.target("bob");
    silent.answer_within = Some(seconds(2));
    net.forward(0, id, vec![silent.clone()], true);
    net.advance(millis(1999));
    assert!(net.event(0).is_none());
    net.advance(millis(1));
    assert!(matches!(net.event(0), Some(Event::TargetsExhausted { status: 408, .. })));
    assert!(net.fired.contains(&TimerReason::AnswerWithin));
    net.forward(0, id, vec![other.target("bob")], true);
    let invite = net.one(&other);
    net.answer(&other, &invite, 180, "c-tag", &[]);

    // The silent one wakes up, and is told to be quiet again.
    let late = net.one(&bob);
    net.answer(&bob, &late, 180, "b-tag", &[]);
    assert_eq!(net.heard(&bob), "CANCEL");
    assert_eq!(net.heard(&alice), "100 180", "its ringing is not passed on");
    net.answer(&other, &invite, 200, "c-tag", &[]);
    assert_eq!(net.heard(&alice), "200");
}

#[test]
fn when_no_further_target_is_left_the_best_failure_goes_upstream() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(0, BOB));
    net.send(&alice, &Caller::new(&alice).text("INVITE"));
    let (id, ..) = net.request(0);
    let mut silent = bob.target("bob");
    silent.answer_within = Some(seconds(2));
    net.forward(0, id, vec![silent], true);
    net.advance(seconds(2));
    net.forward(0, id, vec![], false);
    assert_eq!(net.heard(&alice), "100 408");
}

#[test]
fn the_node_may_put_its_own_words_for_a_failure() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(0, BOB));
    net.send(&alice, &Caller::new(&alice).text("INVITE"));
    let (id, ..) = net.request(0);
    let mut silent = bob.target("bob");
    silent.answer_within = Some(seconds(2));
    net.forward(0, id, vec![silent], true);
    net.advance(seconds(2));
    net.reject(0, id, 480);
    assert_eq!(net.heard(&alice), "100 480");
}

#[test]
fn nobody_to_forward_to_is_480() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    net.send(&alice, &Caller::new(&alice).text("INVITE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![], false);
    assert_eq!(net.heard(&alice), "100 480");
}

#[test]
fn a_phone_that_cannot_be_reached_counts_as_unavailable() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(0, BOB));
    net.send(&alice, &Caller::new(&alice).text("INVITE"));
    let (id, ..) = net.request(0);
    let now = net.now;
    let server = &mut net.nodes[0].server;
    server.forward(now, id, vec![bob.target("bob")], false);
    let mut origin = None;
    while let Some(transmit) = server.poll_transmit() {
        origin = transmit.origin.filter(|_| transmit.message.is_request()).or(origin);
    }
    server.handle_transport_error(now, origin.unwrap());
    net.run();
    assert_eq!(net.heard(&alice), "500");
}

#[test]
fn a_phone_that_rings_for_ever_is_stopped_by_timer_c() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (_, invites) = ringing(&mut net, &alice, &[&bob]);
    net.advance(seconds(100));
    net.answer(&bob, &invites[0], 183, "b-tag", &[]);
    net.received(&alice);
    net.advance(seconds(184));
    assert_eq!(net.heard(&bob), "", "each provisional response starts it anew");
    net.advance(seconds(1));
    assert!(net.heard(&bob).starts_with("CANCEL"));
    net.answer(&bob, &invites[0], 487, "b-tag", &[]);
    assert_eq!(net.heard(&alice), "487");
}

#[test]
fn a_cancelled_phone_that_never_answers_is_given_up() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (caller, _) = ringing(&mut net, &alice, &[&bob]);
    net.send(&alice, &caller.text("CANCEL"));
    net.received(&alice);
    net.advance(millis(31_999));
    assert_eq!(net.heard(&alice), "");
    net.advance(millis(1));
    assert!(net.heard(&alice).starts_with("487"));
}

#[test]
fn unknown_methods_and_headers_pass_byte_for_byte() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let mut caller = Caller::new(&alice);
    caller.extra.push("X-Odd:   \"kept,  as it is\" ;x".into());
    net.send(&alice, &caller.text("FROBNICATE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![bob.target("bob")], false);
    let odd = net.one(&bob);
    assert_eq!(odd.method_name(), "FROBNICATE");
    let text = String::from_utf8(odd.bytes().to_vec()).unwrap();
    assert!(text.contains("\r\nX-Odd:   \"kept,  as it is\" ;x\r\n"), "{text}");
    assert_eq!(odd.values(Header::RecordRoute).count(), 0);
    net.answer(&bob, &odd, 299, "b-tag", &[]);
    assert_eq!(net.heard(&alice), "299");
}

/// Threat 12: no response goes anywhere but along its Vias.
#[test]
fn a_response_that_lost_its_vias_is_never_forwarded() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (_, invites) = ringing(&mut net, &alice, &[&bob]);
    let ok = meshtone_sip::message::Builder::response(&invites[0], 200, "").to_tag("b-tag").finish();
    let top = ok.values(Header::Via).next().unwrap().to_owned();
    net.send_message(&bob, ok.edit().set(Header::Via, &top).finish());
    assert_eq!(net.heard(&alice), "502");
}

/// Threat 12: nobody is answered over us.
#[test]
fn a_response_for_somebody_else_is_dropped() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (_, invites) = ringing(&mut net, &alice, &[&bob]);
    let ok = meshtone_sip::message::Builder::response(&invites[0], 200, "").to_tag("b-tag").finish();
    let branch = ok.top_via().unwrap().branch().unwrap().to_owned();
    let via = format!("SIP/2.0/UDP 192.0.2.66;branch={branch}");
    net.send_message(&bob, ok.edit().replace_first_value(Header::Via, &via).finish());
    let via = "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-guessed";
    net.send_message(&bob, ok.edit().replace_first_value(Header::Via, via).finish());
    assert_eq!(net.heard(&alice), "");
}
