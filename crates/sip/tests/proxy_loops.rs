//! What keeps a request from multiplying: loops, copies of one request, and how wide it may get (RFC 5393, threat 11).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server_support;

use std::collections::HashMap;

use meshtone_sip::message::{Header, Message, Uri};
use meshtone_sip::proxy::Target;
use meshtone_sip::server::Event;
use meshtone_sip::transport::{Destination, Transport};
use server_support::*;

const ALICE: &str = "10.0.1.1:5060";
const BOB: &str = "10.0.1.2:5060";
const DESK: &str = "10.0.1.3:5060";

fn address_of(address: &str) -> Destination {
    Destination::Address { transport: Transport::Udp, addr: address.parse().unwrap(), listener: 0 }
}

#[test]
fn breadth_is_shared_among_branches_and_ends_with_440() {
    let mut net = Net::new(1);
    let (alice, bob, desk) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, DESK));
    let breadth = |message: &Message| message.header(Header::MaxBreadth).map(str::to_owned);
    let id = asked(&mut net, &alice, "INVITE", &["Max-Breadth: 7"]);
    net.forward(0, id, vec![bob.target("bob"), desk.target("bob")], false);
    assert_eq!((breadth(&net.one(&bob)), breadth(&net.one(&desk))), (Some("3".into()), Some("3".into())));

    for (given, heard) in [("1", ["INVITE", ""]), ("0", ["", ""])] {
        let mut net = Net::new(1);
        let (alice, bob, desk) = (net.udp(0, ALICE), net.udp(0, BOB), net.udp(0, DESK));
        let id = asked(&mut net, &alice, "INVITE", &[&format!("Max-Breadth: {given}")]);
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
