//! In which order targets are tried: by preference, at their next place, and over which transport
//! (RFC 3261 §16.6, §18.1.1; RFC 3263 §4.3).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server_support;

use std::net::SocketAddr;

use meshtone_sip::message::{Builder, Header, Message};
use meshtone_sip::proxy::{Redirect, Target};
use meshtone_sip::server::{Event, RequestId};
use meshtone_sip::transaction::TimerReason;
use meshtone_sip::transport::{Destination, Transport};
use server_support::*;

const ALICE: &str = "10.0.1.1:5060";
const BOB: &str = "10.0.1.2:5060";
const DESK: &str = "10.0.1.3:5060";
const VOICEMAIL: &str = "10.0.1.4:5060";

fn preferred(phone: &Phone, q: u16) -> Target {
    Target { q, ..phone.target("bob") }
}

fn address_of(address: &str) -> Destination {
    Destination::Address { transport: Transport::Udp, addr: address.parse().unwrap(), listener: 0 }
}

/// Where the requests went that left for addresses, and by which transport, since the last call.
fn sent_elsewhere(net: &mut Net) -> Vec<(SocketAddr, Transport, Message)> {
    net.elsewhere
        .drain(..)
        .filter_map(|transmit| match transmit.destination {
            Destination::Address { transport, addr, .. } => Some((addr, transport, transmit.message)),
            Destination::Flow(_) | Destination::Peer(_) => None,
        })
        .collect()
}

fn answer_from_elsewhere(net: &mut Net, request: &Message, status: u16) {
    let somewhere = net.udp(0, "192.0.2.99:5060");
    let response = Builder::response(request, status, "").to_tag("far").finish();
    net.send_message(&somewhere, response);
}

#[test]
fn the_less_preferred_ring_only_when_all_of_the_preferred_have_failed() {
    let mut net = Net::new(1);
    let (alice, bob, desk, mail) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, DESK), net.udp(0, VOICEMAIL));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    let targets = vec![preferred(&mail, 100), preferred(&bob, 900), preferred(&desk, 900)];
    net.forward(0, id, targets, false);
    let (first, second) = (net.one(&bob), net.one(&desk));
    assert_eq!(net.heard(&mail), "");
    net.answer(&bob, &first, 486, "b", &[]);
    assert_eq!(net.heard(&mail), "", "the other phone may still answer");
    net.answer(&desk, &second, 480, "d", &[]);
    let third = net.one(&mail);
    net.answer(&mail, &third, 200, "m", &[]);
    assert_eq!(net.heard(&alice), "100 200");
}

#[test]
fn a_phone_whose_connection_is_lost_while_it_rings_is_not_available_and_the_others_ring_on() {
    let mut net = Net::new(1);
    let (alice, tab, desk) = (net.udp(0, ALICE), net.tcp(0, BOB), net.udp(0, DESK));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![tab.target("bob"), desk.target("bob")], false);
    let (at_tab, at_desk) = (net.one(&tab), net.one(&desk));
    net.answer(&tab, &at_tab, 180, "t", &[]);
    net.answer(&desk, &at_desk, 180, "d", &[]);
    let now = net.now;
    net.nodes[0].server.handle_flow_failed(now, &tab.flow);
    net.run();
    assert_eq!(net.heard(&alice), "100 180 180", "one of them rings on");
    net.answer(&desk, &at_desk, 486, "d", &[]);
    assert_eq!(net.heard(&alice), "486");
}

#[test]
fn a_call_ends_when_the_connection_is_lost_of_the_only_phone_that_rings() {
    let mut net = Net::new(1);
    let (alice, tab) = (net.udp(0, ALICE), net.tcp(0, BOB));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![tab.target("bob")], false);
    let at_tab = net.one(&tab);
    net.answer(&tab, &at_tab, 180, "t", &[]);
    let now = net.now;
    net.nodes[0].server.handle_flow_failed(now, &tab.flow);
    net.run();
    assert_eq!(net.heard(&alice), "100 180 480");
    net.nodes[0].server.handle_flow_failed(now, &tab.flow);
    net.run();
    assert_eq!(net.heard(&alice), "");
}

