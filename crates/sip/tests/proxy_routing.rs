//! Requests within a dialog: double Record-Route, flow tokens, loose and strict routing, across one node and two
//! (RFC 3261 §16.4, RFC 5626 §5, RFC 5658); and what must not be forwarded.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server_support;

use meshtone_sip::message::Header;
use meshtone_sip::proxy::{Routing, Target};
use meshtone_sip::server::Event;
use meshtone_sip::transport::{Destination, Flow, Transport};
use server_support::*;

const ALICE: &str = "10.0.1.1:40001";
const BOB: &str = "10.0.2.2:40002";

#[test]
fn a_call_across_two_nodes_keeps_to_its_flows_in_both_directions() {
    let mut net = Net::new(2);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(1, BOB));
    let (mut caller, mut callee) = established(&mut net, &alice, &bob);
    assert_eq!((caller.routes.len(), callee.routes.len()), (4, 4));

    for _ in 0..2 {
        net.send(&alice, &caller.next("INVITE"));
        net.forward_in_dialog(0);
        net.forward_in_dialog(1);
        let reinvite = net.one(&bob);
        assert_eq!((reinvite.method_name(), reinvite.request_uri()), ("INVITE", "sip:10.0.2.2:40002"));
        assert_eq!(reinvite.values(Header::Route).count(), 0);
        net.answer(&bob, &reinvite, 200, "", &[]);
        assert_eq!(net.heard(&alice), "100 200");
        net.send(&alice, &caller.text("ACK"));
        assert_eq!(net.heard(&bob), "ACK");
    }
    net.send(&bob, &callee.next("INVITE"));
    net.forward_in_dialog(1);
    net.forward_in_dialog(0);
    let reinvite = net.one(&alice);
    net.answer(&alice, &reinvite, 488, "", &[]);
    assert_eq!(net.heard(&bob), "100 488");
    net.received(&alice);

    net.send(&bob, &callee.next("BYE"));
    net.forward_in_dialog(1);
    net.forward_in_dialog(0);
    let bye = net.one(&alice);
    assert_eq!((bye.method_name(), bye.values(Header::Route).count()), ("BYE", 0));
    net.answer(&alice, &bye, 200, "", &[]);
    assert_eq!(net.heard(&bob), "200");
    assert!(net.elsewhere.is_empty(), "nothing went to an address that only a header named");
}

#[test]
fn a_peer_learns_at_once_that_the_other_node_is_alive() {
    let mut net = Net::new(2);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(1, BOB));
    for method in ["INVITE", "MESSAGE"] {
        let mut caller = Caller::new(&alice);
        caller.call_id = format!("{method}@phone");
        net.send(&alice, &caller.text(method));
        let (id, ..) = net.request(0);
        let mut target = net.peer_target("sip:bob@example.org", 1);
        target.answer_within = Some(seconds(2));
        net.forward(0, id, vec![target], true);
        let (id, ..) = net.request(1);
        net.forward(1, id, vec![bob.target("bob")], false);
        net.advance(seconds(10));
        assert!(net.event(0).is_none(), "{method}: 100 of the peer ends the wait of 2 s");
    }
}

#[test]
fn two_phones_behind_one_address_can_call_each_other() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let bob = alice.clone();
    let mut caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![bob.target("bob")], false);
    let received = net.received(&alice);
    assert_eq!(names(&received), "100 INVITE");
    net.answer(&bob, &received[1], 200, "b-tag", &[]);
    caller.learn(&net.one(&alice));
    net.send(&alice, &caller.next("BYE"));
    net.forward_in_dialog(0);
    assert_eq!(net.heard(&bob), "BYE");
}

/// Threats 12 and 16: what nobody vouches for reaches no phone.
#[test]
fn a_forged_or_foreign_flow_token_is_refused() {
    let mut net = Net::new(1);
    let (alice, bob, eve) = (net.udp(0, ALICE), net.tcp(0, BOB), net.udp(0, "10.0.3.3:5060"));
    let (caller, _) = established(&mut net, &alice, &bob);
    let mut attack = caller.clone();
    attack.phone = eve.clone();

    attack.routes = caller.routes.iter().map(|route| route.replace("<sip:", "<sip:A")).collect();
    net.send(&eve, &attack.next("BYE"));
    assert_eq!(net.heard(&eve), "403");

    // A token of one call opens no other.
    attack.routes = caller.routes.clone();
    attack.call_id = "another-call".into();
    net.send(&eve, &attack.next("BYE"));
    assert_eq!(net.heard(&eve), "403");
    net.send(&eve, &attack.next("ACK"));
    assert_eq!(net.heard(&eve), "");

    // Outside a dialog it says nothing: the node's policy decides.
    attack.to_tag = None;
    net.send(&eve, &attack.next("MESSAGE"));
    let (.., routing) = net.request(0);
    assert!(matches!(routing, Routing::Initial));
    assert_eq!(net.heard(&bob), "");
}

