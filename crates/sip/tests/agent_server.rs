//! Calls that a service of the node takes (RFC 3261 §8.2, §12.2.2, §13.3, §14.2): what the node handles, and what it is spared.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_support;

use agent_support::*;
use meshtone_sip::agent::{Acceptance, AgentError, AgentEvent, Body, OutgoingSubscription, Reliability};
use meshtone_sip::message::{Builder, Header, Message, Method};
use meshtone_sip::server::Event;
use meshtone_sip::transport::Destination;

#[test]
fn a_call_rings_with_the_tag_that_it_is_answered_with() {
    let mut net = Net::new(1);
    let (alice, mut caller, id) = alice_calls(&mut net, "", OFFER);
    let answer = Acceptance::new(CONTACT).with_sdp(ANSWER);
    let ringing = act(&mut net, |server, now| server.ring(now, id, 180, &Acceptance::new(CONTACT), Reliability::Off));
    let dialog = act(&mut net, |server, now| server.accept_with(now, id, &answer));
    assert_eq!(ringing, dialog);
    let both = net.received(&alice);
    assert_eq!(names(&both), "180 200");
    assert_eq!(both[0].to().unwrap().tag(), both[1].to().unwrap().tag());
    assert_eq!(both[1].body(), ANSWER);
    caller.learn(&both[1]);
    net.send(&alice, &caller.text("ACK"));
    act(&mut net, |server, now| server.hang_up(now, dialog));
    assert_eq!(net.heard(&alice), "BYE");
}

#[test]
fn hanging_up_a_call_that_rings_refuses_it() {
    let mut net = Net::new(1);
    let (alice, _, id) = alice_calls(&mut net, "", OFFER);
    let dialog = act(&mut net, |server, now| server.ring(now, id, 180, &Acceptance::new(CONTACT), Reliability::Off));
    act(&mut net, |server, now| server.hang_up(now, dialog));
    assert_eq!(net.heard(&alice), "180 480");
    assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog: of }) if of == dialog));
}

#[test]
fn a_call_is_sent_elsewhere() {
    let mut net = Net::new(1);
    let (alice, _, id) = alice_calls(&mut net, "", OFFER);
    act(&mut net, |server, now| server.redirect(now, id, &["sip:carol@example.org".into()]));
    let moved = net.one(&alice);
    assert_eq!((moved.status(), moved.header(Header::Contact)), (302, Some("<sip:carol@example.org>")));
}

#[test]
fn what_the_node_handles_is_put_to_it() {
    let mut net = Net::new(1);
    let mut answer = Acceptance::new(CONTACT).with_sdp(ANSWER);
    answer.handles = vec![Method::Info, Method::Message];
    let (alice, mut caller, dialog) = taken(&mut net, &answer);
    for method in ["INFO", "MESSAGE"] {
        net.send(&alice, &caller.next(method));
        assert_eq!(net.heard(&alice), "");
        let AgentEvent::Request { id, dialog: of, request } = told(&mut net) else { panic!() };
        assert_eq!((of, request.method_name()), (dialog, method));
        act(&mut net, |server, now| server.reject(now, id, 488, "", &[]));
        assert_eq!(net.heard(&alice), "488");
    }
    net.send(&alice, &caller.next("OPTIONS"));
    let options = net.one(&alice);
    assert!(options.header(Header::Allow).unwrap().contains("MESSAGE"));
    assert!(options.header(Header::Supported).unwrap().contains("timer"));
}

/// Threat 16: a replay does nothing.
#[test]
fn cseq_may_jump_ahead_but_not_back() {
    let mut net = Net::new(1);
    let (alice, mut caller, _) = taken(&mut net, &Acceptance::new(CONTACT).with_sdp(ANSWER));
    for (number, status) in [(1000, 200), (1000, 500), (2, 500), (1001, 200)] {
        caller.cseq = number;
        // A branch of its own: this is no retransmission.
        let text = caller.text("INFO").replace("branch=z9hG4bK", &format!("branch=z9hG4bK{status}"));
        net.send(&alice, &text);
        assert_eq!(net.one(&alice).status(), status, "{number}");
    }
}

#[test]
fn the_right_tags_from_elsewhere_do_nothing_and_a_new_port_is_no_elsewhere() {
    let mut net = Net::new(1);
    let (_, mut caller, dialog) = taken(&mut net, &Acceptance::new(CONTACT).with_sdp(ANSWER));
    let eve = net.udp(0, "10.0.6.6:5060");
    for method in ["BYE", "INVITE", "UPDATE", "REFER", "INFO"] {
        let mut forged = caller.clone();
        forged.phone = eve.clone();
        net.send(&eve, &forged.next(method));
        refuse_moved(&mut net);
        assert!(net.heard(&eve).ends_with("481"), "{method}");
    }
    // Alice's router gave her another port.
    let moved = net.udp(0, "10.0.1.1:40777");
    caller.phone = moved.clone();
    net.send(&moved, &caller.next("UPDATE"));
    assert_eq!(net.heard(&moved), "200");
    act(&mut net, |server, now| server.hang_up(now, dialog));
    let bye = net.one(&moved);
    assert_eq!(bye.request_uri(), "sip:alice@10.0.1.1:40777");
}