#[test]
fn a_group_that_rings_too_long_is_cancelled_for_the_next() {
    let mut net = Net::new(1);
    let (alice, bob, mail) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, VOICEMAIL));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![preferred(&bob, 900), preferred(&mail, 100)], false);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "b", &[]);
    net.advance(millis(19_999));
    assert_eq!((net.heard(&bob), net.heard(&mail)), (String::new(), String::new()));
    net.advance(millis(1));
    assert!(net.fired.contains(&TimerReason::GroupRing));
    let cancel = net.one(&bob);
    assert_eq!(cancel.header(Header::Reason), Some("SIP;cause=408;text=\"No answer in time\""));
    let invite_of_mail = net.one(&mail);
    net.answer(&bob, &invite, 487, "b", &[]);
    assert_eq!(net.heard(&alice), "100 180", "the 487 of a group that was given up goes nowhere");
    net.answer(&mail, &invite_of_mail, 486, "m", &[]);
    assert_eq!(net.heard(&alice), "486");
}

#[test]
fn the_last_group_rings_on() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![preferred(&bob, 900)], false);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "b", &[]);
    net.advance(seconds(60));
    assert_eq!(net.heard(&bob), "");
}

#[test]
fn a_phone_of_a_group_given_up_may_still_win_the_race() {
    let mut net = Net::new(1);
    let (alice, bob, mail) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, VOICEMAIL));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![preferred(&bob, 900), preferred(&mail, 100)], false);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "b", &[]);
    net.advance(seconds(20));
    let invite_of_mail = net.one(&mail);
    net.answer(&mail, &invite_of_mail, 180, "m", &[]);
    net.answer(&bob, &invite, 200, "b", &[]);
    assert_eq!(net.heard(&alice), "100 180 180 200");
    let cancel = net.one(&mail);
    assert_eq!(cancel.header(Header::Reason), Some("SIP;cause=200;text=\"Call completed elsewhere\""));
}

#[test]
fn targets_found_later_join_those_that_ring_unless_they_are_less_preferred() {
    let mut net = Net::new(1);
    let (alice, bob, desk, mail) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, DESK), net.udp(0, VOICEMAIL));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![preferred(&bob, 500)], true);
    net.forward(0, id, vec![preferred(&mail, 100), preferred(&desk, 1000)], false);
    assert_eq!((net.heard(&bob), net.heard(&desk), net.heard(&mail)), ("INVITE".into(), "INVITE".into(), "".into()));
}

#[test]
fn a_refusal_by_everybody_leaves_the_less_preferred_in_peace() {
    let mut net = Net::new(1);
    let (alice, bob, mail) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, VOICEMAIL));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![preferred(&bob, 900), preferred(&mail, 100)], false);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 603, "b", &[]);
    assert_eq!((net.heard(&alice), net.heard(&mail)), ("100 603".into(), "".into()));
}

#[test]
fn the_callers_cancel_ends_a_serial_fork_too_and_passes_its_reason_on() {
    let mut net = Net::new(1);
    let (alice, bob, mail) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, VOICEMAIL));
    let mut caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let id = net.request(0).0;
    net.forward(0, id, vec![preferred(&bob, 900), preferred(&mail, 100)], false);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 180, "b", &[]);
    caller.extra.push("Reason: Q.850;cause=16;text=\"Terminated\"".into());
    caller.extra.push("Reason: SIP;cause=600".into());
    net.send(&alice, &caller.text("CANCEL"));
    let cancel = net.one(&bob);
    let reasons: Vec<&str> = cancel.values(Header::Reason).collect();
    assert_eq!(reasons, ["Q.850;cause=16;text=\"Terminated\"", "SIP;cause=600"]);
    net.answer(&bob, &invite, 487, "b", &[]);
    assert_eq!(net.heard(&alice), "100 180 200 487");
    assert_eq!(net.heard(&mail), "");
}

#[test]
fn a_server_that_answers_503_or_cannot_be_reached_is_passed_over_for_the_next() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let id = asked(&mut net, &alice, "INVITE", &[]);
    let places = ["192.0.2.1:5060", "192.0.2.2:5060", "192.0.2.3:5060"].map(address_of);
    let [first, rest @ ..] = places;
    let target = Target { alternatives: rest.to_vec(), ..Target::new("sip:bob@far.example", first) };
    net.forward(0, id, vec![target], false);
    let (place, _, invite) = sent_elsewhere(&mut net).remove(0);
    assert_eq!(place.to_string(), "192.0.2.1:5060");
    answer_from_elsewhere(&mut net, &invite, 503);
    let sent = sent_elsewhere(&mut net);
    assert_eq!(sent.iter().map(|(.., message)| message.method_name()).collect::<Vec<_>>(), ["ACK", "INVITE"]);
    let (place, _, again) = &sent[1];
    assert_eq!(place.to_string(), "192.0.2.2:5060");
    assert_ne!(again.top_via().unwrap().branch(), invite.top_via().unwrap().branch(), "a transaction of its own");
    assert_eq!(again.request_uri(), invite.request_uri());

    let origin = net.last_origin.unwrap();
    let now = net.now;
    net.nodes[0].server.handle_transport_error(now, origin);
    net.run();
    let (place, _, third) = sent_elsewhere(&mut net).remove(0);
    assert_eq!(place.to_string(), "192.0.2.3:5060");
    assert_eq!(net.heard(&alice), "100", "nothing of that is the caller's business");
    answer_from_elsewhere(&mut net, &third, 486);
    assert_eq!(net.heard(&alice), "486");
}

