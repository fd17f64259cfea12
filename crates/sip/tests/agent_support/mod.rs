//! What the tests of the user agent share: a node that calls bob's phone over UDP, and calls it takes.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[path = "../server_support/mod.rs"]
pub mod server_support;

use meshtone_sip::agent::{Acceptance, AgentEvent, Body, DialogId, OutgoingCall};
use meshtone_sip::message::{Builder, Header, Message};
use meshtone_sip::server::{Event, RequestId, Server};
use meshtone_sip::transport::Destination;
pub use server_support::*;

pub const BOB: &str = "10.0.2.2:5060";
pub const ALICE: &str = "10.0.1.1:40001";
pub const CONTACT: &str = "sip:service@10.0.0.1:5060";
pub const OFFER: &[u8] = b"v=0\r\no=offer\r\n";
pub const ANSWER: &[u8] = b"v=0\r\no=answer\r\n";

/// A call of the node's to bob, with an offer.
pub fn order(bob: &Phone) -> OutgoingCall {
    let destination = Destination::Flow(bob.flow.clone());
    let mut order = OutgoingCall::new(
        "sip:bob@example.net",
        destination,
        "<sip:service@example.org>",
        "<sip:bob@example.net>",
        CONTACT,
    );
    order.body = Some(Body::sdp(OFFER));
    order
}

/// Does something with the server of the first node, and delivers what follows.
pub fn act<R>(net: &mut Net, act: impl FnOnce(&mut Server, std::time::Instant) -> R) -> R {
    let now = net.now;
    let result = act(&mut net.nodes[0].server, now);
    net.run();
    result
}

/// The next event, which must be the agent's.
pub fn told(net: &mut Net) -> AgentEvent {
    match net.event(0) {
        Some(Event::Agent(event)) => event,
        other => panic!("nothing of the agent's but {other:?}"),
    }
}

/// The node does not believe that a phone has moved.
pub fn refuse_moved(net: &mut Net) {
    let AgentEvent::Moved { id, .. } = told(net) else { panic!("nobody moved") };
    net.reject(0, id, 481);
}

/// Lets a phone answer with a body.
pub fn answer_with(
    net: &mut Net,
    phone: &Phone,
    request: &Message,
    status: u16,
    tag: &str,
    extra: &[(Header, &str)],
    sdp: &[u8],
) {
    let mut response = Builder::response(request, status, "")
        .to_tag(tag)
        .header(Header::Contact, &format!("<sip:bob@{}>", phone.address()));
    for (header, value) in extra {
        response = response.header(*header, value);
    }
    let response = if sdp.is_empty() { response.finish() } else { response.body("application/sdp", sdp).finish() };
    net.send_message(phone, response);
}

/// A call of the node's that bob took. The ACK has arrived.
pub fn talking(net: &mut Net, bob: &Phone, order: OutgoingCall, extra: &[(Header, &str)]) -> (DialogId, Message) {
    let call = act(net, |server, now| server.place_call(now, order));
    let invite = net.one(bob);
    answer_with(net, bob, &invite, 200, "bob-tag", extra, ANSWER);
    assert_eq!(net.heard(bob), "ACK");
    assert!(matches!(told(net), AgentEvent::Answered { dialog, wants_answer: false, .. } if dialog == call));
    (call, invite)
}

/// Alice calls the node with further fields and an offer; the node is told.
pub fn alice_calls(net: &mut Net, fields: &str, offer: &[u8]) -> (Phone, Caller, RequestId) {
    let alice = net.udp(0, ALICE);
    let mut caller = Caller::new(&alice);
    caller.uri = "sip:service@example.org".into();
    net.send_message(&alice, with(&caller.text("INVITE"), fields, offer));
    let (id, ..) = net.request(0);
    (alice, caller, id)
}

/// A call of Alice's that the node took. The ACK has arrived.
pub fn taken(net: &mut Net, answer: &Acceptance) -> (Phone, Caller, DialogId) {
    let (alice, mut caller, id) = alice_calls(net, "", OFFER);
    let dialog = act(net, |server, now| server.accept_with(now, id, answer));
    caller.learn(&net.received(&alice).pop().unwrap());
    net.send(&alice, &caller.text("ACK"));
    assert!(matches!(net.event(0), Some(Event::Acknowledged { .. })));
    (alice, caller, dialog)
}

/// Bob's side of a call of the node's.
pub fn bob_of(bob: &Phone, invite: &Message) -> Caller {
    let mut caller = Caller::callee(bob, invite, "bob-tag");
    caller.uri = CONTACT.into();
    caller.peer_user = "service";
    caller
}

/// A request of a caller's with further fields and a body.
pub fn with(text: &str, fields: &str, body: &[u8]) -> Message {
    let text = text.replace("Content-Length: 0\n\n", fields).replace('\n', "\r\n");
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let mut bytes = format!("{text}{kind}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Message::parse(bytes.into()).expect("a message that parses")
}
