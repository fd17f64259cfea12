//! Provisional responses of either side, acknowledged by PRACK (RFC 3262), and UPDATE before the answer (RFC 3311).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_support;

use agent_support::*;
use meshtone_sip::agent::{Acceptance, AgentError, AgentEvent, Body, DialogId, Reliability};
use meshtone_sip::message::{Builder, Header, Message};
use meshtone_sip::server::{Event, RequestId};

fn ring(net: &mut Net, id: RequestId, sdp: &[u8], wish: Reliability) -> DialogId {
    let mut answer = Acceptance::new(CONTACT);
    answer.body = (!sdp.is_empty()).then(|| Body::sdp(sdp));
    act(net, |server, now| server.ring(now, id, 183, &answer, wish))
}

fn accept(net: &mut Net, id: RequestId, sdp: &[u8]) -> DialogId {
    act(net, |server, now| server.accept_with(now, id, &Acceptance::new(CONTACT).with_sdp(sdp)))
}

fn prack(caller: &mut Caller, response: &Message) -> String {
    let (rseq, cseq) = (response.header(Header::RSeq).unwrap(), response.cseq().unwrap().number);
    caller.next("PRACK").replace("Content-Length", &format!("RAck: {rseq} {cseq} INVITE\nContent-Length"))
}

#[test]
fn a_reliable_183_repeats_until_its_prack_and_holds_the_200_back() {
    let mut net = Net::new(1);
    let (alice, mut caller, id) = alice_calls(&mut net, "Supported: 100rel\n", OFFER);
    let dialog = ring(&mut net, id, ANSWER, Reliability::Supported);
    let progress = net.one(&alice);
    assert_eq!((progress.status(), progress.body()), (183, ANSWER));
    assert_eq!(progress.header(Header::Require), Some("100rel"));
    net.advance(millis(3600));
    assert_eq!(net.heard(&alice), "183 183 183", "after 0.5, 1.5 and 3.5 s");
    accept(&mut net, id, ANSWER);
    assert_eq!(net.heard(&alice), "");
    caller.learn(&progress);
    let text = prack(&mut caller, &progress);
    net.send(&alice, &text);
    let both = net.received(&alice);
    let mut statuses: Vec<(u16, String)> =
        both.iter().map(|one| (one.status(), one.method_name().to_owned())).collect();
    statuses.sort();
    assert_eq!(statuses, [(200, "INVITE".to_owned()), (200, "PRACK".to_owned())]);
    let ok = both.iter().find(|one| one.method_name() == "INVITE").unwrap();
    assert!(ok.body().is_empty(), "the answer was given already");
    assert!(matches!(told(&mut net), AgentEvent::Prack { dialog: of, .. } if of == dialog));
    caller.cseq = 1;
    net.send(&alice, &caller.text("ACK"));
    assert!(matches!(net.event(0), Some(Event::Acknowledged { .. })));
}

#[test]
fn a_prack_that_fits_nothing_gets_481() {
    let mut net = Net::new(1);
    let (alice, mut caller, id) = alice_calls(&mut net, "Require: 100rel\n", OFFER);
    ring(&mut net, id, &[], Reliability::Off);
    let progress = net.one(&alice);
    assert!(progress.header(Header::RSeq).is_some(), "the caller requires it");
    caller.learn(&progress);
    let rseq: u32 = progress.header(Header::RSeq).unwrap().parse().unwrap();
    for rack in [format!("{} 1 INVITE", rseq + 1), format!("{rseq} 2 INVITE"), format!("{rseq} 1 BYE"), "x".into()] {
        let text = caller.next("PRACK").replace("Content-Length", &format!("RAck: {rack}\nContent-Length"));
        net.send(&alice, &text);
        assert_eq!(net.heard(&alice), "481", "{rack}");
    }
    let text = prack(&mut caller, &progress);
    net.send(&alice, &text);
    assert_eq!(net.heard(&alice), "200");
    let text = prack(&mut caller, &progress);
    net.send(&alice, &text);
    assert_eq!(net.heard(&alice), "481", "once is enough");
}

#[test]
fn reliable_responses_follow_one_another_and_number_on() {
    let mut net = Net::new(1);
    let (alice, mut caller, id) = alice_calls(&mut net, "Supported: 100rel\n", OFFER);
    ring(&mut net, id, &[], Reliability::Supported);
    ring(&mut net, id, ANSWER, Reliability::Supported);
    let first = net.one(&alice);
    caller.learn(&first);
    let text = prack(&mut caller, &first);
    net.send(&alice, &text);
    let second = net.received(&alice).into_iter().find(|one| one.status() == 183).unwrap();
    let number = |one: &Message| one.header(Header::RSeq).unwrap().parse::<u32>().unwrap();
    assert_eq!(number(&second), number(&first) + 1);
}

#[test]
fn without_a_prack_the_call_fails() {
    let mut net = Net::new(1);
    let (alice, _, id) = alice_calls(&mut net, "Supported: 100rel\n", OFFER);
    let dialog = ring(&mut net, id, ANSWER, Reliability::Supported);
    net.advance(seconds(33));
    assert!(net.heard(&alice).contains("504"));
    assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog: of }) if of == dialog));
    net.advance(seconds(64));
    assert_eq!(net.nodes[0].server.agent_load(), 0);
}

#[test]
fn who_cannot_prack_is_refused_where_it_is_required() {
    let mut net = Net::new(1);
    let (alice, _, id) = alice_calls(&mut net, "", OFFER);
    ring(&mut net, id, &[], Reliability::Required);
    let refusal = net.one(&alice);
    assert_eq!((refusal.status(), refusal.header(Header::Require)), (421, Some("100rel")));
}