#[test]
fn a_place_that_says_nothing_is_passed_over_while_there_is_another() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let id = asked(&mut net, &alice, "MESSAGE", &[]);
    let target = Target {
        alternatives: vec![address_of("192.0.2.2:5060")],
        ..Target::new("sip:b@far.example", address_of("192.0.2.1:5060"))
    };
    net.forward(0, id, vec![target], false);
    net.advance(millis(3999));
    assert!(sent_elsewhere(&mut net).iter().all(|(place, ..)| place.to_string() == "192.0.2.1:5060"));
    net.advance(millis(1));
    let sent = sent_elsewhere(&mut net);
    let (_, _, message) = sent.iter().find(|(place, ..)| place.to_string() == "192.0.2.2:5060").unwrap();
    answer_from_elsewhere(&mut net, message, 200);
    assert_eq!(net.heard(&alice), "100 200");
}

/// Bob's phone with two flows, the first of which gets the request.
fn two_flows(net: &mut Net) -> (Phone, Phone, Phone, Message) {
    let (alice, first, second) = (net.udp(0, ALICE), net.tcp(0, BOB), net.tcp(0, BOB));
    let id = asked(net, &alice, "INVITE", &[]);
    let alternatives = vec![Destination::Flow(second.flow.clone())];
    net.forward(0, id, vec![Target { alternatives, ..first.target("bob") }], false);
    let invite = net.one(&first);
    (alice, first, second, invite)
}

#[test]
fn a_flow_that_failed_is_passed_over_for_the_next_of_its_phone() {
    for status in [430, 408] {
        let mut net = Net::new(1);
        let (alice, first, second, invite) = two_flows(&mut net);
        net.answer(&first, &invite, status, "edge", &[]);
        assert_eq!(net.heard(&first), "ACK");
        let again = net.one(&second);
        assert_eq!(again.request_uri(), invite.request_uri());
        net.answer(&second, &again, 200, "b", &[]);
        assert_eq!(net.heard(&alice), "100 200", "{status} is not the caller's business");
    }
    // Nothing at all is heard, or the connection is lost.
    for is_lost in [false, true] {
        let mut net = Net::new(1);
        let (_, _, second, _) = two_flows(&mut net);
        if is_lost {
            let (now, origin) = (net.now, net.last_origin.unwrap());
            net.nodes[0].server.handle_transport_error(now, origin);
            net.run();
        } else {
            net.advance(seconds(4));
        }
        assert_eq!(net.heard(&second), "INVITE", "lost: {is_lost}");
    }
}

#[test]
fn what_a_phone_answers_over_one_flow_it_is_not_asked_again_over_another() {
    for status in [302, 404, 480, 486, 500, 503, 603] {
        let mut net = Net::new(1);
        let (alice, first, second, invite) = two_flows(&mut net);
        net.answer(&first, &invite, status, "b", &[]);
        assert_eq!((net.heard(&first), net.heard(&second)), ("ACK".into(), "".into()), "{status}");
        // 503 upstream would say that this node can serve nobody.
        let heard = if status == 503 { 500 } else { status };
        assert_eq!(net.heard(&alice), format!("100 {heard}"));
    }
}

fn large() -> String {
    format!("X-Long: {}", "x".repeat(1300))
}

