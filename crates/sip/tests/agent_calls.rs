//! Calls that end at the node itself, as with the echo service (RFC 3261 §12, §13.3, §14, §15).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server_support;

use meshtone_sip::agent::DialogId;
use meshtone_sip::message::{Builder, Header, Message};
use meshtone_sip::server::{Event, RequestId};
use server_support::*;

const ALICE: &str = "10.0.1.1:40001";
const SDP: (&str, &[u8]) = ("application/sdp", b"v=0\r\n");

fn accept(net: &mut Net, node: usize, id: RequestId) -> DialogId {
    let now = net.now;
    let contact = match node {
        0 => "sip:echo@10.0.0.1:5060",
        _ => "sip:echo@node2.peer.alt;transport=peer",
    };
    let dialog = net.nodes[node].server.accept(now, id, contact, SDP);
    net.run();
    dialog
}

fn hang_up(net: &mut Net, node: usize, dialog: DialogId) {
    let now = net.now;
    net.nodes[node].server.hang_up(now, dialog);
    net.run();
}

/// Alice calls echo at her own node and hears 200, which she has not acknowledged yet.
fn answered(net: &mut Net, alice: &Phone) -> (Caller, DialogId, Message) {
    let mut caller = Caller::new(alice);
    caller.uri = "sip:echo@example.org".into();
    net.send(alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    let dialog = accept(net, 0, id);
    let ok = net.received(alice).pop().unwrap();
    caller.learn(&ok);
    (caller, dialog, ok)
}

fn talking(net: &mut Net, alice: &Phone) -> (Caller, DialogId) {
    let (caller, dialog, _) = answered(net, alice);
    net.send(alice, &caller.text("ACK"));
    assert!(matches!(net.event(0), Some(Event::Acknowledged { dialog: established, .. }) if established == dialog));
    (caller, dialog)
}

#[test]
fn echo_answers_is_acknowledged_and_the_caller_hangs_up() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (mut caller, dialog, ok) = answered(&mut net, &alice);
    assert_eq!((ok.status(), ok.body()), (200, SDP.1));
    assert_eq!(ok.header(Header::Contact), Some("<sip:echo@10.0.0.1:5060>"));
    assert!(ok.header(Header::Allow).unwrap().contains("BYE"));
    assert!(ok.to().unwrap().tag().is_some());
    net.send(&alice, &caller.text("ACK"));
    assert!(matches!(net.event(0), Some(Event::Acknowledged { .. })));
    net.advance(seconds(60));
    assert_eq!(net.heard(&alice), "");

    net.send(&alice, &caller.next("BYE"));
    assert_eq!(net.heard(&alice), "200");
    assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog: ended }) if ended == dialog));
    net.send(&alice, &caller.next("BYE"));
    assert_eq!(net.heard(&alice), "481");
}

#[test]
fn a_200_is_repeated_until_its_ack_over_a_connection_too() {
    let mut net = Net::new(1);
    for alice in [net.udp(0, ALICE), net.tcp(0, ALICE)] {
        let (caller, ..) = answered(&mut net, &alice);
        net.advance(millis(3600));
        assert_eq!(net.heard(&alice), "200 200 200", "after 0.5, 1.5 and 3.5 s");
        net.send(&alice, &caller.text("ACK"));
        net.advance(seconds(40));
        assert_eq!(net.heard(&alice), "");
        while net.event(0).is_some() {}
        let mut caller = caller;
        net.send(&alice, &caller.next("BYE"));
        assert_eq!(net.heard(&alice), "200");
        while net.event(0).is_some() {}
        net.advance(seconds(64));
    }
}

#[test]
fn a_200_that_is_never_acknowledged_ends_the_call_by_bye() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (_, dialog, _) = answered(&mut net, &alice);
    net.advance(millis(31_999));
    assert!(!net.heard(&alice).contains("BYE"));
    net.advance(millis(1));
    assert!(net.heard(&alice).contains("BYE"));
    assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog: ended }) if ended == dialog));
}

#[test]
fn hanging_up_sends_bye_to_the_caller() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (caller, dialog) = talking(&mut net, &alice);
    hang_up(&mut net, 0, dialog);
    let bye = net.one(&alice);
    assert_eq!((bye.method_name(), bye.request_uri()), ("BYE", "sip:alice@10.0.1.1:40001"));
    assert_eq!(bye.from().unwrap().tag(), caller.to_tag.as_deref());
    assert_eq!(bye.to().unwrap().tag(), Some("a-tag"));
    assert_eq!(bye.call_id(), caller.call_id);
    net.answer(&alice, &bye, 200, "", &[]);
    assert!(matches!(net.event(0), Some(Event::DialogEnded { .. })));
    hang_up(&mut net, 0, dialog);
    assert_eq!(net.heard(&alice), "", "once is enough");
}

#[test]
fn bye_waits_for_the_ack() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (caller, dialog, _) = answered(&mut net, &alice);
    hang_up(&mut net, 0, dialog);
    assert_eq!(net.heard(&alice), "");
    net.send(&alice, &caller.text("ACK"));
    assert_eq!(net.heard(&alice), "BYE");
}