#[test]
fn a_call_that_rings_here_can_be_cancelled_or_ended_by_an_early_bye() {
    for method in ["CANCEL", "BYE"] {
        let mut net = Net::new(1);
        let (alice, mut caller, id) = alice_calls(&mut net, "", OFFER);
        let dialog = ring(&mut net, id, &[], Reliability::Supported);
        let ringing = net.one(&alice);
        assert_eq!(ringing.header(Header::RSeq), None);
        if method == "CANCEL" {
            net.send(&alice, &caller.text("CANCEL"));
        } else {
            caller.learn(&ringing);
            net.send(&alice, &caller.next("BYE"));
        }
        let mut heard: Vec<u16> = net.received(&alice).iter().map(|message| message.status()).collect();
        heard.sort_unstable();
        assert_eq!(heard, [200, 487], "{method}");
        let mut ended = false;
        while let Some(event) = net.event(0) {
            ended |= matches!(event, Event::DialogEnded { dialog: of } if of == dialog);
        }
        assert!(ended, "{method}");
        // An answer that comes too late does nothing.
        accept(&mut net, id, ANSWER);
        assert!(!net.heard(&alice).contains("200"));
    }
}

#[test]
fn an_offer_of_ours_in_a_reliable_response_is_answered_by_prack() {
    let mut net = Net::new(1);
    let (alice, mut caller, id) = alice_calls(&mut net, "Supported: 100rel\n", &[]);
    ring(&mut net, id, OFFER, Reliability::Supported);
    let progress = net.one(&alice);
    assert_eq!(progress.body(), OFFER);
    caller.learn(&progress);
    // An UPDATE that offers while our offer is open (RFC 3311 §5.2).
    net.send_message(&alice, with(&caller.next("UPDATE"), "", OFFER));
    assert_eq!(net.heard(&alice), "491");
    let text = prack(&mut caller, &progress);
    net.send_message(&alice, with(&text, "", ANSWER));
    assert_eq!(net.heard(&alice), "200");
    assert!(matches!(told(&mut net), AgentEvent::Prack { prack, .. } if prack.body() == ANSWER));
    // Now there is an agreement that UPDATE can change before the answer.
    net.send_message(&alice, with(&caller.next("UPDATE"), "", OFFER));
    let Some(Event::Reinvite { id: update, request, .. }) = net.event(0) else { panic!() };
    assert_eq!(request.method_name(), "UPDATE");
    net.send_message(&alice, with(&caller.next("UPDATE"), "", OFFER));
    let busy = net.one(&alice);
    assert_eq!((busy.status(), busy.header(Header::RetryAfter).is_some()), (500, true));
    let ok = Builder::response(&request, 200, "").body("application/sdp", ANSWER).finish();
    act(&mut net, |server, now| server.respond(now, update, ok));
    assert_eq!(net.one(&alice).body(), ANSWER);
}

#[test]
fn our_calls_acknowledge_reliable_responses_in_order_and_once() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.reliable = Reliability::Required;
    act(&mut net, |server, now| server.place_call(now, order));
    let invite = net.one(&bob);
    assert_eq!(invite.header(Header::Require), Some("100rel"));
    let rel = |rseq: &'static str| [(Header::Require, "100rel"), (Header::RSeq, rseq)];
    answer_with(&mut net, &bob, &invite, 183, "bob-tag", &rel("17"), ANSWER);
    let prack = net.one(&bob);
    assert_eq!((prack.method_name(), prack.header(Header::RAck)), ("PRACK", Some("17 1 INVITE")));
    assert_eq!(prack.cseq().unwrap().number, 2);
    net.answer(&bob, &prack, 200, "", &[]);
    answer_with(&mut net, &bob, &invite, 183, "bob-tag", &rel("17"), ANSWER);
    answer_with(&mut net, &bob, &invite, 180, "bob-tag", &rel("19"), &[]);
    assert_eq!(net.heard(&bob), "", "a repetition, and one out of order");
    answer_with(&mut net, &bob, &invite, 180, "bob-tag", &rel("18"), &[]);
    assert_eq!(net.one(&bob).header(Header::RAck), Some("18 1 INVITE"));
    for status in [183, 180] {
        assert!(matches!(told(&mut net), AgentEvent::Progress { status: told, .. } if told == status));
    }
    assert!(net.event(0).is_none());
}

#[test]
fn an_offer_in_a_reliable_response_to_our_call_is_answered_in_the_prack() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.body = None;
    let call = act(&mut net, |server, now| server.place_call(now, order));
    let invite = net.one(&bob);
    let rel = [(Header::Require, "100rel"), (Header::RSeq, "1")];
    answer_with(&mut net, &bob, &invite, 183, "bob-tag", &rel, OFFER);
    assert_eq!(net.heard(&bob), "");
    told(&mut net);
    assert_eq!(
        act(&mut net, |server, now| server.update(now, call, Some(Body::sdp(OFFER)))),
        Err(AgentError::NotNow),
        "no offer while one is open"
    );
    act(&mut net, |server, now| server.acknowledge(now, call, Some(&Body::sdp(ANSWER)))).unwrap();
    let prack = net.one(&bob);
    assert_eq!((prack.method_name(), prack.body()), ("PRACK", ANSWER));
    answer_with(&mut net, &bob, &invite, 200, "bob-tag", &[], &[]);
    assert_eq!(net.heard(&bob), "ACK");
    assert!(matches!(told(&mut net), AgentEvent::Answered { wants_answer: false, .. }));
}