/// Threat 16: tags and Call-ID do not make somebody part of a call that passes here; only its Routes do, and nobody guesses those.
#[test]
fn whoever_knows_all_of_a_call_but_its_routes_reaches_nobody_in_it() {
    let mut net = Net::new(1);
    let (alice, bob, eve) = (net.udp(0, ALICE), net.tcp(0, BOB), net.udp(0, "10.0.3.3:5060"));
    let (caller, callee) = established(&mut net, &alice, &bob);
    for known in [&caller, &callee] {
        for method in ["BYE", "INVITE", "UPDATE", "REFER", "ACK", "CANCEL"] {
            let mut attack = known.clone();
            (attack.phone, attack.cseq) = (eve.clone(), 900);
            attack.routes.clear();
            net.send(&eve, &attack.text(method));
            match net.event(0) {
                // What it is worth is for the node to say, as with any request of a stranger.
                Some(Event::Request { id, routing: Routing::Initial, .. }) => net.reject(0, id, 403),
                None => {}
                other => panic!("{method}: {other:?}"),
            }
            while net.event(0).is_some() {}
        }
    }
    assert_eq!((net.heard(&alice), net.heard(&bob)), (String::new(), String::new()));
}

/// Threats 12 and 14: no Route of a stranger leads anywhere by itself.
#[test]
fn a_route_that_nothing_vouches_for_is_left_to_the_node() {
    let mut net = Net::new(1);
    let eve = net.udp(0, "10.0.3.3:5060");
    for (to_tag, route) in [(None, "<sip:127.0.0.1;lr>"), (Some("x"), "<sip:169.254.169.254:80;lr>")] {
        let mut attack = Caller::new(&eve);
        attack.to_tag = to_tag.map(str::to_owned);
        attack.call_id = format!("attack-{}", to_tag.unwrap_or_default());
        attack.routes = vec!["<sip:10.0.0.1:5060;lr>".into(), route.into()];
        net.send(&eve, &attack.text("MESSAGE"));
        let (_, request, routing) = net.request(0);
        assert!(matches!(&routing, Routing::Foreign(uri) if route.contains(uri.as_str())), "{routing:?}");
        assert_eq!(request.values(Header::Route).collect::<Vec<_>>(), [route], "our own is popped, the other kept");
    }
    // Not even an ACK goes there, nor a request to a peer that this call never had.
    let mut attack = Caller::new(&eve);
    attack.to_tag = Some("x".into());
    attack.routes = vec!["<sip:127.0.0.1;lr>".into()];
    net.send(&eve, &attack.text("ACK"));
    attack.routes = vec!["<sip:p@node1.peer.alt;lr>".into(), "<sip:p@node9.peer.alt;lr>".into()];
    net.send(&eve, &attack.next("BYE"));
    assert_eq!(net.heard(&eve), "403");
    assert!(net.elsewhere.is_empty());
}

/// Threat 12: a Route of hundreds of entries.
#[test]
fn a_request_that_names_us_a_thousand_times_as_its_route_is_nobodys() {
    let mut net = Net::new(1);
    let eve = net.udp(0, "10.0.3.3:5060");
    let mut attack = Caller::new(&eve);
    attack.to_tag = Some("x".into());
    attack.routes = vec![["<sip:10.0.0.1;lr>"; 250].join(","); 4];
    net.send(&eve, &attack.text("BYE"));
    let (.., routing) = net.request(0);
    assert!(matches!(routing, Routing::Foreign(_)), "{routing:?}");
}

#[test]
fn a_lost_connection_of_the_callee_is_reported() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.tcp(0, BOB));
    let (mut caller, _) = established(&mut net, &alice, &bob);
    net.close(&bob);
    net.send(&alice, &caller.next("BYE"));
    let (.., routing) = net.request(0);
    assert!(matches!(routing, Routing::Gone));
}

