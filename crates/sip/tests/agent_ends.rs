//! How calls of our own agent end: why (RFC 3326), and how soon when a server says nothing at all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_support;

use agent_support::*;
use meshtone_sip::agent::{Acceptance, AgentEvent, Reliability};
use meshtone_sip::message::{Builder, Header};
use meshtone_sip::server::Event;
use meshtone_sip::transport::Destination;

const REASON: &str = "Q.850;cause=16;text=\"Normal call clearing\"";

#[test]
fn a_bye_gives_the_reason_it_was_told() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (call, _) = talking(&mut net, &bob, order(&bob), &[]);
    act(&mut net, |server, now| server.hang_up_because(now, call, REASON));
    let bye = net.one(&bob);
    assert_eq!((bye.method_name(), bye.header(Header::Reason)), ("BYE", Some(REASON)));
}

#[test]
fn a_cancel_gives_the_reason_it_was_told_also_when_it_had_to_wait_for_a_first_response() {
    for rings_before in [true, false] {
        let mut net = Net::new(1);
        let bob = net.udp(0, BOB);
        let call = act(&mut net, |server, now| server.place_call(now, order(&bob)));
        let invite = net.one(&bob);
        if rings_before {
            net.answer(&bob, &invite, 180, "bob-tag", &[]);
        }
        act(&mut net, |server, now| server.hang_up_because(now, call, REASON));
        if !rings_before {
            net.answer(&bob, &invite, 100, "", &[]);
        }
        let cancel = net.one(&bob);
        assert_eq!((cancel.method_name(), cancel.header(Header::Reason)), ("CANCEL", Some(REASON)), "{rings_before}");
    }
}

#[test]
fn the_reason_of_the_other_sides_bye_is_told_before_the_end() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (call, invite) = talking(&mut net, &bob, order(&bob), &[]);
    let mut side = bob_of(&bob, &invite);
    side.extra.push(format!("Reason: {REASON}"));
    net.send(&bob, &side.next("BYE"));
    assert!(matches!(told(&mut net), AgentEvent::EndReason { dialog, reason } if dialog == call && reason == REASON));
    assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog }) if dialog == call));
}

#[test]
fn the_reason_of_a_cancel_is_told_before_the_end() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    let answer = Acceptance::new(CONTACT);
    let dialog = act(&mut net, |server, now| server.ring(now, id, 180, &answer, Reliability::Off));
    caller.extra.push(format!("Reason: {REASON}"));
    net.send(&alice, &caller.text("CANCEL"));
    assert!(matches!(told(&mut net), AgentEvent::EndReason { dialog: of, reason } if of == dialog && reason == REASON));
    assert!(matches!(net.event(0), Some(Event::Cancelled { .. })));
    assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog: of }) if of == dialog));
}

#[test]
fn what_began_over_a_link_is_ended_over_it_and_by_nobody_behind_it() {
    let mut net = Net::new(2);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.destination = Destination::Peer(net.nodes[1].peer.clone());
    let call = act(&mut net, |server, now| server.place_call(now, order));
    let (id, invite, _) = net.request(1);
    let response = Builder::response(&invite, 200, "")
        .to_tag("bob-tag")
        .header(Header::Contact, &format!("<sip:bob@{}>", bob.address()))
        .body("application/sdp", ANSWER)
        .finish();
    let now = net.now;
    net.nodes[1].server.respond(now, id, response);
    net.run();
    assert!(matches!(told(&mut net), AgentEvent::Answered { dialog, .. } if dialog == call));
    let bye = bob_of(&bob, &invite).next("BYE");
    net.send(&bob, &bye);
    assert_eq!(net.heard(&bob), "481");
    assert!(net.event(0).is_none());
}

#[test]
fn a_server_that_says_nothing_is_given_up_early_and_one_that_tries_may_ring() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let impatient = |net: &mut Net| {
        let mut order = order(&bob);
        order.answer_within = Some(seconds(4));
        act(net, |server, now| server.place_call(now, order))
    };
    let call = impatient(&mut net);
    net.received(&bob);
    net.advance(seconds(4));
    assert!(matches!(told(&mut net), AgentEvent::Failed { dialog, status: 408, .. } if dialog == call));
    net.received(&bob);

    impatient(&mut net);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 100, "", &[]);
    net.advance(seconds(100));
    assert!(net.event(0).is_none());
    answer_with(&mut net, &bob, &invite, 200, "bob-tag", &[], ANSWER);
    assert!(matches!(told(&mut net), AgentEvent::Answered { .. }));
}