#[test]
fn a_large_request_goes_over_a_connection_and_back_to_datagrams_when_there_is_none() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let id = asked(&mut net, &alice, "INVITE", &[&large()]);
    net.forward(0, id, vec![Target::new("sip:bob@far.example", address_of("192.0.2.1:5060"))], false);
    let (_, transport, invite) = sent_elsewhere(&mut net).remove(0);
    assert_eq!((transport, invite.top_via().unwrap().transport), (Transport::Tcp, "TCP"));
    assert!(invite.values(Header::RecordRoute).next().unwrap().contains("transport=tcp"));
    let origin = net.last_origin.unwrap();
    let now = net.now;
    net.nodes[0].server.handle_transport_error(now, origin);
    net.run();
    let (_, transport, invite) = sent_elsewhere(&mut net).remove(0);
    assert_eq!((transport, invite.top_via().unwrap().transport), (Transport::Udp, "UDP"));
    answer_from_elsewhere(&mut net, &invite, 486);
    assert_eq!(net.heard(&alice), "100 486");
}

#[test]
fn a_large_request_to_a_registered_flow_stays_on_it_and_a_small_one_stays_a_datagram() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let id = asked(&mut net, &alice, "INVITE", &[&large()]);
    net.forward(0, id, vec![bob.target("bob")], false);
    assert_eq!(net.one(&bob).top_via().unwrap().transport, "UDP");

    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![Target::new("sip:bob@far.example", address_of("192.0.2.1:5060"))], false);
    assert_eq!(sent_elsewhere(&mut net).remove(0).1, Transport::Udp);
}

fn asking(forwarding: &mut meshtone_sip::server::ServerConfig) {
    forwarding.forwarding.asks_about_redirects = true;
}

fn redirection(net: &mut Net) -> (RequestId, usize, Vec<Redirect>) {
    loop {
        match net.event(0) {
            Some(Event::Redirected { id, branch, contacts, .. }) => return (id, branch, contacts),
            Some(_) => {}
            None => panic!("no redirection"),
        }
    }
}

#[test]
fn a_redirection_is_followed_if_the_node_says_so_and_the_callee_learns_the_history() {
    let mut net = Net::with(1, asking);
    let (alice, bob, desk) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, DESK));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![bob.target("bob")], true);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 302, "b", &[(Header::Contact, "<sip:carol@example.org>;q=0.5")]);
    let (_, branch, contacts) = redirection(&mut net);
    assert_eq!(contacts[0], Redirect { uri: "sip:carol@example.org".into(), q: 500 });
    assert!(net.event(0).is_none(), "more targets are asked for only when the answer is there");
    let now = net.now;
    net.nodes[0].server.follow(now, id, branch, vec![desk.target("carol")]);
    net.run();
    let followed = net.one(&desk);
    let history: Vec<&str> = followed.values(Header::HistoryInfo).collect();
    assert_eq!(
        history,
        [
            "<sip:bob@example.org>;index=1",
            "<sip:bob@10.0.1.2:5060?Reason=SIP%3Bcause%3D302>;index=1.1;rc=1",
            "<sip:carol@10.0.1.3:5060>;index=1.2;mp=1.1"
        ]
    );
    net.answer(&desk, &followed, 486, "c", &[]);
    net.forward(0, id, vec![], false);
    assert_eq!(net.heard(&alice), "100 486", "what was followed is not what the caller hears");
}

#[test]
fn a_redirection_that_is_not_followed_is_the_callers_and_one_in_circles_ends() {
    let mut net = Net::with(1, asking);
    let (alice, bob, desk) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, DESK));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![bob.target("bob")], true);
    let invite = net.one(&bob);
    let away = [(Header::Contact, "<sip:carol@example.org>")];
    net.answer(&bob, &invite, 302, "b", &away);
    let (_, branch, contacts) = redirection(&mut net);
    assert_eq!(contacts.len(), 2, "the phone's own and the one it named");
    let now = net.now;
    net.nodes[0].server.follow(now, id, branch, vec![desk.target("carol")]);
    net.run();
    let again = net.one(&desk);
    let only_carol = Builder::response(&again, 302, "").to_tag("d").header(Header::Contact, away[0].1).finish();
    net.send_message(&desk, only_carol);
    assert!(matches!(net.event(0), Some(Event::TargetsExhausted { status: 302, .. })), "carol was asked already");
    net.forward(0, id, vec![], false);
    assert_eq!(net.heard(&alice), "100 302");

    let mut net = Net::with(1, asking);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![bob.target("bob")], true);
    let invite = net.one(&bob);
    net.answer(&bob, &invite, 302, "b", &[]);
    let (_, branch, _) = redirection(&mut net);
    let now = net.now;
    net.nodes[0].server.pass_on(now, id, branch);
    net.run();
    net.forward(0, id, vec![], false);
    assert_eq!(net.heard(&alice), "100 302");
}
