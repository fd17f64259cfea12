//! Calls that leave the mesh and calls that come from outside, with the other side in the test's hand: what counts, what is
//! let in, where an emergency call goes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::name_server::NameServer;
use meshtone_tests::scripted::{Dialog, Request, SDP, Sent};
use meshtone_tests::{DOMAIN, Mesh, MeshNode, SOON, ScriptedPhone, eventually_some};

/// A node that may call loopback, with these settings besides.
fn node(settings: &str) -> (MeshNode, ScriptedPhone) {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    node.run_configured(&format!("allow_private_destinations = true\n{settings}"));
    let password = node.user_add("alice");
    let alice = ScriptedPhone::udp(node.sip()).of("alice", &password);
    (node, alice)
}

/// Somebody outside, as the caller's URI.
fn uri(outside: &ScriptedPhone) -> String {
    format!("sip:x@{}", outside.local())
}

#[track_caller]
fn call(caller: &mut ScriptedPhone, callee: &mut ScriptedPhone, target: &str) -> Dialog {
    let sent = caller.invite(target);
    taken(caller, callee, &sent)
}

/// The dialog of a call that its callee takes.
#[track_caller]
fn taken(caller: &mut ScriptedPhone, callee: &mut ScriptedPhone, sent: &Sent) -> Dialog {
    let invite = callee.incoming("INVITE");
    callee.accept_later(&invite);
    let dialog = caller.established(sent);
    callee.incoming("ACK");
    dialog
}

/// Begins a call as soon as the one before counts no longer: that is noted right after its end has been passed on.
#[track_caller]
fn invite_again(caller: &mut ScriptedPhone, target: &str) -> Sent {
    eventually_some(SOON, "a further call to be let through", || {
        let sent = caller.invite(target);
        let first = caller.next(SOON)?;
        (first.status() < 200).then_some(sent)
    })
}

#[track_caller]
fn call_again(caller: &mut ScriptedPhone, callee: &mut ScriptedPhone, target: &str) -> Dialog {
    let sent = invite_again(caller, target);
    taken(caller, callee, &sent)
}

/// Sends a BYE and has the other side answer it.
#[track_caller]
fn bye(request: &Request, from: &mut ScriptedPhone, to: &mut ScriptedPhone, status: u16) {
    let sent = from.send(request);
    let received = to.incoming("BYE");
    to.reply(&received, status, "As told", "");
    assert_eq!(from.final_answer(&sent).status(), status);
}

#[track_caller]
fn assert_refused(caller: &mut ScriptedPhone, target: &str) {
    let sent = caller.invite(target);
    let answer = caller.final_answer(&sent);
    assert_eq!(answer.status(), 403, "{answer}");
}

#[test]
fn a_call_outside_counts_until_the_other_side_has_taken_its_bye() {
    let (node, mut alice) = node("max_calls_per_user = 1\n");
    let mut outside = ScriptedPhone::udp(node.sip());
    let there = uri(&outside);
    let mut dialog = call(&mut alice, &mut outside, &there);
    assert_refused(&mut alice, &there);

    let mut of_another_call = dialog.next_request("BYE");
    of_another_call.to = format!("{}x", of_another_call.to);
    bye(&of_another_call, &mut alice, &mut outside, 481);
    assert_refused(&mut alice, &there);
    bye(&dialog.next_request("BYE"), &mut alice, &mut outside, 500);
    assert_refused(&mut alice, &there);

    bye(&dialog.next_request("BYE"), &mut alice, &mut outside, 200);
    let mut dialog = call_again(&mut alice, &mut outside, &there);
    bye(&dialog.next_request("BYE"), &mut alice, &mut outside, 200);
}

#[test]
fn a_call_that_was_taken_while_it_was_cancelled_counts() {
    let (node, mut alice) = node("max_calls_per_user = 1\n");
    let mut outside = ScriptedPhone::udp(node.sip());
    let there = uri(&outside);
    let sent = alice.invite(&there);
    let invite = outside.incoming("INVITE");
    outside.reply(&invite, 180, "Ringing", "");
    alice.wait_status(&sent, 180);
    assert_eq!(alice.cancel(&sent).status(), 200);
    let cancel = outside.incoming("CANCEL");
    outside.reply(&cancel, 200, "OK", "");
    let mut of_callee = outside.accept_later(&invite);
    alice.established(&sent);
    outside.incoming("ACK");
    assert_refused(&mut alice, &there);

    bye(&of_callee.next_request("BYE"), &mut outside, &mut alice, 200);
    let mut dialog = call_again(&mut alice, &mut outside, &there);
    bye(&dialog.next_request("BYE"), &mut alice, &mut outside, 200);
    // One that is cancelled in time counts no longer.
    let sent = invite_again(&mut alice, &there);
    let invite = outside.incoming("INVITE");
    outside.reply(&invite, 180, "Ringing", "");
    alice.wait_status(&sent, 180);
    assert_eq!(alice.cancel(&sent).status(), 200);
    let cancel = outside.incoming("CANCEL");
    outside.reply(&cancel, 200, "OK", "");
    outside.reply(&invite, 487, "Request Terminated", "");
    assert_eq!(alice.final_answer(&sent).status(), 487);
    call_again(&mut alice, &mut outside, &there);
}

