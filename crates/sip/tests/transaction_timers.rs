//! Each timer of RFC 3261 table 4 and RFC 6026, seen from outside: what is sent when, over UDP and over TCP.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server_support;

use std::time::Duration;

use meshtone_sip::server::Event;
use meshtone_sip::transaction::TimerReason;
use server_support::*;

const ALICE: &str = "10.0.1.1:5060";
const BOB: &str = "10.0.1.2:5060";

/// Alice has sent a request, and it was forwarded to Bob.
fn forwarded(net: &mut Net, alice: &Phone, bob: &Phone, method: &str) -> Caller {
    let caller = Caller::new(alice);
    net.send(alice, &caller.text(method));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![bob.target("bob")], false);
    net.received(alice);
    caller
}

/// When copies arrive at a phone, in milliseconds from now, for so many seconds.
fn arrivals(net: &mut Net, phone: &Phone, during: u64) -> Vec<u128> {
    let start = net.now;
    let mut times = Vec::new();
    while net.now < start + seconds(during) {
        net.advance(millis(50));
        times.extend(net.received(phone).iter().map(|_| (net.now - start).as_millis()));
    }
    times
}

/// How long after now a timer fires first.
fn fires_after(net: &mut Net, reason: TimerReason, within: u64) -> Option<Duration> {
    let start = net.now;
    net.fired.clear();
    while net.now < start + seconds(within) {
        net.advance(millis(50));
        if net.fired.contains(&reason) {
            return Some(net.now - start);
        }
    }
    None
}

#[test]
fn timer_a_repeats_an_invite_with_doubling_pauses_until_timer_b_ends_it() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    forwarded(&mut net, &alice, &bob, "INVITE");
    assert_eq!(net.heard(&bob), "INVITE");
    assert_eq!(arrivals(&mut net, &bob, 31), [500, 1500, 3500, 7500, 15500]);
    assert_eq!(net.heard(&alice), "");
    net.advance(seconds(1));
    assert_eq!(net.heard(&bob), "INVITE", "the last one after 31.5 s");
    assert_eq!(net.heard(&alice), "408", "64*T1 after the INVITE");
}

#[test]
fn a_provisional_response_stops_timers_a_and_b() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    forwarded(&mut net, &alice, &bob, "INVITE");
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 100, "", &[]);
    net.advance(seconds(60));
    assert_eq!((net.heard(&bob), net.heard(&alice)), (String::new(), String::new()), "and 100 is not forwarded");
}

#[test]
fn over_a_connection_an_invite_is_sent_once_and_timer_b_still_ends_it() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(0, BOB));
    forwarded(&mut net, &alice, &bob, "INVITE");
    net.advance(millis(31_999));
    assert_eq!((net.heard(&bob), net.heard(&alice)), ("INVITE".into(), String::new()));
    net.advance(millis(1));
    assert_eq!(net.heard(&alice), "408");
}

#[test]
fn timer_d_keeps_acknowledging_a_failure_for_32_seconds() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.tcp(0, ALICE), net.udp(0, BOB));
    forwarded(&mut net, &alice, &bob, "INVITE");
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 404, "b", &[]);
    net.advance(millis(31_900));
    net.answer(&bob, &invite, 404, "b", &[]);
    assert_eq!(net.heard(&bob), "ACK ACK");
    net.advance(millis(100));
    net.answer(&bob, &invite, 404, "b", &[]);
    assert_eq!(net.heard(&bob), "", "then the response is a stray");
}

#[test]
fn the_ack_of_a_failure_is_made_like_its_invite() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.tcp(0, ALICE), net.tcp(0, BOB));
    forwarded(&mut net, &alice, &bob, "INVITE");
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 404, "b-tag", &[]);
    let ack = net.one(&bob);
    assert_eq!(ack.request_uri(), invite.request_uri());
    assert_eq!(ack.top_via().unwrap().branch(), invite.top_via().unwrap().branch());
    assert_eq!(ack.to().unwrap().tag(), Some("b-tag"));
    assert_eq!((ack.cseq().unwrap().number, ack.cseq().unwrap().method), (1, "ACK"));
    assert_eq!(ack.call_id(), invite.call_id());
}

#[test]
fn timer_e_repeats_other_requests_at_most_t2_apart_until_timer_f_ends_them() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    forwarded(&mut net, &alice, &bob, "MESSAGE");
    assert_eq!(net.heard(&bob), "MESSAGE");
    let times = arrivals(&mut net, &bob, 31);
    assert_eq!(times, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500]);
    assert_eq!(net.heard(&alice), "100", "one, and only when Alice's own Timer E has grown to T2 (RFC 4320 §4.1)");
    net.advance(seconds(5));
    assert_eq!(net.heard(&alice), "", "nobody is told 408, for Alice has given up too (RFC 4320 §4.2)");
    assert_eq!(net.nodes[0].server.transaction_count(), 0);
}

#[test]
fn after_a_provisional_response_timer_e_goes_on_t2_apart() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    forwarded(&mut net, &alice, &bob, "MESSAGE");
    let message = net.one(&bob);
    net.answer(&bob, &message, 100, "", &[]);
    assert_eq!(arrivals(&mut net, &bob, 13), [500, 4500, 8500, 12500]);
}

#[test]
fn timer_g_repeats_a_failure_until_timer_h_gives_up() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(0, BOB));
    forwarded(&mut net, &alice, &bob, "INVITE");
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 486, "b", &[]);
    assert_eq!(net.heard(&alice), "486");
    let times = arrivals(&mut net, &alice, 40);
    assert_eq!(times, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    assert_eq!(net.nodes[0].server.transaction_count(), 0);
}

