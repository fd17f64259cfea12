//! Calls that our own agent places (RFC 3261 §13.2, §9.1, §14.1, §15).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_support;

use agent_support::*;
use meshtone_sip::agent::{AgentError, AgentEvent, Body, OutgoingRequest};
use meshtone_sip::message::{Builder, Header};
use meshtone_sip::server::Event;
use meshtone_sip::transport::Destination;

#[test]
fn a_call_is_answered_and_acknowledged_and_the_ack_repeats_with_the_200() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let call = act(&mut net, |server, now| server.place_call(now, order(&bob)));
    let invite = net.one(&bob);
    assert_eq!((invite.method_name(), invite.body()), ("INVITE", OFFER));
    assert!(invite.top_via().unwrap().rport().is_some());
    net.answer(&bob, &invite, 100, "", &[]);
    net.answer(&bob, &invite, 180, "bob-tag", &[]);
    assert!(matches!(told(&mut net), AgentEvent::Progress { dialog, status: 180, .. } if dialog == call));
    answer_with(&mut net, &bob, &invite, 200, "bob-tag", &[], ANSWER);
    let ack = net.one(&bob);
    assert_eq!((ack.method_name(), ack.request_uri()), ("ACK", "sip:bob@10.0.2.2:5060"));
    assert_eq!((ack.cseq().unwrap().number, ack.to().unwrap().tag()), (1, Some("bob-tag")));
    assert_ne!(ack.top_via().unwrap().branch(), invite.top_via().unwrap().branch());
    assert!(matches!(told(&mut net), AgentEvent::Answered { wants_answer: false, .. }));
    answer_with(&mut net, &bob, &invite, 200, "bob-tag", &[], ANSWER);
    assert_eq!(net.one(&bob).bytes(), ack.bytes());
    assert!(net.event(0).is_none());

    act(&mut net, |server, now| server.hang_up(now, call));
    let bye = net.one(&bob);
    assert_eq!((bye.method_name(), bye.cseq().unwrap().number), ("BYE", 2));
    net.answer(&bob, &bye, 200, "", &[]);
    assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog }) if dialog == call));
    net.advance(seconds(64));
    let node = &net.nodes[0].server;
    assert_eq!((node.agent_load(), node.transaction_count()), (0, 0));
}

#[test]
fn an_invite_that_is_lost_is_repeated_and_silence_ends_with_408() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let call = act(&mut net, |server, now| server.place_call(now, order(&bob)));
    net.advance(seconds(33));
    assert!(net.received(&bob).len() > 5);
    assert!(matches!(told(&mut net), AgentEvent::Failed { dialog, status: 408, response: None } if dialog == call));
    assert_eq!(net.nodes[0].server.agent_load(), 0);
}

#[test]
fn a_refusal_is_told_and_acknowledged() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    act(&mut net, |server, now| server.place_call(now, order(&bob)));
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "bob-tag", &[]);
    told(&mut net);
    net.answer(&bob, &invite, 486, "bob-tag", &[]);
    assert_eq!(net.heard(&bob), "ACK");
    assert!(matches!(told(&mut net), AgentEvent::Failed { status: 486, response: Some(_), .. }));
    assert!(net.event(0).is_none());
    net.advance(seconds(64));
    assert_eq!(net.nodes[0].server.agent_load(), 0);
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let call = act(&mut net, |server, now| server.place_call(now, order(&bob)));
    let invite = net.one(&bob);
    act(&mut net, |server, now| server.hang_up(now, call));
    assert_eq!(net.heard(&bob), "");
    net.answer(&bob, &invite, 180, "bob-tag", &[]);
    let cancel = net.one(&bob);
    assert_eq!(cancel.method_name(), "CANCEL");
    assert_eq!(cancel.top_via().unwrap().branch(), invite.top_via().unwrap().branch());
    net.answer(&bob, &cancel, 200, "", &[]);
    net.answer(&bob, &invite, 487, "bob-tag", &[]);
    assert_eq!(net.heard(&bob), "ACK");
    assert!(matches!(told(&mut net), AgentEvent::Failed { status: 487, .. }));
}

#[test]
fn a_200_that_crosses_the_cancel_gets_ack_and_bye() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let call = act(&mut net, |server, now| server.place_call(now, order(&bob)));
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "bob-tag", &[]);
    told(&mut net);
    act(&mut net, |server, now| server.hang_up(now, call));
    answer_with(&mut net, &bob, &invite, 200, "bob-tag", &[], ANSWER);
    assert_eq!(net.heard(&bob), "CANCEL ACK BYE");
    assert!(matches!(told(&mut net), AgentEvent::Failed { status: 487, .. }));
    assert!(net.event(0).is_none());
}

