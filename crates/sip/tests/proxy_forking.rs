//! In which order targets are tried: by preference, at their next place, and over which transport
//! (RFC 3261 §16.6, §18.1.1; RFC 3263 §4.3), and how wide it may get (RFC 5393).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server_support;

use std::collections::HashMap;
use std::net::SocketAddr;

use meshtone_sip::message::{Builder, Header, Message, Uri};
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

/// Alice sends a request; the node is told.
fn asked(net: &mut Net, alice: &Phone, method: &str, extra: &[String]) -> RequestId {
    let mut caller = Caller::new(alice);
    caller.extra.extend_from_slice(extra);
    net.send(alice, &caller.text(method));
    net.request(0).0
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

fn large() -> Vec<String> {
    vec![format!("X-Long: {}", "x".repeat(1300))]
}

#[test]
fn a_large_request_goes_over_a_connection_and_back_to_datagrams_when_there_is_none() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let id = asked(&mut net, &alice, "INVITE", &large());
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
    let id = asked(&mut net, &alice, "INVITE", &large());
    net.forward(0, id, vec![bob.target("bob")], false);
    assert_eq!(net.one(&bob).top_via().unwrap().transport, "UDP");

    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![Target::new("sip:bob@far.example", address_of("192.0.2.1:5060"))], false);
    assert_eq!(sent_elsewhere(&mut net).remove(0).1, Transport::Udp);
}

#[test]
fn breadth_is_shared_among_branches_and_ends_with_440() {
    let mut net = Net::new(1);
    let (alice, bob, desk) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, DESK));
    let breadth = |message: &Message| message.header(Header::MaxBreadth).map(str::to_owned);
    let id = asked(&mut net, &alice, "INVITE", &["Max-Breadth: 7".into()]);
    net.forward(0, id, vec![bob.target("bob"), desk.target("bob")], false);
    assert_eq!((breadth(&net.one(&bob)), breadth(&net.one(&desk))), (Some("3".into()), Some("3".into())));

    for (given, heard) in [("1", ["INVITE", ""]), ("0", ["", ""])] {
        let mut net = Net::new(1);
        let (alice, bob, desk) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, DESK));
        let id = asked(&mut net, &alice, "INVITE", &[format!("Max-Breadth: {given}")]);
        net.forward(0, id, vec![bob.target("bob"), desk.target("bob")], false);
        let invites = net.received(&bob);
        assert_eq!([names(&invites), net.heard(&desk)], heard);
        if let [invite] = invites.as_slice() {
            net.answer(&bob, invite, 480, "b", &[]);
        }
        assert!(net.heard(&alice).ends_with(if given == "0" { "440" } else { "480" }));
    }

    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let id = asked(&mut net, &alice, "INVITE", &[]);
    net.forward(0, id, vec![bob.target("bob")], false);
    assert_eq!(breadth(&net.one(&bob)), Some("60".into()), "a request without one gets it");
}

/// Lets nodes forward by a table of bindings until nothing moves; how many messages that took. Addresses are found as a node
/// finds them: by user and host, whatever else a URI says.
fn messages_of_attack(net: &mut Net, alice: &Phone, bindings: &HashMap<&str, Vec<(String, usize)>>) -> usize {
    let before = net.sent;
    net.send(alice, &Caller::new(alice).text("INVITE").replacen("sip:bob@example.org", "sip:a@example.org", 1));
    loop {
        let mut moved = false;
        for node in 0..net.nodes.len() {
            while let Some(event) = net.event(node) {
                let Event::Request { id, request, .. } = event else { continue };
                moved = true;
                let address = Uri::parse(request.request_uri()).unwrap().address_of_record().to_ascii_lowercase();
                let contacts = bindings.get(address.split('@').next().unwrap()).cloned().unwrap_or_default();
                let target = |(contact, step): &(String, usize)| {
                    let at = &net.nodes[(node + step) % net.nodes.len()].address;
                    Target::new(contact, address_of(at))
                };
                net.forward(node, id, contacts.iter().map(target).collect(), false);
            }
        }
        if !moved {
            break;
        }
    }
    net.advance(seconds(300));
    assert!(net.nodes.iter().all(|node| node.server.transaction_count() == 0), "nothing stays behind");
    net.sent - before
}