#[test]
fn a_call_to_echo_at_another_node_runs_along_the_route_set() {
    let mut net = Net::new(2);
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![net.peer_target("sip:echo@example.net", 1)], false);
    let (id, ..) = net.request(1);
    let dialog = accept(&mut net, 1, id);
    caller.learn(net.received(&alice).last().unwrap());
    net.send(&alice, &caller.text("ACK"));
    assert!(matches!(net.event(1), Some(Event::Acknowledged { .. })));

    net.send(&alice, &caller.next("OPTIONS"));
    net.forward_in_dialog(0);
    assert_eq!(net.heard(&alice), "200");

    hang_up(&mut net, 1, dialog);
    net.forward_in_dialog(0);
    let bye = net.one(&alice);
    assert_eq!((bye.method_name(), bye.values(Header::Route).count()), ("BYE", 0));
    net.answer(&alice, &bye, 200, "", &[]);
    net.advance(seconds(64));
    assert_eq!((net.nodes[0].server.transaction_count(), net.nodes[1].server.transaction_count()), (0, 0));
}

#[test]
fn a_reinvite_is_the_nodes_to_answer_and_its_200_is_repeated_too() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (mut caller, dialog) = talking(&mut net, &alice);
    net.send(&alice, &caller.next("INVITE"));
    let Some(Event::Reinvite { id, dialog: of, request }) = net.event(0) else { panic!("no re-INVITE") };
    assert_eq!(of, dialog);
    let response = Builder::response(&request, 200, "").body(SDP.0, SDP.1).finish();
    let now = net.now;
    net.nodes[0].server.respond(now, id, response);
    net.run();
    let ok = net.one(&alice);
    assert_eq!((ok.status(), ok.header(Header::Contact)), (200, Some("<sip:echo@10.0.0.1:5060>")));
    net.advance(seconds(1));
    assert_eq!(net.heard(&alice), "200");

    // Another one before the ACK must wait (§14.2).
    net.send(&alice, &caller.next("INVITE"));
    let wait = net.one(&alice);
    assert_eq!((wait.status(), wait.header(Header::RetryAfter).is_some()), (500, true));
    caller.cseq -= 1;
    net.send(&alice, &caller.text("ACK"));
    assert!(matches!(net.event(0), Some(Event::Acknowledged { dialog: of, .. }) if of == dialog));
    net.advance(seconds(40));
    assert_eq!(net.heard(&alice), "");
}

#[test]
fn a_reinvite_that_is_cancelled_ends_with_487_and_the_call_goes_on() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (mut caller, _) = talking(&mut net, &alice);
    net.send(&alice, &caller.next("INVITE"));
    net.send(&alice, &caller.text("CANCEL"));
    assert_eq!(net.heard(&alice), "200 487");
    net.send(&alice, &caller.next("OPTIONS"));
    assert_eq!(net.heard(&alice), "200");
}

#[test]
fn bye_during_a_reinvite_ends_both() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (mut caller, _) = talking(&mut net, &alice);
    net.send(&alice, &caller.next("INVITE"));
    net.send(&alice, &caller.next("BYE"));
    let mut heard: Vec<u16> = net.received(&alice).iter().map(|message| message.status()).collect();
    heard.sort_unstable();
    assert_eq!(heard, [200, 487]);
}

#[test]
fn methods_in_a_dialog_are_answered_by_what_they_are() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (mut caller, _) = talking(&mut net, &alice);
    for (method, status) in [("OPTIONS", 200), ("INFO", 200), ("UPDATE", 200), ("MESSAGE", 405), ("FROBNICATE", 501)] {
        net.send(&alice, &caller.next(method));
        let answer = net.one(&alice);
        assert_eq!((answer.status(), answer.header(Header::Allow).is_some()), (status, true), "{method}");
    }
}

#[test]
fn an_old_cseq_in_a_dialog_is_refused() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (mut caller, _) = talking(&mut net, &alice);
    caller.cseq = 10;
    net.send(&alice, &caller.text("INFO"));
    assert_eq!(net.heard(&alice), "200");
    caller.cseq = 9;
    net.send(&alice, &caller.text("BYE"));
    assert_eq!(net.heard(&alice), "500");
}

/// Threat 16.
#[test]
fn guessed_tags_and_forged_sources_of_a_dialog_get_481() {
    let mut net = Net::new(1);
    let (alice, eve) = (net.udp(0, ALICE), net.udp(0, "10.0.6.6:5060"));
    let (caller, _) = talking(&mut net, &alice);
    for change in ["to", "from", "call"] {
        let mut attack = caller.clone();
        attack.phone = eve.clone();
        attack.cseq = 50;
        match change {
            "to" => attack.to_tag = Some("guessed".into()),
            "from" => attack.tag = "guessed".into(),
            _ => attack.call_id = "guessed".into(),
        }
        net.send(&eve, &attack.text("BYE"));
        assert_eq!(net.heard(&eve), "481", "{change}");
    }
    assert!(net.event(0).is_none());
}

#[test]
fn an_invite_that_cannot_be_accepted_is_refused_and_the_dialog_ends() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let cases = [("Require: telepathy\n", "", 420), ("", "Contact: <sip:alice@10.0.1.1:40001>\n", 400)];
    for (number, (add, remove, status)) in cases.into_iter().enumerate() {
        let mut caller = Caller::new(&alice);
        caller.call_id = format!("case-{number}");
        let text = caller.text("INVITE").replace(remove, "").replace("Max-Forwards", &format!("{add}Max-Forwards"));
        net.send(&alice, &text);
        let (id, ..) = net.request(0);
        let dialog = accept(&mut net, 0, id);
        assert_eq!(net.one(&alice).status(), status);
        assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog: ended }) if ended == dialog));
    }
}

#[test]
fn an_invite_that_comes_by_two_ways_is_accepted_once() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let (mut caller, ..) = answered(&mut net, &alice);
    caller.to_tag = None;
    net.send(&alice, &caller.text("INVITE").replace("z9hG4bKINVITE", "z9hG4bKother"));
    let (id, ..) = net.request(0);
    accept(&mut net, 0, id);
    assert_eq!(net.one(&alice).status(), 482);
}