#[test]
fn a_dialog_over_a_connection_that_we_opened_goes_on_to_that_address() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE"));
    let (id, ..) = net.request(0);
    let addr = "10.0.2.2:5070".parse().unwrap();
    let dialled = Destination::Address { transport: Transport::Tcp, addr, listener: 0 };
    net.forward(0, id, vec![Target::new("sip:bob@10.0.2.2:5070", dialled.clone())], false);
    let invite = net.elsewhere.pop().unwrap().message;
    let bob = net.tcp(0, "10.0.2.2:5070");
    net.answer(&bob, &invite, 200, "b-tag", &[]);
    caller.learn(net.received(&alice).last().unwrap());
    net.send(&alice, &caller.text("ACK"));
    net.send(&alice, &caller.next("BYE"));
    net.forward_in_dialog(0);
    let sent: Vec<_> = net.elsewhere.drain(..).collect();
    assert!(sent.iter().all(|transmit| transmit.destination == dialled));
    assert_eq!(sent.iter().map(|transmit| transmit.message.method_name()).collect::<Vec<_>>(), ["ACK", "BYE"]);
}

/// Threats 10 and 12: no Via sends a response to somebody else.
#[test]
fn a_response_for_a_lost_connection_goes_to_the_address_it_came_from() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.tcp(0, ALICE), net.udp(0, BOB));
    let caller = Caller::new(&alice);
    net.send(&alice, &caller.text("INVITE").replace("10.0.1.1:40001;rport", "10.9.9.9:5080;rport"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![bob.target("bob")], false);
    let invite = net.one(&bob);
    net.close(&alice);
    net.answer(&bob, &invite, 180, "b-tag", &[]);
    let sent = net.elsewhere.pop().unwrap();
    let Destination::Address { addr, .. } = sent.destination else { panic!("{:?}", sent.destination) };
    assert_eq!(addr.to_string(), "10.0.1.1:5080", "the port of sent-by at the address that was seen");
}

/// Threats 10 and 12: `received` and `rport` are ours to write.
#[test]
fn the_top_via_tells_where_a_request_really_came_from() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let text = Caller::new(&alice).text("OPTIONS");

    net.send(&alice, &text.replace("10.0.1.1:40001;rport", "192.168.0.7;rport"));
    let (id, request, _) = net.request(0);
    let via = request.top_via().unwrap();
    assert_eq!((via.host, via.rport(), via.received()), ("192.168.0.7", Some(Some("40001")), Some("10.0.1.1")));
    net.reject(0, id, 200);
    assert_eq!(net.heard(&alice), "200", "the response follows them");

    let forged = "192.168.0.7:5070;received=192.0.2.99;maddr=192.0.2.99";
    net.send(&alice, &text.replace("10.0.1.1:40001;rport", forged).replace("OPTIONS1", "OPTIONS2"));
    let (id, request, _) = net.request(0);
    assert_eq!(request.top_via().unwrap().received(), Some("10.0.1.1"), "what the client wrote there is thrown away");
    net.reject(0, id, 200);
    let port_of_via = Phone { node: 0, flow: Flow::Udp { listener: 0, remote: "10.0.1.1:5070".parse().unwrap() } };
    assert_eq!(net.heard(&port_of_via), "200", "without rport the port of sent-by holds, at the source address");
}

#[test]
fn max_forwards_runs_out_with_483() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    for (value, heard) in [("0", "483"), ("1", ""), ("70", "")] {
        let mut caller = Caller::new(&alice);
        caller.call_id = format!("hops-{value}");
        let text = caller.text("MESSAGE").replace("Max-Forwards: 70", &format!("Max-Forwards: {value}"));
        net.send(&alice, &text);
        let (id, ..) = net.request(0);
        net.forward(0, id, vec![bob.target("bob")], false);
        assert_eq!(net.heard(&alice), heard, "Max-Forwards: {value}");
    }
    let text = Caller::new(&alice).text("MESSAGE").replace("Max-Forwards: 70\n", "");
    net.received(&bob);
    net.send(&alice, &text);
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![bob.target("bob")], false);
    assert_eq!(net.one(&bob).max_forwards().unwrap(), Some(70));
}