/// Ten contacts for these users in turn, each by another spelling of one address, at the node so many further on.
fn spellings(users: [&str; 2], step: usize) -> Vec<(String, usize)> {
    let spell = |number: usize| {
        let user = users[number % 2];
        match number / 2 {
            0 => format!("sip:{user}@example.org"),
            1 => format!("sip:{user}@Example.ORG:{}", 5060 + number),
            2 => format!("SIP:{}@example.org;n={number}", user.to_uppercase()),
            3 => format!("sip:%{:02x}@example.org.;transport=udp;lr", user.as_bytes()[0]),
            _ => format!("sip:{user}:word{number}@EXAMPLE.org;N={number};user=ip"),
        }
    };
    (0..10).map(|number| (spell(number), step)).collect()
}

/// Threat 11, RFC 5393 §3: addresses that fork to each other and to themselves.
#[test]
fn addresses_that_fork_at_each_other_cost_less_than_200_messages_however_they_are_spelled() {
    let plain = |step: usize| ["a", "b"].map(|user| (format!("sip:{user}@example.org"), step)).to_vec();
    for nodes in [1, 2] {
        let step = usize::from(nodes - 1);
        let tables = [
            ("two contacts", plain(step), plain(step)),
            ("parameters", numbered(step), numbered(step)),
            ("both addresses in turn", spellings(["a", "b"], step), spellings(["b", "a"], step)),
            ("each other alone", spellings(["b", "b"], step), spellings(["a", "a"], step)),
        ];
        for (what, of_a, of_b) in tables {
            let mut net = Net::new(nodes);
            let alice = net.udp(0, ALICE);
            let messages = messages_of_attack(&mut net, &alice, &HashMap::from([("a", of_a), ("b", of_b)]));
            assert!(messages < 200, "{what}, {nodes} nodes: {messages}");
            assert!(net.heard(&alice).contains("482"), "{what}, {nodes} nodes");
        }
    }
}

/// Ten contacts that differ by a parameter.
fn numbered(step: usize) -> Vec<(String, usize)> {
    (0..5).flat_map(|n| ["a", "b"].map(|user| (format!("sip:{user}@example.org;n={n}"), step))).collect()
}

#[test]
fn a_spiral_gets_through_to_another_instance_or_name_of_the_same_user() {
    for last in ["sip:bob@example.org;gr=urn:uuid:1", "sip:bob-desk@example.org", "tel:+1-201-555-0123"] {
        let mut net = Net::new(1);
        let (alice, desk) = (net.udp(0, ALICE), net.udp(0, DESK));
        net.send(&alice, &Caller::new(&alice).text("INVITE"));
        let back = address_of(&net.nodes[0].address.clone());
        for next in ["sip:carol@example.org", last] {
            let id = net.request(0).0;
            net.forward(0, id, vec![Target::new(next, back.clone())], false);
        }
        let (id, request, _) = net.request(0);
        assert_eq!(request.request_uri(), last);
        net.forward(0, id, vec![desk.target("bob")], false);
        assert_eq!(net.heard(&desk), "INVITE");
    }
}

#[test]
fn a_proxy_that_heard_nothing_may_try_a_second_way_but_not_ever_more() {
    let mut net = Net::new(1);
    let (proxy, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let copy = |way: u8| {
        let own = format!("Via: SIP/2.0/UDP 10.0.1.1:5060;rport;branch=z9hG4bKway{way}\nVia: SIP/2.0/UDP 10.9.9.9");
        Caller::new(&proxy).text("INVITE").replacen("Via: SIP/2.0/UDP 10.0.1.1:5060", &own, 1)
    };
    let mut heard = Vec::new();
    for way in 0..4 {
        net.send(&proxy, &copy(way));
        if let Some(Event::Request { id, .. }) = net.event(0) {
            net.forward(0, id, vec![bob.target("bob")], false);
        }
        heard.push(net.heard(&proxy));
    }
    assert_eq!(heard, ["100", "100", "482", "482"]);
    for invite in net.received(&bob) {
        net.answer(&bob, &invite, 486, "b", &[]);
    }
    assert_eq!(net.heard(&proxy), "486 486");
    while net.event(0).is_some() {}
    net.send(&proxy, &copy(9));
    assert!(matches!(net.event(0), Some(Event::Request { .. })), "there is room again");
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