#[test]
fn a_call_that_rings_too_long_is_cancelled() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.ring_for = seconds(20);
    act(&mut net, |server, now| server.place_call(now, order));
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "bob-tag", &[]);
    told(&mut net);
    net.advance(seconds(21));
    assert!(net.heard(&bob).starts_with("CANCEL"));
    net.advance(seconds(33));
    assert!(matches!(told(&mut net), AgentEvent::Failed { status: 408, .. }));
    assert_eq!(net.nodes[0].server.agent_load(), 0);
}

#[test]
fn of_several_branches_that_answer_the_first_is_kept_and_the_others_get_bye() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let call = act(&mut net, |server, now| server.place_call(now, order(&bob)));
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "desk", &[]);
    net.answer(&bob, &invite, 180, "kitchen", &[]);
    let AgentEvent::Progress { dialog: desk, .. } = told(&mut net) else { panic!() };
    let AgentEvent::Progress { dialog: kitchen, call: of, .. } = told(&mut net) else { panic!() };
    assert_eq!((desk, of), (call, call));
    assert_ne!(kitchen, call);
    answer_with(&mut net, &bob, &invite, 200, "kitchen", &[], ANSWER);
    assert_eq!(net.heard(&bob), "ACK");
    assert!(matches!(told(&mut net), AgentEvent::Answered { dialog, .. } if dialog == kitchen));
    answer_with(&mut net, &bob, &invite, 200, "desk", &[], ANSWER);
    let late = net.received(&bob);
    assert_eq!(names(&late), "ACK BYE");
    assert!(late.iter().all(|request| request.to().unwrap().tag() == Some("desk")));
    act(&mut net, |server, now| server.hang_up(now, kitchen));
    assert_eq!(net.one(&bob).to().unwrap().tag(), Some("kitchen"));
}

#[test]
fn all_branches_that_answer_are_kept_when_wanted() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.keep_forks = true;
    act(&mut net, |server, now| server.place_call(now, order));
    let invite = net.one(&bob);
    for tag in ["desk", "kitchen"] {
        answer_with(&mut net, &bob, &invite, 200, tag, &[], ANSWER);
        assert_eq!(net.heard(&bob), "ACK");
        assert!(matches!(told(&mut net), AgentEvent::Answered { .. }));
    }
}

#[test]
fn an_offer_in_the_200_is_answered_in_the_ack() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let mut order = order(&bob);
    order.body = None;
    let call = act(&mut net, |server, now| server.place_call(now, order));
    let invite = net.one(&bob);
    answer_with(&mut net, &bob, &invite, 200, "bob-tag", &[], OFFER);
    assert_eq!(net.heard(&bob), "");
    assert!(matches!(told(&mut net), AgentEvent::Answered { wants_answer: true, .. }));
    let answer = Body::sdp(ANSWER);
    act(&mut net, |server, now| server.acknowledge(now, call, Some(&answer))).unwrap();
    let ack = net.one(&bob);
    assert_eq!((ack.method_name(), ack.body()), ("ACK", ANSWER));
    assert_eq!(act(&mut net, |server, now| server.acknowledge(now, call, Some(&answer))), Err(AgentError::NotNow));
}

#[test]
fn route_sets_and_targets_lead_the_requests_of_a_call() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let routes = [(Header::RecordRoute, "<sip:near.example;lr>"), (Header::RecordRoute, "<sip:far.example;lr>")];
    let call = act(&mut net, |server, now| server.place_call(now, order(&bob)));
    let invite = net.one(&bob);
    // Bob writes them in the order of the request: the nearest to him on top.
    let routes = [routes[1], routes[0]];
    answer_with(&mut net, &bob, &invite, 200, "bob-tag", &routes, ANSWER);
    let ack = net.one(&bob);
    let hops: Vec<&str> = ack.values(Header::Route).collect();
    assert_eq!(hops, ["<sip:near.example;lr>", "<sip:far.example;lr>"]);
    told(&mut net);
    act(&mut net, |server, now| server.hang_up(now, call));
    assert_eq!(net.one(&bob).values(Header::Route).count(), 2);
}

#[test]
fn bye_of_the_callee_ends_the_call_and_guessed_tags_or_places_do_not() {
    let mut net = Net::new(1);
    let (bob, eve) = (net.udp(0, BOB), net.udp(0, "10.0.6.6:5060"));
    let (call, invite) = talking(&mut net, &bob, order(&bob), &[]);
    let mut guess = bob_of(&bob, &invite);
    guess.tag = "guess".into();
    net.send(&bob, &guess.next("BYE"));
    assert_eq!(net.heard(&bob), "481");
    // The right tags, but from somewhere else (threat 16).
    let mut forged = bob_of(&eve, &invite);
    forged.cseq = 200;
    net.send(&eve, &forged.next("BYE"));
    assert_eq!(net.heard(&eve), "");
    refuse_moved(&mut net);
    assert_eq!(net.heard(&eve), "481");
    assert!(net.event(0).is_none());
    let mut real = bob_of(&bob, &invite);
    net.send(&bob, &real.next("BYE"));
    assert_eq!(net.heard(&bob), "200");
    assert!(matches!(net.event(0), Some(Event::DialogEnded { dialog }) if dialog == call));
}