#[test]
fn an_extension_that_proxies_must_know_is_refused() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let mut caller = Caller::new(&alice);
    caller.extra = vec!["Proxy-Require: foo, bar".into(), "Require: baz".into()];
    net.send(&alice, &caller.text("MESSAGE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![bob.target("bob")], false);
    let refusal = net.one(&alice);
    assert_eq!((refusal.status(), refusal.header(Header::Unsupported)), (420, Some("foo, bar")));
    assert_eq!(net.heard(&bob), "");
}

#[test]
fn a_request_that_comes_back_unchanged_is_a_loop_and_a_changed_one_a_spiral() {
    let mut net = Net::new(2);
    let alice = net.udp(0, ALICE);
    net.send(&alice, &Caller::new(&alice).text("MESSAGE"));
    let (id, ..) = net.request(0);
    net.forward(0, id, vec![net.peer_target("sip:bob@example.org", 1)], false);
    // Node 2 sends it back: first to somebody else, then to the same address.
    let (id, ..) = net.request(1);
    let spiral = net.peer_target("sip:carol@example.org", 0);
    let circle = net.peer_target("sip:bob@example.org", 0);
    net.forward(1, id, vec![spiral, circle], false);
    let (id, request, _) = net.request(0);
    assert_eq!(request.request_uri(), "sip:carol@example.org");
    assert!(net.event(0).is_none(), "the loop never reaches the node's routing");
    net.reject(0, id, 404);
    assert_eq!(net.heard(&alice), "404");
}

#[test]
fn two_addresses_that_forward_to_each_other_come_to_an_end() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    net.send(&alice, &Caller::new(&alice).text("INVITE"));
    // bob forks to bob and carol, carol to both again (RFC 5393 §3), each through the node itself.
    let me = Flow::Udp { listener: 0, remote: "10.0.0.1:5060".parse().unwrap() };
    while let Some(event) = net.event(0) {
        if let Event::Request { id, .. } = event {
            let fork = ["sip:bob@example.org", "sip:carol@example.org"]
                .map(|uri| Target::new(uri, Destination::Flow(me.clone())));
            net.forward(0, id, fork.to_vec(), false);
        }
    }
    assert!(net.sent < 200, "{} messages", net.sent);
    assert!(net.heard(&alice).contains("482"));
}

#[test]
fn a_strict_router_before_us_is_understood() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (mut caller, _) = established(&mut net, &alice, &bob);
    // It puts our first Route into the Request-URI, and the callee's contact at the end of Route.
    let contact = format!("<{}>", caller.uri);
    let first = caller.routes.remove(0);
    caller.uri = first.trim_matches(['<', '>']).to_owned();
    caller.routes.push(contact);
    net.send(&alice, &caller.next("BYE"));
    net.forward_in_dialog(0);
    let bye = net.one(&bob);
    assert_eq!((bye.request_uri(), bye.values(Header::Route).count()), ("sip:10.0.2.2:40002", 0));
}

#[test]
fn a_strict_router_behind_us_gets_what_it_wants() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    let (mut caller, _) = established(&mut net, &alice, &bob);
    caller.routes.push("<sip:old.example.org>".into());
    net.send(&alice, &caller.next("BYE"));
    net.forward_in_dialog(0);
    let bye = net.one(&bob);
    assert_eq!(bye.request_uri(), "sip:old.example.org");
    assert_eq!(bye.values(Header::Route).collect::<Vec<_>>(), ["<sip:10.0.2.2:40002>"]);
}

#[test]
fn targets_may_add_fields_and_a_route() {
    let mut net = Net::new(1);
    let (alice, bob) = (net.udp(0, ALICE), net.udp(0, BOB));
    net.send(&alice, &Caller::new(&alice).text("MESSAGE"));
    let (id, ..) = net.request(0);
    let mut target = bob.target("bob");
    target.extra = vec![(Header::PAssertedIdentity, "<sip:alice@example.org>".into())];
    target.prepend_route = Some("<sip:edge.example.org;lr>".into());
    net.forward(0, id, vec![target], false);
    let message = net.one(&bob);
    assert_eq!(message.header(Header::PAssertedIdentity), Some("<sip:alice@example.org>"));
    assert_eq!(message.header(Header::Route), Some("<sip:edge.example.org;lr>"));
    assert_eq!(message.request_uri(), "sip:bob@10.0.2.2:40002");
}

/// Threat 12: maddr names nobody but ourselves.
#[test]
fn an_own_maddr_is_stripped() {
    let mut net = Net::new(1);
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    caller.uri = "sip:bob@example.org;maddr=10.0.0.1;user=phone".into();
    net.send(&alice, &caller.text("MESSAGE"));
    let (_, request, _) = net.request(0);
    assert_eq!(request.request_uri(), "sip:bob@example.org;user=phone");
}

#[test]
fn a_request_for_a_dialog_that_this_node_does_not_have_gets_481() {
    let mut net = Net::new(1);
    let eve = net.udp(0, "10.0.3.3:5060");
    let mut attack = Caller::new(&eve);
    attack.uri = "sip:echo@10.0.0.1:5060".into();
    attack.to_tag = Some("guessed".into());
    for method in ["BYE", "INVITE", "REFER"] {
        net.send(&eve, &attack.next(method));
        assert_eq!(net.heard(&eve).split(' ').next_back(), Some("481"), "{method}");
    }
}