#[test]
fn an_unknown_extension_within_a_dialog_is_refused() {
    let mut net = Net::new(1);
    let (alice, mut caller, _) = taken(&mut net, &Acceptance::new(CONTACT).with_sdp(ANSWER));
    let text = caller.next("INVITE").replace("Content-Length", "Require: telepathy\nContent-Length");
    net.send(&alice, &text);
    let refusal = net.one(&alice);
    assert_eq!((refusal.status(), refusal.header(Header::Unsupported)), (420, Some("telepathy")));
}

#[test]
fn an_offer_of_ours_is_answered_in_the_ack_before_another_may_follow() {
    let mut net = Net::new(1);
    let (alice, mut caller, id) = alice_calls(&mut net, "", &[]);
    let answer = Acceptance::new(CONTACT).with_sdp(OFFER);
    let dialog = act(&mut net, |server, now| server.accept_with(now, id, &answer));
    caller.learn(&net.received(&alice).pop().unwrap());
    let update = Some(Body::sdp(OFFER));
    assert_eq!(
        act(&mut net, |server, now| server.update(now, dialog, update.clone())),
        Err(AgentError::NotNow),
        "our offer is not answered yet"
    );
    net.send_message(&alice, with(&caller.text("ACK"), "", ANSWER));
    assert!(matches!(net.event(0), Some(Event::Acknowledged { ack, .. }) if ack.body() == ANSWER));
    act(&mut net, |server, now| server.update(now, dialog, update)).unwrap();
    let sent = net.one(&alice);
    // Both sides update at once: each refuses the other's (RFC 3311 §5.2), and the called side comes back within 2 s.
    net.send_message(&alice, with(&caller.next("UPDATE"), "", OFFER));
    assert_eq!(net.heard(&alice), "491");
    net.answer(&alice, &sent, 491, "", &[]);
    net.advance(seconds(2));
    let again = net.received(&alice).remove(0);
    let ok = Builder::response(&again, 200, "").body("application/sdp", ANSWER).finish();
    net.send_message(&alice, ok);
    assert!(matches!(told(&mut net), AgentEvent::Changed { .. }));
}

#[test]
fn a_refused_reinvite_leaves_room_for_the_next() {
    let mut net = Net::new(1);
    let (alice, mut caller, _) = taken(&mut net, &Acceptance::new(CONTACT).with_sdp(ANSWER));
    for _ in 0..2 {
        net.send_message(&alice, with(&caller.next("INVITE"), "", OFFER));
        let Some(Event::Reinvite { id, .. }) = net.event(0) else { panic!() };
        act(&mut net, |server, now| server.reject(now, id, 488, "", &[]));
        let refusal = net.one(&alice);
        assert_eq!(refusal.status(), 488);
        net.send(&alice, &caller.ack_failure(&refusal));
    }
}

#[test]
fn a_lost_200_and_a_lost_ack_are_made_up_for() {
    let mut net = Net::new(1);
    let (alice, mut caller, id) = alice_calls(&mut net, "", OFFER);
    let mut losses = 2;
    net.lose = Box::new(move |transmit| {
        let lost = transmit.message.status() == 200 && losses > 0;
        losses -= i32::from(lost);
        lost
    });
    let answer = Acceptance::new(CONTACT).with_sdp(ANSWER);
    act(&mut net, |server, now| server.accept_with(now, id, &answer));
    net.advance(seconds(2));
    let ok: Message = net.one(&alice);
    caller.learn(&ok);
    net.advance(seconds(2));
    assert_eq!(net.heard(&alice), "200", "the ACK was lost");
    net.send(&alice, &caller.text("ACK"));
    net.advance(seconds(40));
    assert_eq!(net.heard(&alice), "");
}

#[test]
fn a_refer_outside_of_dialogs_is_reported_on_either_side() {
    // Ours.
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let destination = Destination::Flow(bob.flow.clone());
    let (from, to) = ("<sip:service@example.org>", "<sip:bob@example.net>");
    let mut order = OutgoingSubscription::new("refer", "sip:bob@example.net", destination, from, to, CONTACT);
    order.headers = vec![(Header::ReferTo, "<sip:carol@example.org>".into())];
    act(&mut net, |server, now| server.subscribe(now, order));
    let refer = net.one(&bob);
    assert_eq!((refer.method_name(), refer.header(Header::Expires)), ("REFER", None));
    net.answer(&bob, &refer, 202, "bob-tag", &[]);
    let mut caller = bob_of(&bob, &refer);
    let fields = "Event: refer\nSubscription-State: active;expires=60\n";
    net.send_message(&bob, with(&caller.next("NOTIFY"), fields, b"SIP/2.0 100 Trying\r\n"));
    assert_eq!(net.heard(&bob), "200");
    assert!(matches!(told(&mut net), AgentEvent::ReferProgress { status: 100, .. }));

    // Theirs.
    let alice = net.udp(0, ALICE);
    let caller = Caller::new(&alice);
    net.send_message(&alice, with(&caller.text("REFER"), "Refer-To: <sip:carol@example.org>\n", &[]));
    let (id, ..) = net.request(0);
    act(&mut net, |server, now| server.accept_refer(now, id, CONTACT)).unwrap();
    assert_eq!(net.heard(&alice), "202 NOTIFY");
}

#[test]
fn a_flood_of_answers_to_one_call_is_bounded() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.keep_forks = true;
    act(&mut net, |server, now| server.place_call(now, order));
    let invite = net.one(&bob);
    for number in 0..200 {
        net.answer(&bob, &invite, 200, &format!("tag-{number}"), &[]);
    }
    assert!(net.nodes[0].server.agent_load() < 40, "{}", net.nodes[0].server.agent_load());
}