#[test]
fn a_reinvite_changes_the_call_and_waits_after_glare() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (call, invite) = talking(&mut net, &bob, order(&bob), &[]);
    let offer = Some(Body::sdp(OFFER));
    act(&mut net, |server, now| server.reinvite(now, call, offer.clone())).unwrap();
    assert_eq!(act(&mut net, |server, now| server.reinvite(now, call, offer.clone())), Err(AgentError::NotNow));
    let reinvite = net.one(&bob);
    // Bob had the same idea.
    let mut bob_side = bob_of(&bob, &invite);
    net.send_message(&bob, with(&bob_side.next("INVITE"), "", OFFER));
    assert_eq!(net.heard(&bob), "491");
    net.answer(&bob, &reinvite, 491, "", &[]);
    assert_eq!(net.heard(&bob), "ACK");
    net.advance(millis(2099));
    assert_eq!(net.heard(&bob), "", "who placed the call waits 2.1 to 4 s");
    net.advance(millis(1902));
    let again = net.received(&bob).remove(0);
    assert_eq!((again.method_name(), again.body()), ("INVITE", OFFER));
    answer_with(&mut net, &bob, &again, 200, "", &[], ANSWER);
    assert_eq!(net.heard(&bob), "ACK");
    assert!(matches!(told(&mut net), AgentEvent::Changed { dialog, wants_answer: false, .. } if dialog == call));
    answer_with(&mut net, &bob, &again, 200, "", &[], ANSWER);
    assert_eq!(net.heard(&bob), "ACK");
}

#[test]
fn a_refused_change_leaves_the_call_and_an_unknown_one_ends_it() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let (call, _) = talking(&mut net, &bob, order(&bob), &[]);
    for status in [488, 481] {
        act(&mut net, |server, now| server.update(now, call, Some(Body::sdp(OFFER)))).unwrap();
        let update = net.one(&bob);
        assert_eq!(update.method_name(), "UPDATE");
        net.answer(&bob, &update, status, "", &[]);
        assert!(matches!(told(&mut net), AgentEvent::ChangeFailed { status: told, .. } if told == status));
    }
    assert_eq!(net.heard(&bob), "BYE");
    assert!(matches!(net.event(0), Some(Event::DialogEnded { .. })));
}

#[test]
fn who_we_are_changes_only_for_those_who_follow() {
    for (supported, heard) in [("timer", "<sip:service@example.org>"), ("timer, from-change", "Carol <sip:carol@b>")] {
        let mut net = Net::new(1);
        let bob = net.udp(0, BOB);
        let (call, _) =
            talking(&mut net, &bob, order(&bob), &[(Header::Supported, supported), (Header::Allow, "UPDATE")]);
        let changed = act(&mut net, |server, _| server.identify(call, "Carol <sip:carol@b>"));
        assert_eq!(changed.is_ok(), supported.contains("from-change"));
        act(&mut net, |server, now| server.update(now, call, None)).unwrap();
        let update = net.one(&bob);
        assert!(update.header(Header::From).unwrap().starts_with(&format!("{heard};tag=")), "{heard}");
    }
}

#[test]
fn requests_in_and_out_of_dialogs_bring_their_responses_or_silence() {
    let mut net = Net::new(1);
    let bob = net.udp(0, BOB);
    let destination = Destination::Flow(bob.flow.clone());
    let mut message = OutgoingRequest::new(
        "MESSAGE",
        "sip:bob@example.net",
        destination,
        "<sip:s@example.org>",
        "<sip:bob@example.net>",
    );
    message.body = Some(Body::new("text/plain", b"hello"));
    act(&mut net, |server, now| server.send_request(now, message));
    assert_eq!(net.one(&bob).body(), b"hello");
    net.advance(seconds(33));
    assert!(matches!(told(&mut net), AgentEvent::Response { status: 408, response: None, .. }));
    net.received(&bob);

    let (call, _) = talking(&mut net, &bob, order(&bob), &[]);
    let method = meshtone_sip::message::Method::Info;
    let id = act(&mut net, |server, now| server.send_in_dialog(now, call, method, &[], None)).unwrap();
    let info = net.one(&bob);
    let ok = Builder::response(&info, 200, "").finish();
    net.send_message(&bob, ok);
    assert!(matches!(told(&mut net), AgentEvent::Response { id: of, status: 200, .. } if of == id));
}