#[test]
fn an_emergency_call_reaches_its_one_place_also_with_every_cap_used_up_and_nothing_else_allowed() {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let mut point = ScriptedPhone::udp(node.sip());
    let mut outside = ScriptedPhone::udp(node.sip());
    // No leave to call private addresses: what the configuration names needs none.
    let route = format!("sip:answering-point@{}", point.local());
    let settings = format!(
        "emergency_route = \"{route}\"\nmax_calls_per_user = 1\nallow_private_destinations = true\noutbound = \"list\"\n\
         outbound_domains = [\"127.0.0.1\"]\n"
    );
    node.run_configured(&settings);
    let password = node.user_add("alice");
    let mut alice = ScriptedPhone::udp(node.sip()).of("alice", &password);
    let there = uri(&outside);
    let mut standing = call(&mut alice, &mut outside, &there);
    assert_refused(&mut alice, &there);

    for number in ["sip:112@mesh.test", "tel:911", "urn:service:sos", "urn:service:sos.police"] {
        let sent = alice.invite(number);
        let invite = point.incoming("INVITE");
        assert_eq!(invite.request_uri(), route, "{number}");
        let mut of_callee = point.accept_later(&invite);
        alice.established(&sent);
        point.incoming("ACK");
        bye(&of_callee.next_request("BYE"), &mut point, &mut alice, 200);
    }
    assert_refused(&mut alice, &there);
    bye(&standing.next_request("BYE"), &mut alice, &mut outside, 200);

    // A stranger gets no further than anybody else who has not said who he is.
    let mut stranger = ScriptedPhone::udp(node.sip());
    let request = Request::new("INVITE", "sip:112@mesh.test", "sip:x@elsewhere.example", "sip:112@mesh.test");
    assert_eq!(stranger.ask_once(&request.with_body("application/sdp", SDP)).status(), 407);
}

#[test]
fn where_anybody_may_call_in_strangers_ring_users_at_any_home_node_and_relay_nothing() {
    let mut first = MeshNode::unstarted("n1").with_domain(DOMAIN);
    first.run_configured("inbound = \"any\"\n");
    let ticket = first.invite();
    let mesh = Mesh { nodes: vec![first, MeshNode::joining("n2", &ticket)] };
    mesh.wait_linked();
    let password = mesh.user("bob");
    let mut stranger = ScriptedPhone::udp(mesh.sip(1));
    let from = format!("sip:carol@{}", stranger.local());
    let ask = |method: &str, target: &str, from: &str| {
        Request::new(method, target, from, target).with("Contact", &format!("<{from}>"))
    };
    for number in [1, 2] {
        // At the other node the request comes from a home node that asserts nothing of the caller.
        let mut bob = ScriptedPhone::udp(mesh.sip(number)).of("bob", &password);
        bob.register();
        mesh.wait_announced(1);
        let forged = ask("INVITE", "sip:bob@mesh.test", &from)
            .with("P-Asserted-Identity", "<sip:alice@mesh.test>")
            .with_body("application/sdp", SDP);
        let sent = stranger.send(&forged);
        let invite = bob.incoming_within("INVITE", SOON).unwrap_or_else(|| panic!("no call at node {number}"));
        assert_eq!(invite.header("P-Asserted-Identity"), None, "nobody vouches for a stranger:\n{invite}");
        assert!(invite.header("From").unwrap().contains(&from), "{invite}");
        bob.accept_later(&invite);
        let mut dialog = stranger.established(&sent);
        bob.incoming("ACK");
        bye(&dialog.next_request("BYE"), &mut stranger, &mut bob, 200);
        assert_eq!(bob.try_register(0).status(), 200);
    }

    let relayed = ask("INVITE", "sip:dave@elsewhere.example", &from).with_body("application/sdp", SDP);
    assert_eq!(stranger.ask_once(&relayed).status(), 407);
    let as_user = ask("MESSAGE", "sip:bob@mesh.test", "sip:alice@mesh.test").with_body("text/plain", "it is me");
    assert_eq!(stranger.ask_once(&as_user).status(), 407, "who claims to be a user here proves it");
    assert_eq!(stranger.ask_once(&ask("SUBSCRIBE", "sip:bob@mesh.test", &from)).status(), 407);
}

#[test]
fn a_server_that_is_not_there_is_passed_over_for_the_next() {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let mut outside = ScriptedPhone::udp(node.sip());
    // Nobody listens on the first: a datagram to it is turned away by the system, or lost.
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let names = NameServer::with_servers("plain.test", &[nobody, outside.local()]);
    node.run_configured(&format!("allow_private_destinations = true\ndns = [\"{}\"]\n", names.address()));
    let password = node.user_add("alice");
    let mut alice = ScriptedPhone::udp(node.sip()).of("alice", &password);
    let mut dialog = call(&mut alice, &mut outside, "sip:carol@plain.test");
    bye(&dialog.next_request("BYE"), &mut alice, &mut outside, 200);
    // One that says that it cannot serve, too: the last to say so is believed.
    let sent = alice.invite("sip:carol@plain.test");
    let invite = outside.incoming("INVITE");
    outside.reply(&invite, 503, "Service Unavailable", "");
    assert_eq!(alice.final_answer(&sent).status(), 480);
}

#[test]
fn a_plain_domain_is_called_though_the_overlay_is_silent() {
    let mut first = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let mut outside = ScriptedPhone::udp(first.sip());
    let names = NameServer::with_domain("plain.test", outside.local());
    first.run_configured(&format!("allow_private_destinations = true\ndns = [\"{}\"]\n", names.address()));
    let ticket = first.invite();
    let mesh = Mesh { nodes: vec![first, MeshNode::joining("n2", &ticket)] };
    mesh.wait_linked();
    let password = mesh.user("alice");
    let mut alice = ScriptedPhone::udp(mesh.sip(1)).of("alice", &password);
    mesh.node(2).freeze();
    let mut dialog = call(&mut alice, &mut outside, "sip:carol@plain.test");
    bye(&dialog.next_request("BYE"), &mut alice, &mut outside, 200);
    mesh.node(2).thaw();
}