#[test]
fn a_refusal_without_any_provisional_response_is_sent_once_for_each_invite() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    net.reject(0, id, 407);
    net.advance(seconds(10));
    assert_eq!(net.heard(&alice), "407", "a forged source gets no more than was sent in its name");
    net.send(&alice, &caller.text("INVITE"));
    let challenge = net.one(&alice);
    assert_eq!(challenge.status(), 407);
    net.send(&alice, &caller.ack_failure(&challenge));
    net.send(&alice, &caller.text("INVITE"));
    assert_eq!(net.heard(&alice), "", "after the ACK further copies are absorbed");
    assert!(net.event(0).is_none());
}

#[test]
fn timer_i_absorbs_further_acks_for_t4() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    net.reject(0, id, 404);
    let refusal = net.one(&alice);
    net.send(&alice, &caller.ack_failure(&refusal));
    assert_eq!(fires_after(&mut net, TimerReason::TimerI, 32), Some(seconds(5)));
    assert_eq!(net.nodes[0].server.transaction_count(), 0);
}

#[test]
fn timer_j_answers_repeated_requests_for_64_t1() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let text = Caller::new(&alice).text("OPTIONS");
    net.send(&alice, &text);
    let (id, ..) = net.request(0);
    net.send(&alice, &text);
    assert_eq!(net.heard(&alice), "", "nothing to repeat yet");
    net.reject(0, id, 200);
    net.advance(millis(31_900));
    net.send(&alice, &text);
    assert_eq!(net.heard(&alice), "200 200");
    net.advance(millis(100));
    net.send(&alice, &text);
    net.request(0);
}

#[test]
fn over_a_connection_nothing_lingers() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.tcp(0, ALICE), net.tcp(0, BOB));
    forwarded(&mut net, &alice, &bob, "MESSAGE");
    let message = net.one(&bob);
    net.answer(&bob, &message, 200, "b", &[]);
    assert_eq!(net.heard(&alice), "200");
    assert_eq!(net.nodes[0].server.transaction_count(), 0, "timers J and K are zero");

    let caller = forwarded(&mut net, &alice, &bob, "INVITE");
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 486, "b", &[]);
    let busy = net.one(&alice);
    net.send(&alice, &caller.ack_failure(&busy));
    assert_eq!(net.nodes[0].server.transaction_count(), 0, "timers D and I are zero");
}

#[test]
fn timer_k_absorbs_repeated_responses_for_t4() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.tcp(0, ALICE), net.udp(0, BOB));
    forwarded(&mut net, &alice, &bob, "MESSAGE");
    let message = net.one(&bob);
    net.answer(&bob, &message, 200, "b", &[]);
    net.answer(&bob, &message, 200, "b", &[]);
    assert_eq!(net.heard(&alice), "200");
    assert_eq!(fires_after(&mut net, TimerReason::TimerK, 32), Some(seconds(5)));
}

#[test]
fn timers_l_and_m_let_further_200s_pass_for_64_t1_and_absorb_the_invite() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(0, BOB));
    let caller = forwarded(&mut net, &alice, &bob, "INVITE");
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 200, "b", &[]);
    net.advance(millis(31_900));
    net.send(&alice, &caller.text("INVITE"));
    net.answer(&bob, &invite, 200, "b", &[]);
    assert_eq!(net.heard(&alice), "200 200", "the repeated INVITE gets no answer of its own");
    assert!(matches!(net.event(0), Some(Event::Finished { .. })));
    assert!(net.event(0).is_none());
    net.fired.clear();
    net.advance(millis(100));
    // Both end at this instant; the one that was set first is named, and none is left.
    assert!(net.fired.iter().any(|reason| matches!(reason, TimerReason::TimerL | TimerReason::TimerM)));
    assert_eq!(net.nodes[0].server.transaction_count(), 0);
}

#[test]
fn an_invite_without_an_answer_gets_100_after_200_ms() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    net.send(&alice, &Caller::new(&alice).text("INVITE"));
    net.advance(millis(199));
    assert_eq!(net.heard(&alice), "");
    net.advance(millis(1));
    assert_eq!(net.heard(&alice), "100");
    net.advance(seconds(5));
    assert_eq!(net.heard(&alice), "");
    let over_tcp = net.tcp(0, BOB);
    let mut caller = Caller::new(&over_tcp);
    caller.tag = "other".into();
    net.send(&over_tcp, &caller.text("INVITE"));
    assert_eq!(net.heard(&over_tcp), "100", "at once where the source cannot be forged");
}

#[test]
fn clients_of_rfc_2543_are_matched_by_their_fields() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let caller = Caller::new(&alice);
    let old = |text: String| {
        let branch = text.split("branch=").nth(1).and_then(|rest| rest.lines().next()).unwrap().to_owned();
        text.replace(&format!(";branch={branch}"), "")
    };
    net.send(&alice, &old(caller.text("INVITE")));
    let (id, ..) = net.request(0);
    net.send(&alice, &old(caller.text("INVITE")));
    assert!(net.event(0).is_none(), "a repetition");
    net.send(&alice, &old(caller.text("CANCEL")));
    assert_eq!(net.heard(&alice), "200 487");
    assert!(matches!(net.event(0), Some(Event::Cancelled { id: cancelled }) if cancelled == id));
    net.send(&alice, &old(caller.text("ACK")));
    net.advance(seconds(3));
    assert_eq!(net.heard(&alice), "", "its ACK was understood");
    // The next request of the same call is another transaction.
    let mut next = caller.clone();
    net.send(&alice, &old(next.next("INVITE")));
    net.request(0);
}
